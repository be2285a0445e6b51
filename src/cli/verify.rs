//! `windlass verify`.

use std::process::ExitCode;

use crate::model::{Exit, Failure};
use crate::release;
use crate::report;

use super::arguments::{Common, Format, Units};
use super::session;

pub(super) async fn run(common: &Common, verb: &Units) -> Result<ExitCode, Failure> {
    let verification = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &verb.units, events).await?;
        release::verify(&request, events).await
    });
    let verification = verification.await?;
    match common.format {
        Format::Human => super::print(&report::verification_text(&verification))?,
        Format::Json => super::print_json(&verification)?,
    }
    let refused = verification.findings.iter().any(|finding| finding.refusal.is_some());
    Ok(if refused { ExitCode::from(Exit::Preflight.code()) } else { ExitCode::SUCCESS })
}
