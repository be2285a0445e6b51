//! The types of `migrations` in `windlass.yml`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{ImageUri, UnitName};

use super::words::Duration;

/// A migration of one database.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// What migrates.
    pub framework: Framework,
    /// Where it runs.
    pub driver: Driver,
    /// The service whose code it migrates.
    pub from: UnitName,
    /// Services beside `from` that use the same database: none of them rolls before it is migrated.
    #[serde(default)]
    pub services: Vec<UnitName>,
    /// The Lambda function of the drivers `lambda-image` and `lambda-zip`.
    #[serde(default)]
    pub function: Option<String>,
    /// A bundle made elsewhere, for `lambda-zip`.
    #[serde(default)]
    pub zip: Option<String>,
    /// An image made elsewhere, for `lambda-image`.
    #[serde(default)]
    pub image: Option<ImageUri>,
    /// Whose handler the function runs. If absent: the application's own where the function's configuration or the checkout has one, else
    /// windlass's.
    #[serde(default)]
    pub handler: Option<Handler>,
    /// The command that migrates: for the framework `command`; for the drivers `task` and `local` also instead of the framework's own.
    #[serde(default)]
    pub command: Option<Words>,
    /// Django's aliases of the databases; `default` alone if absent.
    #[serde(default)]
    pub databases: Vec<String>,
    /// A task definition of the migration's own (its family, or an ARN), for `task`; the service's if absent.
    #[serde(default)]
    pub task_definition: Option<String>,
    /// The container of the task that migrates; the service's if absent.
    #[serde(default)]
    pub container: Option<String>,
    /// Variables of the command, for `local`; it sees no `AWS_*` variable but those that are listed here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take, for `task` and `local`; an hour if absent. A function has a timeout of its own.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// An RDS instance (or one of an Aurora cluster), by its identifier: a snapshot is taken before it is migrated.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// What applications that share the database, and the state, call it: only one of them migrates at a time.
    #[serde(default)]
    pub database: Option<String>,
    /// Whether the old code runs while the schema changes.
    #[serde(default)]
    pub strategy: Strategy,
}

/// What migrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    /// `migrate --no-input`.
    Django,
    /// `prisma migrate deploy`.
    Prisma,
    /// A command, whose exit code is the verdict.
    Command,
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Django => "django",
            Self::Prisma => "prisma",
            Self::Command => "command",
        })
    }
}

/// Where a migration runs.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A Lambda function that runs a container image.
    LambdaImage,
    /// A Lambda function that runs a zip.
    LambdaZip,
    /// An ECS task.
    Task,
    /// A command on this machine.
    Local,
}

/// Whose handler a function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// The application's.
    Own,
    /// The one that windlass ships: nothing is added to the application's code.
    Windlass,
}

/// A command: a line for `sh`, or a list of its words.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// A line.
    Line(String),
    /// Words.
    List(Vec<String>),
}

impl Words {
    /// The words that are run.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Line(line) => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
            Self::List(words) => words.clone(),
        }
    }

    /// Is nothing there to be run?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Line(line) => line.trim().is_empty(),
            Self::List(words) => words.iter().all(String::is_empty),
        }
    }
}

/// Whether the old code runs while the schema changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// It does: the schema only grows.
    #[default]
    Expand,
    /// It does not: the services stop first.
    Stop,
}
