//! Buildspecs as a user meets them: what a refusal says, what a failed build says, what is left behind.

use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::support::parameter_store::{ParameterStore, Values};
use crate::support::scene::{Outcome, Scene, runs, until};

/// A project whose cloud nobody needs.
fn scene(buildspec: &str) -> Scene {
    let scene = Scene::new("http://127.0.0.1:1");
    scene.write("buildspec.yml", buildspec);
    scene
}

/// Times differ from run to run.
fn timeless(text: &str) -> String {
    let times = regex::Regex::new(r"\d+(\.\d+)? (s|min)\b").unwrap();
    times.replace_all(text, "T s").into_owned()
}

fn build(scene: &Scene, more: &[&str]) -> Outcome {
    scene.windlass(&[&["build", "--project", "demo"], more].concat())
}

#[test]
fn every_problem_of_a_buildspec_is_told_at_once() {
    let scene = scene(
        "version: 0.2\nphases:\n  pre-build:\n    commands: [x]\n  build:\n    commands:\n      - make\n      - echo \"Result: $?\"\n",
    );
    let outcome = build(&scene, &[]).expect(10);
    assert_snapshot!(outcome.stderr, @r#"
    error: the buildspec `buildspec.yml` was refused for 2 reasons
       buildspec.yml:3:3: `pre-build` is no phase; did you mean `pre_build`?
           pre-build:
           ^
         cure: the phases are install, pre_build, build and post_build
       buildspec.yml:8:9: command 2 of `build` is no text: YAML reads it as a key and a value, because of the `: ` after `echo "Result` [colon]
               - echo "Result: $?"
                 ^
         cure: quote the whole command: - 'echo "Result: $?"'
    hint: nothing was run; `windlass lint` looks at a buildspec without running it
    "#);
}

#[test]
fn a_failed_command_is_told_with_its_place_and_its_last_lines() {
    let scene = scene(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - echo fine\n      - echo one; echo two >&2; exit 3\n      - echo later\n",
    );
    let outcome = build(&scene, &[]).expect(20);
    assert_snapshot!(outcome.stderr, @r"
    error: the build failed in BUILD
       buildspec.yml:6:9: `echo one; echo two >&2; exit 3`: exit status 3; its last lines:
       | one
       | two
    hint: run the command by itself in the source's directory to look closer; a command finds the directory and variables of those before it
    ");
    assert_snapshot!(timeless(&outcome.stdout), @r"
    DOWNLOAD_SOURCE
    DOWNLOAD_SOURCE succeeded in T s
    INSTALL
    INSTALL succeeded in T s
    PRE_BUILD
    PRE_BUILD succeeded in T s
    BUILD
      $ echo fine
      | fine
      $ echo one; echo two >&2; exit 3
      | one
      | two
      failed: exit status 3 after T s
    BUILD failed in T s
    POST_BUILD
    POST_BUILD succeeded in T s
    UPLOAD_ARTIFACTS
    UPLOAD_ARTIFACTS succeeded in T s
    FAILED
    ");
}

#[test]
fn secrets_come_by_name_key_stage_and_arn_and_are_shown_nowhere() {
    let arn = "arn:aws:secretsmanager:us-east-1:111111111111:secret:app/db-AbCdEf";
    let values = Values {
        parameters: (1..=12).map(|n| (format!("/p/{n}"), format!("parameter-{n}-value"))).collect(),
        secrets: [("app", r#"{"user":"ada-the-user","port":5432}"#), ("app@AWSPREVIOUS", "older-text"), (arn, r#"{"password":"pw1"}"#)]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into(),
    };
    let store = ParameterStore::start(values);
    let mut scene = Scene::new(&store.url);
    let parameters = (1..=12).fold(String::new(), |text, n| text + &format!("    P{n}: /p/{n}\n"));
    scene.write(
        "buildspec.yml",
        format!(
            "version: 0.2\nenv:\n  parameter-store:\n{parameters}  secrets-manager:\n    USER: app:user\n    PORT: app:port\n    OLD: app::AWSPREVIOUS\n    PW: {arn}:password\n    MINE: not/there\n  exported-variables: [USER]\nphases:\n  build:\n    commands:\n      - echo \"$P1 $P12 $USER $OLD $PW $MINE\"\n      - printf '%s' \"$P12 $USER $PORT $OLD $PW\" | sha256sum > sum\n"
        ),
    );
    scene.set("HARMLESS", "x");
    // What is given from outside is not asked for.
    let outcome = build(&scene, &["--var", "MINE=own", "--result", "result.json"]).expect(0);
    assert!(outcome.stdout.contains("| *** *** *** *** *** own\n"), "{}", outcome.stdout);
    let everything = outcome.stdout + &outcome.stderr + &std::fs::read_to_string(scene.project().join("result.json")).unwrap();
    for secret in ["parameter-1", "ada-the-user", "older-text", "pw1"] {
        assert!(!everything.contains(secret), "{secret}:\n{everything}");
    }
    let sum = scene.run("sh", &["-c", "printf '%s' 'parameter-12-value ada-the-user 5432 older-text pw1' | sha256sum | cmp - sum"]);
    sum.expect(0);
    let asked = store.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|line| line.starts_with("GetParameters")).count(), 2);
    assert_eq!(asked.iter().filter(|line| line.starts_with("GetSecretValue")).count(), 3);
}

#[test]
fn an_interrupt_ends_a_build_with_all_that_it_started() {
    for (signal, exit) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // Of these tests alone: others may run on this machine.
        let marker = &format!("7200{exit}.{}", std::process::id());
        let command = format!("setsid sleep {marker} & sleep {marker} & touch started; sleep {marker}");
        let scene = scene(&format!("version: 0.2\nphases:\n  build:\n    commands:\n      - {command}\n      - touch later\n"));
        let running = scene.start(&["build", "--result", "result.json"]);
        until("the build starts", || Path::new(&scene.project().join("started")).exists() && runs(marker));
        running.signal(signal);
        let outcome = running.wait().expect(exit);
        let said = "error: the build was stopped\nhint: nothing of it runs any more; the same command begins it again\n";
        assert_eq!(outcome.stderr, said);
        until("the build's processes end", || !runs(marker));
        assert!(!scene.project().join("later").exists());
        let result = std::fs::read_to_string(scene.project().join("result.json")).unwrap();
        assert!(result.contains("\"status\": \"STOPPED\""), "{result}");
    }
}

#[test]
fn nothing_of_a_build_is_left_when_it_succeeds() {
    let marker = &format!("72003.{}", std::process::id());
    let commands = format!("['setsid sleep {marker} > log 2>&1 &', 'sleep {marker} &']");
    build(&scene(&format!("version: 0.2\nphases:\n  build:\n    commands: {commands}\n")), &[]).expect(0);
    until("the build's processes end", || !runs(marker));
}

#[test]
fn commands_run_as_the_user_that_is_named() {
    let own = rustix::process::geteuid().as_raw();
    // Only root may become somebody else.
    let user = if own == 0 { "nobody".to_owned() } else { own.to_string() };
    let scene = scene(&format!(
        "version: 0.2\nphases:\n  install:\n    run-as: '{user}'\n    commands: ['A=kept', 'echo as $(id -un)=$A']\n  build:\n    commands: ['echo then $(id -u)=$A']\n"
    ));
    let outcome = build(&scene, &[]).expect(0);
    let name = scene.run("id", &["-un", &user]).expect(0).stdout;
    assert!(outcome.stdout.contains(&format!("| as {}=kept\n", name.trim())), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(&format!("| then {own}=kept\n")), "{}", outcome.stdout);
    scene.write("buildspec.yml", "version: 0.2\nrun-as: nobody-at-all\nphases: {}\n");
    assert!(build(&scene, &[]).expect(20).stderr.contains("there is no user nobody-at-all"));
}
