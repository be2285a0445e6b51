//! What is live, unit by unit: what the record says, and whether AWS says so too.

use crate::aws::Aws;
use crate::config::Site;
use crate::event::Events;
use crate::journal::{Journal, Live, LiveService, Published};
use crate::model::{Failure, ImageUri, ObjectKey, Stage, Status, Unfinished, UnitKind, UnitName, UnitStatus};
use crate::service::plan::Found;
use crate::site::observe::Look;
use crate::site::plan::Manifest;
use crate::{service, site};

use super::{Request, lease, parts, preflight, scope, world};

pub(super) async fn status(request: &Request, events: &Events) -> Result<Status, Failure> {
    let config = &request.project.config;
    let scope = scope::scope(config, &request.units, &Stage::ALL)?;
    let (aws, identity) = preflight::connect_and_identify(request, events).await?;
    let aws = &aws;
    let unreadable = |error| world::unreadable(error, "what is live");
    let journal = world::journal(config, aws);
    let live = match &journal {
        Some(journal) => journal.live().await.map_err(unreadable)?,
        None => Live::default(),
    };
    let mut units = Vec::new();
    for name in &scope.sites {
        let record: Option<Published<Manifest>> = match &journal {
            Some(journal) => journal.site(name).await.map_err(unreadable)?,
            None => None,
        };
        let bucket = &config.sites[name].bucket;
        let found = site::observe::bucket(aws, bucket.as_str()).await?;
        let there = matches!(found, site::bucket::BucketFound::Present(_));
        let drift = match &record {
            _ if !there => Some(format!("the bucket `{bucket}` is not there")),
            Some(record) => site_drift(aws, name, &config.sites[name], record).await?,
            None => None,
        };
        units.push(UnitStatus {
            kind: UnitKind::Site,
            name: name.clone(),
            live: match &record {
                Some(record) => format!("{} files in `{bucket}`", record.manifest.files.len()),
                None => "not published by a recorded release".to_owned(),
            },
            commit: record.as_ref().and_then(|live| live.commit.as_ref()).map(|commit| commit.short().to_owned()),
            release: record.map(|live| live.release.to_string()),
            drift,
        });
    }
    for name in &scope.migrations {
        let record = live.migrations.get(name);
        units.push(UnitStatus {
            kind: UnitKind::Migration,
            name: name.clone(),
            release: record.map(|live| live.release.to_string()),
            commit: record.and_then(|live| live.commit.as_ref()).map(|commit| commit.short().to_owned()),
            live: record
                .map_or("not migrated by a recorded release".to_owned(), |live| format!("migrated with {}", live.image.digest.short())),
            drift: None,
        });
    }
    for name in &scope.services {
        let service = &config.services[name];
        let found = service::observe::service(aws, name, service).await?;
        let record = live.services.get(name);
        let (text, drift) = describe(&found, &service.container, record);
        units.push(UnitStatus {
            kind: UnitKind::Service,
            name: name.clone(),
            release: record.map(|live| live.release.to_string()),
            commit: record.and_then(|live| live.commit.as_ref()).map(|commit| commit.short().to_owned()),
            live: text,
            drift,
        });
    }
    let releasing = match &journal {
        Some(journal) => lease::holder(journal).await?,
        None => None,
    };
    let unfinished = match &journal {
        Some(journal) => unfinished(journal).await.filter(|last| last.exit.is_some() || releasing.is_none()),
        None => None,
    };
    Ok(Status {
        app: config.app.clone(),
        environment: config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default(),
        account: identity.account,
        region: aws.region().to_owned(),
        releasing,
        unfinished,
        units,
    })
}

/// The newest release, unless it has come to a good end. Who may not list releases is told what is live all the same.
async fn unfinished(journal: &Journal) -> Option<Unfinished> {
    let newest = journal.releases().await.ok()?.into_iter().next()?;
    let record = parts::record(journal, &newest).await.ok().flatten().filter(|record| !record.is_done())?;
    let run = record.runs.last()?;
    Some(Unfinished { release: record.release.to_string(), exit: run.exit, failure: run.failure.clone() })
}

fn describe(found: &Found, container: &str, recorded: Option<&LiveService>) -> (String, Option<String>) {
    let found = match found {
        Found::NoCluster => return ("nothing".to_owned(), Some("its cluster is not there".to_owned())),
        Found::NoService => return ("nothing".to_owned(), Some("the service is not there".to_owned())),
        Found::Service(found) => found,
    };
    let image = found.image(container).unwrap_or("no image");
    let revision = found.revision.rsplit('/').next().unwrap_or(&found.revision);
    let state = found.deployment.as_ref().map_or("", |(_, state)| state.as_str());
    let (desired, running) = found.tasks;
    let digest = image.parse::<ImageUri>().map_or_else(|_| image.to_owned(), |uri| uri.digest.short());
    let text = format!("{revision} runs {digest}, {running} of {desired} tasks, {state}");
    let drift = recorded.filter(|recorded| recorded.image.to_string() != image || recorded.revision != found.revision).map(|recorded| {
        let revision = recorded.revision.rsplit('/').next().unwrap_or(&recorded.revision);
        format!("the record says {revision} with {}", recorded.image.digest.short())
    });
    (text, drift)
}

/// How many differing files are named.
const NAMED: usize = 3;

/// What of the site's files is not in the bucket as it was written.
async fn site_drift(aws: &Aws, name: &UnitName, site: &Site, record: &Published<Manifest>) -> Result<Option<String>, Failure> {
    let manifest = &record.manifest;
    let place = site::plan::place(site);
    if manifest.place != place {
        return Ok(Some(format!("the record is of `{}`", manifest.place)));
    }
    let found = site::observe::back(aws, site, name, Manifest::default(), Manifest::default(), Look::default()).await?;
    let differs = |key: &ObjectKey, etag: Option<&String>| match (etag, found.listed.get(key)) {
        (_, None) => true,
        (Some(etag), Some(listed)) => etag != listed,
        (None, Some(_)) => false,
    };
    let changed: Vec<&str> =
        manifest.files.iter().filter(|(key, file)| differs(key, file.etag.as_ref())).map(|(key, _)| key.as_str()).collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let named = changed.iter().take(NAMED).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let more = if changed.len() > NAMED { format!(" and {} more", changed.len() - NAMED) } else { String::new() };
    Ok(Some(match record.over.as_ref().and_then(|over| over.release.as_ref()) {
        Some(over) => format!(
            "release {over} has begun to publish, and has not come to its end: {named}{more} are not as before; the same command goes on \
             with it, and `windlass rollback` goes back"
        ),
        None => format!("somebody else has written or deleted {named}{more}; `windlass release --audit` repairs it"),
    }))
}
