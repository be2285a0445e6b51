//! What a build says, as data; and how `CodeBuild` would write it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::model::Mask;

/// One thing that a build says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A line of the runner's own, as `CodeBuild`'s agent writes them: "Expanding `**/*`".
    Agent(String),
    /// A phase begins.
    PhaseStarted {
        /// Its name in the API: "BUILD".
        phase: &'static str,
    },
    /// A command begins.
    Running {
        /// Its text.
        command: String,
    },
    /// A command, or something that it has left in the background, printed a line.
    Output(String),
    /// A command has ended.
    Ended {
        /// Its text.
        command: String,
        /// Why it failed, if it did: "exit status 1".
        reason: Option<String>,
        /// How long it took.
        seconds: f64,
    },
    /// A phase has ended.
    PhaseEnded {
        /// Its name in the API.
        phase: &'static str,
        /// How.
        result: super::PhaseResult,
        /// How long it took.
        seconds: f64,
    },
    /// Something that ought to be looked at.
    Warning(String),
    /// Something of another build of the batch.
    Build {
        /// The build's identifier.
        identifier: String,
        /// What it says.
        said: Box<Said>,
    },
    /// A build of a batch has ended.
    BuildEnded {
        /// The build's identifier.
        identifier: String,
        /// How: "SUCCEEDED".
        status: super::Status,
    },
}

/// The way from a build to whoever listens; secrets are taken out on it.
pub(super) struct Log<'a> {
    to: &'a dyn Fn(Said),
    mask: RefCell<Mask>,
}

/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
static ACCESS_KEY_ID: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b").ok());

impl<'a> Log<'a> {
    pub(super) fn new(mask: Mask, to: &'a dyn Fn(Said)) -> Self {
        Self { to, mask: RefCell::new(mask) }
    }

    /// From now on these are masked as well.
    pub(super) fn add_secrets(&self, values: impl IntoIterator<Item = String>) {
        self.mask.borrow_mut().add_secrets(values);
    }

    pub(super) fn masked(&self, text: &str) -> String {
        let text = self.mask.borrow().apply(text);
        // Nearly no line has one; the search for these four letters is cheap.
        if !text.contains("AKIA") && !text.contains("ASIA") {
            return text;
        }
        ACCESS_KEY_ID.as_ref().map_or_else(|| text.clone(), |expression| expression.replace_all(&text, "***").into_owned())
    }

    pub(super) fn say(&self, said: Said) {
        (self.to)(said);
    }

    pub(super) fn agent(&self, text: impl AsRef<str>) {
        self.say(Said::Agent(self.masked(text.as_ref())));
    }

    pub(super) fn warn(&self, text: impl AsRef<str>) {
        self.say(Said::Warning(self.masked(text.as_ref())));
    }

    pub(super) fn output(&self, line: &str) {
        self.say(Said::Output(self.masked(line)));
    }
}

/// Writes what a build says as `CodeBuild`'s log does.
///
/// The words are those of real logs of 2026: `[Container] 2026/07/14 09:57:51.063889 Entering phase BUILD`.
#[derive(Debug, Default)]
pub struct CodebuildLog {
    /// Has a command run whose blank line is still to come?
    command: bool,
}

impl CodebuildLog {
    /// The lines for `said`, with their ends; warnings have none here.
    pub fn text(&mut self, said: &Said, now: OffsetDateTime) -> String {
        let stamp =
            now.format(format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]")).unwrap_or_default();
        let mut text = String::new();
        let mut line = |words: &str| {
            if std::mem::take(&mut self.command) {
                text.push('\n');
            }
            let _ = writeln!(text, "[Container] {stamp} {words}");
        };
        match said {
            Said::Agent(words) => line(words),
            Said::PhaseStarted { phase } if *phase == "DOWNLOAD_SOURCE" => line("Phase is DOWNLOAD_SOURCE"),
            // Its lines begin with those of the artifacts.
            Said::PhaseStarted { phase } if *phase == "UPLOAD_ARTIFACTS" => {}
            Said::PhaseStarted { phase } => line(&format!("Entering phase {phase}")),
            Said::Running { command } => {
                line(&format!("Running command {command}"));
                self.command = true;
            }
            Said::Output(words) => {
                text.push_str(words);
                text.push('\n');
            }
            Said::Ended { command, reason: Some(reason), .. } => line(&format!("Command did not exit successfully {command} {reason}")),
            Said::Ended { .. } | Said::Warning(_) | Said::BuildEnded { .. } => {}
            Said::PhaseEnded { phase, result, .. } => {
                line(&format!("Phase complete: {phase} State: {}", result.status));
                line(&format!("Phase context status code: {} Message: {}", result.code, result.message));
            }
            Said::Build { said, .. } => return self.text(said, now),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PhaseResult, Status};
    use super::*;

    #[test]
    fn the_lines_are_those_of_a_real_log() {
        let now = time::macros::datetime!(2026-07-14 09:57:51.063889 UTC);
        let mut log = CodebuildLog::default();
        let failed = PhaseResult {
            status: Status::Failed,
            code: "COMMAND_EXECUTION_ERROR".into(),
            message: "Error while executing command: make. Reason: exit status 2".into(),
        };
        let said = [
            Said::Agent("Phases found in YAML: 1".into()),
            Said::Agent(" BUILD: 2 commands".into()),
            Said::PhaseStarted { phase: "BUILD" },
            Said::Running { command: "make".into() },
            Said::Output("cc: no input".into()),
            Said::Ended { command: "make".into(), reason: Some("exit status 2".into()), seconds: 0.1 },
            Said::PhaseEnded { phase: "BUILD", result: failed, seconds: 0.1 },
            Said::PhaseEnded { phase: "POST_BUILD", result: PhaseResult::default(), seconds: 0.1 },
        ];
        let text: String = said.iter().map(|said| log.text(said, now)).collect();
        let at = "[Container] 2026/07/14 09:57:51.063889";
        let expected = format!(
            "{at} Phases found in YAML: 1\n{at}  BUILD: 2 commands\n{at} Entering phase BUILD\n{at} Running command make\ncc: no input\n\n\
             {at} Command did not exit successfully make exit status 2\n{at} Phase complete: BUILD State: FAILED\n\
             {at} Phase context status code: COMMAND_EXECUTION_ERROR Message: Error while executing command: make. Reason: exit status 2\n\
             {at} Phase complete: POST_BUILD State: SUCCEEDED\n{at} Phase context status code:  Message: \n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn secrets_and_access_key_ids_are_taken_out() {
        let heard = RefCell::new(Vec::new());
        let to = |said| heard.borrow_mut().push(said);
        let log = Log::new(Mask::default(), &to);
        log.add_secrets(["pw1".to_owned()]);
        log.output("pw1 AKIAIOSFODNN7EXAMPLE AKIA");
        assert_eq!(heard.borrow()[0], Said::Output("*** *** AKIA".into()));
    }
}
