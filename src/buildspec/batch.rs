//! Batches: several builds of one source, each with a copy of it, side by side as far as they do not depend on each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use walkdir::WalkDir;

use super::batch_plan::{Planned, plan};
use super::log::{Log, Said};
use super::order::{Order, Source};
use super::problem::Problem;
use super::read::read;
use super::result::{BuildResult, PhaseResult, Status};
use super::run::{Unprepared, refused, run, text_of};
use crate::model::{Exit, yaml};

/// Runs the batch of a buildspec to its end. What fails is in the result.
pub async fn run_batch(order: &Order, to: &dyn Fn(Said)) -> BuildResult {
    let log = Log::new(order.mask.clone(), to);
    let (builds, fast_fail) = match prepare(order, &log) {
        Ok(planned) => planned,
        Err((failed, refused)) => {
            let phases = vec![("DOWNLOAD_SOURCE", failed)];
            return BuildResult { status: Status::Failed, phases, refused, builds: Some(BTreeMap::new()), ..BuildResult::default() };
        }
    };
    let mut results = Box::pin(all(order, &builds, fast_fail, &log, to)).await;
    let failed = builds.iter().any(|build| !build.ignore_failure && results[&build.identifier].status != Status::Succeeded);
    let stopped = order.is_stopped();
    let status = if stopped {
        Status::Stopped
    } else if failed {
        Status::Failed
    } else {
        Status::Succeeded
    };
    let statuses = results.iter().map(|(identifier, result)| (identifier.clone(), result.status)).collect();
    results.retain(|_, result| result.status != Status::NotRun);
    BuildResult { status, builds: Some(statuses), details: Some(results), ..BuildResult::default() }
}

/// The builds of the batch; are they stopped when one fails?
pub(super) fn prepare(order: &Order, log: &Log<'_>) -> Result<(Vec<Planned>, bool), Unprepared> {
    let (file, text) = text_of(order, &order.source, log)?;
    let (buildspec, warnings) = read(&text).map_err(|problems| refused(&file, &text, problems))?;
    for warning in warnings {
        log.warn(format!("{file}:{warning}"));
    }
    let Some(batch) = &buildspec.batch else {
        let problem = Problem::new(yaml::Place { line: 1, column: 1 }, "the buildspec has no `batch`");
        return Err(refused(&file, &text, vec![problem.cure("add `batch`, or leave --batch out")]));
    };
    let known: BTreeMap<&str, &str> = [&buildspec.env.variables, &order.project_variables, &order.overrides]
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Ok((plan(batch, &known), batch.fast_fail))
}

async fn all(order: &Order, builds: &[Planned], fast_fail: bool, log: &Log<'_>, to: &dyn Fn(Said)) -> BTreeMap<String, BuildResult> {
    let (tell, stop) = watch::channel(None);
    let mut results: BTreeMap<String, BuildResult> = BTreeMap::new();
    let mut waiting: Vec<&Planned> = builds.iter().collect();
    let mut running = FuturesUnordered::new();
    let outside = order.stopped();
    tokio::pin!(outside);
    let mut told = false;
    loop {
        // Has what a build depends on come to an end that lets it begin?
        let met = |name: &String| {
            let ignored = builds.iter().any(|other| other.identifier == *name && other.ignore_failure);
            let lets = |result: &BuildResult| result.status == Status::Succeeded || ignored && result.status != Status::NotRun;
            results.get(name).map(lets)
        };
        let mut later = Vec::new();
        let mut never = Vec::new();
        for build in waiting {
            let states: Vec<Option<bool>> = build.depend_on.iter().map(met).collect();
            if told || states.contains(&Some(false)) {
                never.push(build.identifier.clone());
            } else if states.contains(&None) || running.len() >= order.parallel.max(1) {
                later.push(build);
            } else {
                running.push(one(order, build, stop.clone(), log, to));
            }
        }
        waiting = later;
        if !never.is_empty() {
            for identifier in never {
                to(Said::BuildEnded { identifier: identifier.clone(), status: Status::NotRun });
                results.insert(identifier, BuildResult { status: Status::NotRun, ..BuildResult::default() });
            }
            // Others may depend on these.
            continue;
        }
        if running.is_empty() && waiting.is_empty() {
            return results;
        }
        tokio::select! {
            ended = running.next(), if !running.is_empty() => {
                let Some((build, result)) = ended else { continue };
                let failed = result.status != Status::Succeeded && !build.ignore_failure;
                results.insert(build.identifier.clone(), result);
                if failed && fast_fail && !told {
                    told = true;
                    tell.send(Some(Exit::Build)).ok();
                }
            }
            () = &mut outside, if !told => {
                told = true;
                tell.send(Some(Exit::Interrupted)).ok();
            }
            // With nothing under way, what waits is let go in the next round.
            else => {}
        }
    }
}

async fn one<'b>(
    order: &Order,
    build: &'b Planned,
    stop: watch::Receiver<Option<Exit>>,
    log: &Log<'_>,
    to: &dyn Fn(Said),
) -> (&'b Planned, BuildResult) {
    let identifier = build.identifier.clone();
    let wrap = |said: Said| to(Said::Build { identifier: identifier.clone(), said: Box::new(said) });
    let result = match copied(order).await {
        Err(error) => failed(format!("copying the source: {error}")),
        Ok((folder, copy)) => {
            let own = order_of(order, build, copy, stop, log);
            let result = run(&own, &wrap).await;
            drop(folder);
            result
        }
    };
    for problem in
        result.refused.iter().flat_map(|refused| refused.problems.iter().map(|problem| problem.shown(&refused.file, &refused.text)))
    {
        wrap(Said::Warning(problem));
    }
    to(Said::BuildEnded { identifier, status: result.status });
    (build, result)
}

/// A copy of the source, and the folder that is removed with it.
async fn copied(order: &Order) -> io::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::Builder::new().prefix("windlass-batch-").tempdir()?;
    let copy = folder.path().join(order.source.file_name().unwrap_or("source".as_ref()));
    let (from, to, apart) = (order.source.clone(), copy.clone(), order.artifacts.clone());
    let copying = tokio::task::spawn_blocking(move || copy_tree(&from, &to, apart.as_deref())).await;
    copying.map_err(io::Error::other)??;
    Ok((folder, copy))
}

fn failed(message: String) -> BuildResult {
    let phases = vec![("DOWNLOAD_SOURCE", PhaseResult::failed("CLIENT_ERROR", message))];
    BuildResult { status: Status::Failed, phases, ..BuildResult::default() }
}

/// The order of one build of the batch.
fn order_of(order: &Order, build: &Planned, source: PathBuf, stop: watch::Receiver<Option<Exit>>, log: &Log<'_>) -> Order {
    let mut own = Order {
        source,
        batch_variables: build.variables.clone(),
        identifier: Some(build.identifier.clone()),
        shard: build.shard,
        artifacts: order.artifacts.as_ref().map(|path| path.join(&build.identifier)),
        reports: order.reports.as_ref().map(|path| path.join(&build.identifier)),
        stop: Some(stop),
        ..order.clone()
    };
    if let Some(file) = &build.buildspec {
        own.buildspec = Source::File(file.clone());
    }
    match (&mut own.container, &build.image) {
        (Some(container), Some(image)) => {
            container.image.clone_from(image);
            container.privileged |= build.privileged;
        }
        (None, Some(image)) => {
            log.warn(format!(
                "{}: the image {image} is not used, as this batch runs on this machine (--image runs it in containers)",
                build.identifier
            ));
        }
        _ => {}
    }
    own
}

/// Copies a tree with its links, modes and times of change, but for `apart`.
fn copy_tree(from: &Path, to: &Path, apart: Option<&Path>) -> io::Result<()> {
    let entries = WalkDir::new(from).into_iter().filter_entry(|entry| apart != Some(entry.path()));
    for entry in entries {
        let entry = entry?;
        let to = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        let kind = entry.file_type();
        if kind.is_dir() {
            fs::create_dir_all(&to)?;
            fs::set_permissions(&to, entry.metadata()?.permissions())?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &to)?;
            let modified = entry.metadata()?.modified()?;
            // Programs such as make compare these; a file that cannot be opened for it keeps the time of its copy.
            if let Ok(file) = fs::File::options().write(true).open(&to) {
                file.set_modified(modified)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_links_the_modes_and_the_times() {
        use std::os::unix::fs::PermissionsExt as _;
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("bin")).unwrap();
        fs::create_dir_all(from.path().join("out")).unwrap();
        fs::write(from.path().join("bin/run"), "x").unwrap();
        fs::set_permissions(from.path().join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("bin/run", from.path().join("run")).unwrap();
        let copy = to.path().join("copy");
        copy_tree(from.path(), &copy, Some(&from.path().join("out"))).unwrap();
        assert_eq!(fs::read_link(copy.join("run")).unwrap(), Path::new("bin/run"));
        let (one, other) = (fs::metadata(from.path().join("bin/run")).unwrap(), fs::metadata(copy.join("bin/run")).unwrap());
        assert_eq!((one.permissions(), one.modified().unwrap()), (other.permissions(), other.modified().unwrap()));
        assert!(!copy.join("out").exists());
    }
}
