//! What `windlass init` says: what was found and why, what was written, what a person has to look at.

use serde_json::{Value, json};

use crate::detect::{Application, Finding, Question};

use super::page::Check;
use super::write::{Fate, File};

/// All that there is to say.
pub(super) struct Said<'a> {
    pub(super) application: &'a Application,
    pub(super) files: &'a [File],
    pub(super) fates: &'a [Fate],
    /// The configuration, where it was there.
    pub(super) kept: Option<(String, Fate)>,
    pub(super) checks: &'a [Check],
    /// The application's name, where the configuration is new.
    pub(super) app: Option<&'a str>,
    /// The configuration's file.
    pub(super) config: &'a str,
    pub(super) dry_run: bool,
}

impl Said<'_> {
    fn fates(&self) -> impl Iterator<Item = (&str, Fate)> {
        let files = self.files.iter().zip(self.fates).map(|(file, fate)| (file.path.as_str(), *fate));
        self.kept.iter().map(|(name, fate)| (name.as_str(), *fate)).chain(files)
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        section(&mut lines, "found", found(&self.application.findings, true));
        section(&mut lines, "not acted upon", found(&self.application.findings, false));
        let of =
            |fate: Fate| self.fates().filter(move |(_, other)| *other == fate).map(|(path, _)| format!("  {path}")).collect::<Vec<_>>();
        section(&mut lines, "written", of(Fate::Written));
        section(&mut lines, "would be written", of(Fate::WouldBe));
        section(&mut lines, "there already, and left as they are", of(Fate::Kept));
        section(&mut lines, "there already, and just so", of(Fate::Same));
        section(&mut lines, &format!("check these in {}", self.config), checks(self.checks));
        if self.dry_run {
            for (file, _) in self.files.iter().zip(self.fates).filter(|(_, fate)| **fate == Fate::WouldBe) {
                lines.push(format!("--- {}", file.path));
                lines.push(file.text.trim_end().to_owned());
            }
        } else if self.fates().any(|(_, fate)| fate == Fate::Written) {
            lines.push("next: look at what is to be checked, then `windlass verify` says what is missing in AWS, and `windlass plan` what would happen".to_owned());
        } else {
            lines.push("nothing to do: every file is there".to_owned());
        }
        lines.join("\n") + "\n"
    }

    /// For a program.
    pub(super) fn json(&self) -> Value {
        let application = self.application;
        let sites =
            application.sites.iter().map(|site| json!({"unit": "site", "name": site.name, "kind": site.kind, "at": site.at.to_string()}));
        let services = application.services.iter().map(|service| {
            json!({
                "unit": "service",
                "name": service.name,
                "kind": service.kind,
                "at": service.at.to_string(),
                "port": service.port.as_ref().map(|(port, _)| *port).or_else(|| service.recipe.as_ref().map(|recipe| recipe.port)),
            })
        });
        let migrations = application.migrations.iter().map(
            |migration| json!({"unit": "migration", "name": migration.name, "kind": migration.framework, "at": migration.at.to_string()}),
        );
        let text = |path: &str, fate: Fate| {
            let would = fate == Fate::WouldBe;
            self.files.iter().find(|file| would && file.path == path).map(|file| file.text.clone())
        };
        json!({
            "app": self.app,
            "units": sites.chain(services).chain(migrations).collect::<Vec<_>>(),
            "findings": application.findings.iter().map(finding).collect::<Vec<_>>(),
            "files": self.fates().map(|(path, fate)| json!({"path": path, "fate": fate.word(), "text": text(path, fate)})).collect::<Vec<_>>(),
            "check": self.checks.iter().map(|check| {
                json!({"file": self.config, "line": check.line, "entry": check.entry, "why": check.why})
            }).collect::<Vec<_>>(),
        })
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "directory": finding.directory,
        "what": finding.what,
        "file": finding.at.file,
        "line": finding.at.line,
        "acted_upon": finding.used,
    })
}

/// What is open, for a program.
pub(super) fn questions(application: &Application, open: &[&Question]) -> Value {
    json!({
        "questions": open.iter().map(|question| json!({
            "directory": question.directory,
            "what": question.what,
            "flag": question.topic.flag(),
            "choices": question.choices.iter().map(|(value, at)| json!({"value": value, "at": at.to_string()})).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "findings": application.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn section(lines: &mut Vec<String>, title: &str, entries: Vec<String>) {
    if !entries.is_empty() {
        lines.push(title.to_owned());
        lines.extend(entries);
        lines.push(String::new());
    }
}

/// What there is to check; entries that are there for one reason, as those of nine services are, stand together.
fn checks(checks: &[Check]) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, check) in checks.iter().enumerate() {
        if checks[..number].iter().any(|other| other.why == check.why) {
            continue;
        }
        let alike: Vec<&Check> = checks.iter().filter(|other| other.why == check.why).collect();
        let shown: Vec<String> = alike.iter().map(|check| format!("{}: {}", check.line, check.entry)).collect();
        lines.push(format!("  {}", check.why));
        lines.extend(shown.iter().map(|line| format!("    {line}")));
    }
    lines
}

/// Findings by their directory, each with its place.
fn found(findings: &[Finding], used: bool) -> Vec<String> {
    let chosen: Vec<&Finding> = findings.iter().filter(|finding| finding.used == used).collect();
    let mut directories: Vec<&str> = chosen.iter().map(|finding| finding.directory.as_str()).collect();
    directories.sort_unstable();
    directories.dedup();
    let mut lines: Vec<String> = Vec::new();
    for directory in directories {
        let first = lines.len();
        lines.push(format!("  {directory}"));
        for finding in chosen.iter().filter(|finding| finding.directory == directory) {
            let line = format!("    {}: {}", finding.at, finding.what);
            if !lines[first..].contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}
