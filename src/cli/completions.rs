//! `windlass completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::model::Failure;

use super::arguments::Arguments;

pub(super) fn run(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "windlass", &mut script);
    super::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
