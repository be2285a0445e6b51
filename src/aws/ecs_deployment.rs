//! ECS: service deployments, the newer and more talkative view of what `deployments[]` of a service says. Not every endpoint has it.

use serde_json::{Value, json};

use super::ecs_json::{Patience, count, list, text, text_or_empty, texts};
use super::{Aws, AwsError};

/// A service deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceDeployment {
    /// Its ARN.
    pub arn: String,
    /// `PENDING`, `IN_PROGRESS`, `SUCCESSFUL`, `STOP_REQUESTED`, `STOPPED`, `ROLLBACK_REQUESTED`, `ROLLBACK_IN_PROGRESS`,
    /// `ROLLBACK_SUCCESSFUL`, `ROLLBACK_FAILED`.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// Of a blue/green, linear or canary deployment: `SCALE_UP`, `TEST_TRAFFIC_SHIFT`, `BAKE_TIME` …
    pub lifecycle_stage: Option<String>,
    /// Why it was rolled back.
    pub rollback_reason: Option<String>,
    /// The alarms that have gone off.
    pub triggered_alarms: Vec<String>,
    /// Failures counted by the circuit breaker, of how many.
    pub failures: Option<(i32, i32)>,
}

impl Aws {
    /// The service deployment that is under way, or the newest one that is not.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListServiceDeployments.html>,
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceDeployments.html>
    ///
    /// # Errors
    /// The endpoint has no such action; not allowed.
    pub async fn service_deployment(&self, cluster: &str, service: &str) -> Result<Option<ServiceDeployment>, AwsError> {
        let resource = format!("{cluster}/{service}");
        let question = json!({"cluster": cluster, "service": service, "maxResults": 100});
        // In which order they come is not said: the newest may be on the last page.
        let briefs = self.ecs_pages("ecs:ListServiceDeployments", &resource, question, "serviceDeployments", Patience::Little).await?;
        let at = |brief: &Value| super::ecs_json::moment(brief, "createdAt").unwrap_or_default();
        // Of equal ones the first: AWS's own examples begin with the newest.
        let newest = briefs.iter().rev().max_by(|one, other| at(one).total_cmp(&at(other)));
        let Some(arn) = newest.and_then(|brief| text(brief, "serviceDeploymentArn")) else { return Ok(None) };
        self.described_deployment(&arn).await
    }

    /// A service deployment by its ARN.
    ///
    /// # Errors
    /// As [`Aws::service_deployment`].
    pub async fn described_deployment(&self, arn: &str) -> Result<Option<ServiceDeployment>, AwsError> {
        let question = json!({"serviceDeploymentArns": [arn]});
        let answer = self.ecs("ecs:DescribeServiceDeployments", arn, &question, Patience::Little).await?;
        Ok(list(&answer, "serviceDeployments").first().map(service_deployment))
    }

    /// Stops a service deployment, and rolls it back to the last one that was completed.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopServiceDeployment.html>
    ///
    /// # Errors
    /// It is over already; there is none to go back to; the endpoint has no such action; not allowed.
    pub async fn stop_service_deployment(&self, arn: &str) -> Result<(), AwsError> {
        let question = json!({"serviceDeploymentArn": arn, "stopType": "ROLLBACK"});
        self.ecs("ecs:StopServiceDeployment", arn, &question, Patience::Little).await.map(drop)
    }
}

fn service_deployment(value: &Value) -> ServiceDeployment {
    let breaker = value.get("deploymentCircuitBreaker");
    ServiceDeployment {
        arn: text_or_empty(value, "serviceDeploymentArn"),
        status: text_or_empty(value, "status"),
        reason: text(value, "statusReason"),
        lifecycle_stage: text(value, "lifecycleStage"),
        rollback_reason: value.get("rollback").and_then(|rollback| text(rollback, "reason")),
        triggered_alarms: value.get("alarms").map(|alarms| texts(alarms, "triggeredAlarmNames")).unwrap_or_default(),
        failures: breaker.map(|breaker| (count(breaker, "failureCount"), count(breaker, "threshold"))).filter(|(_, of)| *of > 0),
    }
}
