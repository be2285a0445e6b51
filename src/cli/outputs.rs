//! The files that a run leaves for whoever comes after it: the CI system, the next action of a pipeline, people.
//!
//! They are written however the run has ended. What an earlier run has left under their names is removed first, so that nobody takes
//! it for this one's.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::event::{Events, StepRan};
use crate::model::{Exit, Failure};
use crate::release::{Released, Stop};
use crate::report::{self, TestCase, TestFailure};

use super::arguments::Common;
use super::session;

/// Files to be written.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct Outputs {
    /// Write a `JUnit` file with a test case for each step
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
}

impl Outputs {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.junit].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Makes room for the files, before anything else is done.
    fn clear(&self) -> Result<(), Failure> {
        for path in self.paths() {
            make_room(path).map_err(|error| {
                let failure = Failure::new(Exit::Config, format!("`{}` cannot be written; nothing was changed", path.display()));
                failure.because(error).hint("name a file in a directory that may be written to")
            })?;
        }
        Ok(())
    }
}

fn make_room(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // That it can be written is found out now, and nothing is left where the run is killed.
            std::fs::File::create_new(path)?;
            std::fs::remove_file(path)
        }
        other => other,
    }
}

/// Runs `work` as [`session::with_reporter`] does, and writes the files that were asked for, whatever came of it.
pub(super) async fn reported(
    common: &Common,
    outputs: &Outputs,
    verb: &str,
    work: impl AsyncFnOnce(&Events, &Stop) -> Result<Released, Failure>,
) -> Result<Released, Failure> {
    outputs.clear()?;
    let mut ran = Vec::new();
    let result = session::with_reporter(common, true, async |events, stop| {
        let result = work(events, stop).await;
        ran = events.ran();
        result
    });
    let result = result.await;
    let written = write(outputs, verb, &ran, &result);
    // That the run failed weighs more than that nobody can read of it.
    let released = result?;
    written.map(|()| released)
}

fn write(outputs: &Outputs, verb: &str, ran: &[StepRan], result: &Result<Released, Failure>) -> Result<(), Failure> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        None => Ok(()),
        Some(path) => std::fs::write(path, text())
            .map_err(|error| Failure::new(Exit::Bug, format!("{verb} is done, but writing `{}` failed", path.display())).because(error)),
    };
    write(&outputs.junit, &|| report::junit("windlass", &cases(verb, ran, result)))
}

/// The cases of the steps; one of the run itself where there is none that says how it ended.
fn cases(verb: &str, ran: &[StepRan], result: &Result<Released, Failure>) -> Vec<TestCase> {
    let mut cases = report::step_cases(ran);
    let own = TestCase { suite: "run".to_owned(), name: verb.to_owned(), ..TestCase::default() };
    match result {
        Err(failure) if cases.iter().all(|case| case.failure.is_none()) => {
            let mask = session::mask();
            let cause = failure.causes().last().cloned().unwrap_or_else(|| failure.to_string());
            let message = mask.apply(report::first_line(&cause));
            let text = mask.apply(&super::failure_text(failure, false));
            cases.push(TestCase { failure: Some(TestFailure { message, text }), ..own });
        }
        // A file without any case is taken for a broken one.
        Ok(_) if cases.is_empty() => cases.push(TestCase { output: "nothing to do".to_owned(), ..own }),
        _ => {}
    }
    cases
}
