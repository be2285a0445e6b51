//! What ECR's scan says of an image: a warning, or the end of the release.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::aws::{Aws, Scan, ScanFindings};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageDigest, Severity, Stage};

use super::plan::{FindingsPlan, ImagePlan};

/// A basic scan takes seconds; one that takes longer than this is waited for no more.
const LONGEST: Duration = Duration::from_mins(5);
/// Right after a push there may be no scan to speak of yet.
const BEGINS: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(2);
/// So many findings are named.
const NAMED: usize = 8;

/// Waits for the scan of an image, and judges what it has found: how many of each severity, if there is one.
///
/// # Errors
/// [`Exit::Images`] where the policy refuses what was found, or that nobody can say; nothing live has changed.
pub(super) async fn judge(
    aws: &Aws,
    name: &str,
    plan: &ImagePlan,
    policy: FindingsPlan,
    digest: ImageDigest,
    events: &Events,
) -> Result<Option<BTreeMap<String, u32>>, Failure> {
    let what = || format!("service `{name}`: the scan of its image `{}:{}`", plan.repository, plan.tag);
    let step = Step::of(Stage::Images, name, "scan");
    let looking = async {
        let found = match scan(aws, plan, digest).await {
            Ok(found) => found,
            Err(why) if policy.refuse => {
                let failure = Failure::new(Exit::Images, format!("{} cannot be judged", what())).because(why);
                return Err(failure.hint(format!(
                    "nothing live has changed; turn scanning on (`aws ecr put-image-scanning-configuration --repository-name {} \
                     --image-scanning-configuration scanOnPush=true`), allow `ecr:DescribeImageScanFindings`, or set `policy.image_findings: warn`",
                    plan.repository
                )));
            }
            Err(why) => {
                events.note(format!("{name}: ECR's scan of its image says nothing: {why}"));
                return Ok((None, Outcome::Unchanged, "nothing is known".to_owned()));
            }
        };
        let counted = |from: Severity| found.counts.iter().filter(move |(severity, _)| Severity::of(severity) >= Some(from));
        let bad: u32 = counted(policy.from).map(|(_, count)| count).sum();
        let text = said(&found.counts);
        let mut named: Vec<&(String, String)> =
            found.named.iter().filter(|(severity, _)| Severity::of(severity) >= Some(policy.from)).collect();
        named.sort_by_key(|(severity, _)| std::cmp::Reverse(Severity::of(severity)));
        let named: Vec<String> =
            named.into_iter().take(NAMED).map(|(severity, finding)| format!("{} {finding}", severity.to_lowercase())).collect();
        if bad > 0 && policy.refuse {
            let lines = named.iter().fold(String::new(), |text, line| text + "\n   | " + line);
            let failure = Failure::new(Exit::Images, format!("{} found {text}", what())).because(format!("it has{lines}"));
            return Err(failure.hint(
                "nothing live has changed; build on a base image without them (`max_age` rebuilds what is unchanged), or let fewer count with \
                 `policy.findings_from`",
            ));
        }
        for line in &named {
            events.output(&step, line);
        }
        if bad > 0 {
            events.note(format!("{name}: ECR's scan of its image found {text}"));
        }
        Ok((Some(found.counts), Outcome::Done, text))
    };
    events.step(step.clone(), looking).await
}

async fn scan(aws: &Aws, plan: &ImagePlan, digest: ImageDigest) -> Result<ScanFindings, String> {
    let started = Instant::now();
    // Of an image that was there before there would be one by now.
    let begins = if plan.present.is_some() { Duration::ZERO } else { BEGINS };
    loop {
        let scan = aws.image_scan(&plan.repository, digest).await.map_err(|error| error.to_string())?;
        if let Some(end) = end(scan, started.elapsed(), begins) {
            return end;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What comes of a scan that was `waited` for; `None` while it is worth waiting.
fn end(scan: Scan, waited: Duration, begins: Duration) -> Option<Result<ScanFindings, String>> {
    match scan {
        Scan::Found(found) => Some(Ok(found)),
        Scan::None(why) if waited >= begins => Some(Err(why)),
        Scan::Pending if waited > LONGEST => Some(Err(format!("it has not ended after {} s", LONGEST.as_secs()))),
        Scan::None(_) | Scan::Pending => None,
    }
}

/// `1 critical, 3 high`, the worst first.
fn said(counts: &BTreeMap<String, u32>) -> String {
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    counts.sort_by_key(|(severity, _)| std::cmp::Reverse(Severity::of(severity)));
    let words: Vec<String> = counts.into_iter().map(|(severity, count)| format!("{count} {}", severity.to_lowercase())).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_waited_for_until_it_has_begun_and_ended_and_no_longer() {
        let none = || Scan::None("there is none".to_owned());
        assert_eq!(end(none(), BEGINS / 2, BEGINS), None);
        assert_eq!(end(none(), BEGINS, BEGINS), Some(Err("there is none".to_owned())));
        assert_eq!(end(none(), Duration::ZERO, Duration::ZERO), Some(Err("there is none".to_owned())));
        assert_eq!(end(Scan::Pending, LONGEST, BEGINS), None);
        assert_eq!(end(Scan::Pending, LONGEST + PAUSE, BEGINS), Some(Err("it has not ended after 300 s".to_owned())));
        assert_eq!(end(Scan::Found(ScanFindings::default()), 2 * LONGEST, BEGINS), Some(Ok(ScanFindings::default())));
    }

    #[test]
    fn counts_are_said_with_the_worst_first() {
        let counts = [("LOW", 4), ("CRITICAL", 1), ("HIGH", 0), ("UNDEFINED", 2)].map(|(severity, count)| (severity.to_owned(), count));
        assert_eq!(said(&counts.into()), "1 critical, 4 low, 2 undefined");
        assert_eq!(said(&BTreeMap::default()), "nothing");
    }
}
