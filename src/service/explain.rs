//! Why a deployment failed, in a few lines: from its stopped tasks, which ECS forgets after an hour.

use crate::aws::{Aws, StoppedTask};

use super::plan::ServicePlan;

/// A cause in at most a few lines; says so when nothing is known. Never fails: the rollout has, and that is the news.
pub(super) async fn cause(aws: &Aws, plan: &ServicePlan, deployment: &str, revision: &str) -> String {
    let tasks = match aws.stopped_tasks(&plan.cluster, &plan.service, deployment).await {
        Ok(tasks) => tasks,
        Err(error) => return format!("its stopped tasks could not be read: {error}"),
    };
    let ours: Vec<StoppedTask> = tasks.into_iter().filter(|task| task.task_definition == revision).collect();
    // A task that the scheduler stopped while rolling back says nothing of the cause.
    let telling = |task: &&StoppedTask| task.stop_code.as_deref() != Some("ServiceSchedulerInitiated");
    match ours.iter().filter(telling).min_by_key(|task| task.stopped_at) {
        None => "none of its tasks has stopped: they did not become healthy, or could not be placed".to_owned(),
        Some(task) => format!("{} task{} stopped; the first: {}", ours.len(), if ours.len() == 1 { "" } else { "s" }, describe(task)),
    }
}

fn describe(task: &StoppedTask) -> String {
    let mut parts = Vec::new();
    let id = task.arn.rsplit('/').next().unwrap_or(&task.arn);
    parts.push(format!("task {id}"));
    if let Some(code) = &task.stop_code {
        parts.push(code.clone());
    }
    for container in &task.containers {
        match container.exit_code {
            // 128 + SIGKILL: the kernel's answer to a container over its memory limit.
            Some(137) => parts.push(format!("container `{}` exited with 137 (killed: out of memory?)", container.name)),
            Some(code) => parts.push(format!("container `{}` exited with {code}", container.name)),
            None => parts.push(format!("container `{}` never ran", container.name)),
        }
        if let Some(reason) = &container.reason {
            parts.push(reason.clone());
        }
    }
    if let Some(reason) = &task.stopped_reason {
        parts.push(reason.clone());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::StoppedContainer;

    #[test]
    fn a_crash_is_told_with_its_exit_code() {
        let container = StoppedContainer { name: "web".into(), exit_code: Some(3), reason: None };
        let task = StoppedTask {
            arn: "arn:aws:ecs:us-east-1:1:task/shop/abc".into(),
            task_definition: "td:2".into(),
            started_by: "ecs-svc/1".into(),
            stop_code: Some("EssentialContainerExited".into()),
            stopped_reason: Some("Essential container in task exited".into()),
            stopped_at: Some(1),
            containers: vec![container],
        };
        assert_eq!(
            describe(&task),
            "task abc, EssentialContainerExited, container `web` exited with 3, Essential container in task exited"
        );
    }
}
