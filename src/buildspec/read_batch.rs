//! A buildspec from its text: `batch`.
//!
//! <https://docs.aws.amazon.com/codebuild/latest/userguide/batch-build-buildspec.html>

use crate::model::yaml::{Entry, Node, Place, Value};

use super::problem::Problem;
use super::reading::Reading;
use super::spec::{Batch, Builds, Matrix, Task};

pub(super) const BATCH: &[&str] = &["fast-fail", "build-list", "build-graph", "build-matrix", "build-fanout"];
pub(super) const TASK: &[&str] = &["identifier", "buildspec", "debug-session", "depend-on", "ignore-failure", "env"];
pub(super) const TASK_ENV: &[&str] = &["compute-type", "fleet", "image", "privileged-mode", "type", "variables"];

pub(super) fn batch(node: &Node, reading: &mut Reading) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut kinds: Vec<&Entry> = Vec::new();
    for entry in reading.mapping(node, "batch") {
        match entry.key.as_str() {
            "fast-fail" => batch.fast_fail = reading.yes(&entry.value, "fast-fail"),
            "build-list" | "build-graph" => {
                batch.builds = Builds::Tasks(tasks(entry, reading));
                kinds.push(entry);
            }
            "build-matrix" => {
                batch.builds = Builds::Matrix(matrix(&entry.value, reading));
                kinds.push(entry);
            }
            "build-fanout" => {
                batch.builds = fanout(&entry.value, reading);
                kinds.push(entry);
            }
            _ => reading.unknown(entry, "batch", BATCH),
        }
    }
    match kinds.as_slice() {
        [] => {
            let problem = Problem::new(node.place, "`batch` names no builds");
            reading.refuse(problem.cure("add one of build-list, build-graph, build-matrix and build-fanout"));
            None
        }
        [_] => Some(batch),
        [_, second, ..] => {
            let problem = Problem::new(second.place, format!("`batch` has `{}` beside `{}`", second.key, kinds[0].key));
            reading.refuse(problem.cure("leave all but one of them out"));
            None
        }
    }
}

fn tasks(list: &Entry, reading: &mut Reading) -> Vec<Task> {
    let Value::Sequence(items) = &list.value.value else {
        let problem = Problem::new(list.place, format!("`{}` needs to be a list of builds", list.key));
        reading.refuse(problem.cure("begin every build with `- identifier: name`"));
        return Vec::new();
    };
    let mut tasks: Vec<(Task, Place)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mut task = task(item, &list.key, reading);
        // Builds of a list need no name, as nothing refers to them.
        if task.identifier.is_empty() && list.key == "build-list" {
            task.identifier = format!("build_{}", index + 1);
        }
        if tasks.iter().any(|(known, _)| known.identifier == task.identifier && !task.identifier.is_empty()) {
            let problem = Problem::new(item.place, format!("there are two builds `{}`", task.identifier));
            reading.refuse(problem.cure("give every build an identifier of its own"));
        }
        tasks.push((task, item.place));
    }
    for (task, place) in &tasks {
        for wanted in task.depend_on.iter().filter(|wanted| !tasks.iter().any(|(known, _)| known.identifier == **wanted)) {
            let problem = Problem::new(*place, format!("`{}` depends on `{wanted}`, which is not there", task.identifier));
            reading.refuse(problem.cure("correct `depend-on`"));
        }
    }
    if let Some((task, place)) = circle(&tasks) {
        let problem = Problem::new(*place, format!("`{}` depends on itself, by way of others or directly", task.identifier));
        reading.refuse(problem.cure("break the circle in `depend-on`"));
    }
    tasks.into_iter().map(|(task, _)| task).collect()
}

/// A build that can never start.
fn circle(tasks: &[(Task, Place)]) -> Option<&(Task, Place)> {
    let known = |name: &String| tasks.iter().any(|(task, _)| task.identifier == *name);
    let mut done: Vec<&str> = Vec::new();
    loop {
        let ready = |task: &Task| task.depend_on.iter().all(|name| done.contains(&name.as_str()) || !known(name));
        let next: Vec<&str> = tasks
            .iter()
            .filter(|(task, _)| !done.contains(&task.identifier.as_str()) && ready(task))
            .map(|(task, _)| task.identifier.as_str())
            .collect();
        if next.is_empty() {
            return tasks.iter().find(|(task, _)| !done.contains(&task.identifier.as_str()));
        }
        done.extend(next);
    }
}

fn task(node: &Node, list: &str, reading: &mut Reading) -> Task {
    let mut task = Task::default();
    for entry in reading.mapping(node, list) {
        let value = &entry.value;
        match entry.key.as_str() {
            "identifier" => task.identifier = reading.text(value, "identifier").unwrap_or_default(),
            "buildspec" => task.buildspec = reading.some_text(value, "buildspec"),
            "debug-session" => {
                reading.yes(value, "debug-session");
            }
            "depend-on" if list == "build-graph" => task.depend_on = reading.texts(value, "depend-on"),
            "ignore-failure" => task.ignore_failure = reading.yes(value, "ignore-failure"),
            "env" => task_env(value, &mut task, reading),
            _ => reading.unknown(entry, list, TASK),
        }
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if task.identifier.is_empty() {
        if list == "build-list" {
            return task;
        }
        reading.refuse(Problem::new(node.place, format!("a build of `{list}` has no `identifier`")).cure("add `identifier: name`"));
    } else if task.identifier.len() > 128 || !task.identifier.chars().all(valid) {
        let problem = Problem::new(node.place, format!("the identifier `{}` holds more than letters, digits and `_`", task.identifier));
        reading.warn(problem.cure("CodeBuild refuses it; use letters, digits and `_`, at most 128").rule("identifier"));
    }
    task
}

fn task_env(node: &Node, task: &mut Task, reading: &mut Reading) {
    let mut chosen: Option<&str> = None;
    for entry in reading.mapping(node, "env") {
        let value = &entry.value;
        match entry.key.as_str() {
            key @ ("compute-type" | "fleet") => {
                reading.some_text(value, key);
                if chosen.is_some_and(|other| other != key) {
                    let problem = Problem::new(entry.place, "`compute-type` and `fleet` exclude each other");
                    reading.refuse(problem.cure("leave one of them out"));
                }
                chosen = Some(key);
            }
            "image" => task.image = reading.some_text(value, "image"),
            "privileged-mode" => task.privileged_mode = reading.yes(value, "privileged-mode"),
            "type" => {
                reading.some_text(value, "type");
            }
            "variables" => task.variables = reading.variables(value, "variables"),
            _ => reading.unknown(entry, "env", TASK_ENV),
        }
    }
}

fn matrix(node: &Node, reading: &mut Reading) -> Matrix {
    let mut matrix = Matrix::default();
    for entry in reading.mapping(node, "build-matrix") {
        match entry.key.as_str() {
            "static" => {
                for inner in reading.mapping(&entry.value, "static") {
                    match inner.key.as_str() {
                        "ignore-failure" => matrix.ignore_failure = reading.yes(&inner.value, "ignore-failure"),
                        "env" => {
                            let mut fixed = Task::default();
                            task_env(&inner.value, &mut fixed, reading);
                            matrix.privileged_mode = fixed.privileged_mode;
                            matrix.variables = fixed.variables;
                            matrix.images.extend(fixed.image);
                        }
                        _ => reading.unknown(inner, "static", &["ignore-failure", "env"]),
                    }
                }
            }
            "dynamic" => {
                for inner in reading.mapping(&entry.value, "dynamic") {
                    match inner.key.as_str() {
                        "buildspec" => matrix.buildspecs = reading.texts(&inner.value, "buildspec"),
                        "env" => dynamic(&inner.value, &mut matrix, reading),
                        _ => reading.unknown(inner, "dynamic", &["buildspec", "env"]),
                    }
                }
            }
            _ => reading.unknown(entry, "build-matrix", &["static", "dynamic"]),
        }
    }
    matrix
}

fn dynamic(node: &Node, matrix: &mut Matrix, reading: &mut Reading) {
    for entry in reading.mapping(node, "env") {
        match entry.key.as_str() {
            "compute-type" => matrix.compute_types = reading.texts(&entry.value, "compute-type"),
            "image" => matrix.images = reading.texts(&entry.value, "image"),
            "variables" => {
                for variable in reading.mapping(&entry.value, "variables") {
                    let values = match &variable.value.value {
                        Value::Sequence(items) => items.iter().filter_map(|item| reading.text(item, &variable.key)).collect(),
                        _ => reading.texts(&variable.value, &variable.key),
                    };
                    matrix.dynamic.push((variable.key.clone(), values));
                }
            }
            _ => reading.unknown(entry, "env", &["compute-type", "image", "variables"]),
        }
    }
}

fn fanout(node: &Node, reading: &mut Reading) -> Builds {
    let (mut parallelism, mut ignore_failure) = (None, false);
    for entry in reading.mapping(node, "build-fanout") {
        match entry.key.as_str() {
            "parallelism" => parallelism = reading.number(&entry.value, "parallelism", 1, 100),
            "ignore-failure" => ignore_failure = reading.yes(&entry.value, "ignore-failure"),
            _ => reading.unknown(entry, "build-fanout", &["parallelism", "ignore-failure"]),
        }
    }
    if parallelism.is_none() && node.get("parallelism").is_none() {
        reading.refuse(Problem::new(node.place, "`build-fanout` has no `parallelism`").cure("say how many builds share the tests"));
    }
    Builds::Fanout { parallelism: parallelism.unwrap_or(1), ignore_failure }
}
