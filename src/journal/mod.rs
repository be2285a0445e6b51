//! What windlass remembers: records, manifests, bodies and plans, in a private bucket below one prefix.
//!
//! ```text
//! PREFIX/APP/ENVIRONMENT/live.json              what is live of services and databases
//! PREFIX/APP/ENVIRONMENT/sites/SITE/live.json   what is live of a site: all its files
//! PREFIX/APP/ENVIRONMENT/releases/ID.json       the record of a release
//! PREFIX/APP/ENVIRONMENT/plans/ID.json          its plan, as it was executed
//! PREFIX/APP/ENVIRONMENT/sites/SITE/ID.json     the manifest of what a release published
//! PREFIX/APP/ENVIRONMENT/bodies/SHA256          a file that was or will be overwritten in a site's bucket
//! ```
//!
//! Deliberately absent: what a manifest or a plan holds (they are kept as their JSON), and deciding anything.

mod record;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws::{Aws, AwsError, Condition};
use crate::model::{ReleaseId, Sha256, UnitName};

pub use record::{Live, LiveMigration, LiveService, Published, Ran, Record};

/// The state of one application in one environment.
#[derive(Debug, Clone)]
pub struct Journal {
    aws: Aws,
    bucket: String,
    prefix: String,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// S3 failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// What is there is no such thing.
    #[error("the state `{key}` does not hold what it should")]
    Unreadable {
        /// The key.
        key: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Journal {
    /// The state below `prefix` (which may be empty) of `bucket`.
    #[must_use]
    pub fn new(aws: &Aws, bucket: &str, prefix: &str, app: &UnitName, environment: &str) -> Self {
        let parts: Vec<&str> = [prefix, app.as_str(), environment].into_iter().filter(|part| !part.is_empty()).collect();
        Self { aws: aws.clone(), bucket: bucket.to_owned(), prefix: parts.join("/") }
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    fn key(&self, rest: &str) -> String {
        format!("{}/{rest}", self.prefix)
    }

    /// The key that the body with this digest is kept under.
    #[must_use]
    pub fn body_key(&self, digest: &Sha256) -> String {
        self.key(&format!("bodies/{digest}"))
    }

    /// What is live of services and databases; nothing before the first release.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn live(&self) -> Result<Live, JournalError> {
        Ok(self.read("live.json").await?.unwrap_or_default())
    }

    /// Says what is live.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_live(&self, live: &Live) -> Result<(), JournalError> {
        self.write("live.json", live).await
    }

    /// A release's record.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn record(&self, release: &ReleaseId) -> Result<Option<Record>, JournalError> {
        self.read(&format!("releases/{release}.json")).await
    }

    /// Writes a release's record.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_record(&self, record: &Record) -> Result<(), JournalError> {
        self.write(&format!("releases/{}.json", record.release), record).await
    }

    /// A release's plan.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn plan<P: DeserializeOwned>(&self, release: &ReleaseId) -> Result<Option<P>, JournalError> {
        self.read(&format!("plans/{release}.json")).await
    }

    /// Writes a release's plan.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_plan<P: Serialize>(&self, release: &ReleaseId, plan: &P) -> Result<(), JournalError> {
        self.write(&format!("plans/{release}.json"), plan).await
    }

    /// What is live of a site, by the record.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn site<M: DeserializeOwned>(&self, site: &UnitName) -> Result<Option<Published<M>>, JournalError> {
        self.read(&format!("sites/{site}/live.json")).await
    }

    /// Keeps what a release has published of a site, and says that it is live.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_site<M: Serialize>(&self, site: &UnitName, published: &Published<M>) -> Result<(), JournalError> {
        // Kept first: what is live can be gone back to.
        self.write(&format!("sites/{site}/{}.json", published.release), published).await?;
        self.write(&format!("sites/{site}/live.json"), published).await
    }

    /// The entity tags of what a release has uploaded, kept between its stages.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn etags<T: DeserializeOwned>(&self, release: &ReleaseId) -> Result<Option<T>, JournalError> {
        self.read(&format!("plans/{release}.etags.json")).await
    }

    /// Keeps the entity tags of what a release has uploaded.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_etags<T: Serialize>(&self, release: &ReleaseId, etags: &T) -> Result<(), JournalError> {
        self.write(&format!("plans/{release}.etags.json"), etags).await
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        let key = self.key(name);
        let Some(object) = self.aws.get_object(&self.bucket, &key).await? else { return Ok(None) };
        serde_json::from_slice(&object.body).map(Some).map_err(|source| JournalError::Unreadable { key, source })
    }

    async fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let key = self.key(name);
        let body = serde_json::to_vec(value).map_err(|source| JournalError::Unreadable { key: key.clone(), source })?;
        self.aws.put_json(&self.bucket, &key, Bytes::from(body), Condition::Always).await?;
        Ok(())
    }
}
