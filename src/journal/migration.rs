//! What is remembered of one database's migrations between runs: the last attempt, and what it left.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::model::{ImageUri, ReleaseId, UnitName};

use super::{Journal, JournalError};

/// The migrations of one database: `migrations/NAME.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MigrationHistory {
    /// How many attempts there were.
    pub attempts: u32,
    /// The last one.
    pub last: Option<MigrationAttempt>,
    /// All migrations that are applied, as far as an answer has told.
    #[serde(default)]
    pub applied: Option<Vec<String>>,
    /// The image or bundle whose handler may be asked for the state: one of windlass's.
    #[serde(default)]
    pub asked: Option<String>,
}

impl MigrationHistory {
    /// Was the last attempt cut off, so that nobody knows yet what came of it?
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.last.as_ref().is_some_and(|attempt| attempt.ended.is_none())
    }
}

/// One attempt to migrate. Without an end it was cut off: what came of it has to be found out before there is another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationAttempt {
    /// What its first and its last line of log bear: the release, the migration, and the attempt's number.
    pub mark: String,
    /// The release.
    pub release: ReleaseId,
    /// The image whose migrations it applies.
    pub image: ImageUri,
    /// What runs them where that is another: the image with windlass's handler, or the SHA-256 of a zip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// When it is over at the latest.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline: OffsetDateTime,
    /// The version of the function, or the ARN of the task, that migrates.
    #[serde(default)]
    pub runs: Option<String>,
    /// How it ended; `None` while nobody knows.
    #[serde(default)]
    pub ended: Option<MigrationEnd>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationEnd {
    /// Nothing is pending.
    Done,
    /// It failed.
    Failed,
    /// It never began: the request was refused.
    NotBegun,
}

impl Journal {
    /// What is remembered of a database's migrations.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn migration(&self, name: &UnitName) -> Result<MigrationHistory, JournalError> {
        Ok(self.read(&format!("migrations/{name}.json")).await?.unwrap_or_default())
    }

    /// Remembers.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_migration(&self, name: &UnitName, history: &MigrationHistory) -> Result<(), JournalError> {
        self.write(&format!("migrations/{name}.json"), history).await
    }

    /// Where that is kept, for whoever has to look at it: `s3://BUCKET/KEY`.
    #[must_use]
    pub fn migration_place(&self, name: &UnitName) -> String {
        format!("s3://{}/{}", self.bucket, self.key(&format!("migrations/{name}.json")))
    }
}
