//! Which files of earlier releases stay, and which go.
//!
//! An open tab still asks for the files of the release that it was loaded from. So what a release no longer names stays for a while,
//! counted from when it was last live, not from when it was written: a file that never changed may be years old and in use. Pages go
//! at once, since nobody should find a page that is no longer part of the site. What no release of ours wrote is not even considered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ObjectKey;

/// A file of an earlier release that is still in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// S3's entity tag without quotes, if it is known: only that content is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The number of the last release that named it.
    pub last: u64,
    /// The day on which it was last live, in days since 1970 (UTC).
    pub day: i64,
}

/// A file to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Its key.
    pub key: ObjectKey,
    /// What is known of it.
    pub file: Retained,
    /// Why it goes.
    pub why: Why,
}

/// Why a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is a page that is no longer part of the site.
    RemovedPage,
    /// Its time is over.
    Expired,
}

/// For how long files stay that the live release no longer names: as long as either bound holds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The files of so many releases, the live one among them.
    pub releases: u32,
    /// The files of so many days.
    pub days: u32,
}

/// Splits what earlier releases have left into what stays and what goes, in the release `number` on `today`.
#[must_use]
pub fn split(left: BTreeMap<ObjectKey, Retained>, number: u64, today: i64, bounds: Bounds) -> (BTreeMap<ObjectKey, Retained>, Vec<Prune>) {
    let mut kept = BTreeMap::new();
    let mut gone = Vec::new();
    for (key, file) in left {
        let why = if is_page(&key) {
            Some(Why::RemovedPage)
        } else {
            let releases = number.saturating_sub(file.last) >= u64::from(bounds.releases.max(1));
            let days = today.saturating_sub(file.day) >= i64::from(bounds.days);
            (releases && days).then_some(Why::Expired)
        };
        match why {
            Some(why) => gone.push(Prune { key, file, why }),
            None => drop(kept.insert(key, file)),
        }
    }
    (kept, gone)
}

/// Is it a page, by its name?
#[must_use]
pub fn is_page(key: &ObjectKey) -> bool {
    let extension = key.file_name().rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("html" | "htm"))
}

/// Is it more than a release may delete without being told to: over half of all that is there, and more than a handful?
#[must_use]
pub fn too_many(gone: usize, there: usize) -> bool {
    gone > 20 && gone * 2 > there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(files: &[(&str, u64, i64)]) -> BTreeMap<ObjectKey, Retained> {
        files.iter().map(|(key, last, day)| (key.parse().unwrap(), Retained { etag: None, last: *last, day: *day })).collect()
    }

    fn gone(files: &[(&str, u64, i64)], number: u64, today: i64, releases: u32, days: u32) -> Vec<String> {
        split(left(files), number, today, Bounds { releases, days }).1.iter().map(|prune| prune.key.to_string()).collect()
    }

    #[test]
    fn a_file_stays_as_long_as_either_bound_holds() {
        let file = [("a.js", 1, 100)];
        assert!(gone(&file, 5, 100, 5, 0).is_empty(), "the last of five releases");
        assert_eq!(gone(&file, 6, 100, 5, 0), ["a.js"], "the sixth has left it behind");
        assert!(gone(&file, 99, 129, 5, 30).is_empty(), "the thirtieth day is not over");
        assert_eq!(gone(&file, 99, 130, 5, 30), ["a.js"]);
        assert_eq!(gone(&file, 2, 100, 1, 0), ["a.js"], "one release: only what is live");
    }

    #[test]
    fn a_removed_page_goes_at_once() {
        assert_eq!(gone(&[("about/index.html", 1, 100), ("a.js", 1, 100)], 2, 100, 5, 30), ["about/index.html"]);
    }

    #[test]
    fn a_release_does_not_empty_a_bucket_by_mistake() {
        assert!(too_many(600, 1_000) && !too_many(400, 1_000) && !too_many(20, 20));
    }
}
