//! What the verbs that talk to AWS have in common: the request, the reporter, the signals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::aws::Access;
use crate::config::{self, Given};
use crate::event::{self, Events};
use crate::local;
use crate::model::{Exit, Failure, Mask, UnitName, sensitive};
use crate::release::{Hold, Request, Stop, Witness};
use crate::report::{self, Reporter};
use crate::site::observe::Look;

use super::arguments::{Common, Format, OnAbort, Progress};

/// Reads the configuration and says how AWS is reached; with `--local`, starts or finds the local cloud.
pub(super) async fn request(common: &Common, units: &[UnitName], events: &Events) -> Result<Request, Failure> {
    let given = given(common, None);
    let origin = super::ci::origin(&given.variables);
    let mut project = config::load(&given)?;
    super::prebuilt::take(&mut project, &common.prebuilt, units)?;
    let mut access = Access {
        profile: filled(common.profile.as_ref()),
        region: filled(common.region.as_ref()),
        endpoint_url: filled(common.endpoint_url.as_ref()),
        ..Access::default()
    };
    if common.local {
        let cloud = super::local::up(events).await?;
        let host = cloud.endpoint.trim_start_matches("http://").to_owned();
        project.config.registry.get_or_insert(host);
        access.endpoint_url = Some(cloud.endpoint);
        access.region = access.region.or_else(|| Some("us-east-1".to_owned()));
        access.keys = Some(local_settings()?.keys);
    }
    Ok(Request {
        project,
        access,
        units: units.to_vec(),
        look: Look { audit: common.audit, rebuild: common.rebuild, allow_prune: common.allow_prune },
        environment: std::env::vars_os().collect(),
        origin,
        hold: Hold::default(),
        stop_on_abort: common.on_abort == OnAbort::Stop,
        witness: Witness::default(),
    })
}

/// What a flag says; a pipeline's `--profile "$PROFILE"` may say nothing.
pub(super) fn filled(flag: Option<&String>) -> Option<String> {
    flag.filter(|text| !text.is_empty()).cloned()
}

/// The configuration as the command line gives it, of another environment if one is named.
pub(super) fn given(common: &Common, environment: Option<&str>) -> Given {
    let environment = environment.map(str::to_owned).or_else(|| filled(common.env.as_ref()));
    Given { file: common.file(), environment, variables: variables(), registry: None }
}

/// The same as `request`, of another environment, which is only read.
pub(super) fn request_in(
    common: &Common,
    environment: &str,
    profile: Option<&str>,
    request: &Request,
    events: &Events,
) -> Result<Request, Failure> {
    let mut project = config::load(&given(common, Some(environment)))?;
    if common.local {
        project.config.registry = project.config.registry.or_else(|| request.project.config.registry.clone());
    }
    events.note(format!("{environment}: the release is looked for in its state"));
    let region = common.region.clone().or_else(|| request.access.region.clone().filter(|_| common.local));
    let profile = profile.map(str::to_owned).or_else(|| request.access.profile.clone());
    let access = Access { profile, region, ..request.access.clone() };
    Ok(Request { project, access, units: Vec::new(), ..request.clone() })
}

/// The variables of this process that are text.
pub(super) fn variables() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// How progress is shown here.
pub(super) fn progress(common: &Common) -> report::Progress {
    match common.progress {
        Progress::Auto if super::lively(&std::io::stderr()) => report::Progress::Live,
        // Bars need a cursor: elsewhere nothing at all would be seen of them.
        Progress::Live if super::has_cursor(&std::io::stderr()) => report::Progress::Live,
        Progress::Auto | Progress::Line | Progress::Live => report::Progress::Line,
        Progress::None => report::Progress::None,
    }
}

/// Runs `work` with its events reported and its signals heard.
pub(super) async fn with_reporter<T>(
    common: &Common,
    json: bool,
    work: impl AsyncFnOnce(&Events, &Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let progress = progress(common);
    let system = super::ci::system(&variables());
    let reporter = Reporter { progress, json: json && common.format == Format::Json, color: common.color.stderr(), system };
    let (events, stream) = event::channel(mask());
    let listener = tokio::spawn(report::listen(stream, reporter));
    // Whoever presses Ctrl-C is told at once that it was heard: what is in hand may take minutes.
    let teller = Arc::new(Mutex::new(Some(events.clone())));
    let told = Arc::clone(&teller);
    let stop = signals(move || {
        if let Some(events) = told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            events.note("stopping: the change in hand is finished and recorded first; a second signal leaves at once");
        }
    })?;
    let result = work(&events, &stop).await;
    teller.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(events);
    let outcome = listener.await;
    let value = result?;
    // The work is done; that its report was lost is said last.
    match outcome {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Bug, "done, but reporting it failed").because(error))
        }
        _ => Ok(value),
    }
}

/// The values of the variables whose names say that they are secret.
pub(super) fn mask() -> Mask {
    let named = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(sensitive));
    Mask::new(named.filter_map(|(_, value)| value.into_string().ok()))
}

/// The first SIGINT or SIGTERM, which `heard` is told of, asks the run to stop at the next safe point; the second leaves at once.
pub(super) fn signals(heard: impl Fn() + Send + 'static) -> Result<Stop, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Bug, "listening for signals failed").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (tell, stop) = watch::channel(None);
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let exit = tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
            };
            if !first {
                std::process::exit(i32::from(exit.code()));
            }
            first = false;
            heard();
            // Whoever listens may have come to its end already.
            let _ = tell.send(Some(exit));
        }
    });
    Ok(Stop(stop))
}

/// The settings of the local cloud.
pub(super) fn local_settings() -> Result<local::Settings, Failure> {
    local::Settings::from_environment(std::env::vars_os()).map_err(super::local::failed)
}
