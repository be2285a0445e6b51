//! Copies an image from one repository to another, as it is: the same bytes, and so the same digest.
//!
//! Nothing is unpacked and no engine is asked. A layer that the target has is not sent; one that another repository of the same registry
//! has is taken from there, where the registry can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use crate::model::ImageDigest;

use super::registry::{Manifest, Registry, RegistryError, Upload};

/// So many layers are on their way at once.
const AT_ONCE: usize = 3;

/// How often a layer is begun that breaks off.
const ATTEMPTS: u32 = 5;

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Manifests, each after those that it names.
    manifests: Vec<Manifest>,
    /// Layers and configurations, with their sizes.
    blobs: BTreeMap<String, u64>,
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Layers that were sent.
    pub sent: usize,
    /// Layers that were there, or were taken from another repository of the registry.
    pub there: usize,
    /// Bytes sent.
    pub bytes: u64,
}

impl Contents {
    /// How many layers, the configuration included.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.blobs.len()
    }

    /// Of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// The manifest that the digest stands for: an image's, or a list of several.
    #[must_use]
    pub fn manifest(&self) -> &str {
        self.manifests.last().and_then(|manifest| std::str::from_utf8(&manifest.bytes).ok()).unwrap_or_default()
    }
}

/// Finds out what an image is made of.
///
/// # Errors
/// It is not there ([`RegistryError::is_not_found`]); not allowed; it is of a kind that is not understood.
pub async fn contents(from: &Registry, repository: &str, digest: &ImageDigest) -> Result<Contents, RegistryError> {
    let mut manifests = Vec::new();
    let mut blobs = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut todo = vec![digest.to_string()];
    while let Some(digest) = todo.pop() {
        if !seen.insert(digest.clone()) {
            continue;
        }
        let manifest = from.manifest(repository, &digest).await?;
        let unknown = |why: String| RegistryError::new(format!("reading the manifest `{repository}` {digest}"), why);
        let json: Value = serde_json::from_slice(&manifest.bytes).map_err(|error| unknown(error.to_string()))?;
        let named = |key: &str| json.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let digest_of = |value: &Value| value.get("digest").and_then(Value::as_str).map(str::to_owned);
        let (children, layers) = (named("manifests"), named("layers"));
        if children.is_empty() && json.get("config").is_none() {
            return Err(unknown(format!("`{}` is no manifest that can be copied", manifest.media_type)));
        }
        todo.extend(children.iter().filter_map(digest_of));
        for blob in layers.iter().chain(json.get("config")) {
            // What is fetched from elsewhere lies in no registry.
            let elsewhere = blob.get("urls").and_then(Value::as_array).is_some_and(|urls| !urls.is_empty());
            if let Some(digest) = digest_of(blob).filter(|_| !elsewhere) {
                blobs.insert(digest, blob.get("size").and_then(Value::as_u64).unwrap_or_default());
            }
        }
        manifests.push(manifest);
    }
    // A list names what was read after it.
    manifests.reverse();
    Ok(Contents { manifests, blobs })
}

/// The bytes of a small blob, such as an image's configuration.
///
/// # Errors
/// It is not there; not allowed.
pub async fn configuration(from: &Registry, repository: &str, digest: &str) -> Result<Value, RegistryError> {
    let answer = from.blob(repository, digest).await?;
    let failed = |error: &dyn std::fmt::Display| RegistryError::new(format!("reading `{repository}` {digest}"), error.to_string());
    let bytes = answer.bytes().await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}

/// Copies what [`contents`] has found in the repository `from`, gives it the tag, and sees that the target has it by the same digest.
///
/// A tag that is another image's, in a repository whose tags do not move, is left; the image is there by its digest then.
///
/// # Errors
/// Not allowed; there is no such repository; a registry does not answer, or has something else than it was given.
pub async fn copy(
    (source, from): (&Registry, &str),
    (target, to): (&Registry, &str),
    contents: &Contents,
    tag: &str,
    same_registry: bool,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Copied, RegistryError> {
    let progress: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(progress);
    let sent_bytes = Arc::new(AtomicU64::new(0));
    let mount = same_registry.then_some(from);
    let blobs = contents.blobs.iter().map(|(digest, size)| {
        let (progress, sent_bytes) = (Arc::clone(&progress), Arc::clone(&sent_bytes));
        async move {
            let sent = blob((source, from), (target, to), digest, mount, Arc::clone(&progress)).await?;
            if sent {
                sent_bytes.fetch_add(*size, Ordering::Relaxed);
            } else {
                progress(*size);
            }
            Ok::<_, RegistryError>(sent)
        }
    });
    let sent: Vec<bool> = stream::iter(blobs).buffer_unordered(AT_ONCE).try_collect().await?;
    let Some((root, children)) = contents.manifests.split_last() else {
        return Err(RegistryError::new(format!("copying `{from}`"), "it has no manifest"));
    };
    for manifest in children {
        target.put_manifest(to, &manifest.digest.to_string(), manifest).await?;
    }
    match target.put_manifest(to, tag, root).await {
        Err(error) if error.is_tag_immutable() => {
            if target.find(to, tag).await? != Some(root.digest) {
                target.put_manifest(to, &root.digest.to_string(), root).await?;
            }
        }
        put => put?,
    }
    let found = target.find(to, &root.digest.to_string()).await?;
    if found != Some(root.digest) {
        let has = found.map_or("nothing".to_owned(), |digest| digest.to_string());
        return Err(RegistryError::new(format!("copying `{to}`"), format!("it was given {}, and the registry has {has}", root.digest)));
    }
    let count = sent.iter().filter(|sent| **sent).count();
    Ok(Copied { sent: count, there: sent.len() - count, bytes: sent_bytes.load(Ordering::Relaxed) })
}

/// Copies one blob. Was it sent?
async fn blob(
    (source, from): (&Registry, &str),
    (target, to): (&Registry, &str),
    digest: &str,
    mount: Option<&str>,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<bool, RegistryError> {
    let mut attempt = 1;
    loop {
        if target.has_blob(to, digest).await? {
            return Ok(false);
        }
        let Upload::To(place) = target.begin(to, digest, mount).await? else { return Ok(false) };
        let bytes = source.blob(from, digest).await?;
        let on_bytes = Arc::clone(&progress);
        match target.send_blob(to, digest, place, bytes, move |count| on_bytes(count)).await {
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await;
                attempt += 1;
            }
            sent => return sent.map(|()| true),
        }
    }
}
