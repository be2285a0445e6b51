//! `strategy: stop`: the services of a database have no tasks while it is migrated, and get back exactly those that they had.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::migration::{answers, fails, invokes, pushed, times};
use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// A service of three tasks, whose database is migrated while it stands still.
async fn stopping(name: &str) -> Shop {
    let shop = pushed(name).await;
    shop.configure(&format!("function: {name}}}"), &format!("function: {name}, strategy: stop}}"));
    shop.seed.scale(name, name, 3).await;
    shop
}

/// What ECS was told of the service, and when the function was invoked.
fn told(shop: &Shop) -> Vec<String> {
    let one = |request: &Recorded| match request.operation.as_str() {
        "ecs:UpdateService" => {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let rolls = if body["taskDefinition"].is_null() { "" } else { "roll to " };
            Some(format!("{rolls}{}", body["desiredCount"]))
        }
        "lambda:Invoke" => Some("invoke".to_owned()),
        _ => None,
    };
    shop.proxy.requests().iter().filter_map(one).collect()
}

fn good() -> Fault {
    answers(&json!({ "applied": ["items.0002_stock"], "pending": [] }))
}

async fn remembered(shop: &Shop) -> Value {
    shop.state_json("stopped.json").await
}

#[tokio::test]
async fn services_stop_and_roll_with_the_tasks_that_they_had() {
    let shop = stopping("stop-good").await;
    let plan = shop.run(&["plan", "api"]).expect(0).stdout;
    assert!(plan.contains("    ! stops until they roll: api (3 tasks); nothing serves in between\n"), "{plan}");
    assert!(plan.contains(", started with 3 tasks\n"), "{plan}");
    shop.proxy.fail_next(invokes, 1, good());
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert!(outcome.stderr.contains("api stop: 3 tasks ended, by `strategy: stop`"), "{}", outcome.stderr);
    assert_eq!(told(&shop), ["0", "invoke", "roll to 3"]);
    assert_eq!((shop.seed.tasks("stop-good", "stop-good").await, remembered(&shop).await), (3, json!({})));
}

#[tokio::test]
async fn a_failure_before_anything_was_applied_starts_them_again() {
    let shop = stopping("stop-failed").await;
    shop.proxy.fail_next(
        invokes,
        1,
        fails("OperationalError", "connection failed: FATAL:  password authentication failed for user \"shop\""),
    );
    let outcome = shop.run(&["release", "api"]).expect(23);
    assert_snapshot!(shop.error(&outcome), @r#"
    error: migration `main` failed
       the function `stop-failed` answered OperationalError: connection failed: FATAL:  password authentication failed for user "shop"
    hint: no service was rolled and no site published: what was stopped has been started again with the old version: api (3 tasks); correct the user or the password that the migration is given (its secret), and release again
    "#);
    assert_eq!(told(&shop), ["0", "invoke", "3"]);
    assert_eq!(remembered(&shop).await, json!({}));

    // The policy may say otherwise; then the release that succeeds starts them, with the same tasks.
    shop.configure("app: shop\n", "app: shop\npolicy: {on_failed_migration: leave}\n");
    shop.proxy.fail_next(
        invokes,
        1,
        fails("OperationalError", "connection failed: FATAL:  password authentication failed for user \"shop\""),
    );
    let outcome = shop.run(&["release", "api"]).expect(23);
    assert!(
        outcome.stderr.contains("STOPPED by `strategy: stop`, and started again by the release that succeeds: api (it had 3 tasks)"),
        "{}",
        outcome.stderr
    );
    assert_eq!(told(&shop), ["0", "invoke"]);
}

#[tokio::test]
async fn a_failure_after_something_was_applied_leaves_them_stopped() {
    let shop = stopping("stop-half").await;
    let said = "items.0003_bad: relation \"nowhere\" does not exist (applied before it: items.0002_stock; still pending: items.0003_bad)";
    shop.proxy.fail_next(invokes, 1, fails("ProgrammingError", said));
    let outcome = shop.run(&["release", "api"]).expect(23);
    assert_snapshot!(shop.error(&outcome), @r#"
    error: migration `main` failed
       the function `stop-half` answered ProgrammingError: items.0003_bad: relation "nowhere" does not exist (applied before it: items.0002_stock; still pending: items.0003_bad)
    hint: no service was rolled and no site published: STOPPED by `strategy: stop`, and started again by the release that succeeds: api (it had 3 tasks); correct the migration, and release again
    "#);
    assert_eq!((told(&shop), shop.seed.tasks("stop-half", "stop-half").await), (vec!["0".to_owned(), "invoke".to_owned()], 0));
    // The next release finds none running, and does not take that for what was wanted.
    shop.proxy.fail_next(invokes, 1, good());
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(told(&shop), ["0", "invoke", "roll to 3"]);
    assert_eq!(shop.seed.tasks("stop-half", "stop-half").await, 3);
}

#[tokio::test]
async fn killed_at_any_write_the_next_run_brings_back_the_tasks() {
    // Before the fifth nothing is stopped.
    for number in 5.. {
        let name = format!("stop-killed-{number}");
        let shop = stopping(&name).await;
        shop.proxy.fail_next(invokes, 2, good());
        let killed = shop.killed_at_in(number, &["release", "api"]);
        let last = shop.proxy.written().pop();
        if killed {
            let outcome = shop.run(&["release", "api"]).expect(0);
            assert_eq!(shop.seed.tasks(&name, &name).await, 3, "killed at {number}, {last:?}:\n{}", outcome.stderr);
        }
        assert_eq!(remembered(&shop).await, json!({}), "{last:?}");
        if !killed {
            assert!(number > 10, "{number}");
            return;
        }
    }
}

#[tokio::test]
async fn a_stage_on_another_machine_starts_what_was_stopped_and_what_it_would_leave_is_refused() {
    let shop = stopping("stop-stages").await;
    let name = "stop-stages";
    shop.seed.service(name, "worker", "127.0.0.1:1/x:1").await;
    shop.configure(
        "services:\n",
        &format!(
            "services:\n  worker: {{image: {{repository: {name}/api}}, path: api, cluster: {name}, service: worker, container: web}}\n"
        ),
    );
    shop.configure("strategy: stop}", "strategy: stop, services: [worker]}");
    let refused = shop.refused(&["release", "api"], 11);
    assert_snapshot!(refused, @r"
    error: preflight refused the release; nothing was changed
       migration `main` stops `worker`, which is no part of this release and would stay stopped
    hint: release `worker` too, or everything
    ");
    shop.proxy.fail_next(invokes, 1, good());
    shop.run(&["stage", "migrations"]).expect(0);
    assert_eq!(times(&shop, "ecs:UpdateService"), 2);
    assert_eq!((shop.seed.tasks(name, name).await, shop.seed.tasks(name, "worker").await), (0, 0));
    shop.run(&["stage", "services"]).expect(0);
    assert_eq!((shop.seed.tasks(name, name).await, shop.seed.tasks(name, "worker").await), (3, 1));
}

/// Application Auto Scaling, which the local cloud does not have, as its API references say:
/// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html>,
/// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html>
/// ("If you are updating a scalable target, […] the scaling activities to suspend or resume" are those of `SuspendedState`).
fn scaled(shop: &Shop, suspended: bool) {
    let is = |operation: &'static str| move |request: &Recorded| request.operation == operation;
    let state = json!({
        "DynamicScalingInSuspended": suspended, "DynamicScalingOutSuspended": suspended, "ScheduledScalingSuspended": suspended,
    });
    let targets = json!({ "ScalableTargets": [{ "MinCapacity": 2, "MaxCapacity": 6, "SuspendedState": state }] });
    shop.proxy.fail_next(is("application-autoscaling:DescribeScalableTargets"), 1, answers(&targets));
    shop.proxy.fail_next(is("application-autoscaling:DescribeScalingPolicies"), 1, answers(&json!({ "ScalingPolicies": [{}] })));
    shop.proxy.fail_next(is("application-autoscaling:RegisterScalableTarget"), 2, answers(&json!({})));
}

/// What Application Auto Scaling and ECS were told, in their order.
fn told_of_scaling(shop: &Shop, name: &str) -> Vec<String> {
    let one = |request: &Recorded| match request.operation.as_str() {
        "application-autoscaling:RegisterScalableTarget" => {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body["ResourceId"], format!("service/{name}/{name}"));
            assert_eq!(body["ScalableDimension"], "ecs:service:DesiredCount");
            assert!(body["MinCapacity"].is_null() && body["MaxCapacity"].is_null(), "its limits stay: {body}");
            let state = body["SuspendedState"].as_object().unwrap();
            assert_eq!(state.len(), 3, "all three kinds of scaling: {body}");
            let all = |wanted: bool| state.values().all(|value| *value == wanted);
            Some(if all(true) { "suspend".to_owned() } else { format!("resume {}", all(false)) })
        }
        "ecs:UpdateService" => {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            Some(body["desiredCount"].to_string())
        }
        "lambda:Invoke" => Some("invoke".to_owned()),
        _ => None,
    };
    shop.proxy.requests().iter().filter_map(one).collect()
}

#[tokio::test]
async fn auto_scaling_is_suspended_before_the_service_stops_and_goes_on_when_it_has_rolled() {
    let shop = stopping("stop-scaled").await;
    scaled(&shop, false);
    shop.proxy.fail_next(invokes, 1, good());
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(told_of_scaling(&shop, "stop-scaled"), ["suspend", "0", "invoke", "3", "resume true"]);
    assert_eq!(remembered(&shop).await, json!({}));
}

#[tokio::test]
async fn auto_scaling_goes_on_when_a_service_is_started_again() {
    let shop = stopping("stop-scaled-failed").await;
    scaled(&shop, false);
    let refused = fails("OperationalError", "connection failed: FATAL:  password authentication failed for user \"shop\"");
    shop.proxy.fail_next(invokes, 1, refused);
    shop.run(&["release", "api"]).expect(23);
    assert_eq!(told_of_scaling(&shop, "stop-scaled-failed"), ["suspend", "0", "invoke", "3", "resume true"]);
    assert_eq!(remembered(&shop).await, json!({}));
}

#[tokio::test]
async fn auto_scaling_that_somebody_has_suspended_stays_suspended() {
    let shop = stopping("stop-scaled-off").await;
    scaled(&shop, true);
    shop.proxy.fail_next(invokes, 1, good());
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(told_of_scaling(&shop, "stop-scaled-off"), ["0", "invoke", "3"]);
}

#[tokio::test]
async fn auto_scaling_that_was_left_suspended_goes_on_with_the_next_run() {
    let shop = stopping("stop-scaled-killed").await;
    scaled(&shop, false);
    let last = |shop: &Shop| told_of_scaling(shop, "stop-scaled-killed").last().cloned();
    let killed = (1..30).find(|number| {
        shop.killed_at_in(*number, &["release", "api"]);
        last(&shop).is_some_and(|last| last == "0")
    });
    assert!(killed.is_some());
    // By now it is suspended, which is our own doing: the state says so.
    scaled(&shop, true);
    shop.proxy.fail_next(invokes, 1, good());
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(last(&shop).as_deref(), Some("resume true"));
    assert_eq!((shop.seed.tasks("stop-scaled-killed", "stop-scaled-killed").await, remembered(&shop).await), (3, json!({})));
}
