//! Flags and verbs.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Duration;
use crate::model::{ReleaseId, Stage, UnitName};
use crate::release::{GoOn, Hold};

use super::outputs::Outputs;

/// Takes a commit to a healthy release on AWS, and says at every moment what is live.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, max_term_width = 100, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// What every verb understands.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line, each by its own name")]
#[derive(Debug, Args)]
pub(super) struct Common {
    // An empty variable of a pipeline is as good as none.
    /// The configuration [default: windlass.yml]
    #[arg(long, global = true, value_name = "FILE", env = "WINDLASS_CONFIG", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(super) config: Option<PathBuf>,
    /// Which of its environments
    #[arg(long, global = true, value_name = "NAME", env = "WINDLASS_ENV")]
    pub(super) env: Option<String>,
    /// How data is written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto)]
    pub(super) progress: Progress,
    /// When colours are used
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
    /// A profile of the AWS configuration
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// The AWS region
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) region: Option<String>,
    /// Where every AWS service is, instead of AWS
    #[arg(long, global = true, value_name = "URL", conflicts_with = "local")]
    pub(super) endpoint_url: Option<String>,
    /// Use the local cloud, and start it if it does not run
    #[arg(long, global = true)]
    pub(super) local: bool,
    /// Compare with the buckets themselves, not only with the last release's manifest
    #[arg(long, global = true)]
    pub(super) audit: bool,
    /// Build sites although nothing has changed that they are made of
    #[arg(long, global = true)]
    pub(super) rebuild: bool,
    /// A site's build, made elsewhere: nothing is built; with several sites, name which
    #[arg(long, global = true, value_name = "[SITE=]DIR")]
    pub(super) prebuilt: Vec<String>,
    /// What a signal does to what goes on in AWS: a rollout, a migration's task
    #[arg(long, global = true, value_enum, default_value_t = OnAbort::Leave)]
    pub(super) on_abort: OnAbort,
    /// Let a release delete more than half of a site's files, where their time is over
    #[arg(long, global = true)]
    pub(super) allow_prune: bool,
}

impl Common {
    /// The configuration, if one is named; a pipeline's `--config "$CONFIG"` may say nothing.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.config.clone().filter(|path| !path.as_os_str().is_empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnAbort {
    /// It goes on, and the same command takes it up again
    Leave,
    /// It is stopped; a rollout goes back
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Progress {
    /// Bars on a terminal, else lines
    Auto,
    /// Bars
    Live,
    /// Lines
    Line,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// May stderr be coloured? `NO_COLOR` (<https://no-color.org>) is honoured unless the flag says otherwise.
    pub(super) fn stderr(self) -> bool {
        self.on(&std::io::stderr())
    }

    /// May this be coloured?
    pub(super) fn on(self, stream: &impl std::io::IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => super::lively(stream) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Recognise the application in a checkout, and write windlass.yml, buildspecs, a Jenkinsfile and missing Dockerfiles
    Init(Box<super::init::Init>),
    /// Say what a release would do, and write nothing
    Plan(Plan),
    /// Release: assets, images, migrations, services, publish
    Release(Release),
    /// Begin a release that several machines go on with, each with a stage of its own
    Begin(Begin),
    /// Run one stage of a release
    Stage(StageVerb),
    /// Bring what a release left live in one environment to another, without a build
    Promote(Promote),
    /// Go back to what an earlier release left live
    Rollback(Rollback),
    /// Say what is live
    Status(Units),
    /// Say which releases there were, and what they came to
    History(History),
    /// Look for everything that a release needs, and at the infrastructure that it stands on; write nothing
    Verify(Verify),
    /// Run a buildspec: on this machine, or in a container
    Build(Box<super::build::Build>),
    /// The local cloud: AWS's APIs, a registry and PostgreSQL on this machine
    Local {
        /// What to do with it
        #[arg(value_enum)]
        action: LocalAction,
    },
    /// Print the handler that migrates in a Lambda function, or write what an image with it is made of
    MigrationHandler(MigrationHandler),
    /// Look at buildspecs for what is wrong, or most likely is
    Lint(super::lint::Lint),
    /// Print the JSON Schema of windlass.yml, or of buildspecs
    Schema {
        /// Of what
        #[arg(value_enum, default_value_t = SchemaOf::Config)]
        of: SchemaOf,
    },
    /// Print the IAM policy that a stage needs
    Policy(Policy),
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Into this directory
        directory: PathBuf,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    /// windlass.yml
    Config,
    /// A buildspec
    Buildspec,
}

#[derive(Debug, Args)]
pub(super) struct Units {
    /// Units by their names; all if none is named
    #[arg(value_name = "UNIT")]
    pub(super) units: Vec<UnitName>,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) units: Units,
    /// Exit with 3 if there are changes
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Write the plan to a file too, for `release --plan`
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Release {
    #[command(flatten)]
    pub(super) units: Units,
    /// Carry out a plan that `plan --out` has written, if what it was drawn from has not moved
    #[arg(long, value_name = "FILE", conflicts_with = "units")]
    pub(super) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) locking: Locking,
    #[command(flatten)]
    pub(super) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The release to go back to, by its id [default: the one before what is live]; then units by their names [default: all]
    #[arg(value_name = "RELEASE|UNIT")]
    pub(super) to: Vec<String>,
    /// Say what it would do, and write nothing
    #[arg(long)]
    pub(super) plan: bool,
    #[command(flatten)]
    pub(super) locking: Locking,
    #[command(flatten)]
    pub(super) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) units: Units,
    /// Exit with 11 where there is anything to think about, too
    #[arg(long)]
    pub(super) strict: bool,
    /// A check whose failure is known and accepted, by its name: it counts as something to think about
    #[arg(long, value_name = "CHECK")]
    pub(super) accept: Vec<String>,
    /// Write a `JUnit` file with a test case for each check
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The release, by its id; where it goes is said by --env
    pub(super) release: ReleaseId,
    #[command(flatten)]
    pub(super) units: Units,
    /// The environment that it comes from [default: the one whose state has it]
    #[arg(long, value_name = "NAME")]
    pub(super) from: Option<String>,
    /// A profile of the AWS configuration for the environment that it comes from [default: --profile]
    #[arg(long, value_name = "NAME")]
    pub(super) from_profile: Option<String>,
    /// Say what it would do, and write nothing
    #[arg(long, aliases = ["plan-only", "dry-run"])]
    pub(super) plan: bool,
    #[command(flatten)]
    pub(super) locking: Locking,
    #[command(flatten)]
    pub(super) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(super) struct Policy {
    /// assets, images, migrations, services, publish, or verify [default: the five stages, as for `release`, `promote` and `rollback`]
    pub(super) of: Option<PolicyOf>,
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyOf {
    /// A stage of a release.
    Stage(Stage),
    /// `verify`.
    Verify,
}

impl std::str::FromStr for PolicyOf {
    type Err = crate::model::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "verify" { Ok(Self::Verify) } else { text.parse().map(Self::Stage) }
    }
}

#[derive(Debug, Args)]
pub(super) struct History {
    /// One release alone, by its id, with its steps
    pub(super) release: Option<ReleaseId>,
    /// Write its page: one file of HTML with what went live, what was done, and why it failed
    #[arg(long, value_name = "FILE", requires = "release")]
    pub(super) report: Option<PathBuf>,
    /// How many releases, from the newest on
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(super) limit: usize,
}

/// How a verb that writes holds the lock of the application in its environment.
#[derive(Debug, Args)]
pub(super) struct Locking {
    /// How long to wait for another release to end, instead of exiting with 12 at once: 90s, 15m
    #[arg(long, value_name = "TIME", env = "WINDLASS_LOCK_WAIT", value_parser = time)]
    pub(super) lock_wait: Option<Duration>,
    /// How long the lock outlives a run that was killed on another machine [default: 60s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_LEASE", value_parser = time)]
    pub(super) lease: Option<Duration>,
    /// Release although what is live is newer
    #[arg(long)]
    pub(super) allow_older: bool,
}

/// An empty variable of a pipeline is as good as none.
fn time(text: &str) -> Result<Duration, crate::model::Invalid> {
    if text.is_empty() { Ok(Duration(std::time::Duration::ZERO)) } else { text.parse() }
}

impl Locking {
    pub(super) fn hold(&self) -> Hold {
        let default = Hold::default();
        let said = |time: Option<Duration>| time.map(|time| time.0).filter(|time| !time.is_zero());
        Hold {
            wait: said(self.lock_wait).unwrap_or(default.wait),
            // A lease is renewed four times over, and S3's dates are in whole seconds.
            lease: said(self.lease).map_or(default.lease, |lease| lease.max(std::time::Duration::from_secs(4))),
            allow_older: self.allow_older,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct StageVerb {
    #[command(flatten)]
    pub(super) locking: Locking,
    #[command(flatten)]
    pub(super) outputs: Outputs,
    /// assets, images, migrations, services or publish
    pub(super) stage: Stage,
    #[command(flatten)]
    pub(super) units: Units,
    /// The release to go on with, by the id that an earlier stage has printed; `commit` is the newest of this
    /// commit, `none` begins one
    #[arg(long, value_name = "ID", value_parser = go_on, default_value = "none", hide_default_value = true)]
    pub(super) release: GoOn,
}

/// A pipeline hands on `none`, or nothing, where the stage before had nothing to do.
fn go_on(text: &str) -> Result<GoOn, crate::model::Invalid> {
    Ok(match text {
        "" | "none" => GoOn::Begin,
        "commit" => GoOn::OfCommit,
        id => GoOn::With(id.parse()?),
    })
}

#[derive(Debug, Args)]
pub(super) struct Begin {
    /// Write `RELEASE_ID` as a line that a shell can source
    #[arg(long, value_name = "FILE")]
    pub(super) export: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct MigrationHandler {
    /// What it migrates with
    #[arg(value_enum)]
    pub(super) framework: HandlerFramework,
    /// Write the handler, its runtime and a Dockerfile into this directory, instead of printing the handler
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HandlerFramework {
    /// Django
    Django,
    /// Prisma
    Prisma,
    /// Any command, by its exit code
    Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LocalAction {
    /// Start it, or find it
    Up,
    /// Stop it
    Down,
    /// Say whether it runs
    Status,
}
