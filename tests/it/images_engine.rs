//! Images with an engine of the test's own, which is killed, full, far away, or has built nothing yet.

use std::path::Path;
use std::time::Instant;

use crate::images::{once_slow, shop};
use crate::shop::Shop;
use crate::support::own_engine::{OwnEngine, docker};
use crate::support::scene::{runs, until};

/// Puts a static shell into the build context, as a whole image in one file.
fn shell(shop: &Shop) -> &'static str {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("`busybox` is there: apt-get install busybox-static");
    shop.scene.write("api/busybox", std::fs::read(busybox).unwrap());
    let busybox = shop.scene.project().join("api/busybox");
    std::fs::set_permissions(busybox, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/sleep\n"
}

fn change(shop: &Shop) {
    shop.scene.write("api/app.py", format!("{:?}", Instant::now()));
}

#[tokio::test]
async fn an_engine_behind_tls_is_reached_by_variables_and_by_a_context() {
    let (_images, mut shop) = shop("images-tls", true).await;
    let engine = OwnEngine::with_tls();
    shop.scene.set("DOCKER_HOST", engine.address());
    shop.scene.set("DOCKER_TLS_VERIFY", "1");
    shop.scene.set("DOCKER_CERT_PATH", engine.certificates().as_os_str());
    let built = shop.run(&["stage", "images"]).expect(0);
    assert!(built.stderr.contains("[1/1] COPY app.py /") && built.stderr.contains(" layers sent"), "{}", built.stderr);

    for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        shop.scene.unset(name);
    }
    let files = engine.certificates().display().to_string();
    let endpoint = format!("host={},ca={files}/ca.pem,cert={files}/cert.pem,key={files}/key.pem", engine.address());
    shop.scene.run("docker", &["context", "create", "far", "--docker", &endpoint]).expect(0);
    shop.scene.run("docker", &["context", "use", "far"]).expect(0);
    change(&shop);
    shop.run(&["stage", "images"]).expect(0);
    let there = docker(&engine.socket(), &["images", "--quiet"]).stdout;
    assert_eq!(String::from_utf8(there).unwrap().lines().count(), 2, "both were built there");

    // Another authority's certificate does not open it, and nothing is said in clear.
    change(&shop);
    let other = OwnEngine::with_tls();
    shop.scene.set("DOCKER_HOST", engine.address());
    shop.scene.set("DOCKER_TLS_VERIFY", "1");
    shop.scene.set("DOCKER_CERT_PATH", other.certificates().as_os_str());
    let refused = shop.refused(&["stage", "images"], 11);
    assert!(refused.contains("no Docker engine answers at `tcp://") && refused.contains("certificate"), "{refused}");
    shop.scene.unset("DOCKER_TLS_VERIFY");
    shop.scene.set("DOCKER_TLS", "1");
    let refused = shop.refused(&["stage", "images"], 11);
    assert!(refused.contains("nobody would check who answers") && refused.contains("hint: set DOCKER_HOST"), "{refused}");
}

#[tokio::test]
async fn an_engine_that_is_killed_mid_build_is_said_and_a_second_run_completes() {
    let (_images, mut shop) = shop("images-killed", true).await;
    let mut engine = OwnEngine::start();
    shop.scene.set("DOCKER_HOST", engine.socket());
    let (marker, step) = once_slow("images-killed", 62);
    let dockerfile = shell(&shop);
    shop.scene.write("api/Dockerfile", format!("{dockerfile}COPY busybox /bin/touch\n{step}COPY app.py /\n"));
    let running = shop.scene.start(&["stage", "images"]);
    until("the step runs", || runs(&marker));
    engine.kill();
    let outcome = running.wait().expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("service `api`: building the image failed") && said.contains("hint: "), "{said}");
    let refused = shop.refused(&["stage", "images"], 11);
    assert!(refused.contains("no Docker engine answers") && refused.contains("hint: start it with `systemctl start docker`"), "{refused}");
    engine.again();
    shop.run(&["stage", "images"]).expect(0);
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_full_disk_is_said_and_a_second_run_completes_when_there_is_room() {
    let (_images, mut shop) = shop("images-full", true).await;
    let engine = OwnEngine::on_disk_of(60);
    shop.scene.set("DOCKER_HOST", engine.socket());
    shop.scene.write("api/big", vec![7; 50_000_000]);
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY big app.py /\n");
    let outcome = shop.run(&["stage", "images"]).expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("no space left on device") && said.contains("hint: the engine's disk is full"), "{said}");
    engine.grow(400);
    shop.run(&["stage", "images"]).expect(0);
}

#[tokio::test]
async fn a_builder_that_has_built_nothing_yet_takes_layers_from_the_registry() {
    let (_images, mut shop) = shop("images-inline", true).await;
    shop.scene.write("api/deps", format!("{:?}", Instant::now()));
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY deps /\nCOPY app.py /\n");
    shop.run(&["stage", "images"]).expect(0);
    let engine = OwnEngine::start();
    shop.scene.set("DOCKER_HOST", engine.socket());
    change(&shop);
    let built = shop.run(&["stage", "images"]).expect(0);
    assert!(built.stderr.contains("[1/2] COPY deps /: cached") && built.stderr.contains("2 steps, 1 cached"), "{}", built.stderr);
    assert!(built.stderr.contains("1 of 2 layers sent"), "the other one is there: {}", built.stderr);
}

#[tokio::test]
async fn podmans_socket_builds_and_pushes() {
    let (_images, mut shop) = shop("images-podman", true).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut podman = std::process::Command::new("podman");
    podman.args(["--root", &file("root"), "--runroot", &file("run"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
    let mut service = podman.args(["system", "service", "--time", "0", &format!("unix://{}", file("podman.sock"))]).spawn().unwrap();
    let socket = format!("unix://{}", file("podman.sock"));
    until("Podman answers", || docker(&socket, &["version"]).status.success());
    shop.scene.set("DOCKER_HOST", format!("unix://{}", file("podman.sock")));
    let dockerfile = shell(&shop);
    shop.scene.write("api/Dockerfile", format!("{dockerfile}RUN echo built > /by\nCOPY app.py /\n"));
    let built = shop.run(&["stage", "images"]);
    let again = shop.run(&["stage", "images"]);
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!((built.code, again.code), (Some(0), Some(0)), "{}", built.stderr);
    assert!(built.stderr.contains("without BuildKit") && built.stderr.contains(" by the classic builder"), "{}", built.stderr);
    assert_eq!(shop.proxy.written(), [""; 0]);
}
