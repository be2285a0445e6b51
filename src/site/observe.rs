//! What is there of a site: its bucket, and what is live in it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::aws::{Aws, Exposure};
use crate::config::Site;
use crate::journal::{Journal, Published};
use crate::model::{Exit, Failure, Headers, ObjectKey, UnitName};

use super::bucket::{BucketFound, Openness};
use super::plan::{Known, LiveFile, Manifest, Observed};
use super::scan::Output;

/// How many objects are asked about at a time.
const AT_ONCE: usize = 64;

/// How a site is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Hold the manifest against the bucket.
    pub audit: bool,
    /// Build although nothing has changed that a build is made of.
    pub rebuild: bool,
    /// Let a release delete most of what is there.
    pub allow_prune: bool,
}

impl Look {
    /// Is what is written down of a site held against its bucket? It is too where a release was cut off while it wrote over it.
    #[must_use]
    pub fn audits(self, live: &Manifest) -> bool {
        self.audit || live.over.is_some()
    }
}

/// Looks for the bucket, and whether the world can reach it. One request where all public access is blocked.
///
/// # Errors
/// AWS fails in another way than by refusing or not finding it.
pub async fn bucket(aws: &Aws, bucket: &str) -> Result<BucketFound, Failure> {
    let exposure = match aws.bucket_exposure(bucket).await {
        Ok(exposure) => exposure,
        Err(error) if error.is_not_found() => return Ok(BucketFound::Absent),
        Err(error) => return Err(failed(error, format!("looking at the bucket `{bucket}` failed"))),
    };
    let openness = openness(&exposure);
    if openness == Openness::Closed && exposure.unanswered.is_empty() {
        return Ok(BucketFound::Present(openness));
    }
    match aws.head_bucket(bucket).await {
        Ok(()) => Ok(BucketFound::Present(openness)),
        Err(error) if error.is_not_found() => Ok(BucketFound::Absent),
        Err(error) if error.is_denied() => Ok(BucketFound::Denied(error.to_string())),
        Err(error) => Err(failed(error, format!("looking for the bucket `{bucket}` failed"))),
    }
}

/// A question without an answer makes no bucket public.
fn openness(exposure: &Exposure) -> Openness {
    let block = exposure.block;
    if exposure.policy_public == Some(true) && !block.is_some_and(|block| block.restrict_public_buckets) {
        return Openness::Public("its policy lets everyone in".to_owned());
    }
    if exposure.acl_public == Some(true) && !block.is_some_and(|block| block.ignore_public_acls) {
        return Openness::Public("its access control list lets everyone in".to_owned());
    }
    match (exposure.website, exposure.unblocked) {
        (Some(true), _) => Openness::Website,
        (_, true) => Openness::Unblocked,
        _ => Openness::Closed,
    }
}

/// What the record says is live of a site, where it is published now.
///
/// # Errors
/// AWS fails, or the state is unreadable.
pub async fn published(journal: Option<&Journal>, name: &UnitName, site: &Site) -> Result<Option<Manifest>, Failure> {
    let Some(journal) = journal else { return Ok(None) };
    let published: Option<Published<Manifest>> =
        journal.site(name).await.map_err(|error| failed(error, format!("site `{name}`: reading its manifest failed")))?;
    let known = published.map(|published| Manifest { over: published.over, ..published.manifest });
    Ok(known.filter(|manifest| manifest.place == super::plan::place(site)))
}

/// Finds what is live of a site: from the last release's `manifest` and, for keys that it does not name, from the bucket itself.
///
/// With [`Look::audit`], the manifest is held against the bucket's listing first. What a release may have written that was cut off is of
/// unknown content.
///
/// # Errors
/// AWS fails.
pub async fn live(
    aws: &Aws,
    manifest: Option<Manifest>,
    name: &UnitName,
    site: &Site,
    output: &Output,
    look: Look,
) -> Result<Observed, Failure> {
    let from_manifest = manifest.is_some();
    let mut manifest = manifest.unwrap_or_default();
    let mut files: BTreeMap<ObjectKey, LiveFile> = manifest.files.clone();
    let wanted: Vec<ObjectKey> = output.files.iter().map(|file| super::plan::key(site, &file.path)).collect::<Result<_, _>>()?;
    let torn = torn(&manifest);
    if look.audit || !torn.is_empty() || wanted.iter().any(|key| !files.contains_key(key)) {
        let prefix = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
        let listing = aws.list_objects(site.bucket.as_str(), &prefix).await;
        let listing = listing.map_err(|error| failed(error, format!("site `{name}`: listing its bucket failed")))?;
        let listed: BTreeMap<&str, &crate::aws::ListedObject> = listing.iter().map(|object| (object.key.as_str(), object)).collect();
        if look.audit {
            // What differs from the manifest is somebody else's work: it is looked at as if we had never known it.
            files.retain(|key, file| {
                let object = listed.get(key.as_str());
                object.is_some_and(|object| object.size == file.size && file.etag.as_deref().is_none_or(|etag| etag == object.etag))
            });
        }
        left_by(&mut manifest, &torn, |key| listed.get(key.as_str()).map(|object| object.etag.clone()));
        // Whatever they hold, they are written once more: what is right in the bucket may be another thing at the edges.
        for key in &torn {
            match manifest.files.get(key).filter(|_| listed.contains_key(key.as_str())) {
                Some(file) => drop(files.insert(key.clone(), LiveFile { sha256: None, ..file.clone() })),
                None => drop(files.remove(key)),
            }
        }
        let unknown = wanted.iter().filter(|key| !files.contains_key(key) && listed.contains_key(key.as_str()));
        let heads = stream::iter(unknown.cloned().collect::<Vec<_>>()).map(|key| async move {
            let head = aws.head_object(site.bucket.as_str(), key.as_str()).await;
            head.map(|head| head.map(|head| (key, head)))
                .map_err(|error| failed(error, format!("site `{name}`: looking at an object failed")))
        });
        let heads: Vec<_> = heads.buffer_unordered(AT_ONCE).try_collect().await?;
        for (key, head) in heads.into_iter().flatten() {
            files.insert(
                key,
                LiveFile {
                    sha256: head.sha256,
                    size: head.size,
                    headers: head.headers.into(),
                    plain: None,
                    etag: Some(unquoted(&head.etag)),
                },
            );
        }
    }
    let known = if from_manifest { Known::Manifest } else { Known::Listing };
    Ok(Observed {
        files,
        known,
        manifest,
        inputs: None,
        frozen: super::frozen::Frozen::new(),
        today: today(),
        allow_prune: look.allow_prune,
    })
}

/// Looks at what is in the bucket of a site that is to go back from `live` to `target`.
///
/// # Errors
/// AWS fails.
pub async fn back(
    aws: &Aws,
    site: &Site,
    name: &UnitName,
    mut target: Manifest,
    mut live: Manifest,
    look: Look,
) -> Result<super::back::Found, Failure> {
    // Where another site lies now, nothing is brought back.
    target.files.retain(|key, _| super::plan::owner(site, key).is_none());
    let prefix = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
    let listing = aws.list_objects(site.bucket.as_str(), &prefix).await;
    let listing = listing.map_err(|error| failed(error, format!("site `{name}`: listing its bucket failed")))?;
    let listed: BTreeMap<ObjectKey, String> =
        listing.into_iter().filter_map(|object| Some((object.key.parse().ok()?, object.etag))).collect();
    let torn = torn(&live);
    let files = live.files.iter().filter(|(key, _)| !torn.contains(*key)).map(|(key, file)| (key.clone(), file.clone())).collect();
    left_by(&mut live, &torn, |key| listed.get(key).cloned());
    let observed = Observed {
        files,
        known: Known::Manifest,
        manifest: live,
        inputs: None,
        frozen: super::frozen::Frozen::new(),
        today: today(),
        allow_prune: look.allow_prune,
    };
    Ok(super::back::Found { target, observed, listed, torn, kept: BTreeSet::new() })
}

/// What a release may have written that has come to no end.
fn torn(live: &Manifest) -> BTreeSet<ObjectKey> {
    live.over.as_ref().map(|over| over.keys.clone()).unwrap_or_default()
}

/// Takes what such a release has left for a part of what is live: whatever is published next may have to delete it.
fn left_by(live: &mut Manifest, torn: &BTreeSet<ObjectKey>, etag: impl Fn(&ObjectKey) -> Option<String>) {
    for key in torn {
        let Some(etag) = etag(key) else { continue };
        let unknown = LiveFile { sha256: None, size: 0, headers: Headers::of("", "").into(), plain: None, etag: None };
        live.files.entry(key.clone()).or_insert(unknown).etag = Some(etag);
    }
}

/// In days since 1970 (UTC).
fn today() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp().div_euclid(24 * 60 * 60)
}

pub(super) fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static, what: impl Into<String>) -> Failure {
    Failure::new(Exit::Preflight, what).because(error)
}
