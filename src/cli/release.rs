//! `windlass release`.

use std::path::Path;
use std::process::ExitCode;

use crate::model::{Commit, Exit, Failure, UnitName};
use crate::plan::Plan;
use crate::release::{self, Released, Saved};

use super::arguments::{Common, Format, Release};
use super::outputs;

pub(super) async fn run(common: &Common, verb: &Release) -> Result<ExitCode, Failure> {
    let saved = verb.plan.as_deref().map(saved).transpose()?;
    let units = saved.as_ref().map_or(&verb.units.units[..], Saved::units);
    let released = outputs::reported(common, &verb.outputs, "release", async |events, stop, watched| {
        let request = watched.request(units, verb.locking.hold(), events).await?;
        match &saved {
            Some(saved) => release::release_saved(&request, saved, events, stop).await,
            None => release::release(&request, events, stop).await,
        }
    });
    say(common, &released.await?, "released", &verb.units.units)
}

fn saved(path: &Path) -> Result<Saved, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::new(Exit::StalePlan, format!("reading the plan `{}` failed; nothing was changed", path.display()));
        failure.because(error).hint("write one with `windlass plan --out FILE`")
    })?;
    Saved::parse(&text)
}

/// Says what came of a release or of one of its stages, of some units or of all.
pub(super) fn say(common: &Common, released: &Released, done: &str, units: &[UnitName]) -> Result<ExitCode, Failure> {
    let Released { release, plan } = released;
    let changed = !plan.is_empty();
    match common.format {
        Format::Json => {
            let json = serde_json::json!({ "event": "finished", "release": release, "changed": changed, "commit": plan.commit });
            super::print(&format!("{json}\n"))?;
        }
        Format::Human => {
            let text = match release {
                Some(release) if changed => format!("{done} {release}\n"),
                _ => format!("nothing to do: {}\n", unchanged(plan, units)),
            };
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a run without changes has found; of a stage or of some units alone it says nothing of the others.
fn unchanged(plan: &Plan, units: &[UnitName]) -> String {
    let commit = plan.commit.as_ref().map_or("the working tree", Commit::as_str);
    let of = match units {
        [] => String::new(),
        some => format!(" of {}", some.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" and ")),
    };
    match (&plan.restores, &plan.stages[..]) {
        (Some(to), _) => format!("what release {to} left live{of} is what is live"),
        (None, [stage]) => format!("{commit} changes nothing{of} in the stage {stage}"),
        (None, _) => format!("{commit} is what is live{of}"),
    }
}
