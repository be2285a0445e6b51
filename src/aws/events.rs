//! `EventBridge`: the rules and schedules that start tasks of ECS. What is written back is what was read, but for the task definition.
//!
//! Rules with a schedule are on the default bus only:
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html>. The newer `EventBridge` Scheduler has an API of
//! its own.

use serde_json::{Value, json};

use super::ecs_json::{count, list, text, text_or_empty, texts};
use super::query::Service;
use super::{Aws, AwsError};

/// Puts a rule's target back.
const OPERATION: &str = "events:PutTargets";

/// Something that starts a task of ECS at its time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScheduledTask {
    /// The group of a schedule of `EventBridge` Scheduler; `None` for a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The rule's or the schedule's name.
    pub name: String,
    /// The id of the rule's target; a schedule has one target without an id.
    pub target: String,
    /// The task definition: an ARN, with or without a revision.
    pub task_definition: String,
}

impl Aws {
    /// What starts tasks in a cluster, given by its ARN: rules, and schedules where the endpoint knows of any.
    ///
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListRuleNamesByTarget.html>,
    /// <https://docs.aws.amazon.com/scheduler/latest/APIReference/API_ListSchedules.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn scheduled_tasks(&self, cluster: &str) -> Result<Vec<ScheduledTask>, AwsError> {
        let mut found = Vec::new();
        let asked = self.pages("events:ListRuleNamesByTarget", cluster, json!({"TargetArn": cluster})).await?;
        let names: Vec<String> = asked.iter().flat_map(|page| texts(page, "RuleNames")).collect();
        for name in names {
            for target in self.targets(&name).await?.iter().filter(|target| text_or_empty(target, "Arn") == cluster) {
                let Some(task_definition) = task_definition(target) else { continue };
                found.push(ScheduledTask { group: None, target: text_or_empty(target, "Id"), task_definition, name: name.clone() });
            }
        }
        let schedules = match self.all_schedules().await {
            Err(error) if error.is_unsupported() || error.is_not_found() => Vec::new(),
            schedules => schedules?,
        };
        for brief in schedules.iter().filter(|brief| brief.pointer("/Target/Arn").and_then(Value::as_str) == Some(cluster)) {
            let (group, name) = (text(brief, "GroupName").unwrap_or_else(|| "default".to_owned()), text_or_empty(brief, "Name"));
            let Some(task_definition) = self.schedule(&group, &name).await?.get("Target").and_then(task_definition) else { continue };
            found.push(ScheduledTask { group: Some(group), name, target: String::new(), task_definition });
        }
        Ok(found)
    }

    /// Makes a rule or a schedule start tasks of another revision. Everything else of it stays, fields included that nobody here knows.
    ///
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html>,
    /// <https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html>: both replace the whole.
    ///
    /// # Errors
    /// It is there no more ([`AwsError::is_not_found`]); not allowed (`iam:PassRole` for its role included).
    pub async fn reschedule(&self, task: &ScheduledTask, revision: &str) -> Result<(), AwsError> {
        if let Some(group) = &task.group {
            let mut schedule = self.schedule(group, &task.name).await?;
            set(&mut schedule["Target"], revision);
            if let Some(fields) = schedule.as_object_mut() {
                fields.retain(|name, value| {
                    !["Arn", "CreationDate", "LastModificationDate", "Name"].contains(&name.as_str()) && !value.is_null()
                });
            }
            let path = format!("/schedules/{}", task.name);
            return self.rest(Service::Scheduler, "scheduler:UpdateSchedule", &task.name, "PUT", &path, &schedule).await.map(drop);
        }
        let targets = self.targets(&task.name).await?;
        let Some(mut target) = targets.into_iter().find(|target| text_or_empty(target, "Id") == task.target) else {
            return Err(AwsError::missing(OPERATION, &task.name, format!("the rule has no target `{}` any more", task.target)));
        };
        set(&mut target, revision);
        let body = json!({"Rule": task.name, "Targets": [target]});
        let answer = self.json(Service::Events, OPERATION, &task.name, &body).await?;
        match list(&answer, "FailedEntries").first().filter(|_| count(&answer, "FailedEntryCount") > 0) {
            Some(failed) => {
                let why = [text(failed, "ErrorCode"), text(failed, "ErrorMessage")].into_iter().flatten().collect::<Vec<_>>().join(": ");
                Err(AwsError::unexpected(OPERATION, &task.name, why))
            }
            None => Ok(()),
        }
    }

    async fn targets(&self, rule: &str) -> Result<Vec<Value>, AwsError> {
        let pages = self.pages("events:ListTargetsByRule", rule, json!({"Rule": rule})).await?;
        Ok(pages.iter().flat_map(|page| list(page, "Targets").to_vec()).collect())
    }

    pub(super) async fn pages(&self, operation: &'static str, resource: &str, mut question: Value) -> Result<Vec<Value>, AwsError> {
        let mut pages = Vec::new();
        loop {
            let page = self.json(Service::Events, operation, resource, &question).await?;
            let next = text(&page, "NextToken").filter(|token| text(&question, "NextToken").as_ref() != Some(token));
            pages.push(page);
            let Some(next) = next else { return Ok(pages) };
            question["NextToken"] = Value::String(next);
        }
    }

    async fn all_schedules(&self) -> Result<Vec<Value>, AwsError> {
        let (mut found, mut path) = (Vec::new(), "/schedules?MaxResults=100".to_owned());
        loop {
            let page = self.rest(Service::Scheduler, "scheduler:ListSchedules", "", "GET", &path, &Value::Null).await?;
            found.extend(list(&page, "Schedules").iter().cloned());
            let Some(next) = text(&page, "NextToken") else { return Ok(found) };
            let next = format!("/schedules?MaxResults=100&NextToken={}", super::query::encoded(&next));
            if next == path {
                return Ok(found);
            }
            path = next;
        }
    }

    async fn schedule(&self, group: &str, name: &str) -> Result<Value, AwsError> {
        let path = format!("/schedules/{name}?groupName={group}");
        self.rest(Service::Scheduler, "scheduler:GetSchedule", name, "GET", &path, &Value::Null).await
    }
}

fn task_definition(target: &Value) -> Option<String> {
    target.get("EcsParameters").and_then(|ecs| text(ecs, "TaskDefinitionArn"))
}

fn set(target: &mut Value, revision: &str) {
    target["EcsParameters"]["TaskDefinitionArn"] = Value::String(revision.to_owned());
}
