//! Counts the crashes of one deployment's tasks, from the tasks that have stopped.
//!
//! ECS's own `failedTasks` goes back to 0 with the first task that runs, so that containers which start and die later never trip its
//! circuit breaker (<https://github.com/aws/containers-roadmap/issues/1206>). Stopped tasks are asked for only when something hints at
//! them: two calls, and a third for every hundred.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Aws, AwsError, Service, StoppedTask};

use super::watch::{Ours, entry};

/// Without any hint, stopped tasks are looked for once after this time, and again each time when as much has passed as before.
const UNHINTED: Duration = Duration::from_secs(9);
/// Once a task has crashed, they are looked for this often.
const ALERT: Duration = Duration::from_secs(2);

/// What is known of the crashes of a deployment.
#[derive(Debug)]
pub(super) struct Crashes {
    /// Tasks that have been read, whatever became of them.
    read: BTreeSet<String>,
    /// Those that crashed, oldest first.
    pub(super) tasks: Vec<StoppedTask>,
    began: Instant,
    next: Instant,
    hinted: bool,
    events: BTreeSet<String>,
    running: i32,
    failed: i32,
    started: usize,
}

impl Crashes {
    /// `before` is the service as it was when our deployment began: what had happened by then says nothing of it.
    pub(super) fn new(before: Option<&Service>) -> Self {
        let began = Instant::now();
        let events = before.into_iter().flat_map(|service| &service.events).map(|event| event.id.clone()).collect();
        Self {
            read: BTreeSet::new(),
            tasks: Vec::new(),
            began,
            next: began + UNHINTED,
            hinted: false,
            events,
            running: 0,
            failed: 0,
            started: 0,
        }
    }

    /// Does what a look shows hint at tasks that have stopped? Gives the messages of the events that are new.
    pub(super) fn notice(&mut self, service: &Service, ours: &Ours) -> Vec<String> {
        let (running, failed, created) = entry(service, ours).map_or((0, 0, 0), |own| (own.running, own.failed_tasks, own.created_at));
        let fewer = running < self.running;
        let more = failed > self.failed;
        (self.running, self.failed) = (running, failed);
        // By ECS's own clock, whatever this machine's says.
        let fresh = |event: &&crate::aws::Event| event.created_at == 0 || event.created_at >= created;
        let new: Vec<_> = service.events.iter().filter(fresh).filter(|event| !self.events.contains(&event.id)).collect();
        self.events.extend(new.iter().map(|event| event.id.clone()));
        self.started += new.iter().filter(|event| event.message.contains("has started")).count();
        let tells =
            |message: &str| ["unhealthy", "failed", "stopped", "health check", "unable to start"].iter().any(|word| message.contains(word));
        let told = new.iter().any(|event| tells(&event.message)) || self.started > 1;
        if told {
            self.started = self.started.min(1);
        }
        self.hinted |= fewer || more || told;
        new.into_iter().map(|event| event.message.clone()).collect()
    }

    /// Is it time to look for stopped tasks?
    pub(super) fn is_due(&self) -> bool {
        self.hinted || Instant::now() >= self.next
    }

    /// Reads the tasks that have stopped since the last time, and gives those that crashed.
    pub(super) async fn read(&mut self, aws: &Aws, cluster: &str, service: &str, ours: &Ours) -> Result<Vec<StoppedTask>, AwsError> {
        let now = Instant::now();
        self.hinted = false;
        self.next = now + if self.tasks.is_empty() { self.began.elapsed().max(UNHINTED) } else { ALERT };
        let arns = aws.stopped_task_arns(cluster, service).await?;
        let unread: Vec<String> = arns.into_iter().filter(|arn| !self.read.contains(arn)).collect();
        if unread.is_empty() {
            return Ok(Vec::new());
        }
        let found = aws.stopped_tasks(cluster, &unread).await?;
        self.read.extend(found.iter().filter(|task| is_over(task)).map(|task| task.arn.clone()));
        let mut new: Vec<StoppedTask> = found.into_iter().filter(|task| is_over(task) && is_of(task, ours) && is_crash(task)).collect();
        new.sort_by_key(|task| task.stopped_at);
        self.tasks.extend(new.iter().cloned());
        if !new.is_empty() {
            self.next = now + ALERT;
        }
        Ok(new)
    }
}

/// A task that is on its way down says why only later.
fn is_over(task: &StoppedTask) -> bool {
    task.stopped_at.is_some() || task.stop_code.is_some() || task.containers.iter().any(|container| container.exit_code.is_some())
}

/// AWS starts a service's tasks under the id of its deployment; an endpoint that does not is taken by the revision.
fn is_of(task: &StoppedTask, ours: &Ours) -> bool {
    let by_deployment = task.started_by.starts_with("ecs-svc/") && !ours.id.is_empty();
    task.task_definition == ours.revision && (!by_deployment || task.started_by == ours.id)
}

/// Did it stop by a fault of its own? Those that ECS, its hosts or people stop say nothing of the revision.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>
pub(super) fn is_crash(task: &StoppedTask) -> bool {
    let reason = task.stopped_reason.as_deref().unwrap_or_default().to_lowercase();
    let by_health = reason.contains("health check") || reason.contains("unhealthy");
    match task.stop_code.as_deref() {
        Some("EssentialContainerExited" | "TaskFailedToStart") => true,
        Some("UserInitiated" | "SpotInterruption" | "TerminationNotice" | "InfrastructureHealth") => false,
        Some("ServiceSchedulerInitiated") => by_health,
        _ => by_health || task.containers.iter().any(|container| container.exit_code.is_some_and(|code| code != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::StoppedContainer;

    pub(in crate::service) fn stopped(code: &str, reason: &str, exit: Option<i32>) -> StoppedTask {
        let container = StoppedContainer { name: "web".into(), exit_code: exit, reason: None, health: None, runtime_id: None };
        StoppedTask {
            arn: "arn:aws:ecs:us-east-1:1:task/shop/abc".into(),
            task_definition: "td:2".into(),
            started_by: "ecs-svc/1".into(),
            stop_code: Some(code.into()),
            stopped_reason: Some(reason.into()),
            created_at: Some(1),
            stopped_at: Some(4),
            containers: vec![container],
        }
    }

    #[test]
    fn what_ecs_or_people_stop_is_no_crash() {
        for (code, reason, exit, crash) in [
            ("EssentialContainerExited", "Essential container in task exited", Some(0), true),
            ("TaskFailedToStart", "CannotPullContainerError: pull image manifest has been retried 1 time(s)", None, true),
            ("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/2)", Some(143), false),
            ("ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group arn)", Some(143), true),
            ("ServiceSchedulerInitiated", "Task failed container health checks", Some(143), true),
            ("UserInitiated", "Task stopped by user", Some(137), false),
            ("SpotInterruption", "Your Spot Task was interrupted.", None, false),
            ("OfNextYear", "who knows", Some(1), true),
        ] {
            assert_eq!(is_crash(&stopped(code, reason, exit)), crash, "{code}: {reason}");
        }
    }

    #[test]
    fn a_task_of_another_deployment_is_left_out() {
        let ours = |id: &str| Ours { id: id.into(), revision: "td:2".into(), back_to: None, before: Vec::new(), seen: true };
        let task = |by: &str| StoppedTask { started_by: by.into(), ..stopped("EssentialContainerExited", "", Some(1)) };
        assert!(
            is_of(&task("ecs-svc/1"), &ours("ecs-svc/1"))
                && is_of(&task("ecs-svc/2"), &ours(""))
                && is_of(&task("api"), &ours("ecs-svc/1"))
        );
        assert!(!is_of(&task("ecs-svc/2"), &ours("ecs-svc/1")));
        assert!(!is_of(&StoppedTask { task_definition: "td:1".into(), ..task("ecs-svc/1") }, &ours("ecs-svc/1")));
    }
}
