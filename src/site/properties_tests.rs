//! What holds of every sequence of releases and rollbacks of a site, on a bucket that is played here.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::config::Site;
use crate::model::{ObjectKey, Sha256};

use super::back;
use super::frozen::Frozen;
use super::plan::{self, Change, Known, Manifest, Observed, SitePlan, Tagging, Write};
use super::retention::{Why, is_page};
use super::scan::{Output, OutputFile};

/// A build: its files by their paths. A page's content is the keys that it names.
type Build = BTreeMap<String, String>;

/// A bucket with its state.
#[derive(Default)]
struct World {
    bucket: BTreeMap<ObjectKey, String>,
    /// The bodies that the state keeps.
    bodies: BTreeMap<Sha256, String>,
    live: Manifest,
    /// What each release has published, the newest last.
    published: Vec<Manifest>,
    today: i64,
}

fn sha(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

fn site(releases: u32, days: u32) -> Site {
    serde_json::from_value(serde_json::json!({"prebuilt": true, "bucket": "shop-web", "keep": {"releases": releases, "days": days}}))
        .unwrap()
}

fn output(build: &Build) -> Output {
    let file =
        |(path, text): (&String, &String)| OutputFile { path: path.clone(), size: text.len() as u64, sha256: sha(text), stored: None };
    Output { directory: "dist".to_owned(), files: build.iter().map(file).collect(), fingerprinted: None, left_out: Vec::new() }
}

impl World {
    fn observed(&self) -> Observed {
        Observed {
            files: self.live.files.clone(),
            known: if self.published.is_empty() { Known::Listing } else { Known::Manifest },
            manifest: self.live.clone(),
            inputs: None,
            frozen: Frozen::new(),
            today: self.today,
            allow_prune: false,
        }
    }

    /// No page that anybody can find names what is not there.
    fn pages_are_whole(&self, after: &str) -> Result<(), TestCaseError> {
        for (page, text) in self.bucket.iter().filter(|(key, _)| is_page(key)) {
            for named in text.lines().skip(1) {
                prop_assert!(self.bucket.contains_key(&named.parse::<ObjectKey>().unwrap()), "after {after}, `{page}` names `{named}`");
            }
        }
        Ok(())
    }

    fn put(&mut self, write: &Write, text: String) -> Result<(), TestCaseError> {
        prop_assert_eq!(sha(&text), write.sha256);
        self.bucket.insert(write.key.clone(), text);
        self.pages_are_whole(&format!("`{}`", write.key))
    }

    /// Carries a plan out, in the executor's order. `build` is what uploads come from.
    fn apply(&mut self, plan: &SitePlan, build: &Build) -> Result<(), TestCaseError> {
        for write in plan.upload.iter() {
            prop_assert!(!is_page(&write.key), "a page goes out with the assets: {}", write.path);
            self.put(write, build[&*write.path].clone())?;
        }
        for kept in &plan.keep {
            let text = self.bucket[&kept.key].clone();
            prop_assert_eq!(sha(&text), kept.sha256, "what is kept is what is live");
            self.bodies.insert(kept.sha256, text);
        }
        for write in plan.publish.iter().filter(|write| write.change != Change::Headers && plan.known != Known::Kept) {
            self.bodies.insert(write.sha256, build[&*write.path].clone());
        }
        for write in plan.publish.iter().filter(|write| write.change != Change::Headers) {
            let text = self.bodies.get(&write.sha256).cloned();
            prop_assert!(text.is_some(), "the state does not keep `{}`", write.key);
            self.put(write, text.unwrap_or_default())?;
        }
        let (pages, files): (Vec<_>, Vec<_>) = plan.prune.iter().partition(|prune| prune.why == Why::RemovedPage);
        for prune in pages.into_iter().chain(files) {
            self.bucket.remove(&prune.key);
            self.pages_are_whole(&format!("`{}` is gone", prune.key))?;
        }
        let mut manifest = plan.manifest.clone();
        for (key, file) in &mut manifest.files {
            file.etag = self.bucket.get(key).map(|text| sha(text).to_string());
        }
        self.published.push(manifest.clone());
        self.live = manifest;
        Ok(())
    }

    fn release(&mut self, site: &Site, build: &Build) -> Result<SitePlan, TestCaseError> {
        let plan = plan::draw(&"web".parse().unwrap(), site, &output(build), &self.observed(), Tagging::Off).unwrap();
        if !plan.is_empty() {
            self.apply(&plan, build)?;
        }
        Ok(plan)
    }

    fn back(&mut self, site: &Site, target: &Manifest) -> Result<(), TestCaseError> {
        let listed = self.bucket.iter().map(|(key, text)| (key.clone(), sha(text).to_string())).collect();
        let mut found =
            back::Found { target: target.clone(), observed: self.observed(), listed, torn: BTreeSet::new(), kept: BTreeSet::new() };
        found.kept = found.bodies().into_iter().filter(|body| self.bodies.contains_key(body)).collect();
        let refusal = back::refusal(&"web".parse().unwrap(), site, &found);
        prop_assert!(refusal.is_none(), "the way back is not open: {:?}", refusal);
        let plan = back::draw(site, &found);
        prop_assert!(plan.upload.is_empty(), "a rollback uploads nothing");
        if !plan.is_empty() {
            self.apply(&plan, &Build::new())?;
        }
        Ok(())
    }

    /// All that is live, by the manifest, as it is in the bucket.
    fn content(&self) -> BTreeMap<ObjectKey, (String, String)> {
        let one =
            |(key, file): (&ObjectKey, &plan::LiveFile)| (key.clone(), (self.bucket[key].clone(), file.headers.cache_control.to_string()));
        self.live.files.iter().map(one).collect()
    }
}

prop_compose! {
    /// A few scripts in some version each, pages that name some of them, and a plain file.
    fn build()(scripts in prop::collection::btree_map(0..5_u32, 0..3_u32, 1..5), pages in prop::collection::btree_map(0..4_usize, 0..4_u32, 0..4),
               plain in 0..3_u32, root in 0..4_u32) -> Build {
        let keys: Vec<String> = scripts.iter().map(|(id, version)| format!("assets/s{id}-{:08x}.js", 0x1abc_de00_u32 + version)).collect();
        let mut build: Build = keys.iter().map(|key| (key.clone(), format!("script {key}"))).collect();
        let names = ["about/index.html", "legal.html", "a/b/c.html", "d.html"];
        let text = |version: u32| format!("page {version}\n{}\nrobots.txt", keys.join("\n"));
        build.extend(pages.into_iter().map(|(page, version)| (names[page].to_owned(), text(version))));
        build.insert("index.html".to_owned(), text(root));
        build.insert("robots.txt".to_owned(), format!("plain {plain}"));
        build
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn releases_are_whole_at_every_write_and_leave_nothing_to_do(
        builds in prop::collection::vec((build(), 0..20_i64), 1..7), releases in 1..4_u32, days in 0..20_u32
    ) {
        let (site, mut world) = (site(releases, days), World::default());
        for (build, later) in &builds {
            world.today += later;
            let before = world.published.clone();
            let plan = world.release(&site, build)?;
            // What the last releases name is there still, save pages that are no part of the site any more.
            let kept = before.iter().rev().take(usize::try_from(releases).unwrap() - 1);
            for (key, _) in kept.flat_map(|manifest| &manifest.files).filter(|(key, _)| !is_page(key)) {
                prop_assert!(world.bucket.contains_key(key), "`{key}` of a release that is kept is gone");
            }
            prop_assert!(plan.prune.iter().all(|prune| !plan.manifest.files.contains_key(&prune.key)), "what is live is deleted");
            for (path, text) in build {
                prop_assert_eq!(world.bucket.get(&path.parse::<ObjectKey>().unwrap()), Some(text));
            }
            let again = plan::draw(&"web".parse().unwrap(), &site, &output(build), &world.observed(), Tagging::Off).unwrap();
            prop_assert!(again.is_empty() && again.prune.is_empty(), "a plan after a release is not empty: {:?}", again.publish);
        }
    }

    #[test]
    fn back_and_forth_again_is_the_same_state(
        builds in prop::collection::vec(build(), 2..6), to in any::<prop::sample::Index>()
    ) {
        // So many are kept that the way to each of them is open.
        let (site, mut world) = (site(50, 0), World::default());
        for build in &builds {
            world.release(&site, build)?;
        }
        let newest = world.live.clone();
        let (was, count) = (world.content(), world.published.len());
        let target = world.published[to.index(count)].clone();
        world.back(&site, &target)?;
        let there: BTreeMap<_, _> = world.live.files.iter().map(|(key, file)| (key.clone(), file.sha256)).collect();
        let wanted: BTreeMap<_, _> = target.files.iter().map(|(key, file)| (key.clone(), file.sha256)).collect();
        prop_assert_eq!(there, wanted);
        world.back(&site, &newest)?;
        prop_assert_eq!(world.content(), was);
    }
}
