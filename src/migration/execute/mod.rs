//! Runs one migration, and says what came of it.
//!
//! An attempt is written down before it begins. One that was cut off, by a lost answer or because windlass was killed, is never
//! repeated before it is known what came of it.

mod bundle;
mod cut_off;
mod derive;
mod follow;
mod lambda;
mod lease;
mod local;
mod snapshot;
pub mod stop;
mod task;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use time::OffsetDateTime;

use crate::aws::Aws;
use crate::event::{Events, Outcome, Step};
use crate::journal::{Journal, Lease, MigrationAttempt, MigrationEnd, MigrationHistory};
use crate::model::{Exit, Failure, ImageUri, ReleaseId, Stage, UnitName};

use super::plan::{MigrationPlan, Runs};
use super::verdict::{self, Answer, Trouble};
use cut_off::unfinished;
use words::described;

/// What a failed migration leaves of everything else.
const NOT_ROLLED: &str = "no service was rolled and no site published: the old version serves";

/// For how long another migration of the same database is waited for, in seconds; half of what the migration may take, if that is less.
const PATIENCE: u64 = 300;

/// What every migration of a release has in common.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// AWS.
    pub aws: &'a Aws,
    /// The state, if there is one.
    pub journal: Option<&'a Journal>,
    /// The release.
    pub release: &'a ReleaseId,
    /// The configuration's directory.
    pub root: &'a Path,
    /// The variables of this process.
    pub environment: &'a [(OsString, OsString)],
    /// Where events go.
    pub events: &'a Events,
    /// Who runs this, and where: for whoever finds the lease of a database.
    pub by: &'a str,
    /// A build's URL, or the machine's name.
    pub at: &'a str,
    /// How long somebody else's lease is waited for.
    pub wait: Duration,
    /// Set once a signal wants the run to end, and tasks to be stopped with it.
    pub stops: &'a AtomicBool,
}

/// One migration of a run.
#[derive(Debug, Clone, Copy)]
struct One<'a> {
    run: Run<'a>,
    name: &'a UnitName,
    plan: &'a MigrationPlan,
    image: &'a ImageUri,
}

/// What an attempt came to, or what is known of it.
#[derive(Debug)]
enum Came {
    /// It has answered well, and nothing is pending.
    Done(Answer),
    /// It has failed.
    Failed(Trouble),
    /// It was refused before it began.
    NotBegun(Failure),
    /// Its answer was lost: it may run, or have run.
    Lost(String),
}

/// What is found out about an attempt that was cut off.
#[derive(Debug)]
enum Found {
    Done(Answer),
    Failed(Trouble),
    /// It is over, and its migrations are not all applied: it never came to its end.
    Unfinished,
    /// Nobody can tell, for this reason.
    Unknown(String),
}

/// What migrates, ready to do it.
enum Target {
    Function(lambda::Target),
    Task(task::Target),
    Local(local::Target),
}

/// A migration that is ready: its code is where it runs.
pub struct Ready<'a> {
    one: One<'a>,
    target: Target,
    history: MigrationHistory,
    lease: Option<Lease>,
}

/// Brings `image` to where it migrates. Nothing of the database is changed.
///
/// # Errors
/// [`Exit::Locked`] while another release migrates the database; [`Exit::Migration`]. No service has rolled.
pub async fn ready<'a>(run: Run<'a>, name: &'a UnitName, plan: &'a MigrationPlan, image: &'a ImageUri) -> Result<Ready<'a>, Failure> {
    let one = One { run, name, plan, image };
    let lease = lease::take(&one).await.map_err(Failure::changed_nothing)?;
    match prepare(&one).await {
        Ok((target, history)) => Ok(Ready { one, target, history, lease }),
        Err(failure) => {
            lease::let_go(&one, lease).await;
            Err(failure.changed_nothing())
        }
    }
}

async fn prepare(one: &One<'_>) -> Result<(Target, MigrationHistory), Failure> {
    let One { run, name, plan, .. } = *one;
    let mut target = match &plan.runs {
        Runs::LambdaImage { function, handler, .. } => Target::Function(lambda::prepare(one, function, *handler).await?),
        Runs::LambdaZip { function, handler, made_of, .. } => {
            Target::Function(lambda::prepare_zip(one, function, *handler, made_of).await?)
        }
        Runs::Task { .. } => Target::Task(task::prepare(one).await?),
        Runs::Local { directory, env } => Target::Local(local::prepare(one, directory, env)?),
    };
    let history = match run.journal {
        Some(journal) => journal.migration(name).await.map_err(|error| one.unreadable(error))?,
        None => MigrationHistory::default(),
    };
    if let Target::Function(function) = &mut target {
        // It has answered as a handler of windlass's does.
        function.ours |= history.asked.as_ref() == Some(&function.code);
    }
    // Where an attempt was cut off, what it has applied is found out first.
    if !history.is_cut_off() {
        one.risks(&target).await?;
    }
    Ok((target, history))
}

impl Ready<'_> {
    /// Migrates, and gives the image, and what ran its migrations where that is another code.
    ///
    /// # Errors
    /// [`Exit::Migration`] when it failed, [`Exit::MigrationUnknown`] when nobody can tell what came of it. No service has rolled.
    pub async fn bring(mut self) -> Result<(ImageUri, Option<String>), Failure> {
        let step = Step::of(Stage::Migrations, self.one.name, "migrate");
        let work = self.one.bring(&self.target, &mut self.history, &step);
        let brought = self.one.run.events.step(step.clone(), work).await;
        // What may still be going on keeps its lease, which ends by itself when it must be over.
        if !matches!(&brought, Err(failure) if failure.exit() == Exit::MigrationUnknown) {
            lease::let_go(&self.one, self.lease.take()).await;
        }
        brought.map(|()| (self.one.image.clone(), self.target.code(self.one.image)))
    }

    /// Gives it up before it has begun.
    pub async fn let_go(self) {
        lease::let_go(&self.one, self.lease).await;
    }
}

impl One<'_> {
    /// Finds out what came of an attempt that was cut off, and migrates if that is still to be done.
    async fn bring(&self, target: &Target, history: &mut MigrationHistory, step: &Step) -> Result<((), Outcome, String), Failure> {
        if let Some(attempt) = history.last.clone().filter(|_| history.is_cut_off()) {
            if let Some(answer) = self.cut_off(target, &attempt, history, step).await? {
                return Ok(described(&answer, true));
            }
            self.risks(target).await?;
        } else if let Some(attempt) = history.last.as_ref().filter(|attempt| self.has_brought(target, attempt)) {
            // It was killed before it could say in what is live that the database is migrated.
            return Ok(((), Outcome::Unchanged, format!("the earlier run had done it: {}", attempt.image.digest.short())));
        }
        if let Some(instance) = &self.plan.snapshot {
            snapshot::take(self, instance).await.map_err(Failure::changed_nothing)?;
        }
        let now = OffsetDateTime::now_utc();
        history.attempts += 1;
        let mut attempt = MigrationAttempt {
            mark: format!("{}/{}/{}", self.run.release, self.name, history.attempts),
            release: self.run.release.clone(),
            image: self.image.clone(),
            code: target.code(self.image),
            started: now,
            deadline: now + Duration::from_secs(self.plan.timeout_seconds) + Duration::from_secs(30),
            runs: target.runs(),
            ended: None,
        };
        self.remember(history, &attempt).await.map_err(Failure::changed_nothing)?;
        let came = match target {
            Target::Function(function) => function.invoke(self, &attempt, step).await,
            Target::Local(local) => local.run(self, &attempt, step).await,
            Target::Task(task) => match task.start(self, &attempt).await {
                Ok(arn) => {
                    attempt.runs = Some(arn.clone());
                    self.remember(history, &attempt).await?;
                    task.follow(self, &attempt, &arn, step).await
                }
                Err(came) => came,
            },
        };
        let came = match came {
            Came::Lost(cause) => {
                self.run
                    .events
                    .note(format!("{}: the answer was lost ({cause}); it is not invoked again: looking for what came of it", self.name));
                match self.find_out(target, &attempt, step).await {
                    Found::Done(answer) => Came::Done(answer),
                    Found::Failed(trouble) => Came::Failed(trouble),
                    Found::Unfinished => Came::Failed(unfinished()),
                    Found::Unknown(why) => return Err(self.unknown(target, &format!("{cause}; {why}"))),
                }
            }
            came => came,
        };
        let came = match came {
            Came::Done(answer) => self.checked(target, answer, step).await,
            came => came,
        };
        let end = match &came {
            Came::Done(_) => MigrationEnd::Done,
            Came::NotBegun(_) => MigrationEnd::NotBegun,
            _ => MigrationEnd::Failed,
        };
        if let Came::Done(answer) = &came {
            learn(history, answer, target);
        }
        let untouched = match &came {
            Came::NotBegun(_) => true,
            Came::Failed(trouble) => trouble.has_applied_nothing(),
            _ => false,
        };
        let judged = |failure: Failure| if untouched { failure.changed_nothing() } else { failure };
        self.remember(history, &MigrationAttempt { ended: Some(end), ..attempt }).await.map_err(judged)?;
        match came {
            Came::Done(answer) => Ok(described(&answer, false)),
            Came::Failed(trouble) => Err(judged(self.failed(target, &trouble))),
            Came::NotBegun(failure) => Err(judged(failure)),
            Came::Lost(cause) => Err(self.unknown(target, &cause)),
        }
    }

    /// Has an earlier run of this very release migrated to its end, with the same code?
    fn has_brought(&self, target: &Target, attempt: &MigrationAttempt) -> bool {
        let same = attempt.image == *self.image && attempt.code == target.code(self.image);
        same && attempt.ended == Some(MigrationEnd::Done) && attempt.release == *self.run.release
    }

    /// Asks what is pending, now that the function has the release's code, where the plan could not know and the policy refuses risks.
    async fn risks(&self, target: &Target) -> Result<(), Failure> {
        if !self.plan.refuses_risks() || self.plan.risky_at_all.is_empty() {
            return Ok(());
        }
        let pending = match target {
            Target::Function(function) if function.ours => function.state(self).await.map(|state| state.pending.unwrap_or_default()),
            _ => Err(self.plan.pending_by.clone()),
        };
        let is_pending = |name: &String| pending.as_ref().map_or(true, |pending| pending.contains(name));
        let risky = self.plan.risky_at_all.iter().filter(|one| is_pending(&one.name));
        let risky: Vec<String> = risky.map(|one| format!("{}: {}", one.name, one.risks.join("; "))).collect();
        if risky.is_empty() {
            return Ok(());
        }
        let what = match &pending {
            Ok(_) => format!("migration `{}` is risky, and `policy.risky_migrations` is `refuse`", self.name),
            Err(why) => format!("migration `{}` may be risky, and nobody knows what is applied: {why}", self.name),
        };
        let failure = Failure::new(Exit::Migration, what).because(risky.join("\n   "));
        Err(failure.hint(format!("nothing was migrated; {NOT_ROLLED}; split it, or write `risky_migrations: warn` for this release")))
    }

    /// Asks independently whether anything is pending, where the handler can be asked without harm.
    async fn checked(&self, target: &Target, answer: Answer, step: &Step) -> Came {
        let Target::Function(function) = target else { return Came::Done(answer) };
        if answer.protocol == 0 || answer.pending.is_none() {
            return Came::Done(answer);
        }
        match function.state(self).await {
            Ok(state) => match verdict::complete(Answer { applied: answer.applied.clone(), ..state }) {
                Ok(state) => Came::Done(Answer { protocol: answer.protocol, ..state }),
                Err(trouble) => Came::Failed(trouble),
            },
            Err(why) => {
                self.run.events.output(step, &format!("(asking again what is pending failed: {why}; its own answer holds)"));
                Came::Done(answer)
            }
        }
    }

    async fn remember(&self, history: &mut MigrationHistory, attempt: &MigrationAttempt) -> Result<(), Failure> {
        history.last = Some(attempt.clone());
        let Some(journal) = self.run.journal else { return Ok(()) };
        let before = attempt.ended.is_none();
        journal.set_migration(self.name, history).await.map_err(|error| {
            let (exit, so_far) = if before {
                (Exit::Migration, "nothing was migrated, and no service was rolled")
            } else {
                (Exit::Bug, "the migration is over, and the state does not say so")
            };
            let failure = Failure::new(exit, format!("migration `{}`: writing its state failed", self.name)).because(error);
            failure.hint(format!("{so_far}; allow `s3:PutObject` on the state's prefix, and run the same command again"))
        })
    }

    /// What a handler of windlass is asked.
    fn event(&self, action: &str, mark: &str) -> serde_json::Value {
        let patience = PATIENCE.min(self.plan.timeout_seconds / 2);
        let mut event = serde_json::json!({
            "action": action, "release": self.run.release, "mark": mark, "databases": self.plan.databases, "patience": patience,
        });
        if let (Some(command), Some(event)) = (&self.plan.command, event.as_object_mut()) {
            event.insert("command".to_owned(), serde_json::json!(command));
        }
        event
    }
}

impl Target {
    /// The version or the like that is written down with an attempt.
    fn runs(&self) -> Option<String> {
        match self {
            Self::Function(function) => function.version.clone(),
            _ => None,
        }
    }

    fn is_zip(&self) -> bool {
        matches!(self, Self::Function(function) if function.is_zip)
    }

    /// What runs the migrations where that is another code than the image.
    fn code(&self, image: &ImageUri) -> Option<String> {
        match self {
            Self::Function(function) => Some(function.code.clone()).filter(|code| *code != image.to_string()),
            _ => None,
        }
    }
}

/// Keeps what an answer has told of the database.
fn learn(history: &mut MigrationHistory, answer: &Answer, target: &Target) {
    if let Some(all) = &answer.all_applied {
        history.applied = Some(all.clone());
    } else if let Some(applied) = &answer.applied {
        let known = history.applied.get_or_insert_default();
        known.extend(applied.iter().filter(|name| !name.is_empty()).cloned());
        known.sort();
        known.dedup();
    }
    history.asked = match target {
        Target::Function(function) if answer.protocol > 0 => Some(function.code.clone()),
        _ => None,
    };
}
