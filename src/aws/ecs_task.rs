//! ECS task definitions: read one, and register another. The documents stay as JSON, so that a clone loses nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::ANSWERED_ONLY;

use super::ecs_json::{Patience, count, list, of_texts, text, text_or_empty};
use super::{ATTEMPT_TIMEOUT, ATTEMPTS, Aws, AwsError};

/// A task definition. It keeps the whole of AWS's answer, so that the next revision loses nothing.
#[derive(Clone)]
pub struct TaskDefinition {
    /// Its ARN, with the revision.
    pub arn: String,
    /// The family that its revisions belong to.
    pub family: String,
    /// Which revision this is.
    pub revision: i32,
    /// `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// `X86_64` or `ARM64`; `None` when it is not said, which is `X86_64` on Fargate.
    pub cpu_architecture: Option<String>,
    /// The role of the application in it.
    pub task_role: Option<String>,
    /// The role that pulls the image and reads the secrets.
    pub execution_role: Option<String>,
    document: Value,
}

/// One container of a task definition.
#[derive(Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image, as it was given.
    pub image: String,
    /// Does the task end with it?
    pub essential: bool,
    /// Plain variables.
    pub environment: BTreeMap<String, String>,
    /// The names of the variables that ECS fills from secrets.
    pub secrets: Vec<String>,
    /// `awslogs`, `awsfirelens` …
    pub log_driver: Option<String>,
    /// The log driver's options: `awslogs-group`, `awslogs-stream-prefix` …
    pub log_options: BTreeMap<String, String>,
}

impl TaskDefinition {
    /// All that `RegisterTaskDefinition` needs to make the same again, fields included that nobody here knows.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }
}

impl fmt::Debug for Container {
    /// Names variables and leaves out their values: people put secrets there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("environment", &names)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDefinition").field("arn", &self.arn).field("containers", &self.containers).finish_non_exhaustive()
    }
}

impl Aws {
    /// A task definition by ARN, `family:revision`, or `family` for its newest active revision.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTaskDefinition.html>
    ///
    /// # Errors
    /// There is none ([`AwsError::is_not_found`]); not allowed.
    pub async fn task_definition(&self, arn: &str) -> Result<TaskDefinition, AwsError> {
        const OPERATION: &str = "ecs:DescribeTaskDefinition";
        let question = json!({"taskDefinition": arn, "include": ["TAGS"]});
        let mut answer = self.ecs(OPERATION, arn, &question, Patience::Usual).await?;
        let tags = answer.get_mut("tags").map(Value::take);
        match answer.get_mut("taskDefinition").map(Value::take) {
            Some(raw) if raw.is_object() => Ok(definition(&raw, tags.as_ref())),
            _ => Err(AwsError::missing(OPERATION, arn, "the answer holds no task definition")),
        }
    }

    /// Registers what a document says (see [`TaskDefinition::document`]), and gives its ARN.
    ///
    /// ECS knows no token that makes the same request the same revision: after an attempt whose answer was lost the family's newest
    /// revision is looked at first.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
    ///
    /// # Errors
    /// The document is refused; not allowed (`iam:PassRole` for the task's roles, and `ecs:TagResource` where there are tags, included).
    pub async fn register_task_definition(&self, document: &Value) -> Result<String, AwsError> {
        const OPERATION: &str = "ecs:RegisterTaskDefinition";
        let family = text_or_empty(document, "family");
        let (mut attempts, began) = (0, tokio::time::Instant::now());
        let answer = loop {
            attempts += 1;
            let error = match self.ecs(OPERATION, &family, document, Patience::Once).await {
                Ok(answer) => break answer,
                Err(error) => error,
            };
            let lost = error.is_answer_lost() || error.is_server_fault();
            if !(lost || error.is_unreachable()) {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(125 << attempts.min(5))).await;
            // Also after the last attempt: one that was never answered has taken a minute, and may have done it.
            if lost
                && let Ok(newest) = self.task_definition(&family).await
                && holds(newest.document(), document)
            {
                return Ok(newest.arn);
            }
            if attempts == ATTEMPTS || began.elapsed() > 3 * ATTEMPT_TIMEOUT {
                return Err(error);
            }
        };
        let arn = answer.get("taskDefinition").and_then(|definition| text(definition, "taskDefinitionArn"));
        arn.ok_or_else(|| AwsError::unexpected(OPERATION, family, "the answer names no task definition"))
    }

    /// Registers a revision of the same family that differs in the images of the named containers only, and gives its ARN.
    ///
    /// # Errors
    /// A named container is not in the definition; as [`Aws::register_task_definition`].
    pub async fn register_revision(&self, base: &TaskDefinition, images: &BTreeMap<String, String>) -> Result<String, AwsError> {
        if let Some(name) = images.keys().find(|&name| !base.containers.iter().any(|container| container.name == *name)) {
            let what = format!("{} has no container `{name}`", base.arn);
            return Err(AwsError::unexpected("ecs:RegisterTaskDefinition", &base.family, what));
        }
        let mut document = base.document.clone();
        for container in document.get_mut("containerDefinitions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(image) = images.get(&text_or_empty(container, "name")) {
                container["image"] = Value::String(image.clone());
            }
        }
        self.register_task_definition(&document).await
    }

    /// The ARNs of a family's active revisions, newest first.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTaskDefinitions.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn revisions(&self, family: &str) -> Result<Vec<String>, AwsError> {
        let question = json!({"familyPrefix": family, "status": "ACTIVE", "sort": "DESC"});
        let found = self.ecs_pages("ecs:ListTaskDefinitions", family, question, "taskDefinitionArns", Patience::Usual).await?;
        // A prefix is no name: `shop` begins `shop-worker` too.
        let own = |arn: &String| arn.rsplit('/').next().and_then(|name| name.rsplit_once(':')).is_some_and(|(name, _)| name == family);
        Ok(of_texts(&found).into_iter().filter(own).collect())
    }

    /// Takes a revision out of use. Tasks that run it go on.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeregisterTaskDefinition.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn deregister_task_definition(&self, arn: &str) -> Result<(), AwsError> {
        self.ecs("ecs:DeregisterTaskDefinition", arn, &json!({"taskDefinition": arn}), Patience::Usual).await.map(drop)
    }
}

/// Is all that was sent in what is there? ECS adds to a revision, and takes nothing from it but what is empty.
fn holds(there: &Value, sent: &Value) -> bool {
    match (there, sent) {
        (Value::Object(there), Value::Object(sent)) => {
            sent.iter().all(|(key, value)| there.get(key).map_or_else(|| is_empty(value), |there| holds(there, value)))
        }
        (Value::Array(there), Value::Array(sent)) => {
            there.len() == sent.len() && sent.iter().all(|sent| there.iter().any(|there| holds(there, sent)))
        }
        _ => there == sent || is_empty(there) && is_empty(sent),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn definition(raw: &Value, tags: Option<&Value>) -> TaskDefinition {
    let mut document = raw.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, value| !ANSWERED_ONLY.contains(&name.as_str()) && !value.is_null());
        if let Some(tags) = tags.and_then(own_tags) {
            fields.insert("tags".to_owned(), tags);
        }
    }
    TaskDefinition {
        arn: text_or_empty(raw, "taskDefinitionArn"),
        family: text_or_empty(raw, "family"),
        revision: count(raw, "revision"),
        status: text(raw, "status").unwrap_or_else(|| "ACTIVE".to_owned()),
        containers: list(raw, "containerDefinitions").iter().map(container).collect(),
        cpu_architecture: raw.get("runtimePlatform").and_then(|platform| text(platform, "cpuArchitecture")),
        task_role: text(raw, "taskRoleArn"),
        execution_role: text(raw, "executionRoleArn"),
        document,
    }
}

fn container(value: &Value) -> Container {
    let log = value.get("logConfiguration");
    let options = log.and_then(|log| log.get("options")).and_then(Value::as_object);
    Container {
        name: text_or_empty(value, "name"),
        image: text_or_empty(value, "image"),
        // AWS: "If this parameter is omitted, a container is assumed to be essential."
        essential: value.get("essential").and_then(Value::as_bool).unwrap_or(true),
        environment: list(value, "environment")
            .iter()
            .filter_map(|pair| Some((text(pair, "name")?, text_or_empty(pair, "value"))))
            .collect(),
        secrets: list(value, "secrets").iter().filter_map(|secret| text(secret, "name")).collect(),
        log_driver: log.and_then(|log| text(log, "logDriver")),
        log_options: options.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
    }
}

/// AWS refuses an empty list of tags as well as tags of its own
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>).
fn own_tags(tags: &Value) -> Option<Value> {
    let own = |tag: &&Value| !text_or_empty(tag, "key").starts_with("aws:");
    let own: Vec<Value> = tags.as_array()?.iter().filter(own).cloned().collect();
    (!own.is_empty()).then_some(Value::Array(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_what_nobody_knows_and_leaves_out_what_is_of_ecs() {
        let raw = json!({
            "taskDefinitionArn": "arn:td:3", "family": "td", "revision": 3, "status": "ACTIVE", "registeredAt": 1.5, "cpu": null,
            "compatibilities": ["FARGATE"], "containerDefinitions": [{"name": "web", "image": "i", "ofNextYear": {"a": [1]}}], "alsoNew": 7,
        });
        let tags = json!([{"key": "aws:cloudformation:stack-name", "value": "s"}, {"key": "team", "value": "x"}]);
        let read = definition(&raw, Some(&tags));
        let expected = json!({
            "family": "td", "containerDefinitions": [{"name": "web", "image": "i", "ofNextYear": {"a": [1]}}], "alsoNew": 7,
            "tags": [{"key": "team", "value": "x"}],
        });
        assert_eq!(read.document(), &expected);
        assert_eq!((read.revision, read.containers[0].essential), (3, true));
    }

    #[test]
    fn a_revision_is_known_again_by_what_was_sent() {
        let sent = json!({"family": "td", "volumes": [], "containerDefinitions": [{"name": "web", "image": "new"}]});
        let there = |image: &str| json!({"family": "td", "cpu": "256", "containerDefinitions": [{"name": "web", "image": image, "essential": true, "mountPoints": []}]});
        assert!(holds(&there("new"), &sent) && !holds(&there("old"), &sent));
        assert!(!holds(&json!({"family": "td"}), &sent));
    }

    #[test]
    fn the_tags_of_aws_itself_stay_behind() {
        assert_eq!(own_tags(&json!([{"key": "aws:cloudformation:stack-name", "value": "x"}])), None);
    }

    #[test]
    fn the_values_of_variables_are_not_shown() {
        let read = container(&json!({"name": "web", "environment": [{"name": "PASSWORD", "value": "hunter2"}]}));
        let shown = format!("{read:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }
}
