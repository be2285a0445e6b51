//! Builds the sites: by their own commands, which see no cloud credential.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;

use crate::config::{Site, SiteSource, SourceMaps};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, Sha256, UnitName};
use crate::process::{self, Status};
use crate::site;
use crate::site::plan::Manifest;
use crate::site::scan::{self, Output, Wanted};

use super::Request;

/// So many of the last lines of a failed build are repeated with its failure.
const TAIL: usize = 20;

/// Builds one site and reads its output, with the digest of all that it was made of.
///
/// Where that is the digest of what is live, and the output on this machine is either absent or what is live, nothing is built.
pub(super) async fn site(
    request: &Request,
    name: &UnitName,
    site: &Site,
    live: Option<&Manifest>,
    events: &Events,
) -> Result<(Output, Option<Sha256>), Failure> {
    let directory = request.project.root.join(&site.path);
    if !directory.is_dir() {
        let failure = Failure::new(Exit::Config, format!("site `{name}`: its directory is not there"));
        let failure = failure.because(format!("`{}` is not a directory", directory.display()));
        return Err(failure.hint(format!("correct `sites.{name}.path`")));
    }
    let Some(SiteSource::Build(script)) = site.source() else { return Ok((scan(request, name, site).await?, None)) };
    let step = Step::before(name, "build");
    let environment = environment(request, site);
    let before = inputs(request, name, site, script, &environment).await?;
    if let Some(output) = built_already(request, name, site, live, before).await {
        let unchanged = async { Ok(((), Outcome::Unchanged, "its sources are those of what is live".to_owned())) };
        events.step(step, unchanged).await?;
        return Ok((output, Some(before)));
    }
    events.step(step.clone(), run(request, name, site, script, environment.clone(), &step, events)).await?;
    // A build that writes among its own sources (a generated file, a lockfile) is known by what it left, which the next run finds.
    let after = inputs(request, name, site, script, &environment).await?;
    Ok((scan(request, name, site).await?, Some(after)))
}

async fn scan(request: &Request, name: &UnitName, site: &Site) -> Result<Output, Failure> {
    let (owner, root, output) = (name.clone(), request.project.root.clone(), site::plan::output(site));
    let wanted = Wanted { source_maps: site.source_maps == SourceMaps::Upload, index: true };
    let scanned = tokio::task::spawn_blocking(move || scan::scan(&owner, &root, &output, wanted)).await;
    scanned.map_err(|error| Failure::new(Exit::Bug, format!("site `{name}`: reading its output failed")).because(error))?
}

/// The output of what is live, if that was made of the same and nothing else lies where the build writes.
async fn built_already(request: &Request, name: &UnitName, site: &Site, live: Option<&Manifest>, inputs: Sha256) -> Option<Output> {
    let live = live.filter(|live| live.inputs == Some(inputs) && !request.look.audit && !request.look.rebuild)?;
    let output = site::plan::output_of(site, live, site::plan::output(site))?;
    if !request.project.root.join(&site.path).join(&site.output).is_dir() {
        return Some(output);
    }
    scan(request, name, site).await.ok().filter(|on_disk| on_disk.files == output.files)
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
    let command = process::Command { script: script.to_owned(), directory, environment, deadline: None };
    let mut tail = VecDeque::new();
    let ended = process::run(&command, |_, line| {
        events.output(step, line);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(events.masked(line));
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
            let lines = tail.iter().fold(String::new(), |text, line| text + "\n   | " + line);
            let failure = failed().because(format!("`{script}` {how}; its last lines:{lines}"));
            Err(failure.hint("nothing live has changed; a build sees no AWS_* variable but those under `env`"))
        }
    }
}
