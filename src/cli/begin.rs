//! `windlass begin`.

use std::process::ExitCode;

use crate::model::Failure;
use crate::release;

use super::arguments::{Begin, Common, Format};
use super::{outputs, session};

pub(super) async fn run(common: &Common, verb: &Begin) -> Result<ExitCode, Failure> {
    outputs::clear(verb.export.as_deref())?;
    let id = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &[], events).await?;
        release::begin(&request, events).await
    });
    let id = id.await?;
    if let Some(path) = &verb.export {
        outputs::write_file(path, "begin", &format!("RELEASE_ID='{id}'\n"))?;
    }
    match common.format {
        Format::Human => super::print(&format!("begun {id}\n"))?,
        Format::Json => super::print_json(&serde_json::json!({ "event": "begun", "release": id }))?,
    }
    Ok(ExitCode::SUCCESS)
}
