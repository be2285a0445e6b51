//! A lock of an application in an environment: one object, written only if it is still what was read.
//!
//! Its holder rewrites it all the while (the lease). Whoever finds that it was not rewritten for as long as the lease lasts takes it. No
//! clocks of two machines are ever compared: the age of the object is S3's date less S3's date of the write, or the time during which this
//! machine saw it unchanged. A holder whose process has ended on this very machine is dead at once.
//!
//! A holder stops writing ([`crate::aws::Fence`]) a quarter of the lease before anybody may take it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aws::{Aged, Aws, AwsError, Condition, Moment};
use crate::model::ReleaseId;

use super::lease::{Inner, Lease};
use super::record::FORMAT;
use super::{Holder, Journal, JournalError, parse};

/// The lock as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// 1.
    pub(super) format: u32,
    /// How often the lock has been taken: a higher one is later.
    pub(super) fence: u64,
    /// Rewritings by this holder: equal content would have an equal entity tag, and a rewriting has to be seen.
    pub(super) renewals: u64,
    /// Of this holder alone.
    pub(super) token: String,
    /// How long it may stand unchanged, in seconds.
    pub(super) lease_seconds: u64,
    /// Who holds it; nobody if it is free.
    pub(super) holder: Option<Holder>,
    /// The release that it was held for last.
    pub(super) last: ReleaseId,
    /// Those before, since the last holder that let go of it after it had begun its release: whoever was killed soon has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<ReleaseId>,
    /// Who takes it again although it is held, and whose process may end without its being free: a database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
}

/// How many holders are remembered that may have begun nothing.
const EARLIER: usize = 8;

impl Document {
    /// The releases that it was held for, the last one last.
    fn held_for(&self) -> Vec<ReleaseId> {
        let all = [&self.earlier[..], std::slice::from_ref(&self.last)].concat();
        all[all.len().saturating_sub(EARLIER)..].to_vec()
    }
}

/// How a lock is wanted.
pub(super) struct Want<'a> {
    pub(super) holder: &'a Holder,
    pub(super) lease: Duration,
    pub(super) unchanged: Option<&'a str>,
    pub(super) guard: bool,
    pub(super) owner: Option<&'a str>,
    pub(super) glimpse: Option<&'a Glimpse>,
}

/// A lock as it was a moment ago.
#[derive(Debug)]
pub struct Glimpse(Option<Aged>);

impl Glimpse {
    /// Did nobody hold it? Whether that is still so, the condition of the write that takes it says; that somebody holds it is worth another
    /// look.
    fn is_free(&self, key: &str) -> bool {
        self.0.as_ref().is_none_or(|found| parse(key, &found.body).is_ok_and(|there: Document| there.holder.is_none()))
    }
}

/// What came of an attempt to take a lock.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Lease),
    /// Somebody else has it.
    Held(Held),
}

/// A lock that somebody else has.
#[derive(Debug, Clone)]
pub struct Held {
    /// Who.
    pub holder: Holder,
    /// How long ago it was renewed, if S3 said so.
    pub renewed: Option<Duration>,
    /// How long it may stand unchanged.
    pub lease: Duration,
    /// What it was when it was seen: equal if it was not renewed in between.
    pub tag: String,
}

impl Held {
    /// Has it missed two renewals, so that its holder is most likely dead?
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.renewed.is_some_and(|renewed| renewed > self.lease * 5 / 8)
    }

    /// Who holds it, since when, and where.
    #[must_use]
    pub fn who(&self) -> String {
        let Holder { release, by, at, since, .. } = &self.holder;
        let since = since.replace_nanosecond(0).unwrap_or(*since);
        let since = since.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let renewed = self.renewed.map_or(String::new(), |ago| format!(", renewed {} s ago", ago.as_secs()));
        let by = if by.is_empty() { String::new() } else { format!("{by}, ") };
        format!("{by}at {at}, holds it since {since} for release {release}{renewed}")
    }

    /// How long until anybody may take it, if it is not renewed.
    #[must_use]
    pub fn ends_in(&self) -> Option<Duration> {
        self.renewed.map(|renewed| (self.lease + SECOND).saturating_sub(renewed))
    }
}

/// S3's dates are in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

impl Journal {
    /// Who holds the lock `name`, if anybody does.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn lock_held(&self, name: &str) -> Result<Option<Held>, JournalError> {
        let key = self.key(name);
        let Some(found) = self.aws.read_aged(&self.bucket, &key).await? else { return Ok(None) };
        Ok(held(&parse(&key, &found.body)?, &found, None))
    }

    /// The releases that the lock `name` is or was held for, the last one first: the first of them that has a record has begun.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn held_for(&self, name: &str) -> Result<Vec<ReleaseId>, JournalError> {
        let key = self.key(name);
        let Some(found) = self.aws.read_aged(&self.bucket, &key).await? else { return Ok(Vec::new()) };
        let mut held_for = parse::<Document>(&key, &found.body)?.held_for();
        held_for.reverse();
        Ok(held_for)
    }

    /// The lock `name`, for [`Journal::take_lock`].
    ///
    /// # Errors
    /// S3 fails.
    pub async fn glimpse(&self, name: &str) -> Result<Glimpse, JournalError> {
        Ok(Glimpse(self.aws.read_aged(&self.bucket, &self.key(name)).await?))
    }

    /// Takes the lock `name` if nobody has it, or if its holder is dead. `unchanged` is a tag that was seen unchanged for as long as its
    /// lease lasts: its holder is dead too. The lease guards every write of this journal's clients.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn take_lock(
        &self,
        name: &str,
        holder: &Holder,
        lease: Duration,
        unchanged: Option<&str>,
        glimpse: Option<&Glimpse>,
    ) -> Result<Attempt, JournalError> {
        self.take(self.key(name), &Want { holder, lease, unchanged, guard: true, owner: None, glimpse }).await
    }

    pub(super) async fn take(&self, key: String, want: &Want<'_>) -> Result<Attempt, JournalError> {
        let Want { holder, lease, unchanged, guard, owner, mut glimpse } = *want;
        let mut rounds = 0;
        loop {
            let found = match glimpse.take().filter(|glimpse| glimpse.is_free(&key)) {
                Some(Glimpse(found)) => found.clone(),
                None => self.aws.read_aged(&self.bucket, &key).await?,
            };
            let (before, condition) = match &found {
                None => (None, Condition::IfAbsent),
                Some(found) => {
                    let document: Document = parse(&key, &found.body)?;
                    let is_own = owner.is_some() && document.owner.as_deref() == owner;
                    if let Some(held) = held(&document, found, unchanged).filter(|_| !is_own) {
                        return Ok(Attempt::Held(held));
                    }
                    (Some(document), Condition::IfMatch(found.etag.clone()))
                }
            };
            let document = Document {
                format: FORMAT,
                fence: before.as_ref().map_or(0, |before| before.fence) + 1,
                renewals: 0,
                token: token(),
                lease_seconds: lease.as_secs(),
                holder: Some(holder.clone()),
                last: holder.release.clone(),
                earlier: before.as_ref().map(Document::held_for).unwrap_or_default(),
                owner: owner.map(str::to_owned),
            };
            let start = Moment::now();
            match write(&self.aws, &self.bucket, &key, &document, &condition).await? {
                Wrote::Tagged(etag) => {
                    // Whoever let go of it has asked; whoever was killed may not have.
                    let asked = before.as_ref().is_some_and(|before| before.holder.is_none()) || self.aws.endpoint_url().is_none();
                    let fence = guard.then(|| self.aws.fence().clone());
                    let inner = Inner::new(&self.aws, &self.bucket, key, lease, fence, document, etag);
                    return Ok(Attempt::Taken(Lease::keep(inner, start, asked)));
                }
                // Somebody was quicker: look who.
                Wrote::Lost(error) => again(&mut rounds, error).await?,
            }
        }
    }
}

/// The lock as somebody else's, unless it is free or its holder is dead.
fn held(document: &Document, found: &Aged, unchanged: Option<&str>) -> Option<Held> {
    let holder = document.holder.clone()?;
    let lease = Duration::from_secs(document.lease_seconds);
    let expired = found.age.is_some_and(|age| age > lease + SECOND) || unchanged == Some(found.etag.as_str());
    // What an ended process has begun in a database goes on.
    let dead = document.owner.is_none() && holder.process.as_ref().is_some_and(super::Process::has_ended);
    (!expired && !dead).then(|| Held { holder, renewed: found.age, lease, tag: found.etag.clone() })
}

/// How often a write whose condition does not hold is tried anew, after another look. More is no race: something answers so each time.
const ROUNDS: u32 = 8;

/// What came of a conditional write.
pub(super) enum Wrote {
    /// It is done, and this is the entity tag.
    Tagged(String),
    /// The condition does not hold, or somebody writes at the same time.
    Lost(AwsError),
}

/// Waits before another round, or gives up.
pub(super) async fn again(rounds: &mut u32, error: AwsError) -> Result<(), JournalError> {
    *rounds += 1;
    if *rounds > ROUNDS {
        return Err(error.into());
    }
    tokio::time::sleep(Duration::from_millis(25) * *rounds).await;
    Ok(())
}

/// Writes the lock if the condition holds.
///
/// The SDK repeats a request whose answer was lost, which then loses against itself: so what is there is read before that is believed.
pub(super) async fn write(aws: &Aws, bucket: &str, key: &str, document: &Document, condition: &Condition) -> Result<Wrote, JournalError> {
    let body = serde_json::to_vec(document).map_err(|source| JournalError::Unreadable { key: key.to_owned(), source })?;
    let error = match aws.write_if(bucket, key, Bytes::from(body.clone()), condition).await {
        Ok(etag) => return Ok(Wrote::Tagged(etag)),
        Err(error) => error,
    };
    let lost_race = error.is_precondition_failed() || error.is_conflict() || error.is_not_found() && *condition != Condition::IfAbsent;
    if !lost_race && !may_have_happened(&error) {
        return Err(error.into());
    }
    match aws.read_aged(bucket, key).await? {
        Some(there) if there.body == body => Ok(Wrote::Tagged(there.etag)),
        _ if lost_race => Ok(Wrote::Lost(error)),
        _ => Err(error.into()),
    }
}

fn may_have_happened(error: &AwsError) -> bool {
    error.is_answer_lost() || error.is_server_fault() || error.is_throttled()
}

/// Nobody else's, as the standard library's hashers are seeded at random.
fn token() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(std::process::id()), RandomState::new().hash_one(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(lease_seconds: u64) -> Document {
        let holder = Holder {
            release: "20260101T000000000Z-local".parse().unwrap(),
            by: "arn:aws:iam::1:user/ada".to_owned(),
            at: "https://jenkins.example/7".to_owned(),
            since: time::OffsetDateTime::UNIX_EPOCH,
            process: None,
        };
        let last = holder.release.clone();
        Document {
            format: 1,
            fence: 1,
            renewals: 0,
            token: token(),
            lease_seconds,
            holder: Some(holder),
            last,
            earlier: Vec::new(),
            owner: None,
        }
    }

    fn found(age: Option<u64>) -> Aged {
        Aged { body: Bytes::new(), etag: "\"1\"".to_owned(), age: age.map(Duration::from_secs) }
    }

    #[test]
    fn a_lock_is_held_for_as_long_as_its_lease() {
        let lock = document(60);
        assert!(held(&lock, &found(Some(0)), None).is_some());
        assert!(held(&lock, &found(Some(61)), None).is_some(), "dates are in whole seconds");
        assert!(held(&lock, &found(Some(62)), None).is_none());
        assert!(held(&lock, &found(None), None).is_some(), "without a date nobody can tell");
        assert!(held(&lock, &found(None), Some("\"1\"")).is_none(), "it was watched");
        assert!(held(&Document { holder: None, ..lock }, &found(Some(0)), None).is_none(), "it is free");
    }

    #[test]
    fn only_a_free_lock_is_not_looked_at_again() {
        let glimpse = |body: Vec<u8>| Glimpse(Some(Aged { body: body.into(), ..found(Some(0)) })).is_free("lock.json");
        let lock = document(60);
        assert!(Glimpse(None).is_free("lock.json"));
        assert!(glimpse(serde_json::to_vec(&Document { holder: None, ..lock.clone() }).unwrap()));
        assert!(!glimpse(serde_json::to_vec(&lock).unwrap()));
        assert!(!glimpse(b"{".to_vec()), "the second look says why");
    }

    #[test]
    fn a_holder_that_misses_renewals_is_late() {
        let lock = document(60);
        let late = |age| held(&lock, &found(Some(age)), None).unwrap();
        assert!(!late(20).is_late() && late(40).is_late());
        assert_eq!(late(40).ends_in(), Some(Duration::from_secs(21)));
    }
}
