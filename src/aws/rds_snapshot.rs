//! RDS: snapshots of a database, by the instance that it is asked for; of its cluster where it is of one.

use super::query::Service;
use super::{Aws, AwsError};

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotOf {
    /// An instance.
    Instance(String),
    /// A cluster, whose storage its instances share.
    Cluster(String),
}

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbSnapshot {
    /// `creating`, `available` …
    pub status: String,
    /// In percent.
    pub progress: i64,
}

impl SnapshotOf {
    /// The names of RDS's two kinds of everything: actions, parameters, lists.
    fn names(&self) -> [&'static str; 5] {
        match self {
            Self::Instance(_) => {
                ["rds:CreateDBSnapshot", "rds:DescribeDBSnapshots", "DBInstanceIdentifier", "DBSnapshotIdentifier", "DBSnapshots"]
            }
            Self::Cluster(_) => [
                "rds:CreateDBClusterSnapshot",
                "rds:DescribeDBClusterSnapshots",
                "DBClusterIdentifier",
                "DBClusterSnapshotIdentifier",
                "DBClusterSnapshots",
            ],
        }
    }
}

impl Aws {
    /// Begins a snapshot of this name: lower-case letters, digits and hyphens.
    ///
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBSnapshot.html>,
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBClusterSnapshot.html>
    ///
    /// # Errors
    /// No such database ([`AwsError::is_not_found`]); it is busy; there is such a snapshot; not allowed.
    pub async fn create_db_snapshot(&self, of: &SnapshotOf, name: &str) -> Result<(), AwsError> {
        let [create, _, source, snapshot, _] = of.names();
        let (SnapshotOf::Instance(id) | SnapshotOf::Cluster(id)) = of;
        self.query(Service::Rds, create, id, &[(source, id), (snapshot, name)]).await.map(drop)
    }

    /// A snapshot by its name; `None` where there is none.
    ///
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBSnapshots.html>,
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBClusterSnapshots.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn db_snapshot(&self, of: &SnapshotOf, name: &str) -> Result<Option<DbSnapshot>, AwsError> {
        let [_, describe, _, snapshot, list] = of.names();
        let answer = match self.query(Service::Rds, describe, name, &[(snapshot, name)]).await {
            // RDS calls it a fault of the name's: `DBSnapshotNotFound`.
            Err(error) if error.is_not_found() || error.code().is_some_and(|code| code.contains("NotFound")) => return Ok(None),
            answer => answer?,
        };
        Ok(answer.list(list).first().map(|found| DbSnapshot {
            status: found.text("Status").unwrap_or_default(),
            progress: found.number("PercentProgress").unwrap_or_default(),
        }))
    }
}
