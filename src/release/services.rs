//! The stage `services`: every service as soon as those that it is `after` have rolled, so many at once; what becomes of the others when
//! one fails; and what goes on in ECS when the run has to end first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::aws::ScheduledTask;
use crate::event::Events;
use crate::journal::{LiveService, Record, Served, StoppedService};
use crate::migration;
use crate::model::{Exit, Failure, Stage, UnitName};
use crate::plan::Plan;
use crate::service::execute::{self, Rollouts};
use crate::service::plan::{Action, Schedule, ServicePlan};
use crate::service::{execute_health, execute_housekeeping, execute_leave};

use super::stages::resolve;
use super::{Stop, World};

/// How long a call to ECS that is on its way may still take when the run has to end.
const TELLING: Duration = Duration::from_millis(1500);

/// What the services have come to so far.
#[derive(Default)]
struct Sofar {
    done: BTreeSet<UnitName>,
    /// Those that a rollout of this stage has brought to another revision, with what serves them now.
    rolled: BTreeMap<UnitName, LiveService>,
    /// Those that an earlier run has rolled, and was killed before it could say so.
    unsaid: BTreeMap<UnitName, LiveService>,
    failures: Vec<(UnitName, Failure)>,
}

/// Rolls the services of the plan.
pub(super) async fn services(world: &mut World, plan: &Plan, record: &Record, events: &Events, stop: &Stop) -> Result<(), Failure> {
    let stopped = stopped(world, plan).await?;
    let plan = &started(plan, &stopped);
    let shared = Rollouts::new(&world.aws, &world.probe, events, labels(record));
    let mut sofar = Sofar::default();
    let ended = tokio::select! {
        biased;
        exit = ending(stop, &shared) => Some(exit),
        () = roll(world, plan, record, &shared, stop, &mut sofar) => stop.now(),
    };
    // Before it is said what is live: a run that finds all of it said has nothing to do any more.
    let still = if ended.is_none() { settle(world, stopped, events).await } else { BTreeMap::new() };
    if !sofar.rolled.is_empty() || !sofar.unsaid.is_empty() {
        world.live.services.extend(sofar.unsaid.iter().chain(&sofar.rolled).map(|(name, live)| (name.clone(), live.clone())));
        let saved = world.save_live(Stage::Services);
        match ended {
            // What is live is said in time, or by the next run.
            Some(_) => drop(tokio::time::timeout(TELLING, saved).await),
            None => saved.await?,
        }
    }
    if let Some(exit) = ended {
        return Err(left(&shared, world.stop_on_abort, exit, plan, &sofar).await);
    }

    let weight = |failure: &Failure| match failure.exit() {
        // A service that needs a person weighs more than one that is back.
        Exit::NotRolledBack => 2,
        Exit::RolledBack => 0,
        _ => 1,
    };
    let (failed, mut failures): (BTreeSet<UnitName>, Vec<Failure>) = std::mem::take(&mut sofar.failures).into_iter().unzip();
    if !still.is_empty() {
        let said = migration::execute::stop::still(&still);
        failures = failures.into_iter().map(|failure| super::migrations::say(failure, &said)).collect();
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(weight(failure)));
    let Some(failure) = failures.into_iter().next() else {
        execute_housekeeping::tidy(&world.aws, &plan.services, async || world.named_revisions(record).await, events).await;
        return Ok(());
    };
    if failed.len() > 1 {
        let count = failed.len();
        events.note(format!("{count} services have failed; the one that matters most is told below"));
    }
    let new = world.live.services.iter().filter(|(name, live)| sofar.rolled.contains_key(*name) || record.has_brought(name, live));
    let new: BTreeMap<UnitName, LiveService> = new.map(|(name, live)| (name.clone(), live.clone())).collect();
    if !plan.services_policy.rollback_all {
        return Err(mixed(failure, &new.keys().collect::<Vec<_>>()));
    }
    // What is no part of this run stays, and so does what has failed at its next change and is back where an earlier run had brought it.
    let (back, stays): (BTreeMap<_, _>, BTreeMap<_, _>) =
        new.into_iter().partition(|(name, _)| plan.services.contains_key(name) && !failed.contains(name));
    let failure = if back.is_empty() { failure } else { go_back(world, plan, record, &shared, failure, &back).await };
    Err(mixed(failure, &stays.keys().collect::<Vec<_>>()))
}

/// Keeps in the record what serves before any run of the release has come to the services of the plan.
pub(super) fn keep_served(world: &World, plan: &Plan, record: &mut Record) {
    for (name, service) in plan.services.iter().filter(|_| plan.stages.contains(&Stage::Services)) {
        let schedule = |one: &Schedule| ScheduledTask {
            group: one.group.clone(),
            name: one.name.clone(),
            target: one.target.clone(),
            task_definition: one.from.clone(),
        };
        let schedules = service.schedules.iter().map(schedule).collect();
        let found = service.back_to.clone().map(|revision| Served { revision, schedules });
        record.keep_served(name, world.live.services.get(name), found);
    }
}

/// The plan of a service's way back to what served before the release.
fn way_back(service: &ServicePlan, served: Option<&Served>) -> ServicePlan {
    let Some(served) = served else { return service.clone() };
    let schedule = |one: &ScheduledTask| Schedule {
        group: one.group.clone(),
        name: one.name.clone(),
        target: one.target.clone(),
        from: one.task_definition.clone(),
    };
    // What an earlier run of the release has moved is not known to the plan of this one any more.
    let schedules = if served.schedules.is_empty() { service.schedules.clone() } else { served.schedules.iter().map(schedule).collect() };
    ServicePlan { back_to: Some(served.revision.clone()), schedules, ..service.clone() }
}

/// What the revisions of a release say of where they come from.
fn labels(record: &Record) -> BTreeMap<String, String> {
    let commit = record.commit.as_ref().map(|commit| ("windlass.commit".to_owned(), commit.to_string()));
    commit.into_iter().chain([("windlass.release".to_owned(), record.release.to_string())]).collect()
}

/// The services of the plan that a migration has stopped.
async fn stopped(world: &World, plan: &Plan) -> Result<BTreeMap<UnitName, StoppedService>, Failure> {
    let Some(journal) = world.journal.as_ref().filter(|_| world.stopped || plan.services.values().any(|service| service.tasks.is_some()))
    else {
        return Ok(BTreeMap::new());
    };
    let all = journal.stopped().await.map_err(|error| super::world::unreadable(error, "stopped services"))?;
    Ok(all.into_iter().filter(|(name, _)| plan.services.contains_key(name)).collect())
}

/// The plan, where services that are stopped start with the tasks that they had at that moment. One that nobody has stopped in the end
/// keeps those that it has.
fn started(plan: &Plan, stopped: &BTreeMap<UnitName, StoppedService>) -> Plan {
    let mut plan = plan.clone();
    for (name, service) in plan.services.iter_mut().filter(|(_, service)| service.tasks.is_some()) {
        service.tasks = stopped.get(name).map(|stopped| stopped.tasks);
        if service.tasks.is_none() && service.action == Action::Start {
            service.action = Action::Nothing;
        }
    }
    plan
}

/// Forgets what has tasks again, and lets its auto scaling go on. Gives what is still stopped.
async fn settle(world: &World, stopped: BTreeMap<UnitName, StoppedService>, events: &Events) -> BTreeMap<UnitName, StoppedService> {
    let mut still = BTreeMap::new();
    let Some(journal) = world.journal.as_ref().filter(|_| !stopped.is_empty()) else { return still };
    let mut written = journal.stopped().await.unwrap_or_else(|_| stopped.clone());
    for (name, service) in stopped {
        let now = world.aws.services(&service.cluster, &[&service.service]).await;
        if now.is_ok_and(|now| now.first().is_some_and(|now| now.desired == 0)) {
            still.insert(name, service);
            continue;
        }
        if service.scaling_suspended
            && let Err(error) = world.aws.suspend_scaling(&service.cluster, &service.service, false).await
        {
            events.note(format!("{name}: its auto scaling is still suspended, and could not be let go on: {error}"));
        }
        written.remove(&name);
    }
    if let Err(error) = journal.set_stopped(&written).await {
        events.note(format!("that services run again could not be written down ({error}); the next run will see it"));
    }
    still
}

/// Starts each service when its turn has come, and none any more once one has failed or the run is to end.
async fn roll(world: &World, plan: &Plan, record: &Record, shared: &Rollouts, stop: &Stop, sofar: &mut Sofar) {
    let at_once = plan.services_policy.at_once.max(1);
    let mut waiting: BTreeSet<&UnitName> = plan.services.keys().collect();
    let mut running = FuturesUnordered::new();
    loop {
        let goes_on = sofar.failures.is_empty() && stop.now().is_none();
        let is_done = |name: &UnitName| sofar.done.contains(name) || !plan.services.contains_key(name);
        let ready: Vec<&UnitName> =
            waiting.iter().copied().filter(|name| goes_on && plan.services[*name].after.iter().all(is_done)).collect();
        for name in ready {
            // What is unchanged waits for nobody.
            if running.len() >= at_once && plan.services[name].action != Action::Nothing {
                continue;
            }
            waiting.remove(name);
            running.push(one(world, plan, record, shared, name));
        }
        let Some((name, result)) = running.next().await else { return };
        match result {
            Ok(live) => {
                let recorded = world.live.services.get(name).map(|recorded| &recorded.image);
                if plan.services[name].action != Action::Nothing {
                    sofar.rolled.insert(name.clone(), live);
                } else if recorded != Some(&live.image) {
                    sofar.unsaid.insert(name.clone(), live);
                }
                sofar.done.insert(name.clone());
            }
            Err(failure) => sofar.failures.push((name.clone(), failure)),
        }
    }
}

async fn one<'a>(
    world: &World,
    plan: &'a Plan,
    record: &Record,
    shared: &Rollouts,
    name: &'a UnitName,
) -> (&'a UnitName, Result<LiveService, Failure>) {
    let service = &plan.services[name];
    let work = async {
        let image = resolve(&service.image, record)?;
        // It runs already, and the record knows of another: an earlier run may have been killed before it had seen it well.
        let before = world.live.services.get(name).filter(|live| live.image != image && service.action == Action::Nothing);
        if let Some(before) = before.filter(|_| service.health.is_some()) {
            execute_health::confirm(shared, name, service, &before.revision).await?;
        }
        let revision = execute::roll(shared, name, service, &image, world.bases.get(name)).await?;
        Ok(LiveService { release: record.release.clone(), commit: record.commit.clone(), image, revision })
    };
    (name, work.await)
}

/// Waits until the run is to end, and until ECS has been told what it is being told.
async fn ending(stop: &Stop, shared: &Rollouts) -> Exit {
    let exit = stop.clone().wanted().await;
    let since = tokio::time::Instant::now();
    while shared.is_telling() && since.elapsed() < TELLING {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    exit
}

/// The run ends before its rollouts have: one line says what goes on, and the hint how to go on with it.
async fn left(shared: &Rollouts, stop: bool, exit: Exit, plan: &Plan, sofar: &Sofar) -> Failure {
    let mut goes_on = shared.leave(stop).await;
    let untouched = plan.services.iter().filter(|(_, service)| service.action != Action::Nothing).count();
    let untouched = untouched.saturating_sub(goes_on.len() + sofar.rolled.len() + sofar.failures.len());
    if goes_on.is_empty() {
        goes_on.push("no rollout is under way".to_owned());
    }
    if untouched > 0 {
        goes_on.push(format!("{untouched} more {} not begun", if untouched == 1 { "has" } else { "have" }));
    }
    let failure = Failure::new(exit, "stopped during the stage `services`").because(goes_on.join("; "));
    failure.hint(if stop {
        "run the same command again to release; `windlass status` says what serves"
    } else {
        "run the same command again to watch on; with --on-abort stop a signal rolls back what has not ended"
    })
}

/// Where some services are new and others old, that is what a person has to know first.
fn mixed(failure: Failure, new: &[&UnitName]) -> Failure {
    if new.is_empty() || failure.exit() == Exit::NotRolledBack {
        return failure;
    }
    let new: Vec<&str> = new.iter().map(|name| name.as_str()).collect();
    let hint = format!("new: {}; the others are as before; correct the cause and release again", new.join(", "));
    Failure::new(Exit::Mixed, "some services are new, others old").because(failure).hint(hint)
}

/// The policy brings those back that the release has brought, in this run or an earlier one.
async fn go_back(
    world: &mut World,
    plan: &Plan,
    record: &Record,
    shared: &Rollouts,
    failure: Failure,
    rolled: &BTreeMap<UnitName, LiveService>,
) -> Failure {
    let mut back: FuturesUnordered<_> = rolled
        .iter()
        .map(|(name, live)| async move {
            let way = way_back(&plan.services[name], record.served.get(name));
            (name, execute_leave::undo(shared, name, &way, &live.revision).await)
        })
        .collect();
    let mut not_back = None;
    let mut again = Vec::new();
    while let Some((name, result)) = back.next().await {
        match result {
            Ok(()) => again.push(name),
            Err(failure) => not_back = Some(failure),
        }
    }
    drop(back);
    for name in &again {
        match record.before.services.get(*name) {
            Some(before) => drop(world.live.services.insert((*name).clone(), before.clone())),
            None => drop(world.live.services.remove(*name)),
        }
    }
    if let Err(unsaved) = world.save_live(Stage::Services).await {
        return unsaved;
    }
    not_back.unwrap_or(failure)
}
