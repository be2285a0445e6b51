//! The files that a run leaves for whoever comes after it: the CI system, the next action of a pipeline, people.
//!
//! They are written however the run has ended. What an earlier run has left under their names is removed first, so that nobody takes
//! it for this one's.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::config::Config;
use crate::event::{Events, StepRan, Why};
use crate::model::{Exit, Failure, Mask, UnitName};
use crate::release::{Account, Hold, Released, Request, ServiceImage, Stop, Witness};
use crate::report::{self, TestCase, TestFailure};

use super::arguments::Common;
use super::pasted::pasted;
use super::session;

/// Files to be written.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct Outputs {
    /// Write a `JUnit` file with a test case for each step
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write a page for people: one file of HTML with what went live, what was done, and why it failed
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write what a later step needs as NAME='value' lines, to be sourced by a shell: `RELEASE_ID`, images, URLs
    #[arg(long, value_name = "FILE")]
    pub(super) export: Option<PathBuf>,
    /// Write what came of it as JSON: the release, its images and URLs, its record
    #[arg(long, value_name = "FILE")]
    pub(super) result: Option<PathBuf>,
    /// Write `CodePipeline`'s imagedefinitions.json, for its ECS action; with several services, name which
    #[arg(long, value_name = "[SERVICE=]FILE")]
    pub(super) image_definitions: Vec<String>,
    /// Write `CodePipeline`'s imageDetail.json, for its ECS blue/green action; with several services, name which
    #[arg(long, value_name = "[SERVICE=]FILE")]
    pub(super) image_detail: Vec<String>,
}

/// A file about images, of one service or of all.
struct ImageFile {
    service: Option<UnitName>,
    path: PathBuf,
}

impl ImageFile {
    fn parse(text: &str) -> Result<Self, Failure> {
        let Some((service, path)) = text.split_once('=') else { return Ok(Self { service: None, path: text.into() }) };
        let service = service.parse().map_err(|invalid: crate::model::Invalid| {
            Failure::new(Exit::Config, format!("`{text}` names no service")).because(invalid).hint("write SERVICE=FILE, or FILE")
        })?;
        Ok(Self { service: Some(service), path: path.into() })
    }

    fn of<'a>(&self, account: &'a Account) -> Vec<&'a ServiceImage> {
        let own = |name: &UnitName| self.service.as_ref().is_none_or(|service| service == name);
        account.units.images.iter().filter(|(name, _)| own(name)).map(|(_, image)| image).collect()
    }
}

impl Outputs {
    fn image_files(files: &[String]) -> Result<Vec<ImageFile>, Failure> {
        files.iter().map(|text| ImageFile::parse(text)).collect()
    }

    fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut paths: Vec<PathBuf> = [&self.junit, &self.report, &self.export, &self.result].into_iter().flatten().cloned().collect();
        for files in [&self.image_definitions, &self.image_detail] {
            paths.extend(Self::image_files(files)?.into_iter().map(|file| file.path));
        }
        Ok(paths)
    }

    /// Makes room for the files, before anything else is done.
    fn clear(&self) -> Result<(), Failure> {
        self.paths()?.iter().try_for_each(|path| clear(Some(path)))
    }

    /// Refuses what cannot be said in the form of a file.
    fn check(&self, config: &Config, units: &[UnitName]) -> Result<(), Failure> {
        let refused = |what: String| {
            let names: Vec<&str> = config.services.keys().map(UnitName::as_str).collect();
            Failure::new(Exit::Config, what).hint(format!("write SERVICE=FILE, once for each; the services are: {}", names.join(", ")))
        };
        let chosen = config.services.iter().filter(|(name, _)| units.is_empty() || units.contains(name));
        let mut containers: Vec<&str> = chosen.map(|(_, service)| service.container.as_str()).collect();
        let count = containers.len();
        containers.sort_unstable();
        containers.dedup();
        for (flag, files, fits) in [
            ("--image-definitions", &self.image_definitions, containers.len() == count),
            ("--image-detail", &self.image_detail, count <= 1),
        ] {
            for file in Self::image_files(files)? {
                match file.service {
                    Some(service) if !config.services.contains_key(&service) => {
                        return Err(refused(format!("{flag}: there is no service `{service}` in the configuration")));
                    }
                    None if !fits => return Err(refused(format!("{flag}: one file cannot tell the {count} services apart"))),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What windlass leaves in a checkout is no change of it.
const OWN_FOLDER: &str = ".windlass";

/// Makes room for a file, before anything else is done.
pub(super) fn clear(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    make_room(path).map_err(|error| {
        let failure = Failure::new(Exit::Config, format!("`{}` cannot be written; nothing was changed", path.display()));
        failure.because(error).hint("name a file in a directory that may be written to")
    })
}

/// Writes a file when all else is done.
pub(super) fn write_file(path: &Path, verb: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        let failure = Failure::new(Exit::Bug, format!("the {verb} is done, but writing `{}` failed", path.display())).because(error);
        failure.hint("name a file in a directory that may be written to; the same command again has nothing to do, and writes it")
    })
}

fn make_room(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
        if let Some(own) = parent.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == OWN_FOLDER)) {
            let ignore = own.join(".gitignore");
            if !ignore.exists() {
                std::fs::write(ignore, "*\n")?;
            }
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // That it can be written is found out now, and nothing is left where the run is killed.
            std::fs::File::create_new(path)?;
            std::fs::remove_file(path)
        }
        other => other,
    }
}

/// Runs `work` as [`session::with_reporter`] does, and writes the files that were asked for, whatever came of it.
pub(super) async fn reported(
    common: &Common,
    outputs: &Outputs,
    verb: &str,
    work: impl AsyncFnOnce(&Events, &Stop, &Watched<'_>) -> Result<Released, Failure>,
) -> Result<Released, Failure> {
    outputs.clear()?;
    let watched = Watched { common, outputs, witness: Witness::default() };
    let mut ran = Vec::new();
    let result = session::with_reporter(common, true, async |events, stop| {
        let result = work(events, stop, &watched).await;
        ran = events.ran();
        result
    });
    let result = result.await;
    let account = watched.witness.account();
    let written = write(outputs, verb, &ran, &account, &result);
    let quiet = session::progress(common) == report::Progress::None;
    // That the run failed weighs more than that nobody can read of it.
    let released = result.map_err(|failure| if quiet { failure } else { last_words(common, &account, failure) })?;
    if !quiet && !released.plan.is_empty() {
        say(common, &ending(&account, false));
    }
    written.map(|()| released)
}

fn ending(account: &Account, failed: bool) -> Vec<String> {
    // Without a record nothing was begun, and whatever is said elsewhere is all there is to say.
    let (Some(plan), Some(record)) = (&account.plan, &account.record) else { return Vec::new() };
    report::ending(plan, Some(record), failed, account.kept)
}

fn say(common: &Common, lines: &[String]) {
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let text = pasted(common, &text);
    // Where stderr is gone there is nobody left to tell.
    let _ = std::io::stderr().write_all(session::mask().apply(&text).as_bytes());
}

/// Says what is live before the failure is printed, and sees to it that both are few lines together: what is longer comes first.
fn last_words(common: &Common, account: &Account, failure: Failure) -> Failure {
    let lines = ending(account, true);
    let text = super::failure_text(&failure, false);
    let length = text.lines().count();
    // The hint, or the list of hints, is never cut.
    let rest = length - failure.causes().iter().map(|cause| cause.lines().count()).sum::<usize>();
    if lines.is_empty() || lines.len() + length <= report::LAST_LINES {
        say(common, &lines);
        return failure;
    }
    say(common, &text.lines().map(str::to_owned).collect::<Vec<_>>());
    say(common, &lines);
    failure.brief(report::LAST_LINES.saturating_sub(lines.len() + rest + 1).max(1))
}

/// A run whose files are to be written.
pub(super) struct Watched<'a> {
    common: &'a Common,
    outputs: &'a Outputs,
    witness: Witness,
}

impl Watched<'_> {
    /// The request of the run.
    pub(super) async fn request(&self, units: &[UnitName], hold: Hold, events: &Events) -> Result<Request, Failure> {
        let request = session::request(self.common, units, events).await?;
        self.outputs.check(&request.project.config, units)?;
        Ok(Request { hold, witness: self.witness.clone(), ..request })
    }
}

fn write(outputs: &Outputs, verb: &str, ran: &[StepRan], account: &Account, result: &Result<Released, Failure>) -> Result<(), Failure> {
    let write = |path: &Path, text: String| write_file(path, verb, &text);
    let mask = session::mask();
    if let Some(path) = &outputs.junit {
        write(path, report::junit("windlass", &cases(verb, ran, result)))?;
    }
    if let Some(path) = &outputs.report {
        let failure = result.as_ref().err().map(|failure| why(failure, &mask));
        let (record, plan) = (account.record.as_ref(), account.plan.as_deref());
        write(path, report::page(&report::Page { verb, record, plan, steps: ran, failure: failure.as_ref() }))?;
    }
    if let Some(path) = &outputs.export {
        write(path, export(account, result))?;
    }
    if let Some(path) = &outputs.result {
        let text = serde_json::to_string_pretty(&summary(account, result));
        let text = text.map_err(|error| Failure::new(Exit::Bug, "writing JSON failed").because(error))?;
        write(path, mask.apply(&text) + "\n")?;
    }
    for file in Outputs::image_files(&outputs.image_definitions)? {
        // <https://docs.aws.amazon.com/codepipeline/latest/userguide/file-reference.html>
        let images = file.of(account);
        let all: Vec<_> = images.iter().map(|image| json!({ "name": image.container, "imageUri": image.uri })).collect();
        if !all.is_empty() {
            write(&file.path, format!("{}\n", serde_json::Value::from(all)))?;
        }
    }
    for file in Outputs::image_files(&outputs.image_detail)? {
        if let [image] = file.of(account)[..] {
            write(&file.path, format!("{}\n", json!({ "ImageURI": image.uri })))?;
        }
    }
    Ok(())
}

fn why(failure: &Failure, mask: &Mask) -> Why {
    let causes = failure.causes().iter().map(|cause| mask.apply(cause)).collect();
    let hint = failure.hint_text().map(|hint| mask.apply(hint));
    Why {
        what: mask.apply(&failure.to_string()),
        causes,
        hint,
        exit: failure.exit().code(),
        changed_nothing: failure.has_changed_nothing(),
    }
}

/// The release that others go on with; `none` if there is none, as a variable of a pipeline cannot be empty.
fn release_id<'a>(account: &'a Account, result: &'a Result<Released, Failure>) -> Option<&'a str> {
    let record = account.record.as_ref().map(|record| record.release.as_str());
    record.or_else(|| result.as_ref().ok()?.release.as_ref().map(crate::model::ReleaseId::as_str))
}

fn has_changed(result: &Result<Released, Failure>) -> bool {
    result.as_ref().is_ok_and(|released| !released.plan.is_empty())
}

fn exit_code(result: &Result<Released, Failure>) -> u8 {
    result.as_ref().err().map_or(0, |failure| failure.exit().code())
}

/// `NAME='value'` lines that every POSIX shell can source, whatever the values hold.
fn export(account: &Account, result: &Result<Released, Failure>) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name}='{}'", value.replace('\'', r"'\''"));
    };
    line("RELEASE_ID", release_id(account, result).unwrap_or("none"));
    line("RELEASE_CHANGED", if has_changed(result) { "true" } else { "false" });
    line("RELEASE_EXIT", &exit_code(result).to_string());
    if let Some(plan) = &account.plan {
        line("RELEASE_ENVIRONMENT", &plan.environment);
        line("RELEASE_COMMIT", plan.commit.as_ref().map_or("", |commit| commit.as_str()));
    }
    for (name, image) in &account.units.images {
        line(&format!("IMAGE_{}", variable(name)), &image.uri.to_string());
        line(&format!("IMAGE_DIGEST_{}", variable(name)), &image.uri.digest.to_string());
    }
    for (name, site) in &account.units.sites {
        line(&format!("SITE_URL_{}", variable(name)), &site.url);
    }
    out
}

/// A unit's name as a part of a variable's.
fn variable(name: &UnitName) -> String {
    name.as_str().to_ascii_uppercase().replace('-', "_")
}

fn summary(account: &Account, result: &Result<Released, Failure>) -> serde_json::Value {
    let plan = account.plan.as_ref();
    json!({
        "format": 1,
        "release": release_id(account, result),
        "changed": has_changed(result),
        "exit": exit_code(result),
        "failure": result.as_ref().err().map(|failure| json!({
            "what": failure.to_string(),
            "causes": failure.causes(),
            "hint": failure.hint_text(),
        })),
        "app": plan.map(|plan| &plan.app),
        "environment": plan.map(|plan| &plan.environment),
        "commit": plan.and_then(|plan| plan.commit.as_ref()),
        "images": account.units.images,
        "sites": account.units.sites,
        "record": account.record,
    })
}

/// The cases of the steps; one of the run itself where there is none that says how it ended.
fn cases(verb: &str, ran: &[StepRan], result: &Result<Released, Failure>) -> Vec<TestCase> {
    let mut cases = report::step_cases(ran);
    let own = TestCase { suite: "run".to_owned(), name: verb.to_owned(), ..TestCase::default() };
    match result {
        Err(failure) if cases.iter().all(|case| case.failure.is_none()) => {
            let mask = session::mask();
            let cause = failure.causes().last().cloned().unwrap_or_else(|| failure.to_string());
            let message = mask.apply(report::first_line(&cause));
            let text = mask.apply(&super::failure_text(failure, false));
            cases.push(TestCase { failure: Some(TestFailure { message, text }), ..own });
        }
        // A file without any case is taken for a broken one.
        Ok(_) if cases.is_empty() => cases.push(TestCase { output: "nothing to do".to_owned(), ..own }),
        _ => {}
    }
    cases
}
