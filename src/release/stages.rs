//! The five stages. Each brings its units side by side to their end, and says in the state what is live after it.

use std::collections::BTreeMap;

use futures_util::future::{join_all, try_join, try_join_all};

use crate::event::Events;
use crate::journal::{Journal, LiveSite, Published, Record};
use crate::model::{Exit, Failure, ImageRef, ImageUri, Made, Stage, UnitName};
use crate::plan::Plan;
use crate::site::plan::{Known, Manifest, SitePlan};
use crate::{cdn, image, site};

use super::world::Etags;
use super::{Stop, World, world};

/// Runs one stage of the plan.
pub(super) async fn run(
    stage: Stage,
    world: &mut World,
    plan: &Plan,
    record: &mut Record,
    events: &Events,
    stop: &Stop,
) -> Result<(), Failure> {
    match stage {
        Stage::Assets => {
            let etags = stop.or("the stage `assets`", assets(world, plan, events)).await?;
            world.etags = etags;
            if plan.stages.contains(&Stage::Publish) { Ok(()) } else { world.save_etags(&record.release).await }
        }
        Stage::Images => {
            for (name, uri, made) in stop.or("the stage `images`", images(world, plan, events)).await? {
                record.made.extend(made.map(|made| (name.clone(), made)));
                record.images.insert(name, uri);
            }
            Ok(())
        }
        // An invocation that is dropped has an unknown outcome: this stage is finished, whatever happens.
        Stage::Migrations => super::migrations::migrations(world, plan, record, events, stop).await,
        Stage::Services => super::services::services(world, plan, record, events, stop).await,
        Stage::Publish => publish(world, plan, record, events).await,
    }
}

/// The first failure of several units, once all have come to their end.
fn first<T>(results: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    results.into_iter().collect()
}

async fn assets(world: &World, plan: &Plan, events: &Events) -> Result<Etags, Failure> {
    let sites = plan.sites.iter().filter(|(_, site)| !site.is_empty());
    let all = sites.map(|(name, site)| async move {
        let etags = site::execute::assets(&world.aws, world.journal.as_ref(), &world.root, name, site, events).await?;
        Ok((name.clone(), etags))
    });
    first(join_all(all).await).map(|etags| etags.into_iter().collect())
}

/// Services that run one image, of one repository and of the same content, have it built and pushed once.
async fn images(world: &World, plan: &Plan, events: &Events) -> Result<Vec<(UnitName, ImageUri, Option<Made>)>, Failure> {
    let mut shared: BTreeMap<(&str, &str), Vec<&UnitName>> = BTreeMap::new();
    for (name, image) in &plan.images {
        shared.entry((&image.uri, &image.tag)).or_default().push(name);
    }
    let all = shared.values().map(|names| async move {
        let image = &plan.images[names[0]];
        if let (Some(copy), None, Some(source)) = (&image.copy, image.present, &world.source) {
            let uri = image::copy::execute(source, &world.aws, names, image, copy, events).await?;
            return Ok(names.iter().map(|name| ((*name).clone(), uri.clone(), None)).collect::<Vec<_>>());
        }
        let built = names.iter().any(|name| world.built.contains(*name));
        let (uri, made) = image::execute::image(&world.aws, world.engine.as_ref(), &world.root, names, image, built, events).await?;
        let of = |name: &UnitName| {
            // Each service has a bill of its own.
            made.clone().map(|made| Made { sbom: made.sbom.is_some().then(|| image::execute::bill_of(name)), ..made })
        };
        Ok(names.iter().map(|name| ((*name).clone(), uri.clone(), of(name))).collect::<Vec<_>>())
    });
    Ok(first(join_all(all).await)?.into_iter().flatten().collect())
}

/// The image that a plan refers to, once the step that yields it is done.
pub(super) fn resolve(reference: &ImageRef, record: &Record) -> Result<ImageUri, Failure> {
    match reference {
        ImageRef::Known(uri) => Ok(uri.clone()),
        ImageRef::FromStep(name) => record
            .images
            .get(name)
            .cloned()
            .ok_or_else(|| Failure::new(Exit::Bug, format!("the image of `{name}` was to be known by now, and is not"))),
    }
}

async fn publish(world: &mut World, plan: &Plan, record: &Record, events: &Events) -> Result<(), Failure> {
    // One that is as it should be and has no manifest gets one.
    let unsaid = |site: &SitePlan| world.journal.is_some() && site.known == Known::Listing;
    let todo: Vec<_> = plan.sites.iter().filter(|(_, site)| !site.is_empty() || unsaid(site)).collect();
    let World { aws, journal, root, etags, .. } = &*world;
    let all = todo.iter().map(|(name, site)| async move {
        if let Some(journal) = journal.as_ref().filter(|_| !site.publish.is_empty()) {
            let keys = site.publish.iter().map(|write| write.key.clone()).collect();
            journal.begin_site::<Manifest>(name, &record.release, keys).await.map_err(|error| world::unbegun(error, name))?;
        }
        let manifest = site::execute::publish(aws, journal.as_ref(), root, name, site, etags.get(*name), events).await?;
        Ok((*name, *site, manifest))
    });
    let published = join_all(all).await;
    // A later run of the release writes other files under the same paths, which is another invalidation.
    let run = record.run_id();
    // What is new in the buckets has to reach the edges also where another site failed.
    let all = plan.invalidations.iter().map(|(id, invalidation)| cdn::execute::invalidate(aws, &run, id, invalidation, events));
    if let Err(failure) = first(join_all(all).await) {
        // What went wrong before may well be why.
        return Err(first(published).err().unwrap_or(failure));
    }
    // Only now: what is not said to be live is written and invalidated again by the next run.
    let (aws, journal) = (aws.clone(), journal.clone());
    let live = || published.iter().flatten().map(|(name, _, manifest)| (*name, manifest));
    for (name, _) in live() {
        world.live.sites.insert(name.clone(), LiveSite { release: record.release.clone(), commit: record.commit.clone() });
    }
    if live().next().is_some() {
        let kept = try_join_all(live().map(|(name, manifest)| keep(journal.as_ref(), record, name, manifest)));
        try_join(kept, world.save_live(Stage::Publish)).await?;
    }
    try_join_all(live().map(|(name, manifest)| say_live(journal.as_ref(), record, name, manifest))).await?;
    let published = first(published)?;
    for (name, check) in &plan.checks {
        if let Some((_, wanted)) = plan.sites.get(name).and_then(|site| site.checked()) {
            site::execute::check(&world.probe, name, &check.url, wanted, events).await?;
        }
    }
    // Last of all: until the new pages are known to be served, the old ones may be wanted back.
    for (name, site, manifest) in published.into_iter().filter(|(_, site, _)| !site.prune.is_empty()) {
        let left = site::execute::prune(&aws, name, site, events).await;
        let mut retained = site.manifest.retained.clone();
        retained.extend(left);
        let manifest = Manifest { retained, ..manifest };
        keep(journal.as_ref(), record, name, &manifest).await?;
        say_live(journal.as_ref(), record, name, &manifest).await?;
    }
    Ok(())
}

async fn keep(journal: Option<&Journal>, record: &Record, name: &UnitName, manifest: &Manifest) -> Result<(), Failure> {
    let Some(journal) = journal else { return Ok(()) };
    let kept = journal.keep_site(name, &Published::by(record, manifest)).await;
    kept.map_err(|error| world::unwritable(error, "manifest", Some(Stage::Publish)))
}

async fn say_live(journal: Option<&Journal>, record: &Record, name: &UnitName, manifest: &Manifest) -> Result<(), Failure> {
    let Some(journal) = journal else { return Ok(()) };
    let saved = journal.set_site(name, &Published::by(record, manifest)).await;
    saved.map_err(|error| world::unwritable(error, "manifest", Some(Stage::Publish)))
}
