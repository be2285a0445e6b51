//! What an application is, read from its checkout: which sites and services it has, how each is built, what migrates its database,
//! and the file and line that says so.
//!
//! A pure reading: nothing of the checkout is run, nothing is written, and the same files with the same answers give the same
//! [`Application`]. Where the files contradict one another a [`Question`] is left open, and nothing is guessed.
//! Deliberately absent: what becomes of it (`windlass init` writes files), and AWS.

mod bundler;
mod compose;
mod container;
mod deploy;
mod django;
mod django_settings;
mod docker;
mod health;
mod naming;
mod node;
mod node_kind;
mod node_run;
mod nx;
mod package;
mod path;
mod prisma;
mod python;
mod siblings;
mod static_site;
mod tree;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

pub use deploy::Known;
pub use units::look;

/// A place in the checkout: a file, and the line in it (from 1) where one line says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, from the checkout's root.
    pub file: String,
    /// The line.
    pub line: Option<usize>,
}

impl Place {
    fn file(file: &str) -> Self {
        Self { file: file.to_owned(), line: None }
    }

    fn line(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line: Some(line) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// Something that a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The directory that it is about; `.` for the checkout.
    pub directory: String,
    /// What was found.
    pub what: String,
    /// Where.
    pub at: Place,
    /// Whether something followed from it; otherwise a person has to.
    pub used: bool,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Which package manager installs a directory's packages.
    PackageManager,
    /// Which tool installs a Python project's packages.
    Python,
    /// Django's settings module.
    Settings,
    /// Which Dockerfile is built.
    Dockerfile,
    /// Which stage of it.
    Target,
    /// The directory that a build writes.
    Output,
    /// What a directory is: `site`, `service`, or nothing that is released (`skip`).
    Kind,
    /// The service whose image migrates a database.
    MigratedBy,
}

impl Topic {
    /// The flag of `windlass init` that answers it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::PackageManager => "--package-manager",
            Self::Python => "--python",
            Self::Settings => "--settings",
            Self::Dockerfile => "--dockerfile",
            Self::Target => "--target",
            Self::Output => "--output",
            Self::Kind => "--as",
            Self::MigratedBy => "--migrated-by",
        }
    }
}

/// What the files leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// About what.
    pub topic: Topic,
    /// The directory that it is about.
    pub directory: String,
    /// What is not clear, in one sentence without its end.
    pub what: String,
    /// The answers that the files suggest, each with what it means and where it stands. Others may be given, too.
    pub choices: Vec<(String, Place)>,
}

/// What a person has said: by topic, and by directory or `*`.
#[derive(Debug, Clone, Default)]
pub struct Answers(BTreeMap<(Topic, String), String>);

impl Answers {
    /// Adds an answer for a directory; for `None`, for every directory that has none of its own.
    pub fn give(&mut self, topic: Topic, directory: Option<&str>, answer: &str) {
        let directory = directory.map_or_else(|| "*".to_owned(), |directory| path::join(".", directory));
        self.0.insert((topic, directory), answer.to_owned());
    }

    /// The directories that answers were given for.
    pub fn directories(&self) -> impl Iterator<Item = (Topic, &str)> {
        self.0.keys().filter(|(_, directory)| directory != "*").map(|(topic, directory)| (*topic, directory.as_str()))
    }

    /// The answer for a directory, which may be named by its last part, too.
    fn get(&self, topic: Topic, directory: &str) -> Option<&str> {
        let named = |name: &str| self.0.get(&(topic, name.to_owned())).map(String::as_str);
        named(directory).or_else(|| named(path::name(directory))).or_else(|| named("*"))
    }
}

/// An application as its checkout shows it.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name, and where that comes from.
    pub name: (String, String),
    /// Its sites.
    pub sites: Vec<Site>,
    /// Its services.
    pub services: Vec<Service>,
    /// What migrates its databases.
    pub migrations: Vec<Migration>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What is not clear.
    pub questions: Vec<Question>,
    /// Names of AWS's resources that scripts of the checkout hold.
    pub known: Vec<Known>,
    /// The directories that something was recognised in.
    pub directories: Vec<String>,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The unit's name.
    pub name: String,
    /// The directory that it was found in.
    pub directory: String,
    /// What it is, in a word or two.
    pub kind: String,
    /// The file and line that says so.
    pub at: Place,
    /// Its path in the configuration.
    pub path: String,
    /// Where its files come from.
    pub source: Source,
    /// The directory that its build writes, from `path`.
    pub output: String,
    /// What its keys start with.
    pub prefix: String,
    /// Variables that its code reads and that no file sets.
    pub unset: Vec<(String, Place)>,
}

/// Where a site's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A command.
    Build(String),
    /// They lie in the checkout.
    Prebuilt,
    /// A directory of a service's image.
    Image {
        /// The service.
        service: String,
        /// The directory.
        path: String,
    },
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The unit's name.
    pub name: String,
    /// The directory that it was found in.
    pub directory: String,
    /// What it is, in a word or two.
    pub kind: String,
    /// The file and line that says so.
    pub at: Place,
    /// The build context, from the checkout's root.
    pub path: String,
    /// The Dockerfile, from the checkout's root.
    pub dockerfile: String,
    /// What has to be written there; `None` where the file is there.
    pub recipe: Option<Recipe>,
    /// The stage to build, if not the last.
    pub target: Option<String>,
    /// The platform, if the Dockerfile names one.
    pub platform: Option<String>,
    /// Variables for the container.
    pub env: BTreeMap<String, String>,
    /// The path that answers when it is well, and where that stands.
    pub health: Option<(String, Place)>,
    /// The port that it listens on.
    pub port: Option<(u16, Place)>,
    /// The service whose image it has, if another one has the same.
    pub image_of: Option<String>,
    /// Whether anybody asks it anything; a worker is not reached.
    pub reached: bool,
}

/// What a Dockerfile has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The base image.
    pub base: String,
    /// Debian packages that the build needs.
    pub packages: Vec<&'static str>,
    /// Variables of the build and of the container.
    pub before: Vec<(String, String)>,
    /// Variables of the container alone.
    pub env: Vec<(String, String)>,
    /// Files that the installation needs, from the context: copied before the rest, so that a change of code installs nothing.
    pub manifests: Vec<String>,
    /// Commands that install.
    pub install: Vec<String>,
    /// Commands after the code is there.
    pub build: Vec<String>,
    /// Words of the command that serves.
    pub command: Vec<String>,
    /// The directory of the image that it starts in, below `/app`.
    pub workdir: String,
    /// The port.
    pub port: u16,
    /// The user that the base image has for this, if any.
    pub user: Option<&'static str>,
    /// Remarks for whoever reads it.
    pub remarks: Vec<String>,
    /// Patterns for `.dockerignore`.
    pub ignore: Vec<String>,
}

/// What migrates a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The unit's name.
    pub name: String,
    /// `django` or `prisma`.
    pub framework: &'static str,
    /// The service whose image does it.
    pub from: String,
    /// Other services with its code.
    pub services: Vec<String>,
    /// The file and line that says so.
    pub at: Place,
    /// A command instead of the framework's own, where that would not find its project.
    pub command: Option<String>,
}

/// Why a checkout cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The directory cannot be listed.
    #[error("listing `{0}` failed")]
    List(String, #[source] walkdir::Error),
    /// A file says what it may not.
    #[error("{at}: {what}")]
    Wrong {
        /// Where.
        at: Place,
        /// What is wrong.
        what: String,
    },
}

/// What a reading collects on its way.
struct Notes<'a> {
    tree: &'a tree::Tree,
    answers: &'a Answers,
    findings: Vec<Finding>,
    questions: Vec<Question>,
}

impl Notes<'_> {
    fn used(&mut self, directory: &str, what: impl Into<String>, at: Place) {
        self.findings.push(Finding { directory: directory.to_owned(), what: what.into(), at, used: true });
    }

    fn unused(&mut self, directory: &str, what: impl Into<String>, at: Place) {
        self.findings.push(Finding { directory: directory.to_owned(), what: what.into(), at, used: false });
    }

    fn ask(&mut self, topic: Topic, directory: &str, what: impl Into<String>, choices: Vec<(String, Place)>) {
        self.questions.push(Question { topic, directory: directory.to_owned(), what: what.into(), choices });
    }
}

/// Reads a checkout; see [`look`].
fn tree(root: &Path) -> Result<tree::Tree, DetectError> {
    tree::Tree::list(root).map_err(|error| DetectError::List(root.display().to_string(), error))
}
