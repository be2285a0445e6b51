//! Runs of one release one after the other: what an earlier one has brought counts as the release's, whoever killed it.

use rustix::process::Signal;

use crate::rollouts::project;
use crate::support::ministack;
use crate::support::scene::{Scene, until};
use crate::support::scripted::Scripted;
use crate::support::seed::Seed;

/// As [`project`], with a state.
pub(crate) async fn kept(name: &str, ecs: &Scripted, services: &[(&str, &str)], policy: &str) -> Scene {
    let cloud = ministack::shared().url();
    Seed::new(cloud).bucket(name).await;
    let mut scene = project(ecs, services, policy);
    scene.set("AWS_ENDPOINT_URL_S3", cloud);
    let config = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    scene.write("windlass.yml", config.replace("state: none", &format!("state: s3://{name}/w")));
    scene
}

/// The revision that a service is told to run last.
pub(crate) fn told(ecs: &Scripted, service: &str) -> String {
    let last = ecs.calls_of("UpdateService", service).pop().unwrap();
    last["taskDefinition"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn all_that_a_killed_run_has_brought_goes_back_with_what_fails() {
    let ecs = Scripted::start(0.0);
    let services = [("db", "service: ok-41@0.3"), ("api", "service: crash-breaker-41@2, after: [db]")];
    let scene = kept("orders-killed", &ecs, &services, "policy: {on_failure: rollback_all}\n").await;
    let running = scene.start(&["release"]);
    until("the second service rolls", || !ecs.calls_of("UpdateService", "crash-breaker-41@2").is_empty());
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(told(&ecs, "ok-41@0.3"), "ok-41@0.3:2");
    let again = scene.windlass(&["release", "--lock-wait", "10m"]).expect(30);
    assert!(again.stderr.contains(", run 2"), "{}", again.stderr);
    assert_eq!(told(&ecs, "ok-41@0.3"), "ok-41@0.3:1", "{}", again.stderr);
    assert!(again.stderr.contains("services    db roll back: ok-41@0.3:1 serves again"), "{}", again.stderr);
    let live = again.stderr.lines().find(|line| line.starts_with("live        db ")).unwrap();
    assert!(live.contains("  ok-41@0.3:1, still"), "{live}");
    let history = scene.windlass(&["history"]).expect(0).stdout;
    assert!(history.contains("db rolled back"), "{history}");
}

#[tokio::test]
async fn what_a_run_has_left_new_goes_back_with_a_later_one_of_the_release() {
    let ecs = Scripted::start(0.0);
    let services = [("db", "service: ok-42@0.3"), ("api", "service: crash-breaker-42, after: [db]")];
    let scene = kept("orders-mixed", &ecs, &services, "").await;
    let mixed = scene.windlass(&["release"]).expect(34).stderr;
    assert!(mixed.contains("hint: new: db; the others are as before"), "{mixed}");
    let config = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    scene.write("windlass.yml", config + "policy: {on_failure: rollback_all}\n");
    // It is brought back, and forth again by the next run, of which it is then said that it is new.
    for _ in 0..2 {
        let again = scene.windlass(&["release"]).expect(30).stderr;
        assert_eq!(told(&ecs, "ok-42@0.3"), "ok-42@0.3:1", "{again}");
        let live = again.lines().find(|line| line.starts_with("live        db ")).unwrap();
        assert!(live.contains("  ok-42@0.3:1") && live.ends_with(", still"), "{live}");
    }
    let config = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    scene.write("windlass.yml", config.replace("on_failure: rollback_all", "on_failure: keep"));
    let kept = scene.windlass(&["release"]).expect(34).stderr;
    assert!(kept.contains("live        db   ok-42@0.3:2 (") && kept.contains("hint: new: db;"), "{kept}");
}
