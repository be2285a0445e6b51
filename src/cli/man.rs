//! `windlass man`: manual pages, one for each verb.

use std::path::Path;
use std::process::ExitCode;

use crate::model::{Exit, Failure};

pub(super) fn run(folder: &Path) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(super::examples::command(), folder).map_err(|error| {
        let failure = Failure::new(Exit::Config, format!("writing the manual pages into `{}` failed", folder.display())).because(error);
        failure.hint("name a directory that is there and may be written")
    })?;
    Ok(ExitCode::SUCCESS)
}
