//! Builds the sites: by their own commands, which see no cloud credential.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::config::{Precompress, Site, SiteSource, SourceMaps};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, Sha256, UnitName};
use crate::process::{self, Status};
use crate::site;
use crate::site::compress::{Encoding, Plain};
use crate::site::frozen::{BuildRecord, Frozen};
use crate::site::plan::Manifest;
use crate::site::scan::{self, Output, Wanted};

use super::{Request, buildspec, from_image};

/// A site's files, with what is known of how they came to be.
pub(super) struct Built {
    pub(super) output: Output,
    /// The digest of all that the build was made of, if windlass knows.
    pub(super) inputs: Option<Sha256>,
    /// What it has frozen into the pages.
    pub(super) frozen: Frozen,
}

/// Builds one site and reads its output, with the digest of all that it was made of.
///
/// Where that is the digest of what is live, and the output on this machine is either absent or what is live, nothing is built.
pub(super) async fn site(
    request: &Request,
    name: &UnitName,
    site: &Site,
    live: Option<&Manifest>,
    events: &Events,
) -> Result<Built, Failure> {
    let directory = request.project.root.join(&site.path);
    // A build that was made elsewhere needs no sources here.
    if site.given.is_none() && !directory.is_dir() {
        let failure = Failure::new(Exit::Config, format!("site `{name}`: its directory is not there"));
        let failure = failure.because(format!("`{}` is not a directory", directory.display()));
        return Err(failure.hint(format!("correct `sites.{name}.path`")));
    }
    let environment = environment(request, site);
    // By which a build is told from another; a buildspec itself is among the sources.
    let (script, buildspec) = match site.source() {
        Some(SiteSource::Build(script)) => (script, None),
        Some(SiteSource::Buildspec(file)) => (file, Some(file)),
        _ => return prebuilt(request, name, site, &environment, events).await,
    };
    let step = Step::before(name, "build");
    let before = inputs(request, name, site, script, &environment).await?;
    if let Some((output, why)) = built_already(request, name, site, live, before, events).await {
        let unchanged = async { Ok(((), Outcome::Unchanged, why.to_owned())) };
        events.step(step, unchanged).await?;
        let frozen = frozen(request, name, site, &environment)?;
        return Ok(Built { output, inputs: Some(before), frozen });
    }
    match buildspec {
        None => events.step(step.clone(), run(request, name, site, script, environment.clone(), &step, events)).await?,
        Some(file) => {
            let order = buildspec::order(request, name, site, file, environment.clone());
            events.step(step.clone(), buildspec::run(name, &order, &step, events)).await?;
        }
    }
    // A build that writes among its own sources (a generated file, a lockfile) is known by what it left, which the next run finds.
    let after = inputs(request, name, site, script, &environment).await?;
    let frozen = frozen(request, name, site, &environment)?;
    let mut output = scan(request, name, site, events).await?;
    let environment = environment_name(request);
    let record = BuildRecord { format: 1, site: name.clone(), environment, inputs: after, output: output.digest(), frozen };
    output.left_out.extend(record.write(&request.project.root.join(&output.directory))?);
    Ok(Built { output, inputs: Some(after), frozen: record.frozen })
}

/// A build that was made elsewhere, or before. Where windlass made it, it is refused if it was for another environment.
async fn prebuilt(request: &Request, name: &UnitName, site: &Site, environment: &Environment, events: &Events) -> Result<Built, Failure> {
    let output = scan(request, name, site, events).await.map_err(|failure| match site.given {
        Some(_) => {
            failure.hint("`--prebuilt` names the directory of a site's finished build, from the working directory; is it another one?")
        }
        None => failure,
    })?;
    let record = BuildRecord::read(name, &request.project.root.join(&output.directory))?;
    if let Some(record) = &record {
        record.belongs_to(name, &environment_name(request), &frozen(request, name, site, environment)?)?;
    }
    // Of an output that was changed since it was built nobody knows what it was made of.
    let inputs = record.as_ref().filter(|record| record.output == output.digest()).map(|record| record.inputs);
    Ok(Built { output, inputs, frozen: record.map(|record| record.frozen).unwrap_or_default() })
}

fn frozen(request: &Request, name: &UnitName, site: &Site, environment: &Environment) -> Result<Frozen, Failure> {
    let script = site.build.as_deref().unwrap_or_default();
    site::frozen::of_build(name, &request.project.root.join(&site.path), script, environment, site.env.keys())
}

/// What a build of the site would freeze in this environment.
pub(super) fn frozen_here(request: &Request, name: &UnitName, site: &Site) -> Result<Frozen, Failure> {
    frozen(request, name, site, &environment(request, site))
}

fn environment_name(request: &Request) -> String {
    request.project.config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default()
}

/// Compresses of an output what is to be stored so; what is live in that form already is not compressed again.
pub(super) async fn compressed(
    request: &Request,
    name: &UnitName,
    site: &Site,
    live: Option<&Manifest>,
    mut output: Output,
) -> Result<Output, Failure> {
    let encoding = match site.precompress {
        None => return Ok(output),
        Some(Precompress::Br) => Encoding::Br,
        Some(Precompress::Gzip) => Encoding::Gzip,
    };
    let failed = |error: std::io::Error| {
        let failure = Failure::new(Exit::Build, format!("site `{name}`: making a directory for compressed files failed")).because(error);
        failure.hint("nothing was changed; windlass needs to write beside windlass.yml")
    };
    from_image::own(&request.project.root).map_err(failed)?;
    let live = live.filter(|live| !request.look.audits(live) && !request.look.rebuild).cloned();
    let (owner, site, root) = (name.clone(), site.clone(), request.project.root.clone());
    let work = move || {
        let at = format!("{}/compressed/{owner}", from_image::OWN);
        let known = |path: &str, plain: &Plain| {
            let file = live.as_ref()?.files.get(&site::plan::key(&site, path).ok()?)?;
            let same = file.plain.as_ref() == Some(plain) && file.headers.content_encoding.as_deref() == Some(encoding.name());
            Some((file.size, file.sha256?)).filter(|_| same)
        };
        site::compress::compress(&owner, &root, &mut output, encoding, &at, known)?;
        Ok(output)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Exit::Bug, format!("site `{name}`: compressing its files failed")).because(error))?
}

/// How long the output is read without a word.
const SOON: Duration = Duration::from_secs(1);

async fn scan(request: &Request, name: &UnitName, site: &Site, events: &Events) -> Result<Output, Failure> {
    let (owner, root, output) = (name.clone(), request.project.root.clone(), site::plan::output(site));
    let wanted = Wanted { source_maps: site.source_maps == SourceMaps::Upload, index: site.from_image.is_none() };
    let public = request.project.root.join(&site.path).join("public");
    let public = Some(public).filter(|public| site.given.is_none() && *public != request.project.root.join(&output));
    let step = Step::before(name, "read");
    let (listener, reading) = (events.clone(), step.clone());
    let start = Instant::now();
    let on_file = move |done, total| {
        if start.elapsed() > SOON {
            listener.progress(&reading, done, total, "files");
        }
    };
    let mut scanning = tokio::task::spawn_blocking(move || {
        let output = scan::scan(&owner, &root, &output, wanted, on_file)?;
        Ok(match public {
            Some(public) => output.without_copied(&public),
            None => output,
        })
    });
    let read = |scanned: Result<Result<Output, Failure>, tokio::task::JoinError>| {
        scanned.map_err(|error| Failure::new(Exit::Bug, format!("site `{name}`: reading its output failed")).because(error))?
    };
    // A step for what takes a moment would only be one line more.
    match tokio::time::timeout(SOON, &mut scanning).await {
        Ok(scanned) => read(scanned),
        Err(_late) => {
            let rest = async {
                let output = read(scanning.await)?;
                let count = output.files.len();
                Ok((output, Outcome::Done, format!("{count} files")))
            };
            events.step(step, rest).await
        }
    }
}

/// The output, if it was made of the same: it is what is live, or lies where the build writes as windlass has built it. Why, too.
async fn built_already(
    request: &Request,
    name: &UnitName,
    site: &Site,
    live: Option<&Manifest>,
    inputs: Sha256,
    events: &Events,
) -> Option<(Output, &'static str)> {
    if request.look.rebuild {
        return None;
    }
    let live = live.filter(|live| live.inputs == Some(inputs) && !request.look.audits(live));
    let live = live.and_then(|live| site::plan::output_of(site, live, site::plan::output(site)));
    let is_live = "its sources are those of what is live";
    let directory = request.project.root.join(site::plan::output(site));
    if !directory.is_dir() {
        return live.map(|output| (output, is_live));
    }
    let on_disk = scan(request, name, site, events).await.ok()?;
    if live.is_some_and(|live| live.files == on_disk.files) {
        return Some((on_disk, is_live));
    }
    let record = BuildRecord::read(name, &directory).ok()??;
    (record.inputs == inputs && record.output == on_disk.digest()).then_some((on_disk, "it has been built of these sources"))
}

async fn inputs(request: &Request, name: &UnitName, site: &Site, script: &str, environment: &Environment) -> Result<Sha256, Failure> {
    let (name, root, script) = (name.clone(), request.project.root.clone(), script.to_owned());
    let directory = root.join(&site.path);
    let mut variables = site::inputs::deciding(environment);
    variables.insert("source_maps".to_owned(), format!("{:?}", site.source_maps));
    let output = site.output.clone();
    let work = move || site::inputs::digest(&name, &root, &directory, &output, &script, &variables);
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(Exit::Bug, "reading a site's sources failed").because(error))?
}

type Environment = BTreeMap<OsString, OsString>;

/// What a build sees: everything but cloud credentials, and what the configuration adds.
fn environment(request: &Request, site: &Site) -> Environment {
    let mut environment = process::without_cloud_credentials(request.environment.iter().cloned());
    environment.extend(site.env.iter().map(|(key, value)| (key.into(), value.into())));
    environment
}

/// What the shell is given. Whoever lists processes sees that: a command that the configuration has put a secret into goes by a variable.
fn unseen(script: &str, mut environment: Environment, events: &Events) -> (String, Environment) {
    if events.masked(script) == script {
        return (script.to_owned(), environment);
    }
    environment.insert("WINDLASS_BUILD".into(), script.into());
    ("eval \"$WINDLASS_BUILD\"".to_owned(), environment)
}

async fn run(
    request: &Request,
    name: &UnitName,
    site: &Site,
    script: &str,
    environment: Environment,
    step: &Step,
    events: &Events,
) -> Result<((), Outcome, String), Failure> {
    let directory = request.project.root.join(&site.path);
    let (run, environment) = unseen(script, environment, events);
    let command = process::Command { script: run, directory, environment, deadline: None };
    let mut tail = process::Tail::default();
    let ended = process::run(&command, |_, line| {
        events.output(step, line);
        tail.push(events.masked(line));
    });
    let failed = || Failure::new(Exit::Build, format!("site `{name}`: the build failed"));
    let ended = ended.await.map_err(|error| failed().because(error).hint("nothing live has changed"))?;
    match ended.status {
        Status::Exited(0) => Ok(((), Outcome::Done, format!("`{script}`"))),
        status => {
            let how = match status {
                Status::Exited(code) => format!("exited with {code}"),
                Status::Signaled(signal) => format!("was killed by signal {signal}"),
            };
            let lines = tail.lines().iter().fold(String::new(), |text, line| text + "\n   | " + line);
            let failure = failed().because(format!("`{script}` {how}; its last lines:{lines}"));
            Err(failure.hint("nothing live has changed; a build sees no AWS_* variable but those under `env`"))
        }
    }
}
