//! The stage `migrations`: makes everything ready, stops the services that must not see the schema change, migrates every database, and
//! says of each failure what is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use crate::event::Events;
use crate::journal::{LiveMigration, Record, StoppedService};
use crate::migration::execute::{Ready, Run, ready, stop};
use crate::migration::plan::{MigrationPlan, Stops};
use crate::model::{Exit, Failure, Stage, UnitName};
use crate::plan::Plan;

use super::stages::resolve;
use super::{Stop, World};

type Readied<'a> = (&'a UnitName, &'a MigrationPlan, Result<Ready<'a>, Failure>);

/// Gives up what is ready: nobody migrates.
async fn let_go(readied: Vec<Readied<'_>>) {
    for ready in readied.into_iter().filter_map(|(_, _, ready)| ready.ok()) {
        ready.let_go().await;
    }
}

/// Migrates what is to be migrated.
pub(super) async fn migrations(world: &mut World, plan: &Plan, record: &Record, events: &Events, stop: &Stop) -> Result<(), Failure> {
    let (stops, world_stops) = (AtomicBool::new(false), world.stop_on_abort);
    let wanted = async {
        stop.clone().wanted().await;
        if world_stops {
            stops.store(true, Ordering::Relaxed);
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        never = wanted => never,
        result = all(world, plan, record, events, &stops) => match (result, stop.now()) {
            (Err(failure), Some(exit)) if world_stops && failure.exit() == Exit::Migration => {
                let hint = failure.hint_text().unwrap_or_default().to_owned();
                Err(Failure::new(exit, "stopped during the stage `migrations`").because(failure).hint(hint))
            }
            (result, _) => result,
        },
    }
}

async fn all(world: &mut World, plan: &Plan, record: &Record, events: &Events, stops_tasks: &AtomicBool) -> Result<(), Failure> {
    let mut todo = Vec::new();
    for (name, migration) in plan.migrations.iter().filter(|(_, migration)| !migration.applied) {
        todo.push((name, migration, resolve(&migration.image, record)?));
    }
    if todo.is_empty() {
        return Ok(());
    }
    let run = Run {
        aws: &world.aws,
        journal: world.journal.as_ref(),
        release: &record.release,
        root: &world.root,
        environment: &world.environment,
        events,
        by: world.caller.as_deref().unwrap_or_default(),
        at: &world.at,
        wait: world.wait,
        stops: stops_tasks,
    };
    let mut readied: Vec<Readied<'_>> =
        join_all(todo.iter().map(|(name, migration, image)| async move { (*name, *migration, ready(run, name, migration, image).await) }))
            .await;
    let stops: BTreeMap<&UnitName, &Stops> =
        readied.iter().flat_map(|(_, migration, _)| &migration.stops).map(|stops| (&stops.unit, stops)).collect();
    let stopped = if stops.is_empty() {
        BTreeMap::new()
    } else {
        // Nobody is stopped for a stage that fails in any case.
        if let Some(at) = readied.iter().position(|(_, _, ready)| ready.is_err())
            && let Err(failure) = readied.swap_remove(at).2
        {
            let_go(readied).await;
            return Err(failure);
        }
        match stop::stop(run, &stops.into_values().collect::<Vec<_>>()).await {
            Ok(stopped) => stopped,
            Err(failure) => {
                let_go(readied).await;
                return Err(failure);
            }
        }
    };
    let brought = join_all(readied.into_iter().map(|(name, migration, ready)| async move {
        let brought = match ready {
            Ok(ready) => ready.bring().await,
            Err(failure) => Err(failure),
        };
        (name, migration, brought)
    }));
    let (mut failure, mut back, mut stay) = (None, BTreeSet::new(), BTreeSet::new());
    for (name, migration, result) in brought.await {
        let units = migration.stops.iter().map(|stops| stops.unit.clone());
        match result {
            Ok((image, code)) => {
                let live = LiveMigration { release: record.release.clone(), commit: record.commit.clone(), image, code };
                world.live.migrations.insert(name.clone(), live);
                stay.extend(units);
            }
            Err(new) => {
                if new.has_changed_nothing() && !migration.stays_stopped {
                    back.extend(units);
                } else {
                    stay.extend(units);
                }
                // What is unknown weighs more than what has failed.
                if failure.as_ref().is_none_or(|old: &Failure| old.exit() != Exit::MigrationUnknown) {
                    failure = Some(new);
                }
            }
        }
    }
    if let Some(failed) = failure.take() {
        failure = Some(with_stopped(run, failed, stopped, &back, &stay).await);
    }
    world.save_live(Stage::Migrations).await?;
    failure.map_or(Ok(()), Err)
}

/// The failure, with what is stopped and what has been started again.
async fn with_stopped(
    run: Run<'_>,
    failure: Failure,
    mut stopped: BTreeMap<UnitName, StoppedService>,
    back: &BTreeSet<UnitName>,
    stay: &BTreeSet<UnitName>,
) -> Failure {
    if stopped.is_empty() {
        return failure;
    }
    let back: BTreeSet<UnitName> = back.iter().filter(|unit| !stay.contains(*unit) && stopped.contains_key(*unit)).cloned().collect();
    let mut said = Vec::new();
    if let (Some(journal), false) = (run.journal, back.is_empty()) {
        said.push(stop::start(run, journal, &back).await);
        stopped.retain(|unit, _| !back.contains(unit));
    }
    if !stopped.is_empty() {
        said.push(stop::still(&stopped));
    }
    say(failure, &said.join("; "))
}

/// The failure with a word about services in its hint, in the place of one that is not true any more.
pub(super) fn say(failure: Failure, said: &str) -> Failure {
    const SERVES: &str = "the old version serves";
    let hint = failure.hint_text().unwrap_or_default().to_owned();
    let hint = if hint.contains(SERVES) { hint.replacen(SERVES, said, 1) } else { format!("{said}; {hint}") };
    failure.hint(hint)
}
