//! `init` on small applications of many shapes: what it recognises and why, what it writes, and what it asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::scene::{Outcome, Scene};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/init").join(name)
}

/// Every file below a directory but Git's: its text, and when it was written.
fn files(root: &Path) -> BTreeMap<String, (String, std::time::SystemTime)> {
    let entries = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".git").map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, (std::fs::read_to_string(entry.path()).unwrap(), entry.metadata().unwrap().modified().unwrap()))
        })
        .collect()
}

/// A checkout of a fixture. Nothing of it needs a cloud.
pub(crate) fn scene(name: &str) -> Scene {
    let scene = Scene::new("http://127.0.0.1:1");
    for (path, (text, _)) in files(&fixture(name)) {
        scene.write(&path, text);
    }
    scene
}

pub(crate) fn init(scene: &Scene, arguments: &[&str]) -> Outcome {
    scene.windlass(&[&["init", "--app", "shop"], arguments].concat())
}

/// What was said, and what was written but for the buildspecs, which are windlass's own.
fn told(scene: &Scene, outcome: &Outcome, before: &BTreeMap<String, (String, std::time::SystemTime)>) -> String {
    let mut text = outcome.stdout.clone();
    assert_eq!(outcome.stderr, "");
    for (path, (content, _)) in files(&scene.project()) {
        if before.contains_key(&path) || path.starts_with("buildspecs/") {
            continue;
        }
        let content = if path == "Jenkinsfile" {
            content.lines().filter(|line| line.contains("choice(")).collect::<Vec<_>>().join("\n")
        } else {
            content
        };
        text.extend(["=== ", &path, "\n", &content, "\n"]);
    }
    text
}

/// Runs it, holds what it says and writes against the snapshot, and looks at what is written: windlass reads it, in each environment,
/// a second run changes nothing, and nothing that was there was touched.
fn recognised(name: &str, arguments: &[&str]) {
    let scene = scene(name);
    let before = files(&scene.project());
    let outcome = init(&scene, arguments).expect(0);
    insta::with_settings!({omit_expression => true}, { assert_snapshot!(name, told(&scene, &outcome, &before)) });
    accepted(&scene);
    let first = files(&scene.project());
    for (path, there) in &before {
        assert_eq!(&first[path], there, "{path} was there and was touched");
    }
    // The flags are needed no more: all of it is there.
    let again = scene.windlass(&["init"]).expect(0);
    assert!(again.stdout.ends_with("nothing to do: every file is there\n"), "{}", again.stdout);
    assert_eq!(files(&scene.project()), first, "a second run has changed something");
}

/// windlass reads the configuration in each of its environments, and finds nothing wrong with the buildspecs.
fn accepted(scene: &Scene) {
    let text = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    let environments: Vec<&str> = ["staging", "production"].into_iter().filter(|name| text.contains(&format!("\n  {name}:"))).collect();
    let environments: Vec<Vec<&str>> =
        if environments.is_empty() { vec![vec![]] } else { environments.into_iter().map(|name| vec!["--env", name]).collect() };
    for environment in environments {
        scene.windlass(&[&["policy"], &environment[..]].concat()).expect(0);
    }
    let specs = files(&scene.project()).into_keys().filter(|path| path.starts_with("buildspecs/")).collect::<Vec<_>>();
    assert!(specs.len() > 4);
    scene.windlass(&[vec!["lint", "--strict"], specs.iter().map(String::as_str).collect()].concat()).expect(0);
}

/// Refuses in so many words, and writes nothing; with the answers it goes through.
fn refused(name: &str, answers: &[&str]) {
    let scene = scene(name);
    let before = files(&scene.project());
    let outcome = init(&scene, &[]).expect(10);
    assert_eq!((files(&scene.project()), outcome.stdout.as_str()), (before, ""));
    if !answers.is_empty() {
        recognised(name, answers);
    }
    insta::with_settings!({omit_expression => true}, { assert_snapshot!(format!("{name}-refused"), outcome.stderr) });
}

#[test]
fn react_and_django_with_static_files_in_the_image() {
    recognised("react-django", &[]);
}

#[test]
fn nest_and_prisma_and_vite_in_a_pnpm_workspace() {
    recognised("nest-prisma-pnpm", &[]);
}

#[test]
fn next_on_a_server_beside_django() {
    recognised(
        "next-django",
        &["--cluster", "tides", "--ecs-service", "web=tides-web", "--health", "api=/api/healthz", "--function", "tides-migrate"],
    );
}

#[test]
fn next_exported() {
    recognised("next-export", &["--bucket", "brochure", "--distribution", "E2BROCHURE", "--state", "none"]);
}

#[test]
fn create_react_app_with_yarn() {
    recognised("cra-yarn", &[]);
}

#[test]
fn vite_that_writes_elsewhere() {
    recognised("vite-outdir", &[]);
}

#[test]
fn django_with_poetry_and_without_a_dockerfile() {
    recognised("django-poetry", &[]);
}

#[test]
fn django_with_uv_and_without_a_dockerfile() {
    recognised("django-uv", &[]);
}

#[test]
fn django_that_serves_what_vite_builds() {
    recognised("django-vite", &[]);
}

#[test]
fn angular_beside_nest_with_another_mapper() {
    recognised("angular-nest", &[]);
}

#[test]
fn pages_as_they_are() {
    recognised("static", &[]);
}

#[test]
fn what_is_there_is_kept_and_the_rest_follows_it() {
    recognised("initialised", &[]);
}

#[test]
fn several_dockerfiles_are_told_apart() {
    recognised("several-dockerfiles", &[]);
}

#[test]
fn django_as_cookiecutter_lays_it_out() {
    refused("django-cookiecutter", &["--settings", "config.settings.production"]);
}

#[test]
fn create_react_app_below_a_path_and_django_with_pipenv() {
    recognised("cra-pipenv", &[]);
}

#[test]
fn vite_told_by_flags_where_it_is_served() {
    recognised("vite-flags", &[]);
}

#[test]
fn a_base_that_is_computed_is_said() {
    recognised("vite-computed-base", &[]);
}

#[test]
fn yarn_berry_with_its_own_releases() {
    recognised("yarn-berry", &[]);
}

#[test]
fn turbo_with_next_nest_and_a_schema_of_its_own() {
    refused("pnpm-turbo", &["--migrated-by", "packages/db=api"]);
}

#[test]
fn projects_of_nx() {
    recognised("nx", &[]);
}

#[test]
fn a_manage_py_far_below_its_requirements() {
    recognised("django-two-down", &[]);
}

#[test]
fn a_workspace_of_uv() {
    recognised("uv-workspace", &[]);
}

#[test]
fn requirements_that_are_directories_of_the_checkout() {
    recognised("pip-paths", &[]);
}

#[test]
fn nest_and_vite_in_a_workspace_of_npm() {
    recognised("nest-npm-workspace", &[]);
}

#[test]
fn next_that_is_exported_or_not() {
    refused("next-computed-export", &["--as", "frontend=service"]);
}

#[test]
fn a_workspace_of_bun() {
    recognised("bun-hono", &[]);
}

#[test]
fn django_whose_image_builds_the_pages() {
    recognised("django-builds-vite", &[]);
}

#[test]
fn express_beside_create_react_app() {
    recognised("express-react", &[]);
}

#[test]
fn settings_that_choose_by_themselves() {
    recognised("django-odd-settings", &[]);
}

#[test]
fn conflicting_lockfiles_are_refused() {
    let answers = ["--package-manager", "admin=npm", "--package-manager", "web=yarn"];
    refused("conflicting-lockfiles", &answers);
}

#[test]
fn settings_for_a_laptop_are_no_settings_for_a_server() {
    refused("two-settings", &["--settings", "api=quay.settings.production"]);
}

#[test]
fn a_schema_of_two_services_is_refused() {
    refused("prisma-package", &["--migrated-by", "api"]);
}

#[test]
fn a_stage_for_development_is_no_release() {
    refused("compose-workers", &["--target", "production"]);
}

#[test]
fn an_output_that_is_computed_is_refused() {
    refused("computed-output", &["--output", "web=public"]);
}

#[test]
fn nothing_to_release_is_refused() {
    refused("empty", &[]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    refused("broken", &[]);
}

#[test]
fn a_slip_in_an_answer_is_refused() {
    let scene = scene("react-django");
    let say = |arguments: &[&str]| init(&scene, arguments).expect(10).stderr;
    let slips = [&["--package-manager", "front=npm"][..], &["--python", "conda"], &["--bucket", "shop"], &["--bucket", "frontend=Shop"]];
    let all: String = slips.into_iter().map(say).collect();
    insta::with_settings!({omit_expression => true}, { assert_snapshot!("slips", all) });
    init(&scene, &["--environment", "staging=12"]).expect(2);
    assert!(!scene.project().join("windlass.yml").exists());
}

#[test]
fn a_dry_run_prints_and_writes_nothing() {
    let scene = scene("static");
    let before = files(&scene.project());
    let dry = init(&scene, &["--dry-run"]).expect(0);
    assert_eq!(files(&scene.project()), before);
    init(&scene, &[]).expect(0);
    let written = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    assert!(dry.stdout.contains("would be written\n  windlass.yml\n") && dry.stdout.contains(written.trim_end()), "{}", dry.stdout);
}

#[test]
fn a_batch_has_a_node_for_each_unit() {
    let scene = scene("react-django");
    init(&scene, &[]).expect(0);
    let batch = std::fs::read_to_string(scene.project().join("buildspecs/batch.yml")).unwrap();
    assert!(batch.contains("depend-on: [images_backend, assets_frontend, assets_static]\n"), "{batch}");
    let plan = scene.windlass(&["build", "--plan", "--batch", "--buildspec", "buildspecs/batch.yml"]).expect(0);
    assert!(plan.stdout.contains("assets_static"), "{}", plan.stdout);
}

#[test]
fn programs_get_json() {
    let one = scene("react-django");
    let json: Value = serde_json::from_str(&init(&one, &["--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(json["app"], "shop");
    let units: Vec<&str> = json["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap()).collect();
    assert_eq!(units, ["frontend", "static", "backend", "main"]);
    let manage = json["findings"].as_array().unwrap().iter().find(|finding| finding["file"] == "backend/manage.py").unwrap();
    assert_eq!((&manage["line"], &manage["acted_upon"]), (&6.into(), &true.into()));
    assert_eq!((&json["files"][0]["path"], &json["files"][0]["fate"]), (&"windlass.yml".into(), &"written".into()));

    let other = scene("computed-output");
    let said = init(&other, &["--format", "json"]).expect(10).stdout;
    let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Value>().map(Result::unwrap);
    assert_eq!(values.next().unwrap()["questions"][0]["flag"], "--output");
    assert_eq!(values.next().unwrap()["exit"], 10);
}

/// On a terminal it asks; an empty line takes what is proposed.
#[test]
fn on_a_terminal_it_asks() {
    let scene = scene("conflicting-lockfiles");
    let command = format!("{} init --app shop", env!("CARGO_BIN_EXE_windlass"));
    let typed =
        "printf '1\\nyarn\\n\\nshop-admin-pages\\nE1ADMIN\\n\\n\\n' | script --quiet --echo never --return --command \"$0\" /dev/null";
    let outcome = scene.run("sh", &["-c", typed, &command]).expect(0);
    assert!(outcome.stdout.contains("which? (--package-manager answers this beforehand)"), "{}", outcome.stdout);
    let written = std::fs::read_to_string(scene.project().join("windlass.yml")).unwrap();
    for part in [
        "build: npx --yes pnpm@10.24.0 install",
        "bucket: shop-admin-pages\n",
        "distribution: E1ADMIN\n",
        "npx --yes yarn@1 install",
        "state: s3://shop-state/windlass ",
    ] {
        assert!(written.contains(part), "{part} is not in\n{written}");
    }
}
