//! One stage at a time, also on another machine than the one before.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::scene::{Outcome, Scene};

/// The release that a stage has printed.
fn release_id(outcome: &Outcome) -> String {
    outcome.stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
}

/// Another checkout of the same project, without any build.
fn elsewhere(shop: &Shop) -> Scene {
    let scene = Scene::new(&shop.proxy.url());
    scene.write("windlass.yml", std::fs::read(shop.scene.project().join("windlass.yml")).unwrap());
    scene
}

#[tokio::test]
async fn publish_needs_no_build_where_it_runs() {
    let shop = Shop::site("stage-publish").await;
    shop.release();
    shop.build(2);
    let assets = shop.run(&["stage", "assets"]).expect(0);
    assert_snapshot!(shop.redacted(&assets.stdout), @"stage assets done, release [release]");
    assert_eq!(shop.written(), [format!("s3:PutObject {}", asset(2))]);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)), "nobody can see it yet");
    let other = elsewhere(&shop);
    shop.proxy.clear();
    let published = other.windlass(&["stage", "publish", "--release", &release_id(&assets)]).expect(0);
    assert_snapshot!(shop.redacted(&published.stdout), @"stage publish done, release [release]");
    assert_eq!(shop.written(), ["s3:CopyObject robots.txt", "s3:CopyObject about/index.html", "s3:CopyObject index.html"]);
    assert_eq!(shop.invalidated(), ["/", "/about/", "/about/index.html", "/index.html", "/robots.txt"]);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_stage_that_has_been_done_says_that_there_is_nothing_to_do() {
    let shop = Shop::site("stage-again").await;
    shop.run(&["stage", "assets"]).expect(0);
    let published = shop.run(&["stage", "publish"]).expect(0);
    let again = shop.run(&["stage", "publish", "--release", &release_id(&published)]);
    let again = again.expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn the_sites_of_a_release_can_be_published_one_by_one() {
    let shop = Shop::site("stage-sites").await;
    shop.add_docs();
    let assets = shop.run(&["stage", "assets"]).expect(0);
    let publish = |site| shop.run(&["stage", "publish", site, "--release", &release_id(&assets)]).expect(0);
    publish("web");
    assert_eq!(shop.invalidated(), ["/app/", "/app/about/", "/app/about/index.html", "/app/index.html"]);
    publish("docs");
    assert_eq!(shop.invalidated(), ["/docs/", "/docs/index.html"]);
}

#[tokio::test]
async fn five_stages_one_by_one_are_a_release() {
    let shop = Shop::whole("stage-all").await;
    shop.push_image().await;
    let id = release_id(&shop.run(&["stage", "assets"]).expect(0));
    let answer = Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer);
    for stage in ["images", "migrations", "services", "publish"] {
        shop.run(&["stage", stage, "--release", &id]).expect(0);
    }
    let again = shop.release();
    assert_eq!(shop.proxy.written(), [""; 0], "{}", again.stderr);
    let status = shop.run(&["status"]).expect(0).stdout;
    assert_eq!(status.matches(&format!(", release {id}\n")).count(), 3, "{status}");
}

#[tokio::test]
async fn an_unknown_release_is_refused() {
    let shop = Shop::site("stage-unknown").await;
    let arguments = ["stage", "publish", "--release", "20260101T000000Z-8f14b3f52b4d"];
    assert_snapshot!(shop.refused(&arguments, 11), @r"
    error: there is no release `[release]` in the state
    hint: take the id that an earlier stage has printed; without --release the stage begins a release of its own
    ");
    shop.configure("s3://stage-unknown-state/windlass", "none");
    assert_snapshot!(shop.refused(&arguments, 11), @r"
    error: the release `[release]` cannot be gone on with: `state: none` keeps none
    hint: name a bucket under `state`, or run `windlass release` in one go
    ");
}

#[tokio::test]
async fn a_stage_that_does_not_exist_is_a_wrong_command_line() {
    let shop = Shop::site("stage-none").await;
    let outcome = shop.run(&["stage", "deploy"]).expect(2);
    assert!(outcome.stderr.contains("'deploy'"), "{}", outcome.stderr);
    assert_eq!(shop.proxy.requests(), []);
}

#[tokio::test]
async fn a_stage_that_needs_an_image_names_the_one_that_makes_it() {
    let shop = Shop::whole("stage-image").await;
    assert_snapshot!(shop.refused(&["stage", "migrations"], 11), @r"
    error: preflight refused the stage; nothing was changed
       the registry has no image of this content for: api
    hint: run `windlass stage images` first
    ");
    assert_eq!(shop.refused(&["stage", "services"], 11), shop.refused(&["stage", "migrations"], 11));
}
