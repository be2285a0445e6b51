//! What is live, and what preflight found, as people read it.

use std::fmt::Write as _;

use crate::model::{Status, Verdict, Verification};

use super::junit::{TestCase, TestFailure};

/// What is live, a line for each unit.
#[must_use]
pub fn status_text(status: &Status) -> String {
    let environment = if status.environment.is_empty() { String::new() } else { format!(" in {}", status.environment) };
    let mut out = format!("{}{environment}: account {} in {}\n", status.app, status.account, status.region);
    if let Some(holder) = &status.releasing {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "a release is under way: {holder}");
    }
    let width = status.units.iter().map(|unit| unit.name.as_str().len()).max().unwrap_or_default();
    for unit in &status.units {
        let release = unit.release.as_ref().map_or(String::new(), |release| format!(", release {release}"));
        let _ = writeln!(out, "  {:<9}  {:<width$}  {}{release}", unit.kind, unit.name, unit.live);
        if let Some(drift) = &unit.drift {
            let _ = writeln!(out, "  {:<9}  {:<width$}  ! {drift}", "", "");
        }
    }
    out
}

/// What preflight found, a line for each thing that it looked at.
#[must_use]
pub fn verification_text(verification: &Verification) -> String {
    let mut out = format!("account {} in {}\n", verification.account, verification.region);
    for finding in &verification.findings {
        let _ = match &finding.refusal {
            None => writeln!(out, "  ok       {}", finding.what),
            Some(refusal) => writeln!(out, "  REFUSED  {}\n           {}\n           → {}", finding.what, refusal.what, refusal.cure),
        };
    }
    if verification.checks.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\ninfrastructure");
    let mut on = "";
    for check in &verification.checks {
        if check.on != on {
            let _ = writeln!(out, "  {}", check.on);
            on = &check.on;
        }
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
            Verdict::NotSeen => "not seen",
        };
        let _ = writeln!(out, "    {verdict:<8}  {}: {}", check.check, check.seen);
        if let Some(cure) = &check.cure {
            let _ = writeln!(out, "              → {cure}");
        }
    }
    let count = |verdict| verification.checks.iter().filter(|check| check.verdict == verdict).count();
    let (ok, warn, fail, unseen) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail), count(Verdict::NotSeen));
    let _ = writeln!(out, "\n{ok} ok, {warn} to think about, {fail} failed, {unseen} not seen");
    out
}

/// The same as test cases: a suite for each thing, what could not be seen is skipped.
#[must_use]
pub fn verification_cases(verification: &Verification) -> Vec<TestCase> {
    let findings = verification.findings.iter().map(|finding| TestCase {
        suite: "preflight".to_owned(),
        name: finding.what.clone(),
        failure: finding
            .refusal
            .as_ref()
            .map(|refusal| TestFailure { message: refusal.what.clone(), text: format!("hint: {}", refusal.cure) }),
        ..TestCase::default()
    });
    let checks = verification.checks.iter().map(|check| {
        let cure = check.cure.as_deref().unwrap_or_default();
        TestCase {
            suite: check.on.replace('`', ""),
            name: check.check.clone(),
            failure: (check.verdict == Verdict::Fail).then(|| TestFailure { message: check.seen.clone(), text: format!("hint: {cure}") }),
            skipped: (check.verdict == Verdict::NotSeen).then(|| format!("not seen: {}", check.seen)),
            output: match check.verdict {
                Verdict::Ok => check.seen.clone(),
                Verdict::Warn => format!("warning: {}\nhint: {cure}", check.seen),
                Verdict::Fail | Verdict::NotSeen => String::new(),
            },
            ..TestCase::default()
        }
    });
    findings.chain(checks).collect()
}
