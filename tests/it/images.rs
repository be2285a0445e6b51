//! Images with a real engine, against the local cloud's registry behind the proxy, which fails what a test says.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::shop::Shop;
use crate::support::proxy::{Fault, Gate};
use crate::support::request::Recorded;
use crate::support::scene::{runs, until};

/// The images that a test leaves on the engine go when this is dropped.
pub(crate) struct Leftovers(pub(crate) String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let remove = r#"docker images --quiet --no-trunc "$0" | sort --unique | xargs --no-run-if-empty docker rmi --force"#;
        Command::new("sh").args(["-c", remove, &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
}

/// A shop whose service has still to be built, and pushed through the proxy.
pub(crate) async fn shop(name: &str, with_repository: bool) -> (Leftovers, Shop) {
    let shop = Shop::site(name).await;
    let registry = shop.proxy.url().trim_start_matches("http://").to_owned();
    shop.add_service(&registry);
    if with_repository {
        shop.seed.repository(&format!("{name}/api")).await;
    }
    shop.scene.write("api/app.py", format!("{name} {:?}", Instant::now()));
    shop.scene.commit(3);
    (Leftovers(format!("{registry}/{name}/api")), shop)
}

/// What a run says that fails, whatever it has pushed by then.
fn fails(shop: &Shop, exit: i32) -> String {
    let outcome = shop.run(&["stage", "images"]).expect(exit);
    shop.error(&outcome)
}

/// What a registry answers when it refuses: <https://distribution.github.io/distribution/spec/api/#errors>.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Fault {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if status == 401 {
        headers.push(("www-authenticate", "Basic realm=\"registry\"".to_owned()));
    }
    Fault::Answer { status, headers, body: serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string() }
}

pub(crate) fn is_manifest(request: &Recorded) -> bool {
    request.operation == "registry:PUT" && request.path.contains("/manifests/")
}

pub(crate) fn is_layer(request: &Recorded) -> bool {
    matches!(request.operation.as_str(), "registry:PATCH") || (request.operation == "registry:PUT" && request.path.contains("/blobs/"))
}

#[tokio::test]
async fn what_may_pass_is_tried_again_until_the_image_is_there() {
    let (_images, shop) = shop("images-faults", true).await;
    shop.proxy.fail_next(|request| request.operation == "registry:POST", 1, refusal(401, "UNAUTHORIZED", "authentication required"));
    shop.proxy.fail_next(is_layer, 1, Fault::Refuse);
    shop.proxy.fail_next(is_manifest, 1, refusal(429, "TOOMANYREQUESTS", "Rate exceeded"));
    shop.proxy.fail_next(is_manifest, 1, refusal(500, "UNKNOWN", "unknown error"));
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.faults_left(), 0, "{}", pushed.stderr);
    assert!(pushed.stderr.contains("Rate exceeded"), "{}", pushed.stderr);
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "it is pushed once");
}

#[tokio::test]
async fn what_cannot_pass_ends_with_its_cause_and_a_second_run_completes() {
    let (_images, shop) = shop("images-denied", true).await;
    let message = "User: arn:aws:iam::000000000000:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: y";
    shop.proxy.fail_next(|request| request.operation == "registry:POST", 1, refusal(403, "DENIED", message));
    let refused = fails(&shop, 22);
    assert!(refused.contains("ecr:InitiateLayerUpload") && refused.contains("hint: pushing needs"), "{refused}");
    shop.run(&["stage", "images"]).expect(0);
}

#[tokio::test]
async fn a_token_that_expires_while_layers_are_sent_is_renewed() {
    let (_images, shop) = shop("images-expired", true).await;
    // <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors-docker.html>
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    shop.proxy.fail_next(is_layer, 1, refusal(403, "DENIED", message));
    // The engine tries a layer again by itself, 5 s later.
    shop.proxy.fail_next(is_layer, 1, refusal(500, "UNKNOWN", "unknown error"));
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.faults_left(), 0, "{}", pushed.stderr);
    assert!(pushed.stderr.contains("the registry wants another login"), "{}", pushed.stderr);
    let asked = shop.proxy.requests().iter().filter(|request| request.operation == "ecr:GetAuthorizationToken").count();
    assert!(asked >= 2, "{asked}");
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "it is pushed once");
}

#[tokio::test]
async fn a_terminal_shows_each_layer_on_its_way() {
    let (_images, mut shop) = shop("images-bars", true).await;
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY one /\nCOPY two /\nCOPY app.py /\n");
    for (name, seed) in [("one", 1_u32), ("two", 2)] {
        // It cannot be made smaller, or there would be nothing to see.
        let mut state = seed ^ std::process::id();
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        });
        shop.scene.write(&format!("api/{name}"), noise.take(6_000_000).collect::<Vec<_>>());
    }
    // No layer arrives before two have been seen on their way.
    let gate = Gate::default();
    shop.proxy.fail_next(is_layer, 1000, Fault::Hold(gate.clone()));
    shop.scene.set("TERM", "xterm-256color");
    let run = format!("stty cols 120; exec {} stage images", env!("CARGO_BIN_EXE_windlass"));
    let running = shop.scene.spawn("script", &["--quiet", "--return", "--command", &run, "/dev/null"]);
    let bar = regex::Regex::new(r"    ([0-9a-f]{12}) \[[^]]+\] [0-9.]+ [kM]?B of [0-9.]+ MB").unwrap();
    running.until_said("how far two layers are", |shown| {
        let layers: std::collections::BTreeSet<&str> = bar.captures_iter(shown).map(|found| found.get(1).unwrap().as_str()).collect();
        layers.len() >= 2
    });
    gate.open();
    running.wait().expect(0);
}

#[tokio::test]
async fn a_tag_that_another_image_took_meanwhile_is_explained() {
    let (_images, shop) = shop("images-taken", true).await;
    let message =
        "The image tag 'x' already exists in the 'images-taken/api' repository and cannot be overwritten because the tag is immutable.";
    shop.proxy.fail_next(is_manifest, 1, refusal(400, "TAG_INVALID", message));
    shop.seed.cluster("images-taken").await;
    let running = format!("{}/images-taken/api@sha256:{}", shop.proxy.url().trim_start_matches("http://"), "1".repeat(64));
    shop.seed.service("images-taken", "images-taken", &running).await;
    shop.seed.function("images-taken", &running).await;
    // Another run has pushed its own image of the same content by then.
    let planned = shop.run(&["plan", "--format", "json"]).expect(0).stdout;
    let planned: serde_json::Value = serde_json::from_str(&planned).unwrap();
    let tag = planned["images"]["api"]["tag"].as_str().unwrap().to_owned();
    let cloud = crate::support::ministack::shared().url().to_owned();
    let seed = move || {
        let (cloud, tag) = (cloud.clone(), tag.clone());
        let work = async move { crate::support::seed::Seed::new(&cloud).image("images-taken/api", &tag).await };
        std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)).join().unwrap();
    };
    shop.proxy.fail_next(|request| request.operation == "registry:POST", 1, Fault::First(Box::new(seed)));
    let refused = fails(&shop, 22);
    assert!(refused.contains("is taken by another image"), "{refused}");
    let taken = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "{}", taken.stderr);
}

#[tokio::test]
async fn a_repository_is_created_once_and_two_services_build_one_image_once() {
    let (_images, shop) = shop("images-create", false).await;
    shop.configure("repository: images-create/api}", "repository: images-create/api, create: true}");
    let api = "  api:\n    path: api\n    image: {repository: images-create/api, create: true}\n    cluster: images-create\n    service: ";
    shop.configure("services:\n", &format!("services:\n{}worker\n    container: web\n", api.replace("  api:", "  worker:")));
    let planned = shop.run(&["plan"]).expect(11);
    assert!(!planned.stderr.contains("repository"), "it is to be created: {}", planned.stderr);
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(pushed.stderr.matches(" build: from").count(), 1, "{}", pushed.stderr);
    let created = shop.proxy.written().iter().filter(|write| write.starts_with("ecr:")).cloned().collect::<Vec<_>>();
    assert_eq!(created[..2], ["ecr:CreateRepository", "ecr:PutLifecyclePolicy"]);
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_builds_secret_is_found_nowhere_and_its_failure_says_its_last_lines() {
    let (_images, mut shop) = shop("images-secret", true).await;
    let canary = format!("canary-{}-{}", std::process::id(), "0123456789abcdef");
    // Of this run alone: a step that is remembered says nothing.
    let step =
        format!("RUN --mount=type=secret,id=token cat /run/secrets/token; sha256sum /run/secrets/token > /sum-{}", std::process::id());
    shop.scene.write("api/Dockerfile", format!("FROM local/python:3.11-bookworm\n{step}\n"));
    let refused = shop.refused(&["stage", "images"], 11);
    assert!(refused.contains("line 2 of `Dockerfile` mounts the secret `token`, which `image.secrets` does not have"), "{refused}");
    shop.configure("repository: images-secret/api}", "repository: images-secret/api, secrets: [\"id=token,env=BUILD_CANARY\"]}");
    let refused = fails(&shop, 22);
    assert!(refused.contains("the variable `BUILD_CANARY` is not set"), "{refused}");
    shop.scene.set("BUILD_CANARY", &canary);
    // What a step prints is in the events.
    let outcome = shop.run(&["stage", "images", "--format", "json"]).expect(0);
    let said = outcome.stdout + &outcome.stderr;
    assert!(said.contains("***") && !said.contains(&canary), "{said}");
    let requests = shop.proxy.requests();
    assert!(requests.iter().all(|request| !request.body.contains(&canary)), "no request holds it: no layer, no record, no plan");

    shop.scene.write("api/Dockerfile", format!("FROM local/python:3.11-bookworm\n{step}\nRUN head -c 99000000 /dev/zero > /dev/shm/x\n"));
    let refused = fails(&shop, 22);
    assert!(refused.contains("RUN head -c") && refused.contains("exited with 1") && refused.contains("| head: "), "{refused}");
    assert!(refused.contains("hint: the engine's disk is full"), "{refused}");
}

/// A step that takes its time when it is run first, and none when it is run again; and what of its command tells its process.
pub(crate) fn once_slow(name: &str, seconds: u32) -> (String, String) {
    let marker = format!("{seconds}.{}", std::process::id());
    let step = format!(
        "RUN --mount=type=cache,target=/was,id={name}-{} [ -e /was/here ] || {{ touch /was/here; sleep {marker}; }}\n",
        std::process::id()
    );
    (marker, step)
}

/// Carries connections to the engine until it is told to cut them all.
fn carrier() -> (String, std::sync::Arc<std::sync::Mutex<Vec<std::net::TcpStream>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let open = std::sync::Arc::<std::sync::Mutex<Vec<std::net::TcpStream>>>::default();
    let all = std::sync::Arc::clone(&open);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let engine = std::os::unix::net::UnixStream::connect("/var/run/docker.sock").unwrap();
            all.lock().unwrap().push(client.try_clone().unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            std::thread::spawn(move || {
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(std::net::Shutdown::Write).ok();
            });
            let (mut from, mut to) = (engine, client);
            std::thread::spawn(move || {
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(std::net::Shutdown::Both).ok();
            });
        }
    });
    (address, open)
}

#[tokio::test]
async fn an_engine_that_goes_away_mid_build_is_said_and_a_second_run_completes() {
    let (_images, mut shop) = shop("images-gone", true).await;
    let (marker, step) = once_slow("images-gone", 61);
    shop.scene.write("api/Dockerfile", format!("FROM local/python:3.11-bookworm\nCOPY app.py /\n{step}"));
    let (address, open) = carrier();
    shop.scene.set("DOCKER_HOST", &address);
    let running = shop.scene.start(&["stage", "images"]);
    until("the step runs", || runs(&marker));
    for connection in open.lock().unwrap().drain(..) {
        connection.shutdown(std::net::Shutdown::Both).ok();
    }
    let outcome = running.wait().expect(22);
    assert!(outcome.stderr.contains("service `api`: building the image failed"), "{}", outcome.stderr);
    // The engine is as far as it was; over SSH this time, as the command line reaches it.
    shop.scene.program("ssh", "exec env -u DOCKER_HOST docker system dial-stdio");
    shop.scene.set("DOCKER_HOST", "ssh://somewhere");
    shop.run(&["stage", "images"]).expect(0);
}
