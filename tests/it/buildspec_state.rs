//! What one command leaves to the next, held against the mechanism that was observed, written down once more as a plain shell script:
//! random commands, in sh and in bash, have to end in the same directory with the same variables.
//!
//! `benches/buildspec-state` runs ten thousand sequences; here are some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use windlass::buildspec::{self, Order, Source, Status};

/// The harness: `harness.sh SHELL STATE COMMANDS...`, each command in a file of its own.
const HARNESS: &str = r#"
shell=$1 state=$2; shift 2
for command; do
  { printf 'cd "$(cat %s/dir; printf x)" 2>/dev/null || cd "$(cat %s/dir)"\n' "$state" "$state"
    printf 'set -a\n. %s/env\n' "$state"
    cat "$command"
    printf '\nCODEBUILD_LAST_EXIT=$?\nexport -p >| %s/env\npwd >| %s/dir\nexit $CODEBUILD_LAST_EXIT\n' "$state" "$state"
  } > "$state/script"
  "$shell" "$state/script" || exit
done
"#;

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const FOLDERS: &[&str] = &["a", "'b c'", "ü/ß", "a/deep", "..", "../a", ".", "missing", "linked", "\"$OLDPWD\"", "$'nope'", "\"quo'te\""];
const NAMES: &[&str] = &["A", "B", "LONG_NAME", "x", "_y", "PATH_LIKE", "Z9"];
const VALUES: &[&str] = &[
    "1",
    "''",
    "'a b'",
    "\"it's\"",
    "'say \"hi\"'",
    "'two\nlines'",
    "'\n'",
    "'tail\n'",
    "'back\\slash'",
    "'$HOME'",
    "\"$A-$B\"",
    "'`date`'",
    "'ü€𝄞'",
    "'*'",
    "'a=b'",
    "$((1 + 2))",
    "\"$(pwd)\"",
    "\"${x:-none}\"",
    "'\t'",
    "'\\'",
    "'%s'",
    "'-n'",
    "~",
    "'!x'",
    "\"${LONG_NAME#a}\"",
];

/// One command that ends with 0.
fn command(random: &mut Random, bash: bool) -> String {
    let (name, other, value, folder) = (random.pick(NAMES), random.pick(NAMES), random.pick(VALUES), random.pick(FOLDERS));
    match random.below(if bash { 24 } else { 20 }) {
        0..3 => format!("cd {folder} 2>/dev/null || true"),
        3..6 => format!("{name}={value}"),
        6..9 => format!("export {name}={value}"),
        9 => format!("unset {name}"),
        10 => format!("{name}={value} {other}={value}\ncd {folder} 2>/dev/null || :"),
        11 => format!("(cd {folder} 2>/dev/null; {name}={value}); true"),
        12 => format!("{name}={value}; exit 0; {other}=never"),
        13 => format!("f() {{ {name}=\"$1\"; }}\nf {value}"),
        14 => "f 2>/dev/null || true".to_owned(),
        15 => "set -eu; alias ll=ls; trap : EXIT".to_owned(),
        16 => format!("for {name} in {value} last; do :; done"),
        17 => format!("read -r {name} <<END\n$A {other}\nEND"),
        18 => format!("IFS=: ; {name}={value}; unset IFS"),
        19 => format!("{name}={value} true; : \"${{{other}:=set}}\""),
        20 => format!("{name}=(one {value} three)"),
        21 => format!("declare -x {name}={value}"),
        22 => format!("printf -v {name} '%q' {value}"),
        _ => format!("pushd {folder} >/dev/null 2>&1 || true; {name}+={value}"),
    }
}

fn tree(root: &Path) {
    for folder in ["a/deep", "b c", "ü/ß", "quo'te"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("a/deep", root.join("linked")).unwrap();
}

/// Variables that differ by their nature, from one runner to the other.
fn plain(dump: &[u8]) -> BTreeSet<String> {
    let own = ["CODEBUILD_", "AWS_", "WINDLASS_", "_=", "SHLVL="];
    let entries = dump.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned());
    entries.filter(|entry| !entry.is_empty() && !own.iter().any(|own| entry.starts_with(own))).collect()
}

/// Runs one sequence both ways; what differs.
async fn difference(seed: u64, bash: bool) -> Option<String> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut commands: Vec<String> = (0..2 + random.below(7)).map(|_| command(&mut random, bash)).collect();
    let folder = TempDir::new().unwrap();
    let (source, dump) = (folder.path().join("s").canonicalize().unwrap_or(folder.path().join("s")), folder.path().join("dump"));
    tree(&source);
    commands.push(format!("env -0 > {0}; pwd >> {0}", dump.display()));
    let environment =
        BTreeMap::from([("PATH", std::env::var_os("PATH").unwrap()), ("HOME", folder.path().into()), ("LANG", "C.UTF-8".into())]);

    let mut text = format!("version: 0.2\nenv: {{shell: {}}}\nphases:\n  build:\n    commands:\n", if bash { "bash" } else { "sh" });
    for command in &commands {
        writeln!(text, "      - {}", serde_json::to_string(command).unwrap()).unwrap();
    }
    let order = Order {
        buildspec: Source::Text { name: "random".to_owned(), text },
        environment: environment.iter().map(|(name, value)| (OsString::from(name), value.clone())).collect(),
        ..Order::new(source.clone())
    };
    let result = buildspec::run(&order, &|_| {}).await;
    let ours = std::fs::read(&dump).unwrap_or_default();
    std::fs::remove_file(&dump).ok();

    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let start = environment.iter().map(|(name, value)| format!("export {name}='{}'\n", value.to_str().unwrap()));
    std::fs::write(state.join("env"), start.collect::<String>() + "export CODEBUILD_LAST_EXIT='0'\n").unwrap();
    std::fs::write(state.join("dir"), source.to_str().unwrap()).unwrap();
    std::fs::write(state.join("harness.sh"), HARNESS).unwrap();
    let mut harness = Command::new("/bin/sh");
    harness.arg(state.join("harness.sh")).arg(if bash { "bash" } else { "sh" }).arg(&state);
    for (number, command) in commands.iter().enumerate() {
        let path = state.join(format!("command-{number}"));
        std::fs::write(&path, command).unwrap();
        harness.arg(path);
    }
    // As in the runner, a command's process finds no variable but those that it reads.
    harness.env_clear().env("PATH", &environment["PATH"]).env("LANG", "C.UTF-8").current_dir(&source);
    let output = harness.output().unwrap();
    let theirs = std::fs::read(&dump).unwrap_or_default();

    let same = plain(&ours) == plain(&theirs) && (result.status == Status::Succeeded) == output.status.success() && !theirs.is_empty();
    (!same).then(|| {
        let (ours, theirs) = (plain(&ours), plain(&theirs));
        let (more, less): (Vec<_>, Vec<_>) = (ours.difference(&theirs).collect(), theirs.difference(&ours).collect());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        format!(
            "seed {seed}, bash {bash}: {commands:#?}\nours alone: {more:#?}\nthe harness's alone: {less:#?}\n{:?}\n{said}",
            result.phases
        )
    })
}

#[test]
fn random_commands_leave_the_same_directory_and_variables_as_the_observed_mechanism() {
    let sequences: u64 = std::env::var("WINDLASS_SEQUENCES").map_or(40, |count| count.parse().unwrap());
    let run = |part: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seeds = (1..=sequences).filter(|seed| seed % 2 == part);
        seeds.filter_map(|seed| runtime.block_on(difference(seed, seed / 2 % 2 == 0))).collect::<Vec<_>>()
    };
    let differences: Vec<String> = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| run(0)), scope.spawn(|| run(1))];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    eprintln!("{sequences} sequences, {} differences", differences.len());
    assert!(differences.is_empty(), "{} of {sequences} differ, the first:\n{}", differences.len(), differences[0]);
}
