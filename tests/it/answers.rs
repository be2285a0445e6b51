//! Answers that AWS documents and that no emulator gives: late, stale, empty, of another region, or a fault for as long as it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::images::{self, is_layer, is_manifest, refusal};
use crate::migration::{answers, invokes, pushed, times};
use crate::migration_task::{ARN, is, listed, started, stopped, tasked};
use crate::migration_zip::{migrated, migrates, next_image};
use crate::shop::Shop;
use crate::support::postgres::Postgres;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::Outcome;

/// "These errors are usually caused by a server issue": <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>, 500.
fn fault() -> Fault {
    Fault::json(500, "ServerException", "Service Unavailable. Please try again later.")
}

/// `RunTask` meets a server's fault however often it is asked. Whether a task has begun, only a list of the tasks can tell.
#[tokio::test]
async fn a_task_behind_a_server_fault_is_looked_for() {
    let [begun, absent, unknown] = [tasked("answers-begun").await, tasked("answers-absent").await, tasked("answers-unknown").await];
    for shop in [&begun, &absent, &unknown] {
        shop.proxy.fail_next(is("ecs:RunTask"), 99, fault());
        shop.proxy.fail_next(is("ecs:ListTasks"), 1, listed(&[]));
    }
    // It shows late: "eventual consistency". Each look asks for those that run and for those that have ended.
    begun.proxy.fail_next(is("ecs:ListTasks"), 2, listed(&[]));
    begun.proxy.fail_next(is("ecs:ListTasks"), 1, listed(&[ARN]));
    begun.proxy.fail_next(
        is("ecs:DescribeTasks"),
        9,
        answers(&stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None)),
    );
    absent.proxy.fail_next(is("ecs:ListTasks"), 99, listed(&[]));
    unknown.proxy.fail_next(is("ecs:ListTasks"), 99, Fault::json(400, "AccessDeniedException", "not authorized to perform: ecs:ListTasks"));
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let runs = [(&begun, 0), (&absent, 23), (&unknown, 24)]
            .map(|(shop, exit)| scope.spawn(move || shop.run(&["release", "api"]).expect(exit)));
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(outcomes[0].stderr.contains("main migrate: "), "{}", outcomes[0].stderr);
    assert!(
        outcomes[1].stderr.contains("its task could not be started") && outcomes[1].stderr.contains("nothing was migrated"),
        "{}",
        outcomes[1].stderr
    );
    assert!(outcomes[2].stderr.contains("what came of it is not known"), "{}", outcomes[2].stderr);
    assert_eq!([&begun, &absent, &unknown].map(|shop| times(shop, "ecs:UpdateService")), [1, 0, 0]);
    // Every attempt was the same one: "clientToken: An identifier that you provide to ensure the idempotency of the request."
    let tokens: std::collections::BTreeSet<String> = begun
        .proxy
        .requests()
        .iter()
        .filter(|request| request.operation == "ecs:RunTask")
        .map(|request| serde_json::from_str::<Value>(&request.body).unwrap()["clientToken"].to_string())
        .collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
}

/// A service on hosts of its own may say which of them: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>,
/// `placementConstraints`, `placementStrategy`.
#[tokio::test]
async fn a_task_runs_where_its_service_may_run() {
    let shop = tasked("answers-hosts").await;
    let on_hosts = |status: u16, body: String| {
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        for service in answer["services"].as_array_mut().into_iter().flatten() {
            service["launchType"] = json!("EC2");
            service["placementConstraints"] = json!([{"type": "memberOf", "expression": "attribute:zone == shop"}]);
            service["placementStrategy"] = json!([]);
        }
        (status, answer.to_string())
    };
    shop.proxy.fail_next(is("ecs:DescribeServices"), 9, Fault::Rewrite(Box::new(on_hosts)));
    shop.proxy.fail_next(is("ecs:RunTask"), 1, started());
    shop.proxy.fail_next(
        is("ecs:DescribeTasks"),
        1,
        answers(&stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None)),
    );
    shop.run(&["release", "api"]).expect(0);
    let asked = shop.proxy.requests().into_iter().find(|request| request.operation == "ecs:RunTask").unwrap();
    let asked: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&asked["launchType"], &asked["placementConstraints"][0]["type"]), (&json!("EC2"), &json!("memberOf")), "{asked}");
    assert!(asked["placementStrategy"].is_null(), "{asked}");
}

/// Rewrites what Lambda says of the function: `before` until its code is updated, then `after` for so many answers.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html>
fn told(shop: &Shop, before: &'static [(&'static str, &'static str)], after: &'static [(&'static str, &'static str)], stale: usize) {
    let (updated, left) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(stale));
    let seen = Arc::clone(&updated);
    let rewrite = move |status: u16, body: String| {
        let fields = match seen.load(Ordering::SeqCst) {
            false => before,
            true if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() => after,
            true => &[],
        };
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        for (name, value) in fields {
            answer["Configuration"][*name] = json!(value);
        }
        (status, answer.to_string())
    };
    let looks = move |request: &Recorded| {
        updated.fetch_or(request.operation == "lambda:UpdateFunctionCode", Ordering::SeqCst);
        request.operation == "lambda:GetFunction"
    };
    shop.proxy.fail_next(looks, 99, Fault::Rewrite(Box::new(rewrite)));
}

const FAILED: &[(&str, &str)] = &[("LastUpdateStatus", "Failed"), ("LastUpdateStatusReason", "The image of last week is gone.")];

#[tokio::test]
async fn a_failure_of_an_earlier_update_is_not_taken_for_ours() {
    // What it says of the update before lags behind.
    let stale = pushed("answers-stale").await;
    told(&stale, FAILED, FAILED, 5);
    // Its state is that of the update before as long as another is under way.
    let under_way = pushed("answers-state").await;
    told(&under_way, &[("State", "Failed")], &[("State", "Failed"), ("LastUpdateStatus", "InProgress")], 5);
    for shop in [&stale, &under_way] {
        shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": [] })));
        shop.run(&["release", "api"]).expect(0);
        assert_eq!((times(shop, "lambda:UpdateFunctionCode"), times(shop, "ecs:UpdateService")), (1, 1));
    }
    // One that goes on failing has failed.
    let failed = pushed("answers-failed").await;
    told(&failed, FAILED, FAILED, 99);
    let outcome = failed.run(&["release", "api"]).expect(23);
    let said = failed.error(&outcome);
    assert!(said.contains("could not be updated") && said.contains("The image of last week is gone."), "{said}");
    assert_eq!((times(&failed, "lambda:Invoke"), times(&failed, "ecs:UpdateService")), (0, 0));
}

/// `InvalidParameterValueException`: <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html>
#[tokio::test]
async fn an_image_that_lambda_does_not_see_yet_is_waited_for() {
    let shop = pushed("answers-unseen").await;
    let message =
        "Source image 000000000000.dkr.ecr.us-east-1.amazonaws.com/shop/api@sha256:1 does not exist. Provide a valid source image.";
    shop.proxy.fail_next(is("lambda:UpdateFunctionCode"), 2, Fault::json(400, "InvalidParameterValueException", message));
    shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": [] })));
    shop.run(&["release", "api"]).expect(0);
    assert_eq!((times(&shop, "lambda:UpdateFunctionCode"), shop.proxy.faults_left()), (3, 0));
}

/// A handler of windlass's always answers. Where its answer is empty, by a proxy or a runtime in between, nobody knows what it has done.
#[tokio::test]
async fn an_empty_answer_of_windlasss_own_handler_is_no_success() {
    let postgres = Postgres::start();
    let (url, _) = postgres.database("orders");
    let shop = crate::migration_zip::shop("answers-empty", "prisma", "").await;
    shop.seed
        .function_zip("answers-empty", "nodejs20.x", "index.handler", &crate::migration_zip::zip(&[]), &[("DATABASE_URL", &url)])
        .await;
    shop.scene
        .write(
            "api/prisma/schema.prisma",
            "datasource db {\n  provider = \"postgresql\"\n  url = env(\"DATABASE_URL\")\n}\nmodel Order {\n  id Int @id\n}\n",
        )
        .write("api/prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n")
        .write("api/prisma/migrations/20260101000000_init/migration.sql", "CREATE TABLE \"Order\" (\"id\" INTEGER PRIMARY KEY);\n");
    shop.push_image().await;
    // It has migrated: its log, or the database, says so.
    shop.proxy.fail_next(migrates, 1, Fault::Rewrite(Box::new(|status, _| (status, String::new()))));
    let found = shop.run(&["release", "api"]).expect(0);
    assert!(found.stderr.contains("its answer is empty"), "{}", found.stderr);
    assert_eq!((migrated(&shop), times(&shop, "ecs:UpdateService")), (1, 1));
    assert_eq!(postgres.query("orders", "SELECT count(*) FROM \"Order\""), "0");
    // It has never run.
    shop.scene.write("api/prisma/migrations/20260102000000_more/migration.sql", "CREATE TABLE more (id INTEGER);\n");
    next_image(&shop, 2).await;
    shop.proxy.fail_next(migrates, 1, Fault::Answer { status: 200, headers: vec![], body: "null".to_owned() });
    let failed = shop.run(&["release", "api"]).expect(23);
    assert!(
        shop.error(&failed).contains("its migrations are not all applied") || failed.stderr.contains("never came to its end"),
        "{}",
        failed.stderr
    );
    assert_eq!((migrated(&shop), times(&shop, "ecs:UpdateService")), (1, 0));
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(postgres.query("orders", "SELECT to_regclass('more')"), "more");
}

/// `ImageNotFoundException`: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>
#[tokio::test]
async fn an_image_that_ecr_does_not_list_yet_is_waited_for_and_not_for_ever() {
    for (name, unknown, exit) in [("answers-listed", 2, 0), ("answers-unlisted", 99, 22)] {
        let (_images, shop) = images::shop(name, true).await;
        let is_pushed = AtomicBool::new(false);
        let unlisted = move |request: &Recorded| {
            is_pushed.fetch_or(is_manifest(request), Ordering::SeqCst) && request.operation == "ecr:DescribeImages"
        };
        let absent = "The image with imageId {imageDigest:'null', imageTag:'x'} does not exist within the repository.";
        shop.proxy.fail_next(unlisted, unknown, Fault::json(400, "ImageNotFoundException", absent));
        let outcome = shop.run(&["stage", "images"]).expect(exit);
        if exit == 0 {
            assert_eq!(shop.proxy.faults_left(), 0);
            continue;
        }
        let said = shop.error(&outcome);
        assert!(said.contains("but the registry has nothing") && said.contains("hint: does `registry` name"), "{said}");
        assert!((3..=9).contains(&(99 - shop.proxy.faults_left())), "{}", shop.proxy.faults_left());
    }
}

/// A bucket that is elsewhere: 301 with a header, and 400 where the signature is for another region. A HEAD has no body that would say so.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>, `x-amz-bucket-region`;
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, `PermanentRedirect`
#[tokio::test]
async fn a_bucket_of_another_region_is_told_with_its_region() {
    for (name, status) in [("answers-301", 301), ("answers-400", 400)] {
        let shop = Shop::site(name).await;
        let of_bucket = move |request: &Recorded| request.path.starts_with(&format!("/{name}-web"));
        let region = || ("x-amz-bucket-region", "eu-west-1".to_owned());
        let head = Fault::Answer { status, headers: vec![region()], body: String::new() };
        shop.proxy.fail_next(move |request| request.method == "HEAD" && of_bucket(request), 99, head);
        let code = if status == 301 { "PermanentRedirect" } else { "AuthorizationHeaderMalformed" };
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>elsewhere</Message></Error>");
        let get = Fault::Answer { status, headers: vec![region(), ("content-type", "application/xml".to_owned())], body };
        let gets = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&gets);
        shop.proxy.fail_next(move |request| on.load(Ordering::SeqCst) && request.method == "GET" && of_bucket(request), 99, get);
        let refused = shop.refused(&["release"], 11);
        assert!(refused.contains("the bucket is in eu-west-1") && refused.contains("; the bucket is in another region"), "{refused}");
        // By a HEAD alone: where a role may not ask whether the bucket is public.
        gets.store(false, Ordering::SeqCst);
        let asks = move |request: &Recorded| request.query.contains("publicAccessBlock") && of_bucket(request);
        shop.proxy.fail_next(asks, 9, Fault::xml(403, "AccessDenied", "Access Denied"));
        let refused = shop.refused(&["release"], 11);
        assert!(refused.contains("the bucket is in eu-west-1") && refused.contains("; the bucket is in another region"), "{refused}");
    }
}

/// The engine itself sends a layer five times, over 50 s, where the registry answers with a 5xx: windlass asks it no more than twice.
#[tokio::test]
async fn a_layer_that_is_answered_500_without_end_ends_the_push() {
    let (_images, shop) = images::shop("answers-layer", true).await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let rule = move |request: &Recorded| is_down.load(Ordering::SeqCst) && is_layer(request);
    shop.proxy.fail_next(rule, usize::MAX >> 8, refusal(500, "UNKNOWN", "unknown error"));
    let outcome = shop.run(&["stage", "images"]).expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("pushing to") && said.contains("500"), "{said}");
    assert!(said.contains("hint: nothing live has changed; run again: layers that have arrived are not sent again"), "{said}");
    assert!((1..=3).contains(&outcome.stderr.matches("trying again").count()), "{}", outcome.stderr);
    down.store(false, Ordering::SeqCst);
    shop.run(&["stage", "images"]).expect(0);
}
