//! A command that is suggested works where it is pasted: it gets the flags by which this run has found its configuration and its cloud.

use super::arguments::Common;

/// The verbs that look for a configuration, or for AWS.
const VERBS: [&str; 10] = ["plan", "release", "begin", "stage", "promote", "rollback", "status", "history", "verify", "policy"];

/// `text` with the flags of this run in each of its commands.
pub(super) fn pasted(common: &Common, text: &str) -> String {
    with(&flags(common, |name| std::env::var(name).ok()), text)
}

/// Those that were given on the command line: what stands in the environment stands there for the next command, too.
fn flags(common: &Common, variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, Option<String>)> {
    let config = common.file().map(|file| file.display().to_string());
    let inherited = |name: &str, value: &String| variable(name).as_ref() == Some(value);
    let named = [
        ("--config", config.filter(|file| !inherited("WINDLASS_CONFIG", file))),
        ("--env", common.env.clone().filter(|name| !inherited("WINDLASS_ENV", name))),
        ("--profile", common.profile.clone()),
        ("--region", common.region.clone()),
        ("--endpoint-url", common.endpoint_url.clone()),
    ];
    let named = named.into_iter().filter_map(|(flag, value)| Some((flag, Some(value.filter(|value| !value.is_empty())?))));
    named.chain(common.local.then_some(("--local", None))).collect()
}

fn with(flags: &[(&str, Option<String>)], text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('`').peekable();
    while let Some(part) = parts.next() {
        out.push_str(part);
        // What comes last has no backtick behind it.
        if parts.peek().is_none() {
            break;
        }
        let verb = part.strip_prefix("windlass ").map(|rest| rest.split_whitespace().next().unwrap_or_default());
        if verb.is_some_and(|verb| VERBS.contains(&verb)) {
            for (flag, value) in flags.iter().filter(|(flag, _)| !part.split_whitespace().any(|word| word == *flag)) {
                out.push(' ');
                out.push_str(flag);
                if let Some(value) = value {
                    out.push(' ');
                    out.push_str(&quoted(value));
                }
            }
        }
        out.push('`');
    }
    out
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::arguments::Arguments;
    use super::*;

    #[test]
    fn a_command_gets_the_flags_of_the_run_and_none_twice() {
        let given = ["windlass", "--local", "--env", "staging", "--config", "a b.yml", "--profile", "", "status"];
        let common = Arguments::try_parse_from(given).unwrap().common;
        let said =
            with(&flags(&common, |_| None), "`windlass history --env x` says, `windlass schema` and `api` not; `windlass plan --out FILE`");
        assert_eq!(
            said,
            "`windlass history --env x --config 'a b.yml' --local` says, `windlass schema` and `api` not; \
             `windlass plan --out FILE --config 'a b.yml' --env staging --local`"
        );
        let inherited = flags(&common, |name| (name == "WINDLASS_ENV").then(|| "staging".to_owned()));
        assert_eq!(with(&inherited, "`windlass status`"), "`windlass status --config 'a b.yml' --local`");
        let none = Arguments::try_parse_from(["windlass", "status"]).unwrap().common;
        assert_eq!(with(&flags(&none, |_| None), "see `windlass status`"), "see `windlass status`");
    }
}
