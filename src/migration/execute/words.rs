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

/// What the last lines of a command that has failed say: first the one that tells of the error, as a list shows no more than one, and then
/// all of them.
pub(super) fn told(tail: &[String]) -> String {
    let blank = |line: &&String| line.trim().is_empty();
    let tells = |line: &&String| {
        let line = line.to_lowercase();
        ["error", "exception", "fatal", "failed"].iter().any(|word| line.contains(word))
    };
    let last = tail.iter().rev().find(tells).or_else(|| tail.iter().rfind(|line| !blank(line)));
    let Some(last) = last else { return "it said nothing".to_owned() };
    if tail.iter().filter(|line| !blank(line)).count() == 1 {
        return last.trim().to_owned();
    }
    tail.iter().fold(last.trim().to_owned(), |text, line| text + "\n   | " + line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_the_line_that_tells_of_the_error() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
        let python = "    return self.cursor.execute(sql)\n  File \"a.py\"\nProgrammingError: column \"tons\" already exists\n";
        assert_eq!(
            told(&lines(python)),
            "ProgrammingError: column \"tons\" already exists\n   |     return self.cursor.execute(sql)\n   |   File \"a.py\"\n   | ProgrammingError: column \"tons\" already exists"
        );
        assert!(told(&lines("Error: P3018\nDatabase error: no such function\n  }\n")).starts_with("Database error: no such function\n"));
        assert_eq!(told(&lines("\n  it ends here \n")), "it ends here");
        assert_eq!(told(&[]), "it said nothing");
    }
}
