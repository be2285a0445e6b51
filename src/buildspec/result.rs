//! How a build ended, and what came of it: the value that `--result` writes.

use std::collections::BTreeMap;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::problem::Problem;

/// How a build or a phase ended, in the words of `CodeBuild`'s API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// All went well.
    #[default]
    Succeeded,
    /// Something failed.
    Failed,
    /// It was told to stop.
    Stopped,
    /// It took longer than it may.
    TimedOut,
    /// It did not begin.
    NotRun,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
            Self::TimedOut => "TIMED_OUT",
            Self::NotRun => "NOT_RUN",
        })
    }
}

/// How a phase ended. Without a failure, code and message are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PhaseResult {
    /// How.
    pub status: Status,
    /// `YAML_FILE_ERROR`, `COMMAND_EXECUTION_ERROR`, `CLIENT_ERROR`.
    pub code: String,
    /// What failed, and why.
    pub message: String,
}

impl PhaseResult {
    pub(super) fn failed(code: &str, message: impl Into<String>) -> Self {
        Self { status: Status::Failed, code: code.to_owned(), message: message.into() }
    }
}

/// All that came of a build.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BuildResult {
    /// How it ended.
    pub status: Status,
    /// The phases that ran, in their order.
    #[serde(serialize_with = "as_map")]
    pub phases: Vec<(&'static str, PhaseResult)>,
    /// The exported variables.
    pub exported_variables: BTreeMap<String, String>,
    /// The artifacts.
    pub artifacts: ArtifactsResult,
    /// The reports, by the names of their groups.
    pub reports: BTreeMap<String, ReportResult>,
    /// The builds of a batch, by their identifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds: Option<BTreeMap<String, Status>>,
    /// All that came of each of them, if it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<BTreeMap<String, BuildResult>>,
    /// Why the buildspec was refused.
    #[serde(skip)]
    pub refused: Option<Box<Refused>>,
    /// The command that failed the build.
    #[serde(skip)]
    pub failed_command: Option<FailedCommand>,
}

impl BuildResult {
    /// The result of a phase; `None` if it did not run.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseResult> {
        self.phases.iter().find(|(known, _)| *known == name).map(|(_, result)| result)
    }
}

/// A buildspec that is not usable.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    /// Its name.
    pub file: String,
    /// Its text; empty if there is none.
    pub text: String,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// A command that failed, with the last lines that it printed.
#[derive(Debug, Clone, Default)]
pub struct FailedCommand {
    /// The phase that it belongs to.
    pub phase: &'static str,
    /// Its text.
    pub command: String,
    /// Where it stands: "buildspec.yml:12:9".
    pub place: String,
    /// "exit status 1".
    pub reason: String,
    /// Its last lines, oldest first.
    pub tail: Vec<String>,
}

/// The artifacts of a build.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ArtifactsResult {
    /// The primary one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<ArtifactResult>,
    /// The others, by their identifiers.
    pub secondary: BTreeMap<String, ArtifactResult>,
}

/// One artifact.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ArtifactResult {
    /// Its name.
    pub name: String,
    /// Its files as they are in it, sorted.
    pub files: Vec<String>,
}

/// What one report group holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReportResult {
    /// The format's name in the API.
    pub format: String,
    /// The files that were found.
    pub files: Vec<String>,
    /// Test cases; for coverage, lines.
    pub total: u64,
    /// Failed test cases; for coverage, lines that were not covered.
    pub failed: u64,
}

fn as_map<S: Serializer>(phases: &[(&'static str, PhaseResult)], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(phases.len()))?;
    for (name, result) in phases {
        map.serialize_entry(name, result)?;
    }
    map.end()
}
