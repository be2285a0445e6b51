//! `windlass status`.

use std::process::ExitCode;

use crate::model::Failure;
use crate::release;
use crate::report;

use super::arguments::{Common, Format, Units};
use super::session;

pub(super) async fn run(common: &Common, verb: &Units) -> Result<ExitCode, Failure> {
    let status = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &verb.units, events).await?;
        release::status(&request, events).await
    });
    let status = status.await?;
    match common.format {
        Format::Human => super::print(&super::pasted::pasted(common, &report::status_text(&status)))?,
        Format::Json => super::print_json(&status)?,
    }
    Ok(ExitCode::SUCCESS)
}
