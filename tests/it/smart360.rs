//! The shape of SMART360: nine Django services and a site in one configuration, released by one Jenkins job.
//!
//! No Jenkins can be had here, so a harness takes the job's choices and its `sh` steps out of the Jenkinsfile, and runs each step as
//! Jenkins does: `sh -xe`, in one workspace, with the variables of the job. What Jenkins itself does is not proved by it: the pages
//! for choosing and approving, `when`, and who sends the signal of an abort.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use regex::Regex;
use rustix::process::Signal;

use crate::shop::{Shop, Victim};
use crate::support::ministack;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::{Outcome, Running, Scene};

pub(crate) const NINE: [&str; 9] =
    ["accounts", "assets", "billing", "consumers", "meters", "notifications", "payments", "reports", "workorders"];
/// How examples/smart360 was made.
const MADE_BY: [&str; 9] = [
    "init",
    "--app",
    "smart360",
    "--environment",
    "staging=111111111111/us-east-1",
    "--environment",
    "production=222222222222/us-east-1",
    "--distribution",
    "E2SMART360",
];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/smart360")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(example().join(name)).unwrap()
}

/// Puts the example's code into a scene, without what `init` has made of it.
fn code(scene: &Scene) {
    for entry in walkdir::WalkDir::new(example()).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
        let name = entry.path().strip_prefix(example()).unwrap().to_str().unwrap().to_owned();
        if !["windlass.yml", "Jenkinsfile", "README.md"].contains(&name.as_str()) {
            scene.write(&name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// The choices of a parameter of the job.
fn choices(job: &str, name: &str) -> Vec<String> {
    let pattern = Regex::new(&format!(r"choice\(name: '{name}', choices: \[([^\]]*)\]")).unwrap();
    let Some(found) = pattern.captures(job) else { return Vec::new() };
    found[1].split(", ").map(|choice| choice.trim_matches('\'').to_owned()).collect()
}

/// The shell steps of the job, each with its stage.
fn steps(job: &str) -> Vec<(String, String)> {
    let pattern = Regex::new(r"(?s)stage\('(\w+)'\)|\bsh '''(.*?)'''|\bsh '([^'\n]+)'").unwrap();
    let mut stage = String::new();
    let mut found = Vec::new();
    for hit in pattern.captures_iter(job) {
        match hit.get(1) {
            Some(name) => name.as_str().clone_into(&mut stage),
            None => found.push((stage.clone(), hit.get(2).or(hit.get(3)).unwrap().as_str().to_owned())),
        }
    }
    found
}

/// Starts a step as Jenkins does.
fn start(scene: &Scene, step: &str) -> Running {
    scene.write("../step.sh", step);
    scene.spawn("sh", &["-xe", "../step.sh"])
}

fn run(scene: &Scene, step: &str) -> Outcome {
    start(scene, step).wait()
}

#[test]
fn the_example_is_what_init_writes() {
    let scene = Scene::new("http://127.0.0.1:1");
    code(&scene);
    scene.windlass(&MADE_BY).expect(0);
    for name in ["windlass.yml", "Jenkinsfile"] {
        let made = std::fs::read_to_string(scene.project().join(name)).unwrap();
        assert_eq!(made, read(name), "in examples/smart360, run `windlass {}` with no {name} there", MADE_BY.join(" "));
    }
    let again = scene.windlass(&["init"]).expect(0);
    assert!(again.stdout.ends_with("nothing to do: every file is there\n"), "{}", again.stdout);
    assert!(read("README.md").contains(&format!("windlass {}", MADE_BY.join(" "))));
}

#[test]
fn every_choice_of_the_job_becomes_a_command_that_windlass_takes() {
    let job = read("Jenkinsfile");
    let units = choices(&job, "UNIT");
    assert_eq!(units, [&["all"], &NINE[..], &["web"]].concat());
    assert_eq!(choices(&job, "ENVIRONMENT"), ["staging", "production"]);
    assert!(job.contains("booleanParam(name: 'DRY_RUN', defaultValue: true"));
    let stages: Vec<String> = steps(&job).into_iter().map(|(stage, _)| stage).collect();
    assert_eq!(stages, ["Plan", "Release"]);
    // What changes something waits for both the choice and the approval.
    let (dry, approve) = (Regex::new(r"expression \{ !params.DRY_RUN \}").unwrap(), job.find("input message").unwrap());
    assert!(dry.find_iter(&job).count() == 2 && approve < job.find("windlass release").unwrap());

    let mut scene = Scene::new("http://127.0.0.1:1");
    scene.program("windlass", "echo \"$WINDLASS_ENV: $*\" >> ../said\ntouch .windlass/plan.json\necho a plan");
    for environment in choices(&job, "ENVIRONMENT") {
        for unit in &units {
            scene.set("UNIT", unit);
            scene.set("WINDLASS_ENV", &environment);
            for (_, step) in steps(&job) {
                run(&scene, &step).expect(0);
            }
        }
    }
    let said = std::fs::read_to_string(scene.project().join("../said")).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), units.len() * 4);
    assert_eq!(lines[0], "staging: plan --out .windlass/plan.json");
    assert_eq!(lines[2], "staging: plan --out .windlass/plan.json accounts");
    assert_eq!(
        lines[lines.len() - 1],
        "production: release --plan .windlass/plan.json --lock-wait 15m --junit .windlass/reports/release.xml --report .windlass/reports/release.html"
    );
    for line in lines {
        let words: Vec<&str> = line.split_once(": ").unwrap().1.split(' ').chain(["--help"]).collect();
        scene.windlass(&words).expect(0);
    }
    // A plan that fails fails the build, with its own exit code and all that it has said.
    scene.program("windlass", "echo half a plan; exit 11");
    let failed = run(&scene, &steps(&job)[0].1).expect(11);
    assert!(failed.stdout.contains("half a plan"), "{}", failed.stdout);
}

/// The example on a cloud where no container runs: its services are there, with images of their own; functions migrate.
pub(crate) async fn deployed(name: &str) -> Shop {
    let mut shop = Shop::site(name).await;
    code(&shop.scene);
    let registry = ministack::shared().registry();
    let config = read("windlass.yml").replace("E2SMART360", &shop.distribution).replace("smart360-web ", &format!("{name}-web "));
    let (start, end) = (config.find("environments:\n").unwrap(), config.find("sites:\n  web:  ").unwrap());
    let config = format!("{}registry: {registry}\n{}", &config[..start], &config[end..]);
    let config =
        config.replace("build: npm ci && npm run build", "prebuilt: true").replace("s3://smart360-state", &format!("s3://{name}-state"));
    let config = Regex::new(r"container: \w+").unwrap().replace_all(&config, "container: web").replace("smart360/", &format!("{name}/"));
    let config = config.replace("cluster: smart360 ", &format!("cluster: {name} "));
    let driver = Regex::new(r"driver: task.*\n    from: (\w+)").unwrap();
    let function = format!("driver: lambda-image\n    from: $1\n    function: {name}-$1\n    handler: own");
    let config = driver.replace_all(&config, function.as_str()).into_owned();
    shop.scene.write("windlass.yml", config);
    shop.scene.write("web/build/index.html", "<!doctype html><title>1</title>\n");
    shop.seed.cluster(name).await;
    for service in NINE {
        shop.scene.write(&format!("services/{service}/Dockerfile"), format!("FROM scratch\nLABEL service={service}\nCOPY manage.py /\n"));
        shop.seed.repository(&format!("{name}/{service}")).await;
        let digest = shop.seed.image(&format!("{name}/{service}"), "before").await;
        let image = format!("{registry}/{name}/{service}@{digest}");
        shop.seed.service(name, service, &image).await;
        shop.seed.function(&format!("{name}-{service}"), &image).await;
    }
    shop.scene.commit(2);
    // `benches/smart360` measures another build of it than the tests do.
    let program = std::env::var("WINDLASS_MEASURED").unwrap_or_else(|_| env!("CARGO_BIN_EXE_windlass").to_owned());
    shop.scene.program("windlass", &format!("exec {program} \"$@\""));
    shop.scene.set("UNIT", "all");
    shop
}

/// Gives the working tree's images to the registry, as an engine would.
pub(crate) async fn push(shop: &Shop, services: &[&str]) {
    let plan = shop.scene.windlass(&["plan", "--format", "json"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    for service in services {
        let tag = plan["images"][service]["tag"].as_str().unwrap();
        shop.seed.image(&format!("{}/{service}", shop.name), tag).await;
    }
}

/// Every function migrates when it is asked.
pub(crate) fn migrates(shop: &Shop, times: usize) {
    let body = serde_json::json!({ "applied": ["x.0001_initial"] }).to_string();
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", times, Fault::Answer { status: 200, headers: Vec::new(), body });
}

/// Runs a step, and says how long it took and what it asked for: `benches/smart360` prints these lines.
fn measured(shop: &Shop, what: &str, step: &str) -> Outcome {
    shop.proxy.clear();
    let started = Instant::now();
    let outcome = run(&shop.scene, step).expect(0);
    let took = started.elapsed().as_secs_f64();
    let (calls, writes) = (shop.proxy.requests().len(), shop.proxy.writes().len());
    println!("measured    {what:<44}  {took:5.1} s  {calls:4} calls, of which {writes} write");
    outcome
}

/// How often each kind of write was made.
fn count(shop: &Shop, operation: &str) -> usize {
    shop.proxy.written().iter().filter(|written| *written == operation).count()
}

#[tokio::test]
async fn one_is_released_or_all_and_what_has_not_changed_is_left_alone() {
    let mut shop = deployed("smart360-all").await;
    push(&shop, &NINE).await;
    let [(_, plan), (_, release)] = &steps(&read("Jenkinsfile"))[..] else { panic!("other steps than a plan and a release") };

    // A dry run, which is the default, ends here.
    let dry = measured(&shop, "all ten units: the plan", plan);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert!(NINE.iter().all(|service| dry.stdout.contains(service)), "{}", dry.stdout);
    migrates(&shop, 9);
    let all = measured(&shop, "all ten units: the release of that plan", release);
    assert_eq!((count(&shop, "lambda:Invoke"), count(&shop, "ecs:UpdateService")), (9, 9), "{}", all.stderr);
    let report = std::fs::read_to_string(shop.scene.project().join(".windlass/reports/release.xml")).unwrap();
    assert!(NINE.iter().all(|service| report.contains(service)) && report.contains("failures=\"0\""), "{report}");

    // One that has changed: nobody else is touched, though all were chosen.
    shop.scene.write("services/billing/manage.py", "1\n").commit(3);
    push(&shop, &["billing"]).await;
    for unit in ["accounts", "all"] {
        shop.scene.set("UNIT", unit);
        let changed = if unit == "all" { "one of ten units has changed" } else { "one unit is chosen, which has not" };
        measured(&shop, &format!("{changed}: the plan"), plan);
        migrates(&shop, usize::from(unit == "all"));
        let outcome = measured(&shop, &format!("{changed}: the release"), release);
        let rolled: Vec<Recorded> = shop.proxy.writes().into_iter().filter(|request| request.operation == "ecs:UpdateService").collect();
        let rolled: Vec<bool> = rolled.iter().map(|request| request.body.contains("\"billing\"")).collect();
        assert_eq!(rolled, vec![true; usize::from(unit == "all")], "{unit}: {}", outcome.stderr);
    }

    // Nothing has changed since.
    measured(&shop, "nothing has changed: the plan", plan);
    assert_eq!(shop.proxy.written(), [""; 0]);
    let again = measured(&shop, "nothing has changed: the release", release);
    assert_eq!((shop.proxy.written(), again.stdout.starts_with("nothing to do")), (vec![], true), "{}", again.stdout);
}

#[tokio::test]
async fn an_abort_ends_the_change_in_hand_and_the_next_build_goes_on() {
    let shop = deployed("smart360-abort").await;
    push(&shop, &NINE).await;
    let [(_, plan), (_, release)] = &steps(&read("Jenkinsfile"))[..] else { panic!("other steps than a plan and a release") };
    run(&shop.scene, plan).expect(0);
    // Jenkins aborts while the third service is told to roll.
    let (victim, seen) = (Victim::default(), AtomicI32::new(0));
    let third = move |request: &Recorded| request.operation == "ecs:UpdateService" && seen.fetch_add(1, Ordering::SeqCst) == 2;
    migrates(&shop, 9);
    shop.proxy.fail_next(third, 1, victim.signalled(Signal::TERM));
    let running = start(&shop.scene, release);
    victim.is(&running);
    let aborted = running.wait().expect(143);
    assert!(aborted.stderr.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{}", aborted.stderr);
    // The same choice again.
    run(&shop.scene, plan).expect(0);
    let outcome = run(&shop.scene, release).expect(0);
    assert!(outcome.stdout.contains("released "), "{}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(count(&shop, "lambda:Invoke"), 9, "nothing is migrated twice");
}
