//! `CloudWatch`: alarms.

use std::collections::BTreeMap;

use super::query::Service;
use super::query_xml::Node;
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
        let parameters = [("AlarmTypes.member.1", "MetricAlarm"), ("MaxRecords", "100")];
        let list = |page: &Node| page.list("MetricAlarms").to_vec();
        let found = self.query_all(Service::CloudWatch, "cloudwatch:DescribeAlarms", "", &parameters, "NextToken", list).await?;
        Ok(found.iter().map(alarm).collect())
    }
}

fn alarm(node: &Node) -> Alarm {
    // An alarm on an expression has its metrics one by one.
    let dimensions = node.descendants("Dimensions").into_iter().flat_map(|list| &list.children);
    Alarm {
        name: node.text("AlarmName").unwrap_or_default(),
        namespace: node.text("Namespace").unwrap_or_default(),
        metric: node.text("MetricName").unwrap_or_default(),
        dimensions: dimensions.filter_map(|dimension| Some((dimension.text("Name")?, dimension.text("Value")?))).collect(),
        acts: node.is_true("ActionsEnabled") && !node.list("AlarmActions").is_empty(),
        state: node.text("StateValue").unwrap_or_default(),
    }
}
