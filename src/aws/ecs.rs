//! ECS: clusters, services and their deployments. Task definitions are in `ecs_task`, stopped tasks in `ecs_stopped`, what the newer
//! actions say of a deployment in `ecs_deployment`.

use serde_json::{Value, json};

use super::ecs_json::{Patience, count, failures, list, moment, number, text, text_or_empty, texts};
use super::{Aws, AwsError};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cluster {
    /// Its ARN.
    pub arn: String,
    /// `ACTIVE`, or why not.
    pub status: String,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// The ARN of the task definition that it is told to run.
    pub task_definition: String,
    /// Tasks wanted.
    pub desired: i32,
    /// Tasks running.
    pub running: i32,
    /// Tasks starting.
    pub pending: i32,
    /// Who rolls it: `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: String,
    /// `FARGATE`, `EC2` or `EXTERNAL`; `None` with a capacity provider strategy.
    pub launch_type: Option<String>,
    /// `REPLICA` or `DAEMON`.
    pub scheduling: String,
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR` or `CANARY`; `None` where AWS says nothing, which is `ROLLING`.
    pub strategy: Option<String>,
    /// Gives up a deployment whose tasks keep failing; `None` when it is not configured.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The share of the desired tasks that stay healthy while it rolls, in percent.
    pub minimum_healthy_percent: Option<i32>,
    /// The share of the desired tasks that may run while it rolls, in percent.
    pub maximum_percent: Option<i32>,
    /// For how many seconds a new task's failing health checks are ignored.
    pub health_check_grace_seconds: Option<i32>,
    /// What it runs, and is rolling to or from; the newest is `PRIMARY`.
    pub deployments: Vec<Deployment>,
    /// Its last 100 events, newest first.
    pub events: Vec<Event>,
    /// The ARNs of the target groups that its tasks are registered with.
    pub target_groups: Vec<String>,
    /// Of deployments with stages: those that the next tasks are registered with, and which serve once traffic is shifted.
    pub alternate_target_groups: Vec<String>,
    /// The alarms that end a deployment.
    pub alarms: Vec<String>,
}

impl Service {
    /// The deployment that the service is told to reach.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        let first = || self.deployments.first().filter(|_| self.deployments.iter().all(|deployment| deployment.status.is_empty()));
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY").or_else(first)
    }
}

/// What happens when tasks keep failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CircuitBreaker {
    /// The deployment is given up.
    pub enabled: bool,
    /// Then the last good one is deployed again.
    pub rollback: bool,
}

/// One deployment of a service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deployment {
    /// `ecs-svc/1234567890123456789`, which is also what starts its tasks; empty where the endpoint gives none.
    pub id: String,
    /// `PRIMARY`, `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// The ARN of its task definition.
    pub task_definition: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`; `None` for a controller that is not ECS.
    pub rollout_state: Option<String>,
    /// Why it is in this state.
    pub rollout_reason: Option<String>,
    /// Tasks that failed to start.
    pub failed_tasks: i32,
    /// Tasks running.
    pub running: i32,
    /// Tasks wanted.
    pub desired: i32,
    /// Tasks starting.
    pub pending: i32,
    /// When it began, in seconds since 1970.
    pub created_at: i64,
}

/// Something that ECS did for a service, or could not do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// When, in seconds since 1970.
    pub created_at: i64,
    /// What.
    pub message: String,
}

impl Aws {
    /// A cluster by its name or ARN; `None` when there is none. One that was deleted may answer as `INACTIVE` for a while.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeClusters.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn cluster(&self, name: &str) -> Result<Option<Cluster>, AwsError> {
        let answer = self.ecs("ecs:DescribeClusters", name, &json!({"clusters": [name]}), Patience::Usual).await?;
        let cluster = |value: &Value| Cluster { arn: text_or_empty(value, "clusterArn"), status: text_or_empty(value, "status") };
        Ok(list(&answer, "clusters").first().map(cluster))
    }

    /// Up to ten services of a cluster, by name; those that do not exist, or no more, are absent from the answer.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); more than ten names; not allowed.
    pub async fn services(&self, cluster: &str, names: &[&str]) -> Result<Vec<Service>, AwsError> {
        self.describe_services(cluster, names, Patience::Usual).await
    }

    /// As [`Aws::services`], for somebody who looks again soon anyway: few attempts, little time.
    ///
    /// # Errors
    /// As [`Aws::services`], and sooner.
    pub async fn services_now(&self, cluster: &str, names: &[&str]) -> Result<Vec<Service>, AwsError> {
        self.describe_services(cluster, names, Patience::Little).await
    }

    async fn describe_services(&self, cluster: &str, names: &[&str], patience: Patience) -> Result<Vec<Service>, AwsError> {
        const OPERATION: &str = "ecs:DescribeServices";
        let resource = format!("{cluster}/{}", names.join(","));
        let answer = self.ecs(OPERATION, &resource, &json!({"cluster": cluster, "services": names}), patience).await?;
        let services: Vec<Service> = list(&answer, "services").iter().map(service).collect();
        // A service that is not there is said to be MISSING; whatever else fails is a failure.
        match failures(&answer).into_iter().find(|failure| !failure.contains("MISSING")) {
            Some(failure) if services.is_empty() => Err(AwsError::unexpected(OPERATION, resource, failure)),
            _ => Ok(services),
        }
    }

    /// Tells a service to run a task definition, and gives the service as it is then, with the deployment that this began. Nothing else
    /// of the service is named, least of all its desired count, which belongs to auto scaling. A service that runs this task definition
    /// already begins none unless `force` is set. With `tasks` its desired count is set too: for a service that was stopped.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); it is not active; not allowed (`iam:PassRole` for the task's roles
    /// included).
    pub async fn roll_service(
        &self,
        cluster: &str,
        name: &str,
        task_definition: &str,
        force: bool,
        tasks: Option<i32>,
    ) -> Result<Service, AwsError> {
        const OPERATION: &str = "ecs:UpdateService";
        let resource = format!("{cluster}/{name}");
        let mut body = json!({"cluster": cluster, "service": name, "taskDefinition": task_definition});
        if force {
            body["forceNewDeployment"] = Value::Bool(true);
        }
        if let Some(tasks) = tasks {
            body["desiredCount"] = Value::from(tasks);
        }
        let answer = self.ecs(OPERATION, &resource, &body, Patience::Usual).await?;
        answer.get("service").map(service).ok_or_else(|| AwsError::unexpected(OPERATION, resource, "the answer holds no service"))
    }
}

fn service(value: &Value) -> Service {
    let nothing = Value::Null;
    let rolling = value.get("deploymentConfiguration").unwrap_or(&nothing);
    let breaker = rolling.get("deploymentCircuitBreaker");
    let yes = |value: &Value, key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    let alarms = rolling.get("alarms").filter(|alarms| yes(alarms, "enable"));
    Service {
        name: text_or_empty(value, "serviceName"),
        arn: text_or_empty(value, "serviceArn"),
        // Nobody leaves this out of a service that is going.
        status: text(value, "status").unwrap_or_else(|| "ACTIVE".to_owned()),
        task_definition: text_or_empty(value, "taskDefinition"),
        desired: count(value, "desiredCount"),
        running: count(value, "runningCount"),
        pending: count(value, "pendingCount"),
        // A service without a controller is rolled by ECS.
        controller: value.get("deploymentController").and_then(|controller| text(controller, "type")).unwrap_or_else(|| "ECS".to_owned()),
        launch_type: text(value, "launchType"),
        scheduling: text(value, "schedulingStrategy").unwrap_or_else(|| "REPLICA".to_owned()),
        strategy: text(rolling, "strategy"),
        circuit_breaker: breaker.map(|breaker| CircuitBreaker { enabled: yes(breaker, "enable"), rollback: yes(breaker, "rollback") }),
        minimum_healthy_percent: number(rolling, "minimumHealthyPercent"),
        maximum_percent: number(rolling, "maximumPercent"),
        health_check_grace_seconds: number(value, "healthCheckGracePeriodSeconds"),
        deployments: list(value, "deployments").iter().map(deployment).collect(),
        events: list(value, "events").iter().map(event).collect(),
        target_groups: list(value, "loadBalancers").iter().filter_map(|balancer| text(balancer, "targetGroupArn")).collect(),
        alternate_target_groups: list(value, "loadBalancers").iter().filter_map(alternate).collect(),
        alarms: alarms.map(|alarms| texts(alarms, "alarmNames")).unwrap_or_default(),
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AdvancedConfiguration.html>
fn alternate(balancer: &Value) -> Option<String> {
    text(balancer.get("advancedConfiguration")?, "alternateTargetGroupArn")
}

fn deployment(value: &Value) -> Deployment {
    Deployment {
        id: text_or_empty(value, "id"),
        status: text_or_empty(value, "status"),
        task_definition: text_or_empty(value, "taskDefinition"),
        rollout_state: text(value, "rolloutState"),
        rollout_reason: text(value, "rolloutStateReason"),
        failed_tasks: count(value, "failedTasks"),
        running: count(value, "runningCount"),
        desired: count(value, "desiredCount"),
        pending: count(value, "pendingCount"),
        created_at: seconds(value, "createdAt").unwrap_or_default(),
    }
}

fn event(value: &Value) -> Event {
    let (message, created_at) = (text_or_empty(value, "message"), seconds(value, "createdAt").unwrap_or_default());
    Event { id: text(value, "id").unwrap_or_else(|| format!("{created_at} {message}")), created_at, message }
}

/// A moment in whole seconds since 1970.
pub(super) fn seconds(value: &Value, key: &str) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are meant")]
    moment(value, key).map(|at| at as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_almost_nothing_in_it_is_read() {
        let read = service(&json!({"serviceName": "api", "deployments": [{"status": "PRIMARY", "rolloutState": "SOMETHING_NEW"}]}));
        assert_eq!((read.status.as_str(), read.controller.as_str(), read.scheduling.as_str()), ("ACTIVE", "ECS", "REPLICA"));
        let primary = read.primary().unwrap();
        assert_eq!((primary.id.as_str(), primary.rollout_state.as_deref(), primary.desired), ("", Some("SOMETHING_NEW"), 0));
    }
}
