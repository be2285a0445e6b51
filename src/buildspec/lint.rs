//! What is allowed in a buildspec and yet most likely wrong.
//!
//! The rules look at commands as texts: a shell's language is not parsed. What they say is a hint, and none of it stops a build.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::problem::Problem;
use super::spec::{Buildspec, Command, OnFailure, PhaseName};

/// An expression that is part of the program.
fn expression(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

static BASH: LazyLock<Vec<(&str, Option<Regex>)>> = LazyLock::new(|| {
    [
        ("`[[ … ]]`", r"(^|[\s;&|(!])\[\[\s"),
        ("`source`", r"(^|[;&|({]\s*|\bthen\s+|\bdo\s+)source\s"),
        ("an array", r"(^|[\s;])[A-Za-z_]\w*\+?=\("),
        ("`<<<`", r"<<<"),
        ("`<( … )`", r"[<>]\([^(]"),
        ("`&>`", r"&>"),
        ("`pushd` or `popd`", r"(^|[;&|]\s*)(pushd|popd)\b"),
        ("`{1..9}`", r"\{\w+\.\.\w+\}"),
        ("`pipefail`", r"\bset\s+(-\w+\s+)*-\w*o\s+pipefail\b"),
        ("`==` in `[ … ]`", r"(^|[\s;&|(!])\[\s[^\]]*\s==\s"),
        ("`${NAME//…}`", r"\$\{\w+(//|\^|,|:\d)"),
        ("`function`", r"(^|[;&|]\s*)function\s+\w+"),
    ]
    .map(|(what, pattern)| (what, expression(pattern)))
    .into()
});

static RELEASE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    expression(
        r"(?x)\b(
        aws\s+(s3\s+(sync|cp|mv)|ecs\s+update-service|lambda\s+update-function-code|lambda\s+publish-version|cloudformation\s+(deploy|create-stack|update-stack)|deploy\s+create-deployment|cloudfront\s+create-invalidation|elasticbeanstalk\s+update-environment)
        | docker\s+push | docker\s+compose\s+push | cdk\s+deploy | sam\s+deploy | (serverless|sls)\s+deploy | kubectl\s+(apply|set|rollout) | helm\s+(upgrade|install)
        | terraform\s+apply | npm\s+publish | yarn\s+publish | twine\s+upload | mvn\s+(-\S+\s+)*deploy | windlass\s+(release|promote|stage)
        )\b",
    )
});

static ASSIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    expression(
        r"(?:^|[\s;&|({!])(?:export\s+|local\s+|readonly\s+|declare\s+(?:-\w+\s+)*|for\s+|read\s+(?:-\w+\s+)*|:\s*\$\{)?([A-Za-z_]\w*)(?:\+?=|\s+in\b|:=)|\b(?:for|read|export|unset|local)\s+(?:-\w+\s+)*([A-Za-z_]\w*)|\$\{([A-Za-z_]\w*):?=",
    )
});
static USED: LazyLock<Option<Regex>> = LazyLock::new(|| expression(r"(\\?)\$(?:([A-Z][A-Z0-9_]*)|\{([A-Z][A-Z0-9_]*)\})"));
static CHANGED: LazyLock<Option<Regex>> = LazyLock::new(|| expression(r#"^\s*cd\s+["']?([^\s;&|"']+)["']?\s*(?:$|&&|;)"#));

/// Looks at a buildspec that can be read. The places are those of the commands.
#[must_use]
pub fn lint(buildspec: &Buildspec) -> Vec<Problem> {
    let mut found = Vec::new();
    bash_in_sh(buildspec, &mut found);
    unguarded(buildspec, &mut found);
    moved(buildspec, &mut found);
    unset(buildspec, &mut found);
    found.sort_by_key(|problem| problem.place);
    found
}

fn commands(buildspec: &Buildspec) -> impl Iterator<Item = &Command> {
    buildspec.phases.iter().flat_map(|phase| phase.commands.iter().chain(&phase.finally))
}

fn bash_in_sh(buildspec: &Buildspec, found: &mut Vec<Problem>) {
    let shell = buildspec.env.shell.as_deref().unwrap_or("sh");
    if shell.rsplit('/').next() != Some("sh") {
        return;
    }
    for command in commands(buildspec) {
        let text = unquoted(&command.text);
        let used = BASH.iter().find(|(_, pattern)| pattern.as_ref().is_some_and(|pattern| text.lines().any(|line| pattern.is_match(line))));
        if let Some((what, _)) = used {
            let problem = Problem::new(command.place, format!("{what} is bash, and the commands run in sh"));
            found.push(problem.cure("set `env/shell: bash`; on Ubuntu images sh is dash").rule("bash-in-sh"));
        }
    }
}

/// After a failed build `post_build` runs all the same.
fn unguarded(buildspec: &Buildspec, found: &mut Vec<Problem>) {
    let aborts = |name| buildspec.phase(name).is_some_and(|phase| phase.on_failure == Some(OnFailure::Abort));
    let builds = buildspec.phase(PhaseName::Build).is_some_and(|phase| !phase.commands.is_empty());
    let Some(phase) = buildspec.phase(PhaseName::PostBuild).filter(|_| builds && !aborts(PhaseName::Build)) else { return };
    if phase.commands.iter().any(|command| command.text.contains("CODEBUILD_BUILD_SUCCEEDING")) {
        return;
    }
    let releases = |command: &&Command| RELEASE.as_ref().is_some_and(|pattern| pattern.is_match(&command.text));
    if let Some(command) = phase.commands.iter().find(releases) {
        let problem = Problem::new(command.place, "this also runs after a failed `build`, and would release what is broken");
        let cure = "begin `post_build` with `[ \"$CODEBUILD_BUILD_SUCCEEDING\" = 1 ]`, or set `on-failure: ABORT` on `build`";
        found.push(problem.cure(cure).rule("post-build-guard"));
    }
}

/// Artifacts count from the source's directory, wherever the commands have gone.
fn moved(buildspec: &Buildspec, found: &mut Vec<Problem>) {
    let Some(artifacts) = &buildspec.artifacts else { return };
    let set = &artifacts.primary;
    if set.files.is_empty() || set.base_directory.is_some() {
        return;
    }
    let gone = commands(buildspec).filter_map(|command| {
        let captures = CHANGED.as_ref()?.captures(command.text.lines().next()?)?;
        Some((command, captures[1].trim_end_matches('/').to_owned()))
    });
    let gone: Vec<(&Command, String)> = gone.collect();
    let back = gone.iter().any(|(_, folder)| folder == ".." || folder == "-" || folder.contains('$') || folder.starts_with('/'));
    let Some((command, folder)) = gone.first().filter(|_| !back) else { return };
    let whole = set.files.iter().any(|file| file.starts_with("**"));
    if !whole && !set.files.iter().any(|file| file.starts_with(folder.as_str()) || file.starts_with('/') || file.starts_with('$')) {
        let message = format!("the commands go to `{folder}`, but `artifacts/files` counts from the source's directory");
        let cure = format!("write `{folder}/{}`, or set `base-directory: {folder}`", set.files[0]);
        found.push(Problem::new(command.place, message).cure(cure).rule("artifacts-after-cd"));
    }
}

/// Variables of every build, or of every shell.
const KNOWN: &[&str] = &[
    "HOME",
    "PATH",
    "PWD",
    "OLDPWD",
    "USER",
    "HOSTNAME",
    "SHELL",
    "TMPDIR",
    "LANG",
    "TERM",
    "IFS",
    "RANDOM",
    "SECONDS",
    "LINENO",
    "UID",
    "PPID",
    "BASH_SOURCE",
    "BASH_VERSION",
    "PIPESTATUS",
    "FUNCNAME",
    "OPTARG",
    "OPTIND",
    "GOPATH",
    "JAVA_HOME",
    "REPLY",
    "EUID",
    "CI",
];

fn unset(buildspec: &Buildspec, found: &mut Vec<Problem>) {
    let (Some(assigned), Some(used)) = (ASSIGNED.as_ref(), USED.as_ref()) else { return };
    let env = &buildspec.env;
    let names = env.variables.iter().chain(&env.parameter_store).map(|(name, _)| name.clone());
    let mut set: BTreeSet<String> = names.chain(env.secrets_manager.iter().map(|(name, _)| name.clone())).collect();
    for command in commands(buildspec) {
        for captures in assigned.captures_iter(&command.text) {
            set.extend(captures.iter().skip(1).flatten().map(|name| name.as_str().to_owned()));
        }
        // A file that is read may set anything.
        let reads = command.text.lines().any(|line| line.trim_start().starts_with(". ") || line.trim_start().starts_with("source "))
            || command.text.contains("eval ");
        if reads {
            return;
        }
    }
    let mut told = BTreeSet::new();
    for command in commands(buildspec) {
        let text = unquoted(&command.text);
        for captures in used.captures_iter(&text) {
            let name = captures.get(2).or(captures.get(3)).map_or("", |name| name.as_str());
            let known = set.contains(name) || KNOWN.contains(&name) || name.starts_with("CODEBUILD_") || name.starts_with("AWS_");
            if captures[1].is_empty() && !known && told.insert(name.to_owned()) {
                let problem = Problem::new(command.place, format!("`${name}` is set neither in the buildspec nor by CodeBuild"));
                let cure = format!("add it under `env/variables`, or write `${{{name}:-}}` if it is the project's, or may be empty");
                found.push(problem.cure(cure).rule("unset-variable"));
            }
        }
    }
}

/// A text without what stands in single quotes: the shell leaves that alone.
fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let (mut single, mut double) = (false, false);
    for c in text.chars() {
        match c {
            '\'' if !double => single = !single,
            '"' if !single => {
                double = !double;
                plain.push(c);
            }
            '\n' => plain.push(c),
            _ if single => {}
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::read::read;
    use super::*;

    fn rules(text: &str) -> Vec<String> {
        let (buildspec, _) = read(&format!("version: 0.2\n{text}")).unwrap();
        lint(&buildspec).iter().map(|problem| format!("{} {}", problem.place.line, problem.rule.unwrap())).collect()
    }

    fn commands(phase: &str, commands: &[&str]) -> String {
        let lines =
            commands.iter().fold(String::new(), |text, command| text + "      - |\n        " + &command.replace('\n', "\n        ") + "\n");
        format!("  {phase}:\n    commands:\n{lines}")
    }

    #[test]
    fn bash_is_found_where_sh_runs() {
        for command in [
            "[[ a == a ]]",
            "source env.sh",
            "arr=(a b)",
            "cat <<< x",
            "make &> log",
            "set -euo pipefail",
            "[ a == b ]",
            "echo {1..3}",
            "diff <(a) <(b)",
        ] {
            let text = format!("phases:\n{}", commands("build", &[command]));
            assert_eq!(rules(&text), ["6 bash-in-sh"], "{command}");
            assert_eq!(rules(&format!("env: {{shell: bash}}\n{text}")), [""; 0], "{command}");
        }
        for command in ["[ a = b ]", "echo '[[ x ]]'", "awk '{a=(1)}' f", "make >log 2>&1", "echo $((1<2))", "x=$(date)"] {
            assert_eq!(rules(&format!("phases:\n{}", commands("build", &[command]))), [""; 0], "{command}");
        }
    }

    #[test]
    fn a_release_after_a_failed_build_wants_a_guard() {
        let build = commands("build", &["make"]);
        let post = commands("post_build", &["echo", "docker push shop"]);
        assert_eq!(rules(&format!("phases:\n{build}{post}")), ["12 post-build-guard"]);
        let guarded = commands("post_build", &["[ \"$CODEBUILD_BUILD_SUCCEEDING\" = 1 ]", "docker push shop"]);
        assert_eq!(rules(&format!("phases:\n{build}{guarded}")), [""; 0]);
        assert_eq!(rules(&format!("phases:\n{build}    on-failure: ABORT\n{post}")), [""; 0]);
    }

    #[test]
    fn artifacts_that_forget_a_cd_are_found() {
        let build = commands("build", &["cd web && npm ci", "npm run build"]);
        assert_eq!(rules(&format!("phases:\n{build}artifacts:\n  files: ['dist/**/*']\n")), ["6 artifacts-after-cd"]);
        for artifacts in ["  files: ['web/dist/**/*']\n", "  base-directory: web/dist\n  files: ['**/*']\n", "  files: ['**/*']\n"] {
            assert_eq!(rules(&format!("phases:\n{build}artifacts:\n{artifacts}")), [""; 0], "{artifacts}");
        }
    }

    #[test]
    fn variables_that_nobody_sets_are_found_once() {
        let text = commands(
            "build",
            &["TAG=1", "echo $TAG ${OTHER} $OTHER $HOME $CODEBUILD_SRC_DIR '$QUOTED' \\$ESCAPED ${D:-x}", "for F in a; do echo $F; done"],
        );
        assert_eq!(rules(&format!("phases:\n{text}")), ["8 unset-variable"]);
    }
}
