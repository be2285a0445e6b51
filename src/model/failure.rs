//! A failure as a person meets it: what was tried, why it failed, what to do next, and the exit code.

use std::error::Error;
use std::fmt;

/// The exit codes, one for each thing that a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    /// An unexpected failure: a bug.
    Bug = 1,
    /// `plan --detailed-exitcode`: there are changes.
    Changes = 3,
    /// The configuration was refused.
    Config = 10,
    /// Preflight refused; nothing changed.
    Preflight = 11,
    /// Another release holds the lock.
    Locked = 12,
    /// The saved plan is stale.
    StalePlan = 13,
    /// The lease was lost midway.
    LeaseLost = 14,
    /// The release is older than what is live.
    Older = 15,
    /// A build failed; nothing live changed.
    Build = 20,
    /// Uploading assets failed; nothing live changed.
    Assets = 21,
    /// Building or pushing an image failed; nothing live changed.
    Images = 22,
    /// A migration failed; no service was rolled.
    Migration = 23,
    /// The outcome of a migration is unknown; no service was rolled.
    MigrationUnknown = 24,
    /// A rollout failed and was rolled back.
    RolledBack = 30,
    /// A rollout failed and was not rolled back: a person is needed.
    NotRolledBack = 31,
    /// A rollout timed out.
    RolloutTimeout = 32,
    /// A rollout was superseded by someone else's deployment.
    Superseded = 33,
    /// Some services are new, others old.
    Mixed = 34,
    /// Publishing failed.
    Publish = 40,
    /// Published, but the check afterwards failed.
    Check = 41,
    /// Interrupted (SIGINT).
    Interrupted = 130,
    /// Terminated (SIGTERM).
    Terminated = 143,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What was tried, why it failed, and what to do next.
///
/// `Display` gives the operation alone; the cause is `source()`, so that neither is said twice.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    brief: Option<usize>,
    changed_nothing: bool,
}

impl Failure {
    /// A failure of the operation `what` ("site `web`: build failed"), to be answered with `exit`.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), cause: None, hint: None, brief: None, changed_nothing: false }
    }

    /// Keeps the cause, which is printed below the operation.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What to do next: the last line that is printed.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Its causes have been said in full already: only so many lines of them are repeated.
    #[must_use]
    pub fn brief(mut self, lines: usize) -> Self {
        self.brief = Some(lines);
        self
    }

    /// It is known that what was tried has changed nothing.
    #[must_use]
    pub fn changed_nothing(mut self) -> Self {
        self.changed_nothing = true;
        self
    }

    /// Is it known that what was tried has changed nothing?
    #[must_use]
    pub fn has_changed_nothing(&self) -> bool {
        self.changed_nothing
    }

    /// How many lines of its causes are still worth printing, if not all.
    #[must_use]
    pub fn lines_left(&self) -> Option<usize> {
        self.brief
    }

    /// The exit code's meaning.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What to do next, if anything is known to help.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The chain of causes, outermost first, each as it shows itself.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // SDK errors wrap one another without adding a word.
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Something that preflight refuses: what is wrong, and its cure.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub cure: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }
}
