//! Several services at once on a scripted ECS: in their order, few calls for all, and what becomes of the others when one fails.

use crate::rollouts::{project, redacted};
use crate::support::scripted::Scripted;

const NINE: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn nine(scenario: &str) -> Vec<(&'static str, String)> {
    NINE.iter().enumerate().map(|(number, name)| (*name, format!("service: {scenario}-{number}"))).collect()
}

fn borrowed<'a>(services: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    services.iter().map(|(name, body)| (*name, body.as_str())).collect()
}

#[test]
fn nine_services_roll_at_once_with_few_calls() {
    let ecs = Scripted::start(0.0);
    let services = nine("ok");
    project(&ecs, &borrowed(&services), "").windlass(&["release"]).expect(0);
    let calls: Vec<String> = ecs.calls().into_iter().map(|(action, _)| action).collect();
    let count = |action: &str| calls.iter().filter(|called| *called == action).count();
    assert_eq!((count("RegisterTaskDefinition"), count("UpdateService"), count("DescribeTaskDefinition")), (9, 9, 9));
    // One look for all of them: before, and one every 1.2 s while they roll, however long that takes on this machine.
    let (told, looks) = (ecs.times_of("UpdateService"), ecs.times_of("DescribeServices"));
    let most = 6.0 + (looks[looks.len() - 1] - told[0]) / 0.9;
    assert!(f64::from(u32::try_from(looks.len()).unwrap()) <= most, "more than {most}: {calls:?}");
}

#[test]
fn nine_services_are_right_where_three_calls_in_ten_are_throttled() {
    let ecs = Scripted::start(0.3);
    let services = nine("ok");
    project(&ecs, &borrowed(&services), "").windlass(&["release"]).expect(0);
    let failing = nine("crash-breaker");
    project(&ecs, &borrowed(&failing), "").windlass(&["release"]).expect(30);
}

#[test]
fn what_is_after_a_failure_does_not_begin() {
    let ecs = Scripted::start(0.0);
    let services = [("db", "service: ok-1"), ("api", "service: crash-breaker-1, after: [db]"), ("web", "service: ok-2, after: [api]")];
    let outcome = project(&ecs, &services, "").windlass(&["release"]).expect(34);
    insta::assert_snapshot!("mixed", redacted(&outcome, &ecs));
    let order: Vec<_> =
        ecs.calls().into_iter().filter(|(action, _)| action == "UpdateService").map(|(_, asked)| asked["service"].clone()).collect();
    assert_eq!(order, ["ok-1", "crash-breaker-1"]);
}

#[test]
fn the_others_go_back_too_where_the_policy_says_so() {
    let ecs = Scripted::start(0.0);
    let services = [("db", "service: ok-1"), ("api", "service: crash-breaker-1, after: [db]")];
    let outcome = project(&ecs, &services, "policy: {on_failure: rollback_all}\n").windlass(&["release"]).expect(30);
    insta::assert_snapshot!("rollback-all", redacted(&outcome, &ecs));
    let last = ecs.calls_of("UpdateService", "ok-1").pop().unwrap();
    assert!(last["taskDefinition"].as_str().unwrap().ends_with("/ok-1:1"), "{last}");
}

#[test]
fn only_so_many_roll_at_once() {
    let ecs = Scripted::start(0.0);
    let services = [("a", "service: ok@1"), ("b", "service: daemon@1.1"), ("c", "service: sidecar@1.2")];
    project(&ecs, &services, "policy: {services_at_once: 1}\n").windlass(&["release"]).expect(0);
    let calls = ecs.calls();
    let update = |name: &str| calls.iter().position(|(action, asked)| action == "UpdateService" && asked["service"] == name).unwrap();
    let looks = |from: usize, to: usize| calls[from..to].iter().filter(|(action, _)| action == "DescribeServices").count();
    assert!(looks(update("ok@1"), update("daemon@1.1")) > 0 && looks(update("daemon@1.1"), update("sidecar@1.2")) > 0);
}
