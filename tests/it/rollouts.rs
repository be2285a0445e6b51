//! Rollouts on a scripted ECS: each of its scenarios ends with the right exit code, and says so in the right words.

use regex::Regex;
use rustix::process::Signal;

use crate::support::scene::{Outcome, Scene, until};
use crate::support::scripted::Scripted;

/// A project whose services are prebuilt images: `NAME: {… BODY}` each, with the policy below.
pub(crate) fn project(ecs: &Scripted, services: &[(&str, &str)], policy: &str) -> Scene {
    let mut scene = Scene::new(ecs.url());
    // Images of a registry that nobody has: the engine would look for it by name, one after another, while others wait to push.
    scene.set("DOCKER_HOST", "unix:///nonexistent");
    let image = format!("registry.example/shop/api@sha256:{}", "1".repeat(64));
    let service = |(name, body): &(&str, &str)| format!("  {name}: {{image: \"{image}\", cluster: shop, container: web, {body}}}\n");
    let services: Vec<String> = services.iter().map(service).collect();
    scene.write("windlass.yml", format!("app: shop\nstate: none\nservices:\n{}{policy}", services.concat()));
    scene
}

/// What was said, without what differs from run to run.
pub(crate) fn redacted(outcome: &Outcome, ecs: &Scripted) -> String {
    // That a signal was heard, and that something still goes on, is said when it is time.
    let timely = |line: &&str| !["nothing to do", "a second signal leaves", ": … "].iter().any(|part| line.contains(part));
    let said: Vec<&str> = outcome.stderr.lines().filter(|line| !line.starts_with("prepare")).filter(timely).collect();
    let text = said.join("\n").replace(ecs.url(), "[ecs]");
    [
        (r"\d{8}T\d{6}(\.?\d+)?Z-\w+", "[release]"),
        (r"\((\d+ min )?\d+(\.\d)? (ms|s)\)", "([time])"),
        (r"took  +[^\n]*", "took        [time]"),
        (r"after \d+ s:", "after [time]:"),
        (r"yet after \d+ s", "yet after [time]"),
        (r"ecs-svc/\d+", "ecs-svc/[id]"),
        (r"task [0-9a-f]{8} ", "task [id] "),
        (r"\b\d+ of its tasks", "[n] of its tasks"),
        // A detail that is asked for once: it is missing where that takes longer than it is worth.
        (r"tasks failed to start( \(\d of 3 failures\)|\.)", "tasks failed to start[ ([n] of 3 failures)]"),
        (r"0{64}", "[old]"),
        // Which of them a look meets is a matter of time.
        (r"note +api: (BLUE_GREEN|LINEAR|CANARY) is at \w+\n", ""),
    ]
    .iter()
    .fold(text, |text, (from, to)| Regex::new(from).unwrap().replace_all(&text, *to).into_owned())
}

/// How each scenario ends, and what a service of it says beside its name.
const SCENARIOS: &[(&str, i32, &str)] = &[
    ("ok", 0, ""),
    ("stale", 0, ""),
    ("crash-breaker", 30, ""),
    ("breaker-only", 30, ""),
    ("rollback-failed", 31, ""),
    ("never-back", 31, "timeout: 20s"),
    ("alarm", 30, ""),
    ("crash-loop", 30, ""),
    ("crash-loop-plain", 30, ""),
    ("crash-later", 30, ""),
    ("no-image", 30, ""),
    ("no-secret", 30, ""),
    ("out-of-memory", 30, ""),
    ("no-exit-code", 30, ""),
    ("unhealthy-container", 30, ""),
    ("unhealthy-target", 30, ""),
    ("not-placed", 32, "timeout: 12s"),
    ("stuck", 32, "timeout: 4s"),
    ("superseded", 33, ""),
    ("going", 31, ""),
    ("inactive", 11, ""),
    ("nothing-there", 11, ""),
    ("code-deploy", 11, ""),
    ("external", 11, ""),
    ("deadlock", 11, ""),
    ("desired-zero", 0, ""),
    ("daemon", 0, ""),
    ("hosts", 0, ""),
    ("providers", 0, ""),
    ("firelens", 30, ""),
    ("many-tasks", 30, ""),
    ("sidecar", 0, ""),
    ("blue-green", 0, ""),
    ("blue-green-back", 30, ""),
    ("linear", 0, ""),
    ("canary", 0, ""),
    ("skewed", 30, ""),
    ("expires", 31, ""),
    ("bare", 0, ""),
    ("sick", 30, "health: /healthz/sick, timeout: 3s"),
    ("well", 0, "health: /healthz/well, health_holds: v2"),
    ("well-2", 30, "health: /healthz/well, health_holds: v3, timeout: 3s"),
];

#[test]
fn every_scenario_ends_with_its_exit_code_and_says_why() {
    let ecs = Scripted::start(0.0);
    let start = |&(scenario, code, body): &(&'static str, i32, &str)| {
        let scene = project(&ecs, &[("api", &format!("service: {scenario}, {body}"))], "");
        let running = scene.start(&["release"]);
        (scenario, code, scene, running)
    };
    let mut counted = 0;
    // So many at once that they do not wait for one another.
    for batch in SCENARIOS.chunks(13) {
        let running: Vec<_> = batch.iter().map(start).collect();
        for (scenario, code, _scene, running) in running {
            let outcome = running.wait();
            let said = redacted(&outcome, &ecs);
            assert_eq!(outcome.code, Some(code), "{scenario}:\n{said}");
            let general = ["note        `state", "release  "];
            let told = said.lines().filter(|line| !general.iter().any(|start| line.starts_with(start))).count();
            assert!(told <= 15, "{scenario} says too much, in {told} lines:\n{said}");
            let stages = ["blue-green", "blue-green-back", "linear", "canary"].contains(&scenario);
            assert_eq!(outcome.stderr.contains(" is at "), stages, "{scenario}:\n{said}");
            counted += usize::from(outcome.stderr.contains(" of 3 failures)"));
            insta::assert_snapshot!(scenario, said);
        }
    }
    assert!(counted > 0, "nowhere is said how many of ECS's own failures there were");
    let updates = |scenario: &str| ecs.calls_of("UpdateService", scenario).len();
    // ECS goes back by itself, or is asked to end the deployment; only where it cannot be asked is there a second update.
    assert_eq!([updates("crash-breaker"), updates("crash-loop"), updates("crash-loop-plain"), updates("breaker-only")], [1, 1, 2, 2]);
    assert!(ecs.calls().iter().all(|(_, question)| question["desiredCount"].is_null()), "the desired count is auto scaling's");
    let where_they_run = |question: &serde_json::Value| question["launchType"].is_null() && question["capacityProviderStrategy"].is_null();
    assert!(["hosts", "providers"].iter().all(|scenario| ecs.calls_of("UpdateService", scenario).iter().all(where_they_run)));
    for refused in ["inactive", "code-deploy", "external", "deadlock"] {
        assert_eq!(ecs.calls_of("RegisterTaskDefinition", refused).len(), 0, "{refused}");
    }
}

#[test]
fn the_next_revision_keeps_what_nobody_knows_and_is_registered_once() {
    let ecs = Scripted::start(0.0);
    let scene = project(&ecs, &[("api", "service: ok-7, env: {COLOUR: red}")], "");
    let plan = scene.windlass(&["plan"]).expect(0).stdout;
    assert!(plan.contains("+ web.environment.COLOUR: red") && plan.contains("~ web.image: "), "{plan}");
    scene.windlass(&["release"]).expect(0);
    let registered = ecs.calls_of("RegisterTaskDefinition", "ok-7");
    assert_eq!(registered.len(), 1);
    let sent = &registered[0];
    assert_eq!(sent["thoughtOfNextYear"], serde_json::json!({"deep": [1, {"er": true}]}));
    assert_eq!(sent["volumes"][0]["efsVolumeConfiguration"]["ofNextYear"], 3);
    assert_eq!(sent["containerDefinitions"][0]["newHere"], "kept");
    assert_eq!(sent["containerDefinitions"][1]["image"], "registry.example/proxy:1");
    assert_eq!(sent["containerDefinitions"][0]["secrets"][0]["name"], "DATABASE_URL");
    let labels = &sent["containerDefinitions"][0]["dockerLabels"];
    assert!(labels["windlass.release"].as_str().is_some_and(|id| id.ends_with("-local")), "{labels}");
    assert_eq!(sent["tags"], serde_json::json!([{"key": "team", "value": "shop"}]));
    assert!(
        ["taskDefinitionArn", "revision", "status", "registeredAt", "compatibilities"].iter().all(|field| sent[*field].is_null()),
        "{sent}"
    );
    // What a failed release has registered is used again by the next one.
    let crashing = project(&ecs, &[("api", "service: crash-breaker-7")], "");
    crashing.windlass(&["release"]).expect(30);
    crashing.windlass(&["release"]).expect(30);
    assert_eq!(ecs.calls_of("RegisterTaskDefinition", "crash-breaker-7").len(), 1);
    assert_eq!(ecs.calls_of("UpdateService", "crash-breaker-7").len(), 2);
    // A second release has nothing to do.
    let calls = ecs.calls().len();
    let again = scene.windlass(&["release"]).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert!(ecs.calls()[calls..].iter().all(|(action, _)| action.starts_with("Describe") || action.starts_with("Get")));
}

#[test]
fn a_revision_is_rendered_from_a_file() {
    let ecs = Scripted::start(0.0);
    let mut scene = project(&ecs, &[("api", "service: ok-8, task_definition: deploy/api.json, env: {COLOUR: red}")], "");
    let file = |command: &str| {
        serde_json::json!({
            "cpu": "512", "memory": "1024", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "ofNextYear": {"deep": [1]},
            "containerDefinitions": [{
                "name": "web", "image": "is put in", "portMappings": [{"containerPort": 8000}], "command": ["sh", "-c", command],
                "environment": [{"name": "DJANGO_SETTINGS", "value": "shop.${STAGE}"}],
                "secrets": [{"name": "DATABASE_URL", "valueFrom": "arn:aws:secretsmanager:us-east-1:000000000000:secret:shop:url::"}],
            }],
        })
        .to_string()
    };
    scene.write("deploy/api.json", file("exec serve $${HOME}"));
    let unset = scene.windlass(&["plan"]).expect(10).stderr;
    assert!(unset.contains("deploy/api.json:1:") && unset.contains("the variable `STAGE` is not set"), "{unset}");
    scene.set("STAGE", "production");
    let plan = scene.windlass(&["plan"]).expect(0).stdout;
    let shown = [
        "~ cpu: 256 → 512",
        "+ web.command: [\"sh\",\"-c\"",
        "+ web.environment.COLOUR: red",
        "~ web.environment.DJANGO_SETTINGS: shop.settings → shop.production",
        "- web.environment.API_TOKEN",
        "- proxy.image",
    ];
    for line in shown {
        assert!(plan.contains(line), "{line:?} is not in\n{plan}");
    }
    assert!(!plan.contains("hunter2"), "{plan}");
    scene.windlass(&["release"]).expect(0);
    let sent = &ecs.calls_of("RegisterTaskDefinition", "ok-8")[0];
    assert_eq!((&sent["family"], &sent["ofNextYear"]), (&"ok-8".into(), &serde_json::json!({"deep": [1]})));
    assert_eq!(sent["containerDefinitions"][0]["command"][2], "exec serve ${HOME}");
    assert!(sent["containerDefinitions"][0]["image"].as_str().unwrap().contains("@sha256:1111"), "{sent}");
    // What ECS adds to a document is no change of the file.
    assert!(scene.windlass(&["release"]).expect(0).stdout.contains("nothing to do"));
    scene.write("deploy/api.json", file("exec serve --workers 4"));
    scene.windlass(&["release"]).expect(0);
    assert_eq!(ecs.calls_of("RegisterTaskDefinition", "ok-8").len(), 2);

    // What would reveal a secret, or cannot be rolled, is refused before anything is asked.
    let refused = |content: String, why: &str| {
        let said = scene.write("deploy/api.json", content).windlass(&["plan"]).expect(10).stderr;
        assert!(said.contains(why) && said.lines().last().unwrap().starts_with("hint: "), "{why:?} is not in\n{said}");
    };
    refused("{".to_owned(), "is no JSON");
    refused(file("x").replace("\"web\"", "\"api\""), "has no container `web`");
    refused(file("x").replace("DJANGO_SETTINGS", "API_TOKEN"), "`API_TOKEN`, which looks secret");
    scene.remove("deploy/api.json");
    assert!(scene.windlass(&["plan"]).expect(10).stderr.contains("cannot be read"));
}

#[test]
fn twenty_lines_of_a_log_are_kept_and_a_few_are_shown() {
    let ecs = Scripted::start(0.0);
    let scene = project(&ecs, &[("api", "service: crash-breaker-9")], "");
    let outcome = scene.windlass(&["release", "--format", "json", "--junit", "report.xml"]).expect(30);
    let lines = |text: &str| text.matches("starting worker ").count();
    assert_eq!((lines(&outcome.stdout), lines(&outcome.stderr)), (16, 1), "{}\n{}", outcome.stdout, outcome.stderr);
    let report = std::fs::read_to_string(scene.project().join("report.xml")).unwrap();
    assert_eq!((lines(&report), report.matches("SHOP_CURRENCY").count()), (16, 1), "{report}");
}

#[test]
fn a_value_that_looks_secret_is_masked_in_the_plan() {
    let ecs = Scripted::start(0.0);
    let refused = project(&ecs, &[("api", "service: ok, env: {API_TOKEN: new-hunter}")], "").windlass(&["plan"]).expect(10);
    assert!(refused.stderr.contains("`API_TOKEN` looks secret") && !refused.stderr.contains("new-hunter\n"), "{}", refused.stderr);
    let plan = project(&ecs, &[("api", "service: ok")], "").windlass(&["plan", "--format", "json"]).expect(0);
    assert!(!plan.stdout.contains("hunter2"), "{}", plan.stdout);
}

#[test]
fn a_signal_says_what_goes_on_and_waits_for_nothing() {
    let ecs = Scripted::start(0.0);
    let stopped = |service: &str, arguments: &[&str]| {
        let scene = project(&ecs, &[("api", &format!("service: {service}"))], "");
        let running = scene.start(arguments);
        until("the rollout is watched", || ecs.is_watched(service));
        running.signal(Signal::TERM);
        // Had it waited for the rollout, it would end with 0.
        let outcome = running.wait().expect(143);
        (scene, redacted(&outcome, &ecs))
    };
    let (scene, said) = stopped("slow-1", &["release"]);
    insta::assert_snapshot!("signal", said);
    // The same command takes the deployment up.
    let resumed = scene.windlass(&["release"]).expect(0);
    assert!(resumed.stderr.contains("is under way already, and is watched"), "{}", resumed.stderr);
    assert_eq!((ecs.calls_of("RegisterTaskDefinition", "slow-1").len(), ecs.calls_of("UpdateService", "slow-1").len()), (1, 1));

    let (_, said) = stopped("slow-2", &["release", "--on-abort", "stop"]);
    insta::assert_snapshot!("signal-stop", said);
    assert_eq!(ecs.calls().iter().filter(|(action, _)| action == "StopServiceDeployment").count(), 1);
}

#[test]
fn a_timeout_leaves_the_rollout_where_the_policy_says_so() {
    let ecs = Scripted::start(0.0);
    let scene = project(&ecs, &[("api", "service: stuck, timeout: 3s")], "policy: {on_timeout: leave}\n");
    let outcome = scene.windlass(&["release"]).expect(32);
    assert!(outcome.stderr.contains("timed out and was left as it is"), "{}", outcome.stderr);
    assert_eq!(ecs.calls_of("UpdateService", "stuck").len(), 1);
}

#[test]
fn old_revisions_go_where_the_policy_says_how_many_stay() {
    let ecs = Scripted::start(0.0);
    let scene =
        |colour: &str| project(&ecs, &[("api", &format!("service: ok@0.2, env: {{COLOUR: {colour}}}"))], "policy: {keep_revisions: 2}\n");
    for colour in ["red", "green", "blue"] {
        scene(colour).windlass(&["release"]).expect(0);
    }
    let gone: Vec<_> = ecs.calls().into_iter().filter(|(action, _)| action == "DeregisterTaskDefinition").map(|(_, asked)| asked).collect();
    let named: Vec<&str> =
        gone.iter().filter_map(|asked| asked["taskDefinition"].as_str()).map(|arn| arn.rsplit('/').next().unwrap()).collect();
    assert_eq!(named, ["ok@0.2:1", "ok@0.2:2"][..named.len()]);
    assert!(!named.is_empty(), "nothing was taken out of use");
}
