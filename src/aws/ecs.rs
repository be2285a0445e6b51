//! ECS: clusters, services, their deployments and the tasks that have stopped. Task definitions are in `ecs_task`.

use aws_sdk_ecs::types::DesiredStatus;

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
}

impl Service {
    /// The deployment that the service is told to reach.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
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
    /// `ecs-svc/1234567890123456789`, which is also what starts its tasks.
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

/// A task that has stopped. ECS forgets it about an hour later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoppedTask {
    /// Its ARN.
    pub arn: String,
    /// The ARN of its task definition.
    pub task_definition: String,
    /// The deployment that started it.
    pub started_by: String,
    /// `TaskFailedToStart`, `EssentialContainerExited`, `ServiceSchedulerInitiated` …
    pub stop_code: Option<String>,
    /// The reason in words.
    pub stopped_reason: Option<String>,
    /// When, in seconds since 1970; `None` while it is still stopping.
    pub stopped_at: Option<i64>,
    /// Its containers.
    pub containers: Vec<StoppedContainer>,
}

/// A container of a stopped task.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoppedContainer {
    /// Its name in the task definition.
    pub name: String,
    /// What its process ended with; `None` when it never ran.
    pub exit_code: Option<i32>,
    /// Why: `OutOfMemoryError: …`, `CannotPullContainerError: …`.
    pub reason: Option<String>,
}

impl Aws {
    /// A cluster by its name or ARN; `None` when there is none. One that was deleted may answer as `INACTIVE` for a while.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeClusters.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn cluster(&self, name: &str) -> Result<Option<Cluster>, AwsError> {
        let failed = AwsError::of("ecs:DescribeClusters", name);
        let answer = self.0.ecs.describe_clusters().clusters(name).send().await.map_err(failed)?;
        Ok(answer
            .clusters
            .unwrap_or_default()
            .into_iter()
            .next()
            .map(|cluster| Cluster { arn: cluster.cluster_arn.unwrap_or_default(), status: cluster.status.unwrap_or_default() }))
    }

    /// Up to ten services of a cluster, by name; those that do not exist are absent from the answer.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); more than ten names; not allowed.
    pub async fn services(&self, cluster: &str, names: &[&str]) -> Result<Vec<Service>, AwsError> {
        let failed = AwsError::of("ecs:DescribeServices", format!("{cluster}/{}", names.join(",")));
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let answer = self.0.ecs.describe_services().cluster(cluster).set_services(Some(names)).send().await.map_err(failed)?;
        Ok(answer.services.unwrap_or_default().into_iter().map(service).collect())
    }

    /// Tells a service to run another task definition, and gives the deployment that this began. Nothing else of the service is named,
    /// least of all its desired count, which belongs to autoscaling. A service that runs this task definition already begins none: the
    /// deployment is then the one that there is.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); it is not active; not allowed (`iam:PassRole` for the task's roles
    /// included).
    pub async fn roll_service(&self, cluster: &str, service: &str, task_definition: &str) -> Result<Deployment, AwsError> {
        const OPERATION: &str = "ecs:UpdateService";
        let resource = format!("{cluster}/{service}");
        let request = self.0.ecs.update_service().cluster(cluster).service(service).task_definition(task_definition);
        let answer = request.send().await.map_err(AwsError::of(OPERATION, &resource))?;
        let deployments = answer.service.and_then(|service| service.deployments).unwrap_or_default();
        let primary = deployments.into_iter().map(deployment).find(|deployment| deployment.status == "PRIMARY");
        primary.ok_or_else(|| AwsError::unexpected(OPERATION, resource, "the answer holds no primary deployment"))
    }

    /// The tasks of a service that have stopped; with a `deployment_id` that is not empty, without those that another deployment started.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>,
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); not allowed.
    pub async fn stopped_tasks(&self, cluster: &str, service: &str, deployment_id: &str) -> Result<Vec<StoppedTask>, AwsError> {
        let resource = format!("{cluster}/{service}");
        let request = self.0.ecs.list_tasks().cluster(cluster).service_name(service).desired_status(DesiredStatus::Stopped);
        let mut pages = request.into_paginator().send();
        let mut arns = Vec::new();
        while let Some(page) = pages.next().await {
            arns.extend(page.map_err(AwsError::of("ecs:ListTasks", &resource))?.task_arns.unwrap_or_default());
        }
        let mut tasks = Vec::new();
        // DescribeTasks takes at most 100.
        for batch in arns.chunks(100) {
            let request = self.0.ecs.describe_tasks().cluster(cluster).set_tasks(Some(batch.to_vec()));
            let answer = request.send().await.map_err(AwsError::of("ecs:DescribeTasks", &resource))?;
            tasks.extend(answer.tasks.unwrap_or_default().into_iter().map(stopped_task));
        }
        tasks.retain(|task| is_of(task, deployment_id));
        Ok(tasks)
    }
}

/// AWS starts a service's tasks under the id of its deployment. A task that names no deployment at all is kept.
fn is_of(task: &StoppedTask, deployment_id: &str) -> bool {
    deployment_id.is_empty() || task.started_by == deployment_id || !task.started_by.starts_with("ecs-svc/")
}

fn service(service: aws_sdk_ecs::types::Service) -> Service {
    let rolling = service.deployment_configuration;
    let breaker = rolling.as_ref().and_then(|rolling| rolling.deployment_circuit_breaker.as_ref());
    Service {
        name: service.service_name.unwrap_or_default(),
        arn: service.service_arn.unwrap_or_default(),
        status: service.status.unwrap_or_default(),
        task_definition: service.task_definition.unwrap_or_default(),
        desired: service.desired_count,
        running: service.running_count,
        pending: service.pending_count,
        // A service without a controller is rolled by ECS.
        controller: service.deployment_controller.map_or_else(|| "ECS".to_owned(), |controller| controller.r#type.as_str().to_owned()),
        launch_type: service.launch_type.map(|kind| kind.as_str().to_owned()),
        scheduling: service.scheduling_strategy.map_or_else(|| "REPLICA".to_owned(), |strategy| strategy.as_str().to_owned()),
        strategy: rolling.as_ref().and_then(|rolling| rolling.strategy.as_ref()).map(|strategy| strategy.as_str().to_owned()),
        circuit_breaker: breaker.map(|breaker| CircuitBreaker { enabled: breaker.enable, rollback: breaker.rollback }),
        minimum_healthy_percent: rolling.as_ref().and_then(|rolling| rolling.minimum_healthy_percent),
        maximum_percent: rolling.as_ref().and_then(|rolling| rolling.maximum_percent),
        health_check_grace_seconds: service.health_check_grace_period_seconds,
        deployments: service.deployments.unwrap_or_default().into_iter().map(deployment).collect(),
        events: service.events.unwrap_or_default().into_iter().map(event).collect(),
        target_groups: service.load_balancers.unwrap_or_default().into_iter().filter_map(|balancer| balancer.target_group_arn).collect(),
    }
}

fn deployment(deployment: aws_sdk_ecs::types::Deployment) -> Deployment {
    Deployment {
        id: deployment.id.unwrap_or_default(),
        status: deployment.status.unwrap_or_default(),
        task_definition: deployment.task_definition.unwrap_or_default(),
        rollout_state: deployment.rollout_state.map(|state| state.as_str().to_owned()),
        rollout_reason: deployment.rollout_state_reason.filter(|reason| !reason.is_empty()),
        failed_tasks: deployment.failed_tasks,
        running: deployment.running_count,
        desired: deployment.desired_count,
        pending: deployment.pending_count,
        created_at: deployment.created_at.map(|at| at.secs()).unwrap_or_default(),
    }
}

fn event(event: aws_sdk_ecs::types::ServiceEvent) -> Event {
    Event {
        id: event.id.unwrap_or_default(),
        created_at: event.created_at.map(|at| at.secs()).unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    }
}

fn stopped_task(task: aws_sdk_ecs::types::Task) -> StoppedTask {
    let container = |container: aws_sdk_ecs::types::Container| StoppedContainer {
        name: container.name.unwrap_or_default(),
        exit_code: container.exit_code,
        reason: container.reason,
    };
    StoppedTask {
        arn: task.task_arn.unwrap_or_default(),
        task_definition: task.task_definition_arn.unwrap_or_default(),
        started_by: task.started_by.unwrap_or_default(),
        stop_code: task.stop_code.map(|code| code.as_str().to_owned()),
        stopped_reason: task.stopped_reason,
        stopped_at: task.stopped_at.map(|at| at.secs()),
        containers: task.containers.unwrap_or_default().into_iter().map(container).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_another_deployment_is_left_out() {
        let task = |started_by: &str| stopped_task(aws_sdk_ecs::types::Task::builder().started_by(started_by).build());
        assert!(is_of(&task("ecs-svc/1"), "ecs-svc/1") && is_of(&task("ecs-svc/2"), "") && is_of(&task("api"), "ecs-svc/1"));
        assert!(!is_of(&task("ecs-svc/2"), "ecs-svc/1"));
    }
}
