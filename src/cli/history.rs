//! `windlass history`.

use std::process::ExitCode;

use crate::model::Failure;
use crate::release;
use crate::report;

use super::arguments::{Common, Format, History};
use super::session;

pub(super) async fn run(common: &Common, verb: &History) -> Result<ExitCode, Failure> {
    let records = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &[], events).await?;
        release::history(&request, verb.limit, events).await
    });
    let records = records.await?;
    match common.format {
        Format::Human => super::print(&report::history_text(&records))?,
        Format::Json => super::print_json(&records)?,
    }
    Ok(ExitCode::SUCCESS)
}
