//! `init` on layouts that are told by a few files, and answers that fit none.

use crate::init::{init, scene};
use crate::support::scene::Scene;

/// What is said, and what is written, of a checkout of a few files.
fn of_files(files: &[(&str, &str)]) -> (String, String) {
    let scene = Scene::new("http://127.0.0.1:1");
    for (path, text) in files {
        scene.write(path, text);
    }
    let said = init(&scene, &[]).expect(0).stdout;
    let written = ["windlass.yml", "Dockerfile"].map(|name| std::fs::read_to_string(scene.project().join(name)).unwrap_or_default());
    (said, written.concat())
}

#[test]
fn a_container_that_migrates_when_it_starts_is_said() {
    let nest = r#"{"scripts": {"start:prod": "node dist/main", "start:migrate": "prisma migrate deploy && npm run start:prod"}, "dependencies": {"@nestjs/core": "11"}}"#;
    for (command, place) in [
        ("CMD [\"npm\", \"run\", \"start:migrate\"]", "package.json:1: it migrates when it starts"),
        ("CMD npx prisma migrate deploy && node dist/main.js", "Dockerfile:3: it migrates when it starts"),
        ("ENTRYPOINT [\"/app/bin/entrypoint.sh\"]", "bin/entrypoint.sh:3: it migrates when it starts"),
    ] {
        let dockerfile = format!("FROM node:22\nCOPY . /app\n{command}\n");
        let script = ("bin/entrypoint.sh", "#!/bin/sh\n# waits\nnpx prisma migrate deploy\nexec \"$@\"\n");
        let (said, _) = of_files(&[("package.json", nest), ("package-lock.json", "{}"), ("Dockerfile", &dockerfile), script]);
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn applications_that_share_a_package_are_told_apart() {
    let nest = r#"{"scripts": {"build": "nest build", "start:prod": "node dist/apps/api/main"}, "dependencies": {"@nestjs/core": "11"}}"#;
    let cli = r#"{"monorepo": true, "root": "apps/api", "projects": {"api": {"type": "application", "root": "apps/api"},
        "mailer": {"type": "application", "root": "apps/mailer"}, "common": {"type": "library", "root": "libs/common"}}}"#;
    let (said, written) = of_files(&[("package.json", nest), ("package-lock.json", "{}"), ("nest-cli.json", cli)]);
    assert!(
        said.contains("nest-cli.json:2: `mailer`, another application of this workspace") && !said.contains("`api`, another"),
        "{said}"
    );
    assert!(written.contains(r#"CMD ["node","dist/apps/api/main"]"#), "{written}");
}

#[test]
fn a_react_router_without_a_server_is_a_site_and_a_checked_environment_is_not_asked_for() {
    let package = r#"{"scripts": {"build": "react-router build"}, "dependencies": {"@react-router/node": "7"}, "devDependencies": {"@react-router/dev": "7", "vite": "7"}}"#;
    let config = ("react-router.config.ts", "export default { ssr: false }");
    let (_, written) = of_files(&[("package.json", package), ("package-lock.json", "{}"), config]);
    assert!(written.contains("output: build/client\n"), "{written}");
    let next = r#"{"scripts": {"build": "next build", "start": "next start"}, "dependencies": {"next": "16"}}"#;
    let checked = ("src/env.js", "export const env = createEnv({ skipValidation: !!process.env.SKIP_ENV_VALIDATION });");
    let (_, written) = of_files(&[("package.json", next), ("package-lock.json", "{}"), checked]);
    assert!(written.contains("RUN SKIP_ENV_VALIDATION=1 npm run build\n"), "{written}");
}

#[test]
fn settings_that_are_nowhere_are_refused() {
    let scene = scene("two-settings");
    let said = init(&scene, &["--settings", "api=quay.settings.productoin"]).expect(10).stderr;
    assert!(said.contains("no file of `api` is the settings module `quay.settings.productoin`:"), "{said}");
    assert!(said.contains("--settings api=") && !scene.project().join("windlass.yml").exists(), "{said}");
}
