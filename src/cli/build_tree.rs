//! A build's log for people: phases with their commands below them, output below those, and the times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::buildspec::{BuildResult, Said, Status};
use crate::report::HEARTBEAT;

/// Writes a build's log as a tree.
pub(super) struct Tree {
    color: bool,
    /// When something was said last.
    last: Instant,
    /// The first line of what runs, and since when, by the build's identifier; a build that is none of a batch's has an empty one.
    running: BTreeMap<String, (String, Instant)>,
}

impl Tree {
    pub(super) fn new(color: bool) -> Self {
        Self { color, last: Instant::now(), running: BTreeMap::new() }
    }

    /// Lines that say what runs, if nothing has been said for a while: a log in which nothing stands for long looks dead.
    pub(super) fn beat(&mut self, now: Instant) -> String {
        if now.saturating_duration_since(self.last) < HEARTBEAT {
            return String::new();
        }
        self.last = now;
        let line = |(identifier, (command, since)): (&String, &(String, Instant))| {
            let build = if identifier.is_empty() { String::new() } else { format!("[{identifier}] ") };
            let seconds = now.saturating_duration_since(*since).as_secs_f64();
            format!("{build}  {} {command}: {}\n", self.paint("2", "…"), time(seconds))
        };
        self.running.iter().map(line).collect()
    }

    /// Keeps what runs, for the signs of life.
    fn follow(&mut self, identifier: &str, said: &Said) {
        match said {
            Said::Running { command } => {
                let first = command.lines().next().unwrap_or_default().to_owned();
                self.running.insert(identifier.to_owned(), (first, Instant::now()));
            }
            Said::Ended { .. } => drop(self.running.remove(identifier)),
            Said::Build { identifier, said } => self.follow(identifier, said),
            _ => {}
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The lines for `said`, with their ends.
    pub(super) fn text(&mut self, said: &Said) -> String {
        self.last = Instant::now();
        self.follow("", said);
        self.shown(said)
    }

    fn shown(&self, said: &Said) -> String {
        match said {
            Said::PhaseStarted { phase } => format!("{}\n", self.paint("1", phase)),
            Said::Running { command } => {
                let mut lines = command.lines();
                let first = lines.next().unwrap_or_default();
                let rest = lines.fold(String::new(), |text, line| text + "    " + line + "\n");
                format!("  {} {first}\n{rest}", self.paint("36", "$"))
            }
            Said::Output(line) => format!("  {} {line}\n", self.paint("2", "|")),
            Said::Ended { reason: Some(reason), seconds, .. } => {
                format!("  {} {reason} after {}\n", self.paint("31", "failed:"), time(*seconds))
            }
            Said::Ended { seconds, .. } if *seconds >= 1.0 => format!("  {}\n", self.paint("2", &format!("({})", time(*seconds)))),
            Said::Agent(words) if quiet(words) => String::new(),
            Said::Agent(words) => format!("  {words}\n"),
            Said::PhaseEnded { phase, result, seconds } => {
                let (word, why) = match result.status {
                    Status::Succeeded => (self.paint("32", "succeeded"), String::new()),
                    status => {
                        let word = status.to_string().to_lowercase().replace('_', " ");
                        let why = if result.code == "COMMAND_EXECUTION_ERROR" { String::new() } else { format!(": {}", result.message) };
                        (self.paint("31", &word), why)
                    }
                };
                format!("{phase} {word} in {}{why}\n", time(*seconds))
            }
            Said::Warning(words) => format!("  {} {words}\n", self.paint("33", "warning:")),
            Said::Build { identifier, said } => {
                let text = self.shown(said);
                text.lines().fold(String::new(), |text, line| text + "[" + identifier + "] " + line + "\n")
            }
            Said::BuildEnded { identifier, status } => format!("[{identifier}] {status}\n"),
            Said::Ended { .. } => String::new(),
        }
    }

    /// What came of the build, in a few lines.
    pub(super) fn summary(&self, result: &BuildResult) -> String {
        let mut text = String::new();
        for (name, report) in &result.reports {
            let what =
                if report.format.ends_with("XML") && !is_coverage(&report.format) || is_tests(&report.format) { "tests" } else { "lines" };
            let bad = if what == "tests" { "failed" } else { "not covered" };
            let _ = writeln!(text, "report {name}: {} {what}, {} {bad} ({})", report.total, report.failed, report.format);
        }
        let artifacts = result.artifacts.primary.iter().map(|artifact| ("artifact", artifact));
        for (kind, artifact) in artifacts.chain(result.artifacts.secondary.values().map(|artifact| ("secondary artifact", artifact))) {
            let _ = writeln!(text, "{kind} {}: {} file(s)", artifact.name, artifact.files.len());
        }
        for (name, value) in &result.exported_variables {
            let _ = writeln!(text, "exported {name}={value}");
        }
        for (identifier, status) in result.builds.iter().flatten() {
            let _ = writeln!(text, "build {identifier}: {status}");
        }
        let word = if result.status == Status::Succeeded {
            self.paint("1;32", "SUCCEEDED")
        } else {
            self.paint("1;31", &result.status.to_string())
        };
        let _ = writeln!(text, "{word}");
        text
    }
}

fn is_coverage(format: &str) -> bool {
    matches!(format, "CLOVERXML" | "COBERTURAXML" | "JACOCOXML" | "SIMPLECOV")
}

fn is_tests(format: &str) -> bool {
    !is_coverage(format)
}

/// The agent's lines that tell a person nothing.
fn quiet(words: &str) -> bool {
    let beginnings = [
        "CODEBUILD_SRC_DIR=",
        "YAML location is",
        "Processing env",
        "No runtime",
        "Moving to",
        "Phases found",
        " ",
        "Expanding",
        "Assembling",
    ];
    beginnings.iter().any(|beginning| words.starts_with(beginning))
}

fn time(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_says_nothing_for_long_is_named_with_its_time() {
        let mut tree = Tree::new(false);
        let running = Said::Running { command: "npm ci\nnpm run build".to_owned() };
        tree.text(&running);
        tree.text(&Said::Build { identifier: "web".to_owned(), said: Box::new(running) });
        let now = Instant::now();
        assert_eq!(tree.beat(now), "");
        assert_eq!(tree.beat(now + HEARTBEAT), "  … npm ci: 20 s\n[web]   … npm ci: 20 s\n");
        assert_eq!(tree.beat(now + HEARTBEAT), "", "only once in a while");
        tree.text(&Said::Ended { command: "npm ci".to_owned(), reason: None, seconds: 1.0 });
        assert_eq!(tree.beat(now + 3 * HEARTBEAT), "[web]   … npm ci: 60 s\n");
    }
}
