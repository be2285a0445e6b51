//! A buildspec as values: what `read` makes of the text, and what everything else works with.
//!
//! Source of the keys: <https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html>.

use crate::model::yaml::Place;

/// A buildspec.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buildspec {
    /// `version`.
    pub version: Version,
    /// `run-as` for all phases.
    pub run_as: Option<String>,
    /// `env`.
    pub env: Env,
    /// `batch`.
    pub batch: Option<Batch>,
    /// The phases that the file names, in the order in which they run.
    pub phases: Vec<Phase>,
    /// `reports`.
    pub reports: Vec<ReportGroup>,
    /// `artifacts`.
    pub artifacts: Option<Artifacts>,
    /// `cache`.
    pub cache: Option<Cache>,
}

impl Buildspec {
    /// The phase of this name, if the file has it.
    #[must_use]
    pub fn phase(&self, name: PhaseName) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

/// The version of the buildspec's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 0.1: every command has a shell of its own.
    V01,
    /// 0.2: directory and variables are carried from command to command.
    #[default]
    V02,
}

/// `env`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Env {
    /// `shell`.
    pub shell: Option<String>,
    /// `variables`: literal values.
    pub variables: Vec<(String, String)>,
    /// `parameter-store`: the name of the parameter for each variable.
    pub parameter_store: Vec<(String, String)>,
    /// `secrets-manager`: the reference for each variable.
    pub secrets_manager: Vec<(String, SecretReference)>,
    /// `exported-variables`.
    pub exported_variables: Vec<String>,
}

/// `secret-id[:json-key[:version-stage[:version-id]]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretReference {
    /// A name or an ARN.
    pub secret_id: String,
    /// The key of a JSON secret; the whole text without one.
    pub json_key: Option<String>,
    /// `AWSCURRENT` without one.
    pub version_stage: Option<String>,
    /// Excludes a stage.
    pub version_id: Option<String>,
}

impl SecretReference {
    /// Splits a reference at its colons; those of an ARN (`arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME`) are not counted.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let inside = if text.starts_with("arn:") { 6 } else { 0 };
        let end = text.match_indices(':').nth(inside).map_or(text.len(), |(at, _)| at);
        // An empty field stands for its default.
        let mut rest = text[end..].strip_prefix(':').unwrap_or_default().split(':');
        let mut field = || rest.next().filter(|field| !field.is_empty()).map(str::to_owned);
        Self { secret_id: text[..end].to_owned(), json_key: field(), version_stage: field(), version_id: field() }
    }
}

/// The phases that a buildspec may name, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseName {
    /// `install`
    Install,
    /// `pre_build`
    PreBuild,
    /// `build`
    Build,
    /// `post_build`
    PostBuild,
}

impl PhaseName {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Install, Self::PreBuild, Self::Build, Self::PostBuild];

    /// Its key in a buildspec.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::PreBuild => "pre_build",
            Self::Build => "build",
            Self::PostBuild => "post_build",
        }
    }

    /// Its name in `CodeBuild`'s API and logs.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Install => "INSTALL",
            Self::PreBuild => "PRE_BUILD",
            Self::Build => "BUILD",
            Self::PostBuild => "POST_BUILD",
        }
    }
}

/// One of the phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Which.
    pub name: PhaseName,
    /// `commands`, each with the place where it stands.
    pub commands: Vec<Command>,
    /// `finally`: run after the commands, whatever came of them.
    pub finally: Vec<Command>,
    /// `run-as`, before the buildspec's.
    pub run_as: Option<String>,
    /// `on-failure`.
    pub on_failure: Option<OnFailure>,
    /// `runtime-versions`, under `install` alone.
    pub runtime_versions: Vec<(String, String)>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The text that the shell gets, without the last line's end.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// What follows a failed phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// No later phase runs.
    Abort,
    /// The next phase runs.
    Continue,
    /// The phase is run again.
    Retry {
        /// So many times at most.
        count: u32,
        /// Only where this expression is found in what the failure says.
        pattern: Option<String>,
    },
}

/// What is taken out of the source as a build's result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Artifacts {
    /// The rules of the primary artifact.
    pub primary: FileSet,
    /// `name`: shell language.
    pub name: Option<String>,
    /// `s3-prefix`.
    pub s3_prefix: Option<String>,
    /// `secondary-artifacts`, by their identifiers.
    pub secondary: Vec<(String, Artifacts)>,
}

/// Which files are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// Patterns.
    pub files: Vec<String>,
    /// Where the patterns count from; more than one with wildcards.
    pub base_directory: Option<String>,
    /// Are the folders between dropped?
    pub discard_paths: bool,
    /// Patterns of what is left out.
    pub exclude_paths: Vec<String>,
    /// Are symbolic links kept as links?
    pub enable_symlinks: bool,
}

/// `cache`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cache {
    /// `key`: shell language.
    pub key: Option<String>,
    /// `fallback-keys`: prefixes of keys.
    pub fallback_keys: Vec<String>,
    /// `action`.
    pub action: CacheAction,
    /// Patterns.
    pub paths: Vec<String>,
}

/// What is done with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheAction {
    /// Both.
    #[default]
    Both,
    /// `restore` alone.
    Restore,
    /// `save` alone.
    Save,
}

/// One of the `reports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportGroup {
    /// Its key: a name, or a report group's ARN.
    pub name: String,
    /// Its files.
    pub files: FileSet,
    /// How they are written.
    pub format: ReportFormat,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReportFormat {
    /// `CUCUMBERJSON`
    CucumberJson,
    /// `JUNITXML`
    #[default]
    JunitXml,
    /// `NUNITXML`
    NunitXml,
    /// `NUNIT3XML`
    Nunit3Xml,
    /// `TESTNGXML`
    TestNgXml,
    /// `VISUALSTUDIOTRX`
    VisualStudioTrx,
    /// `CLOVERXML`
    CloverXml,
    /// `COBERTURAXML`
    CoberturaXml,
    /// `JACOCOXML`
    JacocoXml,
    /// `SIMPLECOV`
    SimpleCov,
}

impl ReportFormat {
    /// All formats with their names in `CodeBuild`'s API.
    pub const ALL: [(&'static str, Self); 10] = [
        ("CUCUMBERJSON", Self::CucumberJson),
        ("JUNITXML", Self::JunitXml),
        ("NUNITXML", Self::NunitXml),
        ("NUNIT3XML", Self::Nunit3Xml),
        ("TESTNGXML", Self::TestNgXml),
        ("VISUALSTUDIOTRX", Self::VisualStudioTrx),
        ("CLOVERXML", Self::CloverXml),
        ("COBERTURAXML", Self::CoberturaXml),
        ("JACOCOXML", Self::JacocoXml),
        ("SIMPLECOV", Self::SimpleCov),
    ];

    /// Its name in `CodeBuild`'s API.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("JUNITXML", |(name, _)| name)
    }
}

/// `batch`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// `fast-fail`: the first failure ends the others.
    pub fast_fail: bool,
    /// What is built.
    pub builds: Builds,
}

/// What a batch builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Builds {
    /// `build-list`, or `build-graph` with what each depends on.
    Tasks(Vec<Task>),
    /// `build-matrix`
    Matrix(Matrix),
    /// `build-fanout`
    Fanout {
        /// How many builds share the tests.
        parallelism: u32,
        /// May one of them fail?
        ignore_failure: bool,
    },
}

impl Default for Builds {
    fn default() -> Self {
        Self::Tasks(Vec::new())
    }
}

/// One build of a list or graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// `identifier`
    pub identifier: String,
    /// Its buildspec; the batch's own without one.
    pub buildspec: Option<String>,
    /// `depend-on`
    pub depend_on: Vec<String>,
    /// `ignore-failure`
    pub ignore_failure: bool,
    /// `env/image`
    pub image: Option<String>,
    /// `env/privileged-mode`
    pub privileged_mode: bool,
    /// `env/variables`
    pub variables: Vec<(String, String)>,
}

/// `build-matrix`: the product of its lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matrix {
    /// `static/ignore-failure`
    pub ignore_failure: bool,
    /// `static/env/privileged-mode`
    pub privileged_mode: bool,
    /// `static/env/variables`
    pub variables: Vec<(String, String)>,
    /// `dynamic/buildspec`
    pub buildspecs: Vec<String>,
    /// `dynamic/env/image`
    pub images: Vec<String>,
    /// `dynamic/env/compute-type`: builds of their own, though a local machine has one type.
    pub compute_types: Vec<String>,
    /// `dynamic/env/variables`
    pub dynamic: Vec<(String, Vec<String>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_reference_is_split_after_its_arn() {
        let parts = |text: &str| {
            let secret = SecretReference::parse(text);
            [Some(secret.secret_id), secret.json_key, secret.version_stage, secret.version_id].map(Option::unwrap_or_default)
        };
        assert_eq!(parts("k"), ["k", "", "", ""]);
        assert_eq!(parts("k:user"), ["k", "user", "", ""]);
        assert_eq!(parts("k::AWSPREVIOUS"), ["k", "", "AWSPREVIOUS", ""]);
        assert_eq!(parts("k:user::v-1"), ["k", "user", "", "v-1"]);
        let arn = "arn:aws:secretsmanager:us-east-1:111111111111:secret:app/db-AbCdEf";
        assert_eq!(parts(arn), [arn, "", "", ""]);
        assert_eq!(parts(&format!("{arn}:password:AWSCURRENT")), [arn, "password", "AWSCURRENT", ""]);
        assert_eq!(parts(&format!("{arn}:::v")), [arn, "", "", "v"]);
    }
}
