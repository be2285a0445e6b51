//! Names of AWS's resources that a checkout's own scripts hold: what it was released with so far.

use std::sync::LazyLock;

use regex::Regex;

use super::tree::Tree;
use super::{Place, path};

/// A name that a script holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it names: `bucket`, `distribution`, `cluster`, `service`, `function`, `account`, `region`, `repository`, `environment`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// Where.
    pub at: Place,
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("{error}"))
}

static PATTERNS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    vec![
        ("bucket", pattern(r"\bs3\s+(?:sync|cp)\b[^\n]*?\ss3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/|\s|$|[\x22'])")),
        ("distribution", pattern(r"--distribution-id[= ][\x22']?(E[A-Z0-9]{10,14})\b")),
        ("cluster", pattern(r"--cluster[= ][\x22']?([A-Za-z0-9][A-Za-z0-9_-]*)")),
        ("service", pattern(r"\becs\s+(?:update-service|wait)[^\n]*--services?[= ][\x22']?([A-Za-z0-9][A-Za-z0-9_-]*)")),
        ("function", pattern(r"\blambda\s+invoke\b[^\n]*--function-name[= ][\x22']?([A-Za-z0-9][A-Za-z0-9_-]*)")),
        ("cluster", pattern(r"\becs(?:[ -])deploy\s+(?:deploy\s+)?(?:-[^\s]+\s+)*([A-Za-z][A-Za-z0-9_-]*)\s+[A-Za-z][A-Za-z0-9_-]*")),
        ("service", pattern(r"\becs(?:[ -])deploy\s+(?:deploy\s+)?(?:-[^\s]+\s+)*[A-Za-z][A-Za-z0-9_-]*\s+([A-Za-z][A-Za-z0-9_-]*)")),
        ("account", pattern(r"\b([0-9]{12})\.dkr\.ecr\.")),
        ("region", pattern(r"\b[0-9]{12}\.dkr\.ecr\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.")),
        ("repository", pattern(r"\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/([a-z0-9][a-z0-9._/-]*[a-z0-9])")),
    ]
});

/// Every name in workflows, pipelines, scripts and Makefiles; each once, where it stands first.
pub(super) fn known(tree: &Tree) -> Vec<Known> {
    let mut found: Vec<Known> = Vec::new();
    for file in tree.files().filter(|file| is_script(file)) {
        let Some(text) = tree.text(file) else { continue };
        for line in commands(&text) {
            for (kind, pattern) in PATTERNS.iter() {
                for hit in pattern.captures_iter(&line.0).filter_map(|hit| hit.get(1)) {
                    let name = hit.as_str().to_owned();
                    if !found.iter().any(|known| known.kind == *kind && known.name == name) {
                        found.push(Known { kind, name, at: Place::line(file, line.1) });
                    }
                }
            }
        }
    }
    // AWS Copilot describes each environment in a file of its own; its support has ended in June 2026.
    for file in tree.files().filter(|file| file.starts_with("copilot/environments/") && file.ends_with("/manifest.yml")) {
        let name = path::name(path::parent(file)).to_owned();
        found.push(Known { kind: "environment", name, at: Place::file(file) });
    }
    found
}

fn is_script(file: &str) -> bool {
    let name = path::name(file);
    let named = ["Makefile", "Jenkinsfile", "Taskfile.yml", "package.json", "bitbucket-pipelines.yml", ".gitlab-ci.yml", "justfile"];
    named.contains(&name)
        || path::ending(name) == "sh"
        || name.starts_with("buildspec")
        || file.starts_with(".github/workflows/")
        || (file.contains("buildspec") && path::ending(name) == "yml")
}

/// Lines, with those joined that a backslash continues; and the line that each begins on.
fn commands(text: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        let begun = line.trim_end().strip_suffix('\\');
        match found.last_mut().filter(|_| open) {
            Some((command, _)) => command.push_str(begun.unwrap_or(line)),
            None => found.push((begun.unwrap_or(line).to_owned(), number + 1)),
        }
        open = begun.is_some();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_commands_of_today() {
        let names = |text: &str| {
            let hits = PATTERNS.iter().flat_map(|(kind, pattern)| pattern.captures_iter(text).map(move |hit| (*kind, hit[1].to_owned())));
            hits.collect::<Vec<_>>()
        };
        assert_eq!(names("aws s3 sync dist s3://shop-web --delete"), [("bucket", "shop-web".to_owned())]);
        assert_eq!(
            names("aws cloudfront create-invalidation --distribution-id E2EXAMPLE1234"),
            [("distribution", "E2EXAMPLE1234".to_owned())]
        );
        assert_eq!(
            names("aws ecs update-service --cluster shop --service api --force-new-deployment"),
            [("cluster", "shop".to_owned()), ("service", "api".to_owned())]
        );
        assert_eq!(names("ecs deploy shop api -t 1"), [("cluster", "shop".to_owned()), ("service", "api".to_owned())]);
        assert_eq!(names("aws s3 sync dist s3://$BUCKET"), []);
    }
}
