//! `windlass lint`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::buildspec::{self, Problem};
use crate::model::{Exit, Failure};
use crate::report;

use super::arguments::{Common, Format};
use super::session;

/// What `lint` understands.
#[derive(Debug, Args)]
pub(super) struct Lint {
    /// Buildspecs
    #[arg(value_name = "FILE", default_value = "buildspec.yml")]
    files: Vec<PathBuf>,
    /// Exit with 10 for a warning, too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(common: &Common, verb: &Lint) -> Result<ExitCode, Failure> {
    let (mut errors, mut warnings) = (0, 0);
    let variables = session::variables();
    let system = super::ci::system(&variables);
    for path in &verb.files {
        let shown = path.display().to_string();
        let file = super::ci::repository_path(&variables, &shown);
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Config, format!("reading `{shown}` failed")).because(error).hint("name the buildspecs to look at")
        })?;
        let (level, found) = match buildspec::read(&text) {
            Err(problems) => ("error", problems),
            Ok((buildspec, mut found)) => {
                found.extend(buildspec::lint(&buildspec));
                found.sort_by_key(|problem| problem.place);
                ("warning", found)
            }
        };
        *(if level == "error" { &mut errors } else { &mut warnings }) += found.len();
        for problem in &found {
            let place = Some((file.as_str(), problem.place.line, problem.place.column));
            if let Some(line) = report::annotation(system, level, "windlass lint", place, &problem.message) {
                // Beside the data, and not among it.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            super::print(&match common.format {
                Format::Human => format!("{level}: {}\n", problem.shown(&shown, &text)),
                Format::Json => format!("{}\n", one(level, &shown, problem)),
            })?;
        }
    }
    if common.format == Format::Human {
        super::print(&format!("{} file(s), {errors} error(s), {warnings} warning(s)\n", verb.files.len()))?;
    }
    let refused = errors > 0 || verb.strict && warnings > 0;
    Ok(if refused { ExitCode::from(Exit::Config.code()) } else { ExitCode::SUCCESS })
}

fn one(level: &str, file: &str, problem: &Problem) -> serde_json::Value {
    json!({
        "level": level,
        "file": file,
        "line": problem.place.line,
        "column": problem.place.column,
        "rule": problem.rule,
        "message": problem.message,
        "cure": problem.cure,
    })
}
