//! What is live, and what preflight found, as people read it.

use std::fmt::Write as _;

use crate::model::{Check, Status, Unfinished, Verdict, Verification};

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
    if let Some(Unfinished { release, exit, failure }) = &status.unfinished {
        let came = match (exit, failure) {
            (Some(exit), Some(failure)) => format!("failed ({exit}): {}", super::first_line(failure)),
            (Some(exit), None) => format!("failed ({exit})"),
            (None, _) => "was cut off: the same command goes on with it".to_owned(),
        };
        let _ = writeln!(out, "the last release, {release}, {came}\n  → `windlass history {release}` says what it has done");
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
    for (at, check) in verification.checks.iter().enumerate() {
        if check.on != on {
            let _ = writeln!(out, "  {}", check.on);
            on = &check.on;
        }
        // Sites that share a distribution have what is said of it in common.
        let same = |other: &&Check| check.on.starts_with("site ") && Check { on: check.on.clone(), ..(*other).clone() } == *check;
        if let Some(first) = verification.checks[..at].iter().find(same) {
            let _ = writeln!(out, "    {:<8}  {}: as of {}", word(check.verdict), check.check, first.on);
            continue;
        }
        let _ = writeln!(out, "    {:<8}  {}: {}", word(check.verdict), check.check, check.seen);
        if let Some(cure) = &check.cure {
            let _ = writeln!(out, "              → {cure}");
        }
    }
    let count = |verdict| verification.checks.iter().filter(|check| check.verdict == verdict).count();
    let (ok, warn, fail, unseen) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail), count(Verdict::NotSeen));
    let _ = writeln!(out, "\n{ok} ok, {warn} to think about, {fail} failed, {unseen} not seen");
    out
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
        Verdict::NotSeen => "not seen",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_has_failed_is_told_above_what_is_live() {
        let status = |exit, failure: Option<&str>| {
            let unfinished = Unfinished { release: "20261121T054700123Z-1a2b3c4d".into(), exit, failure: failure.map(str::to_owned) };
            let (account, region) = ("1".to_owned(), "us-east-1".to_owned());
            let status = Status {
                app: "shop".parse().unwrap(),
                environment: String::new(),
                account,
                region,
                releasing: None,
                unfinished: Some(unfinished),
                units: Vec::new(),
            };
            status_text(&status)
        };
        assert_eq!(
            status(Some(30), Some("service `api`: the rollout failed and was rolled back: it crashed\nand more")),
            "shop: account 1 in us-east-1\n\
             the last release, 20261121T054700123Z-1a2b3c4d, failed (30): service `api`: the rollout failed and was rolled back: it crashed\n  \
             → `windlass history 20261121T054700123Z-1a2b3c4d` says what it has done\n"
        );
        assert!(status(None, None).contains("was cut off: the same command goes on with it\n"));
    }

    #[test]
    fn what_sites_have_in_common_is_told_once() {
        let check = |on: &str, seen: &str| Check {
            check: "waf".into(),
            on: format!("site `{on}`"),
            verdict: Verdict::Warn,
            seen: seen.into(),
            cure: Some("attach one".into()),
        };
        let checks = vec![check("docs", "`E1` has none"), check("web", "`E1` has none"), check("shop", "`E2` has none")];
        let (account, region) = ("1".to_owned(), "us-east-1".to_owned());
        let text = verification_text(&Verification { account, region, findings: Vec::new(), checks });
        assert!(
            text.contains("  site `web`\n    warn      waf: as of site `docs`\n  site `shop`\n    warn      waf: `E2` has none\n"),
            "{text}"
        );
        assert_eq!((text.matches("attach one").count(), text.contains("3 to think about")), (2, true), "{text}");
    }
}
