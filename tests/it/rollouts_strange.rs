//! Rollouts where an endpoint says less than AWS does, refuses more, is late, or loses what it has to say; and where we are killed on
//! the way. A scripted ECS that nobody here has seen is no stranger than these.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::rollouts::{project, redacted};
use crate::shop::Shop;
use crate::support::scene::{Scene, until};
use crate::support::scripted::Scripted;

/// A scenario, how it ends, what its service says beside its name, and what is said.
const STRANGE: &[(&str, i32, &str, &[&str])] = &[
    ("old-ok", 0, "", &[]),
    ("old-crash", 30, "", &["container `web` exited with 1", "`old-crash:1` serves"]),
    ("denied", 30, "", &["container `web` exited with 1", "it is told to run the revision before, `denied:1`"]),
    ("blind", 30, "", &["of its tasks have crashed", "`blind:1` serves"]),
    ("mute", 30, "", &["Task failed ELB health checks", "its log cannot be read", "`mute:1` serves"]),
    ("iso", 30, "", &["s: container `web` exited with 1", "stopped after "]),
    ("timeless", 30, "", &["stopped: container `web` exited with 1"]),
    ("null-exit", 30, "", &["no container has an exit code, and ECS gives no reason (EssentialContainerExited)"]),
    ("short-update", 0, "", &[]),
    ("stale-update", 0, "", &[]),
    ("blue-green-plain", 0, "", &[]),
    ("late", 0, "", &[]),
    ("lost", 0, "", &[]),
    ("lost-for-good", 0, "", &["ECS has begun to roll, though its answer was lost"]),
    ("old-answers", 0, "", &[]),
    ("missing-answers", 0, "", &[]),
    ("crowded", 0, "", &[]),
    ("late-revision", 0, "", &[]),
    ("blue-green-paged", 0, "", &["BLUE_GREEN is at "]),
    ("blue-first", 0, "", &["BLUE_GREEN is at "]),
    ("blue-green-slowly-back", 30, "", &["was rolled back", "`blue-green-slowly-back:1` serves"]),
    ("two-groups", 30, "health: /healthz/two-groups, timeout: 3s", &["answers 503"]),
    ("rules-alone", 30, "health: /healthz/rules-alone, timeout: 3s", &["answers 503"]),
    ("behind-header", 0, "health: /healthz/behind-header, timeout: 3s", &["forwards only what has the header `X-Origin-Key`"]),
    ("alternate", 30, "health: /healthz/alternate, timeout: 8s", &["answers 503"]),
    ("sick-hangs", 30, "health: /healthz/sick-hangs, timeout: 3s", &["no complete answer within 10 s", "`sick-hangs:1` serves"]),
    (
        "sick-talks",
        30,
        "health: /healthz/sick-talks, timeout: 3s",
        &["answers 503", "api | django.core.exceptions", "SHOP_CURRENCY is not set"],
    ),
    ("no-capacity", 32, "timeout: 5s", &["Capacity is unavailable", "hint: `no-capacity:1` serves", "Fargate has no room in these zones"]),
    ("no-role", 32, "timeout: 5s", &["unable to assume the role", "let `ecs-tasks.amazonaws.com` assume the task's roles"]),
];

#[test]
fn an_endpoint_that_says_little_is_judged_as_well() {
    let ecs = Scripted::start(0.0);
    let start = |&(scenario, code, body, said): &(&'static str, i32, &str, &'static [&'static str])| {
        let scene = project(&ecs, &[("api", &format!("service: {scenario}, {body}"))], "");
        let running = scene.start(&["release"]);
        (scenario, code, said, scene, running)
    };
    let running: Vec<_> = STRANGE.iter().map(start).collect();
    for (scenario, code, said, _scene, running) in running {
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(code), "{scenario}:\n{}", outcome.stderr);
        for part in said {
            assert!(outcome.stderr.contains(part), "{scenario}: {part:?} is not in\n{}", outcome.stderr);
        }
    }
    // What was lost is not begun twice: the revision that served is left once, and once only.
    let state = ecs.state();
    for scenario in ["lost", "lost-for-good"] {
        let begun = state[scenario].as_array().unwrap().iter().filter(|one| !one["revision"].as_str().unwrap().ends_with(":1")).count();
        assert_eq!(begun, 1, "{scenario}: {}", state[scenario]);
    }
    assert_eq!(ecs.calls_of("RegisterTaskDefinition", "lost").len(), 1, "what was registered unseen is found");
    // A rollback of ECS's own is left to go on.
    assert_eq!(ecs.calls_of("UpdateService", "blue-green-slowly-back").len(), 1);
}

/// Starts a release, the only one, and gives it once it has asked for `action`.
fn started(ecs: &Scripted, service: &str, body: &str, action: &str, arguments: &[&str]) -> (Scene, crate::support::scene::Running) {
    let scene = project(ecs, &[("api", &format!("service: {service}, {body}"))], "");
    let before = ecs.calls().len();
    let running = scene.start(arguments);
    until(action, || ecs.calls()[before..].iter().any(|(called, _)| called == action));
    std::thread::sleep(Duration::from_millis(400));
    (scene, running)
}

#[test]
fn a_run_that_was_killed_is_taken_up_where_it_was() {
    let ecs = Scripted::start(0.0);
    // While ECS rolls; while it registers; while it is told; while tasks crash.
    for (service, action, code, registered, updated) in [
        ("slow-1", "UpdateService", 0, 1, 1),
        ("late-register-1", "RegisterTaskDefinition", 0, 1, 1),
        ("late-update-1", "UpdateService", 0, 1, 1),
        ("crash-loop@2.5", "UpdateService", 30, 1, 1),
    ] {
        let (scene, running) = started(&ecs, service, "", action, &["release"]);
        running.signal(Signal::KILL);
        assert_eq!(running.wait().signal, Some(9), "{service}");
        let again = scene.windlass(&["release"]).expect(code);
        let calls = |action: &str| ecs.calls_of(action, service).len();
        assert_eq!((calls("RegisterTaskDefinition"), calls("UpdateService")), (registered, updated), "{service}:\n{}", again.stderr);
    }
}

/// Answers every request with the status that it holds, and counts them.
fn healthz(status: &Arc<AtomicU16>, asked: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let (status, asked) = (Arc::clone(status), Arc::clone(asked));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _request = stream.read(&mut [0; 4096]);
            asked.fetch_add(1, Ordering::SeqCst);
            write!(stream, "HTTP/1.1 {} .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status.load(Ordering::SeqCst)).ok();
        }
    });
    url
}

#[tokio::test]
async fn the_health_that_a_killed_run_has_not_seen_is_asked_for_by_the_next() {
    let (shop, status, asked) = (Shop::whole("unseen-health").await, Arc::new(AtomicU16::new(200)), Arc::default());
    shop.configure("migrations:\n  main: {framework: django, driver: lambda-image, from: api, function: unseen-health}\n", "");
    shop.configure("    container: web\n", &format!("    container: web\n    health: {}\n    timeout: 6s\n", healthz(&status, &asked)));
    shop.push_image().await;
    shop.release();
    let live = async || shop.state_json("live.json").await["services"]["api"]["revision"].as_str().unwrap().to_owned();
    let first = live().await;
    shop.scene.write("api/app.py", "2\n").commit(5);
    shop.push_image().await;
    status.store(503, Ordering::SeqCst);
    shop.proxy.clear();
    let running = shop.scene.start(&["release"]);
    let before = asked.load(Ordering::SeqCst);
    until("the new version is asked", || asked.load(Ordering::SeqCst) > before);
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(live().await, first);
    let again = shop.run(&["release", "--lock-wait", "10m"]).expect(30);
    assert!(again.stderr.contains("/healthz` answers 503"), "{}", again.stderr);
    assert!(again.stderr.contains(&format!("`{}` serves", first.rsplit('/').next().unwrap())), "{}", again.stderr);
    assert_eq!(live().await, first);
}

#[test]
fn a_signal_in_any_phase_says_what_goes_on() {
    let ecs = Scripted::start(0.0);
    let phases: &[(&str, &str, &str, &[&str], &str)] = &[
        ("late-register-2", "", "RegisterTaskDefinition", &["release"], "`api` has not begun to roll"),
        ("late-update-2", "", "UpdateService", &["release"], "`api`: ECS may have begun to roll it"),
        ("never-back-2", "", "StopServiceDeployment", &["release"], "`api` goes back to `never-back-2:1` in ECS"),
        ("crash-loop@4", "", "GetLogEvents", &["release"], "`api` goes on to `crash-loop@4:2` in ECS (deployment ecs-svc/"),
        (
            "sick-2",
            "health: /healthz/sick-2",
            "DescribeRules",
            &["release"],
            "`api` runs `sick-2:2` in ECS, whose health has not been seen",
        ),
        (
            "sick-3",
            "health: /healthz/sick-3",
            "DescribeRules",
            &["release", "--on-abort", "stop"],
            "`api` is stopped, and goes back to `sick-3:1`",
        ),
    ];
    let mut running = Vec::new();
    for (service, body, action, arguments, said) in phases {
        let (scene, run) = started(&ecs, service, body, action, arguments);
        run.signal(Signal::TERM);
        running.push((scene, run.wait(), service, said));
    }
    for (_scene, outcome, service, said) in running {
        let outcome = outcome.expect(143);
        let told = redacted(&outcome, &ecs);
        assert!(outcome.stderr.contains(said), "{service}: {said:?} is not in\n{told}");
        let last = told.lines().last().unwrap();
        assert!(last.starts_with("hint: run the same command again"), "{service}: {last}");
    }
}
