//! `windlass schema`.

use std::process::ExitCode;

use crate::config;
use crate::model::Failure;

pub(super) fn run() -> Result<ExitCode, Failure> {
    super::print_json(&config::schema())?;
    Ok(ExitCode::SUCCESS)
}
