//! Takes old revisions out of use, where the policy says how many stay. Nothing of a release hangs on it: what fails is said.

use std::collections::{BTreeMap, BTreeSet};

use crate::aws::{Aws, AwsError};
use crate::event::Events;
use crate::model::UnitName;

use super::execute::short;
use super::plan::ServicePlan;

/// The most that one release takes out of use of one family: `DeregisterTaskDefinition` allows one a second.
const AT_ONCE: usize = 5;

/// Deregisters what is older than the revisions that stay. Whatever `named` holds, a running task runs, or the plan began with, stays.
///
/// `named` is asked once there is anything to take out of use: it may be many records.
pub async fn tidy<E: std::fmt::Display>(
    aws: &Aws,
    services: &BTreeMap<UnitName, ServicePlan>,
    named: impl AsyncFn() -> Result<BTreeSet<String>, E>,
    events: &Events,
) {
    let mut known = None;
    for (name, plan) in services {
        let Some(keep) = plan.keep_revisions else { continue };
        let old = match old(aws, plan, keep).await {
            Ok(old) if old.is_empty() => continue,
            Ok(old) => old,
            Err(error) => {
                events.note(format!("{name}: old revisions stay: {error}"));
                continue;
            }
        };
        if known.is_none() {
            match named().await {
                Ok(all) => known = Some(all),
                Err(error) => return events.note(format!("old revisions stay, as it is not known which of them records name: {error}")),
            }
        }
        let known = known.as_ref().into_iter().flatten().collect::<BTreeSet<_>>();
        // The oldest first.
        let old: Vec<&String> = old.iter().rev().filter(|arn| !known.contains(arn)).take(AT_ONCE).collect();
        match deregister(aws, &old).await {
            Ok(0) => {}
            Ok(count) => events.note(format!("{name}: {count} old revisions are out of use; {keep} stay, and those that are in use")),
            Err(error) => events.note(format!("{name}: old revisions stay: {error}")),
        }
    }
}

async fn deregister(aws: &Aws, old: &[&String]) -> Result<usize, AwsError> {
    for arn in old {
        aws.deregister_task_definition(arn).await?;
    }
    Ok(old.len())
}

/// The revisions beyond those that stay which nothing in ECS uses, newest first.
async fn old(aws: &Aws, plan: &ServicePlan, keep: u32) -> Result<Vec<String>, AwsError> {
    let Some((family, _)) = short(&plan.from).rsplit_once(':') else { return Ok(Vec::new()) };
    let revisions = aws.revisions(family).await?;
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    if revisions.len() <= keep {
        return Ok(Vec::new());
    }
    // A task anywhere in this cluster; other clusters' services are not known here, which is why what is named stays too.
    let running: BTreeSet<String> = aws.running_revisions(&plan.cluster, family).await?.into_iter().collect();
    let told: BTreeSet<String> = aws
        .services(&plan.cluster, &[&plan.service])
        .await?
        .into_iter()
        .flat_map(|service| {
            service
                .deployments
                .into_iter()
                .map(|deployment| deployment.task_definition)
                .chain([service.task_definition])
                .collect::<Vec<_>>()
        })
        .collect();
    let in_use = |arn: &String| {
        let scheduled = plan.schedules.iter().any(|schedule| schedule.from == *arn);
        scheduled || running.contains(arn) || told.contains(arn) || *arn == plan.from || plan.back_to.as_ref() == Some(arn)
    };
    Ok(revisions.into_iter().skip(keep).filter(|arn| !in_use(arn)).collect())
}
