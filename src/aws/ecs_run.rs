//! ECS tasks that are run once: as a service's tasks are, with another command.

use std::fmt;

use aws_sdk_ecs::types::{ContainerOverride, TaskOverride};

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
        let resource = format!("{cluster}/{service}");
        let request = self.0.ecs.describe_services().cluster(cluster).services(service);
        let found = request.send().await.map_err(AwsError::of("ecs:DescribeServices", &resource))?;
        let like = found.services.unwrap_or_default().into_iter().next();
        let like = like.ok_or_else(|| AwsError::missing("ecs:DescribeServices", &resource, "there is no such service"))?;
        let mut request = self.0.ecs.run_task().cluster(cluster).task_definition(run.task_definition).count(1);
        request = request.client_token(run.client_token).started_by(run.started_by);
        request = request.set_network_configuration(like.network_configuration).set_platform_version(like.platform_version);
        // AWS: "If a capacityProviderStrategy is specified, the launchType parameter must be omitted."
        request = match like.capacity_provider_strategy.filter(|strategy| !strategy.is_empty()) {
            Some(strategy) => request.set_capacity_provider_strategy(Some(strategy)),
            None => request.set_launch_type(like.launch_type),
        };
        if let Some((container, command)) = run.command {
            let container = ContainerOverride::builder().name(container).set_command(Some(command.to_vec())).build();
            request = request.overrides(TaskOverride::builder().container_overrides(container).build());
        }
        let answer = request.send().await.map_err(AwsError::of(RUN, run.task_definition))?;
        if let Some(started) = answer.tasks.unwrap_or_default().into_iter().next() {
            return Ok(task(started));
        }
        let failures = answer.failures.unwrap_or_default();
        let said = failures.iter().filter_map(|failure| {
            let detail = failure.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
            failure.reason.as_ref().map(|reason| format!("{reason}{detail}"))
        });
        let said: Vec<String> = said.collect();
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
        let answer =
            self.0.ecs.describe_tasks().cluster(cluster).tasks(arn).send().await.map_err(AwsError::of("ecs:DescribeTasks", arn))?;
        Ok(answer.tasks.unwrap_or_default().into_iter().next().map(task))
    }

    /// The ARNs of the tasks that run, or are to run, and were started under this name.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn tasks_started_by(&self, cluster: &str, started_by: &str) -> Result<Vec<String>, AwsError> {
        // AWS: "When you specify startedBy as the filter, it must be the only filter that you use."
        let request = self.0.ecs.list_tasks().cluster(cluster).started_by(started_by);
        let answer = request.send().await.map_err(AwsError::of("ecs:ListTasks", format!("{cluster} {started_by}")))?;
        Ok(answer.task_arns.unwrap_or_default())
    }

    /// Asks a task to end: SIGTERM, and SIGKILL after its `stopTimeout`.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html>
    ///
    /// # Errors
    /// No such task; not allowed.
    pub async fn stop_task(&self, cluster: &str, arn: &str, reason: &str) -> Result<(), AwsError> {
        let request = self.0.ecs.stop_task().cluster(cluster).task(arn).reason(reason);
        request.send().await.map_err(AwsError::of("ecs:StopTask", arn))?;
        Ok(())
    }

    /// Sets how many tasks a service is to have, and nothing else of it.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
    ///
    /// # Errors
    /// No such cluster or service ([`AwsError::is_not_found`]); not allowed.
    pub async fn scale_service(&self, cluster: &str, service: &str, desired: i32) -> Result<(), AwsError> {
        let failed = AwsError::of("ecs:UpdateService", format!("{cluster}/{service}"));
        self.0.ecs.update_service().cluster(cluster).service(service).desired_count(desired).send().await.map_err(failed)?;
        Ok(())
    }
}

fn task(task: aws_sdk_ecs::types::Task) -> Task {
    let container = |container: aws_sdk_ecs::types::Container| TaskContainer {
        name: container.name.unwrap_or_default(),
        exit_code: container.exit_code,
        reason: container.reason,
    };
    Task {
        arn: task.task_arn.unwrap_or_default(),
        task_definition: task.task_definition_arn.unwrap_or_default(),
        status: task.last_status.unwrap_or_default(),
        stop_code: task.stop_code.map(|code| code.as_str().to_owned()),
        stopped_reason: task.stopped_reason,
        containers: task.containers.unwrap_or_default().into_iter().map(container).collect(),
    }
}
