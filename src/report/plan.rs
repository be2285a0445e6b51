//! A plan as people read it: stage by stage, what changes, and what does not in one line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::image::plan::{BuildPlan, ImagePlan};
use crate::migration::plan::{MadeOf, MigrationPlan, Runs};
use crate::model::{Authority, ImageRef, Stage, UnitName};
use crate::plan::Plan;
use crate::service::plan::Action;
use crate::site::classify::Fingerprints;
use crate::site::plan::{Change, Known, SitePlan, Write as Object};
use crate::site::retention::Why;

use super::{bytes, count};

/// More objects than this are counted and not named; the JSON form names all.
const NAMED: usize = 20;

/// The plan in words.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(plan, &mut out);
    out
}

fn write(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let environment = if plan.environment.is_empty() { String::new() } else { format!(" to {}", plan.environment) };
    let commit = plan.commit.as_ref().map_or("no commit".to_owned(), |commit| format!("commit {}", commit.short()));
    let dirty = if plan.dirty { " with changes that are in no commit" } else { "" };
    let account = plan.account.as_ref().map_or(String::new(), |account| format!("account {account} in "));
    writeln!(out, "{}{environment}: {commit}{dirty}, {account}{}", plan.app, plan.region)?;
    if let Some(release) = &plan.restores {
        writeln!(out, "back to what release {release} left live")?;
    }
    if let Some(promoted) = &plan.promotes {
        writeln!(out, "promotes what release {} left live in {}", promoted.release, promoted.environment)?;
    }
    for stays in &plan.stays {
        writeln!(out, "  ! {stays}")?;
    }
    for &stage in &plan.stages {
        if !plan.changes_in(stage) {
            writeln!(out, "\n{stage}: nothing to do")?;
            if stage == Stage::Assets {
                unchanged(plan, out)?;
            }
            continue;
        }
        writeln!(out, "\n{stage}:")?;
        match stage {
            Stage::Assets => assets(plan, out)?,
            Stage::Images => images(plan, out)?,
            Stage::Migrations => migrations(plan, out)?,
            Stage::Services => services(plan, out)?,
            Stage::Publish => publish(plan, out)?,
        }
    }
    if plan.is_empty() {
        writeln!(out, "\nnothing to do: what is live is what was built")?;
    }
    Ok(())
}

fn unchanged(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, site) in &plan.sites {
        writeln!(out, "  {name}: {} live already, as they should be", count(site.unchanged, "file"))?;
        // What is published later is worth the same words as what is uploaded now.
        if !site.is_empty() {
            known(site, out)?;
            left_out(site, out)?;
        }
    }
    Ok(())
}

fn known(site: &SitePlan, out: &mut String) -> std::fmt::Result {
    let fingerprints = match site.fingerprints {
        Fingerprints::Manifest => "fingerprints by the build's manifest",
        Fingerprints::Rule => "fingerprints by the form of the names",
    };
    let known = match site.known {
        Known::Manifest => "what is live by the last release's manifest",
        Known::Listing => "what is live by the bucket's listing",
        Known::Kept => "what is written by the state, where it is kept",
    };
    writeln!(out, "    {fingerprints}; {known}")?;
    if !site.manifest.frozen.is_empty() {
        let names: Vec<&str> = site.manifest.frozen.keys().map(String::as_str).collect();
        writeln!(out, "    frozen into it by its build: {}", names.join(", "))?;
    }
    Ok(())
}

fn left_out(site: &SitePlan, out: &mut String) -> std::fmt::Result {
    site.left_out.iter().try_for_each(|left_out| writeln!(out, "    - {}: {}", left_out.path, left_out.reason))
}

fn objects(writes: &[Object], out: &mut String) -> std::fmt::Result {
    for write in writes.iter().take(NAMED) {
        let change = match write.change {
            Change::New => "+",
            Change::Content => "~",
            Change::Headers => "h",
        };
        writeln!(
            out,
            "    {change} {}  {}, {}, {}",
            write.key,
            bytes(write.size),
            write.headers.content_type,
            write.headers.cache_control
        )?;
    }
    if writes.len() > NAMED {
        writeln!(out, "      and {} more", writes.len() - NAMED)?;
    }
    Ok(())
}

fn size(writes: &[Object]) -> String {
    bytes(writes.iter().filter(|write| write.change != Change::Headers).map(|write| write.size).sum())
}

fn assets(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, site) in &plan.sites {
        let SitePlan { bucket, output, upload, unchanged, .. } = site;
        let output = match &site.from_image {
            Some(from) => &format!("{} in the image of {}", from.path, from.service),
            None => output,
        };
        writeln!(
            out,
            "  {name}: {output} to s3://{bucket}: {} to upload ({}), {unchanged} unchanged",
            count(upload.len(), "file"),
            size(upload)
        )?;
        known(site, out)?;
        objects(upload, out)?;
        left_out(site, out)?;
    }
    Ok(())
}

/// Each image with the names of those that share it, as services of the same code do: it is made once.
fn once(images: &BTreeMap<UnitName, ImagePlan>) -> Vec<(String, &ImagePlan)> {
    let mut all: Vec<(String, &ImagePlan)> = Vec::new();
    for (name, image) in images {
        match all.iter_mut().find(|(_, other)| (&other.uri, &other.tag) == (&image.uri, &image.tag)) {
            Some((names, _)) => *names = format!("{names}, {name}"),
            None => all.push((name.to_string(), image)),
        }
    }
    all
}

fn images(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, image) in once(&plan.images) {
        if let Some(copy) = &image.copy {
            if copy.create_repository {
                writeln!(
                    out,
                    "  {name}: create the repository {} with immutable tags, scan on push and a lifecycle rule",
                    image.repository
                )?;
            }
            let (digest, layers, size) = (copy.from.digest.short(), count(copy.layers, "layer"), bytes(copy.bytes));
            writeln!(out, "  {name}: copy {digest} from {} to {}:{} ({layers}, {size})", copy.from.repository, image.uri, image.tag)?;
            continue;
        }
        let Some(build) = &image.build else {
            let digest = image.present.map(|digest| digest.short()).unwrap_or_default();
            let judged = if image.unjudged { ", and its scan is judged" } else { "" };
            writeln!(out, "  {name}: {}:{} is in the registry ({digest}){judged}", image.repository, image.tag)?;
            continue;
        };
        if build.create_repository {
            writeln!(out, "  {name}: create the repository {} with immutable tags, scan on push and a lifecycle rule", image.repository)?;
        }
        let why = if build.no_cache { ", without the cache, because it is too old" } else { "" };
        let BuildPlan { context, dockerfile, platform, .. } = build;
        writeln!(out, "  {name}: build {context}/{dockerfile} for {platform}{why}, push as {}:{}", image.uri, image.tag)?;
        for base in &build.bases {
            let short = base.digest.get(..19).unwrap_or(&base.digest);
            let said = match base.from {
                Authority::Name => "pinned",
                Authority::Registry => "today",
                Authority::Engine => "made on this engine",
                Authority::EngineInstead => "as the engine has it, as its registry does not answer",
            };
            writeln!(out, "    from {} ({short}, {said})", base.image)?;
        }
        for secret in &build.secrets {
            writeln!(out, "    with the secret {}", secret.id)?;
        }
    }
    Ok(())
}

fn image(reference: &ImageRef) -> String {
    match reference {
        ImageRef::Known(uri) => uri.digest.short(),
        ImageRef::FromStep(service) => format!("the image of {service}"),
    }
}

fn pending(migration: &MigrationPlan, out: &mut String) -> std::fmt::Result {
    let Some(pending) = &migration.pending else {
        // What a promotion brings is in no checkout that could be read.
        let why = if migration.pending_by.is_empty() { "the migration itself finds out" } else { &migration.pending_by };
        return writeln!(out, "    pending: unknown ({why})");
    };
    if pending.is_empty() {
        return writeln!(out, "    pending: none of the checkout's, by {}", migration.pending_by);
    }
    writeln!(out, "    pending, by {}:", migration.pending_by)?;
    for one in pending {
        writeln!(out, "    + {}", one.name)?;
        for risk in one.risks.iter().filter(|_| migration.says_risks()) {
            writeln!(out, "      ! risky: {risk}")?;
        }
    }
    Ok(())
}

fn migrations(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, migration) in plan.migrations.iter().filter(|(_, migration)| !migration.applied) {
        let image = image(&migration.image);
        let does = match &migration.runs {
            Runs::LambdaImage { function, handler: Some(_), .. } => {
                format!("put windlass's handler on {image}, update and invoke {function}")
            }
            Runs::LambdaImage { function, update_code, .. } => {
                let update = if *update_code == Some(false) { "" } else { "update and " };
                format!("{update}invoke {function} with {image}")
            }
            Runs::LambdaZip { function, made_of, update_code, .. } => {
                let zip = match made_of {
                    MadeOf::File(file, digest) => format!("the zip {file} ({})", &digest.to_string()[..12]),
                    MadeOf::Image => format!("a zip of the code in {image} and windlass's handler"),
                    MadeOf::Prisma(directory) => format!("a zip of Prisma's migrations in {directory}, an engine and windlass's handler"),
                };
                let update = if *update_code == Some(false) { "" } else { "update and " };
                format!("{update}invoke {function} with {zip}")
            }
            Runs::Task { cluster, service, migrates, .. } => format!("run {migrates} of {image} in a task as of {cluster}/{service}"),
            Runs::Local { directory, .. } => format!("run in {directory} on this machine"),
        };
        writeln!(out, "  {name}: {does}, at most {} s", migration.timeout_seconds)?;
        pending(migration, out)?;
        if let Some(instance) = &migration.snapshot {
            writeln!(out, "    take a snapshot of the RDS instance {instance} first")?;
        }
        if !migration.stops.is_empty() {
            let stops: Vec<String> =
                migration.stops.iter().map(|stops| format!("{} ({})", stops.unit, count(tasks(stops.tasks), "task"))).collect();
            writeln!(out, "    ! stops until they roll: {}; nothing serves in between", stops.join(", "))?;
        }
    }
    Ok(())
}

fn tasks(count: i32) -> usize {
    usize::try_from(count).unwrap_or_default()
}

fn services(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, service) in &plan.services {
        let from = service.from.rsplit('/').next().unwrap_or(&service.from);
        match &service.action {
            Action::Nothing => writeln!(out, "  {name}: unchanged, {from} serves")?,
            Action::Watch(deployment) => {
                let image = image(&service.image);
                writeln!(out, "  {name}: watch {deployment}, which is bringing {image} already")?;
            }
            Action::Start => {
                let tasks = count(tasks(service.tasks.unwrap_or_default()), "task");
                writeln!(out, "  {name}: start {}/{} again, {from} with {tasks}", service.cluster, service.service)?;
            }
            Action::Return(revision) => {
                let revision = revision.rsplit('/').next().unwrap_or(revision);
                writeln!(out, "  {name}: return {}/{} from {from} to {revision}", service.cluster, service.service)?;
                writeln!(out, "    ~ {}: {} → {}", service.container, service.from_image, service.image)?;
            }
            Action::Roll => {
                let after: Vec<&str> = service.after.iter().map(UnitName::as_str).collect();
                let after = if after.is_empty() { String::new() } else { format!(", after {}", after.join(", ")) };
                let with = service.tasks.map_or(String::new(), |stopped| format!(", started with {}", count(tasks(stopped), "task")));
                let to = image(&service.image);
                writeln!(out, "  {name}: roll {}/{} from {from} to {to}{after}{with}", service.cluster, service.service)?;
                let own = format!("{}.image", service.container);
                let is_known = matches!(&service.image, ImageRef::Known(_));
                if service.changes.is_empty() || (!is_known && !service.changes.iter().any(|change| change.what == own)) {
                    writeln!(out, "    ~ {own}: {} → {}", service.from_image, service.image)?;
                }
                for change in &service.changes {
                    match (&change.from, &change.to) {
                        (Some(from), Some(to)) => writeln!(out, "    ~ {}: {from} → {to}", change.what)?,
                        (None, Some(to)) => writeln!(out, "    + {}: {to}", change.what)?,
                        (_, None) => writeln!(out, "    - {}", change.what)?,
                    }
                }
            }
        }
        for schedule in &service.schedules {
            let from = schedule.from.rsplit('/').next().unwrap_or(&schedule.from);
            writeln!(out, "    ~ scheduled task {}: from {from} to the revision that serves", schedule.name)?;
        }
    }
    Ok(())
}

fn prune(name: &UnitName, site: &SitePlan, out: &mut String) -> std::fmt::Result {
    if site.prune_refused > 0 {
        let files = count(site.prune_refused, "file");
        writeln!(out, "  {name}: {files} would go, which is over half of all there is: they stay, unless --allow-prune is given")?;
    }
    if !site.prune.is_empty() {
        writeln!(out, "  {name}: {} to delete, after all else", count(site.prune.len(), "file"))?;
    }
    for prune in site.prune.iter().take(NAMED) {
        let why = match prune.why {
            Why::RemovedPage => "a page that is no longer part of the site",
            Why::Expired => "no release that is kept names it",
        };
        writeln!(out, "    - {}  {why}", prune.key)?;
    }
    if site.prune.len() > NAMED {
        writeln!(out, "      and {} more", site.prune.len() - NAMED)?;
    }
    Ok(())
}

fn publish(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (name, site) in plan.sites.iter().filter(|(_, site)| !site.publish.is_empty()) {
        writeln!(out, "  {name}: {} to publish, in this order ({})", count(site.publish.len(), "file"), size(&site.publish))?;
        objects(&site.publish, out)?;
    }
    for (name, site) in plan.sites.iter().filter(|(_, site)| !site.is_empty()) {
        prune(name, site, out)?;
    }
    for (distribution, invalidation) in &plan.invalidations {
        writeln!(out, "  invalidate in {distribution}: {}", invalidation.paths.join(" "))?;
    }
    for (name, check) in &plan.checks {
        writeln!(out, "  check {name} at {}", check.url)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_services_share_is_told_once() {
        let image = |tag: &str| -> ImagePlan {
            let image = serde_json::json!({"repository": "shop/api", "uri": "host/shop/api", "tag": tag, "build": null, "present": null});
            serde_json::from_value(image).unwrap()
        };
        let images = [("api", "1"), ("jobs", "2"), ("worker", "1")].map(|(name, tag)| (name.parse().unwrap(), image(tag)));
        let told: Vec<String> = once(&images.into()).into_iter().map(|(names, image)| format!("{names}: {}", image.tag)).collect();
        assert_eq!(told, ["api, worker: 1", "jobs: 2"]);
    }
}
