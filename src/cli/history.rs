//! `windlass history`.

use std::path::Path;
use std::process::ExitCode;

use crate::model::{Exit, Failure, ReleaseId};
use crate::release;
use crate::report;

use super::arguments::{Common, Format, History};
use super::session;

pub(super) async fn run(common: &Common, verb: &History) -> Result<ExitCode, Failure> {
    if let Some(id) = &verb.release {
        return one(common, id, verb.report.as_deref()).await;
    }
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

/// One release: in words, as JSON, or as a page.
async fn one(common: &Common, id: &ReleaseId, page: Option<&Path>) -> Result<ExitCode, Failure> {
    let found = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &[], events).await?;
        release::recorded(&request, id, events).await
    });
    let (record, plan) = found.await?;
    if let Some(path) = page {
        let html = report::page(&report::Page { verb: "release", record: Some(&record), plan: plan.as_ref(), ..report::Page::default() });
        std::fs::write(path, html).map_err(|error| {
            let failure = Failure::new(Exit::Config, format!("writing `{}` failed", path.display())).because(error);
            failure.hint("name a file in a directory that exists and may be written to")
        })?;
    }
    match common.format {
        Format::Human => super::print(&report::release_text(&record))?,
        Format::Json => super::print_json(&record)?,
    }
    Ok(ExitCode::SUCCESS)
}
