//! SIGINT and SIGTERM in each stage: the change in hand is finished and recorded, one line says what is live and how to go on.

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::{Outcome, runs, until};

/// What is said at the first signal.
const HEARD: &str = "a second signal leaves at once";

fn interrupted(shop: &Shop, at: fn(&Recorded) -> bool, signal: Signal, exit: i32) -> Outcome {
    let (running, gate) = shop.held_at(at, &["release"]);
    running.signal(signal);
    running.until_says(HEARD);
    gate.open();
    let said = running.wait().expect(exit);
    assert!(said.stderr.contains("live        web"), "{}", said.stderr);
    said
}

async fn records(shop: &Shop) -> usize {
    shop.keys("state").await.into_iter().filter(|key| key.contains("/releases/")).count()
}

/// The next run goes on with the same release, and ends it.
async fn gone_on_with(shop: &Shop) {
    let again = shop.release();
    assert!(again.stderr.contains("going on with release"), "{}", again.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    assert_eq!(records(shop).await, 1);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn while_assets_go_up() {
    let shop = Shop::site("stop-assets").await;
    let said = interrupted(&shop, |request| request.is_write && request.path.contains("-web/assets/"), Signal::INT, 130);
    assert_snapshot!(shop.error(&said), @r"
    error: stopped during the stage `assets`
    hint: what is done stays done: run the same command again to go on
    ");
    assert!(shop.body("index.html").await.is_none());
    gone_on_with(&shop).await;
}

#[tokio::test]
async fn while_a_site_is_published() {
    let shop = Shop::site("stop-publish").await;
    // The last change in hand ends the release: there is nothing left to stop.
    let said = interrupted(&shop, |request| request.operation == "s3:CopyObject", Signal::TERM, 0);
    assert!(said.stdout.starts_with("released "), "{}", said.stdout);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn while_a_database_is_migrated() {
    let shop = Shop::whole("stop-migration").await;
    shop.push_image().await;
    let answer = Fault::Answer { status: 200, headers: vec![], body: "{\"applied\": []}".to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 3, answer);
    let said = interrupted(&shop, |request| request.operation == "lambda:UpdateFunctionCode", Signal::INT, 130);
    assert_snapshot!(shop.error(&said), @r"
    error: stopped during the release, before its stage `services`
    hint: what is done stays done: run the same command again to go on
    ");
    let again = shop.release();
    assert!(again.stderr.contains("going on with release"), "{}", again.stderr);
    let invoked = shop.proxy.written().iter().filter(|operation| *operation == "lambda:Invoke").count();
    assert!(invoked <= 2, "{invoked}");
}

#[tokio::test]
async fn while_services_are_rolled() {
    let shop = Shop::whole("stop-services").await;
    shop.push_image().await;
    let answer = Fault::Answer { status: 200, headers: vec![], body: "{\"applied\": []}".to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 3, answer);
    let said = interrupted(&shop, |request| request.operation == "ecs:RegisterTaskDefinition", Signal::TERM, 143);
    assert_snapshot!(shop.error(&said), @r"
    error: stopped during the stage `services`
       `api` has not begun to roll
    hint: run the same command again to watch on; with --on-abort stop a signal rolls back what has not ended
    ");
    let again = shop.release();
    assert!(again.stderr.contains("going on with release"), "{}", again.stderr);
    let written = shop.proxy.written();
    assert!(!written.contains(&"lambda:Invoke".to_owned()), "{written:?}");
}

#[tokio::test]
async fn while_an_image_is_built() {
    let shop = Shop::whole("stop-image").await;
    let marker = format!("901.{}", std::process::id());
    shop.scene.write("api/Dockerfile", format!("FROM local/python:3.11-bookworm\nCOPY app.py /\nRUN sleep {marker}\n"));
    shop.scene.commit(3);
    let running = shop.scene.start(&["release"]);
    until("the step runs", || runs(&marker));
    // It is not waited for: nothing waits for as long as it takes.
    running.signal(Signal::INT);
    let said = running.wait().expect(130);
    assert!(said.stderr.contains("live        web"), "{}", said.stderr);
    assert_snapshot!(shop.error(&said), @r"
    error: stopped during the stage `images`
    hint: what is done stays done: run the same command again to go on
    ");
    assert!(shop.body("index.html").await.is_none());
}

#[tokio::test]
async fn a_second_signal_leaves_at_once() {
    let shop = Shop::site("stop-twice").await;
    // What is in hand never ends.
    let (running, _gate) = shop.held_at(|request| request.operation == "s3:CopyObject", &["release"]);
    running.signal(Signal::INT);
    running.until_says(HEARD);
    running.signal(Signal::INT);
    running.wait().expect(130);
    // Its process has ended on this machine: nobody has to wait for the lease.
    gone_on_with(&shop).await;
}

/// As if it had run elsewhere: its lease has to end by itself.
#[tokio::test]
async fn the_lease_of_a_killed_holder_ends_by_itself() {
    let shop = Shop::site("stop-killed").await;
    assert!(shop.killed_when(|request| request.operation == "s3:CopyObject", &["release"]));
    let mut lock = shop.state_json("lock.json").await;
    lock["holder"]["process"] = serde_json::Value::Null;
    let lasts = async |seconds: u32| {
        let mut lock = lock.clone();
        lock["lease_seconds"] = seconds.into();
        let key = "windlass/shop/default/lock.json";
        let body = lock.to_string().into_bytes().into();
        shop.seed.s3().put_object().bucket("stop-killed-state").key(key).body(body).send().await.unwrap();
    };
    lasts(600).await;
    let refused = shop.run(&["release"]).expect(12);
    assert!(shop.error(&refused).contains("its lease ends by itself in"), "{}", refused.stderr);
    lasts(2).await;
    let waited = shop.scene.windlass(&["release", "--lock-wait", "10m"]).expect(0);
    assert!(waited.stderr.contains("going on with release"), "{}", waited.stderr);
}
