//! A state that is not as it should be: a bucket that lacks what locks are made of, objects that are damaged, newer, or very many.

use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use futures_util::StreamExt as _;
use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

fn locks(request: &Recorded) -> bool {
    request.is_write && request.path.ends_with("/lock.json")
}

async fn put(shop: &Shop, name: &str, body: impl Into<Vec<u8>>) {
    let key = format!("windlass/shop/default/{name}");
    let bucket = format!("{}-state", shop.name);
    shop.seed.s3().put_object().bucket(bucket).key(key).body(body.into().into()).send().await.unwrap();
}

fn release_id(stdout: &str) -> String {
    stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_bucket_that_knows_no_conditional_writes_is_refused() {
    let shop = Shop::site("state-501").await;
    let fault = || Fault::xml(501, "NotImplemented", "A header you provided implies functionality that is not implemented.");
    shop.proxy.fail_next(locks, 100, fault());
    let failed = shop.run(&["release"]).expect(11);
    assert_snapshot!(shop.error(&failed), @r"
    error: taking the lock of the release failed
       s3:PutObject state-501-state/windlass/shop/default/lock.json: NotImplemented: A header you provided implies functionality that is not implemented.
    hint: nothing was changed; this bucket's endpoint knows no conditional writes, which the lock is made of: name another under `state`
    ");
    assert_eq!(shop.written(), [""; 0]);
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>: 409 asks for another attempt.
#[tokio::test]
async fn a_conflict_is_tried_again_and_not_for_ever() {
    let shop = Shop::site("state-409").await;
    let conflict =
        || Fault::xml(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation.");
    shop.proxy.fail_next(locks, 3, conflict());
    shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
    shop.build(2);
    let start = Instant::now();
    shop.proxy.fail_next(locks, 1000, conflict());
    let failed = shop.run(&["release"]).expect(11);
    assert!(start.elapsed() < Duration::from_mins(2), "{:?}", start.elapsed());
    assert_snapshot!(shop.error(&failed), @r"
    error: taking the lock of the release failed
       s3:PutObject state-409-state/windlass/shop/default/lock.json: ConditionalRequestConflict: The conditional request cannot succeed due to a conflicting operation.
    hint: nothing was changed; this went on for longer than two releases race: run it again, and look at what else writes there
    ");
    assert_eq!(shop.written(), [""; 0]);
}

#[tokio::test]
async fn a_precondition_that_always_fails_ends_in_time() {
    let shop = Shop::site("state-412").await;
    shop.proxy.fail_next(
        locks,
        1000,
        Fault::xml(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
    );
    let start = Instant::now();
    let failed = shop.run(&["release"]).expect(11);
    assert!(start.elapsed() < Duration::from_mins(2), "{:?}", start.elapsed());
    assert!(shop.error(&failed).contains("PreconditionFailed"), "{}", failed.stderr);
}

#[tokio::test]
async fn a_lock_that_is_no_lock_says_what_to_do() {
    let shop = Shop::site("state-lock").await;
    put(&shop, "lock.json", "").await;
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: taking the lock of the release failed
       the state `windlass/shop/default/lock.json` does not hold what it should
       EOF while parsing a value at line 1 column 0
    hint: nothing was changed; it is a lock: if nothing is being released, remove that object
    ");
    put(&shop, "lock.json", "{\"format\": 2}").await;
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: taking the lock of the release failed
       the state `windlass/shop/default/lock.json` is of format 2, and this version of windlass knows none above 1
    hint: nothing was changed; use the version of windlass that has written it, or a newer one
    ");
}

#[tokio::test]
async fn a_newer_state_is_not_guessed_at() {
    let shop = Shop::site("state-newer").await;
    let id = release_id(&shop.release().stdout);
    shop.build(2);
    put(&shop, "sites/web/live.json", "{\"format\": 2, \"sites\": []}").await;
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: site `web`: reading its manifest failed
       the state `windlass/shop/default/sites/web/live.json` is of format 2, and this version of windlass knows none above 1
    hint: nothing was changed; use the version of windlass that has written it, or a newer one
    ");
    shop.refused(&["rollback"], 11);
    put(&shop, &format!("releases/{id}.json"), "{\"format\": 7}").await;
    let history = shop.run(&["history"]).expect(0);
    assert_snapshot!(shop.redacted(&history.stderr), @r"
    prepare     account check: 000000000000 in us-east-1, as arn:aws:iam::000000000000:root ([time])
    note        left out: the state `windlass/shop/default/releases/[release].json` is of format 7, and this version of windlass knows none above 1
    ");
}

#[tokio::test]
async fn one_damaged_record_keeps_nobody_from_anything() {
    let shop = Shop::site("state-damaged").await;
    let first = release_id(&shop.release().stdout);
    shop.build(2);
    shop.scene.commit(2);
    let second = release_id(&shop.release().stdout);
    shop.build(3);
    shop.scene.commit(3);
    let third = release_id(&shop.release().stdout);
    put(&shop, &format!("releases/{second}.json"), "{\"format\":1,\"release\":\"").await;
    let history = shop.run(&["history"]).expect(0);
    assert!(history.stdout.contains(&first) && history.stdout.contains(&third), "{}", history.stdout);
    assert!(history.stderr.contains(&format!("releases/{second}.json` does not hold what it should")), "{}", history.stderr);
    let back = shop.run(&["rollback"]).expect(0);
    assert!(back.stderr.contains("left out: "), "{}", back.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)), "the newest one that can be read");
    shop.refused(&["rollback", &second], 11);
    // Damaged in the middle of a release: the next one does not go on with it.
    assert!(shop.killed_at(8));
    let records: Vec<String> = shop.keys("state").await.into_iter().filter(|key| key.contains("/releases/")).collect();
    let newest = records.iter().max().unwrap().rsplit('/').next().unwrap();
    put(&shop, &format!("releases/{newest}"), "").await;
    let again = shop.release();
    assert!(again.stderr.contains("left out: ") && !again.stderr.contains("going on with release"), "{}", again.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(3)));
}

#[tokio::test]
async fn versions_of_the_state_change_nothing() {
    let shop = Shop::site("state-versions").await;
    let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    shop.seed.s3().put_bucket_versioning().bucket("state-versions-state").versioning_configuration(versioned).send().await.unwrap();
    shop.release();
    shop.build(2);
    assert!(shop.killed_at(6));
    shop.release();
    shop.run(&["rollback"]).expect(0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
}

#[tokio::test]
async fn a_thousand_releases_are_no_burden() {
    let shop = Shop::site("state-many").await;
    let id = release_id(&shop.release().stdout);
    let record = shop.state_json(&format!("releases/{id}.json")).await.to_string();
    let copies = (0..1000).map(|number| {
        let old = format!("20250101T{:02}{:02}{:02}000Z-00000000", number / 3600, number / 60 % 60, number % 60);
        let (shop, record) = (&shop, record.replace(&id, &old));
        async move { put(shop, &format!("releases/{old}.json"), record).await }
    });
    // Not so many at once that connections wait for one another for as long as one may take to open.
    futures_util::stream::iter(copies).buffer_unordered(16).count().await;
    for (arguments, most) in [(&["status"][..], 15), (&["history"], 40), (&["release"], 15), (&["plan"], 15)] {
        let start = Instant::now();
        shop.run(arguments).expect(0);
        let requests = shop.proxy.requests().len();
        assert!(requests <= most, "{arguments:?} made {requests} requests");
        assert!(start.elapsed() < Duration::from_mins(2), "{arguments:?} took {:?}", start.elapsed());
    }
    shop.build(2);
    shop.release();
    let requests = shop.proxy.requests().len();
    assert!(requests < 60, "a release made {requests} requests");
    shop.run(&["rollback"]).expect(0);
    let requests = shop.proxy.requests().len();
    assert!(requests < 60, "a rollback made {requests} requests");
}
