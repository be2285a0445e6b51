//! ECS: the room that is left on a cluster's own hosts.

use serde_json::{Value, json};

use super::ecs_json::{Patience, count, list, text_or_empty};
use super::{Aws, AwsError};

/// `DescribeContainerInstances` takes at most so many.
const BATCH: usize = 100;

/// What one host has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The EC2 instance.
    pub instance: String,
    /// `ACTIVE`, `DRAINING` …
    pub status: String,
    /// CPU units left, of all.
    pub cpu: (i32, i32),
    /// MiB left, of all.
    pub memory: (i32, i32),
}

impl Aws {
    /// The room on the hosts of a cluster; none on a cluster that has only Fargate.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeContainerInstances.html>
    ///
    /// # Errors
    /// No such cluster ([`AwsError::is_not_found`]); not allowed.
    pub async fn room(&self, cluster: &str) -> Result<Vec<Room>, AwsError> {
        let question = json!({"cluster": cluster, "maxResults": 100});
        let arns = self.ecs_pages("ecs:ListContainerInstances", cluster, question, "containerInstanceArns", Patience::Little).await?;
        let mut rooms = Vec::new();
        for batch in arns.chunks(BATCH) {
            let question = json!({"cluster": cluster, "containerInstances": batch});
            let answer = self.ecs("ecs:DescribeContainerInstances", cluster, &question, Patience::Little).await?;
            rooms.extend(list(&answer, "containerInstances").iter().map(room));
        }
        Ok(rooms)
    }
}

fn room(value: &Value) -> Room {
    let of = |resources: &str, name: &str| {
        let found = list(value, resources).iter().find(|resource| text_or_empty(resource, "name") == name);
        found.map(|resource| count(resource, "integerValue")).unwrap_or_default()
    };
    let both = |name: &str| (of("remainingResources", name), of("registeredResources", name));
    Room {
        instance: text_or_empty(value, "ec2InstanceId"),
        status: text_or_empty(value, "status"),
        cpu: both("CPU"),
        memory: both("MEMORY"),
    }
}
