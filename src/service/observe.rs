//! Looks for a service, the revision that it runs and the deployment in force.

use crate::aws::Aws;
use crate::config::Service;
use crate::model::{Exit, Failure, UnitName};

use super::plan::{Found, FoundService};

/// The service as it is.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn service(aws: &Aws, name: &UnitName, service: &Service) -> Result<Found, Failure> {
    let failed = |error: crate::aws::AwsError| {
        let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again".to_owned());
        Failure::new(Exit::Preflight, format!("looking for the service `{name}` failed")).because(error).hint(hint)
    };
    let cluster = aws.cluster(&service.cluster).await.map_err(failed)?;
    if cluster.is_none_or(|cluster| cluster.status == "INACTIVE") {
        return Ok(Found::NoCluster);
    }
    let found = aws.services(&service.cluster, &[&service.service]).await.map_err(failed)?;
    let Some(found) = found.into_iter().next() else { return Ok(Found::NoService) };
    let revision = aws.task_definition(&found.task_definition).await.map_err(failed)?;
    let deployment = found.primary().map(|primary| {
        let state = primary.rollout_state.clone().unwrap_or_else(|| "COMPLETED".to_owned());
        (primary.id.clone(), state)
    });
    Ok(Found::Service(Box::new(FoundService {
        status: found.status.clone(),
        controller: found.controller.clone(),
        revision: revision.arn.clone(),
        images: revision.containers.into_iter().map(|container| (container.name, container.image)).collect(),
        architecture: revision.cpu_architecture,
        deployment,
        tasks: (found.desired, found.running),
    })))
}
