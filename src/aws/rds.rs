//! RDS: how a database is kept. Snapshots are the migrations' own.

use super::query::Service;
use super::query_xml::Node;
use super::{Aws, AwsError};

/// A database's instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "RDS's own switches, each by its own name")]
pub struct DbInstance {
    /// Its identifier.
    pub id: String,
    /// `available`, `backing-up` …
    pub status: String,
    /// `shop.abc.us-east-1.rds.amazonaws.com`, once it has one.
    pub address: Option<String>,
    /// Has its address a public IP?
    pub public: bool,
    /// Is its storage encrypted?
    pub encrypted: bool,
    /// For how many days backups are kept; 0 if there are none.
    pub backup_days: i64,
    /// Is there a second instance in another zone?
    pub multi_az: bool,
    /// Is it held against deletion?
    pub deletion_protection: bool,
    /// Its VPC.
    pub vpc: Option<String>,
    /// The subnets that it may be in.
    pub subnets: Vec<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// `db.t4g.micro`.
    pub class: String,
    /// `postgres 15.4`.
    pub engine: String,
    /// Its storage, in GB.
    pub storage: i64,
    /// What its storage may grow to by itself, in GB; `None` where it does not.
    pub grows_to: Option<i64>,
    /// The cluster that it is of: there the storage and its backups are the cluster's.
    pub cluster: Option<String>,
}

impl Aws {
    /// The instances of the account's region; of one identifier if it is given.
    ///
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBInstances.html>
    ///
    /// # Errors
    /// No such instance ([`AwsError::is_not_found`]); not allowed.
    pub async fn db_instances(&self, id: Option<&str>) -> Result<Vec<DbInstance>, AwsError> {
        let parameters: Vec<(&str, &str)> = id.map(|id| ("DBInstanceIdentifier", id)).into_iter().collect();
        let list = |page: &Node| page.list("DBInstances").to_vec();
        let found = self.query_all(Service::Rds, "rds:DescribeDBInstances", id.unwrap_or_default(), &parameters, "Marker", list).await?;
        Ok(found.iter().map(instance).collect())
    }
}

fn instance(node: &Node) -> DbInstance {
    let texts = |list: &str, name: &str| node.list(list).iter().filter_map(|item| item.text(name)).collect();
    DbInstance {
        id: node.text("DBInstanceIdentifier").unwrap_or_default(),
        status: node.text("DBInstanceStatus").unwrap_or_default(),
        address: node.text("Endpoint/Address"),
        public: node.is_true("PubliclyAccessible"),
        encrypted: node.is_true("StorageEncrypted"),
        backup_days: node.number("BackupRetentionPeriod").unwrap_or_default(),
        multi_az: node.is_true("MultiAZ"),
        deletion_protection: node.is_true("DeletionProtection"),
        vpc: node.text("DBSubnetGroup/VpcId"),
        subnets: texts("DBSubnetGroup/Subnets", "SubnetIdentifier"),
        security_groups: texts("VpcSecurityGroups", "VpcSecurityGroupId"),
        class: node.text("DBInstanceClass").unwrap_or_default(),
        engine: [node.text("Engine"), node.text("EngineVersion")].into_iter().flatten().collect::<Vec<_>>().join(" "),
        storage: node.number("AllocatedStorage").unwrap_or_default(),
        grows_to: node.number("MaxAllocatedStorage"),
        cluster: node.text("DBClusterIdentifier"),
    }
}
