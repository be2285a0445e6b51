//! Stops the services that use a database before it is migrated (`strategy: stop`), and starts them again where nothing came of it.
//!
//! How many tasks each had is written down first. Deliberately absent: starting them after a migration that has succeeded: they roll.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::aws::AwsError;
use crate::event::{Outcome, Step};
use crate::journal::{Journal, JournalError, StoppedService};
use crate::model::{Exit, Failure, Stage, UnitName};

use super::super::plan::Stops;
use super::Run;

/// How long tasks may take to end: they are taken out of the load balancer, which waits for open requests, and have their `stopTimeout`.
const GONE: Duration = Duration::from_mins(15);
const LOOK: Duration = Duration::from_secs(1);

/// Stops services, and gives them back as they are written down. Those that have no tasks are left alone.
///
/// # Errors
/// The state or ECS fails, or tasks do not end: then they have been started again, as far as that went.
pub async fn stop(run: Run<'_>, stops: &[&Stops]) -> Result<BTreeMap<UnitName, StoppedService>, Failure> {
    let Some(journal) = run.journal else {
        let failure = Failure::new(Exit::Preflight, "services cannot be stopped without a state, which remembers how many tasks they had");
        return Err(failure.hint("nothing was changed; name a bucket under `state`"));
    };
    let mut written = journal.stopped().await.map_err(|error| unwritten("reading", error))?;
    let mut ours = BTreeMap::new();
    for stops in stops {
        let now = tasks(&run, &stops.cluster, &stops.service).await.map_err(|error| failed(&stops.unit, error))?;
        let known = written.get(&stops.unit).cloned();
        let stopped = match known {
            // It was stopped before, by a run that came to no end.
            Some(known) if now == 0 => known,
            _ if now == 0 => continue,
            known => StoppedService {
                cluster: stops.cluster.clone(),
                service: stops.service.clone(),
                tasks: now,
                scaling_suspended: suspends(&run, stops).await || known.is_some_and(|known| known.scaling_suspended),
                release: run.release.clone(),
                since: OffsetDateTime::now_utc(),
            },
        };
        written.insert(stops.unit.clone(), stopped.clone());
        ours.insert(stops.unit.clone(), stopped);
    }
    journal.set_stopped(&written).await.map_err(|error| unwritten("writing", error))?;
    let all = ours.iter().map(|(unit, stopped)| one(run, unit, stopped));
    if let Some(failure) = join_all(all).await.into_iter().find_map(Result::err) {
        let said = start(run, journal, &ours.keys().cloned().collect()).await;
        let hint = failure.hint_text().unwrap_or_default().to_owned();
        return Err(failure.hint(format!("{said}; {hint}")));
    }
    Ok(ours)
}

/// Stops one service, and waits until its last task has ended.
async fn one(run: Run<'_>, unit: &UnitName, stopped: &StoppedService) -> Result<(), Failure> {
    let StoppedService { cluster, service, tasks, .. } = stopped;
    let step = Step::of(Stage::Migrations, unit, "stop");
    let work = async {
        if stopped.scaling_suspended {
            run.aws.suspend_scaling(cluster, service, true).await.map_err(|error| failed(unit, error))?;
        }
        run.aws.scale_service(cluster, service, 0).await.map_err(|error| failed(unit, error))?;
        let began = Instant::now();
        loop {
            let left = left(&run, cluster, service).await.map_err(|error| failed(unit, error))?;
            if left == 0 {
                return Ok(((), Outcome::Done, format!("{} ended, by `strategy: stop`", count(*tasks))));
            }
            if began.elapsed() > GONE {
                let failure = Failure::new(Exit::Migration, format!("service `{unit}`: its tasks do not end"));
                let failure = failure.because(format!("{} still there after {} s", count(left), GONE.as_secs()));
                return Err(failure.hint("nothing was migrated; look at its stopTimeout and at its target group's deregistration delay"));
            }
            let (done, all) = (u64::try_from(tasks - left).unwrap_or(0), u64::try_from(*tasks).unwrap_or(0));
            run.events.progress(&step, done, all, "tasks");
            sleep(LOOK).await;
        }
    };
    run.events.step(step.clone(), work).await
}

/// Starts services again with the tasks that they had, and says in words what came of it.
pub async fn start(run: Run<'_>, journal: &Journal, units: &BTreeSet<UnitName>) -> String {
    let Ok(mut written) = journal.stopped().await else { return still(&BTreeMap::new()) };
    let all = written.iter().filter(|(unit, _)| units.contains(*unit)).map(|(unit, stopped)| async move {
        run.aws.scale_service(&stopped.cluster, &stopped.service, stopped.tasks).await?;
        if stopped.scaling_suspended {
            run.aws.suspend_scaling(&stopped.cluster, &stopped.service, false).await?;
        }
        Ok::<_, AwsError>((unit.clone(), stopped.clone()))
    });
    match try_join_all(all.collect::<Vec<_>>()).await {
        Ok(started) if started.is_empty() => "no service was stopped".to_owned(),
        Ok(started) => {
            let said: Vec<String> = started.iter().map(|(unit, stopped)| format!("{unit} ({})", count(stopped.tasks))).collect();
            for (unit, _) in &started {
                written.remove(unit);
            }
            // If this is lost, the next run finds that they run, and passes over what is written.
            drop(journal.set_stopped(&written).await);
            format!("what was stopped has been started again with the old version: {}", said.join(", "))
        }
        Err(error) => {
            run.events.note(format!("starting what was stopped failed: {error}"));
            still(&written)
        }
    }
}

/// What is stopped, in words.
#[must_use]
pub fn still(stopped: &BTreeMap<UnitName, StoppedService>) -> String {
    let said: Vec<String> = stopped.iter().map(|(unit, stopped)| format!("{unit} (it had {})", count(stopped.tasks))).collect();
    let which = if said.is_empty() { "services".to_owned() } else { said.join(", ") };
    format!("STOPPED by `strategy: stop`, and started again by the release that succeeds: {which}")
}

fn count(tasks: i32) -> String {
    format!("{tasks} task{}", if tasks == 1 { "" } else { "s" })
}

async fn tasks(run: &Run<'_>, cluster: &str, service: &str) -> Result<i32, AwsError> {
    let found = run.aws.services(cluster, &[service]).await?;
    Ok(found.first().map_or(0, |found| found.desired.max(found.running)))
}

/// How many tasks have not ended yet. ECS counts those that run; those that are on their way to their end are asked for one by one.
async fn left(run: &Run<'_>, cluster: &str, service: &str) -> Result<i32, AwsError> {
    let found = run.aws.services(cluster, &[service]).await?;
    let counted = found.first().map_or(0, |found| found.running + found.pending);
    if counted > 0 {
        return Ok(counted);
    }
    let arns = run.aws.stopped_task_arns(cluster, service).await?;
    let ending = run.aws.stopped_tasks(cluster, &arns).await?.iter().filter(|task| task.stopped_at.is_none()).count();
    Ok(i32::try_from(ending).unwrap_or(i32::MAX))
}

/// Has the service an auto scaling that would start tasks again? Where nobody may look, that is said.
async fn suspends(run: &Run<'_>, stops: &Stops) -> bool {
    match run.aws.scaling(&stops.cluster, &stops.service).await {
        Ok(scaling) => scaling.is_some_and(|scaling| !scaling.suspended),
        Err(error) => {
            run.events.note(format!(
                "{}: whether auto scaling would start its tasks again cannot be seen ({error}); if it has any, suspend it meanwhile",
                stops.unit
            ));
            false
        }
    }
}

fn failed(unit: &UnitName, error: AwsError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
    Failure::new(Exit::Migration, format!("service `{unit}`: stopping it failed"))
        .because(error)
        .hint(format!("nothing was migrated; {hint}"))
}

fn unwritten(how: &str, error: JournalError) -> Failure {
    let failure = Failure::new(Exit::Migration, format!("{how} down which services are stopped failed")).because(error);
    failure.hint(
        "nothing was stopped or migrated; allow `s3:GetObject` and `s3:PutObject` on the state's prefix, and run the same command again",
    )
}
