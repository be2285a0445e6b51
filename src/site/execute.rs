//! Writes a site: first what nobody sees, later what everybody does; then asks for the page as a browser would.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::aws::{Aws, Condition, Deleted};
use crate::event::{Events, Outcome, Step};
use crate::journal::Journal;
use crate::model::{Exit, Failure, Headers, ObjectKey, Sha256, Stage, UnitName};
use crate::probe;

use super::plan::{Change, Kept, Known, LiveFile, Manifest, SitePlan, Write};
use super::retention::{Prune, Retained, Why};
use super::upload::{self, AT_ONCE, BIG, Trouble, each, put, put_live};

/// Uploads what is not live yet, and keeps what will be overwritten and what will overwrite it.
///
/// # Errors
/// [`Exit::Assets`]; nothing live has changed.
pub async fn assets(
    aws: &Aws,
    journal: Option<&Journal>,
    root: &Path,
    name: &UnitName,
    plan: &SitePlan,
    events: &Events,
) -> Result<BTreeMap<ObjectKey, String>, Failure> {
    let step = Step::of(Stage::Assets, name, "upload");
    events
        .step(step.clone(), async {
            let total = plan.upload.iter().map(|write| write.size).sum();
            let done = AtomicU64::new(0);
            let (listener, uploading) = (events.clone(), step.clone());
            let say = move |write: &Write| {
                listener.progress(&uploading, done.fetch_add(write.size, Ordering::Relaxed) + write.size, total, "B");
            };
            let uploads = async {
                let etags = upload::all(aws, &root.join(&plan.output), &plan.bucket, &plan.upload, say).await;
                let etags = etags.map_err(|(key, error)| failed(name, Exit::Assets, "upload", &key, error))?;
                Ok(etags.into_iter().map(|(key, etag)| (key, super::observe::unquoted(&etag))).collect())
            };
            let kept = async {
                match journal {
                    Some(journal) => keep(aws, journal, root, name, plan).await,
                    None => Ok(()),
                }
            };
            let (etags, ()) = futures_util::future::try_join(uploads, kept).await?;
            let outcome = if plan.is_empty() { Outcome::Unchanged } else { Outcome::Done };
            Ok((etags, outcome, format!("{} new, {} unchanged", plan.upload.len(), plan.unchanged)))
        })
        .await
}

/// Keeps bodies by their digest: the old ones for the way back, the new ones for `publish` on another machine.
async fn keep(aws: &Aws, journal: &Journal, root: &Path, name: &UnitName, plan: &SitePlan) -> Result<(), Failure> {
    let failed = |key: &dyn std::fmt::Display, error| failed(name, Exit::Assets, "keep", key, error);
    let kept: BTreeMap<Sha256, &Kept> = plan.keep.iter().map(|kept| (kept.sha256, kept)).collect();
    stream::iter(kept.into_values())
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |kept| async move {
            let to = journal.body_key(&kept.sha256);
            let present = aws.head_object(journal.bucket(), &to).await.map_err(|error| failed(&kept.key, error.into()))?;
            if present.is_none() {
                let (from, to_bucket) = (kept.key.as_str(), journal.bucket());
                let copied = aws.copy_file(&plan.bucket, from, to_bucket, &to, kept.size, kept.sha256, &body_headers()).await;
                copied.map_err(|error| failed(&kept.key, error.into()))?;
            }
            Ok(())
        })
        .await?;
    if plan.known == Known::Kept {
        return Ok(());
    }
    // Equal bodies are one.
    let bodies: BTreeMap<Sha256, &Write> =
        plan.publish.iter().filter(|write| write.change != Change::Headers).map(|write| (write.sha256, write)).collect();
    let new: Vec<Write> = bodies.into_values().cloned().collect();
    let output = root.join(&plan.output);
    each(aws, &new, |write| async {
        let to = journal.body_key(&write.sha256);
        let condition = if write.size < BIG {
            Condition::IfAbsent
        } else if aws.head_object(journal.bucket(), &to).await.map_err(|error| failed(&write.key, error.into()))?.is_some() {
            return Ok(());
        } else {
            Condition::Always
        };
        match put(aws, &output, write, (journal.bucket(), &to), &body_headers(), condition).await {
            // By its digest it can only be the same body.
            Err(Trouble::Aws(error)) if error.is_precondition_failed() => Ok(()),
            other => other.map(drop).map_err(|error| failed(&write.key, error)),
        }
    })
    .await
    .map(|_: Vec<()>| ())
}

fn body_headers() -> Headers {
    Headers::of("application/octet-stream", "no-store")
}

/// Overwrites what is live, in the plan's order: nothing that a page names comes after the page. Returns the manifest of what is live.
///
/// `etags` are those of what `assets` has uploaded. With a journal the bodies come from the state, by server-side copies; without one from the build's output on this machine.
///
/// # Errors
/// [`Exit::Publish`]; the message says how many of the files are new.
pub async fn publish(
    aws: &Aws,
    journal: Option<&Journal>,
    root: &Path,
    name: &UnitName,
    plan: &SitePlan,
    etags: Option<&BTreeMap<ObjectKey, String>>,
    events: &Events,
) -> Result<Manifest, Failure> {
    let step = Step::of(Stage::Publish, name, "publish");
    events
        .step(step.clone(), async {
            let mut manifest = plan.manifest.clone();
            for (key, etag) in etags.into_iter().flatten() {
                if let Some(file) = manifest.files.get_mut(key) {
                    file.etag = Some(etag.clone());
                }
            }
            // Until it is deleted, it is there.
            manifest.retained.extend(plan.prune.iter().map(|prune| (prune.key.clone(), prune.file.clone())));
            let total = plan.publish.len() as u64;
            let done = AtomicU64::new(0);
            for rank in plan.publish.chunk_by(|a, b| a.rank() == b.rank()) {
                let (done, step) = (&done, &step);
                let written =
                    upload::at_pace(aws, rank.iter(), |write| overwritten(aws, journal, root, plan, write, done, step, events)).await;
                for result in written {
                    let (key, etag) = result.map_err(|(key, error)| {
                        let done = done.load(Ordering::Relaxed);
                        let first = match &error {
                            Trouble::Aws(error) if error.is_expired_credentials() => "log in again, and ".to_owned(),
                            Trouble::Aws(error) if error.is_denied() => error.hint().map_or(String::new(), |hint| hint + "; "),
                            _ => String::new(),
                        };
                        let hint = format!(
                            "{done} of {total} files are new, the pages among them last; {first}run the same command again to finish"
                        );
                        failed(name, Exit::Publish, "publish", key, error).hint(hint)
                    })?;
                    if let Some(file) = manifest.files.get_mut(key) {
                        file.etag = Some(super::observe::unquoted(&etag));
                    }
                }
            }
            let outcome = if plan.is_empty() { Outcome::Unchanged } else { Outcome::Done };
            Ok((manifest, outcome, if total == 1 { "1 file".to_owned() } else { format!("{total} files") }))
        })
        .await
}

type Written<'a> = Result<(&'a ObjectKey, String), (&'a ObjectKey, Trouble)>;

#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
async fn overwritten<'a>(
    aws: &Aws,
    journal: Option<&Journal>,
    root: &Path,
    plan: &SitePlan,
    write: &'a Write,
    done: &AtomicU64,
    step: &Step,
    events: &Events,
) -> Written<'a> {
    let etag = overwrite(aws, journal, root, plan, write).await.map_err(|error| (&write.key, error))?;
    events.progress(step, done.fetch_add(1, Ordering::Relaxed) + 1, plan.publish.len() as u64, "files");
    Ok((&write.key, etag))
}

async fn overwrite(aws: &Aws, journal: Option<&Journal>, root: &Path, plan: &SitePlan, write: &Write) -> Result<String, Trouble> {
    let key = write.key.as_str();
    match (write.change, journal) {
        (Change::Headers, _) => Ok(aws.copy_file(&plan.bucket, key, &plan.bucket, key, write.size, write.sha256, &write.headers).await?),
        (_, Some(journal)) => {
            let from = journal.body_key(&write.sha256);
            Ok(aws.copy_file(journal.bucket(), &from, &plan.bucket, key, write.size, write.sha256, &write.headers).await?)
        }
        (_, None) => put_live(aws, &root.join(&plan.output), &plan.bucket, write).await,
    }
}

/// Deletes what is not to stay, each file only if it is still the one that we wrote. Returns those that are still there.
///
/// Never fails: the release is done, and what could not be deleted is tried again along with the next one.
pub async fn prune(aws: &Aws, name: &UnitName, plan: &SitePlan, events: &Events) -> BTreeMap<ObjectKey, Retained> {
    let step = Step::of(Stage::Publish, name, "prune");
    let all = async {
        let mut left = BTreeMap::new();
        let (mut gone, mut changed) = (0, 0);
        // A page that is still there must not name a file that is gone already.
        let (pages, files): (Vec<&Prune>, Vec<&Prune>) = plan.prune.iter().partition(|prune| prune.why == Why::RemovedPage);
        for rank in [pages, files] {
            if !left.is_empty() {
                left.extend(rank.into_iter().map(|prune| (prune.key.clone(), prune.file.clone())));
                continue;
            }
            let deleted = upload::at_pace(aws, rank.into_iter(), |prune| async move {
                (prune, aws.delete_object_if(&plan.bucket, prune.key.as_str(), prune.file.etag.as_deref()).await)
            });
            let deleted = deleted.await;
            for (prune, result) in deleted {
                match result {
                    Ok(Deleted::Gone | Deleted::Absent) => gone += 1,
                    // Someone else has written it since: it is theirs now.
                    Ok(Deleted::Changed) => changed += 1,
                    Err(error) => {
                        if left.is_empty() {
                            events.note(format!("{name}: `{}` could not be deleted: {error}", prune.key));
                        }
                        left.insert(prune.key.clone(), prune.file.clone());
                    }
                }
            }
        }
        let detail =
            format!("{gone} deleted, {changed} left because someone else has written them, {} left for the next release", left.len());
        Ok((left, Outcome::Done, detail))
    };
    events.step(step, all).await.unwrap_or_default()
}

fn failed(name: &UnitName, exit: Exit, what: &str, key: &dyn std::fmt::Display, error: Trouble) -> Failure {
    let hint = match &error {
        Trouble::Aws(error) => error.hint(),
        Trouble::Unreadable { .. } | Trouble::Thread { .. } => None,
        Trouble::Changed { .. } => Some("something writes to the build output; run the same command again".to_owned()),
    };
    let failure = Failure::new(exit, format!("site `{name}`: {what} of `{key}` failed")).because(error);
    failure.hint(hint.unwrap_or_else(|| "nothing is lost: run the same command again, and it goes on where it stopped".to_owned()))
}

/// How long the page may take to become the new one: CloudFront says 5 s for most edges, and up to minutes for the last.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a file that a page names may be missing: an edge that was asked for it too early keeps the error for 10 s.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/HTTPStatusCodes.html>
const ERRORS: Duration = Duration::from_secs(12);

/// Asks for the page (or file) at `url` until it is the released one, then for every asset that a page names.
///
/// Not only the status counts: a distribution that answers every missing key with its page says 200 for an absent script.
///
/// # Errors
/// [`Exit::Check`]: it is published, but this is not what is served.
pub async fn check(client: &probe::Client, name: &UnitName, url: &str, wanted: &LiveFile, events: &Events) -> Result<(), Failure> {
    let step = Step::of(Stage::Publish, name, "check");
    events
        .step(step, async {
            let failed = |what: String| {
                let failure = Failure::new(Exit::Check, format!("site `{name}`: published, but the check of `{url}` failed")).because(what);
                failure.hint("the files are in the bucket; look at the distribution's origin, behaviours and error pages")
            };
            let start = tokio::time::Instant::now();
            let page = loop {
                let wrong = match client.get(url).await {
                    Ok(page) if page.status == 200 && (page.cut || Some(Sha256::of(&page.body)) == wanted.sha256) => break page,
                    Ok(page) if page.status == 200 => "another page is served than the one that was published".to_owned(),
                    Ok(page) => format!("it answers {}", page.status),
                    Err(error) => error.to_string(),
                };
                if start.elapsed() > PATIENCE {
                    return Err(failed(format!("{wrong}, {} s after publishing", start.elapsed().as_secs())));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            };
            let served = page.content_type.as_deref().unwrap_or("no type");
            if !served.eq_ignore_ascii_case(&wanted.headers.content_type) {
                return Err(failed(format!("it is served as `{served}`, and is `{}` in the bucket", wanted.headers.content_type)));
            }
            if !is_page(served) {
                return Ok(((), Outcome::Done, url.to_owned()));
            }
            let html = String::from_utf8_lossy(&page.body).into_owned();
            let assets = probe::references(&html, url);
            for asset in &assets {
                let begun = tokio::time::Instant::now();
                while let Some(wrong) = wrong(client, asset).await {
                    if begun.elapsed() > ERRORS {
                        return Err(failed(wrong));
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            Ok(((), Outcome::Done, format!("{url} and {} files that it names", assets.len())))
        })
        .await
}

/// What is wrong with a file that a page names, if anything is.
async fn wrong(client: &probe::Client, asset: &str) -> Option<String> {
    let answer = match client.get(asset).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return Some(format!("the page names `{asset}`, which answers {}", answer.status)),
        Err(error) => return Some(format!("`{asset}`: {error}")),
    };
    let served = answer.content_type.filter(|served| is_page(served) && !is_page_path(asset))?;
    Some(format!("the page names `{asset}`, which is served as `{served}`: an error page in its place?"))
}

fn is_page(content_type: &str) -> bool {
    content_type.starts_with("text/html")
}

fn is_page_path(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_none_or(|extension| matches!(extension.as_str(), "html" | "htm"))
}
