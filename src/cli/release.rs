//! `windlass release`.

use std::path::Path;
use std::process::ExitCode;

use crate::model::{Commit, Exit, Failure};
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
    say(common, &released.await?, "released")
}

fn saved(path: &Path) -> Result<Saved, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::new(Exit::StalePlan, format!("reading the plan `{}` failed; nothing was changed", path.display()));
        failure.because(error).hint("write one with `windlass plan --out FILE`")
    })?;
    Saved::parse(&text)
}

/// Says what came of a release or of one of its stages.
pub(super) fn say(common: &Common, released: &Released, done: &str) -> Result<ExitCode, Failure> {
    let Released { release, plan } = released;
    let changed = !plan.is_empty();
    match common.format {
        Format::Json => {
            let json = serde_json::json!({ "event": "finished", "release": release, "changed": changed, "commit": plan.commit });
            super::print(&format!("{json}\n"))?;
        }
        Format::Human => {
            let commit = plan.commit.as_ref().map_or("the working tree", Commit::as_str);
            let text = match release {
                Some(release) if changed => format!("{done} {release}\n"),
                _ => format!("nothing to do: {commit} is what is live\n"),
            };
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
