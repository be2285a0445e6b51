//! Why a deployment fails, in a few lines: from its stopped tasks, which ECS forgets after an hour, their logs, the load balancer's
//! targets and the room on the hosts. Nothing here fails: the rollout does, and that is the news.

use std::time::Duration;

use serde_json::Value;

use crate::aws::{Aws, Service, StoppedContainer, StoppedTask};

use super::plan::ServicePlan;
use super::revision::Definition;

/// So many log lines are read, and kept in the record.
const READ: i32 = 20;
/// A line longer than this is cut.
const WIDTH: usize = 240;
/// Logs arrive after their task has stopped: they are asked for again after these pauses.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(700), Duration::from_millis(1300)];

/// Why, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// One line.
    pub(super) headline: String,
    /// What belongs to it: log lines, oldest first, or hosts.
    pub(super) lines: Vec<String>,
    /// What to do about it.
    pub(super) hint: String,
}

/// Why a task stopped.
pub(super) async fn of_task(aws: &Aws, plan: &ServicePlan, definition: &Definition, task: &StoppedTask) -> Cause {
    let id = task.arn.rsplit('/').next().unwrap_or(&task.arn);
    let culprit = culprit(definition, task);
    let fault = fault(task, culprit);
    let lived = task.stopped_at.zip(task.created_at).map(|(end, start)| end - start).filter(|seconds| *seconds >= 0);
    let after = lived.map_or(String::new(), |seconds| format!(" after {seconds} s"));
    let mut headline = format!("task {} stopped{after}: {}", short_id(id), fault.what);
    if fault.by_balancer
        && let Some(targets) = targets(aws, plan).await
    {
        headline = format!("{headline}; {targets}");
    }
    let lines = match culprit {
        // A container that never ran has said nothing.
        Some(container) if container.exit_code.is_some() || fault.by_health => log(aws, definition, id, container).await,
        _ => Vec::new(),
    };
    Cause { headline, lines, hint: fault.hint }
}

/// What a task of the new revision says that runs, and yet is not well.
pub(super) async fn of_unwell(aws: &Aws, plan: &ServicePlan, definition: &Definition, revision: &str, wrong: &str) -> Cause {
    let running = aws.running_tasks(&plan.cluster, &plan.service).await.unwrap_or_default();
    let newest = running.iter().filter(|task| task.task_definition == revision).max_by_key(|task| task.created_at);
    let container = newest.and_then(|task| task.containers.iter().find(|container| container.name == plan.container));
    let logged = container_of(definition, &plan.container).is_some_and(|own| own.get("logConfiguration").is_some());
    let lines = match (newest, container) {
        (Some(task), Some(container)) if logged => log(aws, definition, task.arn.rsplit('/').next().unwrap_or(&task.arn), container).await,
        _ => Vec::new(),
    };
    let hint = "see what the new version's health check finds wrong; correct it and release again".to_owned();
    Cause { headline: wrong.to_owned(), lines, hint }
}

/// Why nothing comes of a deployment whose tasks have not crashed.
pub(super) async fn of_service(aws: &Aws, plan: &ServicePlan, definition: &Definition, service: Option<&Service>, since: i64) -> Cause {
    let events = service.into_iter().flat_map(|service| &service.events).filter(|event| event.created_at == 0 || event.created_at >= since);
    let words = ["unable to", "insufficient", "not steady", "unhealthy", "failed to", "unavailable"];
    let telling = |message: &str| words.iter().any(|word| message.contains(word));
    let told = events.map(|event| event.message.as_str()).find(|message| telling(message));
    if let Some(message) = told.filter(|message| is_placement(message)) {
        return of_placement(aws, plan, definition, message).await;
    }
    let targets = targets(aws, plan).await;
    let headline = match (targets, told) {
        (_, Some(message)) if cure_of(message).is_some() => without_prefix(message).to_owned(),
        (Some(targets), _) => targets,
        (None, Some(message)) => without_prefix(message).to_owned(),
        (None, None) => {
            "none of its tasks has stopped, and ECS says nothing: they did not become healthy, or could not be placed".to_owned()
        }
    };
    let hint = told.and_then(cure_of);
    let hint = hint.unwrap_or("see what the new version answers to its health check, and whether it starts within the grace period");
    Cause { headline, lines: Vec::new(), hint: hint.to_owned() }
}

/// What helps against what ECS says in an event, where it is neither the new version nor the hosts.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>
fn cure_of(message: &str) -> Option<&'static str> {
    const CURES: [(&str, &str); 6] = [
        (
            "Capacity is unavailable",
            "Fargate has no room in these zones at present: release again later, or give the service subnets in more zones",
        ),
        (
            "reached the limit on the number of",
            "the account's quota is used up: ask for more in Service Quotas, or run fewer tasks meanwhile",
        ),
        ("unable to assume the role", "let `ecs-tasks.amazonaws.com` assume the task's roles (their trust policies), and release again"),
        ("does not have enough available IP addresses", "give the service subnets with free addresses, and release again"),
        ("not enough free IP addresses", "give the service subnets with free addresses, and release again"),
        ("register targets", "correct the target group (its target type, its VPC, its load balancer), and release again"),
    ];
    CURES.iter().find(|(said, _)| message.contains(said)).map(|(_, cure)| *cure)
}

/// Does an event say that there is no place for a task?
pub(super) fn is_placement(message: &str) -> bool {
    message.contains("unable to place")
}

/// Why no task can be placed: ECS's own words, and the room on the hosts.
pub(super) async fn of_placement(aws: &Aws, plan: &ServicePlan, definition: &Definition, message: &str) -> Cause {
    let asked = asks(definition).filter(|_| cure_of(message).is_none());
    // Where it is not the hosts, they need not be looked at.
    let rooms = if cure_of(message).is_none() { aws.room(&plan.cluster).await.unwrap_or_default() } else { Vec::new() };
    let line = |room: &crate::aws::Room| {
        let state = if room.status == "ACTIVE" { String::new() } else { format!(", {}", room.status) };
        format!(
            "{}: {} of {} CPU units and {} of {} MiB are left{state}",
            room.instance, room.cpu.0, room.cpu.1, room.memory.0, room.memory.1
        )
    };
    let mut lines: Vec<String> = rooms.iter().take(4).map(line).collect();
    if rooms.len() > lines.len() {
        lines.push(format!("and {} more hosts", rooms.len() - lines.len()));
    }
    let needs = asked.map_or(String::new(), |(cpu, memory)| format!(" (a task asks for {cpu} CPU units and {memory} MiB)"));
    Cause {
        headline: format!("{}{needs}", without_prefix(message)),
        lines,
        hint: cure_of(message)
            .unwrap_or("add hosts to the cluster, lower what a task asks for, or lower minimumHealthyPercent so that old tasks make room")
            .to_owned(),
    }
}

struct Fault {
    what: String,
    hint: String,
    by_health: bool,
    by_balancer: bool,
}

/// What went wrong in a task, by the codes and texts that AWS documents.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>
fn fault(task: &StoppedTask, culprit: Option<&StoppedContainer>) -> Fault {
    let stopped = task.stopped_reason.as_deref().unwrap_or_default();
    let own = culprit.and_then(|container| container.reason.as_deref()).unwrap_or_default();
    let said = if own.is_empty() || stopped.contains(own) { stopped.to_owned() } else { own.to_owned() };
    let code = task.stop_code.as_deref().unwrap_or("no stop code");
    let name = culprit.map_or("?", |container| container.name.as_str());
    let all = format!("{stopped} {own}").to_lowercase();
    let plain = |what: String, hint: &str| Fault { what, hint: hint.to_owned(), by_health: false, by_balancer: false };
    if all.contains("cannotpull") || all.contains("image manifest") || all.contains("pull access denied") {
        let hint = "is the image in the registry? May the execution role pull it, and do the task's subnets reach the registry?";
        return plain(format!("its image cannot be pulled: {said} ({code})"), hint);
    }
    let of_secret = all.contains("secret") || all.contains("ssm parameter") || all.contains("parameter store");
    if of_secret && (all.contains("resourceinitialization") || all.contains("unable to")) {
        let hint = "correct the reference under `secrets` in the task definition, or allow the execution role to read it";
        return plain(format!("its secrets cannot be read: {said} ({code})"), hint);
    }
    if all.contains("health check") || all.contains("unhealthy") {
        let by_balancer = all.contains("elb") || all.contains("target-group") || all.contains("target group");
        let exit = culprit
            .and_then(|container| container.exit_code)
            .map_or(String::new(), |exit| format!(", container `{name}` exited with {exit}"));
        let hint = if by_balancer {
            "see what the new version answers to the load balancer's health check; raise the service's grace period if it is only slow to start"
        } else {
            "run the container's health check by hand in the new image; raise its startPeriod if it is only slow to start"
        };
        return Fault { what: format!("{said} ({code}{exit})"), hint: hint.to_owned(), by_health: true, by_balancer };
    }
    let exit = culprit.and_then(|container| container.exit_code);
    let tail = if said.is_empty() { format!("({code})") } else { format!("({code}: {said})") };
    let (what, hint) = match exit {
        Some(137) => (
            format!("container `{name}` exited with 137, killed for want of memory {tail}"),
            "raise the memory of the task or of the container, or find out what the new version needs it for",
        ),
        Some(0) => (
            format!("container `{name}` exited with 0, and a service's container has to stay {tail}"),
            "its command ends by itself: it has to run in the foreground",
        ),
        Some(exit @ (126 | 127)) => (
            format!("container `{name}` exited with {exit}: its command was not found, or cannot be run {tail}"),
            "correct the image's command",
        ),
        Some(exit) => (format!("container `{name}` exited with {exit} {tail}"), "correct the cause and release again"),
        None if said.is_empty() => {
            (format!("no container has an exit code, and ECS gives no reason ({code})"), "look at the service's events")
        }
        None => (format!("no container has run: {said} ({code})"), "correct the cause and release again"),
    };
    plain(what, hint)
}

/// The container that a stopped task is about: one with a reason of its own, else an essential one that ended badly, else an essential
/// one that ended.
fn culprit<'a>(definition: &Definition, task: &'a StoppedTask) -> Option<&'a StoppedContainer> {
    let essential = |container: &&StoppedContainer| {
        let own = container_of(definition, &container.name);
        own.and_then(|own| own.get("essential")).and_then(Value::as_bool).unwrap_or(true)
    };
    let all = || task.containers.iter().filter(essential);
    // The others of a task are stopped with SIGTERM, then SIGKILL, once one has ended.
    let stopped = |container: &&StoppedContainer| matches!(container.exit_code, None | Some(0 | 143));
    (all().find(|container| container.reason.is_some()))
        .or_else(|| all().find(|container| container.health.as_deref() == Some("UNHEALTHY")))
        .or_else(|| all().filter(|container| !stopped(container)).min_by_key(|container| container.exit_code == Some(137)))
        .or_else(|| all().find(|container| container.exit_code.is_some()))
        .or_else(|| all().next())
        .or_else(|| task.containers.first())
}

fn container_of<'a>(definition: &'a Definition, name: &str) -> Option<&'a Value> {
    let containers = definition.document().get("containerDefinitions")?.as_array()?;
    containers.iter().find(|container| container.get("name").and_then(Value::as_str) == Some(name))
}

/// CPU units and MiB that a task asks for: its own, or the sum of its containers'.
fn asks(definition: &Definition) -> Option<(i64, i64)> {
    let number = |value: Option<&Value>| match value? {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    let document = definition.document();
    let containers = document.get("containerDefinitions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sum = |keys: &[&str]| containers.iter().filter_map(|container| keys.iter().find_map(|key| number(container.get(*key)))).sum();
    let cpu = number(document.get("cpu")).unwrap_or_else(|| sum(&["cpu"]));
    let memory = number(document.get("memory")).unwrap_or_else(|| sum(&["memoryReservation", "memory"]));
    (cpu > 0 || memory > 0).then_some((cpu, memory))
}

/// The last lines of a container's log, or one line that says where they are instead.
async fn log(aws: &Aws, definition: &Definition, task: &str, container: &StoppedContainer) -> Vec<String> {
    let configured = container_of(definition, &container.name).and_then(|own| own.get("logConfiguration"));
    let driver = configured.and_then(|log| log.get("logDriver")).and_then(Value::as_str);
    let option = |key: &str| configured.and_then(|log| log.get("options")).and_then(|options| options.get(key)).and_then(Value::as_str);
    let group = match (driver, option("awslogs-group")) {
        (Some("awslogs"), Some(group)) => group,
        (Some("awslogs"), None) => return vec!["its log driver `awslogs` names no group".to_owned()],
        (Some(driver), _) => return vec![format!("its log goes to `{driver}`, which cannot be read from here")],
        (None, _) => return vec!["it has no log driver that can be read from here".to_owned()],
    };
    let stream = match (option("awslogs-stream-prefix"), &container.runtime_id) {
        (Some(prefix), _) => format!("{prefix}/{}/{task}", container.name),
        (None, Some(id)) => id.clone(),
        (None, None) => return vec![format!("its log is in the group `{group}`, in a stream that ECS does not name")],
    };
    let mut failure = None;
    for pause in LATE {
        tokio::time::sleep(pause).await;
        match aws.last_log_lines(group, &stream, READ).await {
            Ok(lines) if lines.iter().any(|line| !line.trim().is_empty()) => return tail(&lines),
            Ok(_) => failure = None,
            Err(error) => {
                let late = error.is_not_found();
                failure = Some(error);
                if !late {
                    break;
                }
            }
        }
    }
    match failure {
        Some(error) if !error.is_not_found() => vec![format!("its log cannot be read: {error}")],
        _ => vec![format!("it has logged nothing to `{group}` (stream `{stream}`)")],
    }
}

fn tail(lines: &[String]) -> Vec<String> {
    let said: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    said.iter().map(|line| cut(line.trim_end())).collect()
}

fn cut(line: &str) -> String {
    if line.chars().count() > WIDTH { line.chars().take(WIDTH).chain(['…']).collect() } else { line.to_owned() }
}

/// What the load balancer says of targets that are not healthy; `None` if it says nothing.
async fn targets(aws: &Aws, plan: &ServicePlan) -> Option<String> {
    for group in &plan.way.target_groups {
        let found = aws.target_health(group).await.unwrap_or_default();
        let bad = |target: &&crate::aws::Target| matches!(target.state.as_str(), "unhealthy" | "unavailable" | "unused");
        if let Some(worst) = found.iter().find(|target| target.state == "unhealthy").or_else(|| found.iter().find(bad)) {
            let count = found.iter().filter(|target| target.state == worst.state).count();
            let port = worst.port.map_or(String::new(), |port| format!(":{port}"));
            let why: Vec<&str> = [worst.reason.as_deref(), worst.description.as_deref()].into_iter().flatten().collect();
            return Some(format!("{count} of {} targets {}: {}{port} {}", found.len(), worst.state, worst.id, why.join(", ")));
        }
    }
    None
}

/// ECS begins every event with the service's name, which stands there already.
pub(super) fn without_prefix(message: &str) -> &str {
    message.strip_prefix("(service ").and_then(|rest| rest.split_once(") ")).map_or(message, |(_, rest)| rest)
}

/// Task ids have 32 digits; eight of them tell tasks of one service apart.
fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(name: &str, exit: Option<i32>) -> StoppedContainer {
        StoppedContainer { name: name.into(), exit_code: exit, reason: None, health: None, runtime_id: None }
    }

    fn task(code: &str, reason: &str, containers: Vec<StoppedContainer>) -> StoppedTask {
        StoppedTask {
            arn: "arn:aws:ecs:us-east-1:1:task/shop/abc".into(),
            task_definition: "td:2".into(),
            started_by: "ecs-svc/1".into(),
            stop_code: Some(code.into()),
            stopped_reason: Some(reason.into()),
            created_at: None,
            stopped_at: Some(1),
            containers,
        }
    }

    fn what(task: &StoppedTask) -> String {
        let definition = Definition::new(json!({"containerDefinitions": [{"name": "web"}, {"name": "sidecar", "essential": false}]}));
        fault(task, culprit(&definition, task)).what
    }

    #[test]
    fn each_fault_is_told_in_its_own_words() {
        let exited = |exit| task("EssentialContainerExited", "Essential container in task exited", vec![container("web", Some(exit))]);
        assert!(what(&exited(3)).starts_with("container `web` exited with 3 (EssentialContainerExited"));
        assert!(what(&exited(137)).contains("want of memory") && what(&exited(0)).contains("has to stay"));
        let pull = task("TaskFailedToStart", "CannotPullContainerError: manifest unknown", vec![container("web", None)]);
        assert!(what(&pull).contains("cannot be pulled: CannotPullContainerError: manifest unknown"));
        let secret = "ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret from asm";
        assert!(what(&task("TaskFailedToStart", secret, vec![container("web", None)])).contains("secrets cannot be read"));
        assert!(what(&task("TaskFailedToStart", "", vec![container("web", None)])).contains("no reason"));
    }

    #[test]
    fn a_sidecar_that_may_end_is_not_the_cause() {
        let both = task("EssentialContainerExited", "", vec![container("sidecar", Some(9)), container("web", Some(4))]);
        assert!(what(&both).contains("`web` exited with 4"));
        let killed = task("EssentialContainerExited", "", vec![container("proxy", Some(143)), container("web", Some(4))]);
        assert!(what(&killed).contains("`web` exited with 4"));
    }

    #[test]
    fn what_a_task_asks_for_is_its_own_or_its_containers_sum() {
        let fargate = Definition::new(json!({"cpu": "256", "memory": "512"}));
        let hosts = Definition::new(
            json!({"containerDefinitions": [{"cpu": 10, "memoryReservation": 64, "memory": 128}, {"cpu": 5, "memory": 32}]}),
        );
        assert_eq!((asks(&fargate), asks(&hosts)), (Some((256, 512)), Some((15, 96))));
    }
}
