//! `windlass build`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use crate::aws::Access;
use crate::buildspec::{self, BuildResult, CacheStore, CodebuildLog, Container, Order, Packaging, Refused, Said, Source, Status};
use crate::model::{Exit, Failure};
use crate::report;

use super::arguments::Common;
use super::build_tree::Tree;
use super::session;

/// What `build` understands.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line, each by its own name")]
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The buildspec, from the source's directory
    #[arg(long, value_name = "FILE", default_value = "buildspec.yml")]
    buildspec: String,
    /// The source: where commands start
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// The project's name, for the build's id, reports, artifacts and the cache [default: the source's directory]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// A variable of this run, above all others (NAME=VALUE; NAME alone takes it from here)
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// A variable of the project, above the buildspec's
    #[arg(long, value_name = "NAME=VALUE")]
    project_var: Vec<String>,
    /// Say what would run, and run nothing
    #[arg(long)]
    plan: bool,
    /// Run the builds of `batch`, each in a copy of the source
    #[arg(long)]
    batch: bool,
    /// How many builds of a batch run at once [default: the machine's processors]
    #[arg(long, value_name = "N", requires = "batch", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
    /// Run in a container of this image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A directory that the container sees too
    #[arg(long, value_name = "DIR[:DIR]", requires = "image")]
    mount: Vec<String>,
    /// Give the container the rights to run an engine of its own
    #[arg(long, requires = "image")]
    privileged: bool,
    /// Where the cache is kept: a directory, or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "PLACE")]
    cache: Option<String>,
    /// Where artifacts are written
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// How artifacts are written
    #[arg(long, value_enum, default_value_t = Packed::None, requires = "artifacts")]
    packaging: Packed,
    /// Where the tests of the reports are written as `JUnit`
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Where the result is written as JSON
    #[arg(long, value_name = "FILE")]
    result: Option<PathBuf>,
    /// Where exported variables are written, as NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    exported: Option<PathBuf>,
    /// How the log is written to stdout
    #[arg(long, value_enum, default_value_t = LogFormat::Tree)]
    log_format: LogFormat,
    /// How long the build may take, in minutes
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Fail if a runtime of `runtime-versions` is not there, rather than warn
    #[arg(long)]
    require_runtimes: bool,
    /// A `runtimes.yml` of AWS's images, which says how to select runtimes [default: the image's own]
    #[arg(long, value_name = "FILE")]
    runtimes: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Phases and their commands, with times
    Tree,
    /// The lines of CodeBuild's own log
    Codebuild,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Packed {
    /// As files in a folder
    None,
    /// As one archive
    Zip,
}

pub(super) async fn run(common: &Common, verb: &Build) -> Result<ExitCode, Failure> {
    let stop = session::signals(|| ())?.0;
    let mut order = order(common, verb)?;
    if verb.plan {
        let outline = buildspec::outline(&order, verb.batch);
        super::print(&outline.map_err(|refused| refusal(&refused))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    order.stop = Some(stop.clone());
    let printer = Printer::new(verb.log_format, common.color.on(&std::io::stdout()));
    let say = |said| printer.print(said);
    let build = async { if verb.batch { buildspec::run_batch(&order, &say).await } else { buildspec::run(&order, &say).await } };
    let result = tokio::select! {
        result = build => result,
        never = printer.beats() => match never {},
    };
    written(verb, &result)?;
    printer.finish(&result);
    if let Some(exit) = *stop.borrow()
        && result.status == Status::Stopped
    {
        return Err(Failure::new(exit, "the build was stopped").hint("nothing of it runs any more; the same command begins it again"));
    }
    ended(&result)
}

/// What was asked for, checked.
fn order(common: &Common, verb: &Build) -> Result<Order, Failure> {
    let refused = |what: String, hint: &str| Failure::new(Exit::Config, what).hint(hint.to_owned());
    if !verb.source.is_dir() {
        return Err(refused(
            format!("the source `{}` is not a directory", verb.source.display()),
            "name the source's directory by --source",
        ));
    }
    let source = verb.source.canonicalize().unwrap_or_else(|_| verb.source.clone());
    let named = source.file_name().map_or_else(|| "local".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut mask = session::mask();
    let overrides = variables(&verb.var)?;
    let project_variables = variables(&verb.project_var)?;
    let secret = overrides.iter().chain(&project_variables).filter(|(name, _)| crate::model::sensitive(name));
    mask.add_secrets(secret.map(|(_, value)| value.clone()).filter(|value| value.len() >= 6));
    Ok(Order {
        buildspec: Source::File(verb.buildspec.clone()),
        project: verb.project.clone().unwrap_or(named),
        environment: std::env::vars_os().collect::<BTreeMap<OsString, OsString>>(),
        project_variables,
        overrides,
        container: container(verb)?,
        cache: verb.cache.as_deref().map(cache),
        artifacts: verb.artifacts.as_deref().map(absolute),
        packaging: if verb.packaging == Packed::Zip { Packaging::Zip } else { Packaging::None },
        reports: verb.reports.as_deref().map(absolute),
        access: access(common),
        timeout: verb.timeout.map(|minutes| Duration::from_secs(minutes * 60)),
        require_runtimes: verb.require_runtimes,
        runtimes: verb.runtimes.as_deref().map(absolute),
        parallel: verb.parallel.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from),
        mask,
        ..Order::new(source)
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn access(common: &Common) -> Access {
    let mut access = Access {
        profile: session::filled(common.profile.as_ref()),
        region: session::filled(common.region.as_ref()),
        endpoint_url: session::filled(common.endpoint_url.as_ref()),
        ..Access::default()
    };
    // A profile whose region nobody has said has one of its own, which the SDK finds.
    if access.region.is_none() && access.profile.is_none() {
        access.region =
            ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty());
    }
    access
}

fn variables(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let one = |text: &String| {
        let (name, value) = if let Some((name, value)) = text.split_once('=') {
            (name.to_owned(), value.to_owned())
        } else {
            let here = std::env::var(text).map_err(|_| {
                let failure = Failure::new(Exit::Config, format!("the variable `{text}` is not set here"));
                failure.hint("write --var NAME=VALUE, or set it in the environment")
            });
            (text.clone(), here?)
        };
        if name.is_empty() {
            return Err(Failure::new(Exit::Config, format!("`{text}` names no variable")).hint("write --var NAME=VALUE"));
        }
        Ok((name, value))
    };
    given.iter().map(one).collect()
}

fn container(verb: &Build) -> Result<Option<Container>, Failure> {
    let Some(image) = &verb.image else { return Ok(None) };
    let mount = |text: &String| {
        let (from, to) = text.split_once(':').unwrap_or((text, text));
        let from = absolute(Path::new(from));
        if !from.exists() {
            return Err(Failure::new(Exit::Config, format!("`{}` is not there to be mounted", from.display())).hint("correct --mount"));
        }
        let to = if text.contains(':') { PathBuf::from(to) } else { from.clone() };
        Ok((from, to))
    };
    let mounts = verb.mount.iter().map(mount).collect::<Result<_, _>>()?;
    Ok(Some(Container { image: image.clone(), mounts, privileged: verb.privileged }))
}

fn cache(place: &str) -> CacheStore {
    match place.strip_prefix("s3://") {
        Some(rest) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            CacheStore::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() }
        }
        None => CacheStore::Local(absolute(Path::new(place))),
    }
}

/// Writes the files that were asked for.
fn written(verb: &Build, result: &BuildResult) -> Result<(), Failure> {
    let write = |path: &Path, text: String| {
        let failed = |error| {
            Failure::new(Exit::Config, format!("writing `{}` failed", path.display()))
                .because(error)
                .hint("name a file that can be written")
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)
    };
    if let Some(path) = &verb.result {
        let json = serde_json::to_string_pretty(result);
        write(path, json.map_err(|error| Failure::new(Exit::Bug, "writing JSON failed").because(error))? + "\n")?;
    }
    if let Some(path) = &verb.exported {
        let lines = result.exported_variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        write(path, lines.collect())?;
    }
    Ok(())
}

fn refusal(refused: &Refused) -> Failure {
    let count = refused.problems.len();
    let many = if count == 1 { String::new() } else { format!(" for {count} reasons") };
    let failure = Failure::new(Exit::Config, format!("the buildspec `{}` was refused{many}", refused.file));
    let shown = refused.problems.iter().map(|problem| problem.shown(&refused.file, &refused.text).replace('\n', "\n   "));
    let hint = "nothing was run; `windlass lint` looks at a buildspec without running it";
    failure.because(shown.collect::<Vec<_>>().join("\n   ")).hint(hint)
}

/// The exit code, and the words for a build that did not succeed.
fn ended(result: &BuildResult) -> Result<ExitCode, Failure> {
    if result.status == Status::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(refused) = &result.refused {
        return Err(refusal(refused));
    }
    if let Some(builds) = result.builds.as_ref().filter(|builds| !builds.is_empty()) {
        let failed: Vec<&str> = builds.iter().filter(|(_, status)| **status != Status::Succeeded).map(|(name, _)| name.as_str()).collect();
        return Err(Failure::new(Exit::Build, format!("the batch failed: {}", failed.join(", "))).hint("the lines of each build are above"));
    }
    let failed = result.phases.iter().find(|(_, phase)| phase.status != Status::Succeeded);
    let (name, phase) = failed.map(|(name, phase)| (*name, phase.clone())).unwrap_or_default();
    let failure = Failure::new(Exit::Build, format!("the build failed in {name}"));
    let failure = match &result.failed_command {
        Some(command) if command.phase == name => {
            let lines = command.tail.iter().fold(String::new(), |text, line| text + "\n   | " + line);
            let words = if command.tail.is_empty() { "" } else { "; its last lines:" };
            failure.because(format!("{}: `{}`: {}{words}{lines}", command.place, command.command, command.reason))
        }
        _ => failure.because(phase.message),
    };
    Err(failure.hint(match name {
        "DOWNLOAD_SOURCE" => "no command was run",
        "UPLOAD_ARTIFACTS" => "patterns count from the source's directory, wherever the commands have gone: correct `artifacts`",
        _ => "run the command by itself in the source's directory to look closer; a command finds the directory and variables of those before it",
    }))
}

/// Prints what a build says, as it is said. A build of a batch is printed whole at its end in `CodeBuild`'s format, which has no room for
/// names.
struct Printer {
    format: LogFormat,
    codebuild: RefCell<BTreeMap<String, (CodebuildLog, String)>>,
    tree: RefCell<Tree>,
}

impl Printer {
    fn new(format: LogFormat, color: bool) -> Self {
        Self { format, codebuild: RefCell::default(), tree: RefCell::new(Tree::new(color)) }
    }

    fn print(&self, said: Said) {
        let text = match self.format {
            LogFormat::Codebuild => self.codebuild(said),
            LogFormat::Tree => self.tree.borrow_mut().text(&said),
        };
        if !text.is_empty() {
            // A reader that has had enough does not stop a build.
            let _ = super::print(&text);
        }
    }

    fn codebuild(&self, said: Said) -> String {
        let mut logs = self.codebuild.borrow_mut();
        let (build, said) = match said {
            Said::Build { identifier, said } => (identifier, *said),
            Said::BuildEnded { identifier, .. } => return logs.remove(&identifier).map_or(String::new(), |(_, text)| text),
            said => (String::new(), said),
        };
        if let Said::Warning(words) = &said {
            use std::io::Write as _;
            // The log on stdout is CodeBuild's, word for word.
            let _ = writeln!(std::io::stderr(), "warning: {words}");
        }
        let (log, held) = logs.entry(build.clone()).or_default();
        held.push_str(&log.text(&said, OffsetDateTime::now_utc()));
        if build.is_empty() { std::mem::take(held) } else { String::new() }
    }

    /// Signs of life, for as long as the build runs; `CodeBuild`'s own log has none.
    async fn beats(&self) -> Infallible {
        let mut ticks = tokio::time::interval(report::HEARTBEAT / 4);
        loop {
            ticks.tick().await;
            if self.format == LogFormat::Tree {
                let text = self.tree.borrow_mut().beat(Instant::now());
                if !text.is_empty() {
                    let _ = super::print(&text);
                }
            }
        }
    }

    fn finish(&self, result: &BuildResult) {
        if self.format == LogFormat::Tree {
            let _ = super::print(&self.tree.borrow().summary(result));
        }
    }
}
