//! Finds out what came of an attempt whose end nobody has seen.

use crate::event::Step;
use crate::journal::{MigrationAttempt, MigrationEnd, MigrationHistory};
use crate::model::Failure;

use super::super::verdict::{Answer, Kind, Trouble};
use super::{Found, One, Target, learn};

impl One<'_> {
    /// What came of an attempt of an earlier run that was cut off. `None` where there has to be another one.
    pub(super) async fn cut_off(
        &self,
        target: &Target,
        attempt: &MigrationAttempt,
        history: &mut MigrationHistory,
        step: &Step,
    ) -> Result<Option<Answer>, Failure> {
        let events = self.run.events;
        events.note(format!("{}: the migration of {} was cut off; looking for what came of it", self.name, attempt.release));
        let (end, answer) = match self.find_out(target, attempt, step).await {
            Found::Done(answer) => (MigrationEnd::Done, Some(answer)),
            Found::Failed(trouble) => {
                events.note(format!("{}: it failed: {}", self.name, events.masked(&trouble.said)));
                (MigrationEnd::Failed, None)
            }
            Found::Unfinished => (MigrationEnd::Failed, None),
            Found::Unknown(why) if self.plan.is_repeatable() => {
                events.note(format!(
                    "{}: what came of it is not known ({why}); {} applies only what is pending",
                    self.name, self.plan.framework
                ));
                return Ok(None);
            }
            Found::Unknown(why) => return Err(self.unknown(target, &why)),
        };
        if let Some(answer) = &answer {
            learn(history, answer, target);
        }
        self.remember(history, &MigrationAttempt { ended: Some(end), ..attempt.clone() }).await?;
        // What other code has applied says nothing of this one's.
        let same = if target.is_zip() { attempt.code == target.code(self.image) } else { attempt.image == *self.image };
        Ok(answer.filter(|_| same))
    }

    pub(super) async fn find_out(&self, target: &Target, attempt: &MigrationAttempt, step: &Step) -> Found {
        match target {
            Target::Function(function) => function.find_out(self, attempt, step).await,
            Target::Task(task) => task.find_out(self, attempt, step).await,
            Target::Local(local) => local.find_out(self).await,
        }
    }
}

pub(super) fn unfinished() -> Trouble {
    Trouble { kind: Kind::Died, said: "it did not come to its end, and its migrations are not all applied".to_owned() }
}
