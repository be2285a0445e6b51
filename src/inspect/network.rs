//! Subnets and security groups: what is public, and who is let in.

use std::collections::{BTreeMap, BTreeSet};

use crate::aws::{Admission, Aws, RouteTable, SecurityGroup, Subnet};

use super::{Seen, see};

/// AWS's own list of CloudFront's addresses towards origins, and its twin for IPv6.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/LocationsOfEdgeServers.html>
const CLOUDFRONT: &str = "cloudfront.origin-facing";

/// Subnets with the ways out of them.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) subnets: Vec<Subnet>,
    tables: BTreeMap<String, Vec<RouteTable>>,
}

impl Network {
    pub(super) async fn of(aws: &Aws, ids: &[String]) -> Seen<Self> {
        let subnets = see(aws.subnets(ids)).await?;
        let mut tables = BTreeMap::new();
        for vpc in subnets.iter().map(|subnet| subnet.vpc.clone()).collect::<BTreeSet<_>>() {
            let found = see(aws.route_tables(&vpc)).await?;
            tables.insert(vpc, found);
        }
        Ok(Self { subnets, tables })
    }

    pub(super) fn vpcs(&self) -> BTreeSet<&str> {
        self.subnets.iter().map(|subnet| subnet.vpc.as_str()).collect()
    }

    pub(super) fn zones(&self) -> usize {
        self.subnets.iter().map(|subnet| subnet.zone.as_str()).collect::<BTreeSet<_>>().len()
    }

    /// Where the default route of a subnet leads: by its own table, else by its VPC's main one.
    fn way_out(&self, subnet: &Subnet) -> Option<&str> {
        let tables = self.tables.get(&subnet.vpc)?;
        let own = tables.iter().find(|table| table.subnets.contains(&subnet.id)).or_else(|| tables.iter().find(|table| table.main))?;
        let outside = own.routes.iter().filter(|route| matches!(route.destination.as_str(), "0.0.0.0/0" | "::/0"));
        outside.map(|route| route.target.as_str()).max_by_key(|target| target.starts_with("igw-"))
    }

    /// The subnets that the internet reaches, where something in them has a public address.
    pub(super) fn public(&self) -> Vec<&str> {
        let open = self.subnets.iter().filter(|subnet| self.way_out(subnet).is_some_and(|target| target.starts_with("igw-")));
        open.map(|subnet| subnet.id.as_str()).collect()
    }

    /// The subnets that nothing leads out of.
    pub(super) fn closed(&self) -> Vec<&str> {
        self.subnets.iter().filter(|subnet| self.way_out(subnet).is_none()).map(|subnet| subnet.id.as_str()).collect()
    }
}

/// Whom security groups let in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guests {
    /// The groups that let anybody in, with the ports.
    pub(super) everyone: Vec<String>,
    /// Other addresses.
    pub(super) addresses: Vec<String>,
    /// CloudFront, by AWS's list of its addresses.
    pub(super) cloudfront: bool,
    /// Other lists of addresses.
    pub(super) lists: Vec<String>,
    /// Other security groups.
    pub(super) groups: Vec<String>,
}

impl Guests {
    pub(super) async fn of(aws: &Aws, ids: &[String]) -> Seen<Self> {
        if ids.is_empty() {
            return Err("no security group is named".to_owned());
        }
        let groups = see(aws.security_groups(ids)).await?;
        let lists: BTreeSet<String> = groups.iter().flat_map(|group| &group.ingress).flat_map(|rule| rule.prefix_lists.clone()).collect();
        let names = if lists.is_empty() {
            BTreeMap::new()
        } else {
            let ids: Vec<String> = lists.into_iter().collect();
            see(aws.prefix_lists(&ids)).await?.into_iter().collect()
        };
        Ok(Self::read(&groups, &names))
    }

    fn read(groups: &[SecurityGroup], names: &BTreeMap<String, String>) -> Self {
        let mut guests = Self::default();
        for group in groups {
            for rule in &group.ingress {
                if rule.is_for_everyone() {
                    guests.everyone.push(format!("{} on {}", group.id, ports(rule)));
                }
                guests.addresses.extend(rule.addresses.iter().filter(|address| !address.ends_with("/0")).cloned());
                guests.groups.extend(rule.groups.iter().cloned());
                for list in &rule.prefix_lists {
                    match names.get(list) {
                        Some(name) if name.contains(CLOUDFRONT) => guests.cloudfront = true,
                        Some(name) => guests.lists.push(name.clone()),
                        None => guests.lists.push(list.clone()),
                    }
                }
            }
        }
        guests
    }
}

fn ports(rule: &Admission) -> String {
    match rule.ports {
        Some((from, to)) if from == to => format!("port {from}"),
        Some((from, to)) => format!("ports {from} to {to}"),
        None => "all ports".to_owned(),
    }
}

/// `a`, `b` and 3 more.
pub(super) fn some(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if names.len() > 4 { format!(" and {} more", names.len() - 4) } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Route;

    fn subnet(id: &str) -> Subnet {
        Subnet { id: id.to_owned(), vpc: "vpc-1".to_owned(), zone: format!("zone-{id}") }
    }

    fn table(main: bool, subnets: &[&str], target: Option<&str>) -> RouteTable {
        let route = |destination: &str, target: &str| Route { destination: destination.to_owned(), target: target.to_owned() };
        let routes = target.map(|target| route("0.0.0.0/0", target)).into_iter().chain([route("10.0.0.0/16", "local")]).collect();
        let subnets = subnets.iter().map(|id| (*id).to_owned()).collect();
        RouteTable { id: "rtb".to_owned(), vpc: "vpc-1".to_owned(), main, subnets, routes }
    }

    #[test]
    fn a_subnet_is_public_by_the_table_that_holds_for_it() {
        let tables = vec![table(true, &[], Some("igw-1")), table(false, &["b"], Some("nat-1")), table(false, &["c"], None)];
        let network = Network { subnets: ["a", "b", "c"].map(subnet).to_vec(), tables: [("vpc-1".to_owned(), tables)].into() };
        assert_eq!((network.public(), network.closed(), network.zones()), (vec!["a"], vec!["c"], 3));
    }

    #[test]
    fn guests_are_told_apart() {
        let rule = |addresses: &[&str], lists: &[&str], groups: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
            Admission {
                protocol: "tcp".to_owned(),
                ports: Some((443, 443)),
                addresses: owned(addresses),
                prefix_lists: owned(lists),
                groups: owned(groups),
            }
        };
        let group = |ingress| SecurityGroup { id: "sg-1".to_owned(), name: "web".to_owned(), ingress };
        let names = BTreeMap::from([("pl-1".to_owned(), "com.amazonaws.global.cloudfront.origin-facing".to_owned())]);
        let closed = Guests::read(&[group(vec![rule(&[], &["pl-1"], &["sg-2"])])], &names);
        assert!(closed.cloudfront && closed.everyone.is_empty() && closed.groups == ["sg-2"]);
        let open = Guests::read(&[group(vec![rule(&["0.0.0.0/0", "192.0.2.1/32"], &["pl-2"], &[])])], &names);
        assert_eq!(
            (open.everyone, open.addresses, open.lists),
            (vec!["sg-1 on port 443".into()], vec!["192.0.2.1/32".into()], vec!["pl-2".into()])
        );
    }
}
