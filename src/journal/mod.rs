//! What windlass remembers: records, manifests, bodies and plans, in a private bucket below one prefix.
//!
//! ```text
//! PREFIX/APP/ENVIRONMENT/lock.json              who is releasing, see `lock`
//! PREFIX/APP/ENVIRONMENT/live.json              what is live of services and databases, and which manifests are
//! PREFIX/APP/ENVIRONMENT/sites/SITE/live.json   what is live of a site: all its files
//! PREFIX/APP/ENVIRONMENT/releases/ID.json       the record of a release
//! PREFIX/APP/ENVIRONMENT/parts/ID/….json        what one of several machines has done of a release
//! PREFIX/APP/ENVIRONMENT/commits/COMMIT.json    which release a commit is that changed nothing
//! PREFIX/APP/ENVIRONMENT/plans/ID.json          its plan, as it was executed
//! PREFIX/APP/ENVIRONMENT/sites/SITE/ID.json     the manifest of what a release published
//! PREFIX/APP/ENVIRONMENT/migrations/NAME.json   a database's last migration, and what is applied
//! PREFIX/APP/ENVIRONMENT/stopped.json            the services that a migration has stopped, with their tasks
//! PREFIX/databases/ENVIRONMENT/NAME.json        who is migrating a database, see `database`
//! PREFIX/APP/ENVIRONMENT/bodies/SHA256          a file that was or will be overwritten in a site's bucket
//! ```
//!
//! What says what is live is written only if it is still what this process has read or written last: of two writers one fails.
//!
//! Deliberately absent: what a manifest or a plan holds (they are kept as their JSON), and deciding anything.

mod database;
mod holder;
mod lease;
mod lock;
mod migration;
mod record;
mod stopped;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws::{Aws, AwsError, Condition, Document};
use crate::model::{Commit, ObjectKey, Over, ReleaseId, Sha256, UnitName};

use record::FORMAT;

pub use database::Database;
pub use holder::{Holder, Process};
pub use lease::{Lease, Loss};
pub use lock::{Attempt, Glimpse, Held};
pub use migration::{MigrationAttempt, MigrationEnd, MigrationHistory};
pub use record::{Live, LiveMigration, LiveService, LiveSite, Published, Ran, Record, Run, Served};
pub use stopped::StoppedService;

/// The state of one application in one environment.
#[derive(Debug, Clone)]
pub struct Journal {
    aws: Aws,
    bucket: String,
    prefix: String,
    /// What applications share: the prefix without the application and the environment.
    shared: String,
    environment: String,
    /// The entity tags of what says what is live, as they were read or written last; `None` where nothing was there.
    seen: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    /// Which release each site was live from when its manifest was read.
    sites: Arc<Mutex<BTreeMap<UnitName, LiveSite>>>,
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
    /// A newer windlass has written it.
    #[error("the state `{key}` is of format {format}, and this version of windlass knows none above {FORMAT}")]
    Newer {
        /// The key.
        key: String,
        /// Its format.
        format: u32,
    },
    /// The server of the state does not know conditional writes, of which the lock is made.
    #[error("the server of the state's bucket `{bucket}` ignores `{header}`: it would give the lock to everybody who asks for it")]
    Unconditional {
        /// The bucket.
        bucket: String,
        /// The header of the condition.
        header: &'static str,
    },
    /// Somebody else has written it in between.
    #[error("somebody else has written the state `{key}` in the meantime")]
    Moved {
        /// The key.
        key: String,
    },
}

impl JournalError {
    /// Has somebody else written in between, or did the lease end before?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Moved { .. } => true,
            Self::Aws(error) => error.is_fenced(),
            Self::Unreadable { .. } | Self::Newer { .. } | Self::Unconditional { .. } => false,
        }
    }

    /// What to do about it, where that is obvious.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Aws(error) => error.hint(),
            Self::Unconditional { .. } => Some(
                "keep the state on S3, or on a server that knows S3's conditional writes; or set `state: none`, and see to it that nobody \
                 else releases at the same time"
                    .to_owned(),
            ),
            Self::Newer { .. } => Some("use the version of windlass that has written it, or a newer one".to_owned()),
            Self::Unreadable { key, .. } if key.ends_with("/lock.json") || key.contains("databases/") => {
                Some("it is a lock: if nothing is being released, remove that object".to_owned())
            }
            Self::Unreadable { .. } => {
                Some("somebody else has written there: put back what it held (a bucket with versions still has that)".to_owned())
            }
            Self::Moved { .. } => None,
        }
    }
}

impl Journal {
    /// The state below `prefix` (which may be empty) of `bucket`.
    #[must_use]
    pub fn new(aws: &Aws, bucket: &str, prefix: &str, app: &UnitName, environment: &str) -> Self {
        let parts: Vec<&str> = [prefix, app.as_str(), environment].into_iter().filter(|part| !part.is_empty()).collect();
        let (prefix, shared, environment) = (parts.join("/"), prefix.to_owned(), environment.to_owned());
        Self { aws: aws.clone(), bucket: bucket.to_owned(), prefix, shared, environment, seen: Arc::default(), sites: Arc::default() }
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
        Ok(self.read_live("live.json").await?.unwrap_or_default())
    }

    /// Says what is live.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_live(&self, live: &Live) -> Result<(), JournalError> {
        self.write_live("live.json", live).await
    }

    /// A release's record.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn record(&self, release: &ReleaseId) -> Result<Option<Record>, JournalError> {
        self.read(&format!("releases/{release}.json")).await
    }

    /// As [`Journal::record`]; instead of one that cannot be read, why not. A history does not end with one bad object.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn record_or_why(&self, release: &ReleaseId) -> Result<Result<Option<Record>, JournalError>, JournalError> {
        match self.record(release).await {
            Err(error @ JournalError::Aws(_)) => Err(error),
            read => Ok(read),
        }
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
        let published: Option<Published<M>> = self.read_live(&format!("sites/{site}/live.json")).await?;
        if let Some(Published { release, commit, .. }) = &published {
            let live = LiveSite { release: release.clone(), commit: commit.clone() };
            self.sites.lock().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), live);
        }
        Ok(published)
    }

    /// Which release each site was live from when its manifest was read here.
    #[must_use]
    pub fn sites_seen(&self) -> BTreeMap<UnitName, LiveSite> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what a release has published of a site, so that it can be gone back to.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn keep_site<M: Serialize>(&self, site: &UnitName, published: &Published<M>) -> Result<(), JournalError> {
        self.write(&format!("sites/{site}/{}.json", published.release), published).await
    }

    /// Says that what a release has published of a site is live.
    ///
    /// # Errors
    /// S3 fails, or somebody else has said so of another in the meantime.
    pub async fn set_site<M: Serialize>(&self, site: &UnitName, published: &Published<M>) -> Result<(), JournalError> {
        self.write_live(&format!("sites/{site}/live.json"), published).await
    }

    /// Says that `release` writes these keys of a site from now on: whoever comes after a run that ends in between is not to take what is
    /// written down of them for what is there. Nothing is said of a site of which nothing is recorded.
    ///
    /// # Errors
    /// S3 fails, the object is unreadable, or somebody else has said something of the site in the meantime.
    pub async fn begin_site<M: Serialize + DeserializeOwned>(
        &self,
        site: &UnitName,
        release: &ReleaseId,
        keys: BTreeSet<ObjectKey>,
    ) -> Result<(), JournalError> {
        let name = format!("sites/{site}/live.json");
        // Where nothing was when the plan was drawn, what is written at the end is refused if something has come meanwhile.
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&name) == Some(&None) {
            return Ok(());
        }
        // What was seen when the plan was drawn stays what it is written over.
        let Some((published, etag)) = self.read_tagged::<Published<M>>(&name).await? else { return Ok(()) };
        let known = published.over.clone().unwrap_or_default();
        let over = Over { release: Some(release.clone()), keys: known.keys.iter().cloned().chain(keys).collect() };
        if over == known {
            return Ok(());
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_insert(Some(etag));
        self.write_live(&name, &Published { over: Some(over), ..published }).await
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

    /// The manifest of what a release has published of a site.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn site_of<M: DeserializeOwned>(&self, site: &UnitName, release: &ReleaseId) -> Result<Option<Published<M>>, JournalError> {
        self.read(&format!("sites/{site}/{release}.json")).await
    }

    /// Keeps what one machine has done of a release, under a name that no other uses.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_part<T: Serialize>(&self, release: &ReleaseId, name: &str, part: &T) -> Result<(), JournalError> {
        self.write(&format!("parts/{release}/{name}.json"), part).await
    }

    /// What machines have done of a release, each by itself.
    ///
    /// # Errors
    /// S3 fails, or an object is unreadable.
    pub async fn parts<T: DeserializeOwned>(&self, release: &ReleaseId) -> Result<Vec<T>, JournalError> {
        let listed = self.aws.list_objects(&self.bucket, &self.key(&format!("parts/{release}/"))).await?;
        let own = self.key("");
        let names = listed.iter().filter_map(|object| object.key.strip_prefix(&own));
        let parts = futures_util::future::try_join_all(names.map(|name| self.read(name))).await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// The ids of all releases, the newest first.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn releases(&self) -> Result<Vec<ReleaseId>, JournalError> {
        let prefix = self.key("releases/");
        let listed = self.aws.list_objects(&self.bucket, &prefix).await?;
        let id = |key: &str| key.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok();
        let mut ids: Vec<ReleaseId> = listed.iter().filter_map(|object| id(&object.key)).collect();
        ids.sort();
        ids.reverse();
        Ok(ids)
    }

    /// Keeps which release a commit is that changed nothing, unless that is known already. Was it new?
    ///
    /// # Errors
    /// S3 fails.
    pub async fn set_same<T: Serialize + DeserializeOwned + PartialEq>(&self, commit: &Commit, same: &T) -> Result<bool, JournalError> {
        let name = format!("commits/{commit}.json");
        if self.read::<T>(&name).await?.is_some_and(|known| known == *same) {
            return Ok(false);
        }
        self.write(&name, same).await.map(|()| true)
    }

    /// Which of what says what is live has been written by somebody else since it was read here.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn moved(&self) -> Result<Vec<String>, JournalError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let each = seen.into_iter().map(|(name, etag)| async move {
            let now = self.aws.head_object(&self.bucket, &self.key(&name)).await?.map(|head| head.etag);
            Ok::<_, JournalError>((now != etag).then_some(name))
        });
        Ok(futures_util::future::try_join_all(each).await?.into_iter().flatten().collect())
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        Ok(self.read_tagged(name).await?.map(|(value, _)| value))
    }

    async fn read_tagged<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, String)>, JournalError> {
        let key = self.key(name);
        let Some(object) = self.aws.get_object(&self.bucket, &key).await? else { return Ok(None) };
        Ok(Some((parse(&key, &object.body)?, object.etag)))
    }

    async fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let (key, document) = self.document(name, value)?;
        self.aws.put_document(&self.bucket, &key, &document, Condition::Always).await?;
        Ok(())
    }

    fn document<T: Serialize>(&self, name: &str, value: &T) -> Result<(String, Document), JournalError> {
        let key = self.key(name);
        match Document::of(value) {
            Ok(document) => Ok((key, document)),
            Err(source) => Err(JournalError::Unreadable { key, source }),
        }
    }

    /// Reads what says what is live, and remembers what was read.
    async fn read_live<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        let (value, etag) = self.read_tagged(name).await?.unzip();
        self.saw(name, etag);
        Ok(value)
    }

    fn saw(&self, name: &str, etag: Option<String>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), etag);
    }

    /// Writes what says what is live, if it is still what was read or written here last.
    async fn write_live<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let (key, document) = self.document(name, value)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let condition = match seen {
            None => Condition::Always,
            Some(None) => Condition::IfAbsent,
            Some(Some(etag)) => Condition::IfMatch(etag),
        };
        match self.aws.put_document(&self.bucket, &key, &document, condition).await {
            Ok(etag) => self.saw(name, Some(etag)),
            Err(error) if error.is_precondition_failed() || error.is_conflict() => {
                // The SDK repeats a request whose answer was lost, which then loses against itself.
                match self.aws.get_object(&self.bucket, &key).await? {
                    Some(there) if document.is(&there.body) => self.saw(name, Some(there.etag)),
                    _ => return Err(JournalError::Moved { key }),
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Reads what windlass has written, if this version knows its format.
fn parse<T: DeserializeOwned>(key: &str, body: &[u8]) -> Result<T, JournalError> {
    match format_of(body) {
        Some(format) if format > FORMAT => Err(JournalError::Newer { key: key.to_owned(), format }),
        _ => serde_json::from_slice(body).map_err(|source| JournalError::Unreadable { key: key.to_owned(), source }),
    }
}

/// The format that a document begins with. A manifest may be large: it is not read a second time for this.
fn format_of(body: &[u8]) -> Option<u32> {
    let text = str::from_utf8(body.get(..body.len().min(64))?).ok()?;
    let rest = text.trim_start().strip_prefix('{')?.trim_start().strip_prefix("\"format\"")?.trim_start().strip_prefix(':')?.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let read = |text: &str| parse::<Live>("w/shop/default/live.json", text.as_bytes());
        assert!(read("{\"format\":1}").is_ok());
        assert!(matches!(read(" { \"format\" : 2, \"services\": \"moved\"}"), Err(JournalError::Newer { format: 2, .. })));
        for damaged in ["", "{\"format\":1", "null", "{\"format\":\"1\"}"] {
            assert!(matches!(read(damaged), Err(JournalError::Unreadable { .. })), "{damaged}");
        }
        let hint = |key: &str| parse::<Live>(key, b"").unwrap_err().hint().unwrap();
        assert!(hint("w/shop/default/lock.json").contains("remove that object"));
        assert!(hint("w/shop/default/live.json").contains("put back"));
    }
}
