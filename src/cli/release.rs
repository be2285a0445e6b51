//! `windlass release`.

use std::process::ExitCode;

use crate::model::{Commit, Failure};
use crate::release::{self, Released, Request};

use super::arguments::{Common, Format, Release};
use super::session;

pub(super) async fn run(common: &Common, verb: &Release) -> Result<ExitCode, Failure> {
    let released = session::with_reporter(common, true, async |events, stop| {
        let request = session::request(common, &verb.units.units, events).await?;
        let request = Request { hold: verb.locking.hold(), ..request };
        release::release(&request, events, stop).await
    });
    say(common, &released.await?, "released")
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
