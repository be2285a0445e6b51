//! EC2: the network that tasks, load balancers and databases are in. It is looked at and never changed.

use super::query::Service;
use super::query_xml::Node;
use super::{Aws, AwsError};

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Its zone: `us-east-1a`.
    pub zone: String,
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Its id.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Does it hold for every subnet of the VPC that has none of its own?
    pub main: bool,
    /// The subnets that have it.
    pub subnets: Vec<String>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `0.0.0.0/0`, `::/0`, a prefix list's id …
    pub destination: String,
    /// `igw-…`, `nat-…`, `vpce-…`, `local`, an interface, an instance …
    pub target: String,
}

/// A security group, as far as it lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who may come in.
    pub ingress: Vec<Admission>,
}

/// One rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// `tcp`, `udp`, or `-1` for everything.
    pub protocol: String,
    /// The ports; `None` for all.
    pub ports: Option<(i64, i64)>,
    /// Addresses: `0.0.0.0/0`.
    pub addresses: Vec<String>,
    /// Prefix lists: `pl-3b927c52`.
    pub prefix_lists: Vec<String>,
    /// Other security groups.
    pub groups: Vec<String>,
}

impl Admission {
    /// May anybody come in, from anywhere?
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        self.addresses.iter().any(|address| address.ends_with("/0"))
    }
}

impl Aws {
    /// Subnets by their ids.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html>
    ///
    /// # Errors
    /// One is not there ([`AwsError::is_not_found`]); not allowed.
    pub async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, AwsError> {
        let found = self.of_ec2("ec2:DescribeSubnets", &ids.join(", "), &numbered("SubnetId", ids), "subnetSet").await?;
        let text = |node: &Node, path: &str| node.text(path).unwrap_or_default();
        Ok(found
            .iter()
            .map(|node| Subnet { id: text(node, "subnetId"), vpc: text(node, "vpcId"), zone: text(node, "availabilityZone") })
            .collect())
    }

    /// The route tables of a VPC.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRouteTables.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn route_tables(&self, vpc: &str) -> Result<Vec<RouteTable>, AwsError> {
        let filter = [("Filter.1.Name".to_owned(), "vpc-id".to_owned()), ("Filter.1.Value.1".to_owned(), vpc.to_owned())];
        let found = self.of_ec2("ec2:DescribeRouteTables", vpc, &filter, "routeTableSet").await?;
        Ok(found.iter().map(route_table).collect())
    }

    /// Security groups by their ids.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSecurityGroups.html>
    ///
    /// # Errors
    /// One is not there ([`AwsError::is_not_found`]); not allowed.
    pub async fn security_groups(&self, ids: &[String]) -> Result<Vec<SecurityGroup>, AwsError> {
        let found = self.of_ec2("ec2:DescribeSecurityGroups", &ids.join(", "), &numbered("GroupId", ids), "securityGroupInfo").await?;
        let group = |node: &Node| SecurityGroup {
            id: node.text("groupId").unwrap_or_default(),
            name: node.text("groupName").unwrap_or_default(),
            ingress: node.list("ipPermissions").iter().map(admission).collect(),
        };
        Ok(found.iter().map(group).collect())
    }

    /// The names of prefix lists by their ids, AWS's own among them: `com.amazonaws.global.cloudfront.origin-facing`.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeManagedPrefixLists.html>
    ///
    /// # Errors
    /// Not allowed; the endpoint does not know the action.
    pub async fn prefix_lists(&self, ids: &[String]) -> Result<Vec<(String, String)>, AwsError> {
        let found = self.of_ec2("ec2:DescribeManagedPrefixLists", &ids.join(", "), &numbered("PrefixListId", ids), "prefixListSet").await?;
        Ok(found.iter().filter_map(|node| Some((node.text("prefixListId")?, node.text("prefixListName")?))).collect())
    }

    /// The services that a VPC has endpoints of its own for: `com.amazonaws.us-east-1.ecr.api`.
    ///
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcEndpoints.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn vpc_endpoints(&self, vpc: &str) -> Result<Vec<String>, AwsError> {
        let filter = [("Filter.1.Name".to_owned(), "vpc-id".to_owned()), ("Filter.1.Value.1".to_owned(), vpc.to_owned())];
        let found = self.of_ec2("ec2:DescribeVpcEndpoints", vpc, &filter, "vpcEndpointSet").await?;
        Ok(found.iter().filter_map(|node| node.text("serviceName")).collect())
    }

    async fn of_ec2(
        &self,
        operation: &'static str,
        resource: &str,
        parameters: &[(String, String)],
        list: &str,
    ) -> Result<Vec<Node>, AwsError> {
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.query_all(Service::Ec2, operation, resource, &parameters, "NextToken", |page| page.list(list).to_vec()).await
    }
}

fn numbered(name: &str, values: &[String]) -> Vec<(String, String)> {
    values.iter().enumerate().map(|(at, value)| (format!("{name}.{}", at + 1), value.clone())).collect()
}

fn route_table(node: &Node) -> RouteTable {
    let associations = node.list("associationSet");
    RouteTable {
        id: node.text("routeTableId").unwrap_or_default(),
        vpc: node.text("vpcId").unwrap_or_default(),
        main: associations.iter().any(|association| association.is_true("main")),
        subnets: associations.iter().filter_map(|association| association.text("subnetId")).collect(),
        routes: node.list("routeSet").iter().map(route).collect(),
    }
}

/// What a route leads to is in one of many fields: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html>.
fn route(node: &Node) -> Route {
    let first = |names: &[&str]| names.iter().find_map(|name| node.text(name)).unwrap_or_default();
    Route {
        destination: first(&["destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId"]),
        target: first(&[
            "gatewayId",
            "natGatewayId",
            "transitGatewayId",
            "vpcPeeringConnectionId",
            "egressOnlyInternetGatewayId",
            "networkInterfaceId",
            "instanceId",
            "localGatewayId",
            "carrierGatewayId",
            "coreNetworkArn",
        ]),
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html>
fn admission(node: &Node) -> Admission {
    let texts = |list: &str, name: &'static str| node.list(list).iter().filter_map(move |item| item.text(name));
    Admission {
        protocol: node.text("ipProtocol").unwrap_or_default(),
        ports: node.number("fromPort").zip(node.number("toPort")).filter(|ports| *ports != (-1, -1)),
        addresses: texts("ipRanges", "cidrIp").chain(texts("ipv6Ranges", "cidrIpv6")).collect(),
        prefix_lists: texts("prefixListIds", "prefixListId").collect(),
        groups: texts("groups", "groupId").collect(),
    }
}
