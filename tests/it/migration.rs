//! Migrations without a container: which version is invoked, and what is done when the answer is lost.

use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::Outcome;

pub(crate) fn answers(body: &Value) -> Fault {
    Fault::Answer { status: 200, headers: vec![], body: body.to_string() }
}

/// What Lambda answers when the function fails: <https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html>.
pub(crate) fn fails(kind: &str, message: &str) -> Fault {
    let body = json!({ "errorType": kind, "errorMessage": message });
    Fault::Answer { status: 200, headers: vec![("x-amz-function-error", "Unhandled".to_owned())], body: body.to_string() }
}

pub(crate) fn invokes(request: &Recorded) -> bool {
    request.operation == "lambda:Invoke"
}

pub(crate) fn times(shop: &Shop, operation: &str) -> usize {
    shop.proxy.requests().iter().filter(|request| request.operation == operation).count()
}

pub(crate) async fn pushed(name: &str) -> Shop {
    let shop = Shop::whole(name).await;
    shop.push_image().await;
    shop
}

/// A run in which the function fails, and no service rolls.
pub(crate) fn failed(shop: &Shop, fault: Fault, exit: i32) -> String {
    shop.proxy.fail_next(invokes, 1, fault);
    let outcome = shop.run(&["release", "api"]).expect(exit);
    assert_eq!((times(shop, "lambda:Invoke"), times(shop, "ecs:UpdateService"), shop.proxy.faults_left()), (1, 0, 0));
    shop.error(&outcome)
}

#[tokio::test]
async fn a_version_is_published_and_that_version_is_invoked() {
    let shop = pushed("migration-version").await;
    shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": [] })));
    shop.run(&["release", "api"]).expect(0);
    let writes: Vec<Recorded> = shop.proxy.writes().into_iter().filter(|request| request.operation.starts_with("lambda:")).collect();
    let operations: Vec<&str> = writes.iter().map(|request| request.operation.as_str()).collect();
    assert_eq!(operations, ["lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:Invoke"]);
    assert_eq!(writes[2].query, "Qualifier=1");
    let event: Value = serde_json::from_str(&writes[2].body).unwrap();
    assert_eq!(event["action"], "migrate");
    assert!(event["mark"].as_str().unwrap().ends_with("/main/1"), "{event}");
}

#[tokio::test]
async fn what_was_refused_before_it_ran_is_tried_again() {
    let shop = pushed("migration-refused").await;
    // A version that was published a moment ago.
    shop.proxy.fail_next(invokes, 1, Fault::json(404, "ResourceNotFoundException", "Function not found: migration-refused:1"));
    // "429: The request throughput limit was exceeded": https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    shop.proxy.fail_next(invokes, 1, Fault::json(429, "TooManyRequestsException", "Rate Exceeded."));
    // "409: The resource already exists, or another operation is in progress."
    shop.proxy.fail_next(invokes, 1, Fault::json(409, "ResourceConflictException", "The function is being updated."));
    // "502: The function is inactive and its VPC connection is no longer available. Wait for the VPC connection to reestablish and try again."
    shop.proxy.fail_next(invokes, 1, Fault::json(502, "ResourceNotReadyException", "The function is inactive."));
    // "409: Lambda is initializing your function. You can invoke the function when the function state becomes Active."
    shop.proxy.fail_next(invokes, 1, Fault::json(409, "SnapStartNotReadyException", "Lambda is initializing your function."));
    shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": ["items.0001_initial"] })));
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert_eq!((times(&shop, "lambda:Invoke"), shop.proxy.faults_left()), (6, 0));
    assert!(outcome.stderr.contains("Lambda had no room for the migration"), "{}", outcome.stderr);
}

#[tokio::test]
async fn what_lambda_may_not_do_is_no_unknown_outcome() {
    let shop = pushed("migration-denied").await;
    let denied = Fault::json(403, "AccessDeniedException", "User is not authorized to perform: lambda:InvokeFunction");
    let error = failed(&shop, denied, 23);
    assert_snapshot!(error, @r"
    error: migration `main`: invoking the function `migration-denied` failed
       lambda:InvokeFunction migration-denied: AccessDeniedException: User is not authorized to perform: lambda:InvokeFunction
    hint: nothing was migrated; no service was rolled and no site published: the old version serves; the credentials need `lambda:InvokeFunction` on migration-denied
    ");
}

/// The log of a function whose answer was lost, as its handler and Lambda write it.
fn log(shop: &Shop, last: &'static str) {
    log_while(shop, Fault::LoseAnswer, last);
}

/// The log of a function to whose invocation this happens.
fn log_while(shop: &Shop, happens: Fault, last: &'static str) {
    let found = |request: &Recorded| request.operation == "logs:FilterLogEvents";
    shop.proxy.fail_next(
        found,
        9,
        Fault::Rewrite(Box::new(|_, _| (200, json!({ "events": [{ "logStreamName": "s", "message": "x" }] }).to_string()))),
    );
    let mark = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = std::sync::Arc::clone(&mark);
    let note = move |request: &Recorded| {
        if invokes(request) {
            let event: Value = serde_json::from_str(&request.body).unwrap();
            *seen.lock().unwrap() = event["mark"].as_str().unwrap().to_owned();
        }
        invokes(request)
    };
    shop.proxy.fail_next(note, 1, happens);
    let page = |request: &Recorded| request.operation == "logs:GetLogEvents";
    let answer = move |_: u16, _: String| {
        let mark = mark.lock().unwrap();
        let start = format!("windlass-start {}", json!({ "mark": *mark, "request": "r1" }));
        let last = last.replace("MARK", &mark);
        let events: Vec<Value> =
            [&start, "Applying items.0001_initial... OK", &last].iter().map(|line| json!({ "message": line })).collect();
        (200, json!({ "events": events, "nextForwardToken": "f/1" }).to_string())
    };
    shop.proxy.fail_next(page, 9, Fault::Rewrite(Box::new(answer)));
}

fn lost(shop: &Shop, exit: i32) -> Outcome {
    let outcome = shop.run(&["release", "api"]).expect(exit);
    assert_eq!(times(shop, "lambda:Invoke"), 1, "{}", outcome.stderr);
    outcome
}

#[tokio::test]
async fn what_a_function_says_is_shown_before_it_answers() {
    let shop = pushed("migration-live").await;
    log_while(&shop, Fault::Delay(Duration::from_mins(2)), "Applying items.0002_price...");
    shop.proxy.clear();
    let running = shop.scene.start(&["release", "api"]);
    running.until_says("main | Applying items.0001_initial... OK");
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(times(&shop, "lambda:Invoke"), 1);
}

#[tokio::test]
async fn a_lost_answer_is_found_in_the_log() {
    let shop = pushed("migration-log").await;
    log(&shop, r#"windlass-end {"mark": "MARK", "answer": {"protocol": 0, "applied": ["items.0001_initial"], "pending": []}}"#);
    let outcome = lost(&shop, 0);
    assert!(outcome.stderr.contains("Applying items.0001_initial... OK"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("migrate: applied items.0001_initial"), "{}", outcome.stderr);
    assert_eq!(times(&shop, "ecs:UpdateService"), 1);
}

#[tokio::test]
async fn a_lost_failure_is_found_in_the_log() {
    let shop = pushed("migration-log-failed").await;
    log(
        &shop,
        r#"windlass-end {"mark": "MARK", "error": {"errorType": "ProgrammingError", "errorMessage": "column price does not exist"}}"#,
    );
    let outcome = lost(&shop, 23);
    assert!(outcome.stderr.contains("ProgrammingError: column price does not exist"), "{}", outcome.stderr);
    assert_eq!(times(&shop, "ecs:UpdateService"), 0);
}

#[tokio::test]
async fn a_lost_timeout_is_found_in_the_log() {
    let shop = pushed("migration-log-timeout").await;
    log(&shop, "REPORT RequestId: r1\tDuration: 900000.00 ms\tStatus: timeout");
    let outcome = lost(&shop, 23);
    assert!(outcome.stderr.contains("give the function more time"), "{}", outcome.stderr);
}

#[tokio::test]
async fn an_attempt_that_was_cut_off_is_looked_into_before_there_is_another() {
    let shop = pushed("migration-killed").await;
    let killed = (1..20).find(|number| {
        shop.killed_at(*number);
        shop.proxy.written().last().is_some_and(|last| last == "lambda:Invoke")
    });
    assert!(killed.is_some());
    shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": [] })));
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert!(outcome.stderr.contains("was cut off; looking for what came of it"), "{}", outcome.stderr);
}
