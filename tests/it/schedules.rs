//! What starts tasks of a service's family beside the service: rules and schedules follow on request, and revisions that something names
//! stay registered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::shop::Shop;
use crate::support::ministack;
use crate::support::proxy::Fault;
use crate::support::seed::ACCOUNT;

/// Asks the local cloud, past the proxy, what no SDK here knows. `service` is what the request is signed for.
fn ask(service: &str, method: &str, path: &str, target: &str, body: &Value) -> Value {
    let (address, body) = (ministack::shared().registry(), body.to_string());
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\nAuthorization: \
         AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{answer}");
    // Chunks stand between lines of their lengths.
    let content: String = if head.to_lowercase().contains("transfer-encoding: chunked") {
        content.lines().skip(1).step_by(2).collect()
    } else {
        content.to_owned()
    };
    serde_json::from_str(&content).unwrap_or(Value::Null)
}

fn events(action: &str, body: &Value) -> Value {
    ask("events", "POST", "/", &format!("AWSEvents.{action}"), body)
}

/// A rule with these targets: id and task definition.
fn rule(cluster: &str, name: &str, targets: &[(&str, &str)]) {
    events("PutRule", &json!({"Name": name, "ScheduleExpression": "rate(1 day)"}));
    let target = |(id, revision): &(&str, &str)| {
        json!({
            "Id": id, "Arn": arn(cluster), "RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/events"), "Input": "{\"containerOverrides\":[]}",
            "EcsParameters": {"TaskDefinitionArn": revision, "TaskCount": 1, "OfNextYear": {"deep": [1]}},
        })
    };
    let targets: Vec<Value> = targets.iter().map(target).collect();
    events("PutTargets", &json!({"Rule": name, "Targets": targets}));
}

fn arn(cluster: &str) -> String {
    format!("arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/{cluster}")
}

fn target(rule: &str, id: &str) -> Value {
    let targets = events("ListTargetsByRule", &json!({"Rule": rule}));
    targets["Targets"].as_array().unwrap().iter().find(|target| target["Id"] == id).unwrap().clone()
}

fn revision(value: &Value) -> &str {
    value["EcsParameters"]["TaskDefinitionArn"].as_str().unwrap()
}

#[tokio::test]
async fn scheduled_tasks_follow_their_service_there_and_back() {
    let name = "scheduled";
    let shop = Shop::whole(name).await;
    shop.configure("migrations:\n  main: {framework: django, driver: lambda-image, from: api, function: scheduled}\n", "");
    shop.push_image().await;
    shop.release();
    let first = shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned();
    let family = first.rsplit_once(':').unwrap().0.to_owned();
    let other = shop.seed.revision("scheduled-other", "registry.example/other:1").await;
    rule(name, "scheduled-nightly", &[("tidy", &first), ("other", &other), ("newest", &family)]);
    let schedule = json!({
        "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Description": "kept",
        "Target": {"Arn": arn(name), "RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/s"), "EcsParameters": {"TaskDefinitionArn": first, "TaskCount": 2}},
    });
    ask("scheduler", "POST", "/schedules/scheduled-hourly", "", &schedule);

    // Nobody has asked for it: they stay.
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.configure("    container: web\n", "    container: web\n    scheduled_tasks: follow\n");
    shop.scene.write("api/app.py", "2\n").commit(5);
    shop.push_image().await;
    let plan = shop.run(&["plan"]).expect(0).stdout;
    assert_eq!(plan.matches("    ~ scheduled task scheduled-").count(), 2, "{plan}");
    shop.release();
    let second = shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let tidy = target("scheduled-nightly", "tidy");
    assert_eq!(
        (revision(&tidy), &tidy["EcsParameters"]["OfNextYear"], &tidy["EcsParameters"]["TaskCount"]),
        (&*second, &json!({"deep": [1]}), &json!(1))
    );
    assert_eq!(tidy["Input"], "{\"containerOverrides\":[]}");
    assert_eq!(revision(&target("scheduled-nightly", "other")), other);
    assert_eq!(revision(&target("scheduled-nightly", "newest")), family);
    let hourly = ask("scheduler", "GET", "/schedules/scheduled-hourly", "", &Value::Null);
    assert_eq!(
        (revision(&hourly["Target"]), &hourly["Description"], &hourly["Target"]["EcsParameters"]["TaskCount"]),
        (&*second, &json!("kept"), &json!(2))
    );
    shop.release();
    // The proxy knows no names of the scheduler's actions.
    assert!(shop.proxy.written().iter().all(|written| written == "scheduler:GET"), "they follow already: {:?}", shop.proxy.written());

    // One that was put back by hand is a reason for a run, though not to roll.
    rule(name, "scheduled-nightly", &[("tidy", &first)]);
    shop.release();
    assert_eq!(shop.proxy.written().iter().filter(|written| written.starts_with("ecs:")).count(), 0);
    assert_eq!(revision(&target("scheduled-nightly", "tidy")), second);

    // And back with the service.
    shop.run(&["rollback"]).expect(0);
    assert_eq!(revision(&target("scheduled-nightly", "tidy")), first);
    assert_eq!(revision(&ask("scheduler", "GET", "/schedules/scheduled-hourly", "", &Value::Null)["Target"]), first);
}

/// Where one service fails and the policy brings the others back, what follows them goes back too.
#[tokio::test]
async fn scheduled_tasks_go_back_with_a_service_that_is_brought_back() {
    let name = "scheduled-back";
    let shop = Shop::whole(name).await;
    shop.configure(&format!("migrations:\n  main: {{framework: django, driver: lambda-image, from: api, function: {name}}}\n"), "");
    shop.push_image().await;
    shop.release();
    let first = shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned();
    rule(name, "scheduled-back-nightly", &[("tidy", &first)]);
    let schedule = json!({
        "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": arn(name), "RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/s"), "EcsParameters": {"TaskDefinitionArn": first}},
    });
    ask("scheduler", "POST", "/schedules/scheduled-back-hourly", "", &schedule);
    let worker = format!("registry.example/worker@sha256:{}", "1".repeat(64));
    shop.seed.service(name, "scheduled-back-worker", &worker).await;
    let next = format!("registry.example/worker@sha256:{}", "2".repeat(64));
    let service = format!(
        "services:\n  worker: {{image: \"{next}\", cluster: {name}, service: scheduled-back-worker, container: web, after: [api]}}\n"
    );
    shop.configure("services:\n", &service);
    shop.configure("    container: web\n", "    container: web\n    scheduled_tasks: follow\n");
    let config = std::fs::read_to_string(shop.scene.project().join("windlass.yml")).unwrap();
    shop.scene.write("windlass.yml", config + "policy: {on_failure: rollback_all}\n");
    shop.scene.write("api/app.py", "2\n").commit(5);
    shop.push_image().await;
    let rolls_worker = |request: &crate::support::request::Recorded| {
        request.operation == "ecs:UpdateService" && request.body.contains("scheduled-back-worker")
    };
    shop.proxy.fail_next(rolls_worker, 1, Fault::json(400, "InvalidParameterException", "no"));
    let failed = shop.run(&["release"]).expect(30);
    assert_eq!(failed.stderr.matches("api reschedule").count(), 2, "there and back:\n{}", failed.stderr);
    let hourly = || ask("scheduler", "GET", "/schedules/scheduled-back-hourly", "", &Value::Null);
    assert_eq!(revision(&target("scheduled-back-nightly", "tidy")), first);
    assert_eq!(revision(&hourly()["Target"]), first);
    assert_eq!(shop.state_json("live.json").await["services"]["api"]["revision"], first.as_str());
    // The same command brings all of it.
    shop.release();
    let second = shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned();
    assert_ne!(second, first);
    assert_eq!((revision(&target("scheduled-back-nightly", "tidy")), revision(&hourly()["Target"])), (&*second, &*second));
}

#[tokio::test]
async fn a_revision_that_a_record_names_stays_registered() {
    let shop = Shop::whole("kept-revisions").await;
    shop.configure("migrations:\n  main: {framework: django, driver: lambda-image, from: api, function: kept-revisions}\n", "");
    let mut named = Vec::new();
    for version in 1..=3 {
        shop.scene.write("api/app.py", format!("{version}\n")).commit(version + 4);
        shop.push_image().await;
        shop.release();
        named.push(shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned());
    }
    // What nobody has released goes, as soon as the policy says how many stay.
    let nobodys = shop.seed.revision("kept-revisions", "registry.example/nobody:1").await;
    let config = std::fs::read_to_string(shop.scene.project().join("windlass.yml")).unwrap();
    shop.scene.write("windlass.yml", config + "policy: {keep_revisions: 1}\n");
    shop.scene.write("api/app.py", "4\n").commit(8);
    shop.push_image().await;
    shop.release();
    let gone: Vec<String> = shop
        .proxy
        .writes()
        .into_iter()
        .filter(|request| request.operation == "ecs:DeregisterTaskDefinition")
        .map(|request| serde_json::from_str::<Value>(&request.body).unwrap()["taskDefinition"].as_str().unwrap().to_owned())
        .collect();
    assert!(gone.contains(&nobodys), "{gone:?}");
    assert!(gone.iter().all(|revision| !named.contains(revision)), "{gone:?} of {named:?}");
    // Each of them can be gone back to.
    let oldest = shop.run(&["history", "--format", "json"]).expect(0).stdout;
    let oldest: Value = serde_json::from_str(&oldest).unwrap();
    let oldest = oldest.as_array().unwrap().last().unwrap()["release"].as_str().unwrap().to_owned();
    shop.run(&["rollback", &oldest]).expect(0);
    assert_eq!(shop.state_json("live.json").await["services"]["api"]["revision"], named[0].as_str());
}
