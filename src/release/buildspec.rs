//! A site that a buildspec builds: the same phases as on `CodeBuild`, on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::buildspec::{self, BuildResult, Order, Said, Source, Status};
use crate::config::Site;
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, Mask, UnitName, sensitive};

use super::{Request, preflight};

/// The build of a site by `file`, which lies in the site's directory, as do the paths in it. What stands under `env` wins over the
/// buildspec's own variables, as a project's do.
pub(super) fn order(request: &Request, name: &UnitName, site: &Site, file: &str, environment: BTreeMap<OsString, OsString>) -> Order {
    let source = request.project.root.join(&site.path);
    let source = source.canonicalize().unwrap_or(source);
    let variables: Vec<(String, String)> = site.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let seen = request.environment.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())));
    let secrets = seen.chain(variables.iter().cloned()).filter(|(name, _)| sensitive(name)).map(|(_, value)| value);
    let mask = Mask::new(secrets);
    Order {
        buildspec: Source::File(file.to_owned()),
        project: name.to_string(),
        environment,
        project_variables: variables,
        access: preflight::access(request),
        mask,
        ..Order::new(source)
    }
}

/// Runs it.
///
/// # Errors
/// [`Exit::Config`] if the buildspec is refused, before anything is run; [`Exit::Build`] if the build fails.
pub(super) async fn run(name: &UnitName, order: &Order, step: &Step, events: &Events) -> Result<((), Outcome, String), Failure> {
    let say = |said| match said {
        Said::Output(line) | Said::Agent(line) => events.output(step, &line),
        Said::Running { command } => {
            let mut prompt = "$ ";
            for line in command.lines() {
                events.output(step, &format!("{prompt}{line}"));
                prompt = "  ";
            }
        }
        Said::Warning(text) => events.note(format!("{name}: {text}")),
        _ => {}
    };
    let result = buildspec::run(order, &say).await;
    match result.status {
        Status::Succeeded => Ok(((), Outcome::Done, "by its buildspec".to_owned())),
        _ => Err(failed(name, &result)),
    }
}

fn failed(name: &UnitName, result: &BuildResult) -> Failure {
    if let Some(refused) = &result.refused {
        let shown: Vec<String> = refused.problems.iter().map(|problem| problem.shown(&refused.file, &refused.text)).collect();
        let failure = Failure::new(Exit::Config, format!("site `{name}`: its buildspec `{}` was refused", refused.file));
        return failure.because(shown.join("\n").replace('\n', "\n   ")).hint("nothing was run; correct the buildspec");
    }
    let phase = result.phases.iter().find(|(_, phase)| phase.status != Status::Succeeded);
    let (phase, why) = phase.map(|(name, phase)| (*name, phase.message.clone())).unwrap_or_default();
    let why = match &result.failed_command {
        Some(command) => {
            let lines = command.tail.iter().fold(String::new(), |text, line| text + "\n   | " + line);
            format!("{}: `{}`: {}; its last lines:{lines}", command.place, command.command, command.reason)
        }
        None => why,
    };
    let failure = Failure::new(Exit::Build, format!("site `{name}`: the build failed in {phase}")).because(why);
    failure.hint("nothing live has changed; `windlass build` runs the buildspec by itself")
}
