use super::*;

fn accepted(text: &str) -> (Buildspec, Vec<String>) {
    let (buildspec, warnings) = read(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    (buildspec, warnings.iter().map(ToString::to_string).collect())
}

fn refused(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

fn commands(text: &str) -> Vec<String> {
    let (buildspec, _) = accepted(text);
    buildspec.phases.iter().flat_map(|phase| phase.commands.iter().map(|command| command.text.clone())).collect()
}

const BUILD: &str = "version: 0.2\nphases:\n  build:\n    commands:\n";

#[test]
fn scalars_are_read_as_they_are_written() {
    let text = "version: 0.2\nenv:\n  variables:\n    A: NO\n    B: 1.20\n    C: 0x10\n    D:\n    E: 2026-01-01\n    F: ~\n    G: '007'\nphases:\n  install:\n    runtime-versions:\n      python: 3.10\n      go: 1.20\n";
    let (buildspec, warnings) = accepted(text);
    let values: Vec<&str> = buildspec.env.variables.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["NO", "1.20", "0x10", "", "2026-01-01", "", "007"]);
    assert_eq!(buildspec.phases[0].runtime_versions[0], ("python".into(), "3.10".into()));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn every_problem_is_said_at_once_with_its_place() {
    let text = "phases:\n  postbuild: {}\n  build:\n    on-failure: MAYBE\n    commands:\n      - echo a\n      - echo \"X: y\"\nartifacts:\n  discard-paths: perhaps\n  files: ['*']\n";
    assert_eq!(
        refused(text),
        [
            "1:1: the key `version` is missing",
            "2:3: `postbuild` is no phase; did you mean `post_build`?",
            "4:17: `on-failure: MAYBE` is not one of its forms",
            "7:9: command 2 of `build` is no text: YAML reads it as a key and a value, because of the `: ` after `echo \"X`",
            "9:18: `discard-paths: perhaps`: `yes` or `no` was expected",
        ]
    );
}

#[test]
fn a_colon_in_a_command_is_named_with_its_cure_and_in_codebuilds_words() {
    let problem = read(&format!("{BUILD}      - echo a\n      - echo \"X: y\"\n")).unwrap_err().remove(0);
    assert_eq!(problem.cure.as_deref(), Some("quote the whole command: - 'echo \"X: y\"'"));
    assert_eq!(
        problem.in_codebuilds_words(),
        "Expected Commands[1] to be of string type: found subkeys instead at line 6, value of the key tag on line 5 might be empty"
    );
    let syntax = read(&format!("{BUILD}      - echo a: b: c\n")).unwrap_err().remove(0);
    assert!(syntax.cure.unwrap().contains("single quotes"));
}

#[test]
fn versions_are_two() {
    assert_eq!(accepted("version: 0.1\nphases: {}\n").0.version, Version::V01);
    assert_eq!(accepted("version: \"0.2\"\nphases: {}\n").0.version, Version::V02);
    for text in ["version: 1.0\nphases: {}\n", "version: 0.20\nphases: {}\n", "version:\nphases: {}\n", "version: [0.2]\nphases: {}\n"] {
        assert_eq!(refused(text).len(), 1, "{text}");
    }
    assert_eq!(refused("# version: 0.2\n"), ["1:1: the buildspec is empty"]);
    assert_eq!(refused("- version: 0.2\n").len(), 1);
}

#[test]
fn what_means_nothing_is_warned_about_and_not_refused() {
    let (_, warnings) = accepted(
        "version: 0.2\nsteps: []\nenv:\n  compute-type: x\nphases:\n  build:\n    command: [x]\n    commands:\n      -\n      - echo\n",
    );
    assert_eq!(
        warnings,
        [
            "2:1: the key `steps` means nothing at the top of a buildspec, and is passed over",
            "4:3: the key `compute-type` means nothing in `env`, and is passed over",
            "7:5: the key `command` means nothing in `phases/build`, and is passed over; did you mean `commands`?",
            "9:8: command 1 of `build` is empty, and is passed over",
        ]
    );
}

#[test]
fn blocks_are_one_command_and_folded_ones_one_line() {
    assert_eq!(commands(&format!("{BUILD}      - |\n        a\n        b\n      - >\n        c\n        d\n")), ["a\nb", "c d"]);
    assert_eq!(commands(&format!("{BUILD}      - a\n        b\n")), ["a b"]);
    assert_eq!(commands("version: 0.2\nphases:\n  build:\n    commands: make\n"), ["make"]);
    assert_eq!(commands("version: 0.2\r\nphases:\r\n  build:\r\n    commands:\r\n      - make\r\n"), ["make"]);
    assert_eq!(commands(&format!("\u{feff}{BUILD}      - make\n")), ["make"]);
}

#[test]
fn anchors_and_merge_keys_are_put_in() {
    let text = "version: 0.2\nphases:\n  install: &i\n    on-failure: ABORT\n    commands: [a]\n  build:\n    <<: *i\n    commands: [b]\n";
    let (buildspec, warnings) = accepted(text);
    assert_eq!(buildspec.phases[1].on_failure, Some(OnFailure::Abort));
    assert_eq!(buildspec.phases[1].commands[0].text, "b");
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn on_failure_has_all_its_forms() {
    let parse =
        |form: &str| accepted(&format!("version: 0.2\nphases:\n  build:\n    on-failure: {form}\n")).0.phases.remove(0).on_failure.unwrap();
    let retry = |count, pattern: &str| OnFailure::Retry { count, pattern: Some(pattern.to_owned()).filter(|text| !text.is_empty()) };
    assert_eq!(parse("ABORT"), OnFailure::Abort);
    assert_eq!(parse("continue"), OnFailure::Continue);
    assert_eq!(parse("RETRY"), retry(3, ""));
    assert_eq!(parse("Retry-2"), retry(2, ""));
    assert_eq!(parse("RETRY-.*timed out"), retry(3, ".*timed out"));
    assert_eq!(parse("RETRY-5-a-b"), retry(5, "a-b"));
    assert_eq!(parse("RETRY-404 not"), retry(3, "404 not"));
    for form in ["RETRY-101", "RETRY-5-(", "never"] {
        assert_eq!(refused(&format!("version: 0.2\nphases:\n  build:\n    on-failure: {form}\n")).len(), 1, "{form}");
    }
}

#[test]
fn the_old_variables_are_kept_in_both_versions() {
    let text = "environment_variables:\n  plaintext:\n    A: a\nphases: {}\n";
    let (old, warnings) = accepted(&format!("version: 0.1\n{text}"));
    assert_eq!((old.env.variables, warnings.len()), (vec![("A".to_owned(), "a".to_owned())], 0));
    let (new, warnings) = accepted(&format!("version: 0.2\n{text}"));
    assert_eq!((new.env.variables, warnings.len()), (vec![("A".to_owned(), "a".to_owned())], 1));
}

#[test]
fn a_batch_is_checked() {
    let batch = |text: &str| format!("version: 0.2\nbatch:\n{text}");
    let (spec, warnings) = accepted(&batch("  build-graph:\n    - identifier: b\n      depend-on: [a]\n    - identifier: a\n"));
    assert_eq!(
        (spec.batch.unwrap().builds, warnings.len()),
        (
            super::super::spec::Builds::Tasks(vec![
                super::super::spec::Task { identifier: "b".into(), depend_on: vec!["a".into()], ..Default::default() },
                super::super::spec::Task { identifier: "a".into(), ..Default::default() },
            ]),
            0
        )
    );
    let (spec, _) = accepted(&batch("  build-list:\n    - buildspec: x\n    - identifier: b\n"));
    let super::super::spec::Builds::Tasks(tasks) = spec.batch.unwrap().builds else { panic!() };
    assert_eq!((tasks[0].identifier.as_str(), tasks[1].identifier.as_str()), ("build_1", "b"), "a list's builds need no identifier");
    for (text, count) in [
        ("  fast-fail: yes\n", 1),
        ("  build-list: []\n  build-fanout: {parallelism: 2}\n", 1),
        ("  build-graph:\n    - buildspec: x\n", 1),
        ("  build-list:\n    - identifier: a\n    - identifier: a\n", 1),
        ("  build-graph:\n    - identifier: a\n      depend-on: [b]\n    - identifier: c\n      depend-on: [a]\n", 1),
        ("  build-graph:\n    - identifier: a\n      depend-on: [b]\n    - identifier: b\n      depend-on: [a]\n", 1),
        ("  build-fanout: {parallelism: many}\n", 1),
        ("  build-list:\n    - identifier: a\n      env: {compute-type: x, fleet: y}\n", 1),
    ] {
        assert_eq!(refused(&batch(text)).len(), count, "{text}: {:?}", refused(&batch(text)));
    }
}

#[test]
fn artifacts_without_files_are_refused_unless_there_are_others() {
    assert_eq!(refused("version: 0.2\nphases: {}\nartifacts:\n  name: x\n").len(), 1);
    let (spec, warnings) = accepted("version: 0.2\nphases: {}\nartifacts:\n  secondary-artifacts:\n    a: {files: '**/*'}\n");
    assert_eq!((spec.artifacts.unwrap().secondary.len(), warnings.len()), (1, 1));
    let (spec, _) = accepted("version: 0.2\nphases: {}\nartifacts:\n  files: 'a.*'\n  discard-paths: yes\n");
    assert!(spec.artifacts.unwrap().primary.discard_paths);
}
