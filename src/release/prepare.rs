//! From a request to a plan: connect, look, build, look closer, draw.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join3;

use crate::aws::{Aws, Identity};
use crate::config::{Config, SiteSource, Strategy};
use crate::event::{Events, Outcome, Step};
use crate::journal::{Glimpse, Journal, Live, Record};
use crate::migration;
use crate::model::{Exit, Failure, Finding, Refusal, ReleaseId, Stage, UnitName};
use crate::plan::{self, Plan};
use crate::site;
use crate::site::plan::SitePlan;

use super::from_image::{self, Taken};
use super::lease::LOCK;
use super::looks::{engine, images, pushed_already, sites, uploaded};
use super::world::{Etags, World, journal, unreadable};
use super::{Request, Stop, commit, parts, preflight, scope};

/// What a plan is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be looked at, or carried out beside others.
    Free,
    /// To be carried out under the lock, which is looked at while it is drawn.
    Locked,
}

/// Draws the plan of `stages`; `release` is the one that they go on with.
pub(super) async fn prepare(
    request: &Request,
    stages: &[Stage],
    release: Option<&ReleaseId>,
    purpose: Purpose,
    events: &Events,
    stop: &Stop,
) -> Result<(World, Plan), Failure> {
    let config = &request.project.config;
    let scope = scope::scope(config, &request.units, stages)?;
    let aws = preflight::connect(request).await?;
    // Where nothing has to be built and no service looked at, buckets are looked at when there is something to write to them: then a
    // run without changes is one question to the state.
    let at_once = !scope.images.is_empty()
        || scope.sites.iter().any(|name| matches!(config.sites[name].source(), Some(SiteSource::Build(_) | SiteSource::Buildspec(_))));
    let services = !scope.services.is_empty() || !scope.migrations.is_empty();
    // So is the account, unless there is one that it has to be.
    let account_matters = config.environment.as_ref().is_some_and(|environment| environment.account.is_some());
    let mut identity = if at_once || services || release.is_some() || account_matters {
        Some(preflight::identify(request, &aws, events).await?)
    } else {
        None
    };
    let mut found = preflight::Resources::default();
    if at_once {
        found = resources(request, &aws, account_of(identity.as_ref()), &scope, stages, events).await?;
    }
    let journal = journal(config, &aws);
    let (live, record) = remembered(journal.as_ref(), release, services).await?;
    if journal.is_none() {
        events.note("`state: none`: no record is kept, nothing can be resumed or rolled back, and migrations run each time");
    }
    let saved: Option<Plan> = match (&journal, release) {
        (Some(journal), Some(id)) if stages == [Stage::Publish] => journal.plan(id).await.map_err(|error| unreadable(error, "plan"))?,
        _ => None,
    };
    let mut observed = plan::Observed {
        account: identity.as_ref().map(|identity| identity.account.clone()),
        region: aws.region().to_owned(),
        commit: commit::told(&request.project, &request.environment, events).await,
        stages: stages.to_vec(),
        distributions: found.distributions.clone(),
        functions: found.functions.clone(),
        services: found.services.clone(),
        tasks: found.tasks.clone(),
        stopped: stopped(config, journal.as_ref(), &found.tasks).await?,
        migrated: migrated(&live),
        pushed: record.as_ref().map(|record| record.images.clone()).unwrap_or_default(),
        live_images: live.services.iter().map(|(name, live)| (name.clone(), live.image.clone())).collect(),
        ..plan::Observed::default()
    };
    if saved.is_none() {
        let built = sites(request, &aws, journal.as_ref(), &scope.sites, events, stop);
        let built = if identity.is_some() {
            built.await
        } else {
            let (built, asked) = preflight::unidentified(request, &aws, events, built).await?;
            observed.account = asked.as_ref().map(|identity| identity.account.clone());
            identity = asked;
            built
        };
        if !at_once && built.as_ref().is_err_and(|failure| failure.exit() == Exit::Preflight) {
            // A bucket that is not there says so better itself.
            resources(request, &aws, account_of(identity.as_ref()), &scope, stages, events).await?;
        }
        observed.sites = built?;
    }
    let mut taken = Taken::default();
    observed.images = images(request, &aws, &scope, &found, &observed.pushed, &mut taken.engine, events).await?;
    if observed.images.values().any(|image| image.present().is_none()) {
        observed.labels = commit::labels(&request.project, &request.environment, &observed.commit).await;
    }
    pushed_already(stages, &observed.images)?;
    if stages.contains(&Stage::Assets) {
        taken = from_image::sites(request, &aws, journal.as_ref(), &scope.sites, &observed, taken.engine, events, stop).await?;
        observed.sites.append(&mut taken.sites);
    }
    let mut plan = draw(request, &aws, journal.as_ref(), &mut observed, events).await?;
    if let (None, Some(id), [Stage::Publish]) = (&saved, release, stages) {
        uploaded(id, &plan)?;
    }
    let mut glimpse = None;
    if !at_once && (saved.is_some() || !plan.is_empty()) {
        let known;
        let locked = journal.as_ref().filter(|_| purpose == Purpose::Locked);
        (known, found, glimpse) = closer(request, &aws, identity.as_ref(), &scope, stages, locked, events).await?;
        observed.account = Some(known.account.clone());
        observed.distributions = found.distributions;
        identity = Some(known);
        // Two plans of tens of thousands of files are not to be in memory at a time.
        drop(plan);
        plan = plan::draw(config, &observed)?;
    }
    if let Some(saved) = saved {
        let going_on = going_on(config, journal.as_ref(), record.as_ref(), &scope.sites, saved.sites.clone()).await?;
        plan = plan::publishing(config, &observed, plan, Plan { sites: going_on, ..saved });
    }
    let etags = etags(journal.as_ref(), release, stages).await?;
    let engine = match taken.engine {
        None if plan.needs_engine() => Some(engine("an image has to be built", events).await?),
        connected => connected,
    };
    let stopped = !observed.stopped.is_empty();
    let bases = observed.services.into_iter().map(|(name, found)| (name, found.base)).collect();
    let world = World::of(request, aws, journal, live, identity.map(|identity| identity.arn))?;
    Ok((World { stopped, glimpse, record, engine, built: taken.built, etags, bases, ..world }, plan))
}

/// What an earlier run has uploaded, for a `publish` on another machine.
async fn etags(journal: Option<&Journal>, release: Option<&ReleaseId>, stages: &[Stage]) -> Result<Etags, Failure> {
    match (journal, release) {
        (Some(journal), Some(id)) if stages == [Stage::Publish] => {
            Ok(journal.etags(id).await.map_err(|error| unreadable(error, "entity tags"))?.unwrap_or_default())
        }
        _ => Ok(Etags::new()),
    }
}

pub(super) fn migrated(live: &Live) -> BTreeMap<UnitName, migration::plan::Migrated> {
    let one = |live: &crate::journal::LiveMigration| migration::plan::Migrated { image: live.image.clone(), code: live.code.clone() };
    live.migrations.iter().map(|(name, live)| (name.clone(), one(live))).collect()
}

/// The tasks that services had before a migration stopped them. Nobody asks where nothing can be stopped.
pub(super) async fn stopped(
    config: &Config,
    journal: Option<&Journal>,
    tasks: &BTreeMap<UnitName, i32>,
) -> Result<BTreeMap<UnitName, i32>, Failure> {
    let stops = config.migrations.values().any(|migration| migration.strategy == Strategy::Stop);
    let Some(journal) = journal.filter(|_| !tasks.is_empty() && (stops || tasks.values().any(|tasks| *tasks == 0))) else {
        return Ok(BTreeMap::new());
    };
    let stopped = journal.stopped().await.map_err(|error| unreadable(error, "stopped services"))?;
    Ok(stopped.into_iter().map(|(name, stopped)| (name, stopped.tasks)).collect())
}

/// Refuses to stop a service that this release does not start again.
fn starts_what_it_stops(plan: &Plan) -> Result<(), Failure> {
    let all = plan.migrations.iter().flat_map(|(name, migration)| migration.stops.iter().map(move |stops| (name, &stops.unit)));
    let findings: Vec<Finding> = all
        .filter(|(_, unit)| plan.stages.contains(&Stage::Services) && !plan.services.contains_key(*unit))
        .map(|(name, unit)| {
            let what = format!("migration `{name}` stops `{unit}`, which is no part of this release and would stay stopped");
            Finding { what: String::new(), refusal: Some(Refusal::new(what, format!("release `{unit}` too, or everything"))) }
        })
        .collect();
    preflight::refuse(&findings)
}

fn account_of(identity: Option<&Identity>) -> &str {
    identity.map_or("", |identity| &identity.account)
}

/// Draws the plan; where a database has to be migrated, with what is known of its past.
pub(super) async fn draw(
    request: &Request,
    aws: &Aws,
    journal: Option<&Journal>,
    observed: &mut plan::Observed,
    events: &Events,
) -> Result<Plan, Failure> {
    let plan = plan::draw(&request.project.config, observed)?;
    if plan.migrations.values().all(|migration| migration.applied) {
        return Ok(plan);
    }
    observed.histories = histories(request, aws, journal, &observed.functions).await?;
    let plan = plan::draw(&request.project.config, observed)?;
    risks(&plan, events)?;
    starts_what_it_stops(&plan)?;
    Ok(plan)
}

/// What is known of the databases' pasts.
async fn histories(
    request: &Request,
    aws: &Aws,
    journal: Option<&Journal>,
    found: &BTreeMap<UnitName, migration::plan::Found>,
) -> Result<BTreeMap<UnitName, migration::checkout::History>, Failure> {
    let config = &request.project.config;
    let mut histories = BTreeMap::new();
    for (name, found) in found {
        let migration = &config.migrations[name];
        let (root, service) = (&request.project.root, &config.services[&migration.from]);
        let history = migration::observe::history(aws, journal, root, name, migration, service, found).await;
        histories.insert(name.clone(), history.map_err(|error| unreadable(error, "migrations"))?);
    }
    Ok(histories)
}

/// Says which pending migrations are risky, and refuses them where the policy asks for it.
fn risks(plan: &Plan, events: &Events) -> Result<(), Failure> {
    let refusals = plan.migrations.iter().filter_map(|(name, migration)| migration::plan::risk(name, migration));
    let findings: Vec<Finding> = refusals.map(|refusal| Finding { what: String::new(), refusal: Some(refusal) }).collect();
    preflight::refuse(&findings)?;
    for (name, migration) in plan.migrations.iter().filter(|(_, migration)| !migration.applied && migration.says_risks()) {
        for one in migration.pending.iter().flatten().filter(|one| !one.risks.is_empty()) {
            events.note(format!("{name}: {} is risky: {}", one.name, one.risks.join("; ")));
        }
    }
    Ok(())
}

/// Looks for all that is needed, and refuses if any of it is missing or wrong.
async fn resources(
    request: &Request,
    aws: &Aws,
    account: &str,
    scope: &scope::Scope,
    stages: &[Stage],
    events: &Events,
) -> Result<preflight::Resources, Failure> {
    events
        .step(Step::before("resources", "look for"), async {
            let mut found = preflight::Resources::default();
            preflight::look_at_sites(request, aws, scope, stages, &mut found).await?;
            preflight::look(request, aws, account, scope, &mut found).await?;
            preflight::refuse(&found.findings)?;
            let count = found.findings.len();
            Ok((found, Outcome::Done, format!("{count} are there")))
        })
        .await
}

/// The second look, once it is known that there is something to do: who asks, what is there, and the lock.
async fn closer(
    request: &Request,
    aws: &Aws,
    identity: Option<&Identity>,
    scope: &scope::Scope,
    stages: &[Stage],
    lock: Option<&Journal>,
    events: &Events,
) -> Result<(Identity, preflight::Resources, Option<Glimpse>), Failure> {
    let asked = async {
        match identity {
            Some(identity) => Ok(identity.clone()),
            None => preflight::identify(request, aws, events).await,
        }
    };
    // There are no images to look for, whose registry is the account's; who asks is known first where both questions fail.
    let found = resources(request, aws, account_of(identity), scope, stages, events);
    // Whoever cannot read the lock is told so when it is taken.
    let lock = async {
        match lock {
            Some(journal) => journal.glimpse(LOCK).await.ok(),
            None => None,
        }
    };
    let (known, found, lock) = join3(asked, found, lock).await;
    Ok((known?, found?, lock))
}

async fn remembered(journal: Option<&Journal>, release: Option<&ReleaseId>, services: bool) -> Result<(Live, Option<Record>), Failure> {
    let Some(journal) = journal else {
        return match release {
            None => Ok((Live::default(), None)),
            Some(id) => {
                let failure = Failure::new(Exit::Preflight, format!("the release `{id}` cannot be gone on with: `state: none` keeps none"));
                Err(failure.hint("name a bucket under `state`, or run `windlass release` in one go"))
            }
        };
    };
    let live = if services { journal.live().await.map_err(|error| unreadable(error, "what is live"))? } else { Live::default() };
    let Some(id) = release else { return Ok((live, None)) };
    let record = parts::record(journal, id).await?;
    if record.is_some() {
        return Ok((live, record));
    }
    let failure = Failure::new(Exit::Preflight, format!("there is no release `{id}` in the state"));
    Err(failure.hint("take the id that an earlier stage has printed; without --release the stage begins a release of its own"))
}

/// The sites of a saved plan that are still to be published.
async fn going_on(
    config: &Config,
    journal: Option<&Journal>,
    record: Option<&Record>,
    chosen: &BTreeSet<UnitName>,
    saved: BTreeMap<UnitName, SitePlan>,
) -> Result<BTreeMap<UnitName, SitePlan>, Failure> {
    let known: BTreeSet<UnitName> = saved.keys().cloned().collect();
    let mut sites = BTreeMap::new();
    for (name, plan) in saved.into_iter().filter(|(name, _)| chosen.contains(name)) {
        let live = site::observe::published(journal, &name, &config.sites[&name]).await?;
        let over = live.as_ref().and_then(|live| live.over.as_ref()?.release.as_ref());
        if let Some(other) = over.filter(|over| record.is_none_or(|record| record.release != **over)) {
            let failure =
                Failure::new(Exit::Older, format!("site `{name}`: release {other} has begun to publish since this one was planned"));
            return Err(failure.hint("nothing was changed; release the commit that is wanted anew, with `windlass release`"));
        }
        if let Some(plan) = site::plan::go_on(&name, plan, live.as_ref())? {
            sites.insert(name, plan);
        }
    }
    if let Some(record) = record {
        parts::are_whole(record, chosen, &known, &sites)?;
    }
    Ok(sites)
}
