//! What is there of a release's sites and images before its plan is drawn: sites are built for it, images looked for.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{try_join, try_join_all};

use crate::aws::Aws;
use crate::config::{Image, SiteSource};
use crate::docker::{self, Engine};
use crate::event::{Events, Outcome, Step};
use crate::image;
use crate::journal::Journal;
use crate::model::{Exit, Failure, ImageUri, ReleaseId, Stage, UnitName};
use crate::plan::Plan;
use crate::site;

use super::{Request, Stop, build, from_image, preflight, scope};

pub(super) type BuiltSites = BTreeMap<UnitName, (site::scan::Output, site::plan::Observed)>;

/// Builds the sites side by side, and looks at what is live of each.
pub(super) async fn sites(
    request: &Request,
    aws: &Aws,
    journal: Option<&Journal>,
    names: &BTreeSet<UnitName>,
    events: &Events,
    stop: &Stop,
) -> Result<BuiltSites, Failure> {
    let config = &request.project.config;
    let each = from_image::others(config, names).map(|(name, site)| async move {
        let published = site::observe::published(journal, name, site);
        // Whether there is anything to build depends on what is live; files that are there already are read in the meantime.
        let (manifest, built) = if matches!(site.source(), Some(SiteSource::Build(_) | SiteSource::Buildspec(_))) {
            let manifest = published.await?;
            let built = build::site(request, name, site, manifest.as_ref(), events).await?;
            (manifest, built)
        } else {
            try_join(published, build::site(request, name, site, None, events)).await?
        };
        let build::Built { output, inputs, frozen } = built;
        let output = build::compressed(request, name, site, manifest.as_ref(), output).await?;
        let observed = site::observe::live(aws, manifest, name, site, &output, request.look).await?;
        Ok((name.clone(), (output, site::plan::Observed { inputs, frozen, ..observed })))
    });
    let all = stop.or("the build of the sites", try_join_all(each)).await?;
    Ok(all.into_iter().collect())
}

/// What goes into each image, and what the registry has of it. An engine is asked what floating base images are today.
pub(super) async fn images(
    request: &Request,
    aws: &Aws,
    scope: &scope::Scope,
    found: &preflight::Resources,
    pushed: &BTreeMap<UnitName, ImageUri>,
    engine: &mut Option<Engine>,
    events: &Events,
) -> Result<BTreeMap<UnitName, image::plan::Observed>, Failure> {
    let config = &request.project.config;
    let mut observed = BTreeMap::new();
    for (name, service, build) in scope.built(config).filter(|(name, ..)| !pushed.contains_key(*name)) {
        let Some(repository) = found.repositories.get(name) else { continue };
        let found = image::plan::Found { uri: image::plan::uri(config.registry.as_deref(), build, repository), ..repository.clone() };
        let source = image::observe::source(&request.project.root, name, service, build)?;
        if source.floats() && engine.is_none() {
            *engine = docker::connect().await.ok();
            if engine.is_none() {
                events.note(format!("{name}: no Docker engine says what its base images are today: they count as when it was built last"));
            }
        }
        let built = image::observe::image(aws, engine.as_ref(), name, source, build, found).await?;
        observed.insert(name.clone(), image::plan::Observed::Built(Box::new(built)));
    }
    for name in scope.images.iter().filter(|name| !pushed.contains_key(*name)) {
        if let (Image::Tag(tag), Some(image)) = (&config.services[name].image, found.prebuilt.get(name)) {
            observed.insert(name.clone(), image::plan::Observed::Tagged { tag: tag.clone(), digest: image.digest });
        }
    }
    Ok(observed)
}

/// A stage that needs an image cannot make one: that is what the stage `images` is for.
pub(super) fn pushed_already(stages: &[Stage], images: &BTreeMap<UnitName, image::plan::Observed>) -> Result<(), Failure> {
    if stages.contains(&Stage::Images) {
        return Ok(());
    }
    let absent: Vec<&str> = images.iter().filter(|(_, image)| image.present().is_none()).map(|(name, _)| name.as_str()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Preflight, "preflight refused the stage; nothing was changed");
    let failure = failure.because(format!("the registry has no image of this content for: {}", absent.join(", ")));
    Err(failure.hint("run `windlass stage images` first"))
}

/// A release without a plan of its own has found nothing to upload. Whatever is to be published now is another release's.
pub(super) fn uploaded(id: &ReleaseId, plan: &Plan) -> Result<(), Failure> {
    let Some((name, _)) = plan.sites.iter().find(|(_, site)| !site.is_empty()) else { return Ok(()) };
    let failure = Failure::new(Exit::Preflight, "preflight refused the stage; nothing was changed");
    let failure = failure.because(format!("the release `{id}` has uploaded nothing of the site `{name}`, which has changed"));
    Err(failure.hint(format!("run `windlass stage assets --release {id}` first")))
}

pub(super) async fn engine(why: &str, events: &Events) -> Result<Engine, Failure> {
    events
        .step(Step::before("docker", "connect"), async {
            let engine = docker::connect().await.map_err(|error| {
                let hint = error.hint();
                let failure = Failure::new(Exit::Preflight, format!("{why}, and no Docker engine answers")).because(error);
                failure.hint(hint.unwrap_or_else(|| "start one, or set DOCKER_HOST; nothing was changed".to_owned()))
            })?;
            let detail = format!("engine {} at {}", engine.version(), engine.endpoint());
            Ok((engine, Outcome::Done, detail))
        })
        .await
}
