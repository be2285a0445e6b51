//! The sites of a promotion: the very files of the release that is promoted, unless what its build has frozen into them is wrong here.

use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::aws::Aws;
use crate::config::SiteSource;
use crate::event::{Events, Outcome, Step};
use crate::journal::{Journal, Published};
use crate::model::{Exit, Failure, Sha256, UnitName};
use crate::site;
use crate::site::plan::{Change, Manifest, SitePlan, Write};
use crate::site::scan::Output;

use super::promote::Source;
use super::{Request, Stop, build, from_image, world};

/// So many files are looked for, or fetched, at once.
const AT_ONCE: usize = 32;

/// A site, as it is to be and as it is.
pub(super) struct Site {
    pub(super) output: Output,
    pub(super) observed: site::plan::Observed,
    /// What the release has published; `None` where it was built anew.
    pub(super) manifest: Option<Manifest>,
}

/// Where the files of a promotion are brought to, from the configuration's directory.
fn directory(name: &UnitName) -> String {
    format!("{}/promote/{name}", from_image::OWN)
}

/// Finds the files of a site. `here` says whether the checkout is that of the release.
#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
pub(super) async fn site(
    request: &Request,
    source: &Source<'_>,
    aws: &Aws,
    journal: Option<&Journal>,
    name: &UnitName,
    here: bool,
    events: &Events,
    stop: &Stop,
) -> Result<Site, Failure> {
    let settings = &request.project.config.sites[name];
    let release = &source.record.after.sites[name].release;
    let published: Option<Published<Manifest>> =
        source.journal.site_of(name, release).await.map_err(|error| world::unreadable(error, "manifest"))?;
    let gone = |why: &str| {
        let failure = Failure::new(Exit::Preflight, format!("site `{name}`: what release {release} has published {why}"));
        failure.hint(format!("nothing was changed; release that commit to `{}` anew, and promote that release", source.environment))
    };
    let theirs = published.ok_or_else(|| gone("is not in the state any more"))?.manifest;
    let live = site::observe::published(journal, name, settings).await?;
    let differs = differences(request, source, name, &theirs)?;
    let (output, inputs, frozen, manifest) = if differs.is_empty() && settings.given.is_none() {
        let output = site::promoted::output(&theirs, directory(name)).ok_or_else(|| gone("has files of unknown content"))?;
        (output, theirs.inputs, theirs.frozen.clone(), Some(theirs))
    } else {
        if settings.given.is_none() {
            refuse(request, source, name, here, &differs)?;
            events.note(format!("{name}: it is built anew, because what its build has frozen differs here: {}", differs.join("; ")));
        }
        let work = async {
            let built = build::site(request, name, settings, live.as_ref(), events).await?;
            let output = build::compressed(request, name, settings, live.as_ref(), built.output).await?;
            Ok((output, built.inputs, built.frozen))
        };
        let (output, inputs, frozen) = stop.or("the build of the sites", Box::pin(work)).await?;
        (output, inputs, frozen, None)
    };
    let observed = site::observe::live(aws, live, name, settings, &output, request.look).await?;
    Ok(Site { output, observed: site::plan::Observed { inputs, frozen, ..observed }, manifest })
}

/// What a build has frozen that would be otherwise here.
fn differences(request: &Request, source: &Source<'_>, name: &UnitName, theirs: &Manifest) -> Result<Vec<String>, Failure> {
    let settings = &request.project.config.sites[name];
    if matches!(settings.source(), Some(SiteSource::FromImage(_))) {
        return Ok(Vec::new());
    }
    let ours = build::frozen_here(request, name, settings)?;
    // Of a build that was made elsewhere nobody knows what it has frozen; what would be frozen there says as much.
    let there = match source.request.project.config.sites.get(name) {
        Some(settings) if theirs.frozen.is_empty() && theirs.inputs.is_none() => build::frozen_here(source.request, name, settings)?,
        _ => theirs.frozen.clone(),
    };
    Ok(site::frozen::differences(&there, &ours, false))
}

/// Refuses to build a site anew from other sources than the release's.
fn refuse(request: &Request, source: &Source<'_>, name: &UnitName, here: bool, differs: &[String]) -> Result<(), Failure> {
    let why = format!("what its build has frozen into its pages differs here: {}", differs.join("; "));
    let refused = |what: &str, hint: String| {
        let failure = Failure::new(Exit::Preflight, format!("site `{name}`: {what}")).because(why.clone());
        Err(failure.hint(format!("nothing was changed; {hint}")))
    };
    if !matches!(request.project.config.sites[name].source(), Some(SiteSource::Build(_) | SiteSource::Buildspec(_))) {
        return refused(
            "it cannot be promoted as it is, and was built elsewhere",
            format!("give a build for this environment: --prebuilt {name}=DIR"),
        );
    }
    match &source.record.commit {
        _ if here => Ok(()),
        Some(commit) => {
            let hint = format!("check out commit {} (without changes), or give its build: --prebuilt {name}=DIR", commit.short());
            refused("it has to be built anew, and this checkout is not the release's", hint)
        }
        None => refused("it has to be built anew, and the release names no commit", format!("give its build: --prebuilt {name}=DIR")),
    }
}

/// Where a file of the release is still to be had.
enum Place<'a> {
    Bucket(&'a str, String),
    State(String),
}

/// Sees to it that every file which is to be written can be had, and with `fetch` brings it here.
#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
pub(super) async fn bring(
    request: &Request,
    source: &Source<'_>,
    name: &UnitName,
    theirs: &Manifest,
    plan: &SitePlan,
    fetch: bool,
    events: &Events,
    stop: &Stop,
) -> Result<(), Failure> {
    let writes: Vec<&Write> = plan.upload.iter().chain(&plan.publish).filter(|write| write.change != Change::Headers).collect();
    if writes.is_empty() {
        return Ok(());
    }
    let unreadable = |error: crate::aws::AwsError| {
        let hint = error.hint().unwrap_or_else(|| "run again".to_owned());
        let failure = Failure::new(Exit::Preflight, format!("site `{name}`: reading its files in `{}` failed", source.environment));
        failure.because(error).hint(format!("nothing was changed; {hint}"))
    };
    let looked = stream::iter(writes.iter().copied()).map(|write| async move { Ok((write, place(source, theirs, write).await?)) });
    let places: Vec<(&Write, Option<Place<'_>>)> = looked.buffer_unordered(AT_ONCE).try_collect().await.map_err(unreadable)?;
    if let Some((write, _)) = places.iter().find(|(_, place)| place.is_none()) {
        let failure = Failure::new(Exit::Preflight, format!("site `{name}`: it cannot be promoted; nothing was changed"));
        let what =
            format!("`{}` of that release is neither in its bucket nor in the state of `{}` any more", write.path, source.environment);
        return Err(failure.because(what).hint(format!("release that commit to `{}` anew, and promote that release", source.environment)));
    }
    if !fetch {
        return Ok(());
    }
    let work = async {
        let root = from_image::emptied(&request.project.root, &directory(name)).map_err(|error| {
            let failure = Failure::new(Exit::Build, format!("site `{name}`: making the directory `{}` failed", directory(name)));
            failure.because(error).hint("nothing was changed; windlass needs to write there, beside windlass.yml")
        })?;
        let root = &root;
        let fetched = stream::iter(places.iter()).map(|(write, place)| async move {
            let Some(place) = place else { return Ok(()) };
            one(source, root, name, write, place).await
        });
        let () = fetched.buffer_unordered(AT_ONCE).try_collect().await?;
        let bytes: u64 = writes.iter().map(|write| write.size).sum();
        Ok((
            (),
            Outcome::Done,
            format!("{} files ({bytes} bytes) of release {} in {}", writes.len(), source.record.release, source.environment),
        ))
    };
    stop.or("the fetching of a site's files", events.step(Step::before(name, "fetch"), work)).await
}

/// In the site's bucket, if nobody has written it since; else among the bodies that the state keeps.
async fn place<'a>(source: &Source<'_>, theirs: &'a Manifest, write: &Write) -> Result<Option<Place<'a>>, crate::aws::AwsError> {
    let (bucket, _) = site::promoted::place(theirs);
    if let Some((key, file)) = site::promoted::key(theirs, &write.path).and_then(|key| theirs.files.get_key_value(&key)) {
        let head = source.aws.head_object(bucket, key.as_str()).await?;
        let same = head.is_some_and(|head| match head.sha256 {
            Some(sha256) => sha256 == write.sha256,
            None => file.etag.as_deref() == Some(head.etag.trim_matches('"')),
        });
        if same {
            return Ok(Some(Place::Bucket(bucket, key.to_string())));
        }
    }
    let body = source.journal.body_key(&write.sha256);
    Ok(source.aws.head_object(source.journal.bucket(), &body).await?.map(|_| Place::State(body)))
}

async fn one(source: &Source<'_>, root: &Path, name: &UnitName, write: &Write, place: &Place<'_>) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        let failure = Failure::new(Exit::Build, format!("site `{name}`: fetching `{}` from `{}` failed", write.path, source.environment));
        failure.because(why.to_string()).hint("nothing was changed; run the same command again")
    };
    let path = root.join(&*write.path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    }
    let (bucket, key) = match place {
        Place::Bucket(bucket, key) => (*bucket, key.as_str()),
        Place::State(key) => (source.journal.bucket(), key.as_str()),
    };
    let found: Option<Sha256> = source.aws.get_file(bucket, key, &path).await.map_err(|error| failed(&error))?;
    match found {
        Some(sha256) if sha256 == write.sha256 => Ok(()),
        Some(_) => Err(failed(&format!("`{bucket}/{key}` holds something else than the release has written"))),
        None => Err(failed(&format!("`{bucket}/{key}` is gone"))),
    }
}
