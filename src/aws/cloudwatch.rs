//! `CloudWatch`: alarms.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ecs_json::{list, text, text_or_empty};
use super::query::Service;
use super::{Aws, AwsError};

/// An alarm on a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// `AWS/ECS`, `AWS/ApplicationELB`, `AWS/RDS` …; empty for an expression.
    pub namespace: String,
    /// `CPUUtilization` …
    pub metric: String,
    /// What is measured: `ServiceName`, `TargetGroup` …
    pub dimensions: BTreeMap<String, String>,
    /// Does it do anything when it goes off?
    pub acts: bool,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
}

impl Aws {
    /// The alarms on metrics of the account's region.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, AwsError> {
        let mut question = json!({"AlarmTypes": ["MetricAlarm"], "MaxRecords": 100});
        let mut alarms = Vec::new();
        loop {
            let answer = self.json(Service::CloudWatch, "cloudwatch:DescribeAlarms", "", &question).await?;
            alarms.extend(list(&answer, "MetricAlarms").iter().map(alarm));
            match text(&answer, "NextToken").filter(|token| text(&question, "NextToken").as_ref() != Some(token)) {
                Some(next) => question["NextToken"] = Value::String(next),
                None => return Ok(alarms),
            }
        }
    }
}

fn alarm(value: &Value) -> Alarm {
    // An alarm on an expression has its metrics one by one.
    let metrics = list(value, "Metrics").iter().filter_map(|metric| metric.pointer("/MetricStat/Metric"));
    let dimensions = list(value, "Dimensions").iter().chain(metrics.flat_map(|metric| list(metric, "Dimensions")));
    let on = value.get("ActionsEnabled").and_then(Value::as_bool).unwrap_or_default();
    Alarm {
        name: text_or_empty(value, "AlarmName"),
        namespace: text_or_empty(value, "Namespace"),
        metric: text_or_empty(value, "MetricName"),
        dimensions: dimensions.filter_map(|dimension| Some((text(dimension, "Name")?, text(dimension, "Value")?))).collect(),
        acts: on && !list(value, "AlarmActions").is_empty(),
        state: text_or_empty(value, "StateValue"),
    }
}
