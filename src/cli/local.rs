//! `windlass local`, and what `--local` means to the other verbs.

use std::process::ExitCode;

use crate::event::{Events, Outcome, Step};
use crate::local::{self, Cloud, LocalError, Status};
use crate::model::{Exit, Failure};

use super::arguments::{Common, Format, LocalAction};
use super::session;

pub(super) async fn run(common: &Common, action: LocalAction) -> Result<ExitCode, Failure> {
    let settings = session::local_settings()?;
    let status = session::with_reporter(common, false, async |events, _| match action {
        LocalAction::Up => {
            let status = local::up(&settings, |step| events.note(step)).await;
            status.map(Some).map_err(failed)
        }
        LocalAction::Down => {
            let stopped = local::down(&settings, |step| events.note(step)).await.map_err(failed)?;
            if stopped.is_nothing() {
                events.note("nothing to do: the local cloud does not run");
            }
            Ok(None)
        }
        LocalAction::Status => Ok(Some(local::status(&settings).await)),
    });
    match (status.await?, common.format) {
        (None, Format::Human) => {}
        // As `status` says it.
        (None, Format::Json) => super::print_json(&Status { cloud: None, database: None })?,
        (Some(status), Format::Human) => super::print(&text(&status))?,
        (Some(status), Format::Json) => super::print_json(&status)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let cloud = match &status.cloud {
        Some(cloud) => format!("cloud     {} (pid {})\n", cloud.endpoint, cloud.pid),
        None => "cloud     does not run\n".to_owned(),
    };
    let database = match &status.database {
        Some(database) => {
            let containers =
                database.url_from_containers.as_ref().map_or(String::new(), |url| format!("\n          {url} from containers"));
            format!("database  {} (pid {}){containers}\n", database.url, database.pid)
        }
        None => "database  does not run\n".to_owned(),
    };
    cloud + &database
}

/// Starts or finds the local cloud, as a step.
pub(super) async fn up(events: &Events) -> Result<Cloud, Failure> {
    let settings = session::local_settings()?;
    events
        .step(Step::before("local cloud", "find"), async {
            let status = local::up(&settings, |step| events.note(step)).await.map_err(failed)?;
            let cloud = status.cloud.ok_or_else(|| Failure::new(Exit::Preflight, "the local cloud was started, and does not run"))?;
            let detail = cloud.endpoint.clone();
            Ok((cloud, Outcome::Done, detail))
        })
        .await
}

pub(super) fn failed(error: LocalError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Preflight, "the local cloud is not to be had").because(error);
    failure.hint(hint.unwrap_or_else(|| "`windlass local down`, then run again".to_owned()))
}
