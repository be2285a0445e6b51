use std::path::Path;

use super::super::compress::{Encoding, Stored};
use super::*;

fn site() -> Site {
    let config: crate::config::Config = serde_json::from_value(serde_json::json!({
        "app": "shop", "state": "none",
        "sites": {"web": {"path": "web", "prebuilt": true, "bucket": "shop-web"}}
    }))
    .unwrap();
    config.sites.into_values().next().unwrap()
}

fn output(files: &[(&str, &str)]) -> Output {
    let mut files: Vec<_> = files
        .iter()
        .map(|(path, content)| OutputFile {
            path: (*path).to_owned(),
            size: content.len() as u64,
            sha256: Sha256::of(content.as_bytes()),
            stored: None,
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Output { directory: "web/dist".to_owned(), files, fingerprinted: None, left_out: Vec::new() }
}

fn nothing() -> Observed {
    Observed {
        files: BTreeMap::new(),
        known: Known::Listing,
        manifest: Manifest::default(),
        inputs: None,
        frozen: Frozen::new(),
        today: 20_000,
        allow_prune: false,
    }
}

fn after(plan: &SitePlan) -> Observed {
    Observed { files: plan.manifest.files.clone(), known: Known::Manifest, manifest: plan.manifest.clone(), ..nothing() }
}

fn plan(files: &[(&str, &str)], observed: &Observed) -> SitePlan {
    draw(&"web".parse().unwrap(), &site(), &output(files), observed, Tagging::Off).unwrap()
}

fn keys(writes: &[Write]) -> Vec<&str> {
    writes.iter().map(|write| write.key.as_str()).collect()
}

const FIRST: &[(&str, &str)] = &[("index.html", "1"), ("about/index.html", "1"), ("assets/main-3xaATb-9.js", "1"), ("robots.txt", "1")];

#[test]
fn the_first_release_publishes_pages_last_and_the_root_at_the_very_end() {
    let plan = plan(FIRST, &nothing());
    assert_eq!(keys(&plan.upload), ["assets/main-3xaATb-9.js", "robots.txt"]);
    assert_eq!(keys(&plan.publish), ["about/index.html", "index.html"]);
    assert_eq!(plan.changed_paths, ["/", "/about/", "/about/index.html", "/index.html"]);
    assert_eq!((plan.keep.len(), plan.output.as_str()), (0, "web/dist"));
}

#[test]
fn a_plan_after_a_release_is_empty() {
    let first = plan(FIRST, &nothing());
    let second = plan(FIRST, &after(&first));
    assert!(second.is_empty() && second.changed_paths.is_empty());
    assert_eq!(second.unchanged, 4);
}

#[test]
fn an_overwrite_waits_for_publish_and_the_old_body_is_kept() {
    let first = plan(FIRST, &nothing());
    let changed = [("index.html", "2"), ("about/index.html", "1"), ("assets/main-9xaATb-1.js", "2"), ("robots.txt", "2")];
    let second = plan(&changed, &after(&first));
    assert_eq!(keys(&second.upload), ["assets/main-9xaATb-1.js"]);
    assert_eq!(keys(&second.publish), ["robots.txt", "index.html"]);
    assert_eq!(second.keep.iter().map(|kept| kept.key.as_str()).collect::<Vec<_>>(), ["index.html", "robots.txt"]);
    assert_eq!(second.changed_paths, ["/", "/index.html", "/robots.txt"]);
}

#[test]
fn a_change_of_headers_alone_moves_no_body() {
    let first = plan(FIRST, &nothing());
    let mut observed = after(&first);
    observed.files.get_mut(&"robots.txt".parse::<ObjectKey>().unwrap()).unwrap().headers.cache_control = "no-store".into();
    let second = plan(FIRST, &observed);
    assert_eq!((second.publish.len(), second.publish[0].change, second.keep.len()), (1, Change::Headers, 0));
}

#[test]
fn what_a_release_leaves_behind_stays_for_open_tabs_and_a_removed_page_goes() {
    let first = plan(FIRST, &nothing());
    let second = plan(&[("index.html", "2"), ("assets/main-9xaATb-1.js", "2"), ("robots.txt", "1")], &after(&first));
    assert_eq!(second.prune.iter().map(|prune| prune.key.as_str()).collect::<Vec<_>>(), ["about/index.html"]);
    assert_eq!(second.manifest.retained.keys().map(ObjectKey::as_str).collect::<Vec<_>>(), ["assets/main-3xaATb-9.js"]);
    assert!(second.changed_paths.contains(&"/about/".to_owned()));
    let back = plan(FIRST, &Observed { manifest: second.manifest.clone(), ..after(&second) });
    assert!(
        !back.manifest.retained.contains_key(&"assets/main-3xaATb-9.js".parse::<ObjectKey>().unwrap()),
        "what is live again is not left over"
    );
}

#[test]
fn a_removed_page_alone_is_a_change() {
    let first = plan(FIRST, &nothing());
    let files: Vec<_> = FIRST.iter().filter(|(path, _)| *path != "about/index.html").copied().collect();
    let second = plan(&files, &after(&first));
    assert!(!second.is_empty() && second.upload.is_empty() && second.publish.is_empty());
}

#[test]
fn urls_are_encoded_as_cloudfront_compares_them() {
    assert_eq!(urls(&"Ünïcode & #1%25.txt".parse().unwrap()), ["/%C3%9Cn%C3%AFcode%20&%20%231%2525.txt"]);
}

#[test]
fn a_site_without_a_page_is_checked_by_one_of_its_files() {
    let files = [("css/b.css", "22"), ("css/a b.css", "1"), ("empty.css", ""), ("admin/index.html", "a page below")];
    let plan = plan(&files, &nothing());
    assert_eq!(plan.checked().unwrap().0, "/css/a%20b.css");
    let page = super::tests::plan(FIRST, &nothing());
    assert_eq!(page.checked().unwrap().0, "/index.html");
}

#[test]
fn what_is_stored_compressed_is_known_by_both_of_its_forms() {
    let mut packed = output(FIRST);
    let stored = Stored { encoding: Encoding::Br, size: 7, sha256: Sha256::of(b"packed"), file: "/shop/x.br".into() };
    packed.files[1].stored = Some(stored);
    let web = "web".parse().unwrap();
    let first = draw(&web, &site(), &packed, &nothing(), Tagging::Off).unwrap();
    let write = first.upload.iter().find(|write| write.stored.is_some()).unwrap();
    assert_eq!((write.key.as_str(), write.size, write.sha256), (packed.files[1].path.as_str(), 7, Sha256::of(b"packed")));
    assert_eq!((write.headers.content_encoding.as_deref(), write.body()), (Some("br"), Path::new("/shop/x.br")));
    assert!(draw(&web, &site(), &packed, &after(&first), Tagging::Off).unwrap().is_empty());
    let built = output_of(&site(), &first.manifest, "web/dist".to_owned()).unwrap();
    assert_eq!(built.files, output(FIRST).files, "what the build wrote");
}

#[test]
fn a_tag_is_given_once_and_reaches_what_was_live_with_it() {
    let web = "web".parse().unwrap();
    let pages = |body| output(&[("index.html", body), ("about.html", "about"), ("assets/main-3xaATb-9.js", "1")]);
    let drawn = |body, observed: &Observed, tagging| draw(&web, &site(), &pages(body), observed, tagging).unwrap();
    let tag = |plan: &SitePlan, key: &str| plan.manifest.files[&key.parse().unwrap()].headers.cache_tag.as_deref().map(str::to_owned);
    let before = drawn("1", &nothing(), Tagging::Off);
    assert_eq!((tag(&before, "index.html"), before.tag), (None, None));
    let before = drawn("1", &nothing(), Tagging::Off);
    let tagged = drawn("1", &after(&before), Tagging::On);
    let changes: Vec<Change> = tagged.publish.iter().map(|write| write.change).collect();
    assert_eq!(changes, [Change::Headers, Change::Headers]);
    assert_eq!((tag(&tagged, "about.html").as_deref(), tag(&tagged, "assets/main-3xaATb-9.js")), (Some("windlass-web"), None));
    assert_eq!(tagged.tag, None, "the edges do not know it yet");
    // Whether the distribution looks for tags is not asked where nothing changes.
    assert!(drawn("1", &after(&tagged), Tagging::Unknown).is_empty());
    assert!(drawn("1", &after(&tagged), Tagging::Off).is_empty(), "to take tags away would be a write for nothing");
    let edited = drawn("2", &after(&tagged), Tagging::On);
    assert_eq!(edited.tag, Some(CacheTag { name: "windlass-web".to_owned(), rest: Vec::new() }));
    let more = output(&[("index.html", "2"), ("about.html", "about"), ("new.html", "new"), ("assets/main-3xaATb-9.js", "1")]);
    let more = draw(&web, &site(), &more, &after(&tagged), Tagging::Unknown).unwrap();
    assert_eq!((more.tag.clone().unwrap().rest, tag(&more, "new.html").as_deref()), (vec!["/new.html".to_owned()], Some("windlass-web")));
}

#[test]
fn a_tag_that_only_the_bucket_knows_reaches_nothing() {
    let web = "web".parse().unwrap();
    let pages = |body| output(&[("index.html", body), ("about.html", body)]);
    let drawn = |body, observed: &Observed| draw(&web, &site(), &pages(body), observed, Tagging::On).unwrap();
    let tagged = drawn("1", &nothing());
    // Without a state, and where the release that tagged them was killed before it invalidated.
    let found = Observed { files: tagged.manifest.files.clone(), ..nothing() };
    assert_eq!(drawn("2", &found).tag, None);
    // With one that does not know it: an audit has looked at the bucket.
    let untagged = draw(&web, &site(), &pages("1"), &nothing(), Tagging::Off).unwrap();
    let audited = Observed { files: tagged.manifest.files.clone(), ..after(&untagged) };
    assert_eq!(drawn("2", &audited).tag, None);
    // Somebody else has written one of them since.
    let mut one = after(&tagged);
    one.files.get_mut(&"about.html".parse::<ObjectKey>().unwrap()).unwrap().headers.cache_tag = None;
    assert_eq!(drawn("2", &one).tag.unwrap().rest, ["/about.html"]);
}
