//! ECS: the tasks of a service, above all those that have stopped. ECS forgets a stopped task about an hour later.

use serde_json::{Value, json};

use super::ecs::seconds;
use super::ecs_json::{Patience, list, number, of_texts, text, text_or_empty};
use super::{Aws, AwsError};

/// `DescribeTasks` takes at most 100.
const BATCH: usize = 100;

/// A task that has stopped, or is stopping.
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
    /// When it was created, in seconds since 1970.
    pub created_at: Option<i64>,
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
    /// `HEALTHY`, `UNHEALTHY`, `UNKNOWN`.
    pub health: Option<String>,
    /// The id that the container's runtime gave it, after which its log stream is named where there is no prefix.
    pub runtime_id: Option<String>,
}

impl Aws {
    /// The ARNs of a service's stopped tasks, those of other deployments included.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); not allowed.
    pub async fn stopped_task_arns(&self, cluster: &str, service: &str) -> Result<Vec<String>, AwsError> {
        self.task_arns(json!({"cluster": cluster, "serviceName": service, "desiredStatus": "STOPPED"})).await
    }

    /// The tasks of a service that run, those of other deployments included.
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); not allowed.
    pub async fn running_tasks(&self, cluster: &str, service: &str) -> Result<Vec<StoppedTask>, AwsError> {
        let arns = self.task_arns(json!({"cluster": cluster, "serviceName": service, "desiredStatus": "RUNNING"})).await?;
        self.stopped_tasks(cluster, &arns).await
    }

    /// The revisions that tasks of a family are running now.
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn running_revisions(&self, cluster: &str, family: &str) -> Result<Vec<String>, AwsError> {
        let arns = self.task_arns(json!({"cluster": cluster, "family": family, "desiredStatus": "RUNNING"})).await?;
        Ok(self.stopped_tasks(cluster, &arns).await?.into_iter().map(|task| task.task_definition).collect())
    }

    /// The tasks of a family that have ended, and were started under this name: ECS lists those that run alone by that.
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn ended_tasks(&self, cluster: &str, family: &str, started_by: &str) -> Result<Vec<StoppedTask>, AwsError> {
        let arns = self.task_arns(json!({"cluster": cluster, "family": family, "desiredStatus": "STOPPED"})).await?;
        Ok(self.stopped_tasks(cluster, &arns).await?.into_iter().filter(|task| task.started_by == started_by).collect())
    }

    async fn task_arns(&self, question: Value) -> Result<Vec<String>, AwsError> {
        let resource = text_or_empty(&question, "cluster");
        Ok(of_texts(&self.ecs_pages("ecs:ListTasks", &resource, question, "taskArns", Patience::Little).await?))
    }

    /// Tasks by their ARNs; those that ECS has forgotten are absent.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn stopped_tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<StoppedTask>, AwsError> {
        let mut tasks = Vec::new();
        for batch in arns.chunks(BATCH) {
            let question = json!({"cluster": cluster, "tasks": batch});
            let answer = self.ecs("ecs:DescribeTasks", cluster, &question, Patience::Little).await?;
            tasks.extend(list(&answer, "tasks").iter().map(stopped_task));
        }
        Ok(tasks)
    }
}

fn stopped_task(value: &Value) -> StoppedTask {
    let container = |container: &Value| StoppedContainer {
        name: text_or_empty(container, "name"),
        exit_code: number(container, "exitCode"),
        reason: text(container, "reason"),
        health: text(container, "healthStatus"),
        runtime_id: text(container, "runtimeId"),
    };
    StoppedTask {
        arn: text_or_empty(value, "taskArn"),
        task_definition: text_or_empty(value, "taskDefinitionArn"),
        started_by: text_or_empty(value, "startedBy"),
        stop_code: text(value, "stopCode"),
        stopped_reason: text(value, "stoppedReason"),
        created_at: seconds(value, "createdAt"),
        stopped_at: seconds(value, "stoppedAt"),
        containers: list(value, "containers").iter().map(container).collect(),
    }
}
