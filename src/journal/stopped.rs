//! Services that a migration has stopped: how many tasks each had, kept until they run again, whoever is killed in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::model::{ReleaseId, UnitName};

use super::{Journal, JournalError};

/// A service that was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedService {
    /// Its cluster.
    pub cluster: String,
    /// Its name on ECS.
    pub service: String,
    /// How many tasks it wanted before: more than none.
    pub tasks: i32,
    /// Was its auto scaling suspended along with it?
    #[serde(default)]
    pub scaling_suspended: bool,
    /// The release that stopped it.
    pub release: ReleaseId,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl Journal {
    /// The services that are stopped, or were to be.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn stopped(&self) -> Result<BTreeMap<UnitName, StoppedService>, JournalError> {
        Ok(self.read("stopped.json").await?.unwrap_or_default())
    }

    /// Remembers them: before they are stopped, and when they run again.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_stopped(&self, services: &BTreeMap<UnitName, StoppedService>) -> Result<(), JournalError> {
        self.write("stopped.json", services).await
    }
}
