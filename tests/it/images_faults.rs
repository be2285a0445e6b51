//! Pushes that a registry refuses for as long as it is asked, breaks off, or has seen before; and two images that share layers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::images::{Leftovers, is_layer, is_manifest, refusal, shop};
use crate::shop::Shop;
use crate::support::own_engine::docker;
use crate::support::proxy::Fault;
use crate::support::registry::{Registry, has};
use crate::support::request::Recorded;

const MACHINE: &str = "unix:///var/run/docker.sock";

/// Of a shop whose service is called `api` alone: where its image is, as the record has it, `HOST/REPOSITORY@DIGEST`.
async fn recorded(shop: &Shop, release: &str, service: &str) -> String {
    let release = release.trim_end().rsplit(' ').next().unwrap();
    shop.state_json(&format!("releases/{release}.json")).await["images"][service].as_str().unwrap().to_owned()
}

/// The tag that a run has pushed a service's image by.
fn tag(stderr: &str, service: &str) -> String {
    let push = format!(" {service} push: ");
    stderr.split(&push).nth(1).unwrap_or_else(|| panic!("{stderr}")).split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_registry_that_never_recovers_ends_the_push_in_time_and_a_second_run_completes() {
    type Asked = fn(&Recorded) -> bool;
    // The engine gives up a layer's 5xx by itself only after 50 s; of the rest windlass alone decides.
    let cases: [(&str, Asked, u16, &str, &str); 3] = [
        ("images-throttled", is_layer, 429, "TOOMANYREQUESTS", "Rate exceeded"),
        ("images-busy", is_manifest, 429, "TOOMANYREQUESTS", "Rate exceeded"),
        ("images-broken", is_manifest, 500, "UNKNOWN", "500 Internal Server Error"),
    ];
    let mut running = Vec::new();
    for (name, asked, status, code, message) in cases {
        let (images, shop) = shop(name, true).await;
        let down = Arc::new(AtomicBool::new(true));
        let is_down = Arc::clone(&down);
        let rule = move |request: &Recorded| is_down.load(Ordering::SeqCst) && asked(request);
        shop.proxy.fail_next(rule, usize::MAX >> 8, refusal(status, code, message));
        let run = shop.scene.start(&["stage", "images"]);
        running.push((images, shop, down, run, message));
    }
    let started = Instant::now();
    for (_images, shop, down, run, message) in running {
        let outcome = run.wait().expect(22);
        assert!(started.elapsed() < Duration::from_mins(5), "{:?}", started.elapsed());
        let said = shop.error(&outcome);
        assert!(said.contains("failed: 6 times in ") && said.contains(message), "{said}");
        assert!(said.contains("hint: nothing live has changed; run again: layers that have arrived are not sent again"), "{said}");
        assert_eq!(outcome.stderr.matches("trying again").count(), 5, "{}", outcome.stderr);
        down.store(false, Ordering::SeqCst);
        shop.run(&["stage", "images"]).expect(0);
        shop.run(&["stage", "images"]).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0]);
    }
}

/// Carries connections to `to`, and breaks off the first one that has carried so many bytes there.
fn breaking(to: String, after: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (broken, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let counted = Arc::clone(&broken);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(&to).unwrap();
            let (mut from, mut into) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            let (counted, seen) = (Arc::clone(&counted), Arc::clone(&seen));
            std::thread::spawn(move || {
                let (mut buffer, mut carried) = (vec![0; 64 * 1024], 0);
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    carried += read;
                    if carried > after && !seen.swap(true, Ordering::SeqCst) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        from.shutdown(Shutdown::Both).ok();
                        break;
                    }
                    if into.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                into.shutdown(Shutdown::Both).ok();
            });
            let (mut from, mut into) = (upstream, client);
            std::thread::spawn(move || {
                std::io::copy(&mut from, &mut into).ok();
                into.shutdown(Shutdown::Both).ok();
            });
        }
    });
    (host, broken)
}

/// Bytes that nothing makes smaller, of this run alone.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = std::process::id() ^ Instant::now().elapsed().subsec_nanos() ^ u32::try_from(bytes).unwrap();
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_layer_is_gone_on_with() {
    let (_images, shop) = shop("images-reset", true).await;
    let cloud = shop.proxy.url().trim_start_matches("http://").to_owned();
    let (host, broken) = breaking(cloud.clone(), 1_500_000);
    let _there = Leftovers(format!("{host}/images-reset/api"));
    shop.configure(&format!("registry: {cloud}"), &format!("registry: {host}"));
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY app.py /\nCOPY big /\n").write("api/big", noise(4_000_000));
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(broken.load(Ordering::SeqCst), 1, "{}", pushed.stderr);
    let image = recorded(&shop, &pushed.stdout, "api").await;
    assert_eq!(has(&cloud, "images-reset/api", &tag(&pushed.stderr, "api")), image.rsplit('@').next().unwrap(), "every layer is there");
}

#[tokio::test]
async fn a_tag_that_the_same_image_took_meanwhile_is_success() {
    let (_images, shop) = shop("images-same", true).await;
    let message =
        "The image tag 'x' already exists in the 'images-same/api' repository and cannot be overwritten because the tag is immutable.";
    let body = serde_json::json!({ "errors": [{ "code": "TAG_INVALID", "message": message }] }).to_string();
    // It is put there, as by another run; then this one is refused.
    shop.proxy.fail_next(is_manifest, 1, Fault::Rewrite(Box::new(move |_, _| (400, body.clone()))));
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.faults_left(), 0);
    assert!(pushed.stderr.contains("another run has pushed it"), "{}", pushed.stderr);
    let image = recorded(&shop, &pushed.stdout, "api").await;
    assert_eq!(image.rsplit('@').next().unwrap(), shop.seed.only_image("images-same/api").await);
}

#[tokio::test]
async fn the_engine_the_local_clouds_registry_and_the_record_name_one_digest() {
    let (_images, shop) = shop("images-three", true).await;
    let cloud = shop.proxy.url().trim_start_matches("http://").to_owned();
    let pushed = shop.run(&["stage", "images"]).expect(0);
    let image = recorded(&shop, &pushed.stdout, "api").await;
    let digest = image.rsplit('@').next().unwrap();
    let tag = tag(&pushed.stderr, "api");
    let named = docker(MACHINE, &["inspect", "--format", "{{join .RepoDigests \" \"}}", &format!("{cloud}/images-three/api:{tag}")]);
    assert_eq!(String::from_utf8(named.stdout).unwrap().trim(), image, "the engine");
    assert_eq!(has(&cloud, "images-three/api", &tag), digest, "the registry's manifest, and every blob of it");
    assert_eq!(shop.seed.only_image("images-three/api").await, digest, "ECR's API");
}

#[tokio::test]
async fn two_images_that_share_their_base_are_built_and_pushed_at_once() {
    let (_images, shop) = shop("images-two", true).await;
    let cloud = shop.proxy.url().trim_start_matches("http://").to_owned();
    shop.seed.repository("images-two/jobs").await;
    let _jobs = Leftovers(format!("{cloud}/images-two/jobs"));
    let service = |name: &str, repository: &str| {
        format!(
            "  {name}:\n    path: {name}\n    image: {{repository: images-two/{repository}}}\n    cluster: c\n    service: {name}\n    container: web\n"
        )
    };
    let added = format!("services:\n{}{}", service("worker", "api"), service("jobs", "jobs"));
    shop.configure("services:\n", &added);
    let shared = noise(3_000_000);
    let dockerfile = "FROM scratch AS base\nCOPY shared /\nFROM base\nCOPY app.py /\n";
    for name in ["api", "worker", "jobs"] {
        shop.scene.write(&format!("{name}/shared"), &shared).write(&format!("{name}/Dockerfile"), dockerfile);
        shop.scene.write(&format!("{name}/app.py"), format!("{name} {:?}", Instant::now()));
        // The time of a file is a part of its layer.
        let file = std::fs::File::options().append(true).open(shop.scene.project().join(name).join("shared")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }
    let pushed = shop.run(&["stage", "images"]).expect(0);
    let uploads: Vec<(String, String)> = shop
        .proxy
        .requests()
        .into_iter()
        .filter(|request| request.operation == "registry:PUT" && request.path.contains("/blobs/uploads/"))
        .map(|request| {
            (request.path.split("/blobs/").next().unwrap().to_owned(), request.query.split("digest=").nth(1).unwrap().to_owned())
        })
        .collect();
    let distinct: std::collections::BTreeSet<_> = uploads.iter().collect();
    assert_eq!(distinct.len(), uploads.len(), "nothing goes to a repository twice: {uploads:?}");
    let mut digests = std::collections::BTreeSet::new();
    for (name, repository) in [("api", "images-two/api"), ("worker", "images-two/api"), ("jobs", "images-two/jobs")] {
        let image = recorded(&shop, &pushed.stdout, name).await;
        let tag = tag(&pushed.stderr, name);
        assert_eq!(format!("{cloud}/{repository}@{}", has(&cloud, repository, &tag)), image, "{name}");
        digests.insert(image);
    }
    assert_eq!(digests.len(), 3);
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn what_git_ignores_counts_and_an_image_is_built_again_when_it_is_too_old() {
    let (_images, shop) = shop("images-aged", true).await;
    let before = shop.run(&["stage", "images"]).expect(0);
    // The shop's `.gitignore` names it; no `.dockerignore` does.
    shop.scene.write("api/dist/generated.py", "1");
    let after = shop.run(&["stage", "images"]).expect(0);
    assert_ne!(tag(&before.stderr, "api"), tag(&after.stderr, "api"));
    shop.configure("repository: images-aged/api}", "repository: images-aged/api, max_age: 1s}");
    for _ in 0..2 {
        // Longer than one period: what was built before the last one is too old as well.
        std::thread::sleep(Duration::from_millis(3100));
        let built = shop.run(&["stage", "images"]).expect(0);
        assert!(built.stderr.contains(" build: from") && built.stderr.contains(" 0 cached"), "{}", built.stderr);
    }
}

#[tokio::test]
async fn each_cause_of_a_base_that_is_not_there_has_its_hint() {
    let (_images, shop) = shop("images-hints", true).await;
    let cloud = shop.proxy.url().trim_start_matches("http://").to_owned();
    let registry = Registry::start();
    shop.proxy.fail_next(|request| request.path.contains("/limited/manifests/"), 9, refusal(429, "TOOMANYREQUESTS", "Rate exceeded"));
    let cases = [
        ("127.0.0.1:1/none/base:1".to_owned(), "connection refused", "the engine cannot reach the base image's registry"),
        (format!("{}/none/base:1", registry.host()), "unknown", "correct the image's name or tag"),
        (format!("{cloud}/images-hints/limited:1"), "toomanyrequests", "the registry limits anonymous pulls"),
    ];
    for (base, cause, hint) in cases {
        shop.scene.write("api/Dockerfile", format!("FROM {base}\nCOPY app.py /\n"));
        let refused = shop.refused(&["stage", "images"], 11);
        assert!(refused.contains(cause) && refused.contains(&format!("hint: {hint}")), "{refused}");
    }
    // A base for other machines than those that are asked for.
    shop.scene.write("api/Dockerfile", "FROM local/python:3.11-bookworm\nCOPY app.py /\n");
    shop.configure("repository: images-hints/api}", "repository: images-hints/api, platform: linux/arm64}");
    let outcome = shop.run(&["stage", "images"]).expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("is for linux/amd64, and does not match the specified platform linux/arm64"), "{said}");
    assert!(said.contains("hint: the engine has the base image for another platform"), "{said}");
}
