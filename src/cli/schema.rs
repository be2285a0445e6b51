//! `windlass schema`.

use std::process::ExitCode;

use crate::buildspec;
use crate::config;
use crate::model::Failure;

use super::arguments::SchemaOf;

pub(super) fn run(of: SchemaOf) -> Result<ExitCode, Failure> {
    match of {
        SchemaOf::Config => super::print_json(&config::schema())?,
        SchemaOf::Buildspec => super::print(buildspec::SCHEMA)?,
    }
    Ok(ExitCode::SUCCESS)
}
