//! The record of a release, and what is live. Both are JSON with a `format` number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::aws::ScheduledTask;
use crate::event::{Outcome, StepRan};
use crate::model::{CiSystem, Commit, ImageUri, Made, Over, Promoted, ReleaseId, Sha256, Stage, UnitName};

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
    /// Sites: which release's manifest is live.
    #[serde(default)]
    pub sites: BTreeMap<UnitName, LiveSite>,
}

/// Which manifest of a site is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSite {
    /// The release that published it.
    pub release: ReleaseId,
    /// The release's commit.
    pub commit: Option<Commit>,
}

impl Default for Live {
    fn default() -> Self {
        Self { format: FORMAT, services: BTreeMap::new(), migrations: BTreeMap::new(), sites: BTreeMap::new() }
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
    /// What is written over it by a release that has not said yet that it is live: what lies in the bucket is of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// All that is live.
    pub manifest: M,
}

impl<M> Published<M> {
    /// What the release of this record has published.
    pub fn by(record: &Record, manifest: M) -> Self {
        Self { format: FORMAT, release: record.release.clone(), commit: record.commit.clone(), over: None, manifest }
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
    /// What ran them where that is another: the image with windlass's handler, or the SHA-256 of a zip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
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
    /// When the commit was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    /// Had the working tree changes that are in no commit?
    #[serde(default)]
    pub dirty: bool,
    /// The release whose state this one brings back, if it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<ReleaseId>,
    /// The release of another environment that this one has brought here, if it is a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotes: Option<Promoted>,
    /// Of all that it was to bring: the same command again has the same, and goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Sha256>,
    /// Every run of it, the first one first.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// What each service's image turned out to be.
    #[serde(default)]
    pub images: BTreeMap<UnitName, ImageUri>,
    /// What went into the images that were built, and what a scan has found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub made: BTreeMap<UnitName, Made>,
    /// What each stage came to.
    #[serde(default)]
    pub stages: BTreeMap<Stage, Ran>,
    /// What each step came to, in the order in which they ended.
    #[serde(default)]
    pub steps: Vec<StepRan>,
    /// What was live of each unit before the release touched it.
    #[serde(default)]
    pub before: Live,
    /// What served of each service when a run of the release first came to it: all of it can be brought back there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub served: BTreeMap<UnitName, Served>,
    /// What is live of each unit since.
    #[serde(default)]
    pub after: Live,
}

/// What served of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The ARN of its revision.
    pub revision: String,
    /// What was to follow the service to another revision, as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduledTask>,
}

/// One run of a release: of the whole, or of some of its stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Who: the ARN behind the credentials.
    pub by: String,
    /// Where: a build's URL, or the machine's name.
    pub at: String,
    /// The pipeline's execution, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The system that ran it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<CiSystem>,
    /// Where in that system people can look: `build`, `pipeline`, `log`, `commit`, `change`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// When it ended; `None` while it runs, and for ever if it was killed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub ended: Option<OffsetDateTime>,
    /// The exit code that it ended with.
    #[serde(default)]
    pub exit: Option<u8>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
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
    pub fn start(release: ReleaseId, app: UnitName, environment: String, commit: Option<Commit>) -> Self {
        Self {
            format: FORMAT,
            release,
            app,
            environment,
            commit,
            committed: None,
            dirty: false,
            restores: None,
            promotes: None,
            intent: None,
            runs: Vec::new(),
            images: BTreeMap::new(),
            made: BTreeMap::new(),
            stages: BTreeMap::new(),
            steps: Vec::new(),
            before: Live::default(),
            served: BTreeMap::new(),
            after: Live::default(),
        }
    }

    /// Has an earlier run of this release brought what is live of a service?
    #[must_use]
    pub fn has_brought(&self, service: &UnitName, live: &LiveService) -> bool {
        let tried = self.runs.iter().rev().skip(1).any(|run| run.stages.contains(&Stage::Services));
        let served = self.served.get(service).is_some_and(|served| served.revision == live.revision);
        tried && !served && live.release == self.release && self.before.services.get(service) != Some(live)
    }

    /// Keeps what serves of a service before the first run of this release that comes to it. `live` is what is recorded of it.
    pub fn keep_served(&mut self, service: &UnitName, live: Option<&LiveService>, found: Option<Served>) {
        // A run of an earlier version of windlass has brought it, and kept what was recorded before.
        let brought = live.is_some_and(|live| self.has_brought(service, live));
        let before = self.before.services.get(service).map(|before| Served { revision: before.revision.clone(), schedules: Vec::new() });
        if let Some(served) = if brought { before } else { found } {
            self.served.entry(service.clone()).or_insert(served);
        }
    }

    /// Did its last run end well?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.runs.last().is_some_and(|run| run.exit == Some(0))
    }

    /// The id of the run under way: of the release, and for a later run with its number.
    #[must_use]
    pub fn run_id(&self) -> ReleaseId {
        let numbered = format!("{}-{}", self.release, self.runs.len());
        if self.runs.len() < 2 { self.release.clone() } else { numbered.parse().unwrap_or_else(|_| self.release.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_has_rolled_is_new() {
        let (ours, theirs) = ["20260102T000000000Z-local", "20260101T000000000Z-local"].map(|id| id.parse::<ReleaseId>().unwrap()).into();
        let image = format!("registry.example/shop/api@sha256:{}", "1".repeat(64));
        let live = |release: &ReleaseId, revision: &str| LiveService {
            release: release.clone(),
            commit: None,
            image: image.parse().unwrap(),
            revision: revision.to_owned(),
        };
        let api: UnitName = "api".parse().unwrap();
        let run = |stage| Run {
            by: String::new(),
            at: String::new(),
            pipeline: None,
            system: None,
            links: BTreeMap::new(),
            stages: vec![stage],
            started: OffsetDateTime::UNIX_EPOCH,
            ended: None,
            exit: None,
            failure: None,
        };
        let mut record = Record::start(ours.clone(), "shop".parse().unwrap(), "local".to_owned(), None);
        record.before.services.insert(api.clone(), live(&theirs, "api:1"));
        record.runs = vec![run(Stage::Images), run(Stage::Services)];
        assert!(!record.has_brought(&api, &live(&ours, "api:2")), "no earlier run has come to the services");
        record.runs.push(run(Stage::Services));
        assert!(record.has_brought(&api, &live(&ours, "api:2")));
        assert!(!record.has_brought(&api, &live(&theirs, "api:1")), "as it was");
        assert!(record.has_brought(&"new".parse().unwrap(), &live(&ours, "new:1")), "it was never recorded");
    }
}
