//! A migration in an ECS task: the release's image, where and how the service's own tasks run, with another command.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::aws::{AwsError, RunTask, Task, TaskDefinition, once_known};
use crate::event::Step;
use crate::journal::MigrationAttempt;
use crate::model::{Exit, Failure, Sha256};

use super::super::plan::Runs;
use super::super::verdict::{self, Answer, Kind, Trouble};
use super::follow::{End, Follower};
use super::{Came, Found, NOT_ROLLED, One, words};

/// How often the task is looked at, once it has run for a while.
const LOOK: Duration = Duration::from_secs(3);
/// How long the rest of a log is waited for after the task has stopped.
const REST: Duration = Duration::from_secs(15);
/// How long a log has to be quiet to be taken for complete.
const QUIET: Duration = Duration::from_secs(2);
/// How long a task that was just started may be unknown to ECS: what it answers lags behind.
const LAG: Duration = Duration::from_secs(30);
/// For so long ECS knows what has ended: an hour, says <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>.
const REMEMBERED: Duration = Duration::from_mins(50);
/// So many of the last lines are repeated with a failure.
const TAIL: usize = 5;

/// A task definition that is ready to be run.
pub(super) struct Target {
    cluster: String,
    service: String,
    revision: String,
    migrates: String,
    /// The log's group, and what its streams' names begin with, up to the task's id.
    log: Option<(String, String)>,
    started_by: String,
}

/// Registers a revision with the release's image, unless there is one.
pub(super) async fn prepare(one: &One<'_>) -> Result<Target, Failure> {
    let failed = |error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: preparing its task failed", one.name)).because(error);
        failure.hint(format!("nothing was migrated; {NOT_ROLLED}; {hint}"))
    };
    let Runs::Task { cluster, service, container, task_definition, migrates } = &one.plan.runs else {
        return Err(Failure::new(Exit::Bug, format!("migration `{}` is no task", one.name)));
    };
    let aws = one.run.aws;
    let base = aws.task_definition(task_definition).await.map_err(failed)?;
    let image = one.image.to_string();
    // The service's own container, and the migration's: both are the release's code.
    let named = |name: &String| base.containers.iter().any(|container| container.name == *name).then(|| (name.clone(), image.clone()));
    let images: BTreeMap<String, String> = [container, migrates].into_iter().filter_map(named).collect();
    let has = |name: &str| base.containers.iter().any(|container| container.name == name && container.image == image);
    let revision =
        if images.keys().all(|name| has(name)) { base.arn.clone() } else { aws.register_revision(&base, &images).await.map_err(failed)? };
    Ok(Target {
        cluster: cluster.clone(),
        service: service.clone(),
        revision,
        migrates: migrates.clone(),
        log: log(&base, migrates),
        started_by: format!("windlass/{}/{}", one.name, &Sha256::of(image.as_bytes()).to_string()[..12]),
    })
}

/// How long ago an attempt has begun.
fn age(attempt: &MigrationAttempt) -> Duration {
    (OffsetDateTime::now_utc() - attempt.started).try_into().unwrap_or_default()
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html>: `PREFIX/CONTAINER/TASK`.
fn log(definition: &TaskDefinition, container: &str) -> Option<(String, String)> {
    let found = definition.containers.iter().find(|found| found.name == container)?;
    let option = |name: &str| found.log_options.get(name).cloned();
    (found.log_driver.as_deref() == Some("awslogs"))
        .then(|| Some((option("awslogs-group")?, format!("{}/{container}/", option("awslogs-stream-prefix")?))))?
}

impl Target {
    pub(super) fn log_place(&self) -> String {
        self.log.as_ref().map_or("its log driver's place".to_owned(), |(group, prefix)| format!("{group}, {prefix}…"))
    }

    /// Starts the task, or finds the one that an earlier run has started for the same image.
    pub(super) async fn start(&self, one: &One<'_>, attempt: &MigrationAttempt) -> Result<String, Came> {
        let aws = one.run.aws;
        let command = match (&one.plan.command, one.plan.handler()) {
            (Some(command), _) => Some(command.clone()),
            (None, Some(kind)) => Some(kind.inline(&one.event("migrate", &attempt.mark))),
            (None, None) => None,
        };
        // The same attempt is the same task, however often it is asked for: a lost answer starts no second one.
        let token = Sha256::of(attempt.mark.as_bytes()).to_string();
        let run = RunTask {
            task_definition: &self.revision,
            command: command.as_ref().map(|command| (self.migrates.as_str(), &command[..])),
            client_token: &token[..36],
            started_by: &self.started_by,
        };
        if let Ok(running) = aws.tasks_started_by(&self.cluster, &self.started_by).await
            && let Some(arn) = running.into_iter().next()
        {
            one.run.events.note(format!("{}: its task runs already, and is followed: {arn}", one.name));
            return Ok(arn);
        }
        let start = async || aws.run_task_as(&self.cluster, &self.service, &run).await;
        let error = match once_known(start, |started| started.as_ref().is_err_and(AwsError::is_revision_unknown)).await {
            Ok(task) => return Ok(task.arn),
            Err(error) => error,
        };
        if error.is_answer_lost() {
            return Err(Came::Lost(error.to_string()));
        }
        // A fault of the server's may have come after it had begun.
        if error.is_server_fault() {
            match self.begun(one, attempt).await {
                Ok(Some(arn)) => return Ok(arn),
                Ok(None) => {}
                Err(_) => return Err(Came::Lost(error.to_string())),
            }
        }
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: its task could not be started", one.name));
        let cure = error.hint().unwrap_or_else(|| "correct that, and run the same command again".to_owned());
        Err(Came::NotBegun(failure.because(error).hint(format!("nothing was migrated; {NOT_ROLLED}; {cure}"))))
    }

    /// The task of an attempt that nobody has answered for, whether it runs or has ended. What ECS answers lags behind.
    async fn begun(&self, one: &One<'_>, attempt: &MigrationAttempt) -> Result<Option<String>, AwsError> {
        let aws = one.run.aws;
        let family = self.revision.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap_or_default();
        // Clocks may differ by a minute.
        let since = attempt.started.unix_timestamp() - 60;
        let look = async || {
            if let Some(arn) = aws.tasks_started_by(&self.cluster, &self.started_by).await?.into_iter().next() {
                return Ok(Some(arn));
            }
            let ended = aws.ended_tasks(&self.cluster, family, &self.started_by).await?;
            let newest = ended.into_iter().filter(|task| task.created_at.is_none_or(|at| at >= since)).max_by_key(|task| task.created_at);
            Ok(newest.map(|task| task.arn))
        };
        // What is older than any lag needs no second look.
        once_known(look, |found| matches!(found, Ok(None)) && age(attempt) <= LAG * 2).await
    }

    /// Follows a task to its end, shows its log, and judges it.
    pub(super) async fn follow(&self, one: &One<'_>, attempt: &MigrationAttempt, arn: &str, step: &Step) -> Came {
        let aws = one.run.aws;
        let began = Instant::now();
        let limit = Duration::from_secs(one.plan.timeout_seconds);
        let id = arn.rsplit('/').next().unwrap_or(arn);
        let mut follower = self.log.as_ref().map(|(group, prefix)| Follower::of_stream(group, format!("{prefix}{id}"), &attempt.mark));
        let mut tail: Vec<String> = Vec::new();
        let mut stopped: Option<String> = None;
        let mut incomplete = false;
        let task = loop {
            match aws.task(&self.cluster, arn).await {
                // That a container has ended may be known before what it has ended with.
                Ok(Some(task)) if task.has_stopped() && !incomplete && self.has_lost_its_code(&task) => incomplete = true,
                Ok(Some(task)) if task.has_stopped() => break Some(task),
                Ok(None) if began.elapsed() > LAG || age(attempt) > LAG * 2 => break None,
                Err(error) if !(error.is_answer_lost() || error.is_throttled() || error.is_server_fault() || error.is_unreachable()) => {
                    return Came::Lost(error.to_string());
                }
                Err(_) if began.elapsed() > limit + LAG => return Came::Lost(format!("ECS does not answer for the task {id}")),
                _ => {}
            }
            self.listen(one, &mut follower, &mut tail, step).await;
            let why = match () {
                () if stopped.is_some() => None,
                () if one.run.stops.load(Ordering::Relaxed) => {
                    Some("the run was to end, and what goes on with it (`--on-abort stop`)".to_owned())
                }
                () if began.elapsed() > limit => Some(format!("after {} s: the time that it may take (`timeout`)", limit.as_secs())),
                () => None,
            };
            if let Some(why) = why {
                // What it came to is seen when it has stopped.
                drop(aws.stop_task(&self.cluster, arn, &format!("windlass: {why}")).await);
                stopped = Some(why);
            }
            sleep(if began.elapsed() < Duration::from_secs(30) { Duration::from_millis(500) } else { LOOK }).await;
        };
        let over = Instant::now();
        let mut heard = Instant::now();
        // Logs arrive after the end.
        while follower.is_some() && over.elapsed() < REST {
            if self.listen(one, &mut follower, &mut tail, step).await > 0 {
                heard = Instant::now();
            }
            let ended = follower.as_ref().is_some_and(|follower| follower.end.is_some());
            if ended || (heard.elapsed() > QUIET && !(tail.is_empty() && over.elapsed() < REST / 3)) {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        let ended = follower.as_ref().is_some_and(|follower| follower.end.is_some());
        // One that came to its end in the meantime has one.
        if let Some(why) = stopped.filter(|_| !ended) {
            return Came::Failed(Trouble { kind: Kind::Timeout, said: format!("a stop {why}") });
        }
        let end = follower.and_then(|follower| follower.end);
        match (task, end) {
            (Some(task), end) => self.judge(&task, end, &tail),
            // ECS forgets a task an hour after its end; its log stays.
            (None, Some(End::Answered(answer))) => verdict::complete(answer).map_or_else(Came::Failed, Came::Done),
            (None, Some(End::Failed(trouble))) => Came::Failed(trouble),
            (None, None) => Came::Lost(format!("ECS does not know the task {id} any more")),
        }
    }

    /// Reads on in the log, and keeps its last lines. How many were new?
    async fn listen(&self, one: &One<'_>, follower: &mut Option<Follower>, tail: &mut Vec<String>, step: &Step) -> usize {
        let Some(following) = follower else { return 0 };
        let mut say = |line: &str| {
            one.run.events.output(step, line);
            tail.push(line.to_owned());
            if tail.len() > TAIL {
                tail.remove(0);
            }
        };
        match following.poll(one.run.aws, &mut say).await {
            Ok(count) => count,
            Err(error) => {
                one.run.events.note(format!("{}: its log cannot be read: {error}", one.name));
                *follower = None;
                0
            }
        }
    }

    fn has_lost_its_code(&self, task: &Task) -> bool {
        let own = task.containers.iter().find(|container| container.name == self.migrates);
        task.stop_code.as_deref() == Some("EssentialContainerExited") && own.is_none_or(|own| own.exit_code.is_none())
    }

    /// The exit code of the container that migrates is the verdict, and its last line has a say. No exit code is no success.
    fn judge(&self, task: &Task, end: Option<End>, tail: &[String]) -> Came {
        let found = task.containers.iter().find(|container| container.name == self.migrates);
        let code = found.and_then(|container| container.exit_code);
        let reason = found.and_then(|container| container.reason.clone());
        let why = [task.stop_code.clone(), task.stopped_reason.clone(), reason].into_iter().flatten();
        let why: Vec<String> = why.filter(|text| !text.is_empty()).collect();
        let why = why.join(": ");
        match (code, end) {
            (Some(_), Some(End::Failed(trouble))) => Came::Failed(trouble),
            (Some(0), Some(End::Answered(answer))) => verdict::complete(answer).map_or_else(Came::Failed, Came::Done),
            (Some(0), None) => Came::Done(Answer::default()),
            (Some(code), _) => {
                let mut trouble = Trouble::of(format!("exit code {code} ({why}): {}", words::told(tail)));
                if code == 137 && trouble.kind == Kind::Failed {
                    trouble.kind = Kind::OutOfMemory;
                }
                Came::Failed(trouble)
            }
            (None, _) => {
                let said = format!(
                    "no exit code: it never ran, or nobody saw its end ({})",
                    if why.is_empty() { "ECS gives no reason" } else { &why }
                );
                let mut trouble = Trouble::of(said);
                if trouble.kind == Kind::Failed {
                    trouble.kind = Kind::Start;
                }
                Came::Failed(trouble)
            }
        }
    }

    /// Finds out what came of an attempt: its task is asked for, by its ARN or by what started it, and followed.
    pub(super) async fn find_out(&self, one: &One<'_>, attempt: &MigrationAttempt, step: &Step) -> Found {
        let arn = match attempt.runs.clone() {
            Some(arn) => Some(arn),
            None => match self.begun(one, attempt).await {
                Ok(arn) => arn,
                Err(error) => return Found::Unknown(error.to_string()),
            },
        };
        let Some(arn) = arn else {
            // For as long as ECS remembers those that have ended, there was none.
            let known = (LAG * 2..REMEMBERED).contains(&age(attempt));
            return if known { Found::Unfinished } else { Found::Unknown("no task of it runs, and none is written down".to_owned()) };
        };
        one.run.events.note(format!("{}: following its task {arn}", one.name));
        match self.follow(one, attempt, &arn, step).await {
            Came::Done(answer) => Found::Done(answer),
            Came::Failed(trouble) => Found::Failed(trouble),
            Came::NotBegun(failure) => Found::Unknown(failure.to_string()),
            Came::Lost(why) => Found::Unknown(why),
        }
    }
}
