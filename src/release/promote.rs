//! Promotes a release: what it left live in one environment goes live in another. The same images, the same files, and nothing is built
//! that need not be.
//!
//! The plan is a release's own, drawn of a configuration whose images are those that the release has shown to be good; it runs under the
//! same lock, through the same stages, into the same kind of record.

use std::collections::{BTreeMap, BTreeSet};

use crate::aws::Aws;
use crate::config::{Config, Image, Project};
use crate::docker;
use crate::event::Events;
use crate::image::{self, copy};
use crate::journal::{Journal, Record};
use crate::migration::plan::{MadeOf, Runs};
use crate::model::{Exit, Failure, Finding, ImageUri, Promoted, ReleaseId, Stage, UnitName};
use crate::plan::{self, Plan};

use super::promote_sites;
use super::scope::Scope;
use super::{Released, Request, Stop, World, commit, preflight, prepare, run, scope, world};

/// Where the release comes from.
pub(super) struct Source<'a> {
    pub(super) request: &'a Request,
    pub(super) environment: &'a str,
    pub(super) aws: Aws,
    pub(super) journal: Journal,
    pub(super) record: Record,
}

/// Promotes `release`, which one of `sources` has.
pub(super) async fn promote(
    request: &Request,
    sources: &[Request],
    release: &ReleaseId,
    events: &Events,
    stop: &Stop,
) -> Result<Released, Failure> {
    let draw = async || Box::pin(prepare(request, sources, release, true, events, stop)).await;
    run::under_lock(request, draw, None, events, stop).await
}

/// Draws the plan; with `fetch`, the files that it uploads are brought to this machine, too.
pub(super) async fn prepare(
    request: &Request,
    sources: &[Request],
    release: &ReleaseId,
    fetch: bool,
    events: &Events,
    stop: &Stop,
) -> Result<(World, Plan), Failure> {
    let source = source(sources, release, events).await?;
    let (aws, identity) = preflight::connect_and_identify(request, events).await?;
    let scope = units(request, &source, events)?;
    let images = images(&request.project.config, &source, &scope);
    let (mut found, plans) = look_at_images(request, &source, &aws, &identity.account, &images).await?;
    let request = &pinned(request, &source, &scope, &plans).await?;
    let config = &request.project.config;
    preflight::look_at_sites(request, &aws, &scope, &Stage::ALL, &mut found).await?;
    preflight::look(request, &aws, &identity.account, &scope, &mut found).await?;
    for (name, (_, platforms)) in &plans {
        let architecture = found.services.get(name).and_then(|service| service.architecture.as_deref());
        let refusal = image::mismatch(name, platforms, architecture);
        found
            .findings
            .extend(refusal.map(|refusal| Finding { what: format!("service `{name}`: its image's platform"), refusal: Some(refusal) }));
    }
    preflight::refuse(&found.findings)?;
    let journal = world::journal(config, &aws);
    let live = match &journal {
        Some(journal) => journal.live().await.map_err(|error| world::unreadable(error, "what is live"))?,
        None => crate::journal::Live::default(),
    };
    let (head, dirty) = commit::commit(&request.project, &request.environment).await;
    let here = head.is_some() && head == source.record.commit && !dirty;
    let mut observed = plan::Observed {
        account: Some(identity.account.clone()),
        region: aws.region().to_owned(),
        commit: (source.record.commit.clone(), source.record.dirty),
        stages: Stage::ALL.to_vec(),
        distributions: found.distributions.clone(),
        functions: found.functions.clone(),
        services: found.services.clone(),
        tasks: found.tasks.clone(),
        stopped: prepare::stopped(config, journal.as_ref(), &found.tasks).await?,
        migrated: prepare::migrated(&live),
        ..plan::Observed::default()
    };
    let mut brought = BTreeMap::new();
    for name in &scope.sites {
        let site = promote_sites::site(request, &source, &aws, journal.as_ref(), name, here, events, stop).await?;
        observed.sites.insert(name.clone(), (site.output, site.observed));
        brought.extend(site.manifest.map(|manifest| (name.clone(), manifest)));
    }
    // What is pending is read out of the checkout, which has to be the release's own for that.
    let mut plan =
        if here { prepare::draw(request, &aws, journal.as_ref(), &mut observed, events).await? } else { plan::draw(config, &observed)? };
    if !here {
        of_this_checkout(&plan, &source)?;
    }
    plan.images = plans.into_iter().map(|(name, (plan, _))| (name, plan)).collect();
    plan.promotes = Some(Promoted { environment: source.environment.to_owned(), release: release.clone() });
    for (name, manifest) in &brought {
        promote_sites::bring(request, &source, name, manifest, &plan.sites[name], fetch, events, stop).await?;
    }
    let stopped = !observed.stopped.is_empty();
    let bases = observed.services.into_iter().map(|(name, found)| (name, found.base)).collect();
    let world = World::of(request, aws, journal, live, Some(identity.arn))?;
    Ok((World { bases, stopped, source: Some(source.aws), committed: source.record.committed, ..world }, plan))
}

/// Refuses to migrate with what lies in a checkout that is not the release's.
fn of_this_checkout(plan: &Plan, source: &Source<'_>) -> Result<(), Failure> {
    let of_checkout =
        |runs: &Runs| matches!(runs, Runs::Local { .. } | Runs::LambdaZip { made_of: MadeOf::Prisma(_) | MadeOf::File(..), .. });
    let Some((name, _)) = plan.migrations.iter().find(|(_, migration)| !migration.applied && of_checkout(&migration.runs)) else {
        return Ok(());
    };
    let commit = source.record.commit.as_ref().map_or("the release's commit".to_owned(), |commit| format!("commit {}", commit.short()));
    let failure =
        Failure::new(Exit::Preflight, format!("migration `{name}`: it runs what lies in this checkout, which is not the release's"));
    Err(failure.hint(format!("nothing was changed; check out {commit}, without changes, and promote it again")))
}

/// The environment whose state has the release.
async fn source<'a>(sources: &'a [Request], release: &ReleaseId, events: &Events) -> Result<Source<'a>, Failure> {
    let mut asked = Vec::new();
    let mut last = None;
    for request in sources {
        let environment = request.project.config.environment.as_ref().map_or("default", |environment| environment.name.as_str());
        match has(request, environment, release, events).await {
            Ok(Some(source)) => return fit(source).map_err(|failure| *failure),
            Ok(None) => asked.push(environment),
            Err(failure) if sources.len() > 1 => {
                let why = failure.causes().into_iter().next().unwrap_or_default();
                events.note(format!("{environment}: its state was not looked at: {failure}: {why}"));
                last = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    match last {
        Some(failure) if asked.is_empty() => Err(failure),
        _ => {
            let what = format!("there is no release `{release}` in the state of {}; nothing was changed", words(&asked));
            let failure = Failure::new(Exit::Preflight, what);
            Err(failure.hint("`windlass history --env NAME` names an environment's releases; --from names the environment"))
        }
    }
}

fn words(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

async fn has<'a>(request: &'a Request, environment: &'a str, release: &ReleaseId, events: &Events) -> Result<Option<Source<'a>>, Failure> {
    let reached = preflight::connect_and_identify(request, events).await;
    let (aws, _) = reached.map_err(|failure| {
        let causes = [vec![failure.to_string()], failure.causes()].concat().join(": ");
        let failure =
            Failure::new(Exit::Preflight, format!("the environment `{environment}`, which the release comes from, cannot be reached"));
        failure.because(causes).hint(format!(
            "nothing was changed; give `environments.{environment}` a `role_arn` that these credentials may assume, or name a profile for \
             it with --from-profile"
        ))
    })?;
    let Some(journal) = world::journal(&request.project.config, &aws) else {
        let failure = Failure::new(Exit::Preflight, format!("`{environment}` keeps no releases: its `state` is `none`"));
        return Err(failure.hint("name a bucket under `state`, and release there once more"));
    };
    let record = journal.record(release).await.map_err(|error| world::unreadable(error, "record"))?;
    Ok(record.map(|record| Source { request, environment, aws, journal, record }))
}

/// Refuses a release that has not come to a good end, or only to a part of it.
fn fit(source: Source<'_>) -> Result<Source<'_>, Box<Failure>> {
    let Source { environment, record, request, .. } = &source;
    let refuse = |why: String, hint: &str| {
        let failure = Failure::new(Exit::Preflight, format!("release {} cannot be promoted; nothing was changed", record.release));
        Err(Box::new(failure.because(why).hint(hint)))
    };
    if !record.is_done() {
        return refuse(
            format!("it did not come to a good end in `{environment}`"),
            &format!("finish it there, or name one that `windlass history --env {environment}` calls done"),
        );
    }
    let ran: BTreeSet<Stage> = record.runs.iter().flat_map(|run| run.stages.iter().copied()).collect();
    let config = &request.project.config;
    let lacks = |stage, wanted: bool| wanted && !ran.contains(&stage);
    let missing = [(Stage::Services, !config.services.is_empty()), (Stage::Publish, !config.sites.is_empty())];
    let missing = missing.into_iter().find(|(stage, wanted)| lacks(*stage, *wanted));
    if let Some((stage, _)) = missing.filter(|_| record.restores.is_none()) {
        let hint = format!("run the stages that are left with `windlass stage --env {environment}`, then promote it");
        return refuse(format!("it has not come to the stage `{stage}` in `{environment}` yet"), &hint);
    }
    Ok(source)
}

/// The units that the release has, and the target too.
fn units(request: &Request, source: &Source<'_>, events: &Events) -> Result<Scope, Failure> {
    let (config, after) = (&request.project.config, &source.record.after);
    let has: BTreeSet<&UnitName> = after.sites.keys().chain(after.services.keys()).chain(after.migrations.keys()).collect();
    let mut scope = scope::scope(config, &request.units, &Stage::ALL)?;
    let refused = |why: String, hint: String| {
        let failure = Failure::new(Exit::Preflight, format!("release {} cannot be promoted; nothing was changed", source.record.release));
        Err(failure.because(why).hint(hint))
    };
    if let Some(name) = request.units.iter().find(|name| !has.contains(name)) {
        let names = has.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        return refused(format!("it left no `{name}` live in `{}`", source.environment), format!("it has: {names}"));
    }
    let known = |config: &Config, name: &UnitName| {
        config.sites.contains_key(name) || config.services.contains_key(name) || config.migrations.contains_key(name)
    };
    let absent = has.iter().filter(|name| request.units.is_empty() && !known(config, name));
    if let Some(name) = absent.clone().find(|name| known(&source.request.project.config, name)) {
        let target = config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default();
        let why = format!("its `{name}` is no unit of the environment `{target}`");
        return refused(why, format!("configure `{name}` there, or name the units that are to be promoted"));
    }
    for name in absent {
        events.note(format!("{name}: the configuration does not have it any more, and it is left"));
    }
    let mut left = Vec::new();
    let mut keep = |names: &mut BTreeSet<UnitName>, there: &dyn Fn(&UnitName) -> bool| {
        left.extend(names.iter().filter(|name| !there(name)).cloned());
        names.retain(|name| there(name));
    };
    keep(&mut scope.sites, &|name| after.sites.contains_key(name));
    keep(&mut scope.services, &|name| after.services.contains_key(name));
    keep(&mut scope.migrations, &|name| after.migrations.contains_key(name) || after.services.contains_key(&config.migrations[name].from));
    for name in left {
        events.note(format!("{name}: that release has none, and it is left as it is"));
    }
    // None is built, and where each is, is looked at on its own.
    scope.images.clear();
    Ok(scope)
}

/// An image that the release has shown to be good, and where it is to be.
struct Wanted {
    from: ImageUri,
    to: Option<String>,
    /// The release that brought it.
    release: ReleaseId,
}

/// The images that the units need, by service, and by migration where that has one of its own.
fn images(config: &Config, source: &Source<'_>, scope: &Scope) -> BTreeMap<UnitName, Wanted> {
    let after = &source.record.after;
    let elsewhere = |image: &Image| match image {
        Image::Build(_) => None,
        Image::Prebuilt(uri) => Some(uri.repository.clone()),
        Image::Tag(tag) => Some(tag.repository.clone()),
    };
    let migrations = || scope.migrations.iter().map(|name| (name, &config.migrations[name]));
    let of_migrations = migrations().filter(|(_, migration)| migration.image.is_none()).map(|(_, migration)| &migration.from);
    let services = scope.services.iter().chain(of_migrations);
    let mut images: BTreeMap<UnitName, Wanted> = services
        .filter_map(|name| {
            let live = after.services.get(name)?;
            let to = elsewhere(&config.services[name].image);
            Some((name.clone(), Wanted { from: live.image.clone(), to, release: live.release.clone() }))
        })
        .collect();
    for (name, migration) in migrations() {
        if let (Some(image), Some(live)) = (&migration.image, after.migrations.get(name)) {
            let to = Some(image.repository.clone());
            images.insert(name.clone(), Wanted { from: live.image.clone(), to, release: live.release.clone() });
        }
    }
    images
}

type Plans = BTreeMap<UnitName, (image::plan::ImagePlan, Vec<String>)>;

/// Which images the target's registry has, and which have to be copied there.
async fn look_at_images(
    request: &Request,
    source: &Source<'_>,
    aws: &Aws,
    account: &str,
    images: &BTreeMap<UnitName, Wanted>,
) -> Result<(preflight::Resources, Plans), Failure> {
    let config = &request.project.config;
    let mut found = preflight::Resources::default();
    let mut orders = Vec::new();
    for (name, wanted) in images {
        let (to, create) = match (&wanted.to, config.services.get(name).map(|service| &service.image)) {
            (None, Some(Image::Build(build))) => {
                let repository = image::observe::repository(aws, account, build).await?;
                let refusal = image::plan::refusal(name, build, repository.as_ref());
                found.findings.push(Finding { what: format!("service `{name}`: repository `{}`", build.repository), refusal });
                let Some(repository) = repository else { continue };
                (image::plan::uri(config.registry.as_deref(), build, &repository), !repository.exists)
            }
            (to, _) => (to.clone().unwrap_or_default(), false),
        };
        orders.push((name, wanted, to, create));
    }
    preflight::refuse(&found.findings)?;
    let mut plans = Plans::new();
    for (name, wanted, to, create_repository) in orders {
        let tag = tag(source, name, wanted).await?;
        let order = copy::Order {
            name,
            from: &wanted.from,
            to: &to,
            tag: &tag,
            from_own: is_own(&source.request.project.config, &wanted.from.repository),
            to_own: is_own(config, &to),
            create_repository,
        };
        plans.insert(name.clone(), copy::look(&source.aws, aws, order).await?);
    }
    Ok((found, plans))
}

/// Is it in the registry of the environment's account, or in the one that stands for it?
fn is_own(config: &Config, repository: &str) -> bool {
    let host = docker::host(repository);
    host.contains(".dkr.ecr.") || config.registry.as_deref().is_some_and(|registry| registry.trim_end_matches('/') == host)
}

/// The tag that the image has where it comes from, by the plan that brought it there: a release of the same commit finds it by that.
async fn tag(source: &Source<'_>, name: &UnitName, wanted: &Wanted) -> Result<String, Failure> {
    let plan: Option<Plan> = source.journal.plan(&wanted.release).await.map_err(|error| world::unreadable(error, "plan"))?;
    let planned = plan.and_then(|mut plan| plan.images.remove(name)).filter(|image| image.uri == wanted.from.repository);
    Ok(planned.map_or_else(|| format!("sha256-{}", wanted.from.digest.short()), |image| image.tag))
}

/// The request whose images are those that are promoted: nothing of the checkout decides any more what runs.
async fn pinned(request: &Request, source: &Source<'_>, scope: &Scope, plans: &Plans) -> Result<Request, Failure> {
    let mut config = request.project.config.clone();
    for (name, (plan, _)) in plans {
        let digest = plan.copy.as_ref().map(|copy| copy.from.digest).or(plan.present);
        let Some(digest) = digest else { continue };
        let uri = ImageUri { repository: plan.uri.clone(), digest };
        if let Some(service) = config.services.get_mut(name) {
            service.image = Image::Prebuilt(uri);
        } else if let Some(migration) = config.migrations.get_mut(name) {
            migration.image = Some(uri);
        }
    }
    // Whose handler a function runs was seen in the checkout of the release, which need not lie here.
    for name in &scope.migrations {
        let Some(live) = source.record.after.migrations.get(name) else { continue };
        let plan: Option<Plan> = source.journal.plan(&live.release).await.map_err(|error| world::unreadable(error, "plan"))?;
        let runs = plan.and_then(|mut plan| plan.migrations.remove(name)).map(|migration| migration.runs);
        if let (Some(Runs::LambdaImage { handler, .. } | Runs::LambdaZip { handler, .. }), Some(migration)) =
            (runs, config.migrations.get_mut(name))
        {
            migration.handler.get_or_insert(if handler.is_some() { crate::config::Handler::Windlass } else { crate::config::Handler::Own });
        }
    }
    Ok(Request { project: Project { config, root: request.project.root.clone() }, ..request.clone() })
}
