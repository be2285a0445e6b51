//! `windlass verify`.

use std::process::ExitCode;

use crate::model::{Exit, Failure, Verdict, Verification};
use crate::release;
use crate::report;

use super::arguments::{Common, Format, Verify};
use super::session;

pub(super) async fn run(common: &Common, verb: &Verify) -> Result<ExitCode, Failure> {
    let verification = session::with_reporter(common, false, async |events, _| {
        let request = session::request(common, &verb.units.units, events).await?;
        Box::pin(release::verify(&request, events)).await
    });
    let verification = accepted(Box::pin(verification).await?, &verb.accept)?;
    if let Some(path) = &verb.junit {
        let text = session::mask().apply(&report::junit("windlass", &report::verification_cases(&verification)));
        std::fs::write(path, text).map_err(|error| {
            let failure = Failure::new(Exit::Config, format!("writing `{}` failed", path.display())).because(error);
            failure.hint("name a file in a directory that exists and may be written to")
        })?;
    }
    match common.format {
        Format::Human => super::print(&report::verification_text(&verification))?,
        Format::Json => super::print_json(&verification)?,
    }
    let refused = verification.findings.iter().any(|finding| finding.refusal.is_some());
    let worst = |verdict| verification.checks.iter().any(|check| check.verdict == verdict);
    let failed = refused || worst(Verdict::Fail) || (verb.strict && worst(Verdict::Warn));
    Ok(if failed { ExitCode::from(Exit::Preflight.code()) } else { ExitCode::SUCCESS })
}

/// Failures that are known are warnings.
fn accepted(mut verification: Verification, names: &[String]) -> Result<Verification, Failure> {
    if let Some(name) = names.iter().find(|name| !verification.checks.iter().any(|check| check.check == **name)) {
        let failure = Failure::new(Exit::Config, format!("--accept {name}: there is no such check here"));
        return Err(failure.hint("checks are named in what `windlass verify` prints"));
    }
    for check in verification.checks.iter_mut().filter(|check| check.verdict == Verdict::Fail && names.contains(&check.check)) {
        check.verdict = Verdict::Warn;
        check.seen.push_str(" (accepted)");
    }
    Ok(verification)
}
