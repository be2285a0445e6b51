//! Looks for services, the revisions that they run and the deployments in force.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use crate::aws::{self, Aws, AwsError};
use crate::config::{ScheduledTasks, Service};
use crate::model::{Exit, Failure, UnitName};

use super::plan::{Base, Found, FoundService, Schedule, Way};
use super::revision::Definition;

/// `DescribeServices` takes at most ten names.
const BATCH: usize = 10;

/// The service as it is.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn service(aws: &Aws, name: &UnitName, service: &Service) -> Result<Found, Failure> {
    let found = services(aws, &[(name, service)]).await?;
    Ok(found.into_iter().next().map_or(Found::NoService, |(_, found)| found))
}

/// The services as they are: one question for up to ten of a cluster, and one for each one's revision.
///
/// # Errors
/// AWS fails in another way than by not finding one.
pub async fn services(aws: &Aws, wanted: &[(&UnitName, &Service)]) -> Result<BTreeMap<UnitName, Found>, Failure> {
    let mut by_cluster: BTreeMap<&str, Vec<(&UnitName, &Service)>> = BTreeMap::new();
    for &(name, service) in wanted {
        by_cluster.entry(&service.cluster).or_default().push((name, service));
    }
    let batches = by_cluster.iter().flat_map(|(&cluster, all)| all.chunks(BATCH).map(move |batch| (cluster, batch)));
    let found = try_join_all(batches.map(|(cluster, batch)| batch_of(aws, cluster, batch))).await?;
    Ok(found.into_iter().flatten().collect())
}

async fn batch_of(aws: &Aws, cluster: &str, batch: &[(&UnitName, &Service)]) -> Result<Vec<(UnitName, Found)>, Failure> {
    let named: Vec<String> = batch.iter().map(|(name, _)| format!("`{name}`")).collect();
    let failed = |error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again".to_owned());
        let which = if named.len() == 1 { "service" } else { "services" };
        Failure::new(Exit::Preflight, format!("looking for the {which} {} failed", named.join(", "))).because(error).hint(hint)
    };
    let none = |found: fn() -> Found| Ok(batch.iter().map(|(name, _)| ((*name).clone(), found())).collect());
    let on_ecs: Vec<&str> = batch.iter().map(|(_, service)| service.service.as_str()).collect();
    let found = match aws.services(cluster, &on_ecs).await {
        Err(error) if error.is_not_found() => return none(|| Found::NoCluster),
        found => found.map_err(failed)?,
    };
    if found.is_empty() {
        // An endpoint may say of a cluster that is not there that its services are missing.
        let there = aws.cluster(cluster).await.map_err(failed)?.is_some_and(|cluster| cluster.status != "INACTIVE");
        return none(if there { || Found::NoService } else { || Found::NoCluster });
    }
    try_join_all(batch.iter().map(|&(name, service)| {
        // Named by ARN, a service is answered by its name.
        let own_name = service.service.rsplit('/').next().unwrap_or_default();
        let own = found.iter().find(|found| found.name == own_name || found.arn == service.service);
        async move {
            let Some(own) = own else { return Ok((name.clone(), Found::NoService)) };
            let mut known = described(aws, own).await.map_err(failed)?;
            if service.scheduled_tasks == ScheduledTasks::Follow {
                known.schedules = schedules(aws, cluster, &known.revision).await.map_err(failed)?;
            }
            Ok((name.clone(), Found::Service(Box::new(known))))
        }
    }))
    .await
}

async fn described(aws: &Aws, service: &aws::Service) -> Result<FoundService, AwsError> {
    // What somebody else rolls may have task sets, and no revision of its own.
    let (revision, newest) = match service.task_definition.as_str() {
        "" => (None, None),
        own => revisions(aws, own).await.map(|(revision, newest)| (Some(revision), newest))?,
    };
    let arn = revision.as_ref().map(|revision| revision.arn.clone()).unwrap_or_default();
    let document = revision.as_ref().map_or(&serde_json::Value::Null, |revision| revision.document());
    let containers = revision.iter().flat_map(|revision| &revision.containers);
    let primary = service.primary();
    // Where there are no rollout states, what has all its tasks is complete.
    let complete = |deployment: &&aws::Deployment| match deployment.rollout_state.as_deref() {
        None => service.deployments.len() == 1 || deployment.running >= deployment.desired,
        state => state == Some("COMPLETED"),
    };
    // A rollback that is under way leads to where it leads, whatever ran before.
    let serving = primary.filter(complete).or_else(|| service.deployments.iter().filter(complete).max_by_key(|one| one.running));
    let older = || service.deployments.iter().find(|one| one.status != "PRIMARY" && one.rollout_state.as_deref() != Some("FAILED"));
    let serving = serving.or_else(older).map(|deployment| deployment.task_definition.clone());
    // Before its first deployment has ended, nothing else has ever served.
    let serving = serving.or_else(|| service.deployments.is_empty().then(|| arn.clone()));
    let breaker = service.circuit_breaker;
    Ok(FoundService {
        status: service.status.clone(),
        controller: service.controller.clone(),
        revision: arn,
        images: containers.map(|container| (container.name.clone(), container.image.clone())).collect(),
        architecture: revision.as_ref().and_then(|revision| revision.cpu_architecture.clone()),
        deployment: primary.map(|primary| {
            let otherwise = || if complete(&primary) { "COMPLETED" } else { "IN_PROGRESS" };
            let state = primary.rollout_state.clone().unwrap_or_else(|| otherwise().to_owned());
            (primary.id.clone(), state)
        }),
        tasks: (service.desired, service.running),
        serving,
        base: Base {
            current: Definition::new(document.clone()),
            newest: newest.map(|newest| (newest.arn.clone(), Definition::new(newest.document().clone()))),
        },
        scheduling: service.scheduling.clone(),
        percent: (service.minimum_healthy_percent, service.maximum_percent),
        way: Way {
            strategy: service.strategy.clone().unwrap_or_default(),
            breaker: breaker.is_some_and(|breaker| breaker.enabled),
            rolls_back: breaker.is_some_and(|breaker| breaker.enabled && breaker.rollback) || !service.alarms.is_empty(),
            // After a deployment with stages the other group may be the one that serves.
            target_groups: [&service.target_groups[..], &service.alternate_target_groups].concat(),
        },
        schedules: Vec::new(),
    })
}

/// What starts tasks of a revision's family in a cluster. What names no revision starts the newest anyway.
async fn schedules(aws: &Aws, cluster: &str, revision: &str) -> Result<Vec<Schedule>, AwsError> {
    let Some(cluster) = aws.cluster(cluster).await? else { return Ok(Vec::new()) };
    let family = revision.rsplit_once(':').map_or(revision, |(family, _)| family);
    let of_family = |arn: &str| arn.rsplit_once(':').is_some_and(|(own, number)| own == family && number.parse::<u32>().is_ok());
    let found = aws.scheduled_tasks(&cluster.arn).await?.into_iter().filter(|task| of_family(&task.task_definition));
    Ok(found.map(|task| Schedule { group: task.group, name: task.name, target: task.target, from: task.task_definition }).collect())
}

/// The revision, and its family's newest where that is another. Mostly it is the same one, which is why it is asked for first.
async fn revisions(aws: &Aws, arn: &str) -> Result<(aws::TaskDefinition, Option<aws::TaskDefinition>), AwsError> {
    let family = arn.rsplit('/').next().unwrap_or(arn).split(':').next().unwrap_or_default();
    // Where nobody may ask by family, or none is active, the revision itself still answers.
    let newest = aws.task_definition(family).await.ok();
    match newest {
        Some(newest) if newest.arn == arn => Ok((newest, None)),
        newest => Ok((aws.task_definition(arn).await?, newest.filter(|newest| !newest.arn.is_empty()))),
    }
}
