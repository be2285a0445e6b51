//! Examples for the help of each verb. A test holds them against the command line.

use clap::{Command, CommandFactory as _};

use super::arguments::Arguments;

/// For each verb what people most often want of it, each with a remark.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "init",
        &[
            ("windlass init --dry-run", "what is recognised and why, and what would be written"),
            ("windlass init --package-manager web=pnpm", "answers beforehand what two lockfiles leave open"),
            ("windlass init --environment staging=111111111111/eu-central-1 --distribution E2EXAMPLE", "says what no file can know"),
        ],
    ),
    (
        "plan",
        &[
            ("windlass plan --env staging", "what a release to staging would do"),
            ("windlass plan web --audit", "one unit, held against the bucket itself"),
            ("windlass plan --out .windlass/plan.json", "for `windlass release --plan .windlass/plan.json`"),
        ],
    ),
    (
        "release",
        &[
            ("windlass release --env production", "whatever has changed"),
            ("windlass release api web", "two units, and the migrations of their code"),
            ("windlass release --plan .windlass/plan.json", "just what a plan says, or nothing"),
            ("windlass release --lock-wait 15m --junit release.xml", "in CI"),
        ],
    ),
    ("begin", &[("windlass begin", "the id that every machine goes on with")]),
    (
        "stage",
        &[
            ("windlass stage images", "pushes the images, before there is a service to run them"),
            ("windlass stage publish --release 20261121T101500123Z-1a2b3c4d", "goes on with a release on another machine"),
        ],
    ),
    ("promote", &[("windlass promote --help", "which environment is brought where")]),
    (
        "rollback",
        &[
            ("windlass rollback --plan", "what going back would do"),
            ("windlass rollback", "back to what was live before"),
            ("windlass rollback 20261121T101500123Z-1a2b3c4d api", "one unit, to what that release left live"),
        ],
    ),
    ("status", &[("windlass status --format json", "what is live, for a program")]),
    ("history", &[("windlass history --limit 5", "the last five releases")]),
    ("verify", &[("windlass verify --env production", "what is missing, before anything is released")]),
    (
        "build",
        &[
            ("windlass build --buildspec ci/build.yml --var STAGE=test", "one buildspec, as CodeBuild runs it"),
            ("windlass build --plan", "what would run"),
        ],
    ),
    ("local", &[("windlass local up", "then `windlass plan --local`")]),
    ("migration-handler", &[("windlass migration-handler django", "prints the handler")]),
    ("lint", &[("windlass lint --strict buildspec.yml buildspecs/release.yml", "warnings count, too")]),
    ("schema", &[("windlass schema", "for an editor: `windlass schema > windlass.schema.json`")]),
    ("policy", &[("windlass policy images", "the rights of one stage"), ("windlass policy", "of all five")]),
    (
        "completions",
        &[
            ("windlass completions bash", "`source <(windlass completions bash)`"),
            ("windlass completions fish", "`windlass completions fish > ~/.config/fish/completions/windlass.fish`"),
        ],
    ),
    ("man", &[("windlass man man1", "a page for each verb, in the directory `man1`")]),
];

/// The command line, with examples below the help of each verb.
pub(super) fn command() -> Command {
    EXAMPLES.iter().fold(Arguments::command(), |command, (verb, examples)| {
        let lines: Vec<String> = examples.iter().map(|(example, remark)| format!("  {example}\n      {remark}")).collect();
        let text = format!("Examples:\n{}", lines.join("\n"));
        command.mut_subcommand(verb, |verb| verb.after_help(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_examples_and_each_is_a_command_that_is_taken() {
        let verbs: Vec<String> = Arguments::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let with: Vec<&str> = EXAMPLES.iter().map(|(verb, _)| *verb).collect();
        assert_eq!(verbs.iter().filter(|verb| !with.contains(&verb.as_str())).collect::<Vec<_>>(), [""; 0]);
        for (verb, examples) in EXAMPLES {
            for (example, _) in *examples {
                assert_eq!(example.split(' ').nth(1), Some(*verb), "{example}");
                let parsed = command().try_get_matches_from(example.split(' '));
                let help = parsed.as_ref().err().is_some_and(|error| error.kind() == clap::error::ErrorKind::DisplayHelp);
                assert!(parsed.is_ok() || help, "{example}: {:?}", parsed.err());
            }
        }
    }
}
