//! The one error type of this room.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::ProcessError;

/// Why the local cloud does not run, or does not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// There is no place for its files.
    #[error("neither XDG_CACHE_HOME nor HOME names a directory for the local cloud's files")]
    NoHome,
    /// A port is no port.
    #[error("{variable} is `{text}`, which is no TCP port")]
    BadPort {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        text: String,
    },
    /// There is no Python.
    #[error("there is no `python3` in PATH, which the local cloud is written in")]
    PythonAbsent,
    /// The emulator could not be installed.
    #[error("failed to install {package}:\n{}", tail.join("\n"))]
    Install {
        /// The package with its version.
        package: String,
        /// The last lines of the output.
        tail: Vec<String>,
    },
    /// Another program has the port.
    #[error("port {port} of 127.0.0.1 is taken by another program, so {what} cannot start")]
    PortTaken {
        /// The port.
        port: u16,
        /// "the local cloud", "the local database".
        what: &'static str,
        /// The variable that chooses another.
        variable: &'static str,
    },
    /// There is no PostgreSQL.
    #[error("there is no PostgreSQL server in /usr/lib/postgresql or in PATH")]
    DatabaseAbsent,
    /// A program of PostgreSQL's failed.
    #[error("failed to {operation} the local database:\n{}", tail.join("\n"))]
    Database {
        /// "create", "start", "stop".
        operation: &'static str,
        /// The last lines of the output, or of the server's log.
        tail: Vec<String>,
    },
    /// The emulator ended, or did not answer in time.
    #[error("the local cloud {}; the end of `{}`:\n{}", what_happened(*.after), log.display(), tail.join("\n"))]
    Unhealthy {
        /// How long it was waited for; `None` if it has ended.
        after: Option<Duration>,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: Vec<String>,
    },
    /// A file of the local cloud could not be used.
    #[error("failed to {operation} `{}`", path.display())]
    Files {
        /// "lock", "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A program could not be run to its end.
    #[error("failed to {operation}")]
    Program {
        /// "install the local cloud".
        operation: &'static str,
        /// What went wrong.
        source: ProcessError,
    },
}

fn what_happened(after: Option<Duration>) -> String {
    after.map_or_else(|| "ended right after its start".to_owned(), |after| format!("did not answer within {} s", after.as_secs()))
}

impl LocalError {
    /// Is something missing on this machine, which a person can install?
    #[must_use]
    pub fn is_missing_program(&self) -> bool {
        matches!(self, Self::PythonAbsent | Self::DatabaseAbsent)
    }

    /// What a person can do about it, if anything is known to help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let says = |tail: &[String], sign: &str| tail.iter().any(|line| line.contains(sign));
        Some(match self {
            Self::PythonAbsent => "install it with `apt-get install python3 python3-venv` or `brew install python`".to_owned(),
            Self::Install { tail, .. } if says(tail, "ensurepip") => "install it with `apt-get install python3-venv`".to_owned(),
            Self::Install { .. } => "pip needs a package index: see `pip config list`, PIP_INDEX_URL and HTTPS_PROXY".to_owned(),
            Self::PortTaken { variable, .. } => format!("stop that program (`ss -ltnp` names it), or choose another port with {variable}"),
            Self::DatabaseAbsent => "install it with `apt-get install postgresql` or `brew install postgresql`".to_owned(),
            Self::Database { tail, .. } if says(tail, "no user `postgres`") => "`apt-get install postgresql` makes that user".to_owned(),
            _ => return None,
        })
    }
}
