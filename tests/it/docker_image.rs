//! The image with windlass: `docker/image.sh` makes it, and a buildspec runs in it. Plain Docker, no local cloud.

use crate::support::scene::Scene;

/// Removes the image at the end of the test, whatever came of it.
struct Image<'a>(&'a Scene, String);

impl Drop for Image<'_> {
    fn drop(&mut self) {
        drop(self.0.run("docker", &["image", "rm", "--force", &self.1]));
    }
}

#[test]
fn an_image_with_windlass_builds_as_somebody_who_is_not_root() {
    let mut scene = Scene::new("http://127.0.0.1:1");
    if let Some(engine) = std::env::var_os("DOCKER_HOST") {
        scene.set("DOCKER_HOST", engine);
    }
    let image = Image(&scene, format!("windlass-test-{}:local", std::process::id()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/image.sh");
    scene.run(script, &["--program", env!("CARGO_BIN_EXE_windlass"), &image.1]).expect(0);
    let run = |script: &str| scene.run("docker", &["run", "--rm", &image.1, "sh", "-c", script]).expect(0);
    assert_eq!(run("windlass --version; id -un; git --version | cut -c1-3").stdout, "windlass 0.1.0\nwindlass\ngit\n");
    let built = run("printf 'version: 0.2\\nphases: {build: {commands: [echo built by $(id -un)]}}\\n' > buildspec.yml && windlass build");
    assert!(built.stdout.contains("built by windlass") || built.stderr.contains("built by windlass"), "{built:?}");
    // Jenkins takes a user of its own.
    let own =
        ["run", "--rm", "--user", "4711:4711", &image.1, "sh", "-c", "windlass schema > $HOME/schema.json && wc -l < $HOME/schema.json"];
    assert!(scene.run("docker", &own).expect(0).stdout.trim().parse::<u32>().unwrap() > 100);
}
