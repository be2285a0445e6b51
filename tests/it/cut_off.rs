//! What comes after a release that was cut off, other than the same command again: another commit, or the way back.

use rustix::process::Signal;

use crate::orders::{kept, told};
use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::scene::{Scene, until};
use crate::support::scripted::Scripted;

/// Builds the second version, and kills its release once the page at the root is written.
async fn torn(shop: &Shop) {
    shop.build(2);
    shop.scene.commit(2);
    let page = format!("/{}-web/index.html", shop.name);
    assert!(shop.killed_when(move |request| request.is_write && request.path == page, &["release"]));
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)), "the page is the new one");
    let status = shop.run(&["status"]).expect(0).stdout;
    assert!(status.contains(" has begun to publish, and has not come to its end: "), "{status}");
}

/// The first version is served as it was, and what is written down says so.
async fn is_first(shop: &Shop) {
    for key in ["index.html", "about/index.html"] {
        assert!(shop.body(key).await.unwrap().contains(&asset(1)), "{key}");
    }
    assert_eq!(shop.body("robots.txt").await.unwrap(), "# 1\n");
    let invalidated = shop.invalidated();
    assert!(["/", "/index.html", "/robots.txt"].iter().all(|path| invalidated.iter().any(|one| one == path)), "{invalidated:?}");
    let status = shop.run(&["status"]).expect(0).stdout;
    assert!(!status.contains("! ") && !status.contains("the last release"), "{status}");
    // What a run without changes costs is as before, once it is written down which release this commit is.
    shop.release();
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn the_way_back_from_a_killed_publish_brings_the_old_pages() {
    let shop = Shop::site("torn-back").await;
    shop.release();
    torn(&shop).await;
    shop.build(1);
    let back = shop.run(&["rollback", "--lock-wait", "10m"]).expect(0);
    assert!(back.stderr.contains("has not come to a good end: this goes back to what was live before it"), "{}", back.stderr);
    is_first(&shop).await;
}

#[tokio::test]
async fn a_commit_that_takes_back_a_killed_one_brings_the_old_pages() {
    let shop = Shop::site("torn-revert").await;
    shop.release();
    torn(&shop).await;
    shop.build(1);
    shop.scene.commit(3);
    shop.run(&["release", "--lock-wait", "10m"]).expect(0);
    is_first(&shop).await;
}

#[tokio::test]
async fn a_killed_publish_is_finished_by_the_same_command() {
    let shop = Shop::site("torn-again").await;
    shop.release();
    torn(&shop).await;
    shop.run(&["release", "--lock-wait", "10m"]).expect(0);
    // Nobody knows whether the edges have what the first run has written.
    let invalidated = shop.invalidated();
    assert!(["/", "/about/", "/robots.txt"].iter().all(|path| invalidated.iter().any(|one| one == path)), "{invalidated:?}");
    assert!(shop.body("about/index.html").await.unwrap().contains(&asset(2)));
    let status = shop.run(&["status"]).expect(0).stdout;
    assert!(!status.contains("! "), "{status}");
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

fn image(scene: &Scene, from: &str, to: &str) {
    let config = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    scene.write("windlass.yml", config.replace(&from.repeat(64), &to.repeat(64)));
}

#[tokio::test]
async fn the_way_back_from_a_killed_release_is_what_was_live_before_it() {
    let ecs = Scripted::start(0.0);
    let service = "ok-43@0.3";
    let scene = kept("cut-off-back", &ecs, &[("api", &format!("service: {service}"))], "").await;
    scene.windlass(&["release"]).expect(0);
    image(&scene, "1", "2");
    scene.windlass(&["release"]).expect(0);
    image(&scene, "2", "3");
    let running = scene.start(&["release"]);
    until("it rolls", || ecs.calls_of("UpdateService", service).len() == 3);
    running.signal(Signal::KILL);
    running.wait();
    // Not to what came before that.
    let back = scene.windlass(&["rollback", "--lock-wait", "10m"]).expect(0);
    assert!(back.stderr.contains("has not come to a good end: this goes back to what was live before it"), "{}", back.stderr);
    assert_eq!(told(&ecs, service), format!("{service}:3"), "{}", back.stderr);
    // That one has come to a good end: the next goes further.
    scene.windlass(&["rollback"]).expect(0);
    assert_eq!(told(&ecs, service), format!("{service}:2"));
}

#[tokio::test]
async fn a_failed_migration_of_prisma_that_blocks_the_next_is_told_on_the_way_back() {
    let shop = Shop::whole("cut-off-prisma").await;
    shop.configure("framework: django", "framework: prisma");
    let answer = |headers: Vec<(&'static str, String)>, body: &str| Fault::Answer { status: 200, headers, body: body.to_owned() };
    shop.push_image().await;
    let invoked = |request: &crate::support::request::Recorded| request.operation == "lambda:Invoke";
    shop.proxy.fail_next(invoked, 1, answer(vec![], r#"{"applied": ["20260101000000_init"], "pending": []}"#));
    shop.release();
    shop.scene.write("api/app.py", "2\n").commit(5);
    shop.push_image().await;
    let failed = r#"{"errorType": "Error", "errorMessage": "20260102000000_bad: P3018: relation \"nowhere\" does not exist"}"#;
    // https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (X-Amz-Function-Error)
    shop.proxy.fail_next(invoked, 1, answer(vec![("x-amz-function-error", "Unhandled".to_owned())], failed));
    let error = shop.run(&["release"]).expect(23);
    assert!(shop.error(&error).contains("`prisma migrate resolve --rolled-back 20260102000000_bad`"), "{}", error.stderr);
    let back = shop.run(&["rollback"]).expect(0).stderr;
    assert!(back.contains("`20260102000000_bad` of release ") && back.contains(" stands as failed in the database of `main`"), "{back}");
}
