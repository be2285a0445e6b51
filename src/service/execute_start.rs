//! Begins a rollout: registers the next revision and tells the service to run it, or takes up a deployment that is under way.

use std::time::Duration;

use crate::aws::{AwsError, Service, once_known};
use crate::event::Step;
use crate::model::{Exit, Failure, ImageUri, UnitName};

use super::execute::{Rollout, Rollouts, short};
use super::execute_leave::Phase;
use super::plan::{Base, ServicePlan};
use super::revision::Definition;
use super::watch::Ours;

/// `RegisterTaskDefinition` allows a burst, then one a second: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const BURST: u32 = 15;
/// When it is looked whether an update whose answer was lost has come to ECS all the same.
const UNANSWERED: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The failure before ECS was told anything.
fn not_started(name: &UnitName, plan: &ServicePlan, error: AwsError) -> Failure {
    let cure = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
    let hint = format!("`{}` serves as before; {cure}", short(&plan.from));
    Failure::new(Exit::RolledBack, format!("service `{name}`: starting the rollout failed")).because(error).hint(hint)
}

/// Registers the next revision, unless there is an equal one, and tells the service to run it.
pub(super) async fn start<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    image: &ImageUri,
    base: Option<&Base>,
) -> Result<Rollout<'a>, Failure> {
    let failed = |error| not_started(name, plan, error);
    let aws = &shared.aws;
    shared.is(name, Phase::Registering);
    let current = match base {
        Some(base) => base.current.clone(),
        None => Definition::new(aws.task_definition(&plan.from).await.map_err(failed)?.document().clone()),
    };
    let next = plan.definition.as_ref().unwrap_or(&current).next(&plan.container, &image.to_string(), &plan.environment);
    let newest = base.and_then(|base| base.newest.as_ref()).filter(|(_, newest)| newest.is_equal(&next));
    let revision = if next.is_equal(&current) {
        plan.from.clone()
    } else if let Some((arn, _)) = newest {
        shared.events.note(format!("{name}: `{}` is that revision already, and is used", short(arn)));
        arn.clone()
    } else {
        let mut registered = shared.registered.lock().await;
        if *registered >= BURST {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        *registered += 1;
        drop(registered);
        aws.register_task_definition(next.labelled(&plan.container, &shared.labels).document()).await.map_err(failed)?
    };
    begin(shared, name, plan, step, next, revision).await
}

/// Tells the service to run a revision that served before.
pub(super) async fn again<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    revision: &str,
) -> Result<Rollout<'a>, Failure> {
    let read = shared.aws.task_definition(revision).await.map_err(|error| not_started(name, plan, error))?;
    begin(shared, name, plan, step, Definition::new(read.document().clone()), revision.to_owned()).await
}

/// Tells the service to run the revision.
async fn begin<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    next: Definition,
    revision: String,
) -> Result<Rollout<'a>, Failure> {
    let (aws, failed) = (&shared.aws, |error| not_started(name, plan, error));
    let earlier = if plan.way.is_staged() {
        aws.service_deployment(&plan.cluster, &plan.service).await.ok().flatten().map(|deployment| deployment.arn)
    } else {
        None
    };
    shared.is(name, Phase::Starting);
    // A service that is told to run the revision that it has failed at begins a new deployment only when it is forced to.
    let tell = async || aws.roll_service(&plan.cluster, &plan.service, &revision, revision == plan.from, plan.tasks).await;
    let service = match once_known(tell, |told| told.as_ref().is_err_and(AwsError::is_revision_unknown)).await {
        Ok(service) => service,
        Err(error) if error.is_answer_lost() || error.is_server_fault() => begun(shared, name, plan, &revision, error).await?,
        Err(error) => return Err(failed(error)),
    };
    // With stages of its own a deployment may not be the one in force before traffic is shifted to it.
    let begun = service.deployments.iter().filter(|one| plan.way.is_staged() && one.task_definition == revision);
    let own = service.primary().filter(|primary| primary.task_definition == revision).or_else(|| begun.max_by_key(|one| one.created_at));
    let id = own.map(|own| own.id.clone()).unwrap_or_default();
    let before = service.deployments.iter().map(|deployment| deployment.id.clone()).filter(|other| *other != id).collect();
    let back_to = plan.back_to.clone().filter(|back_to| *back_to != revision);
    let ours = Ours { id, revision, back_to, before, seen: false };
    Ok(Rollout::new(shared, name, plan, step, next, ours, Some(&service), earlier))
}

/// No answer has come: has ECS begun to roll all the same? A look shows it, at the latest some seconds later.
async fn begun(shared: &Rollouts, name: &UnitName, plan: &ServicePlan, revision: &str, error: AwsError) -> Result<Service, Failure> {
    let mut looked = false;
    for pause in UNANSWERED {
        tokio::time::sleep(pause).await;
        let Ok(found) = shared.aws.services_now(&plan.cluster, &[&plan.service]).await else { continue };
        let Some(service) = found.into_iter().next() else { continue };
        looked = true;
        let primary = service.primary().filter(|primary| primary.task_definition == revision);
        // What failed before at the same revision is no beginning.
        if primary.is_some_and(|primary| revision != plan.from || primary.rollout_state.as_deref() != Some("FAILED")) {
            shared.events.note(format!("{name}: ECS has begun to roll, though its answer was lost"));
            return Ok(service);
        }
    }
    if looked {
        return Err(not_started(name, plan, error));
    }
    let failure = Failure::new(Exit::NotRolledBack, format!("service `{name}`: it is not known whether its rollout has begun"));
    let hint = format!("run the same command again to find out; it was to go from `{}` to `{}`", short(&plan.from), short(revision));
    Err(failure.because(error).hint(hint))
}

/// Takes up a deployment that an earlier run has begun.
pub(super) async fn resume<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    deployment: &str,
    base: Option<&Base>,
) -> Result<Rollout<'a>, Failure> {
    let definition = if let Some(base) = base {
        base.current.clone()
    } else {
        let read = shared.aws.task_definition(&plan.from).await;
        Definition::new(read.map_err(|error| not_started(name, plan, error))?.document().clone())
    };
    let back_to = plan.back_to.clone().filter(|back_to| *back_to != plan.from);
    let ours = Ours { id: deployment.to_owned(), revision: plan.from.clone(), back_to, before: Vec::new(), seen: true };
    Ok(Rollout::new(shared, name, plan, step, definition, ours, None, None))
}
