//! What is live, and what preflight found, as people read it.

use std::fmt::Write as _;

use crate::model::{Status, Verification};

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
    out
}
