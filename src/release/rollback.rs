//! Goes back to what an earlier release left live.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use crate::aws::Aws;
use crate::config::Config;
use crate::event::Events;
use crate::journal::{Journal, Live, LiveService, Published, Record};
use crate::model::{Exit, Failure, Refusal, ReleaseId, Sha256, UnitName};
use crate::plan::{self, Plan, back};
use crate::site::observe::Look;
use crate::site::plan::Manifest;
use crate::{cdn, service, site};

use super::ahead::{Ahead, ahead, blocked};
use super::{Released, Request, Stop, World, history, preflight, prepare, run, world};

/// Goes back to `to`, or to the release before what is live.
pub(super) async fn rollback(request: &Request, to: Option<&ReleaseId>, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    let draw = async || Box::pin(prepare(request, to, events)).await;
    run::under_lock(request, draw, None, events, stop).await
}

/// Draws the plan of a rollback, and writes nothing.
pub(super) async fn prepare(request: &Request, to: Option<&ReleaseId>, events: &Events) -> Result<(World, Plan), Failure> {
    let config = &request.project.config;
    let chosen = super::scope::scope(config, &request.units, &crate::model::Stage::ALL)?;
    let (aws, identity) = preflight::connect_and_identify(request, events).await?;
    let Some(journal) = world::journal(config, &aws) else {
        let failure = Failure::new(Exit::Preflight, "there is nothing to go back to: `state: none` keeps nothing");
        return Err(failure.hint("release the commit that is wanted, or name a bucket under `state` for the next time"));
    };
    let live = journal.live().await.map_err(|error| world::unreadable(error, "what is live"))?;
    let units: BTreeSet<UnitName> = chosen.sites.iter().chain(&chosen.services).cloned().collect();
    let (target, newer) = target(&journal, &live, to, &units, events).await?;
    let ahead = ahead(&live, &target.after, &newer);
    let blocked = blocked(config, &newer);
    let mut back = back::Back {
        release: target.restores.clone().unwrap_or_else(|| target.release.clone()),
        commit: target.commit.clone(),
        sites: BTreeMap::new(),
        services: BTreeMap::new(),
        stays: ahead.iter().map(Ahead::to_string).chain(blocked).collect(),
    };
    let mut refusals: Vec<Refusal> = ahead.iter().filter_map(|one| one.refusal(config, &chosen.services)).collect();
    for (name, before) in target.after.sites.iter().filter(|(name, _)| units.contains(*name)) {
        let found = site(&aws, &journal, config, name, &before.release, request.look).await?;
        refusals.extend(site::back::refusal(name, &config.sites[name], &found));
        back.sites.insert(name.clone(), found);
    }
    for (name, before) in target.after.services.iter().filter(|(name, _)| units.contains(*name)) {
        match service::observe::service(&aws, name, &config.services[name]).await? {
            service::plan::Found::Service(found) => {
                let served =
                    back::Served { image: before.image.clone(), revision: revision(&aws, name, before, events).await?, found: *found };
                back.services.insert(name.clone(), served);
            }
            found => refusals.extend(service::plan::refusal(name, &config.services[name], &found)),
        }
    }
    refuse(&refusals)?;
    let mut observed = plan::Observed { account: Some(identity.account), region: aws.region().to_owned(), ..plan::Observed::default() };
    for id in back.sites.keys().filter_map(|name| config.sites[name].distribution.as_ref()) {
        let found = cdn::observe::distribution(&aws, id).await?;
        observed.distributions.extend(found.map(|found| (id.clone(), found)));
    }
    observed.tasks = back.services.iter().map(|(name, served)| (name.clone(), served.found.tasks.0)).collect();
    observed.stopped = prepare::stopped(config, Some(&journal), &observed.tasks).await?;
    let mut plan = back::draw(config, &observed, &back);
    for (name, service) in &mut plan.services {
        if let Some(tasks) = plan::stopped(&observed, name) {
            *service = service.clone().stopped(tasks);
        }
    }
    let stopped = !observed.stopped.is_empty();
    let world = World::of(request, aws, Some(journal), live, Some(identity.arn))?;
    Ok((World { stopped, ..world }, plan))
}

fn refuse(refusals: &[Refusal]) -> Result<(), Failure> {
    let Some(first) = refusals.first() else { return Ok(()) };
    let all: Vec<&str> = refusals.iter().map(|refusal| refusal.what.as_str()).collect();
    let failure = Failure::new(Exit::Preflight, "the way back is not open; nothing was changed").because(all.join("\n   "));
    Err(failure.hint(first.cure.clone()))
}

/// The record of the release to go back to, and those of all that came after it, the newest first.
async fn target(
    journal: &Journal,
    live: &Live,
    to: Option<&ReleaseId>,
    units: &BTreeSet<UnitName>,
    events: &Events,
) -> Result<(Record, Vec<Record>), Failure> {
    let unreadable = |error| world::unreadable(error, "record");
    let ids = journal.releases().await.map_err(unreadable)?;
    let read = async |id: &ReleaseId| match journal.record_or_why(id).await.map_err(unreadable)? {
        Ok(record) => Ok::<_, Failure>(record),
        Err(why) if to == Some(id) => Err(unreadable(why)),
        Err(why) => {
            events.note(history::unreadable_record(why));
            Ok(None)
        }
    };
    let last = match ids.first() {
        Some(id) if to.is_none() => read(id).await?.filter(|record| !record.is_done()),
        _ => None,
    };
    // A rollback stands for the release that it has brought back.
    let stands_for = async |id: &ReleaseId| Ok(read(id).await?.and_then(|record| record.restores).unwrap_or_else(|| id.clone()));
    let (mut to, mut cut_off) = (to.cloned(), None);
    match last {
        // A rollback that was cut off is gone on with.
        Some(Record { restores: Some(restores), .. }) => to = Some(restores),
        // Nobody knows how much of it is live. What was live before it is wanted, and not what came before that.
        Some(last) if is_of(journal, &last, units).await => {
            let Some(before) = live_releases(&last.before, units).max() else {
                return Err(nothing(&format!("release {} has not come to its end, and nothing is recorded from before it", last.release)));
            };
            let before = stands_for(before).await?;
            if read(&before).await?.is_some_and(|record| record.is_done()) {
                events.note(format!(
                    "release {} has not come to a good end: this goes back to what was live before it, {before}; to go further back, name a \
                     release of `windlass history`",
                    last.release
                ));
                to = Some(before);
            } else {
                cut_off = Some(last.release);
            }
        }
        _ => {}
    }
    let from = match (cut_off, live_releases(live, units).max()) {
        (Some(cut_off), _) => cut_off,
        (None, Some(newest)) => stands_for(newest).await?,
        (None, None) => return Err(nothing("no release of these units is recorded")),
    };
    let mut newer = Vec::new();
    for id in &ids {
        let Some(record) = read(id).await? else { continue };
        let wanted = match &to {
            Some(to) => record.release == *to,
            None => record.release < from && record.restores.is_none() && record.is_done() && differs(&record.after, live, units),
        };
        if !wanted {
            newer.push(record);
        } else if record.is_done() {
            return Ok((record, newer));
        } else {
            let failure = Failure::new(Exit::Preflight, format!("release {id} did not come to a good end, and cannot be gone back to"));
            return Err(failure.hint("`windlass history` says which did"));
        }
    }
    match to {
        Some(to) => {
            let failure = Failure::new(Exit::Preflight, format!("there is no release `{to}` in the state; nothing was changed"));
            Err(failure.hint("`windlass history` names them"))
        }
        None => Err(nothing("no earlier release left these units other than they are now")),
    }
}

fn nothing(why: &str) -> Failure {
    let failure = Failure::new(Exit::Preflight, "there is nothing to go back to; nothing was changed").because(why.to_owned());
    failure.hint("`windlass history` names all releases; name one, or release the commit that is wanted")
}

/// Has a release run that was to change any of the units? Where its plan is not kept, it may have.
async fn is_of(journal: &Journal, record: &Record, units: &BTreeSet<UnitName>) -> bool {
    let plan: Option<Plan> = journal.plan(&record.release).await.unwrap_or_default();
    let names = |plan: Plan| units.iter().any(|unit| plan.sites.contains_key(unit) || plan.services.contains_key(unit));
    !record.runs.is_empty() && plan.is_none_or(names)
}

fn live_releases<'a>(live: &'a Live, units: &'a BTreeSet<UnitName>) -> impl Iterator<Item = &'a ReleaseId> {
    let sites = live.sites.iter().map(|(name, live)| (name, &live.release));
    let services = live.services.iter().map(|(name, live)| (name, &live.release));
    sites.chain(services).filter(|(name, _)| units.contains(*name)).map(|(_, release)| release)
}

/// Was any of the units live otherwise then?
fn differs(then: &Live, now: &Live, units: &BTreeSet<UnitName>) -> bool {
    let mut sites = then.sites.iter().filter(|(name, _)| units.contains(*name));
    let mut services = then.services.iter().filter(|(name, _)| units.contains(*name));
    sites.any(|(name, then)| now.sites.get(name).is_none_or(|now| now.release != then.release))
        || services.any(|(name, then)| now.services.get(name).is_none_or(|now| now.revision != then.revision))
}

/// What a release has published of a site, what is live, and what of it is still to be had.
async fn site(
    aws: &Aws,
    journal: &Journal,
    config: &Config,
    name: &UnitName,
    release: &ReleaseId,
    look: Look,
) -> Result<site::back::Found, Failure> {
    let settings = &config.sites[name];
    let unreadable = |error| world::unreadable(error, "manifest");
    let target: Option<Published<Manifest>> = journal.site_of(name, release).await.map_err(unreadable)?;
    let target = target.ok_or_else(|| {
        let failure = Failure::new(Exit::Preflight, format!("site `{name}`: the manifest of release {release} is not in the state"));
        failure.hint("nothing was changed; release that commit anew")
    })?;
    let live = site::observe::published(Some(journal), name, settings).await?.unwrap_or_default();
    let mut found = site::observe::back(aws, settings, name, target.manifest, live, look).await?;
    let kept = found.bodies().into_iter().map(|digest| async move {
        let head = aws.head_object(journal.bucket(), &journal.body_key(&digest)).await;
        head.map(|head| head.map(|_| digest)).map_err(|error| world::unreadable(error.into(), "bodies"))
    });
    let kept: Vec<Option<Sha256>> = try_join_all(kept).await?;
    found.kept = kept.into_iter().flatten().collect();
    Ok(found)
}

/// The recorded revision, if it can be run again.
async fn revision(aws: &Aws, name: &UnitName, before: &LiveService, events: &Events) -> Result<Option<String>, Failure> {
    let found = match aws.task_definition(&before.revision).await {
        Ok(found) => Some(found),
        Err(error) if error.is_not_found() => None,
        Err(error) => {
            let failure = Failure::new(Exit::Preflight, format!("service `{name}`: looking at the revision that served failed"));
            return Err(failure.because(error).hint("nothing was changed; run again"));
        }
    };
    if found.is_some_and(|found| found.status == "ACTIVE") {
        return Ok(Some(before.revision.clone()));
    }
    events.note(format!("{name}: `{}` is not registered any more; another is registered with its image", before.revision));
    Ok(None)
}
