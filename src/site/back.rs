//! The plan that brings back what an earlier release has published of a site.
//!
//! Nothing is uploaded: what was overwritten since is kept in the state under its digest, and what is merely no longer named is still in
//! the bucket. Pure, as a plan is: what is there was looked at before.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Site;
use crate::model::{ObjectKey, Refusal, Sha256, UnitName};

use super::classify::{Fingerprints, class};
use super::plan;
use super::plan::{Change, Kept, Known, LiveFile, Manifest, Observed, SitePlan, Write, Writes};

/// What is known of a site that is to go back.
#[derive(Debug)]
pub struct Found {
    /// What the release published that is gone back to.
    pub target: Manifest,
    /// What is live, and today.
    pub observed: Observed,
    /// The entity tags of all that is in the bucket, without quotes.
    pub listed: BTreeMap<ObjectKey, String>,
    /// What a release may have written that has come to no end.
    pub torn: BTreeSet<ObjectKey>,
    /// Which bodies the state keeps, of those that are not in the bucket as they were.
    pub kept: BTreeSet<Sha256>,
}

impl Found {
    /// Is the target's file in the bucket as it was, though what is live does not name it?
    fn is_there(&self, key: &ObjectKey, file: &LiveFile) -> bool {
        file.etag.is_some() && self.listed.get(key) == file.etag.as_ref()
    }

    /// What has to be written of the target's files.
    fn change(&self, key: &ObjectKey, file: &LiveFile) -> Option<Change> {
        match self.observed.files.get(key) {
            Some(live) if live.sha256 != file.sha256 => Some(Change::Content),
            Some(live) if live.headers != file.headers => Some(Change::Headers),
            Some(_) => None,
            // The content is the one that is wanted, and the headers may be another's.
            None if self.is_there(key, file) => self.torn.contains(key).then_some(Change::Headers),
            None => Some(Change::New),
        }
    }

    /// The bodies that have to come out of the state.
    #[must_use]
    pub fn bodies(&self) -> BTreeSet<Sha256> {
        let files = self.target.files.iter();
        let wanted = files.filter(|(key, file)| matches!(self.change(key, file), Some(Change::New | Change::Content)));
        wanted.filter_map(|(_, file)| file.sha256).collect()
    }
}

/// Why a site cannot go back, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, site: &Site, found: &Found) -> Option<Refusal> {
    if found.target.place != plan::place(site) {
        let what =
            format!("site `{name}`: that release published it to `{}`, and now it lies in `{}`", found.target.place, plan::place(site));
        return Some(Refusal::new(what, "release that commit anew"));
    }
    let gone: Vec<&str> = found
        .target
        .files
        .iter()
        .filter(|(key, file)| matches!(found.change(key, file), Some(Change::New | Change::Content)))
        .filter(|(_, file)| file.sha256.is_none_or(|sha256| !found.kept.contains(&sha256)))
        .map(|(key, _)| key.as_str())
        .collect();
    let first = gone.first()?;
    let more = if gone.len() > 1 { format!(" and {} more", gone.len() - 1) } else { String::new() };
    let what = format!("site `{name}`: `{first}`{more} of that release is neither in the bucket nor in the state any more");
    Some(Refusal::new(what, format!("release that commit anew; keep more with `sites.{name}.keep`")))
}

/// Draws the plan.
#[must_use]
pub fn draw(site: &Site, found: &Found) -> SitePlan {
    let target = &found.target;
    let mut plan = SitePlan {
        bucket: site.bucket.to_string(),
        prefix: site.prefix.clone(),
        output: plan::output(site),
        from_image: None,
        fingerprints: if target.fingerprinted.is_some() { Fingerprints::Manifest } else { Fingerprints::Rule },
        known: Known::Kept,
        upload: Writes::default(),
        keep: Vec::new(),
        publish: Vec::new(),
        prune: Vec::new(),
        prune_refused: 0,
        unchanged: 0,
        left_out: Vec::new(),
        changed_paths: Vec::new(),
        tag: None,
        manifest: Manifest { retained: BTreeMap::new(), ..target.clone() },
    };
    let below = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
    for (key, file) in &target.files {
        let live = found.observed.files.get(key);
        let (Some(change), Some(sha256)) = (found.change(key, file), file.sha256) else {
            plan.unchanged += 1;
            if let (Some(live), Some(file)) = (live, plan.manifest.files.get_mut(key)) {
                file.etag.clone_from(&live.etag);
            }
            continue;
        };
        if let (Change::Content, Some((sha256, size))) = (change, live.and_then(|live| Some((live.sha256?, live.size)))) {
            plan.keep.push(Kept { key: key.clone(), size, sha256 });
        }
        let path = key.as_str().strip_prefix(&below).unwrap_or(key.as_str());
        let class = class(path, target.fingerprinted.as_ref());
        plan.changed_paths.extend(plan::urls(key));
        plan.publish.push(Write {
            key: key.clone(),
            path: path.into(),
            size: file.size,
            sha256,
            headers: file.headers.clone(),
            change,
            class,
            stored: None,
        });
    }
    plan.publish.sort_by_key(|write| (write.rank(), write.key.clone()));
    plan::retain(&mut plan, site, &found.observed);
    if plan.is_empty() {
        plan.prune.clear();
    }
    plan.changed_paths.sort();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Headers;

    fn manifest(number: u64, files: &[(&str, &str)]) -> Manifest {
        let headers = || Headers::of("text/html", "no-cache");
        let file = |body: &str| LiveFile {
            sha256: Some(Sha256::of(body.as_bytes())),
            size: 1,
            headers: headers().into(),
            plain: None,
            etag: Some(body.to_owned()),
        };
        let files = files.iter().map(|(key, body)| (key.parse().unwrap(), file(body))).collect();
        Manifest { number, place: "shop-web/".to_owned(), files, ..Manifest::default() }
    }

    fn site() -> Site {
        serde_json::from_value(serde_json::json!({"prebuilt": true, "bucket": "shop-web"})).unwrap()
    }

    fn found(target: Manifest, live: Manifest, listed: &[(&str, &str)]) -> Found {
        let observed = Observed {
            files: live.files.clone(),
            known: Known::Manifest,
            manifest: live,
            inputs: None,
            frozen: BTreeMap::new(),
            today: 100,
            allow_prune: false,
        };
        let listed = listed.iter().map(|(key, etag)| (key.parse().unwrap(), (*etag).to_owned())).collect();
        let mut found = Found { target, observed, listed, torn: BTreeSet::new(), kept: BTreeSet::new() };
        found.kept = found.bodies();
        found
    }

    #[test]
    fn pages_are_copied_and_assets_are_there_still() {
        let old = manifest(1, &[("assets/a-11111111.js", "a"), ("index.html", "1"), ("old.html", "old")]);
        let new = manifest(2, &[("assets/b-22222222.js", "b"), ("index.html", "2"), ("new.html", "new")]);
        let found = found(old.clone(), new, &[("assets/a-11111111.js", "a"), ("assets/b-22222222.js", "b"), ("index.html", "2")]);
        let plan = draw(&site(), &found);
        assert_eq!(refusal(&"web".parse().unwrap(), &site(), &found), None);
        let written: Vec<_> = plan.publish.iter().map(|write| (write.key.as_str(), write.change)).collect();
        assert_eq!(written, [("old.html", Change::New), ("index.html", Change::Content)]);
        assert!(plan.upload.is_empty(), "no asset is uploaded");
        assert_eq!(plan.prune.iter().map(|prune| prune.key.as_str()).collect::<Vec<_>>(), ["new.html"]);
        assert_eq!(plan.changed_paths, ["/", "/index.html", "/new.html", "/old.html"]);
        assert_eq!((plan.manifest.number, &plan.manifest.files), (3, &old.files));
        assert!(plan.manifest.retained.contains_key(&"assets/b-22222222.js".parse().unwrap()), "a tab may still ask for it");
    }

    #[test]
    fn what_is_gone_is_named_before_anything_is_written() {
        let old = manifest(1, &[("assets/a-11111111.js", "a"), ("index.html", "1")]);
        let mut found = found(old, manifest(2, &[("index.html", "2")]), &[("index.html", "2")]);
        found.kept.remove(&Sha256::of(b"a"));
        let refusal = refusal(&"web".parse().unwrap(), &site(), &found).unwrap();
        assert!(refusal.what.contains("`assets/a-11111111.js` of that release"), "{}", refusal.what);
    }

    #[test]
    fn to_what_is_live_there_is_nothing_to_do() {
        let live = manifest(2, &[("index.html", "2")]);
        assert!(draw(&site(), &found(live.clone(), live, &[("index.html", "2")])).is_empty());
    }

    #[test]
    fn what_a_release_that_came_to_no_end_may_have_written_is_written_again() {
        let live = manifest(1, &[("app.js", "a"), ("index.html", "1"), ("robots.txt", "r")]);
        let mut found = found(live.clone(), live, &[("app.js", "a"), ("index.html", "2"), ("new.html", "new"), ("robots.txt", "r")]);
        found.torn = ["index.html", "robots.txt", "new.html"].map(|key| key.parse().unwrap()).into();
        found.observed.files.retain(|key, _| key.as_str() == "app.js");
        found.observed.manifest.files.insert("new.html".parse().unwrap(), found.target.files.values().next().unwrap().clone());
        found.kept = found.bodies();
        let plan = draw(&site(), &found);
        let written: Vec<_> = plan.publish.iter().map(|write| (write.key.as_str(), write.change)).collect();
        assert_eq!(written, [("robots.txt", Change::Headers), ("index.html", Change::New)], "of the one only the headers can differ");
        assert_eq!(plan.prune.iter().map(|prune| prune.key.as_str()).collect::<Vec<_>>(), ["new.html"]);
    }
}
