//! What has to be written so that a bucket serves what a build wrote, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Site, SiteSource};
use crate::model::{Exit, Failure, ObjectKey, Over, Sha256, SharedHeaders, UnitName};

use super::classify::{Class, Fingerprints, HeaderRule, class, headers};
use super::compress::Plain;
use super::frozen::Frozen;
use super::retention::{self, Bounds, Prune, Retained, Why};
use super::scan::{Output, OutputFile};
use super::tags::Tags;
pub use super::tags::{CacheTag, Tagging};
pub use super::writes::{Change, Write, Writes};

/// What a site is to be, and what has to be written for that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SitePlan {
    /// The bucket.
    pub bucket: String,
    /// What every key starts with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Where the build's output lies, from the configuration's directory.
    pub output: String,
    /// Where the files come from, if that is the image of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<FromImage>,
    /// How fingerprints were recognised.
    pub fingerprints: Fingerprints,
    /// How it is known what is live.
    pub known: Known,
    /// `assets`: keys that are not live yet, and that no live page names.
    pub upload: Writes,
    /// `assets`: live bodies that will be overwritten, kept for the way back.
    pub keep: Vec<Kept>,
    /// `publish`: plain files first, then pages, the page at the root last.
    pub publish: Vec<Write>,
    /// `publish`, at its end: what earlier releases have left and is not to stay.
    pub prune: Vec<Prune>,
    /// So many files would go, and are left because that is too many at once; 0 otherwise.
    pub prune_refused: usize,
    /// How many files are live already, as they should be.
    pub unchanged: usize,
    /// Files of the output that are not published.
    pub left_out: Vec<LeftOut>,
    /// URL paths whose content changes, percent-encoded, each from `/`.
    pub changed_paths: Vec<String>,
    /// The cache tag that the edges know some of these by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<CacheTag>,
    /// All that will be live.
    pub manifest: Manifest,
}

/// Where in an image files lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FromImage {
    /// Whose image.
    pub service: UnitName,
    /// The directory in it.
    pub path: String,
}

/// A live body that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its key in the site's bucket.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// A file that is not published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// From the output's root.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// All that is live of a site after a release, and what earlier ones have left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the release, from 1: how many have published this site.
    #[serde(default)]
    pub number: u64,
    /// Where it is live: `BUCKET/PREFIX`. A site that moves is published anew.
    #[serde(default)]
    pub place: String,
    /// The digest of all that its build was made of, if windlass built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Sha256>,
    /// What the build has frozen into the pages.
    #[serde(default, skip_serializing_if = "Frozen::is_empty")]
    pub frozen: Frozen,
    /// The paths that the build's own manifest named as fingerprinted, if it left one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprinted: Option<BTreeSet<String>>,
    /// Files that the release does not name, and that are still in the bucket.
    #[serde(default)]
    pub retained: BTreeMap<ObjectKey, Retained>,
    /// By key.
    pub files: BTreeMap<ObjectKey, LiveFile>,
    /// What a release may have written over it that has come to no end.
    #[serde(skip)]
    pub over: Option<Over>,
}

/// One file that is live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveFile {
    /// Of its content; unknown if someone else wrote it without a checksum.
    pub sha256: Option<Sha256>,
    /// Bytes.
    pub size: u64,
    /// What it is served with.
    pub headers: SharedHeaders,
    /// The file as the build wrote it, where another form of it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
    /// S3's entity tag without quotes, once it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// How it is known what is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// From the last release's manifest.
    Manifest,
    /// From the bucket: there is no manifest.
    Listing,
    /// From the manifest; and every body that is written is kept in the state, as it was live before.
    Kept,
}

/// What is live, by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The files that are live, as far as this build has files of the same keys, or the manifest names them.
    pub files: BTreeMap<ObjectKey, LiveFile>,
    /// From where.
    pub known: Known,
    /// The last release's manifest, as it was written; empty before the first.
    pub manifest: Manifest,
    /// The digest of all that the build was made of, if windlass built it.
    pub inputs: Option<Sha256>,
    /// What the build has frozen into the pages.
    pub frozen: Frozen,
    /// Today, in days since 1970 (UTC).
    pub today: i64,
    /// May a release delete most of what is there?
    pub allow_prune: bool,
}

impl SitePlan {
    /// Is there nothing to write?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upload.is_empty() && self.publish.is_empty() && !self.prune.iter().any(|prune| prune.why == Why::RemovedPage)
    }

    /// What is asked for when all is published, with its URL path: the page at the site's root, or where there is none, the smallest of
    /// the files.
    #[must_use]
    pub fn checked(&self) -> Option<(String, &LiveFile)> {
        let index = if self.prefix.is_empty() { "index.html".to_owned() } else { format!("{}/index.html", self.prefix) };
        let files = &self.manifest.files;
        let page = files.iter().find(|(key, _)| key.as_str() == index);
        let (key, file) = page.or_else(|| files.iter().filter(|(_, file)| file.size > 0).min_by_key(|(key, file)| (file.size, *key)))?;
        Some((format!("/{}", encoded(key.as_str())), file))
    }
}

/// The key of the output file at `path`.
///
/// # Errors
/// [`Exit::Build`] if it is longer than S3 allows.
pub fn key(site: &Site, path: &str) -> Result<ObjectKey, Failure> {
    let key = if site.prefix.is_empty() { path.parse() } else { format!("{}/{path}", site.prefix).parse() };
    key.map_err(|invalid: crate::model::Invalid| {
        Failure::new(Exit::Build, "a file of the build output cannot be uploaded").because(invalid)
    })
}

/// The site within this one's prefix that a key belongs to, if there is one.
#[must_use]
pub fn owner<'a>(site: &'a Site, key: &ObjectKey) -> Option<&'a UnitName> {
    let below = |prefix: &str| key.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    site.inner.iter().find(|(prefix, _)| below(prefix)).map(|(_, owner)| owner)
}

fn prefix_of<'a>(site: &'a Site, owner: &UnitName) -> &'a str {
    site.inner.iter().find(|(_, name)| *name == owner).map_or("", |(prefix, _)| prefix)
}

/// The path of an output file, whose key is often the same text.
fn path_of(site: &Site, key: &ObjectKey, path: &str) -> Arc<str> {
    if site.prefix.is_empty() { key.text() } else { path.into() }
}

/// Draws the plan of a site.
///
/// # Errors
/// [`Exit::Build`] if a file's key is longer than S3 allows.
pub fn draw(name: &UnitName, site: &Site, output: &Output, observed: &Observed, tagging: Tagging) -> Result<SitePlan, Failure> {
    let rule = |rule: &'_ crate::config::HeaderRule| (rule.r#match.clone(), rule.cache_control.clone(), rule.content_type.clone());
    let owned: Vec<_> = site.headers.iter().map(rule).collect();
    let rules: Vec<HeaderRule<'_>> = owned
        .iter()
        .map(|(pattern, cache, content)| HeaderRule { pattern, cache_control: cache.as_deref(), content_type: content.as_deref() })
        .collect();
    let mut plan = SitePlan {
        bucket: site.bucket.to_string(),
        prefix: site.prefix.clone(),
        output: output.directory.clone(),
        from_image: match site.source() {
            Some(SiteSource::FromImage(from)) => Some(FromImage { service: from.service.clone(), path: from.path.clone() }),
            _ => None,
        },
        fingerprints: if output.fingerprinted.is_some() { Fingerprints::Manifest } else { Fingerprints::Rule },
        known: observed.known,
        upload: Writes::default(),
        keep: Vec::new(),
        publish: Vec::new(),
        prune: Vec::new(),
        prune_refused: 0,
        unchanged: 0,
        left_out: output.left_out.iter().map(|(path, reason)| LeftOut { path: path.clone(), reason: (*reason).to_owned() }).collect(),
        changed_paths: Vec::new(),
        tag: None,
        manifest: Manifest {
            place: place(site),
            inputs: observed.inputs,
            frozen: observed.frozen.clone(),
            fingerprinted: output.fingerprinted.clone(),
            ..Manifest::default()
        },
    };
    let tags = Tags::of(name, tagging, &observed.files);
    // A map that is made of all its entries at once is half as large as one that grows by each.
    let mut files = Vec::with_capacity(output.files.len());
    let mut upload = Vec::with_capacity(output.files.len());
    for file in &output.files {
        let key = key(site, &file.path).map_err(|failure| failure.hint(format!("shorten the path of `{}` (site `{name}`)", file.path)))?;
        if let Some(owner) = owner(site, &key) {
            let failure =
                Failure::new(Exit::Build, format!("site `{name}`: its build holds `{}`, which is a key of site `{owner}`", file.path));
            let failure = failure.because(format!(
                "both lie in the bucket `{}`, and `{owner}` has what begins with `{}/`",
                site.bucket,
                prefix_of(site, owner)
            ));
            return Err(failure
                .hint(format!("nothing was uploaded; keep it out of the build of `{name}`, or give one of the two a bucket of its own")));
        }
        let class = class(&file.path, output.fingerprinted.as_ref());
        let mut headers = headers(&file.path, class, &rules);
        let (mut bytes, mut sha256) = (file.size, file.sha256);
        if let Some(stored) = &file.stored {
            (bytes, sha256) = (stored.size, stored.sha256);
            headers.content_encoding = Some(stored.encoding.name().into());
        }
        let live = observed.files.get(&key);
        headers.cache_tag = tags.of_file(class, live);
        let headers = SharedHeaders::from(headers);
        let change = match live {
            None => Some(Change::New),
            Some(live) if live.sha256 != Some(sha256) => Some(Change::Content),
            Some(live) if live.headers != headers => Some(Change::Headers),
            Some(_) => None,
        };
        let etag = change.is_none().then(|| live.and_then(|live| live.etag.clone())).flatten();
        let original = file.stored.as_ref().map(|_| Plain { size: file.size, sha256: file.sha256 });
        files.push((key.clone(), LiveFile { sha256: Some(sha256), size: bytes, headers: headers.clone(), plain: original, etag }));
        let Some(change) = change else {
            plan.unchanged += 1;
            continue;
        };
        if let (Change::Content, Some((sha256, size))) = (change, live.and_then(|live| Some((live.sha256?, live.size)))) {
            plan.keep.push(Kept { key: key.clone(), size, sha256 });
        }
        let stored = file.stored.as_ref().map(|stored| stored.file.clone());
        let write = Write { path: path_of(site, &key, &file.path), key, size: bytes, sha256, headers, change, class, stored };
        if change == Change::New && class != Class::Entry {
            upload.push(write);
        } else {
            plan.changed_paths.extend(urls(&write.key));
            plan.publish.push(write);
        }
    }
    plan.manifest.files = files.into_iter().collect();
    plan.upload = upload.into();
    // The page at the root names everything else, directly or through others.
    plan.publish.sort_by_key(|write| (write.rank(), write.key.clone()));
    retain(&mut plan, site, observed);
    if plan.is_empty() {
        // Nothing is deleted in a run that has nothing else to do.
        plan.prune.clear();
    }
    plan.changed_paths.sort();
    plan.tag = tags.reaching(&plan, observed);
    Ok(plan)
}

/// Where a site is published: `BUCKET/PREFIX`.
#[must_use]
pub fn place(site: &Site) -> String {
    format!("{}/{}", site.bucket, site.prefix)
}

/// Goes on with a saved plan, now that `live` is what is live: `None` if that is done already.
///
/// # Errors
/// [`Exit::Older`] if another release has been published since the plan was drawn.
pub fn go_on(name: &UnitName, saved: SitePlan, live: Option<&Manifest>) -> Result<Option<SitePlan>, Failure> {
    let Some(live) = live.filter(|live| live.number >= saved.manifest.number) else { return Ok(Some(saved)) };
    let content = |manifest: &Manifest| -> Vec<_> {
        manifest.files.iter().map(|(key, file)| (key.clone(), file.sha256, file.headers.clone())).collect()
    };
    if live.number == saved.manifest.number && content(live) == content(&saved.manifest) {
        return Ok(None);
    }
    let failure = Failure::new(Exit::Older, format!("site `{name}`: another release has been published since this one was planned"));
    Err(failure.hint("nothing was changed; release the commit that is wanted anew, or roll back to this one"))
}

/// The output of the build that a manifest was made of, for a site that does not have to be built again, as if it lay in `directory`;
/// `None` if a file of it is unknown.
#[must_use]
pub fn output_of(site: &Site, manifest: &Manifest, directory: String) -> Option<Output> {
    let below = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
    let files = manifest.files.iter().map(|(key, file)| {
        let path = key.as_str().strip_prefix(&below)?.to_owned();
        let (bytes, sha256) = match &file.plain {
            Some(plain) => (plain.size, plain.sha256),
            None => (file.size, file.sha256?),
        };
        Some(OutputFile { path, size: bytes, sha256, stored: None })
    });
    let mut files: Vec<OutputFile> = files.collect::<Option<_>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(Output { directory, files, fingerprinted: manifest.fingerprinted.clone(), left_out: Vec::new() })
}

/// What of earlier releases stays, and what goes.
pub(super) fn retain(plan: &mut SitePlan, site: &Site, observed: &Observed) {
    let before = &observed.manifest;
    plan.manifest.number = before.number + 1;
    let named = |key: &ObjectKey| plan.manifest.files.contains_key(key);
    let mut left = before.retained.clone();
    for (key, file) in before.files.iter().filter(|(key, _)| !named(key)) {
        left.insert(key.clone(), Retained { etag: file.etag.clone(), last: before.number, day: observed.today });
    }
    // What an earlier release wrote where another site lies now is that one's.
    left.retain(|key, _| !named(key) && owner(site, key).is_none());
    let there = left.len() + plan.manifest.files.len();
    let bounds = Bounds { releases: site.keep.releases, days: site.keep.days };
    let (kept, gone) = retention::split(left, plan.manifest.number, observed.today, bounds);
    plan.manifest.retained = kept;
    if retention::too_many(gone.len(), there) && !observed.allow_prune {
        plan.prune_refused = gone.len();
        plan.manifest.retained.extend(gone.into_iter().map(|prune| (prune.key, prune.file)));
        return;
    }
    plan.changed_paths.extend(gone.iter().filter(|prune| prune.why == Why::RemovedPage).flat_map(|prune| urls(&prune.key)));
    plan.prune = gone;
}

/// Where the build of a site writes: from the configuration's directory, or absolute.
#[must_use]
pub fn output(site: &Site) -> String {
    if let Some(given) = &site.given {
        return given.clone();
    }
    let path = site.path.trim_end_matches('/');
    if path.is_empty() || path == "." || site.output.starts_with('/') { site.output.clone() } else { format!("{path}/{}", site.output) }
}

/// The URL paths that serve a key: a directory's index is served at the directory too.
pub(super) fn urls(key: &ObjectKey) -> Vec<String> {
    let path = format!("/{}", encoded(key.as_str()));
    match path.strip_suffix("index.html") {
        Some(directory) if directory.ends_with('/') => vec![directory.to_owned(), path],
        _ => vec![path],
    }
}

/// Percent-encodes what CloudFront wants encoded, and nothing else: what is not ASCII, and what RFC 1738 calls unsafe.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/invalidation-specifying-objects.html>
fn encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/!$&'()*+,;=:@".contains(&byte);
    key.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            for part in [b'%', b"0123456789ABCDEF"[usize::from(byte >> 4)], b"0123456789ABCDEF"[usize::from(byte & 15)]] {
                out.push(char::from(part));
            }
        }
        out
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
