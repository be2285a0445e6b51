//! One release at a time: who waits, who is refused, who takes over, and who stops.

use insta::assert_snapshot;
use regex::Regex;
use rustix::process::Signal;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::{Outcome, Running};

fn writes_page(request: &Recorded) -> bool {
    request.is_write && request.path.ends_with("-web/index.html")
}

fn is_lock(request: &Recorded) -> bool {
    request.path.ends_with("/lock.json")
}

/// What was said from the error on, without what differs from run to run.
fn told(shop: &Shop, outcome: &Outcome) -> String {
    let error = shop.error(outcome);
    let error = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap().replace_all(&error, "[time]").into_owned();
    Regex::new(r"\d+ s( ago)?\b").unwrap().replace_all(&error, "[seconds]$1").into_owned()
}

#[tokio::test]
async fn the_second_of_two_is_told_who_holds_the_lock() {
    let mut shop = Shop::site("lock-held").await;
    shop.scene.set("BUILD_URL", "https://jenkins.example/job/shop/7/");
    let (first, gate) = shop.held_at(writes_page, &["release"]);
    shop.scene.set("BUILD_URL", "https://jenkins.example/job/shop/8/");
    let second = shop.scene.windlass(&["release"]).expect(12);
    assert_snapshot!(told(&shop, &second), @r"
    error: another release holds the lock; nothing was changed
       arn:aws:iam::000000000000:root, at https://jenkins.example/job/shop/7/, holds it since [time] for release [release], renewed [seconds] ago
    hint: wait for it with --lock-wait 15m, or stop it where it runs; if it was killed, its lease ends by itself in [seconds]
    ");
    gate.open();
    first.wait().expect(0);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0], "the first one released it");
}

#[tokio::test]
async fn whoever_waits_goes_on_from_what_the_other_has_made() {
    let shop = Shop::site("lock-wait").await;
    let (first, gate) = shop.held_at(writes_page, &["release"]);
    shop.build(2);
    let second = shop.scene.start(&["release", "--lock-wait", "10m"]);
    second.until_says("waiting for the lock: ");
    gate.open();
    first.wait().expect(0);
    let second = second.wait().expect(0);
    assert!(second.stderr.contains("the plan is drawn anew"), "{}", second.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    assert!(shop.head(&asset(1)).await.is_some(), "the tabs of the first one are open");
}

#[tokio::test]
async fn a_holder_that_stands_still_loses_the_lock_and_writes_no_more() {
    let shop = Shop::site("lock-lost").await;
    // Its lease is as short as a busy machine allows: it has to be renewed until the page is to be written.
    let (first, gate) = shop.held_at(writes_page, &["release", "--lease", "8s"]);
    first.signal(Signal::STOP);
    let second = shop.scene.start(&["release", "--lock-wait", "10m"]);
    second.until_says("waiting for the lock: ");
    gate.open();
    let second = second.wait().expect(0);
    assert!(second.stdout.starts_with("released "), "{}", second.stdout);
    shop.proxy.clear();
    first.signal(Signal::CONT);
    let first = first.wait().expect(14);
    assert_eq!(shop.proxy.written().iter().filter(|operation| *operation != "s3:PutObject").count(), 0);
    assert_eq!(shop.written(), [""; 0], "{}", first.stderr);
    assert!(told(&shop, &first).contains("the lock was lost in the middle of release [release]"), "{}", first.stderr);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_lock_whose_answer_is_lost_is_ours_all_the_same() {
    let shop = Shop::site("lock-answer").await;
    shop.proxy.fail_next(|request| is_lock(request) && request.is_write, 1, Fault::LoseAnswer);
    shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
    shop.build(2);
    shop.proxy.fail_next(
        |request| is_lock(request) && request.is_write,
        1,
        Fault::xml(503, "SlowDown", "Please reduce your request rate."),
    );
    shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
}

#[tokio::test]
async fn a_lock_that_was_free_when_it_was_looked_at_has_one_taker() {
    let shop = Shop::site("lock-glimpse").await;
    let takes = |request: &Recorded| is_lock(request) && request.is_write;
    for number in [1, 2] {
        shop.build(number);
        let (slow, takes) = shop.held_at(takes, &["release"]);
        let (quick, page) = shop.held_at(writes_page, &["release"]);
        takes.open();
        slow.wait().expect(12);
        page.open();
        quick.wait().expect(0);
        shop.release();
        assert_eq!(shop.proxy.written(), [""; 0]);
    }
}

#[tokio::test]
async fn a_run_without_changes_takes_no_lock() {
    let shop = Shop::site("lock-none").await;
    shop.release();
    shop.release();
    assert!(!shop.proxy.requests().iter().any(is_lock));
}

#[tokio::test]
async fn the_killed_release_is_gone_on_with() {
    let shop = Shop::site("lock-killed").await;
    assert!(shop.killed_at(6));
    let again = shop.release();
    assert!(again.stderr.contains("going on with release "), "{}", again.stderr);
    let records: Vec<String> = shop.keys("state").await.into_iter().filter(|key| key.contains("/releases/")).collect();
    assert_eq!(records.len(), 1, "{records:?}");
}

/// Killed between taking the lock and beginning its release, or let go because the plan had to be drawn anew.
#[tokio::test]
async fn a_holder_that_has_begun_nothing_hides_no_release() {
    let shop = Shop::site("lock-nothing").await;
    assert!(shop.killed_at(6));
    let mut lock = shop.state_json("lock.json").await;
    let killed = lock["last"].as_str().unwrap().to_owned();
    lock["last"] = "20990101T000000000Z-00000000".into();
    lock["earlier"] = serde_json::json!([killed]);
    let key = "windlass/shop/default/lock.json";
    shop.seed.s3().put_object().bucket("lock-nothing-state").key(key).body(lock.to_string().into_bytes().into()).send().await.unwrap();
    let again = shop.release();
    assert!(again.stderr.contains(&format!("going on with release {killed}")), "{}", again.stderr);
    let lock = shop.state_json("lock.json").await;
    assert_eq!((&lock["last"], &lock["holder"], &lock["earlier"]), (&killed.into(), &serde_json::Value::Null, &serde_json::Value::Null));
}

#[tokio::test]
async fn an_older_commit_is_refused_unless_it_is_insisted_on() {
    let shop = Shop::site("lock-older").await;
    shop.release();
    shop.build(2);
    let (older, newer) = (shop.scene.git(&["rev-parse", "HEAD"]), shop.scene.commit(2));
    shop.release();
    shop.scene.git(&["checkout", "--quiet", "HEAD~1"]);
    shop.build(1);
    let refused = shop.run(&["release"]).expect(15);
    assert_snapshot!(shop.error(&refused).replace(&newer[..8], "[newer]").replace(&older[..8], "[older]"), @r"
    error: this is older than what is live; nothing was changed
       `web` is live at commit [commit] (release [release]), and [older] lies behind it
    hint: release a newer commit; go back with `windlass rollback`; or insist with --allow-older
    ");
    assert_eq!(shop.proxy.written(), [""; 0], "not even the lock is taken");
    let forced = shop.run(&["release", "--allow-older"]).expect(0);
    assert!(forced.stderr.contains("released all the same"), "{}", forced.stderr);
}

#[tokio::test]
async fn a_commit_that_changes_nothing_is_said_to_be_what_is_live() {
    let shop = Shop::site("lock-same").await;
    shop.release();
    shop.scene.write("README", "new").commit(2);
    let same = shop.release();
    assert!(same.stderr.contains("is release "), "{}", same.stderr);
    assert_eq!(shop.proxy.written(), ["s3:PutObject"]);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn of_five_at_once_one_goes_at_a_time() {
    let shop = Shop::site("lock-five").await;
    let all: Vec<Running> = (0..5).map(|_| shop.scene.start(&["release", "--lock-wait", "10m"])).collect();
    let outcomes: Vec<Outcome> = all.into_iter().map(|running| running.wait().expect(0)).collect();
    let released = outcomes.iter().filter(|outcome| outcome.stdout.starts_with("released ")).count();
    assert_eq!(released, 1, "{outcomes:#?}");
    let flips = shop.written().iter().filter(|write| write.ends_with(" index.html")).count();
    assert_eq!(flips, 1);
}

/// A server that takes every write, whatever its condition says: the lock would hold nobody back.
#[tokio::test]
async fn a_server_that_ignores_conditions_is_refused_when_the_lock_is_made() {
    // The first one without a lock makes it; what comes then must not be done, and comes in any order.
    for (name, made, header) in [("lock-if-none-match", 1, "If-None-Match"), ("lock-if-match", 0, "If-Match")] {
        let shop = Shop::site(name).await;
        let asks = move |request: &Recorded| is_lock(request) && request.condition == Some(header);
        shop.proxy.fail_next(asks, made, Fault::Rewrite(Box::new(|status, body| (status, body))));
        shop.proxy.fail_next(asks, 1, Fault::Rewrite(Box::new(|_, _| (200, String::new()))));
        let failed = shop.run(&["release"]).expect(11);
        let said = shop.error(&failed);
        assert!(said.contains(&format!("the server of the state's bucket `{name}-state` ignores `{header}`")), "{said}");
        assert!(said.contains("hint: nothing was changed; keep the state on S3"), "{said}");
        assert_eq!(shop.written(), [""; 0]);
        // It is asked once: from then on the lock is there, and free.
        shop.release();
        assert_eq!(shop.proxy.faults_left(), 0);
    }
    // Killed before it had heard: whoever takes the lock over asks.
    let shop = Shop::site("lock-unasked").await;
    assert!(shop.killed_at(2));
    let is_lock = |request: &Recorded| request.operation == "s3:PutObject" && request.path.ends_with("/lock.json");
    shop.proxy.fail_next(is_lock, 1, Fault::Rewrite(Box::new(|status, body| (status, body))));
    shop.proxy.fail_next(is_lock, 1, Fault::Rewrite(Box::new(|_, _| (200, String::new()))));
    let failed = shop.run(&["release"]).expect(11);
    assert!(failed.stderr.contains("the server of the state's bucket `lock-unasked-state` ignores"), "{}", failed.stderr);
    assert_eq!(shop.proxy.faults_left(), 0);

    let shop = Shop::site("lock-conditions").await;
    shop.release();
    let without = |request: &Recorded| is_lock(request) && request.condition == Some("If-None-Match");
    let asked = |shop: &Shop| shop.proxy.requests().iter().filter(|request| without(request)).count();
    assert!(asked(&shop) >= 2, "it is made, and asked for once more");
    shop.build(2);
    shop.release();
    assert_eq!(asked(&shop), 0, "from then on it is there");
}
