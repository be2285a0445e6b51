//! `windlass plan`.

use std::process::ExitCode;

use crate::model::{Exit, Failure, Stage};
use crate::release;
use crate::report;

use super::arguments::{Common, Format, Plan};
use super::{outputs, session};

pub(super) async fn run(common: &Common, verb: &Plan) -> Result<ExitCode, Failure> {
    outputs::clear(verb.out.as_deref())?;
    let plan = session::with_reporter(common, false, async |events, stop| {
        let request = session::request(common, &verb.units.units, events).await?;
        release::plan(&request, &Stage::ALL, events, stop).await
    });
    let plan = plan.await?;
    if let Some(path) = &verb.out {
        let saved = release::Saved::of(&plan, &verb.units.units)?;
        let json = serde_json::to_string(&saved).map_err(std::io::Error::other);
        let written = json.and_then(|json| std::fs::write(path, session::mask().apply(&json)));
        written.map_err(|error| {
            let failure = Failure::new(Exit::Config, format!("writing the plan to `{}` failed", path.display())).because(error);
            failure.hint("name a file in a directory that exists and may be written to")
        })?;
    }
    match common.format {
        Format::Human => super::print(&report::plan_text(&plan))?,
        Format::Json => super::print_json(&plan)?,
    }
    let changes = verb.detailed_exitcode && !plan.is_empty();
    Ok(if changes { ExitCode::from(Exit::Changes.code()) } else { ExitCode::SUCCESS })
}
