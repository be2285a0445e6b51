//! Application Auto Scaling: between which numbers of tasks a service is held, and by what.

use serde_json::json;

use super::ecs_json::{count, list};
use super::query::Service;
use super::{Aws, AwsError};

/// How a service is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// The least number of tasks.
    pub min: i32,
    /// The greatest.
    pub max: i32,
    /// How many policies change it.
    pub policies: usize,
    /// Does it neither add nor remove tasks at present?
    pub suspended: bool,
}

impl Aws {
    /// How an ECS service is scaled; `None` if it is not.
    ///
    /// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html>,
    /// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalingPolicies.html>
    ///
    /// # Errors
    /// Not allowed; the endpoint does not know the service.
    pub async fn scaling(&self, cluster: &str, service: &str) -> Result<Option<Scaling>, AwsError> {
        let id = resource(cluster, service);
        let question = json!({"ServiceNamespace": "ecs", "ResourceIds": [id], "ScalableDimension": "ecs:service:DesiredCount"});
        let targets = self.json(Service::ApplicationAutoScaling, "application-autoscaling:DescribeScalableTargets", &id, &question).await?;
        let Some(target) = list(&targets, "ScalableTargets").first() else { return Ok(None) };
        let question = json!({"ServiceNamespace": "ecs", "ResourceId": id});
        let policies =
            self.json(Service::ApplicationAutoScaling, "application-autoscaling:DescribeScalingPolicies", &id, &question).await?;
        let policies = list(&policies, "ScalingPolicies").len();
        let state = target.get("SuspendedState");
        let is_off = |key: &str| state.and_then(|state| state.get(key)).and_then(serde_json::Value::as_bool).unwrap_or_default();
        let suspended = is_off("DynamicScalingOutSuspended") && is_off("ScheduledScalingSuspended");
        Ok(Some(Scaling { suspended, min: count(target, "MinCapacity"), max: count(target, "MaxCapacity"), policies }))
    }

    /// Suspends all scaling of an ECS service, or lets it go on. Its limits and policies stay.
    ///
    /// <https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-suspend-resume-scaling.html>
    ///
    /// # Errors
    /// It is not scaled at all ([`AwsError::is_not_found`]); not allowed.
    pub async fn suspend_scaling(&self, cluster: &str, service: &str, suspended: bool) -> Result<(), AwsError> {
        let id = resource(cluster, service);
        let state = json!({
            "DynamicScalingInSuspended": suspended, "DynamicScalingOutSuspended": suspended, "ScheduledScalingSuspended": suspended,
        });
        let body = json!({
            "ServiceNamespace": "ecs", "ResourceId": id, "ScalableDimension": "ecs:service:DesiredCount", "SuspendedState": state,
        });
        self.json(Service::ApplicationAutoScaling, "application-autoscaling:RegisterScalableTarget", &id, &body).await.map(drop)
    }
}

/// `service/CLUSTER/SERVICE`, by their names, whether those or their ARNs are given.
fn resource(cluster: &str, service: &str) -> String {
    let name = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    format!("service/{}/{}", name(cluster), name(service))
}
