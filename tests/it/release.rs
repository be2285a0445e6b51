//! A whole release where no container runs: an order is kept, and a failed or unknown migration rolls nothing.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// What the function answers instead of running.
fn invoked(error: Option<&str>, body: &serde_json::Value) -> Fault {
    let error = error.map(|error| ("x-amz-function-error", error.to_owned()));
    Fault::Answer { status: 200, headers: error.into_iter().collect(), body: body.to_string() }
}

fn is_invoke(request: &Recorded) -> bool {
    request.operation == "lambda:Invoke"
}

fn times(shop: &Shop, operation: &str) -> usize {
    shop.proxy.written().iter().filter(|written| *written == operation).count()
}

/// A shop whose image is in the registry already.
async fn pushed(name: &str) -> (Shop, String) {
    let shop = Shop::whole(name).await;
    let digest = shop.push_image().await;
    (shop, digest)
}

#[tokio::test]
async fn the_stages_come_in_their_order_and_a_second_release_writes_nothing() {
    let (shop, digest) = pushed("release-order").await;
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({ "applied": ["items.0001_initial"] })));
    let outcome = shop.release();
    assert_snapshot!(shop.redacted(&outcome.stderr), @r"
    prepare     account check: 000000000000 in us-east-1, as arn:aws:iam::000000000000:root ([time])
    prepare     resources look for: 6 are there ([time])
    release     [release] of commit [commit]
    assets      web upload: 2 new, 0 unchanged ([time])
    images      api image: unchanged, ctx-[context] is in the registry ([time])
    images      nothing to do
    migrations  main update code: release-order runs 47d893fcf80a ([time])
    migrations  main migrate: applied items.0001_initial ([time])
    services    api roll: release-order:2 serves 47d893fcf80a ([time])
    publish     web publish: 2 files ([time])
    publish     [distribution] invalidate: / /about/ /about/index.html /index.html (invalidation [id]) ([time])
    publish     web check: https://[domain]/ and 1 files that it names ([time])
    live        main  applied items.0001_initial; before: no recorded migration
    live        api   release-order:2 (47d893fcf80a); before: release-order:1 (afeff058809d)
    live        web   release [release] (4 files, 177 B); before: no recorded release
    took        [time]
    next        `windlass rollback` goes back to what was live before
    ");
    let writes = shop.proxy.writes();
    let at = |wanted: &str| {
        let name = |request: &Recorded| format!("{} {}", request.operation, request.path);
        writes
            .iter()
            .position(|request| name(request).starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {:?}", shop.proxy.written()))
    };
    let order = [
        at(&format!("s3:PutObject /release-order-web/{}", asset(1))),
        at("lambda:UpdateFunctionCode"),
        at("lambda:Invoke"),
        at("ecs:RegisterTaskDefinition"),
        at("ecs:UpdateService"),
        at("s3:CopyObject /release-order-web/index.html"),
        at("cloudfront:CreateInvalidation"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let registered = writes.iter().find(|request| request.operation == "ecs:RegisterTaskDefinition").unwrap();
    assert!(registered.body.contains(&format!("/release-order/api@{digest}")), "{}", registered.body);
    let again = shop.release();
    assert_eq!(shop.proxy.written(), [""; 0], "{}", again.stderr);
    assert!(again.stdout.starts_with("nothing to do"), "{}", again.stdout);
    let status = shop.run(&["status"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert_snapshot!(shop.redacted(&status.stdout), @r"
    shop: account 000000000000 in us-east-1
      site       web   4 files in `release-order-web`, release [release]
      migration  main  migrated with 47d893fcf80a, release [release]
      service    api   release-order:2 runs 47d893fcf80a, 1 of 1 tasks, COMPLETED, release [release]
    ");
}

#[tokio::test]
async fn a_plan_of_everything_writes_nothing_and_is_the_same_each_time() {
    let (shop, _) = pushed("release-plan").await;
    let plan = || shop.run(&["plan", "--format", "json"]).expect(0).stdout;
    assert_eq!(plan(), plan());
    assert_eq!(shop.proxy.written(), [""; 0]);
    let text = shop.run(&["plan"]).expect(0).stdout;
    assert_snapshot!(shop.redacted(&text), @r"
    shop: commit [commit], account 000000000000 in us-east-1

    assets:
      web: dist to s3://release-plan-web: 2 files to upload (19 B), 0 unchanged
        fingerprints by the form of the names; what is live by the bucket's listing
        + assets/app-00000001.js  15 B, text/javascript; charset=utf-8, public, max-age=31536000, immutable
        + robots.txt  4 B, text/plain; charset=utf-8, public, max-age=0, must-revalidate

    images: nothing to do

    migrations:
      main: update and invoke release-plan with 47d893fcf80a, at most 300 s
        pending: unknown (no earlier release has told what is applied)

    services:
      api: roll release-plan/release-plan from release-plan:1 to 47d893fcf80a
        ~ web.image: [registry]/release-plan/api@sha256:[digest] → [registry]/release-plan/api@sha256:[digest]

    publish:
      web: 2 files to publish, in this order (158 B)
        + about/index.html  79 B, text/html; charset=utf-8, public, max-age=0, must-revalidate
        + index.html  79 B, text/html; charset=utf-8, public, max-age=0, must-revalidate
      invalidate in [distribution]: / /about/ /about/index.html /index.html
      check web at https://[domain]/
    ");
}

#[tokio::test]
async fn a_failed_migration_rolls_no_service_and_publishes_no_page() {
    let (shop, _) = pushed("release-failed").await;
    let answer = serde_json::json!({ "errorType": "OperationalError", "errorMessage": "no such column: price", "stackTrace": [] });
    shop.proxy.fail_next(is_invoke, 1, invoked(Some("Unhandled"), &answer));
    let failed = shop.run(&["release"]).expect(23);
    assert_snapshot!(shop.error(&failed), @r"
    error: migration `main` failed
       the function `release-failed` answered OperationalError: no such column: price
    hint: no service was rolled and no site published: the old version serves; correct the migration, and release again
    ");
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:RegisterTaskDefinition"), times(&shop, "ecs:UpdateService")), (1, 0, 0));
    assert!(shop.body("index.html").await.is_none());
    // The next run tries the same migration again.
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({ "applied": [] })));
    shop.release();
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService")), (1, 1));
}

#[tokio::test]
async fn a_migration_that_leaves_something_pending_has_failed() {
    let (shop, _) = pushed("release-pending").await;
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({ "applied": [], "pending": ["items.0002_first_stock"] })));
    let failed = shop.run(&["release"]).expect(23);
    assert_snapshot!(shop.error(&failed), @r"
    error: migration `main` did not apply everything
       still pending: items.0002_first_stock
    hint: no service was rolled and no site published: the old version serves; it said that it succeeded and has not migrated: see its log; is its engine there, does it look at the right database and directory?
    ");
    assert_eq!(times(&shop, "ecs:UpdateService"), 0);
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome_and_no_second_invocation() {
    let (shop, _) = pushed("release-lost").await;
    shop.proxy.fail_next(is_invoke, 1, Fault::LoseAnswer);
    let unknown = shop.run(&["release"]).expect(24);
    assert_snapshot!(shop.error(&unknown), @r"
    error: migration `main`: what came of it is not known
       lambda:InvokeFunction release-lost: connection closed before message completed; its log does not say how it ended
    hint: it may have migrated: it is not run again by itself, and no service was rolled; read its log (/aws/lambda/release-lost), then run the same command again
    ");
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService")), (1, 0));
    assert!(shop.body("index.html").await.is_none());
}

#[tokio::test]
async fn an_answer_that_is_lost_elsewhere_is_asked_for_again() {
    let (shop, digest) = pushed("release-again").await;
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({})));
    for operation in ["lambda:UpdateFunctionCode", "ecs:RegisterTaskDefinition", "ecs:UpdateService", "ecs:DescribeServices"] {
        shop.proxy.fail_next(move |request| request.operation == operation, 1, Fault::LoseAnswer);
    }
    shop.release();
    assert_eq!((shop.proxy.faults_left(), times(&shop, "lambda:Invoke")), (0, 1));
    let status = shop.run(&["status"]).expect(0).stdout;
    assert!(status.contains(&digest["sha256:".len()..][..12]) && !status.contains(" ! "), "{status}");
}

#[tokio::test]
async fn a_release_of_everything_may_die_at_any_write() {
    let (shop, mut digest) = pushed("release-killed").await;
    let mut number = 0;
    loop {
        number += 1;
        shop.proxy.fail_next(is_invoke, 2, invoked(None, &serde_json::json!({})));
        let killed = shop.killed_at(number);
        let writes = shop.proxy.written();
        let pages = shop.written().iter().filter(|write| write.contains("index.html")).count();
        assert!(pages == 0 || writes.contains(&"ecs:UpdateService".to_owned()), "{writes:?}");
        if !killed {
            break;
        }
        shop.release();
        assert!(shop.body("index.html").await.unwrap().contains(&asset(u32::try_from(number).unwrap())));
        let status = shop.run(&["status"]).expect(0).stdout;
        assert_eq!(status.matches(&digest["sha256:".len()..][..12]).count(), 2, "death at write {number}: {status}");
        shop.release();
        assert_eq!(shop.proxy.written(), [""; 0], "death at write {number}");
        shop.build(u32::try_from(number).unwrap() + 1);
        shop.scene.write("api/app.py", format!("version {number}\n"));
        digest = shop.push_image().await;
    }
    assert!(number > 15, "{number}");
}

#[tokio::test]
async fn a_refused_rollout_leaves_the_page_as_it_was() {
    let (shop, _) = pushed("release-refused").await;
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({})));
    let denied = Fault::json(400, "AccessDeniedException", "User is not authorized to perform: ecs:UpdateService");
    shop.proxy.fail_next(|request| request.operation == "ecs:UpdateService", 1, denied);
    let failed = shop.run(&["release"]).expect(30);
    assert_snapshot!(shop.error(&failed), @r"
    error: service `api`: starting the rollout failed
       ecs:UpdateService release-refused/release-refused: AccessDeniedException: User is not authorized to perform: ecs:UpdateService
    hint: `release-refused:1` serves as before; the credentials need `ecs:UpdateService` on release-refused/release-refused
    ");
    assert!(shop.body("index.html").await.is_none());
    // What is migrated is not migrated again.
    shop.release();
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService")), (0, 1));
}

#[tokio::test]
async fn a_unit_that_is_named_is_released_alone_and_a_service_brings_its_migration() {
    let (shop, _) = pushed("release-unit").await;
    shop.run(&["release", "web"]).expect(0);
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService")), (0, 0));
    shop.proxy.fail_next(is_invoke, 1, invoked(None, &serde_json::json!({})));
    shop.build(2);
    shop.run(&["release", "api"]).expect(0);
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService"), shop.written().len()), (1, 1, 0));
}
