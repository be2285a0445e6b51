//! Builds the sites: by their own commands, which see no cloud credential.

use std::collections::VecDeque;

use crate::config::{Site, SiteSource, SourceMaps};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, UnitName};
use crate::process::{self, Status};
use crate::site::scan::{self, Output};

use super::Request;

/// So many of the last lines of a failed build are repeated with its failure.
const TAIL: usize = 20;

/// Builds one site and reads its output.
pub(super) async fn site(request: &Request, name: &UnitName, site: &Site, events: &Events) -> Result<Output, Failure> {
    let directory = request.project.root.join(&site.path);
    if !directory.is_dir() {
        let failure = Failure::new(Exit::Config, format!("site `{name}`: its directory is not there"));
        let failure = failure.because(format!("`{}` is not a directory", directory.display()));
        return Err(failure.hint(format!("correct `sites.{name}.path`")));
    }
    if let Some(SiteSource::Build(script)) = site.source() {
        let step = Step::before(name, "build");
        events.step(step.clone(), run(request, name, site, script, &step, events)).await?;
    }
    let output = directory.join(&site.output);
    let (owner, maps) = (name.clone(), site.source_maps == SourceMaps::Upload);
    let scanned = tokio::task::spawn_blocking(move || scan::scan(&owner, &output, maps)).await;
    scanned.map_err(|error| Failure::new(Exit::Bug, format!("site `{name}`: reading its output failed")).because(error))?
}

async fn run(
    request: &Request,
    name: &UnitName,
    site: &Site,
    script: &str,
    step: &Step,
    events: &Events,
) -> Result<((), Outcome, String), Failure> {
    let mut environment = process::without_cloud_credentials(request.environment.iter().cloned());
    environment.extend(site.env.iter().map(|(key, value)| (key.into(), value.into())));
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
