//! The command line itself: what it offers, how it speaks to programs, and how it ends when it is told to.

use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::shop::Shop;
use crate::support::scene::{Outcome, Scene, runs, until};

/// A scene whose cloud nobody needs.
fn scene() -> Scene {
    Scene::new("http://127.0.0.1:1")
}

#[test]
fn help_names_every_verb() {
    let help = scene().windlass(&["--help"]).expect(0);
    assert_eq!(help.stderr, "");
    assert!(help.stdout.starts_with("Takes a commit to a healthy release on AWS"), "{}", help.stdout);
    for verb in ["plan", "release", "stage", "status", "verify", "build", "lint", "local", "schema", "completions"] {
        assert!(help.stdout.contains(&format!("\n  {verb} ")), "{verb} is not in\n{}", help.stdout);
        let own = scene().windlass(&[verb, "--help"]).expect(0);
        assert!(own.stdout.contains("--endpoint-url") && own.stderr.is_empty(), "{}", own.stdout);
    }
    let bare = scene().windlass(&[]).expect(2);
    assert_eq!(bare.stdout, "");
    assert!(bare.stderr.contains("Usage: windlass"), "{}", bare.stderr);
}

#[test]
fn the_version_is_the_packages() {
    let version = scene().windlass(&["--version"]).expect(0);
    assert_eq!(version.stdout, concat!("windlass ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let wrong = scene().windlass(&["release", "--forse"]).expect(2);
    assert_eq!(wrong.stdout, "");
    assert_snapshot!(wrong.stderr, @r"
    error: unexpected argument '--forse' found

      tip: a similar argument exists: '--format'

    Usage: windlass release --format <FORMAT> [UNIT]...

    For more information, try '--help'.
    ");
    scene().windlass(&["deploy"]).expect(2);
    scene().windlass(&["release", "--local", "--endpoint-url", "http://127.0.0.1:1"]).expect(2);
}

#[test]
fn the_schema_is_the_committed_one() {
    let schema = scene().windlass(&["schema"]).expect(0);
    assert_eq!(schema.stdout, include_str!("../../src/config/schema.json"));
}

#[test]
fn completions_are_a_script_that_bash_accepts() {
    let scene = scene();
    let script = scene.windlass(&["completions", "bash"]).expect(0).stdout;
    assert!(script.contains("--endpoint-url"));
    scene.write("windlass.bash", script);
    scene.run("bash", &["-n", "windlass.bash"]).expect(0);
    // bash itself completes with it.
    let ask = "source windlass.bash; COMP_WORDS=(windlass rel); COMP_CWORD=1; _windlass windlass rel windlass; echo \"${COMPREPLY[*]}\"";
    assert_eq!(scene.run("bash", &["-c", ask]).expect(0).stdout, "release\n");
}

/// In a terminal of its own, as people use it: a key completes what was typed, and the line is written down.
const ASK_ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D'
zpty -w shell 'ask() { zle complete-word; print -r -- $BUFFER > completed; exit }; zle -N ask; bindkey "^I" ask'
zpty -w -n shell $'windlass rollb\t'
while zpty -r shell; do :; done > said
"#;

#[test]
fn zsh_completes_with_its_script() {
    let scene = scene();
    scene.write("_windlass", scene.windlass(&["completions", "zsh"]).expect(0).stdout);
    scene.write("ask.zsh", ASK_ZSH);
    scene.run("zsh", &["-f", "ask.zsh"]).expect(0);
    assert_eq!(std::fs::read_to_string(scene.project().join("completed")).unwrap(), "windlass rollback \n");
}

#[test]
fn fish_completes_with_its_script() {
    let scene = scene();
    scene.write("windlass.fish", scene.windlass(&["completions", "fish"]).expect(0).stdout);
    let ask = r#"source windlass.fish; complete -C "windlass rollb"; complete -C "windlass rollback --pl""#;
    let said = scene.run("fish", &["--no-config", "-c", ask]).expect(0).stdout;
    let words: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(words, ["rollback", "--plan"]);
}

#[test]
fn help_ends_with_examples_and_becomes_manual_pages() {
    let scene = scene();
    let help = scene.windlass(&["rollback", "--help"]).expect(0).stdout;
    assert!(help.contains("Examples:\n  windlass rollback --plan\n"), "{help}");
    scene.write("man1/.keep", "");
    scene.windlass(&["man", "man1"]).expect(0);
    let page = std::fs::read_to_string(scene.project().join("man1/windlass-rollback.1")).unwrap();
    assert!(page.contains("Examples:") && page.contains(".TH"), "{page}");
    assert!(scene.windlass(&["man", "nowhere/else"]).expect(10).stderr.contains("hint: "));
}

/// Neither colour nor cursor movement; a tab is allowed.
#[track_caller]
fn assert_plain(outcome: &Outcome) {
    for text in [&outcome.stdout, &outcome.stderr] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    }
}

#[tokio::test]
async fn off_a_terminal_there_are_plain_lines() {
    let mut shop = Shop::site("cli-plain").await;
    shop.configure("prebuilt: true", "build: printf '\\033[32mok\\033[0m\\r50%%\\r100%%\\n'");
    shop.scene.set("TERM", "xterm-256color");
    let plan = shop.run(&["plan"]).expect(0);
    assert_plain(&plan);
    assert!(plan.stderr.contains("web | ok\n") && plan.stderr.contains("web | 100%\n"), "{}", plan.stderr);
    assert_plain(&shop.release());
    shop.build(2);
    shop.scene.set("NO_COLOR", "1");
    assert_plain(&shop.release());
    shop.scene.unset("NO_COLOR");
    // Bars need a terminal; without one there are lines, and not nothing.
    let live = shop.run(&["plan", "--progress", "live"]).expect(0);
    assert_plain(&live);
    assert!(live.stderr.contains("prepare "), "{}", live.stderr);
    // Whoever asks for colour gets it.
    let coloured = shop.run(&["release", "wep", "--color", "always"]).expect(10);
    assert!(coloured.stderr.contains("\x1b[1;31merror\x1b[0m: "), "{}", coloured.stderr);
}

fn events(outcome: &Outcome) -> Vec<serde_json::Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn json_is_one_object_a_line_and_the_last_says_how_it_ended() {
    let shop = Shop::site("cli-json").await;
    let said = events(&shop.run(&["--format", "json", "release"]).expect(0));
    assert_eq!(said[0]["event"], "step_started");
    let (id, last) = (said.iter().find(|event| event["event"] == "release_started").unwrap(), said.last().unwrap());
    assert_eq!((&last["event"], &last["changed"], &last["release"]), (&"finished".into(), &true.into(), &id["release"]));
    let stages = said.iter().filter(|event| event["event"] == "stage_finished").count();
    assert_eq!(stages, 5);

    let said = events(&shop.run(&["--format", "json", "release"]).expect(0));
    let last = said.last().unwrap();
    assert_eq!((&last["event"], &last["changed"]), (&"finished".into(), &false.into()));

    shop.configure(&shop.distribution, "EGONE");
    shop.build(2);
    let outcome = shop.run(&["--format", "json", "release"]).expect(11);
    let last = events(&outcome).pop().unwrap();
    assert_eq!((&last["event"], &last["exit"], &last["meaning"]), (&"failed".into(), &11.into(), &"preflight".into()));
    assert!(!last["hint"].as_str().unwrap().is_empty() && outcome.stderr.contains("hint: "), "{last}");
}

#[tokio::test]
async fn progress_can_be_turned_off_and_failures_are_still_told() {
    let shop = Shop::site("cli-quiet").await;
    let outcome = shop.run(&["--progress", "none", "release"]).expect(0);
    assert_eq!(outcome.stderr, "");
    let failed = shop.run(&["--progress", "none", "release", "wep"]).expect(10);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
}

async fn stopped(name: &str, signal: Signal, exit: i32) -> String {
    let shop = Shop::site(name).await;
    // Of these tests alone: others may run on this machine.
    let marker = &format!("7100{exit}.{}", std::process::id());
    shop.configure("prebuilt: true", &format!("build: sleep {marker} & touch started; sleep {marker}"));
    let running = shop.scene.start(&["release"]);
    until("the build starts", || Path::new(&shop.scene.project().join("started")).exists() && runs(marker));
    running.signal(signal);
    let outcome = running.wait().expect(exit);
    until("the build's processes end", || !runs(marker));
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.error(&outcome)
}

#[tokio::test]
async fn sigterm_ends_a_build_with_all_that_it_started() {
    assert_snapshot!(stopped("cli-term", Signal::TERM, 143).await, @r"
    error: stopped during the build of the sites
    hint: what is done stays done: run the same command again to go on
    ");
}

#[tokio::test]
async fn sigint_ends_a_build_with_all_that_it_started() {
    assert_snapshot!(stopped("cli-int", Signal::INT, 130).await, @r"
    error: stopped during the build of the sites
    hint: what is done stays done: run the same command again to go on
    ");
}
