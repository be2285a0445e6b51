//! A Dockerfile that `init` has written, built by a real engine and started.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::scene::Scene;

/// Removes the container and the image, whatever becomes of the test.
struct Leftovers(String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for arguments in [["rm", "--force", &self.0], ["rmi", "--force", &self.0]] {
            Command::new("docker").args(arguments).output().ok();
        }
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "docker {arguments:?}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Asks for the path until the container answers.
fn get(address: &str, path: &str) -> String {
    let started = Instant::now();
    loop {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: 10.0.0.7\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        match answer {
            Ok(text) if !text.is_empty() => return text,
            _ if started.elapsed() > Duration::from_mins(5) => panic!("{address} does not answer: {answer:?}"),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[test]
fn a_django_service_without_a_dockerfile_is_built_and_answers() {
    let scene = Scene::new("http://127.0.0.1:1");
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
    for entry in walkdir::WalkDir::new(shop.join("api")).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
        let name = entry.path().strip_prefix(&shop).unwrap().to_str().unwrap().to_owned();
        if !name.ends_with("Dockerfile") && !name.ends_with(".dockerignore") && !name.contains("__pycache__") {
            scene.write(&name, std::fs::read(entry.path()).unwrap());
        }
    }
    scene.windlass(&["init", "--app", "shop"]).expect(0);
    let image = format!("windlass-init-{}", std::process::id());
    let _leftovers = Leftovers(image.clone());
    let api = scene.project().join("api");
    docker(&["build", "--quiet", "--build-arg", "BASE=local/python:3.11-bookworm", "--tag", &image, api.to_str().unwrap()]);
    docker(&[
        "run",
        "--detach",
        "--name",
        &image,
        "--publish",
        "127.0.0.1::8000",
        "--env",
        "DATABASE_URL=postgres://x@127.0.0.1/x",
        &image,
    ]);
    let address = docker(&["port", &image, "8000/tcp"]);
    let answer = get(address.lines().next().unwrap().trim(), "/healthz");
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(docker(&["exec", &image, "id", "--user"]).trim(), "10001", "it does not run as root");
    docker(&["stop", "--time", "20", &image]);
    assert_eq!(docker(&["inspect", "--format", "{{.State.ExitCode}}", &image]).trim(), "0", "it ends when it is told to");
}
