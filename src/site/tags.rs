//! Cache tags: names by which the edges know the files that may change, so that one of them stands for many paths.
//!
//! A file has its site's tag from the first release on whose distribution looks for tags. That release invalidates by paths, for
//! what the edges hold was fetched without one.
//!
//! Deliberately absent: when a tag is worth more than paths (`cdn`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, UnitName};

use super::classify::Class;
use super::plan::{LiveFile, Observed, SitePlan, urls};
use super::retention::Why;

/// Does a site's distribution look for cache tags?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// It has not been looked at.
    Unknown,
    /// No, or there is none.
    Off,
    /// It does, in the metadata of its objects.
    On,
}

/// A cache tag, and what it does not reach of what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTag {
    /// `windlass-web`
    pub name: String,
    /// The URL paths of files that were live without it, or not at all.
    pub rest: Vec<String>,
}

/// The tags of one site's files.
pub(super) struct Tags {
    name: String,
    /// Do new files get it?
    given: bool,
    /// Do those get it that are live without?
    on: bool,
}

impl Tags {
    pub(super) fn of(site: &UnitName, tagging: Tagging, live: &BTreeMap<ObjectKey, LiveFile>) -> Self {
        let on = tagging == Tagging::On;
        let given = on || (tagging == Tagging::Unknown && live.values().any(|file| file.headers.cache_tag.is_some()));
        Self { name: format!("windlass-{site}"), given, on }
    }

    /// The tag of a file. Files that never change need none, and one that is there stays: to take it away would be a write for nothing.
    pub(super) fn of_file(&self, class: Class, live: Option<&LiveFile>) -> Option<Cow<'static, str>> {
        let given = match live {
            _ if class == Class::Fingerprinted => false,
            _ if self.on => true,
            None => self.given,
            Some(live) => return live.headers.cache_tag.clone(),
        };
        given.then(|| self.name.clone().into())
    }

    /// The tag, if it reaches anything that changes.
    ///
    /// A tag in the bucket alone says nothing of the edges: the release that has written it may have been killed before it invalidated what
    /// they had fetched without. The manifest is written after that.
    pub(super) fn reaching(&self, plan: &SitePlan, observed: &Observed) -> Option<CacheTag> {
        let removed = plan.prune.iter().filter(|prune| prune.why == Why::RemovedPage).map(|prune| &prune.key);
        let changed = plan.publish.iter().map(|write| &write.key).chain(removed);
        let tagged = |live: Option<&LiveFile>| live.is_some_and(|live| live.headers.cache_tag.as_deref() == Some(self.name.as_str()));
        let known = |key: &&ObjectKey| tagged(observed.manifest.files.get(*key)) && tagged(observed.files.get(*key));
        let (reached, rest): (Vec<_>, Vec<_>) = changed.partition(known);
        let mut rest: Vec<String> = rest.into_iter().flat_map(urls).collect();
        rest.sort();
        (!reached.is_empty()).then(|| CacheTag { name: self.name.clone(), rest })
    }
}
