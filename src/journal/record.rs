//! The record of a release, and what is live. Both are JSON with a `format` number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::event::Outcome;
use crate::model::{Commit, ImageUri, ReleaseId, Stage, UnitName};

/// The format of both; a reader refuses what it does not know.
pub(super) const FORMAT: u32 = 1;

/// What is live of services and databases. Sites are kept one by one, because they are large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// 1.
    pub format: u32,
    /// Services.
    #[serde(default)]
    pub services: BTreeMap<UnitName, LiveService>,
    /// Migrations.
    #[serde(default)]
    pub migrations: BTreeMap<UnitName, LiveMigration>,
}

impl Default for Live {
    fn default() -> Self {
        Self { format: FORMAT, services: BTreeMap::new(), migrations: BTreeMap::new() }
    }
}

/// What a release has published of a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published<M> {
    /// 1.
    pub format: u32,
    /// The release.
    pub release: ReleaseId,
    /// Its commit.
    pub commit: Option<Commit>,
    /// All that is live.
    pub manifest: M,
}

impl<M> Published<M> {
    /// What the release of this record has published.
    pub fn by(record: &Record, manifest: M) -> Self {
        Self { format: FORMAT, release: record.release.clone(), commit: record.commit.clone(), manifest }
    }
}

/// A service that is live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveService {
    /// The release that rolled it.
    pub release: ReleaseId,
    /// The release's commit.
    pub commit: Option<Commit>,
    /// Its image.
    pub image: ImageUri,
    /// The ARN of its task definition's revision.
    pub revision: String,
}

/// A database that is migrated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveMigration {
    /// The release that migrated it.
    pub release: ReleaseId,
    /// The release's commit.
    pub commit: Option<Commit>,
    /// The image whose migrations are applied.
    pub image: ImageUri,
}

/// The record of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// Its id.
    pub release: ReleaseId,
    /// The application.
    pub app: UnitName,
    /// The environment's name; empty without environments.
    pub environment: String,
    /// The commit, if there is one.
    pub commit: Option<Commit>,
    /// Who: the ARN behind the credentials.
    pub by: String,
    /// Where: a build's URL or id, or the machine's name.
    pub at: String,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// What each service's image turned out to be.
    #[serde(default)]
    pub images: BTreeMap<UnitName, ImageUri>,
    /// What each stage came to.
    #[serde(default)]
    pub stages: BTreeMap<Stage, Ran>,
    /// What was live of each unit before the release touched it.
    #[serde(default)]
    pub before: Live,
}

/// What a stage came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub ended: OffsetDateTime,
}

impl Record {
    /// The record of a release that starts.
    #[must_use]
    pub fn start(release: ReleaseId, app: UnitName, environment: String, commit: Option<Commit>, started: OffsetDateTime) -> Self {
        Self {
            format: FORMAT,
            release,
            app,
            environment,
            commit,
            by: String::new(),
            at: String::new(),
            started,
            images: BTreeMap::new(),
            stages: BTreeMap::new(),
            before: Live::default(),
        }
    }
}
