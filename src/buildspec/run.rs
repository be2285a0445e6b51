//! One build from its source to its artifacts, phase by phase.
//!
//! | failed | what still runs |
//! |---|---|
//! | `DOWNLOAD_SOURCE`, `INSTALL`, `PRE_BUILD` | nothing |
//! | `BUILD` | `POST_BUILD`, `UPLOAD_ARTIFACTS` |
//! | `POST_BUILD` | `UPLOAD_ARTIFACTS` |
//!
//! With `on-failure: CONTINUE` the next phase runs in any case, with `ABORT` none. The build has failed all the same.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cache::{self, Opened};
use super::environment::{self, uuid};
use super::log::{Log, Said};
use super::order::{Order, Source};
use super::phase::{self, Ran};
use super::problem::Problem;
use super::read::read;
use super::result::{BuildResult, PhaseResult, Refused, Status};
use super::shell::{Failure, Place, Shell, Terms, inner};
use super::spec::{Buildspec, OnFailure, Phase, PhaseName};
use super::{artifacts, container, reports, runtimes, secrets, tools};
use crate::model::yaml;
use crate::process::User;

/// A build that has begun.
pub(super) struct Build<'a> {
    pub(super) order: &'a Order,
    pub(super) log: &'a Log<'a>,
    /// The source's directory, as the commands see it.
    pub(super) source: PathBuf,
    /// The buildspec's name in messages.
    pub(super) file: String,
    pub(super) id: String,
    pub(super) buildspec: Buildspec,
    pub(super) shell: Shell,
    pub(super) deadline: Option<tokio::time::Instant>,
    pub(super) result: BuildResult,
    cache: Option<Opened>,
}

/// Runs a build to its end and says what happens to `to`. What fails is in the result.
pub async fn run(order: &Order, to: &dyn Fn(Said)) -> BuildResult {
    let log = Log::new(order.mask.clone(), to);
    let started = Instant::now();
    log.say(Said::PhaseStarted { phase: "DOWNLOAD_SOURCE" });
    let mut build = match prepare(order, &log).await {
        Ok(build) => build,
        Err((failed, refused)) => {
            log.say(Said::PhaseEnded { phase: "DOWNLOAD_SOURCE", result: failed.clone(), seconds: started.elapsed().as_secs_f64() });
            let status = failed.status;
            return BuildResult { status, phases: vec![("DOWNLOAD_SOURCE", failed)], refused, ..BuildResult::default() };
        }
    };
    build.phase_ended("DOWNLOAD_SOURCE", PhaseResult::default(), started);
    let uploads = build.phases().await;
    build.export().await;
    if uploads {
        build.upload().await;
    }
    let failed = build.result.phases.iter().map(|(_, result)| result.status).find(|status| *status != Status::Succeeded);
    build.result.status = failed.unwrap_or_default();
    if let (Some(cache), Status::Succeeded) = (&build.cache, build.result.status) {
        cache.save(&build.source, &log).await;
    }
    build.shell.close().await;
    build.result
}

pub(super) type Unprepared = (PhaseResult, Option<Box<Refused>>);

pub(super) fn refused(file: &str, text: &str, problems: Vec<Problem>) -> Unprepared {
    let message = problems.first().map(Problem::in_codebuilds_words).unwrap_or_default();
    (PhaseResult::failed("YAML_FILE_ERROR", message), Some(Box::new(Refused { file: file.to_owned(), text: text.to_owned(), problems })))
}

/// Everything that belongs to `DOWNLOAD_SOURCE`: reading, secrets, shell, runtimes, cache.
async fn prepare<'a>(order: &'a Order, log: &'a Log<'a>) -> Result<Build<'a>, Unprepared> {
    let failed = |message: String| (PhaseResult::failed("CLIENT_ERROR", message), None);
    let source = std::fs::canonicalize(&order.source).map_err(|error| failed(format!("the source {}: {error}", order.source.display())))?;
    let id = uuid();
    log.agent(format!("CODEBUILD_SRC_DIR={}", source.display()));
    let (file, text) = text_of(order, &source, log)?;
    let (buildspec, warnings) = read(&text).map_err(|problems| refused(&file, &text, problems))?;
    for warning in warnings {
        log.warn(format!("{file}:{warning}{}", warning.cure.as_deref().map_or(String::new(), |cure| format!(" ({cure})"))));
    }
    log.agent("Processing environment variables");
    let resolved = secrets::resolve(order, &buildspec.env).await.map_err(|failed| (failed, None))?;
    log.add_secrets(resolved.iter().map(|(_, value)| value.clone()));
    let builtin = environment::builtin(order, &source, &id);
    let variables = environment::layered(order, &buildspec.env.variables, &resolved, builtin);
    if let Some(token) = variables.get("CODEBUILD_AUTH_TOKEN").and_then(|token| token.to_str()) {
        log.add_secrets([token.to_owned()]);
    }
    users(order, &buildspec).map_err(&failed)?;
    let state = Shell::state().map_err(|error| failed(format!("a directory for the build's state: {error}")))?;
    let place = match &order.container {
        None => Place::Host(Shell::session(&id)),
        Some(options) => Place::Container(container::start(order, options, &source, &inner(state.path()), log).await.map_err(&failed)?),
    };
    let name = buildspec.env.shell.as_deref().unwrap_or(if order.container.is_some() { "sh" } else { "/bin/sh" });
    let shell = Shell::new(place, name, buildspec.version, &source, state, &variables);
    let shell = shell.map_err(|message| (PhaseResult::failed("CLIENT_ERROR", message), None))?;
    tools::install(&shell, &text, order.shard.is_some()).map_err(|error| failed(format!("the build's own programs: {error}")))?;
    let deadline = order.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let mut build = Build { order, log, source, file, id, buildspec, shell, deadline, result: BuildResult::default(), cache: None };
    runtimes::select(&mut build).await.map_err(|failed| (failed, None))?;
    log.agent(format!("Moving to directory {}", build.source.display()));
    if let Some(cache) = build.buildspec.cache.clone() {
        build.cache = cache::open(order, &build.source, &cache, &mut build.shell, log).await;
    }
    log.agent(format!("Phases found in YAML: {}", build.buildspec.phases.len()));
    for phase in &build.buildspec.phases {
        log.agent(format!(" {}: {} commands", phase.name.api_name(), phase.commands.len()));
    }
    Ok(build)
}

/// The buildspec's name and text.
pub(super) fn text_of(order: &Order, source: &Path, log: &Log<'_>) -> Result<(String, String), Unprepared> {
    let name = match &order.buildspec {
        Source::Text { name, text } => return Ok((name.clone(), text.clone())),
        Source::File(name) => name,
    };
    let path = source.join(name);
    log.agent(format!("YAML location is {}", path.display()));
    let absent = |why: String, cure: &str| {
        let problem = Problem::new(yaml::Place { line: 1, column: 1 }, why).cure(cure).codebuild("YAML file does not exist");
        refused(name, "", vec![problem])
    };
    match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes).map(|text| (name.clone(), text)).map_err(|_| {
            let problem = Problem::new(yaml::Place { line: 1, column: 1 }, "the buildspec is no UTF-8 text");
            refused(name, "", vec![problem.cure("save it as UTF-8")])
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let other = path.with_extension("yaml");
            let cure = if path.extension().is_some_and(|own| own == "yml") && other.is_file() {
                "CodeBuild looks for `buildspec.yml`; there is a `.yaml`: rename it, or name it with --buildspec"
            } else {
                "write it at the top of the source, or name another file with --buildspec"
            };
            Err(absent("the buildspec does not exist".to_owned(), cure))
        }
        Err(error) => Err(absent(format!("the buildspec cannot be read: {error}"), "make it readable")),
    }
}

/// On this machine the users of `run-as` have to be there, and to become another takes root.
fn users(order: &Order, buildspec: &Buildspec) -> Result<(), String> {
    if order.container.is_some() {
        return Ok(());
    }
    let named = buildspec.phases.iter().filter_map(|phase| phase.run_as.as_ref()).chain(&buildspec.run_as);
    for name in named {
        match User::find(name) {
            None => return Err(format!("run-as: there is no user {name} on this machine")),
            Some(user) if !user.is_own() && !User::may_change() => {
                return Err(format!("run-as: only root may run commands as {name}: run it as root or as {name}, or with --image"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

impl Build<'_> {
    pub(super) fn phase_ended(&mut self, phase: &'static str, mut result: PhaseResult, started: Instant) {
        result.message = self.log.masked(&result.message);
        self.log.say(Said::PhaseEnded { phase, result: result.clone(), seconds: started.elapsed().as_secs_f64() });
        self.result.phases.push((phase, result));
    }

    /// Runs the phases; are artifacts to be uploaded?
    async fn phases(&mut self) -> bool {
        for name in PhaseName::ALL {
            let started = Instant::now();
            self.log.say(Said::PhaseStarted { phase: name.api_name() });
            let phase = self.buildspec.phase(name).cloned();
            let result = match &phase {
                Some(phase) => self.phase(phase).await,
                None => PhaseResult::default(),
            };
            let status = result.status;
            self.phase_ended(name.api_name(), result, started);
            let on_failure = phase.and_then(|phase| phase.on_failure);
            let goes_on = match (status, on_failure) {
                (Status::Succeeded, _) | (Status::Failed, Some(OnFailure::Continue)) => true,
                (Status::Failed, Some(OnFailure::Abort)) => false,
                (Status::Failed, _) => matches!(name, PhaseName::Build | PhaseName::PostBuild),
                _ => false,
            };
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Runs a phase, and again if it is to be retried.
    async fn phase(&mut self, phase: &Phase) -> PhaseResult {
        let retry = match &phase.on_failure {
            Some(OnFailure::Retry { count, pattern }) => Some((*count, pattern.clone())),
            _ => None,
        };
        let before = self.shell.snapshot().ok();
        let mut left = retry.as_ref().map_or(0, |(count, _)| *count);
        loop {
            let Ran { result, output } = phase::run(self, phase).await;
            let pattern = retry.as_ref().and_then(|(_, pattern)| pattern.as_deref()).unwrap_or("");
            let again =
                result.status == Status::Failed && left > 0 && !self.order.is_stopped() && matches(pattern, &result.message, &output);
            if !again {
                if result.status != Status::Succeeded {
                    self.shell.set("CODEBUILD_BUILD_SUCCEEDING", b"0").ok();
                }
                return result;
            }
            left -= 1;
            self.log.warn(format!("{} failed and is run again, {left} more time(s) at most", phase.name.api_name()));
            // Each attempt starts where the first did: `cd app` would otherwise fail the second time.
            if let Some(before) = &before {
                self.shell.restore(before).ok();
            }
        }
    }

    /// Keeps the exported variables as the phases have left them.
    async fn export(&mut self) {
        let names: Vec<String> = self.buildspec.env.exported_variables.iter().filter(|name| !name.starts_with("AWS_")).cloned().collect();
        if names.is_empty() {
            return;
        }
        let log = self.log;
        let Ok(values) = self.shell.values(&names, |line| log.output(line)).await else {
            log.warn("the exported variables could not be read");
            return;
        };
        for name in names.iter().filter(|name| !values.iter().any(|(known, _)| known == *name)) {
            log.warn(format!("the exported variable {name} is not set"));
        }
        let shown = values.into_iter().map(|(name, value)| (name, log.masked(&value.to_string_lossy())));
        self.result.exported_variables = shown.collect();
    }

    /// `UPLOAD_ARTIFACTS`: reports first, then artifacts.
    async fn upload(&mut self) {
        let started = Instant::now();
        self.log.say(Said::PhaseStarted { phase: "UPLOAD_ARTIFACTS" });
        let groups = self.buildspec.reports.clone();
        self.result.reports = reports::collect(self.order, &self.source, &groups, &mut self.shell, self.log).await.into_iter().collect();
        let mut result = PhaseResult::default();
        if let Some(artifacts) = self.buildspec.artifacts.clone() {
            let (kept, done) = artifacts::upload(self.order, &self.source, &self.id, &artifacts, &mut self.shell, self.log).await;
            self.result.artifacts = kept;
            if let Err(failed) = done {
                result = failed;
            }
        }
        self.phase_ended("UPLOAD_ARTIFACTS", result, started);
    }

    /// What is the same for all commands of a phase.
    pub(super) fn terms<'t>(&self, user: Option<&'t str>) -> Terms<'t> {
        Terms { user, deadline: self.deadline }
    }
}

/// Is the expression found in what the failure says, or in what the command printed?
fn matches(pattern: &str, message: &str, output: &str) -> bool {
    regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(message) || pattern.is_match(output))
}

/// How a phase ends with a failure that is none of a command's own.
pub(super) fn ended(failure: Failure, command: &str) -> PhaseResult {
    match failure {
        Failure::Status(reason) => {
            PhaseResult::failed("COMMAND_EXECUTION_ERROR", format!("Error while executing command: {command}. Reason: {reason}"))
        }
        Failure::Late => PhaseResult {
            status: Status::TimedOut,
            code: "BUILD_TIMED_OUT".to_owned(),
            message: "Build has timed out. ".trim_end().to_owned(),
        },
        Failure::Stopped => {
            PhaseResult { status: Status::Stopped, code: "CLIENT_ERROR".to_owned(), message: "Build was stopped".to_owned() }
        }
        Failure::Unusable(why) => PhaseResult::failed("CLIENT_ERROR", why),
    }
}
