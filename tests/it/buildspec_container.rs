//! Buildspecs in a container: the same as on this machine, with the image's variables and users.

use std::path::Path;

use rustix::process::Signal;

use crate::support::scene::{Outcome, Scene, until};

/// Has `sh`, `bash` and a user `nobody`.
const IMAGE: &str = "local/python:3.11-bookworm";

fn scene(buildspec: &str) -> Scene {
    let mut scene = Scene::new("http://127.0.0.1:1");
    if let Some(host) = std::env::var_os("DOCKER_HOST") {
        scene.set("DOCKER_HOST", host);
    }
    scene.write("buildspec.yml", buildspec);
    scene
}

fn build(scene: &Scene, image: &str, more: &[&str]) -> Outcome {
    scene.windlass(&[&["build", "--image", image, "--log-format", "codebuild"], more].concat())
}

/// An image of the test's own, gone when this is dropped.
struct Image(String);

impl Image {
    fn new(name: &str, dockerfile: &str) -> Self {
        let tag = format!("windlass-test/{name}:{}", std::process::id());
        let context = scene("");
        context.write("image/Dockerfile", dockerfile);
        let mut docker = std::process::Command::new("docker");
        docker.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &tag]).arg(context.project().join("image"));
        let output = docker.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(tag)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        std::process::Command::new("docker").args(["image", "rm", "--force", &self.0]).output().ok();
    }
}

#[test]
fn the_images_variables_have_the_lowest_rank_and_its_entry_point_is_not_run() {
    let image = Image::new("buildspec-env", &format!("FROM {IMAGE}\nENV A=image B=image C=image D=image\nENTRYPOINT [\"/bin/false\"]\n"));
    let scene = scene(
        "version: 0.2\nenv:\n  variables: {A: spec, B: spec, C: spec}\nphases:\n  build: {commands: ['echo A=$A B=$B C=$C D=$D H=${HARMLESS:-none}']}\n",
    );
    let outcome = build(&scene, &image.0, &["--project-var", "B=project", "--project-var", "C=project", "--var", "C=override"]).expect(0);
    assert!(outcome.stdout.contains("A=spec B=project C=override D=image H=none\n"), "{}", outcome.stdout);
}

#[test]
fn state_is_carried_and_users_are_the_images() {
    let scene = scene(
        "version: 0.2\nphases:\n  install:\n    commands: ['mkdir sub', 'cd sub', 'V=kept', 'echo one; echo two >&2; echo three']\n  build:\n    run-as: nobody\n    commands: ['echo $(basename $PWD) $V $(id -un)']\nartifacts: {files: ['sub/made']}\n",
    );
    // Another user than the container's own has to be able to read what the build keeps.
    let outcome = build(&scene, IMAGE, &["--result", "result.json"]).expect(20);
    assert!(outcome.stdout.contains("one\ntwo\nthree\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("sub kept nobody\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("Skipping invalid file path sub/made\n"), "{}", outcome.stdout);
}

fn containers(name: &str) -> String {
    let listed = std::process::Command::new("docker").args(["ps", "--quiet", "--filter", &format!("ancestor={name}")]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn an_interrupt_leaves_no_container() {
    let image = Image::new("buildspec-stop", &format!("FROM {IMAGE}\nENV STOP={}\n", std::process::id()));
    let scene = scene("version: 0.2\nphases:\n  build:\n    commands: ['touch started; sleep 600']\n");
    let running = scene.start(&["build", "--image", &image.0]);
    until("the build starts", || Path::new(&scene.project().join("started")).exists());
    running.signal(Signal::INT);
    running.wait().expect(130);
    assert_eq!(containers(&image.0), "");
}

#[test]
fn an_image_that_cannot_be_had_is_told() {
    let scene = scene("version: 0.2\nphases: {}\n");
    let outcome = build(&scene, "127.0.0.1:1/nothing:none", &[]).expect(20);
    assert!(outcome.stderr.contains("error: the build failed in DOWNLOAD_SOURCE\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("127.0.0.1:1/nothing:none"), "{}", outcome.stderr);
}
