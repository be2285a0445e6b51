//! ECS: where a service's tasks are in the network.

use serde_json::{Value, json};

use super::ecs_json::{Patience, list, text, texts};
use super::query::Service;
use super::query_xml::Node;
use super::{Aws, AwsError};

/// Where tasks are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Their subnets; empty where tasks share their host's network.
    pub subnets: Vec<String>,
    /// Their security groups.
    pub security_groups: Vec<String>,
    /// Do they get public addresses?
    pub public_ip: bool,
    /// `FARGATE`, `EC2`, or the capacity providers.
    pub capacity: String,
}

/// A host of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The EC2 instance.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Has it a public address?
    pub public_ip: bool,
    /// Its security groups.
    pub security_groups: Vec<String>,
}

impl Aws {
    /// Where a service's tasks are; `None` when there is no such service.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn placement(&self, cluster: &str, service: &str) -> Result<Option<Placement>, AwsError> {
        let question = json!({"cluster": cluster, "services": [service]});
        let answer = self.ecs("ecs:DescribeServices", format!("{cluster}/{service}"), &question, Patience::Usual).await?;
        Ok(list(&answer, "services").first().map(placement))
    }

    /// The hosts of a cluster, where there are any.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn hosts(&self, cluster: &str) -> Result<Vec<Host>, AwsError> {
        let room = self.room(cluster).await?;
        let ids: Vec<String> = room.into_iter().map(|room| room.instance).filter(|id| id.starts_with("i-")).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = (1..=ids.len()).map(|at| format!("InstanceId.{at}")).collect();
        let parameters: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(ids.iter().map(String::as_str)).collect();
        let list = |page: &Node| page.list("reservationSet").iter().flat_map(|one| one.list("instancesSet").to_vec()).collect();
        let found = self.query_all(Service::Ec2, "ec2:DescribeInstances", &ids.join(", "), &parameters, "NextToken", list).await?;
        let host = |node: &Node| Host {
            id: node.text("instanceId").unwrap_or_default(),
            subnet: node.text("subnetId").unwrap_or_default(),
            public_ip: node.text("ipAddress").is_some(),
            security_groups: node.list("groupSet").iter().filter_map(|group| group.text("groupId")).collect(),
        };
        Ok(found.iter().map(host).collect())
    }
}

fn placement(value: &Value) -> Placement {
    let network = value.pointer("/networkConfiguration/awsvpcConfiguration").unwrap_or(&Value::Null);
    let providers: Vec<String> = list(value, "capacityProviderStrategy").iter().filter_map(|one| text(one, "capacityProvider")).collect();
    Placement {
        subnets: texts(network, "subnets"),
        security_groups: texts(network, "securityGroups"),
        public_ip: text(network, "assignPublicIp").as_deref() == Some("ENABLED"),
        capacity: text(value, "launchType").unwrap_or_else(|| providers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_read_with_and_without_a_network_of_its_own() {
        let own = json!({"launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration":
            {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}}});
        let own = placement(&own);
        assert_eq!((own.subnets.len(), own.public_ip, own.capacity.as_str()), (1, true, "FARGATE"));
        let shared = placement(&json!({"capacityProviderStrategy": [{"capacityProvider": "hosts", "weight": 1}]}));
        assert_eq!((shared.subnets.len(), shared.public_ip, shared.capacity.as_str()), (0, false, "hosts"));
    }
}
