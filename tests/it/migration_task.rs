//! Migrations in ECS tasks whose end is told by a script, as ECS tells it; and snapshots of RDS before a migration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::migration::{answers, invokes, pushed, times};
use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::until;

pub(crate) const ARN: &str = "arn:aws:ecs:us-east-1:000000000000:task/shop/0123456789abcdef";

pub(crate) fn is(operation: &'static str) -> impl Fn(&Recorded) -> bool + Send + 'static {
    move |request| request.operation == operation
}

/// A service whose database is migrated by a task.
pub(crate) async fn tasked(name: &str) -> Shop {
    let shop = pushed(name).await;
    shop.configure(&format!("driver: lambda-image, from: api, function: {name}"), "driver: task, from: api");
    shop
}

/// What `RunTask` answers: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>.
pub(crate) fn started() -> Fault {
    answers(&json!({ "tasks": [{ "taskArn": ARN, "lastStatus": "PROVISIONING" }], "failures": [] }))
}

/// What `DescribeTasks` answers of a task that has stopped; one that was never started has containers without an exit code:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>.
pub(crate) fn stopped(code: Option<i32>, stop_code: &str, reason: &str, container: Option<&str>) -> Value {
    let mut web = json!({ "name": "web", "lastStatus": "STOPPED" });
    if let Some(code) = code {
        web["exitCode"] = json!(code);
    }
    if let Some(reason) = container {
        web["reason"] = json!(reason);
    }
    let task = json!({ "taskArn": ARN, "lastStatus": "STOPPED", "stopCode": stop_code, "stoppedReason": reason, "containers": [web] });
    json!({ "tasks": [task], "failures": [] })
}

fn failed(shop: &Shop, end: &Value) -> String {
    shop.proxy.fail_next(is("ecs:RunTask"), 1, started());
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(end));
    let outcome = shop.run(&["release", "api"]).expect(23);
    assert_eq!((times(shop, "ecs:RunTask"), times(shop, "ecs:UpdateService"), shop.proxy.faults_left()), (1, 0, 0));
    let error = shop.error(&outcome);
    error.split_once('\n').unwrap().1.to_owned() + "\n"
}

#[tokio::test]
async fn no_exit_code_is_no_success_and_each_end_has_its_remedy() {
    let shop = tasked("task-ends").await;
    let mut said = String::new();
    for (code, stop_code, reason, container) in [
        (None, "TaskFailedToStart", "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found", None),
        (None, "TaskFailedToStart", "ResourceInitializationError: unable to pull secrets or registry auth", None),
        (None, "SpotInterruption", "Your Spot Task was interrupted.", None),
        (
            Some(137),
            "EssentialContainerExited",
            "Essential container in task exited",
            Some("OutOfMemoryError: Container killed due to memory usage"),
        ),
        (Some(1), "EssentialContainerExited", "Essential container in task exited", None),
    ] {
        said += &failed(&shop, &stopped(code, stop_code, reason, container));
    }
    assert_snapshot!(said);
    // AWS answers with status 200 where there is no room: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
    let none = json!({ "tasks": [], "failures": [{ "arn": "arn:aws:ecs:us-east-1:0:container-instance/1", "reason": "RESOURCE:MEMORY" }] });
    shop.proxy.fail_next(is("ecs:RunTask"), 1, answers(&none));
    let outcome = shop.run(&["release", "api"]).expect(23);
    assert!(outcome.stderr.contains("RESOURCE:MEMORY") && outcome.stderr.contains("nothing was migrated"), "{}", outcome.stderr);
}

#[tokio::test]
async fn a_killed_run_is_followed_by_one_that_attaches_to_its_task() {
    let shop = tasked("task-killed").await;
    let killed = (1..30).find(|number| {
        shop.killed_at_in(*number, &["release", "api"]);
        shop.proxy.written().last().is_some_and(|last| last == "ecs:RunTask")
    });
    assert!(killed.is_some());
    let asked: Vec<Recorded> = shop.proxy.requests().into_iter().filter(|request| request.operation == "ecs:RunTask").collect();
    let asked: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(asked["clientToken"].as_str().unwrap().len(), 36);
    // It is found by what started it, and no second one is run.
    shop.proxy.fail_next(is("ecs:ListTasks"), 1, answers(&json!({ "taskArns": [ARN] })));
    let running = json!({ "tasks": [{ "taskArn": ARN, "lastStatus": "RUNNING", "containers": [{ "name": "web" }] }], "failures": [] });
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 3, answers(&running));
    let end = stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None);
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&end));
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert!(outcome.stderr.contains(&format!("following its task {ARN}")), "{}", outcome.stderr);
    assert_eq!((times(&shop, "ecs:RunTask"), times(&shop, "ecs:UpdateService")), (0, 1));
}

/// Kills a release when it asks for its task, and gives what it has asked.
fn killed_at_its_task(shop: &Shop) -> Value {
    let killed = (1..30).find(|number| {
        shop.killed_at_in(*number, &["release", "api"]);
        shop.proxy.written().last().is_some_and(|last| last == "ecs:RunTask")
    });
    assert!(killed.is_some());
    let asked = shop.proxy.requests().into_iter().find(|request| request.operation == "ecs:RunTask").unwrap();
    serde_json::from_str(&asked.body).unwrap()
}

/// What `ListTasks` answers.
pub(crate) fn listed(arns: &[&str]) -> Fault {
    answers(&json!({ "taskArns": arns }))
}

#[tokio::test]
async fn a_task_that_was_over_before_anybody_looked_is_judged_all_the_same() {
    let shop = tasked("task-quick").await;
    let asked = killed_at_its_task(&shop);
    // Those that run are listed by what started them; those that have ended by their family alone: API_ListTasks.
    shop.proxy.fail_next(is("ecs:ListTasks"), 1, listed(&[]));
    shop.proxy.fail_next(is("ecs:ListTasks"), 1, listed(&[ARN]));
    let mut end = stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None);
    end["tasks"][0]["startedBy"] = asked["startedBy"].clone();
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 2, answers(&end));
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert!(outcome.stderr.contains(&format!("following its task {ARN}")), "{}", outcome.stderr);
    assert_eq!((times(&shop, "ecs:RunTask"), times(&shop, "ecs:UpdateService"), shop.proxy.faults_left()), (0, 1, 0));
}

/// Writes into the state when the last attempt began, and which task it was.
async fn rewrite(shop: &Shop, started: time::OffsetDateTime, task: Option<&str>) -> String {
    let mut history = shop.state_json("migrations/main.json").await;
    history["last"]["started"] = started.format(&time::format_description::well_known::Rfc3339).unwrap().into();
    if let Some(task) = task {
        history["last"]["runs"] = task.into();
    }
    let key = "windlass/shop/default/migrations/main.json";
    let body = history.to_string().into_bytes().into();
    shop.seed.s3().put_object().bucket(format!("{}-state", shop.name)).key(key).body(body).send().await.unwrap();
    history["last"]["mark"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_log_of_a_task_outlives_it() {
    let name = "task-forgotten";
    let shop = Shop::site(name).await;
    let registry = crate::support::ministack::shared().registry();
    shop.add_service(registry);
    shop.configure(&format!("driver: lambda-image, from: api, function: {name}"), "driver: task, from: api");
    shop.seed.repository(&format!("{name}/api")).await;
    let digest = shop.seed.image(&format!("{name}/api"), "before").await;
    shop.seed.cluster(name).await;
    shop.seed.service_with(name, name, &format!("{registry}/{name}/api@{digest}"), &[]).await;
    shop.push_image().await;
    killed_at_its_task(&shop);
    let mark = rewrite(&shop, time::OffsetDateTime::now_utc() - time::Duration::hours(3), Some(ARN)).await;
    // ECS forgets a task about an hour after its end: API_DescribeTasks.
    let forgotten = json!({ "tasks": [], "failures": [{ "arn": ARN, "reason": "MISSING" }] });
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&forgotten));
    let end = json!({ "mark": mark, "answer": { "protocol": 1, "applied": ["items.0001_initial"], "pending": [] } });
    let events = json!({ "events": [{ "timestamp": 1, "message": format!("windlass-end {end}") }], "nextForwardToken": "f" });
    shop.proxy.fail_next(is("logs:GetLogEvents"), 1, answers(&events));
    let outcome = shop.run(&["release", "api"]).expect(0);
    assert!(outcome.stderr.contains("the earlier run had done it: applied items.0001_initial"), "{}", outcome.stderr);
    assert_eq!((times(&shop, "ecs:RunTask"), times(&shop, "ecs:UpdateService")), (0, 1));
}

#[tokio::test]
async fn an_attempt_that_has_no_task_was_never_begun() {
    let shop = tasked("task-never").await;
    killed_at_its_task(&shop);
    // A command of one's own is not repeated unless it is known that it has not run.
    shop.configure("framework: django", "framework: command, command: migrate");
    rewrite(&shop, time::OffsetDateTime::now_utc() - time::Duration::minutes(5), None).await;
    shop.proxy.fail_next(is("ecs:ListTasks"), 9, listed(&[]));
    shop.proxy.fail_next(is("ecs:RunTask"), 1, started());
    let end = stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None);
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&end));
    shop.run(&["release", "api"]).expect(0);
    assert_eq!((times(&shop, "ecs:RunTask"), times(&shop, "ecs:UpdateService")), (1, 1));
}

#[tokio::test]
async fn what_ecs_says_a_little_late_is_waited_for() {
    let shop = tasked("task-late").await;
    // "eventual consistency": https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
    shop.proxy.fail_next(is("ecs:RunTask"), 2, Fault::json(400, "ClientException", "TaskDefinition not found."));
    shop.proxy.fail_next(is("ecs:RunTask"), 1, started());
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&json!({ "tasks": [], "failures": [{ "arn": ARN, "reason": "MISSING" }] })));
    // That it has ended is known before what it has ended with.
    let early = stopped(None, "EssentialContainerExited", "Essential container in task exited", None);
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&early));
    let end = stopped(Some(0), "EssentialContainerExited", "Essential container in task exited", None);
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 1, answers(&end));
    shop.run(&["release", "api"]).expect(0);
    assert_eq!((times(&shop, "ecs:RunTask"), shop.proxy.faults_left()), (3, 0));
}

#[tokio::test]
async fn a_signal_stops_the_task_where_that_is_wanted() {
    let shop = tasked("task-abort").await;
    shop.proxy.fail_next(is("ecs:RunTask"), 1, started());
    let stops = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&stops);
    let end = move |_: u16, _: String| {
        let running = json!({ "tasks": [{ "taskArn": ARN, "lastStatus": "RUNNING", "containers": [{ "name": "web" }] }], "failures": [] });
        let over = stopped(Some(143), "UserInitiated", "windlass: the run was to end", None);
        (200, if told.load(Ordering::SeqCst) == 0 { running } else { over }.to_string())
    };
    shop.proxy.fail_next(is("ecs:DescribeTasks"), 999, Fault::Rewrite(Box::new(end)));
    let stopping = move |request: &Recorded| {
        let is_it = request.operation == "ecs:StopTask";
        stops.fetch_add(usize::from(is_it), Ordering::SeqCst);
        is_it
    };
    shop.proxy.fail_next(stopping, 1, answers(&json!({ "task": { "taskArn": ARN, "lastStatus": "RUNNING" } })));
    shop.proxy.clear();
    let running = shop.scene.start(&["release", "api", "--on-abort", "stop"]);
    until("the task is followed", || times(&shop, "ecs:DescribeTasks") >= 2);
    running.signal(Signal::TERM);
    let outcome = running.wait().expect(143);
    assert!(outcome.stderr.contains("a stop the run was to end"), "{}", outcome.stderr);
    assert_eq!((times(&shop, "ecs:StopTask"), times(&shop, "ecs:UpdateService")), (1, 0));
}

fn xml(text: &str) -> Fault {
    Fault::Answer { status: 200, headers: vec![("content-type", "text/xml".to_owned())], body: text.to_owned() }
}

/// What RDS answers: <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBSnapshots.html>.
fn snapshots(status: &str) -> Fault {
    xml(&format!(
        "<DescribeDBSnapshotsResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><DescribeDBSnapshotsResult><DBSnapshots><DBSnapshot>\
         <Status>{status}</Status><PercentProgress>40</PercentProgress></DBSnapshot></DBSnapshots></DescribeDBSnapshotsResult></DescribeDBSnapshotsResponse>"
    ))
}

#[tokio::test]
async fn a_snapshot_is_taken_first_and_without_one_nothing_is_migrated() {
    let shop = pushed("task-snapshot").await;
    shop.configure("function: task-snapshot}", "function: task-snapshot, snapshot: shop-db}");
    let instance = "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances><DBInstance><DBInstanceIdentifier>shop-db</DBInstanceIdentifier>\
                    <DBInstanceStatus>available</DBInstanceStatus></DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>";
    let absent_instance = "<ErrorResponse><Error><Type>Sender</Type><Code>DBInstanceNotFound</Code><Message>DBInstance shop-db not found.</Message></Error></ErrorResponse>";
    let missing = |times: usize| {
        let fault = Fault::Answer { status: 404, headers: vec![("content-type", "text/xml".to_owned())], body: absent_instance.to_owned() };
        shop.proxy.fail_next(is("rds:DescribeDBInstances"), times, fault);
    };
    missing(1);
    let refused = shop.refused(&["release", "api"], 11);
    assert!(refused.contains("there is no RDS instance `shop-db` to take a snapshot of"), "{refused}");

    let absent = || Fault::Answer {
        status: 404,
        headers: vec![("content-type", "text/xml".to_owned())],
        body: "<ErrorResponse><Error><Code>DBSnapshotNotFound</Code><Message>not found</Message></Error></ErrorResponse>".to_owned(),
    };
    shop.proxy.fail_next(is("rds:DescribeDBInstances"), 2, xml(instance));
    shop.proxy.fail_next(is("rds:DescribeDBSnapshots"), 1, absent());
    // It is being backed up; then an attempt whose answer was lost has begun it: API_CreateDBSnapshot, errors.
    let refused = |code: &str| Fault::Answer {
        status: 400,
        headers: vec![("content-type", "text/xml".to_owned())],
        body: format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>x</Message></Error></ErrorResponse>"),
    };
    shop.proxy.fail_next(is("rds:CreateDBSnapshot"), 1, refused("InvalidDBInstanceState"));
    shop.proxy.fail_next(is("rds:CreateDBSnapshot"), 1, refused("DBSnapshotAlreadyExists"));
    shop.proxy.fail_next(is("rds:DescribeDBSnapshots"), 1, snapshots("failed"));
    let failed = shop.run(&["release", "api"]).expect(23);
    assert!(
        failed.stderr.contains("the snapshot of `shop-db` failed") && failed.stderr.contains("nothing was migrated"),
        "{}",
        failed.stderr
    );
    assert_eq!((times(&shop, "lambda:Invoke"), times(&shop, "ecs:UpdateService")), (0, 0));

    shop.proxy.fail_next(is("rds:DescribeDBInstances"), 2, xml(instance));
    shop.proxy.fail_next(is("rds:DescribeDBSnapshots"), 1, snapshots("creating"));
    shop.proxy.fail_next(is("rds:DescribeDBSnapshots"), 1, snapshots("available"));
    shop.proxy.fail_next(invokes, 1, answers(&json!({ "applied": [] })));
    let released = shop.run(&["release", "api"]).expect(0);
    assert!(released.stderr.contains("main snapshot: windlass-main-20"), "{}", released.stderr);
    assert_eq!((times(&shop, "rds:CreateDBSnapshot"), times(&shop, "lambda:Invoke"), shop.proxy.faults_left()), (0, 1, 0));
}
