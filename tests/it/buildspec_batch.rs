//! Batches, retries, artifacts and caches of buildspecs, as far as the cases do not have them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::ministack::shared;
use crate::support::scene::{Outcome, Scene};

fn scene(buildspec: &str) -> Scene {
    let scene = Scene::new("http://127.0.0.1:1");
    scene.write("source/buildspec.yml", buildspec);
    scene
}

fn build(scene: &Scene, more: &[&str]) -> (Outcome, Value) {
    let fixed = ["build", "--source", "source", "--project", "demo", "--log-format", "codebuild", "--result", "result.json"];
    let outcome = scene.windlass(&[&fixed, more].concat());
    let result = std::fs::read(scene.project().join("result.json")).unwrap_or_else(|_| panic!("{}", outcome.stderr));
    (outcome, serde_json::from_slice(&result).unwrap())
}

fn statuses(result: &Value) -> BTreeMap<String, String> {
    result["builds"].as_object().unwrap().iter().map(|(name, status)| (name.clone(), status.as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_matrix_builds_every_combination_in_a_copy_of_its_own() {
    let scene = scene(
        "version: 0.2\nbatch:\n  build-matrix:\n    static: {ignore-failure: false}\n    dynamic: {env: {variables: {A: [x, y], B: ['1', '2', '3']}}}\nphases:\n  build:\n    commands: ['test ! -e mark && touch mark', 'echo got-$A$B']\n",
    );
    let (outcome, result) = build(&scene, &["--batch"]);
    let outcome = outcome.expect(0);
    assert_eq!(statuses(&result).len(), 6);
    for combination in ["x1", "x2", "x3", "y1", "y2", "y3"] {
        assert_eq!(outcome.stdout.matches(&format!("\ngot-{combination}\n")).count(), 1, "{}", outcome.stdout);
    }
    assert!(!scene.project().join("source/mark").exists());
}

#[test]
fn a_fan_out_shares_the_tests_and_leaves_none_out() {
    let scene = scene(
        "version: 0.2\nbatch: {build-fanout: {parallelism: 3}}\nphases:\n  build:\n    commands:\n      - codebuild-tests-run --test-command 'printf \"ran %s\\n\"' --files-search \"codebuild-glob-search 'tests/**/test_*.py'\"\n",
    );
    for file in ["tests/test_a.py", "tests/sub/test_b c.py", "tests/test_d.py", "tests/test_e.py", "tests/other.py"] {
        scene.write(&format!("source/{file}"), "");
    }
    let (outcome, result) = build(&scene, &["--batch", "--parallel", "2"]);
    let outcome = outcome.expect(0);
    assert_eq!(statuses(&result).keys().collect::<Vec<_>>(), ["shard_1", "shard_2", "shard_3"]);
    let mut ran: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.strip_prefix("ran ")).collect();
    ran.sort_unstable();
    assert_eq!(ran, ["tests/sub/test_b c.py", "tests/test_a.py", "tests/test_d.py", "tests/test_e.py"], "{}", outcome.stdout);
}

#[test]
fn fast_fail_ends_what_runs_and_begins_nothing() {
    let scene = scene(
        "version: 0.2\nbatch:\n  fast-fail: true\n  build-graph:\n    - {identifier: slow, env: {variables: {DO: sleep 900}}}\n    - {identifier: bad, env: {variables: {DO: 'false'}}}\n    - {identifier: after, depend-on: [slow]}\nphases:\n  build: {commands: ['$DO']}\n",
    );
    let (outcome, result) = build(&scene, &["--batch", "--parallel", "4"]);
    outcome.expect(20);
    let statuses = statuses(&result);
    assert_eq!((statuses["slow"].as_str(), statuses["bad"].as_str(), statuses["after"].as_str()), ("STOPPED", "FAILED", "NOT_RUN"));
}

#[test]
fn the_default_log_names_the_build_of_each_line() {
    let scene = scene(
        "version: 0.2\nbatch: {build-list: [{identifier: one}, {identifier: two}]}\nphases:\n  build: {commands: ['echo in $CODEBUILD_BATCH_BUILD_IDENTIFIER']}\n",
    );
    let outcome = scene.windlass(&["build", "--source", "source", "--batch"]).expect(0);
    for name in ["one", "two"] {
        assert!(outcome.stdout.contains(&format!("[{name}]   | in {name}\n")), "{}", outcome.stdout);
    }
}

#[test]
fn a_retried_phase_begins_where_it_began_first() {
    let scene = scene(
        "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-3-not yet\n    commands:\n      - cd sub\n      - echo x >> ../../count; test $(wc -l < ../../count) -ge 3 || { echo not yet; exit 1; }\n      - echo done in $(basename $PWD) s=$CODEBUILD_BUILD_SUCCEEDING\n",
    );
    scene.write("source/sub/x", "");
    let (outcome, result) = build(&scene, &[]);
    let outcome = outcome.expect(0);
    assert!(outcome.stdout.contains("\ndone in sub s=1\n"), "{}", outcome.stdout);
    assert_eq!(result["status"], "SUCCEEDED");
}

#[test]
fn artifacts_are_laid_out_as_codebuild_does() {
    let scene = scene(
        "version: 0.2\nenv: {variables: {OUT: dist}}\nphases:\n  build: {commands: ['cd dist && chmod +x run && ln -s run link && cd sub']}\nartifacts:\n  name: app-$(cat VERSION)-$OUT\n  base-directory: $OUT\n  files: ['**/*']\n  exclude-paths: ['**/*.map']\n  enable-symlinks: yes\n  secondary-artifacts:\n    flat: {files: ['dist/**/*.js'], discard-paths: yes}\n",
    );
    for file in ["dist/run", "dist/sub/a.js", "dist/sub/a.js.map", "dist/.well-known/x"] {
        scene.write(&format!("source/{file}"), file);
    }
    scene.write("source/VERSION", "7\n");
    let (outcome, result) = build(&scene, &["--artifacts", "out", "--packaging", "zip"]);
    outcome.expect(0);
    assert_eq!(result["artifacts"]["primary"]["name"], "app-7-dist");
    let script = "import zipfile, stat\nfor name in ('app-7-dist', 'flat'):\n    for entry in zipfile.ZipFile(f'out/{name}.zip').infolist():\n        print(name, entry.filename, stat.filemode(entry.external_attr >> 16))\n";
    let listed = scene.run("python3", &["-c", script]).expect(0).stdout;
    assert_eq!(
        listed,
        "app-7-dist .well-known/x -rw-r--r--\napp-7-dist link lrwxrwxrwx\napp-7-dist run -rwxr-xr-x\napp-7-dist sub/a.js -rw-r--r--\nflat a.js -rw-r--r--\n"
    );
}

#[test]
fn a_keyed_cache_is_kept_once_and_a_prefix_finds_the_newest() {
    let scene = scene(
        "version: 0.2\nphases:\n  build: {commands: ['cat .c/from 2>/dev/null || echo nothing', 'mkdir -p .c; echo from-$KEY-$RUN > .c/from']}\ncache:\n  key: k-$KEY\n  fallback-keys: [k-]\n  paths: ['.c/**/*']\n",
    );
    let run = |key: &str, number: &str| {
        std::fs::remove_dir_all(scene.project().join("source/.c")).ok();
        let (key, number) = (format!("KEY={key}"), format!("RUN={number}"));
        build(&scene, &["--cache", "cache", "--var", &key, "--var", &number]).0.expect(0).stdout
    };
    assert!(run("a", "1").contains("\nnothing\n"));
    assert!(run("b", "2").contains("\nfrom-a-1\n"));
    assert!(run("a", "3").contains("\nfrom-a-1\n"));
    // What was kept under `a` is still that of the first run.
    assert!(run("a", "4").contains("\nfrom-a-1\n"));
    assert!(run("c", "5").contains("\nfrom-b-2\n"));
}

#[test]
fn a_cache_may_be_in_s3() {
    let cloud = shared();
    let scene = Scene::new(cloud.url());
    scene.write("source/buildspec.yml", "version: 0.2\nphases:\n  build: {commands: ['cat .c/hit 2>/dev/null || echo miss', 'mkdir -p .c; echo hit > .c/hit']}\ncache: {paths: [.c]}\n");
    let create =
        "import urllib.request, sys\nurllib.request.urlopen(urllib.request.Request(sys.argv[1] + '/buildspec-cache', method='PUT'))\n";
    scene.run("python3", &["-c", create, cloud.url()]).expect(0);
    let run = || {
        std::fs::remove_dir_all(scene.project().join("source/.c")).ok();
        build(&scene, &["--cache", "s3://buildspec-cache/of/windlass"]).0.expect(0).stdout
    };
    assert!(run().contains("\nmiss\n"));
    assert!(run().contains("\nhit\n"));
}

#[test]
fn a_runtime_is_selected_as_the_image_says_or_missed_in_words() {
    let scene = scene(
        "version: 0.2\nphases:\n  install:\n    runtime-versions: {python: 3.10, docker: 20}\n  build: {commands: ['echo py=$PY']}\n",
    );
    let runtimes = "version: 0.1\nruntimes:\n  docker: {versions: {20: {commands: [true]}}}\n  python:\n    versions:\n      3.9: {commands: ['export PY=9']}\n      3.10: {commands: ['echo Installing', 'export PY=10']}\n";
    scene.write("runtimes.yml", runtimes);
    let (outcome, _) = build(&scene, &["--runtimes", "runtimes.yml"]);
    assert!(outcome.expect(0).stdout.contains("\npy=10\n"));
    scene.write("runtimes.yml", runtimes.replace("docker", "android"));
    let (outcome, result) = build(&scene, &["--runtimes", "runtimes.yml"]);
    outcome.expect(20);
    let phase = &result["phases"]["DOWNLOAD_SOURCE"];
    assert_eq!(phase["code"], "YAML_FILE_ERROR");
    assert_eq!(phase["message"], "Unknown runtime named 'docker'. This build image has the following runtimes: android, python");

    scene.write(
        "source/buildspec.yml",
        "version: 0.2\nphases:\n  install:\n    runtime-versions: {nodejs: 99}\n  build: {commands: [echo ran]}\n",
    );
    let (outcome, _) = build(&scene, &[]);
    let outcome = outcome.expect(0);
    assert!(outcome.stderr.starts_with("warning: Skipping install of runtimes. nodejs 99 is not here"), "{}", outcome.stderr);
    let (outcome, _) = build(&scene, &["--require-runtimes"]);
    assert!(outcome.expect(20).stderr.contains("nodejs 99 is not here"));
    scene.write("home-marker", "");
    let bin = scene.home().join(".nvm/versions/node/v99.1.0/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy("/bin/true", bin.join("node")).unwrap();
    scene.write(
        "source/buildspec.yml",
        "version: 0.2\nphases:\n  install:\n    runtime-versions: {nodejs: 99.x}\n  build: {commands: [command -v node]}\n",
    );
    let (outcome, _) = build(&scene, &["--require-runtimes"]);
    assert!(outcome.expect(0).stdout.contains("/.nvm/versions/node/v99.1.0/bin/node\n"));
}
