//! What is said of a migration: that it has succeeded, failed, or that nobody knows.

use crate::event::Outcome;
use crate::journal::JournalError;
use crate::model::{Exit, Failure};

use super::super::verdict::{Answer, Kind, Trouble};
use super::{NOT_ROLLED, One, Target};

impl One<'_> {
    pub(super) fn unreadable(&self, error: JournalError) -> Failure {
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: reading its state failed", self.name)).because(error);
        failure.hint("nothing was migrated; allow `s3:GetObject` on the state's prefix, and run the same command again")
    }

    pub(super) fn failed(&self, target: &Target, trouble: &Trouble) -> Failure {
        let what = match trouble.kind {
            Kind::NothingApplied => format!("migration `{}` did not apply everything", self.name),
            _ => format!("migration `{}` failed", self.name),
        };
        let said = self.run.events.masked(&trouble.said);
        let failure = Failure::new(if trouble.kind == Kind::Busy { Exit::Locked } else { Exit::Migration }, what);
        let because = if matches!(trouble.kind, Kind::NothingApplied) || said.starts_with("it ") {
            said
        } else {
            format!("{} {said}", target.answered())
        };
        failure.because(because).hint(format!("{NOT_ROLLED}; {}", trouble.remedy()))
    }

    pub(super) fn unknown(&self, target: &Target, why: &str) -> Failure {
        let failure = Failure::new(Exit::MigrationUnknown, format!("migration `{}`: what came of it is not known", self.name));
        let failure = failure.because(self.run.events.masked(why));
        let again = match self.run.journal.filter(|_| !self.plan.is_repeatable()) {
            Some(journal) => format!("where it has to run again, remove {} first", journal.migration_place(self.name)),
            None => "then run the same command again".to_owned(),
        };
        failure.hint(format!(
            "it may have migrated: it is not run again by itself, and no service was rolled; read its log ({}), {again}",
            target.log_place()
        ))
    }
}

impl Target {
    pub(super) fn answered(&self) -> String {
        match self {
            Self::Function(function) => format!("the function `{}` answered", function.name),
            Self::Task(_) => "the task ended with".to_owned(),
            Self::Local(_) => "the command ended with".to_owned(),
        }
    }

    pub(super) fn log_place(&self) -> String {
        match self {
            Self::Function(function) => function.log_group.clone(),
            Self::Task(task) => task.log_place(),
            Self::Local(_) => "the lines above".to_owned(),
        }
    }
}

/// What is said of a migration that has succeeded.
pub(super) fn described(answer: &Answer, found: bool) -> ((), Outcome, String) {
    let found = if found { "the earlier run had done it: " } else { "" };
    match answer.applied.as_deref() {
        Some([]) if found.is_empty() => ((), Outcome::Unchanged, "nothing was pending".to_owned()),
        Some([]) => ((), Outcome::Unchanged, format!("{found}nothing is pending")),
        Some(applied) => ((), Outcome::Done, format!("{found}applied {}", applied.join(", "))),
        None => ((), Outcome::Done, format!("{found}it succeeded")),
    }
}
