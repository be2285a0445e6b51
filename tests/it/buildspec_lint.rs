//! `lint`, `build --plan` and the schema of buildspecs.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::scene::Scene;

fn scene(buildspec: &str) -> Scene {
    let scene = Scene::new("http://127.0.0.1:1");
    scene.write("buildspec.yml", buildspec);
    scene
}

const DOUBTFUL: &str = "version: 0.2\nenv:\n  variables: {STAGE: test, API_TOKEN: t0ken-value}\n  secrets-manager: {PW: app:password}\nphases:\n  build:\n    on-failure: RETRY-2\n    commands:\n      - cd web\n      - if [[ $STAGE == test ]]; then make; fi\n  post_build:\n    commands:\n      - aws s3 sync dist s3://$BUCKET\nartifacts:\n  files: [dist/app.js]\n";

#[test]
fn lint_names_what_is_allowed_and_yet_most_likely_wrong() {
    let scene = scene(DOUBTFUL);
    let outcome = scene.windlass(&["lint"]).expect(0);
    assert_snapshot!(outcome.stdout, @r#"
    warning: buildspec.yml:9:9: the commands go to `web`, but `artifacts/files` counts from the source's directory [artifacts-after-cd]
            - cd web
              ^
      cure: write `web/dist/app.js`, or set `base-directory: web`
    warning: buildspec.yml:10:9: `[[ … ]]` is bash, and the commands run in sh [bash-in-sh]
            - if [[ $STAGE == test ]]; then make; fi
              ^
      cure: set `env/shell: bash`; on Ubuntu images sh is dash
    warning: buildspec.yml:13:9: this also runs after a failed `build`, and would release what is broken [post-build-guard]
            - aws s3 sync dist s3://$BUCKET
              ^
      cure: begin `post_build` with `[ "$CODEBUILD_BUILD_SUCCEEDING" = 1 ]`, or set `on-failure: ABORT` on `build`
    warning: buildspec.yml:13:9: `$BUCKET` is set neither in the buildspec nor by CodeBuild [unset-variable]
            - aws s3 sync dist s3://$BUCKET
              ^
      cure: add it under `env/variables`, or write `${BUCKET:-}` if it is the project's, or may be empty
    1 file(s), 0 error(s), 4 warning(s)
    "#);
    scene.windlass(&["lint", "--strict"]).expect(10);
    let lines = scene.windlass(&["lint", "--format", "json"]).expect(0).stdout;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["line"], &first["rule"]), (&9.into(), &"artifacts-after-cd".into()));
    scene.write("bad.yml", "phases:\n  build: {commands: [{a: b}]}\n");
    let outcome = scene.windlass(&["lint", "buildspec.yml", "bad.yml"]).expect(10);
    assert!(outcome.stdout.ends_with("2 file(s), 2 error(s), 4 warning(s)\n"), "{}", outcome.stdout);
}

#[test]
fn a_plan_says_what_would_run_and_shows_no_secret() {
    let scene = scene(DOUBTFUL);
    let outcome = scene.windlass(&["build", "--plan", "--var", "STAGE=production"]).expect(0);
    let plan = outcome.stdout.replace(&scene.project().canonicalize().unwrap().display().to_string(), "SOURCE");
    assert_snapshot!(plan, @r"
    buildspec.yml in SOURCE
    runs on this machine
    shell sh
    variable API_TOKEN=***
    variable PW from the secret app, key password
    variable STAGE=production (from the start of the build)
    BUILD, run again up to 2 time(s) if it fails
      $ cd web
      $ if [[ $STAGE == test ]]; then make; fi
    POST_BUILD
      $ aws s3 sync dist s3://$BUCKET
    artifact: dist/app.js
    nothing was run
    ");
    let refused = scene.windlass(&["build", "--plan", "--buildspec", "gone.yml"]).expect(10);
    assert!(refused.stderr.contains("gone.yml"), "{}", refused.stderr);
}

/// The keys of a part of the schema.
fn keys(schema: &Value, pointer: &str) -> Vec<String> {
    schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_knows_the_keys_that_are_read() {
    let scene = scene("version: 0.2\n");
    let schema: Value = serde_json::from_str(&scene.windlass(&["schema", "buildspec"]).expect(0).stdout).unwrap();
    // Every key of the schema is read without a warning, in the place where it has it.
    for (pointer, before) in [
        ("/properties", ""),
        ("/properties/env/properties", "env:\n  "),
        ("/properties/phases/properties/install/properties", "phases:\n  install:\n    "),
        ("/properties/artifacts/properties", "artifacts:\n  files: x\n  "),
        ("/properties/cache/properties", "cache:\n  "),
        ("/properties/reports/additionalProperties/properties", "reports:\n  r:\n    "),
        ("/properties/proxy/properties", "proxy:\n  "),
    ] {
        for key in keys(&schema, pointer).into_iter().filter(|key| key != "version" && !(key == "files" && before.contains("files"))) {
            let text = format!("version: 0.2\n{before}{key}:\n");
            let found = match windlass::buildspec::read(&text) {
                Ok((_, warnings)) => warnings,
                Err(problems) => problems,
            };
            assert!(!found.iter().any(|problem| problem.rule == Some("unknown-key")), "{text}: {found:?}");
        }
    }
    assert_eq!(schema["additionalProperties"], false);
}
