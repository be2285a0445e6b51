//! A site is published without a moment in which a page names what is not there, and nothing is written twice.

use std::time::{Duration, SystemTime};

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;

#[tokio::test]
async fn a_first_release_uploads_what_pages_name_before_the_pages() {
    let shop = Shop::site("site-first").await;
    let outcome = shop.release();
    let written = shop.written();
    let mut assets = written[..2].to_vec();
    assets.sort();
    assert_eq!(assets, [format!("s3:PutObject {}", asset(1)), "s3:PutObject robots.txt".to_owned()]);
    assert_eq!(written[2..], ["s3:CopyObject about/index.html", "s3:CopyObject index.html"]);
    let all = shop.proxy.writes();
    let at = |wanted: &str| all.iter().position(|request| format!("{} {}", request.operation, request.path).starts_with(wanted)).unwrap();
    assert!(at("s3:CopyObject /site-first-web/index.html") < at("cloudfront:CreateInvalidation"));
    assert_eq!(shop.invalidated(), ["/", "/about/", "/about/index.html", "/index.html"]);
    assert_snapshot!(shop.redacted(&outcome.stdout), @"released [release]");
    assert_snapshot!(shop.redacted(&outcome.stderr), @r"
    prepare     account check: 000000000000 in us-east-1, as arn:aws:iam::000000000000:root ([time])
    prepare     resources look for: 3 are there ([time])
    release     [release] of commit [commit]
    assets      web upload: 2 new, 0 unchanged ([time])
    images      nothing to do
    migrations  nothing to do
    services    nothing to do
    publish     web publish: 2 files ([time])
    publish     [distribution] invalidate: / /about/ /about/index.html /index.html (invalidation [id]) ([time])
    publish     web check: https://[domain]/ and 1 files that it names ([time])
    live        web  release [release] (4 files, 177 B); before: no recorded release
    took        [time]
    next        `windlass rollback` goes back to what was live before
    ");
}

#[tokio::test]
async fn every_file_is_served_as_what_it_is() {
    let shop = Shop::site("site-headers").await;
    shop.scene.write("dist/icon.svg", "<svg/>").write("dist/assets/look-0a1b2c3d.css.br", "x").write("dist/sw.js", "");
    shop.release();
    let mut served = Vec::new();
    for key in shop.keys("web").await {
        let head = shop.head(&key).await.unwrap();
        let encoding = head.content_encoding().map_or(String::new(), |encoding| format!(", {encoding}"));
        served.push(format!("{key}: {}, {}{encoding}", head.content_type().unwrap(), head.cache_control().unwrap()));
    }
    assert_snapshot!(served.join("\n"), @r"
    about/index.html: text/html; charset=utf-8, public, max-age=0, must-revalidate
    assets/app-00000001.js: text/javascript; charset=utf-8, public, max-age=31536000, immutable
    assets/look-0a1b2c3d.css.br: text/css; charset=utf-8, public, max-age=31536000, immutable, br
    icon.svg: image/svg+xml, public, max-age=300
    index.html: text/html; charset=utf-8, public, max-age=0, must-revalidate
    robots.txt: text/plain; charset=utf-8, public, max-age=0, must-revalidate
    sw.js: text/javascript; charset=utf-8, public, max-age=0, must-revalidate
    ");
}

#[tokio::test]
async fn a_second_release_of_the_same_commit_writes_nothing_and_says_so() {
    let shop = Shop::site("site-second").await;
    shop.release();
    let outcome = shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert_snapshot!(shop.redacted(&outcome.stdout), @"nothing to do: [commit] is what is live");
    // Neither does a copy of the same files, with other times.
    let index = std::fs::File::options().write(true).open(shop.scene.project().join("dist/index.html")).unwrap();
    index.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn releases_within_one_second_have_records_of_their_own() {
    let shop = Shop::site("site-records").await;
    for version in 1..=4 {
        shop.build(version);
        shop.release();
    }
    let records = shop.keys("state").await.into_iter().filter(|key| key.contains("/releases/"));
    assert_eq!(records.count(), 4);
}

#[tokio::test]
async fn a_plan_writes_nothing_and_is_the_same_each_time() {
    let shop = Shop::site("site-plan").await;
    let plan = |code| {
        let text = shop.run(&["plan"]).expect(0).stdout;
        assert_eq!(shop.proxy.written(), [""; 0]);
        let json = shop.run(&["plan", "--format", "json", "--detailed-exitcode"]).expect(code).stdout;
        assert_eq!(json, shop.run(&["plan", "--format", "json", "--detailed-exitcode"]).expect(code).stdout);
        assert_eq!(shop.proxy.written(), [""; 0]);
        (text, json)
    };
    let (before, json) = plan(3);
    assert_snapshot!(shop.redacted(&before), @r"
    shop: commit [commit], account 000000000000 in us-east-1

    assets:
      web: dist to s3://site-plan-web: 2 files to upload (19 B), 0 unchanged
        fingerprints by the form of the names; what is live by the bucket's listing
        + assets/app-00000001.js  15 B, text/javascript; charset=utf-8, public, max-age=31536000, immutable
        + robots.txt  4 B, text/plain; charset=utf-8, public, max-age=0, must-revalidate

    images: nothing to do

    migrations: nothing to do

    services: nothing to do

    publish:
      web: 2 files to publish, in this order (158 B)
        + about/index.html  79 B, text/html; charset=utf-8, public, max-age=0, must-revalidate
        + index.html  79 B, text/html; charset=utf-8, public, max-age=0, must-revalidate
      invalidate in [distribution]: / /about/ /about/index.html /index.html
      check web at https://[domain]/
    ");
    // What it names is what the release then writes.
    shop.release();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let planned = ["upload", "publish"].iter().flat_map(|list| json["sites"]["web"][list].as_array().unwrap());
    let mut planned: Vec<_> = planned.map(|write| write["key"].as_str().unwrap().to_owned()).collect();
    let mut written: Vec<_> = shop.written().iter().filter_map(|write| Some(write.split_once(' ')?.1.to_owned())).collect();
    planned.sort();
    written.sort();
    assert_eq!(planned, written);
    let (after, _) = plan(0);
    assert_snapshot!(shop.redacted(&after), @r"
    shop: commit [commit], account 000000000000 in us-east-1

    assets: nothing to do
      web: 4 files live already, as they should be

    images: nothing to do

    migrations: nothing to do

    services: nothing to do

    publish: nothing to do

    nothing to do: what is live is what was built
    ");
}

#[tokio::test]
async fn a_changed_file_is_the_only_one_that_is_written() {
    let shop = Shop::site("site-change").await;
    shop.release();
    shop.scene.write("dist/robots.txt", "User-agent: *\n");
    shop.release();
    assert_eq!(shop.written(), ["s3:CopyObject robots.txt"]);
    assert_eq!(shop.invalidated(), ["/robots.txt"]);
    let elsewhere = shop.proxy.writes().into_iter().filter(|request| request.operation.starts_with("s3:"));
    let elsewhere = elsewhere.filter(|request| !request.path.starts_with("/site-change-web/"));
    assert!(
        elsewhere.clone().count() > 0 && elsewhere.clone().all(|request| request.path.starts_with("/site-change-state/windlass/shop/"))
    );
    assert_eq!(shop.body("robots.txt").await.unwrap(), "User-agent: *\n");
}

#[tokio::test]
async fn a_header_rule_alone_is_a_copy_without_a_body() {
    let shop = Shop::site("site-rule").await;
    shop.release();
    shop.configure("prebuilt: true", "prebuilt: true\n    headers: [{match: \"about/**\", cache_control: \"public, max-age=60\"}]");
    shop.release();
    assert_eq!(shop.written(), ["s3:CopyObject about/index.html"]);
    assert!(shop.proxy.writes().iter().all(|request| !request.body.contains("<!doctype html>")));
    let head = shop.head("about/index.html").await.unwrap();
    assert_eq!((head.cache_control(), head.content_type()), (Some("public, max-age=60"), Some("text/html; charset=utf-8")));
    assert_eq!(shop.body("about/index.html").await, shop.body("index.html").await);
}

#[tokio::test]
async fn what_must_not_be_public_stays_behind() {
    let shop = Shop::site("site-private").await;
    shop.scene.write("dist/.env", "KEY=x").write("dist/.env.production", "KEY=x").write("dist/assets/app-00000001.js.map", "{}");
    shop.scene.write("dist/.vite/manifest.json", r#"{"index.html": {"file": "assets/app-00000001.js"}}"#);
    let said = shop.run(&["plan"]).expect(0).stdout;
    assert_eq!(said.matches("\n    - ").count(), 4, "{said}");
    shop.release();
    let published = ["about/index.html", "assets/app-00000001.js", "index.html", "robots.txt"];
    assert_eq!(shop.keys("web").await, published);
    shop.configure("prebuilt: true", "prebuilt: true\n    source_maps: upload").release();
    assert_eq!(shop.written(), ["s3:PutObject assets/app-00000001.js.map"]);
}

#[tokio::test]
async fn two_sites_share_a_bucket_and_an_invalidation() {
    let shop = Shop::site("site-two").await;
    shop.add_docs();
    shop.release();
    assert!(shop.written().contains(&"s3:CopyObject docs/index.html".to_owned()), "{:?}", shop.written());
    assert_eq!(shop.invalidated(), ["/app/", "/app/about/", "/app/about/index.html", "/app/index.html", "/docs/", "/docs/index.html"]);
    assert_eq!(shop.proxy.written().iter().filter(|operation| *operation == "cloudfront:CreateInvalidation").count(), 1);
    // One of them alone leaves the other as it is.
    shop.build(2);
    shop.scene.write("docs/dist/index.html", "<html>more docs");
    shop.run(&["release", "docs"]).expect(0);
    assert_eq!(shop.written(), ["s3:CopyObject docs/index.html"]);
    assert!(shop.body("app/index.html").await.unwrap().contains(&asset(1)));
}

/// The local cloud's distributions have no cache tags: its answer is completed with what AWS says of one that has.
///
/// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_DistributionConfig.html>
#[tokio::test]
async fn a_site_lies_below_a_path_of_another_and_neither_touches_the_others_files() {
    let shop = Shop::site("site-within").await;
    // The page below the path was a part of the outer site once.
    shop.build(1);
    shop.scene.write("dist/admin/index.html", "<html>old").write("dist/admin/app.js", "old\n");
    shop.release();
    let admin = format!("sites:\n  admin: {{path: admin, prebuilt: true, prefix: admin, bucket: {}-web}}\n", shop.name);
    shop.configure("sites:\n", &admin);
    shop.scene.write("admin/dist/index.html", "<html>old");
    let refused = shop.run(&["release"]).expect(20);
    assert_snapshot!(shop.error(&refused), @r"
    error: site `web`: its build holds `admin/app.js`, which is a key of site `admin`
       both lie in the bucket `site-within-web`, and `admin` has what begins with `admin/`
    hint: nothing was uploaded; keep it out of the build of `web`, or give one of the two a bucket of its own
    ");
    std::fs::remove_dir_all(shop.scene.project().join("dist/admin")).unwrap();
    shop.configure("    bucket: ", "    keep: {releases: 1, days: 0}\n    bucket: ");
    shop.release();
    shop.build(2);
    shop.run(&["release", "web", "--allow-prune"]).expect(0);
    assert_eq!(shop.body("admin/index.html").await.unwrap(), "<html>old", "the same bytes, and now the other's");
    // Nor does a way back bring back what was the outer one's.
    shop.scene.write("admin/dist/index.html", "<html>new");
    shop.run(&["release", "admin"]).expect(0);
    let history: serde_json::Value = serde_json::from_str(&shop.run(&["history", "--format", "json"]).expect(0).stdout).unwrap();
    let first = history.as_array().unwrap().last().unwrap()["release"].as_str().unwrap().to_owned();
    shop.run(&["rollback", &first, "web"]);
    assert_eq!(shop.body("admin/index.html").await.unwrap(), "<html>new");
}

#[tokio::test]
async fn a_cache_tag_stands_for_many_pages() {
    let shop = Shop::site("site-tags").await;
    let pages = |edition: u32| {
        for number in 0..12 {
            shop.scene.write(&format!("dist/docs/{number}.html"), format!("<html>{edition}"));
        }
    };
    pages(1);
    shop.release();
    let tags = "<CacheTagConfig><HeaderName>x-amz-meta-cache-tag</HeaderName></CacheTagConfig></DistributionConfig>";
    let tagged = move |status, body: String| (status, body.replace("</DistributionConfig>", tags));
    shop.proxy.fail_next(|request| request.operation == "cloudfront:GetDistribution", 99, Fault::Rewrite(Box::new(tagged)));
    pages(2);
    shop.release();
    // The edges hold what was fetched without a tag.
    assert!(shop.invalidated().contains(&"/docs/*".to_owned()), "{:?}", shop.invalidated());
    let head = shop.head("docs/0.html").await.unwrap();
    assert_eq!(head.metadata().and_then(|all| all.get("cache-tag")).map(String::as_str), Some("windlass-web"));
    pages(3);
    shop.scene.write("dist/docs/new.html", "<html>new");
    shop.release();
    assert_eq!(shop.invalidated(), ["#windlass-web", "/docs/new.html"]);
    shop.proxy.clear();
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_site_without_a_state_is_published_from_this_machine() {
    let shop = Shop::site("site-stateless").await;
    shop.configure("s3://site-stateless-state/windlass", "none");
    shop.release();
    assert_eq!(shop.written().last().unwrap(), "s3:PutObject index.html");
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.build(2);
    shop.release();
    assert_eq!(shop.written().len(), 4);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    assert_eq!(shop.keys("state").await, [""; 0]);
}

#[tokio::test]
async fn a_site_that_moves_to_another_bucket_is_uploaded_there() {
    let (shop, other) = (Shop::site("site-moved").await, Shop::site("site-moved-2").await);
    shop.release();
    shop.configure("bucket: site-moved-web", "bucket: site-moved-2-web").configure(&shop.distribution, &other.distribution);
    shop.release();
    assert_eq!(other.keys("web").await, shop.keys("web").await);
}

#[tokio::test]
async fn the_first_release_over_a_site_that_is_there_writes_only_what_differs() {
    let shop = Shop::site("site-adopted").await;
    shop.configure("s3://site-adopted-state/windlass", "none").release();
    shop.configure("state: none", "state: s3://site-adopted-state/windlass");
    shop.scene.write("dist/robots.txt", "User-agent: *\n");
    shop.release();
    assert_eq!(shop.written(), ["s3:CopyObject robots.txt"]);
}

/// Names as people give them, each with the path that CloudFront is told: what RFC 1738 calls unsafe is encoded, and nothing else.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/invalidation-specifying-objects.html>
const NAMES: &[(&str, &str)] = &[
    ("a b.txt", "/a%20b.txt"),
    ("hash #1.txt", "/hash%20%231.txt"),
    ("1+1=2.txt", "/1+1=2.txt"),
    ("100%.txt", "/100%25.txt"),
    ("100%25.txt", "/100%2525.txt"),
    ("why?.txt", "/why%3F.txt"),
    ("you & me.txt", "/you%20&%20me.txt"),
    ("'single' \"double\".txt", "/'single'%20%22double%22.txt"),
    ("<tag>.txt", "/%3Ctag%3E.txt"),
    ("[slug]{a}|b^c`d.txt", "/%5Bslug%5D%7Ba%7D%7Cb%5Ec%60d.txt"),
    ("back\\slash.txt", "/back%5Cslash.txt"),
    ("caf\u{e9} nfc.txt", "/caf%C3%A9%20nfc.txt"),
    ("cafe\u{301} nfd.txt", "/cafe%CC%81%20nfd.txt"),
    ("caf\u{e9}.txt", "/caf%C3%A9.txt"),
    ("cafe\u{301}.txt", "/cafe%CC%81.txt"),
    ("\u{65e5}\u{672c}\u{8a9e} \u{1f980}.txt", "/%E6%97%A5%E6%9C%AC%E8%AA%9E%20%F0%9F%A6%80.txt"),
    ("semi;colon,comma!(a)@$:.txt", "/semi;colon,comma!(a)@$:.txt"),
    (" leading and trailing .txt ", "/%20leading%20and%20trailing%20.txt%20"),
    ("~home.txt", "/%7Ehome.txt"),
    ("..dots..txt", "/..dots..txt"),
    ("empty.txt", "/empty.txt"),
];

#[tokio::test]
async fn every_name_arrives_and_is_found_again() {
    let shop = Shop::site("site-names").await;
    shop.configure("prebuilt: true", "prebuilt: true\n    keep: {releases: 1, days: 0}");
    for (name, _) in NAMES {
        shop.scene.write(&format!("dist/{name}"), if *name == "empty.txt" { "" } else { *name });
    }
    shop.scene.write("dist/a b/index.html", "<html>");
    shop.release();
    let mut keys: Vec<String> = shop.keys("web").await.into_iter().filter(|key| NAMES.iter().any(|(name, _)| name == key)).collect();
    let mut names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    keys.sort();
    names.sort_unstable();
    assert_eq!(keys, names);
    assert!(shop.invalidated().contains(&"/a%20b/".to_owned()));
    for look in [&["release"][..], &["release", "--audit"]] {
        shop.run(look).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0], "{look:?}");
    }
    // New content, by way of the state; new headers; and gone.
    for some in NAMES.chunks(10) {
        for (name, _) in some {
            shop.scene.write(&format!("dist/{name}"), format!("{name} again"));
        }
        shop.release();
        let mut paths: Vec<&str> = some.iter().map(|(_, path)| *path).collect();
        paths.sort_unstable();
        assert_eq!((shop.invalidated(), shop.written().len()), (paths.iter().map(|&path| path.to_owned()).collect(), some.len()));
        for (name, path) in some {
            let served = shop.get(path).await;
            assert_eq!((served.status, served.body), (200, format!("{name} again").into()), "{name}");
        }
    }
    shop.configure("prebuilt: true", "prebuilt: true\n    headers: [{match: \"*.txt*\", cache_control: no-store}]");
    shop.release();
    for (name, _) in NAMES {
        assert_eq!(shop.body(name).await.unwrap(), format!("{name} again"));
        assert_eq!(shop.head(name).await.unwrap().cache_control(), Some("no-store"), "{name}");
        shop.scene.remove(&format!("dist/{name}"));
    }
    shop.scene.write("dist/index.html", "<html>");
    shop.run(&["release", "--allow-prune"]).expect(0);
    assert_eq!(shop.keys("web").await, ["a b/index.html", "about/index.html", &asset(1), "index.html", "robots.txt"]);
}

#[tokio::test]
async fn files_that_are_large_arrive_whole() {
    let shop = Shop::site("site-large").await;
    // Sent in one request, then in parts.
    for (size, change) in [(12 << 16, "s3:PutObject film.mp4"), (65 << 16, "s3:CopyObject film.mp4")] {
        let film = "0123456789abcdef".repeat(size);
        shop.scene.write("dist/film.mp4", &film);
        shop.release();
        assert!(shop.written().contains(&change.to_owned()), "{:?}", shop.written());
        assert_eq!(shop.body("film.mp4").await.unwrap(), film);
        shop.run(&["release", "--audit"]).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0]);
    }
}

#[tokio::test]
async fn a_configuration_elsewhere_is_the_root_of_its_paths() {
    let shop = Shop::site("site-root").await;
    shop.scene.run("sh", &["-c", "mkdir apps && mv windlass.yml dist apps"]).expect(0);
    shop.run(&["release", "--config", "apps/windlass.yml"]).expect(0);
    assert_eq!(shop.written().len(), 4);
}

#[tokio::test]
async fn what_open_tabs_may_ask_for_stays_and_a_removed_page_goes() {
    let shop = Shop::site("site-removed").await;
    shop.release();
    shop.build(2);
    shop.scene.remove("dist/about/index.html");
    let planned = shop.run(&["plan"]).expect(0).stdout;
    assert!(planned.contains("about/index.html"), "{planned}");
    shop.release();
    let mut live = [&asset(1), &asset(2), "index.html", "robots.txt"];
    live.sort_unstable();
    assert_eq!(shop.keys("web").await, live);
    assert_eq!(shop.written().last().unwrap(), "s3:DeleteObject about/index.html");
    assert_eq!(shop.invalidated(), ["/", "/about/", "/about/index.html", "/index.html", "/robots.txt"]);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}
