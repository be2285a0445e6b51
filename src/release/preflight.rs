//! Looks for everything that the chosen stages and units need, before anything is built or written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join4};

use crate::aws::{self, Aws, Identity};
use crate::cdn;
use crate::config::{State, Strategy};
use crate::event::{Events, Outcome, Step};
use crate::image;
use crate::inspect;
use crate::migration;
use crate::model::{Exit, Failure, Finding, Refusal, Stage, UnitName, Verification};
use crate::service;
use crate::site;

use super::Request;
use super::scope::{Scope, scope};

/// What preflight has found.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) distributions: BTreeMap<String, cdn::plan::Found>,
    pub(super) repositories: BTreeMap<UnitName, image::plan::Found>,
    pub(super) functions: BTreeMap<UnitName, migration::plan::Found>,
    pub(super) services: BTreeMap<UnitName, service::plan::FoundService>,
    /// The tasks of every service that was looked at.
    pub(super) tasks: BTreeMap<UnitName, i32>,
    /// Images that someone else has built.
    pub(super) prebuilt: BTreeMap<UnitName, image::Prebuilt>,
    /// What was looked for, with what is wrong with it.
    pub(super) findings: Vec<Finding>,
}

/// How AWS is reached: what the command line leaves open is the environment's.
pub(super) fn access(request: &Request) -> aws::Access {
    let environment = request.project.config.environment.as_ref();
    aws::Access {
        region: request.access.region.clone().or_else(|| environment.and_then(|environment| environment.region.clone())),
        role_arn: request.access.role_arn.clone().or_else(|| environment.and_then(|environment| environment.role_arn.clone())),
        ..request.access.clone()
    }
}

/// Makes the clients. Nothing is asked yet.
pub(super) async fn connect(request: &Request) -> Result<Aws, Failure> {
    aws::connect(&access(request)).await.map_err(unknown_caller)
}

/// Asks whose credentials these are, and refuses another account than the environment's.
pub(super) async fn identify(request: &Request, aws: &Aws, events: &Events) -> Result<Identity, Failure> {
    let environment = request.project.config.environment.as_ref();
    events
        .step(Step::before("account", "check"), async {
            let identity = match aws.caller_identity().await {
                Ok(identity) => identity,
                Err(error) if knows_no_callers(aws, &error) => {
                    let detail = format!("{} does not say whose credentials these are", aws.endpoint_url().unwrap_or_default());
                    let Some(identity) = nobody(request) else { return Err(without_sts(&error, &detail)) };
                    return Ok((identity, Outcome::Done, detail));
                }
                Err(error) => return Err(unknown_caller(error)),
            };
            if let Some((environment, wanted)) = environment.and_then(|environment| Some((environment, environment.account.as_ref()?)))
                && *wanted != identity.account
            {
                let failure =
                    Failure::new(Exit::Preflight, format!("the credentials are those of account {}, not of {wanted}", identity.account));
                let failure = failure.because(format!(
                    "the environment `{}` is in account {wanted}, and the credentials are `{}`",
                    environment.name, identity.arn
                ));
                return Err(failure.hint("nothing was looked at or changed; choose other credentials (--profile), or the right --env"));
            }
            let detail = format!("{} in {}, as {}", identity.account, aws.region(), identity.arn);
            Ok((identity, Outcome::Done, detail))
        })
        .await
}

/// Connects, and sees to it that it is the right account before anything else is asked.
pub(super) async fn connect_and_identify(request: &Request, events: &Events) -> Result<(Aws, Identity), Failure> {
    let aws = connect(request).await?;
    let identity = identify(request, &aws, events).await?;
    Ok((aws, identity))
}

/// Has an endpoint of somebody's own answered that it knows no such question? There are servers of S3 alone.
fn knows_no_callers(aws: &Aws, error: &aws::AwsError) -> bool {
    aws.endpoint_url().is_some() && error.is_unanswerable()
}

/// Who asks where nobody can say so and nothing depends on it: of sites alone, in no account in particular.
fn nobody(request: &Request) -> Option<Identity> {
    let config = &request.project.config;
    let matters = config.environment.as_ref().is_some_and(|environment| environment.account.is_some());
    let sites_alone = config.services.is_empty() && config.migrations.is_empty();
    (sites_alone && !matters).then(|| Identity { account: "unknown".to_owned(), arn: "unknown".to_owned() })
}

fn without_sts(error: &aws::AwsError, detail: &str) -> Failure {
    let failure = Failure::new(Exit::Preflight, "asking AWS whose credentials these are failed").because(format!("{detail}: {error}"));
    failure.hint(
        "nothing was changed; it has to answer `sts:GetCallerIdentity` (name another endpoint for it with AWS_ENDPOINT_URL_STS), except \
         where there are sites alone, and no `account` in the environment",
    )
}

fn unknown_caller(error: aws::AwsError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Preflight, "asking AWS whose credentials these are failed").because(error);
    failure.hint(hint.unwrap_or_else(|| "nothing was changed; run again".to_owned()))
}

/// How long the first answer may take until it is asked who the caller is, which fails sooner and speaks of credentials or the network.
const SOON: Duration = Duration::from_secs(3);

/// Runs reads before it is asked who the caller is, and gives their own outcome. If they fail, or take long, it is asked now: its failure
/// says better what is wrong, and comes first.
pub(super) async fn unidentified<T>(
    request: &Request,
    aws: &Aws,
    events: &Events,
    reads: impl Future<Output = Result<T, Failure>>,
) -> Result<(Result<T, Failure>, Option<Identity>), Failure> {
    tokio::pin!(reads);
    match tokio::time::timeout(SOON, &mut reads).await {
        Ok(Ok(value)) => Ok((Ok(value), None)),
        Ok(Err(failure)) if failure.exit() == Exit::Preflight => Ok((Err(failure), Some(identify(request, aws, events).await?))),
        Ok(Err(failure)) => Ok((Err(failure), None)),
        Err(_late) => {
            let identity = identify(request, aws, events).await?;
            Ok((reads.await, Some(identity)))
        }
    }
}

/// Looks for the state and for the sites' buckets and distributions, as far as `stages` need them.
pub(super) async fn look_at_sites(
    request: &Request,
    aws: &Aws,
    scope: &Scope,
    stages: &[Stage],
    found: &mut Resources,
) -> Result<(), Failure> {
    let config = &request.project.config;
    let state = async {
        match &config.state {
            State::S3 { bucket, .. } => site::observe::bucket(aws, bucket.as_str()).await.map(|found| Some((bucket, found))),
            State::None => Ok(None),
        }
    };
    let buckets = try_join_all(scope.sites.iter().map(|name| site::observe::bucket(aws, config.sites[name].bucket.as_str())));
    let (state, buckets) = try_join(state, buckets).await?;
    if let Some((bucket, state)) = state {
        let refusal = site::bucket::state_refusal(bucket.as_str(), &state);
        found.findings.push(Finding { what: format!("state: bucket `{bucket}`"), refusal });
    }
    for (name, bucket) in scope.sites.iter().zip(buckets) {
        let site = &config.sites[name];
        let refusal = site::bucket::refusal(name, site.bucket.as_str(), site.allow_public, &bucket);
        found.findings.push(Finding { what: format!("site `{name}`: bucket `{}`", site.bucket), refusal });
        let Some(id) = site.distribution.as_ref().filter(|_| stages.contains(&Stage::Publish)) else { continue };
        let distribution = cdn::observe::distribution(aws, id).await?;
        let refusal = cdn::plan::refusal(name, site, distribution.as_ref());
        found.findings.push(Finding { what: format!("site `{name}`: distribution `{id}`"), refusal });
        found.distributions.extend(distribution.map(|distribution| (id.clone(), distribution)));
    }
    Ok(())
}

/// Looks for everything that images, migrations and services in `scope` need, all at once: many services are not to take longer than one.
pub(super) async fn look(request: &Request, aws: &Aws, account: &str, scope: &Scope, found: &mut Resources) -> Result<(), Failure> {
    let (config, root) = (&request.project.config, &request.project.root);
    let built: Vec<_> = scope.built(config).collect();
    let mut sources = Vec::with_capacity(built.len());
    for (name, service, image) in &built {
        sources.push(image::observe::source(root, name, service, image)?.refusal(name, image));
    }
    let repositories = try_join_all(built.iter().map(|(_, _, image)| image::observe::repository(aws, account, image)));
    let images = scope.images.iter().map(|name| image::look(aws, config.registry.as_deref(), name, &config.services[name].image));
    let migrations = scope.migrations.iter().map(|name| {
        let migration = &config.migrations[name];
        migration::observe::found(aws, root, migration, &config.services[&migration.from])
    });
    // What a migration stops is looked at too, wherever it rolls.
    let stops = scope.migrations.iter().map(|name| &config.migrations[name]).filter(|migration| migration.strategy == Strategy::Stop);
    let stops: BTreeSet<&UnitName> = stops.flat_map(|migration| std::iter::once(&migration.from).chain(&migration.services)).collect();
    let all: BTreeSet<&UnitName> = scope.services.iter().chain(stops.iter().copied()).collect();
    let wanted: Vec<_> = all.into_iter().map(|name| (name, &config.services[name])).collect();
    let services = service::observe::services(aws, &wanted);
    let (repositories, images, migrations, services) =
        try_join4(repositories, try_join_all(images), try_join_all(migrations), services).await?;
    for (((name, _, image), repository), source) in built.iter().zip(repositories).zip(sources) {
        if let Some(refusal) = source {
            found.findings.push(Finding { what: format!("service `{name}`: `{}`", image.dockerfile), refusal: Some(refusal) });
        }
        let refusal = image::plan::refusal(name, image, repository.as_ref());
        found.findings.push(Finding { what: format!("service `{name}`: repository `{}`", image.repository), refusal });
        found.repositories.extend(repository.map(|repository| ((*name).clone(), repository)));
    }
    for (name, looked) in scope.images.iter().zip(images) {
        let Some(looked) = looked else { continue };
        found.findings.push(Finding { what: format!("service `{name}`: its image"), refusal: looked.as_ref().err().cloned() });
        found.prebuilt.extend(looked.ok().map(|image| (name.clone(), image)));
    }
    for (name, state) in scope.migrations.iter().zip(migrations) {
        let migration = &config.migrations[name];
        let service = &config.services[&migration.from];
        let refusal = migration::plan::refusal(name, migration, service, &state);
        found.findings.push(Finding { what: format!("migration `{name}`: {}", migration::plan::place(migration, service)), refusal });
        if let Some(instance) = &migration.snapshot {
            let refusal = migration::observe::snapshot_refusal(aws, name, instance).await?;
            found.findings.push(Finding { what: format!("migration `{name}`: RDS instance `{instance}`"), refusal });
        }
        found.functions.insert(name.clone(), state);
    }
    for (name, state) in &services {
        let service = &config.services[name];
        let refusal = service::plan::refusal(name, service, state);
        found.findings.push(Finding { what: format!("service `{name}`: `{}` in cluster `{}`", service.service, service.cluster), refusal });
        if let service::plan::Found::Service(service) = state {
            let platforms = found.prebuilt.get(name).map(|image| &image.platforms[..]).unwrap_or_default();
            if let Some(refusal) = image::mismatch(name, platforms, service.architecture.as_deref()) {
                found.findings.push(Finding { what: format!("service `{name}`: its image's platform"), refusal: Some(refusal) });
            }
            found.tasks.insert(name.clone(), service.tasks.0);
            if service.scheduling == "DAEMON" && stops.contains(name) {
                let what = format!("service `{name}`: it runs a task on each host (DAEMON), which cannot be stopped for a migration");
                let refusal = Some(Refusal::new(what, "use `strategy: expand`, or stop it by other means"));
                found.findings.push(Finding { what: format!("service `{name}`: its scheduling"), refusal });
            }
            if scope.services.contains(name) {
                found.services.insert(name.clone(), (**service).clone());
            }
        }
    }
    Ok(())
}

/// Refuses if anything that was found is wrong, and names all of it.
pub(super) fn refuse(findings: &[Finding]) -> Result<(), Failure> {
    let refusals: Vec<&Refusal> = findings.iter().filter_map(|finding| finding.refusal.as_ref()).collect();
    match refusals[..] {
        [] => Ok(()),
        [only] => Err(Failure::new(Exit::Preflight, "preflight refused the release; nothing was changed")
            .because(only.what.clone())
            .hint(only.cure.clone())),
        _ => {
            let all: Vec<String> = refusals.iter().map(|refusal| format!("{}\n      → {}", refusal.what, refusal.cure)).collect();
            let failure = Failure::new(Exit::Preflight, "preflight refused the release; nothing was changed");
            Err(failure
                .because(format!("{} things are wrong:\n   - {}", all.len(), all.join("\n   - ")))
                .hint("correct them and run again; `windlass verify` looks without releasing"))
        }
    }
}

pub(super) async fn verify(request: &Request, events: &Events) -> Result<Verification, Failure> {
    let (aws, identity) = connect_and_identify(request, events).await?;
    let scope = scope(&request.project.config, &request.units, &Stage::ALL)?;
    let mut found = Resources::default();
    look_at_sites(request, &aws, &scope, &Stage::ALL, &mut found).await?;
    look(request, &aws, &identity.account, &scope, &mut found).await?;
    let units = inspect::Units { sites: &scope.sites, services: &scope.services, migrations: &scope.migrations };
    let looking = events.step(Step::before("infrastructure", "look at"), async {
        let checks = inspect::inspect(&aws, &request.project.config, units).await;
        let count = checks.len();
        Ok((checks, Outcome::Done, format!("{count} checks")))
    });
    let checks = looking.await?;
    Ok(Verification { account: identity.account, region: aws.region().to_owned(), findings: found.findings, checks })
}
