//! One run of a release: take the lock, look again, go through the stages, write down what came of it.

use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

use crate::event::{Event, Events, Outcome};
use crate::journal::{JournalError, Lease, Ran, Record, Run};
use crate::model::{Commit, Exit, Failure, ImageRef, ReleaseId, Sha256, Stage};
use crate::plan::Plan;
use crate::service::plan::Action;
use crate::site::plan::Known;

use super::prepare::{self, Purpose};
use super::{Released, Request, Stop, World, commit, history, lease, older, parts, same, saved, services, stages, stopped, world};

/// How often a plan is drawn because what is live has moved under it: each of several that wait for the lock may move it once.
const DRAWINGS: usize = 12;

/// Draws the plan of `stages` and carries it out.
pub(super) async fn run(
    request: &Request,
    stages: &[Stage],
    release: Option<ReleaseId>,
    events: &Events,
    stop: &Stop,
) -> Result<Released, Failure> {
    let going_on = release.clone();
    let draw = async || Box::pin(prepare::prepare(request, stages, going_on.as_ref(), Purpose::Locked, events, stop)).await;
    under_lock(request, draw, release, events, stop).await
}

/// Draws a plan and carries it out, under the lock where there is anything to do.
pub(super) async fn under_lock(
    request: &Request,
    draw: impl AsyncFn() -> Result<(World, Plan), Failure>,
    release: Option<ReleaseId>,
    events: &Events,
    stop: &Stop,
) -> Result<Released, Failure> {
    let mut drawings = 0;
    loop {
        drawings += 1;
        let (mut world, plan) = draw().await?;
        let plan = Arc::new(plan);
        request.witness.planned(&request.project.config, &plan);
        if plan.is_empty() && !lags(&world, &plan) {
            // What a rollback cannot bring back is there also where there is nothing else to bring back.
            for stays in &plan.stays {
                events.note(stays);
            }
            same::say(&world, &plan, events).await?;
            return Ok(Released { release, plan });
        }
        if plan.is_empty() {
            events.note("what is live is as it should be, and is written down");
        }
        let id = match &release {
            Some(id) => id.clone(),
            None => new_id(OffsetDateTime::now_utc(), &plan)?,
        };
        older::refuse_early(request, &world, &plan, events).await?;
        let lease = lease::take(request, &world, &id, events, stop).await?;
        let id = match (&release, lease.as_ref().and_then(|lease| lease.previous.iter().max())) {
            (None, Some(previous)) => later_than(previous, id),
            _ => id,
        };
        let moved = match lease::moved(request, &world, &plan, lease.as_ref()).await {
            Ok((moved, live)) if moved.is_empty() => {
                world.live = live.unwrap_or(world.live);
                return Box::pin(locked(request, &mut world, plan, id, lease, events, stop)).await;
            }
            moved => moved,
        };
        let_go(lease, events).await;
        let (moved, _) = moved?;
        if drawings == DRAWINGS {
            let failure = Failure::new(Exit::StalePlan, "what is live moves faster than plans can be drawn; nothing was changed");
            return Err(failure.because(moved.join("; ")).hint("find out what else writes to this environment, and run again"));
        }
        events.note(format!("what is live has moved ({}): the plan is drawn anew", moved.join("; ")));
    }
}

/// Lets go of the lock. That it ends by itself otherwise is no reason to fail.
pub(super) async fn let_go(lease: Option<Lease>, events: &Events) {
    if let Some(lease) = lease
        && let Err(error) = lease.release().await
    {
        events.note(format!("the lock could not be let go of ({error}): its lease ends by itself"));
    }
}

/// Is something live as it should be, without the record saying so? An earlier run was killed in between, or somebody else has made it.
fn lags(world: &World, plan: &Plan) -> bool {
    if world.journal.is_none() || plan.restores.is_some() {
        return false;
    }
    let site = plan.stages.contains(&Stage::Publish) && plan.sites.values().any(|site| site.known == Known::Listing);
    let service = plan.services.iter().any(|(name, service)| {
        let recorded = world.live.services.get(name).map(|live| &live.image);
        service.action == Action::Nothing && matches!(&service.image, ImageRef::Known(image) if recorded != Some(image))
    });
    site || service
}

/// Carries the plan out under the lock, and lets go of it whatever happens.
pub(super) async fn locked(
    request: &Request,
    world: &mut World,
    plan: Arc<Plan>,
    id: ReleaseId,
    lease: Option<Lease>,
    events: &Events,
    stop: &Stop,
) -> Result<Released, Failure> {
    let result = Box::pin(recorded(request, world, &plan, id, lease.as_ref(), events, stop)).await;
    let_go(lease, events).await;
    result.map(|release| Released { release: Some(release), plan })
}

async fn recorded(
    request: &Request,
    world: &mut World,
    plan: &Plan,
    id: ReleaseId,
    lease: Option<&Lease>,
    events: &Events,
    stop: &Stop,
) -> Result<ReleaseId, Failure> {
    let record = match (world.record.take(), &world.journal) {
        // Another machine may have gone on with it since it was read.
        (Some(given), Some(journal)) => parts::record(journal, &given.release).await?.or(Some(given)),
        (Some(given), None) => Some(given),
        (None, _) => unfinished(world, plan, lease, events).await?,
    };
    if plan.restores.is_none() {
        older::refuse(request, world, &world.live, plan, record.as_ref().map(|record| &record.release), events).await?;
    }
    let mut record = match record {
        Some(record) => record,
        None => Record {
            committed: match (&plan.restores, &plan.promotes) {
                (None, None) => commit::made(&request.project, &request.environment).await,
                _ => world.committed,
            },
            dirty: plan.dirty,
            restores: plan.restores.clone(),
            promotes: plan.promotes.clone(),
            intent: Some(intent(plan)?),
            before: world.live.clone(),
            ..Record::start(id.clone(), plan.app.clone(), plan.environment.clone(), plan.commit.clone())
        },
    };
    if let Some(lease) = lease {
        lease.hold_for(&record.release).await.map_err(|error| world::unwritable(error, "lock", None))?;
    }
    for stays in &plan.stays {
        events.note(stays);
    }
    if !record.runs.is_empty() {
        events.note(format!("going on with release {}, run {}", record.release, record.runs.len() + 1));
    }
    let goes_on = !record.runs.is_empty();
    record.runs.push(begins(request, world, plan));
    services::keep_served(world, plan, &mut record);
    let short = plan.commit.as_ref().map(|commit| commit.short().to_owned());
    request.witness.recorded(&request.project.config, plan, &record);
    events.send(Event::ReleaseStarted { release: record.release.clone(), commit: short });
    let earlier = record.steps.clone();
    futures_util::future::try_join(world.save_plan(&record.release, plan, goes_on), world.save_record(&record, None)).await?;
    let result = Box::pin(in_order(world, plan, &mut record, &earlier, lease, events, stop)).await;
    let result = result.map_err(|failure| match lease {
        Some(lease) if lease.has_ended() || lease::is_lost(&failure) => lease::ended(lease, &record.release, Some(failure)),
        _ => failure,
    });
    let saved = end(world, &mut record, &earlier, result.as_ref().err(), plan, events).await;
    request.witness.recorded(&request.project.config, plan, &record);
    result?;
    saved?;
    Ok(record.release)
}

/// A run that begins now.
pub(super) fn begins(request: &Request, world: &World, plan: &Plan) -> Run {
    Run {
        by: world.caller.clone().unwrap_or_default(),
        at: request.origin.at.clone(),
        pipeline: request.origin.pipeline.clone(),
        system: request.origin.system,
        links: request.origin.links.clone(),
        stages: plan.stages.clone(),
        started: OffsetDateTime::now_utc(),
        ended: None,
        exit: None,
        failure: None,
    }
}

/// Goes through the stages until one fails, somebody wants to stop, or the lock is lost.
pub(super) async fn in_order(
    world: &mut World,
    plan: &Plan,
    record: &mut Record,
    earlier: &[crate::event::StepRan],
    lease: Option<&Lease>,
    events: &Events,
    stop: &Stop,
) -> Result<(), Failure> {
    for (at, &stage) in plan.stages.iter().enumerate() {
        if let Some(exit) = stop.now() {
            return Err(stopped(exit, &format!("the release, before its stage `{stage}`")));
        }
        let start = Instant::now();
        events.send(Event::StageStarted { stage });
        let result =
            until_lost(stage, lease, record.release.clone(), Box::pin(stages::run(stage, world, plan, record, events, stop))).await;
        let outcome = match &result {
            Ok(()) if plan.changes_in(stage) => Outcome::Done,
            Ok(()) => Outcome::Unchanged,
            Err(_) => Outcome::Failed,
        };
        events.send(Event::StageFinished { stage, outcome, seconds: start.elapsed().as_secs_f64() });
        let failure = result.as_ref().err().map(|failure| events.masked(&failure.to_string()));
        record.stages.insert(stage, Ran { outcome, failure, ended: OffsetDateTime::now_utc() });
        result?;
        // A stage without anything to do is worth no request of its own, and the last one is written down with the end of the run.
        if outcome == Outcome::Done && at + 1 < plan.stages.len() {
            record.steps = [earlier, &events.ran()].concat();
            world.save_record(record, Some(stage)).await?;
        }
    }
    Ok(())
}

/// Drops the work of a stage when the lock is lost, except where that would make its outcome unknown.
async fn until_lost(
    stage: Stage,
    lease: Option<&Lease>,
    release: ReleaseId,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let Some(lease) = lease.filter(|_| stage != Stage::Migrations) else { return work.await };
    tokio::select! {
        biased;
        result = work => result,
        _ = lease.lost() => Err(lease::ended(lease, &release, None)),
    }
}

/// Writes down how the run ended.
async fn end(
    world: &World,
    record: &mut Record,
    earlier: &[crate::event::StepRan],
    failure: Option<&Failure>,
    plan: &Plan,
    events: &Events,
) -> Result<(), Failure> {
    record.after = world.live.clone();
    close(record, earlier, failure, events);
    world.save_record(record, plan.stages.last().copied()).await
}

/// Says in the record how its last run has ended.
pub(super) fn close(record: &mut Record, earlier: &[crate::event::StepRan], failure: Option<&Failure>, events: &Events) {
    record.steps = [earlier, &events.ran()].concat();
    if let Some(run) = record.runs.last_mut() {
        run.ended = Some(OffsetDateTime::now_utc());
        run.exit = Some(failure.map_or(0, |failure| failure.exit().code()));
        run.failure = failure.map(|failure| events.masked(&[vec![failure.to_string()], failure.causes()].concat().join(": ")));
    }
}

/// The release that the lock was held for last, if it is unfinished and was to bring the same: then this is its next run.
async fn unfinished(world: &World, plan: &Plan, lease: Option<&Lease>, events: &Events) -> Result<Option<Record>, Failure> {
    let (Some(journal), Some(lease)) = (&world.journal, lease) else { return Ok(None) };
    let mut record = None;
    for previous in &lease.previous {
        match journal.record_or_why(previous).await.map_err(|error| world::unreadable(error, "record"))? {
            // Whoever held the lock for it was killed before it began.
            Ok(None) => continue,
            Ok(found) => record = found,
            Err(error @ JournalError::Newer { .. }) => return Err(world::unreadable(error, "record")),
            // Nobody can go on with it: this is a release of its own.
            Err(why) => events.note(history::unreadable_record(why)),
        }
        break;
    }
    let intent = intent(plan)?;
    Ok(record.filter(|record| !record.is_done() && record.intent == Some(intent)))
}

/// A digest of what the plan is to bring, whatever of it is live already.
pub(super) fn intent(plan: &Plan) -> Result<Sha256, Failure> {
    let image = |reference: &ImageRef| saved::image_of(plan, reference);
    let sites: Vec<_> = plan
        .sites
        .iter()
        .map(|(name, site)| {
            let files: Vec<_> = site.manifest.files.iter().map(|(key, file)| (key, file.sha256, &file.headers)).collect();
            (name, &site.manifest.place, files)
        })
        .collect();
    let migrations: Vec<_> = plan.migrations.iter().map(|(name, migration)| (name, migration.place(), image(&migration.image))).collect();
    let services: Vec<_> = plan
        .services
        .iter()
        .map(|(name, service)| (name, &service.cluster, &service.service, &service.container, image(&service.image)))
        .collect();
    let all = (&plan.app, &plan.environment, &plan.commit, &plan.restores, &plan.stages, sites, migrations, services);
    Sha256::of_json(&all).map_err(|error| Failure::new(Exit::Bug, "writing a plan as JSON failed").because(error))
}

/// Ids sort by time, and name the commit for those who read them.
pub(super) fn new_id(now: OffsetDateTime, plan: &Plan) -> Result<ReleaseId, Failure> {
    id_of(now, plan.commit.as_ref())
}

/// An id that sorts after that of the release before, which a machine whose clock is ahead may have made: what came first is known by ids.
pub(super) fn later_than(previous: &ReleaseId, id: ReleaseId) -> ReleaseId {
    if *previous < id {
        return id;
    }
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second][subsecond digits:3]");
    let later = || {
        let (time, _) = previous.as_str().split_once('Z')?;
        let time = time::PrimitiveDateTime::parse(time, format).ok()? + std::time::Duration::from_millis(1);
        let (_, name) = id.as_str().split_once('Z')?;
        format!("{}Z{name}", time.format(format).ok()?).parse().ok()
    };
    later().unwrap_or(id)
}

pub(super) fn id_of(now: OffsetDateTime, commit: Option<&Commit>) -> Result<ReleaseId, Failure> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second][subsecond digits:3]Z");
    let bug = |error: &dyn std::fmt::Display| Failure::new(Exit::Bug, format!("making a release id failed: {error}"));
    let time = now.format(format).map_err(|error| bug(&error))?;
    let commit = commit.map_or("local", |commit| commit.short());
    format!("{time}-{commit}").parse().map_err(|error| bug(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_up_although_clocks_differ() {
        let id = |text: &str| text.parse::<ReleaseId>().unwrap();
        let ours = "20261121T120000000Z-1a2b3c4d";
        assert_eq!(later_than(&id("20261121T115959999Z-00000000"), id(ours)), id(ours));
        assert_eq!(later_than(&id("20261121T120059999Z-00000000"), id(ours)), id("20261121T120100000Z-1a2b3c4d"));
        assert_eq!(later_than(&id("of-somebody-else"), id(ours)), id(ours), "what has no time cannot be added to");
    }
}
