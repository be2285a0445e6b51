//! One release on many machines: begun by one, built by several at once, gone on with by the one that waits for them all.
//!
//! Images take no lock: a push is named by its content, and changes nothing that is live. So that nobody writes over anybody, each
//! machine writes what it has done to a key of its own; whoever reads the record next, under the lock or not, adds them up. `assets`
//! takes the lock, since the keys that it writes could be live by then; its builds are done before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::event::{Event, Events, Outcome, StepRan};
use crate::journal::{Journal, Ran, Record, Run};
use crate::model::{Exit, Failure, ImageUri, Made, ReleaseId, Sha256, Stage, UnitName};
use crate::site::plan::SitePlan;

use super::prepare::{self, Purpose};
use super::{Released, Request, Stop, commit, preflight, run, world};

/// What one machine has done of a release: `parts/ID/….json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    format: u32,
    run: Run,
    images: BTreeMap<UnitName, ImageUri>,
    #[serde(default)]
    made: BTreeMap<UnitName, Made>,
    stages: BTreeMap<Stage, Ran>,
    steps: Vec<StepRan>,
}

/// A release's record, with all that other machines have done of it.
pub(super) async fn record(journal: &Journal, id: &ReleaseId) -> Result<Option<Record>, Failure> {
    let unreadable = |error| world::unreadable(error, "record");
    let Some(record) = journal.record(id).await.map_err(unreadable)? else { return Ok(None) };
    let parts: Vec<Part> = journal.parts(id).await.map_err(unreadable)?;
    Ok(Some(joined(record, parts)))
}

fn joined(mut record: Record, parts: Vec<Part>) -> Record {
    for part in parts {
        let known = |run: &Run| run.started == part.run.started && run.at == part.run.at && run.by == part.run.by;
        if record.runs.iter().any(known) {
            continue;
        }
        record.runs.push(part.run);
        record.images.extend(part.images);
        record.made.extend(part.made);
        record.steps.extend(part.steps);
        for (stage, ran) in part.stages {
            if record.stages.get(&stage).is_none_or(|known| known.ended < ran.ended) {
                record.stages.insert(stage, ran);
            }
        }
    }
    record.runs.sort_by_key(|run| run.started);
    record.steps.sort_by_key(|step| step.ended);
    record
}

/// Writes the record of a release of which nothing has been done.
pub(super) async fn begin(request: &Request, events: &Events) -> Result<ReleaseId, Failure> {
    let (aws, _) = preflight::connect_and_identify(request, events).await?;
    let journal = journal(request, &aws)?;
    let (commit, dirty) = commit::commit(&request.project, &request.environment).await;
    let config = &request.project.config;
    let environment = config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default();
    let id = run::id_of(OffsetDateTime::now_utc(), commit.as_ref())?;
    let earlier = journal.releases().await.map_err(|error| world::unreadable(error, "records"))?;
    let id = earlier.first().map_or(id.clone(), |previous| run::later_than(previous, id.clone()));
    let record = Record {
        committed: commit::made(&request.project, &request.environment).await,
        dirty,
        before: journal.live().await.map_err(|error| world::unreadable(error, "what is live"))?,
        ..Record::start(id.clone(), config.app.clone(), environment, commit)
    };
    journal.set_record(&record).await.map_err(|error| world::unwritable(error, "record", None))?;
    Ok(id)
}

/// The newest release of the checkout's commit.
pub(super) async fn of_commit(request: &Request, events: &Events) -> Result<ReleaseId, Failure> {
    let (aws, _) = preflight::connect_and_identify(request, events).await?;
    let journal = journal(request, &aws)?;
    let (commit, _) = commit::commit(&request.project, &request.environment).await;
    let Some(commit) = commit else {
        let failure = Failure::new(Exit::Preflight, "the checkout does not say which commit it is; nothing was changed");
        return Err(failure.hint("name the release by its id, which `windlass begin` has printed"));
    };
    let ids = journal.releases().await.map_err(|error| world::unreadable(error, "records"))?;
    // Ids end with the short commit, which another commit may share.
    for id in ids.iter().filter(|id| id.as_str().ends_with(&format!("-{}", commit.short()))) {
        let record = journal.record(id).await.map_err(|error| world::unreadable(error, "record"))?;
        if record.is_some_and(|record| record.commit.as_ref() == Some(&commit)) {
            return Ok(id.clone());
        }
    }
    let failure = Failure::new(Exit::Preflight, format!("no release of commit {} has begun; nothing was changed", commit.short()));
    Err(failure.hint("run `windlass begin` first, on one machine"))
}

/// Refuses to publish a site that has not been brought up to its end: the machine that had to was never started, has failed or was killed.
/// A release that is for many machines (`begin`) is of all sites, unless some are named.
pub(super) fn are_whole(
    record: &Record,
    chosen: &BTreeSet<UnitName>,
    known: &BTreeSet<UnitName>,
    going_on: &BTreeMap<UnitName, SitePlan>,
) -> Result<(), Failure> {
    // Whoever begins a release with a plan says what it is to bring.
    let begun = record.intent.is_none();
    let absent = chosen.iter().filter(|name| begun && !known.contains(*name)).map(|name| (name, "no machine has uploaded it"));
    let uploaded = |name: &UnitName| {
        let own = |step: &StepRan| step.stage == Some(Stage::Assets) && step.unit == name.as_str() && step.action == "upload";
        record.steps.iter().any(|step| own(step) && step.outcome != Outcome::Failed)
    };
    let cut_off = going_on.iter().filter(|(name, site)| !site.is_empty() && !uploaded(name));
    let missing: Vec<(&UnitName, &str)> =
        absent.chain(cut_off.map(|(name, _)| (name, "the machine that uploaded it has not come to its end"))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let why: Vec<String> = missing.iter().map(|(name, what)| format!("site `{name}`: {what}")).collect();
    let failure = Failure::new(Exit::Preflight, format!("the release `{}` is not whole; nothing was changed", record.release));
    let hint = format!("run `windlass stage assets {} --release {}`, then this again", names.join(" "), record.release);
    Err(failure.because(why.join("; ")).hint(hint))
}

fn journal(request: &Request, aws: &crate::aws::Aws) -> Result<Journal, Failure> {
    world::journal(&request.project.config, aws).ok_or_else(|| {
        let failure = Failure::new(Exit::Preflight, "a release cannot be shared by machines: `state: none` keeps none");
        failure.hint("name a bucket under `state`, or run `windlass release` in one go")
    })
}

/// Builds and pushes images of a release, at the same time as others may.
pub(super) async fn images(request: &Request, id: &ReleaseId, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    let (mut world, plan) = Box::pin(prepare::prepare(request, &[Stage::Images], Some(id), Purpose::Free, events, stop)).await?;
    let plan = Arc::new(plan);
    let config = &request.project.config;
    request.witness.planned(config, &plan);
    let (Some(record), false) = (world.record.take(), plan.is_empty()) else { return Ok(Released { release: Some(id.clone()), plan }) };
    let mut record = Record {
        runs: vec![run::begins(request, &world, &plan)],
        images: BTreeMap::new(),
        made: BTreeMap::new(),
        stages: BTreeMap::new(),
        steps: Vec::new(),
        ..record
    };
    request.witness.recorded(config, &plan, &record);
    let short = plan.commit.as_ref().map(|commit| commit.short().to_owned());
    events.send(Event::ReleaseStarted { release: id.clone(), commit: short });
    let result = Box::pin(run::in_order(&mut world, &plan, &mut record, &[], None, events, stop)).await;
    run::close(&mut record, &[], result.as_ref().err(), events);
    request.witness.recorded(config, &plan, &record);
    let saved = match (&world.journal, record.runs.pop()) {
        (Some(journal), Some(run)) => {
            let name = format!("{}-{}-{}", run.started.unix_timestamp_nanos(), std::process::id(), Sha256::of(run.at.as_bytes()));
            let part = Part { format: 1, run, images: record.images, made: record.made, stages: record.stages, steps: record.steps };
            let saved = journal.set_part(id, &name, &part).await;
            saved.map_err(|error| world::unwritable(error, "what this machine has done", Some(Stage::Images)))
        }
        _ => Ok(()),
    };
    result?;
    saved.map(|()| Released { release: Some(id.clone()), plan })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: &str, second: i64) -> Run {
        Run {
            by: String::new(),
            at: at.to_owned(),
            pipeline: None,
            system: None,
            links: BTreeMap::new(),
            stages: vec![Stage::Images],
            started: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            ended: None,
            exit: Some(0),
            failure: None,
        }
    }

    #[test]
    fn parts_are_added_up_once_in_the_order_of_time() {
        let image: ImageUri = format!("r/api@sha256:{}", "1".repeat(64)).parse().unwrap();
        let part = |at: &str, second: i64, unit: &str| Part {
            format: 1,
            run: run(at, second),
            images: BTreeMap::from([(unit.parse().unwrap(), image.clone())]),
            made: BTreeMap::new(),
            stages: BTreeMap::new(),
            steps: Vec::new(),
        };
        let start = Record::start("1-a".parse().unwrap(), "shop".parse().unwrap(), String::new(), None);
        let start = Record { runs: vec![run("first", 1), run("last", 9)], ..start };
        let parts = || vec![part("b", 5, "web"), part("a", 3, "api")];
        let once = joined(start, parts());
        assert_eq!(once.runs.iter().map(|run| run.at.as_str()).collect::<Vec<_>>(), ["first", "a", "b", "last"]);
        assert_eq!(once.images.len(), 2);
        assert_eq!(joined(once.clone(), parts()), once);
    }
}
