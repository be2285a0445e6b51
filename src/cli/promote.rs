//! `windlass promote`.

use std::process::ExitCode;

use crate::config;
use crate::event::Events;
use crate::model::{Exit, Failure};
use crate::release::{self, Request};
use crate::report;

use super::arguments::{Common, Format, Promote};
use super::{outputs, session};

pub(super) async fn run(common: &Common, verb: &Promote) -> Result<ExitCode, Failure> {
    let units = &verb.units.units;
    if verb.plan {
        let plan = session::with_reporter(common, false, async |events, stop| {
            let request = session::request(common, units, events).await?;
            let sources = sources(common, verb, &request, events)?;
            release::plan_promotion(&request, &sources, &verb.release, events, stop).await
        });
        let plan = plan.await?;
        match common.format {
            Format::Human => super::print(&report::plan_text(&plan))?,
            Format::Json => super::print_json(&plan)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let released = outputs::reported(common, &verb.outputs, "promotion", async |events, stop, watched| {
        let request = watched.request(units, verb.locking.hold(), events).await?;
        let sources = sources(common, verb, &request, events)?;
        release::promote(&request, &sources, &verb.release, events, stop).await
    });
    let released = released.await?;
    let done =
        released.plan.promotes.as_ref().map_or("promoted".to_owned(), |of| format!("promoted {} of {} as", of.release, of.environment));
    super::release::say(common, &released, &done, units)
}

/// The environments that the release may come from: the one that was named, else all but the target.
fn sources(common: &Common, verb: &Promote, request: &Request, events: &Events) -> Result<Vec<Request>, Failure> {
    let Some(target) = request.project.config.environment.as_ref().map(|environment| environment.name.clone()) else {
        let failure = Failure::new(Exit::Config, "there is nothing to promote between: the configuration has no `environments`");
        return Err(failure.hint("add `environments` to windlass.yml, one for each place that is released to"));
    };
    let others = match &verb.from {
        Some(from) => vec![from.clone()],
        None => config::environments(&session::given(common, None))?.into_iter().filter(|name| *name != target).collect(),
    };
    if others.is_empty() || others.contains(&target) {
        let what = format!("a release is promoted from one environment to another, and both are `{target}`");
        return Err(Failure::new(Exit::Config, what).hint("--env names where it goes, and --from where it comes from"));
    }
    let mut sources = Vec::new();
    for name in others {
        match session::request_in(common, &name, verb.from_profile.as_deref(), request, events) {
            Ok(source) => sources.push(source),
            Err(failure) if verb.from.is_some() => return Err(failure),
            // It may need variables that only its own pipeline has.
            Err(failure) => events.note(format!("{name}: it is not looked at, as its configuration cannot be read here: {failure}")),
        }
    }
    if sources.is_empty() {
        let failure = Failure::new(Exit::Config, "no environment is left that the release could come from");
        return Err(failure.hint("name it with --from, and set the variables that its configuration asks for"));
    }
    Ok(sources)
}
