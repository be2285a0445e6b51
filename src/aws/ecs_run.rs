//! ECS tasks that are run once: as a service's tasks are, with another command.

use std::fmt;

use serde_json::{Value, json};

use super::ecs_json::{Patience, failures, list, number, of_texts, text, text_or_empty};
use super::{Aws, AwsError};

const RUN: &str = "ecs:RunTask";

/// A task to run once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTask<'a> {
    /// The ARN of its task definition.
    pub task_definition: &'a str,
    /// The container whose command is replaced, and by what; none, and the task definition's own commands run.
    pub command: Option<(&'a str, &'a [String])>,
    /// At most 64 characters: the same token again gives the same task, and starts none.
    pub client_token: &'a str,
    /// At most 128 letters, digits, `-`, `_` and `/`, by which the task is found again.
    pub started_by: &'a str,
}

/// A task, as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// The ARN of its task definition.
    pub task_definition: String,
    /// `PROVISIONING`, `PENDING`, `RUNNING`, `STOPPED` …
    pub status: String,
    /// `TaskFailedToStart`, `EssentialContainerExited`, `UserInitiated`, `SpotInterruption` …
    pub stop_code: Option<String>,
    /// The reason in words.
    pub stopped_reason: Option<String>,
    /// Its containers.
    pub containers: Vec<TaskContainer>,
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskContainer {
    /// Its name in the task definition.
    pub name: String,
    /// What its process ended with; `None` while it runs, and when it never ran.
    pub exit_code: Option<i32>,
    /// Why: `OutOfMemoryError: …`, `CannotPullContainerError: …`.
    pub reason: Option<String>,
}

impl Task {
    /// The id at the end of its ARN, which its log stream is named by.
    #[must_use]
    pub fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }

    /// Has it come to its end?
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.status == "STOPPED"
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("arn", &self.arn).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Aws {
    /// Runs one task where a service's tasks run: its network, its launch type or capacity providers, its platform version.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); the token belongs to another request ([`AwsError::is_conflict`]); there is
    /// no room for the task, which ECS says in an answer of status 200; not allowed (`iam:PassRole` for the task's roles included).
    pub async fn run_task_as(&self, cluster: &str, service: &str, run: &RunTask<'_>) -> Result<Task, AwsError> {
        const LIKE: &str = "ecs:DescribeServices";
        let resource = format!("{cluster}/{service}");
        let found = self.ecs(LIKE, &resource, &json!({"cluster": cluster, "services": [service]}), Patience::Usual).await?;
        let like = list(&found, "services").first().ok_or_else(|| AwsError::missing(LIKE, &resource, "there is no such service"))?;
        let mut body = json!({
            "cluster": cluster, "taskDefinition": run.task_definition, "count": 1, "clientToken": run.client_token,
            "startedBy": run.started_by,
        });
        // AWS: "If a capacityProviderStrategy is specified, the launchType parameter must be omitted."
        let capacity = if list(like, "capacityProviderStrategy").is_empty() { "launchType" } else { "capacityProviderStrategy" };
        // On hosts a service may say which of them: what may not run there must not migrate there.
        for field in ["networkConfiguration", "platformVersion", "placementConstraints", "placementStrategy", capacity] {
            let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if let Some(value) = like.get(field).filter(|value| !empty(value)) {
                body[field] = value.clone();
            }
        }
        if let Some((container, command)) = run.command {
            body["overrides"] = json!({"containerOverrides": [{"name": container, "command": command}]});
        }
        let answer = self.ecs(RUN, run.task_definition, &body, Patience::Usual).await?;
        if let Some(started) = list(&answer, "tasks").first() {
            return Ok(task(started));
        }
        let said = failures(&answer);
        let said = if said.is_empty() { "no task was started, and ECS gives no reason".to_owned() } else { said.join("; ") };
        Err(AwsError::unexpected(RUN, run.task_definition, said))
    }

    /// A task by its ARN; `None` once ECS has forgotten it, about an hour after its end.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn task(&self, cluster: &str, arn: &str) -> Result<Option<Task>, AwsError> {
        let question = json!({"cluster": cluster, "tasks": [arn]});
        let answer = self.ecs("ecs:DescribeTasks", arn, &question, Patience::Usual).await?;
        Ok(list(&answer, "tasks").first().map(task))
    }

    /// The ARNs of the tasks that run, or are to run, and were started under this name.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn tasks_started_by(&self, cluster: &str, started_by: &str) -> Result<Vec<String>, AwsError> {
        // AWS: "When you specify startedBy as the filter, it must be the only filter that you use."
        let question = json!({"cluster": cluster, "startedBy": started_by});
        let found = self.ecs_pages("ecs:ListTasks", &format!("{cluster} {started_by}"), question, "taskArns", Patience::Usual).await?;
        Ok(of_texts(&found))
    }

    /// Asks a task to end: SIGTERM, and SIGKILL after its `stopTimeout`.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html>
    ///
    /// # Errors
    /// No such task; not allowed.
    pub async fn stop_task(&self, cluster: &str, arn: &str, reason: &str) -> Result<(), AwsError> {
        let question = json!({"cluster": cluster, "task": arn, "reason": reason});
        self.ecs("ecs:StopTask", arn, &question, Patience::Usual).await.map(drop)
    }

    /// Sets how many tasks a service is to have, and nothing else of it.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); not allowed.
    pub async fn scale_service(&self, cluster: &str, service: &str, desired: i32) -> Result<(), AwsError> {
        let question = json!({"cluster": cluster, "service": service, "desiredCount": desired});
        self.ecs("ecs:UpdateService", format!("{cluster}/{service}"), &question, Patience::Usual).await.map(drop)
    }
}

fn task(value: &Value) -> Task {
    let container = |container: &Value| TaskContainer {
        name: text_or_empty(container, "name"),
        exit_code: number(container, "exitCode"),
        reason: text(container, "reason"),
    };
    Task {
        arn: text_or_empty(value, "taskArn"),
        task_definition: text_or_empty(value, "taskDefinitionArn"),
        status: text_or_empty(value, "lastStatus"),
        stop_code: text(value, "stopCode"),
        stopped_reason: text(value, "stoppedReason"),
        containers: list(value, "containers").iter().map(container).collect(),
    }
}
