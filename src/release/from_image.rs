//! Sites whose files lie in the image of a service, as Django's `collectstatic` leaves them.
//!
//! An image is built for them as a site's output is, before the plan is drawn: so `plan` names every file here too. It is pushed where
//! the plan says, in the stage `images`, and is not built a second time. What is taken out of it lies in `.windlass` until the next run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::aws::Aws;
use crate::config::{Config, FromImage, Image, Site, SiteSource, SourceMaps};
use crate::docker::{self, Credentials, DockerError, Engine};
use crate::event::{Events, Outcome, Step};
use crate::image;
use crate::image::plan::ImagePlan;
use crate::journal::Journal;
use crate::model::{Exit, Failure, ImageUri, Sha256, UnitName};
use crate::plan;
use crate::site;
use crate::site::plan::Manifest;
use crate::site::scan::{self, LEADS_OUT, Output, Wanted};

use super::looks::{BuiltSites, engine};
use super::{Request, Stop, build};

/// What windlass keeps beside `windlass.yml`. Whoever makes the directory tells Git to pass it over.
pub(super) const OWN: &str = ".windlass";

/// The sites of images, with what had to be done to see their files.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) sites: BuiltSites,
    pub(super) engine: Option<Engine>,
    /// The services whose image was built.
    pub(super) built: BTreeSet<UnitName>,
}

/// Where a site's files are to be found.
enum Holder {
    /// In an image that a registry has.
    Registry(ImageUri),
    /// In an image that has still to be built.
    ToBuild(Box<ImagePlan>),
}

impl Holder {
    /// As the engine knows it.
    fn name(&self) -> String {
        match self {
            Self::Registry(uri) => uri.to_string(),
            Self::ToBuild(image) => format!("{}:{}", image.uri, image.tag),
        }
    }
}

/// Finds the files of those of `names` that come out of an image, and looks at what is live of each.
///
/// # Errors
/// No engine answers; an image cannot be built or pulled, or does not hold the directory; AWS fails.
#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
pub(super) async fn sites(
    request: &Request,
    aws: &Aws,
    journal: Option<&Journal>,
    names: &BTreeSet<UnitName>,
    observed: &plan::Observed,
    engine: Option<Engine>,
    events: &Events,
    stop: &Stop,
) -> Result<Taken, Failure> {
    let config = &request.project.config;
    let mut taken = Taken { engine, ..Taken::default() };
    for (name, site) in names.iter().map(|name| (name, &config.sites[name])) {
        let Some(SiteSource::FromImage(from)) = site.source() else { continue };
        let (holder, content) = holder(config, from, observed)?;
        let inputs = site::inputs::of_image(&content, &from.path, site.source_maps == SourceMaps::Upload);
        let manifest = site::observe::published(journal, name, site).await?;
        let unpacking = Step::before(name, "unpack");
        let output = if let Some(output) = live_already(request, name, site, manifest.as_ref(), inputs) {
            let unchanged = async { Ok(((), Outcome::Unchanged, "its image is that of what is live".to_owned())) };
            events.step(unpacking, unchanged).await?;
            output
        } else {
            let work = unpack(request, aws, name, from, &holder, &mut taken, unpacking, events);
            stop.or("the unpacking of an image", work).await?
        };
        let output = build::compressed(request, name, site, manifest.as_ref(), output).await?;
        let live = site::observe::live(aws, manifest, name, site, &output, request.look).await?;
        taken.sites.insert(name.clone(), (output, site::plan::Observed { inputs: Some(inputs), ..live }));
    }
    Ok(taken)
}

/// The image that holds a site's files, and what tells it from every other: for one that windlass builds, that is what goes into it.
fn holder(config: &Config, from: &FromImage, observed: &plan::Observed) -> Result<(Holder, String), Failure> {
    let service = &config.services[&from.service];
    let known = |uri: &ImageUri| (Holder::Registry(uri.clone()), uri.to_string());
    if let (Image::Prebuilt(uri), _) | (_, Some(uri)) = (&service.image, observed.pushed.get(&from.service)) {
        return Ok(known(uri));
    }
    let found = observed.images.get(&from.service);
    let plan = found.and_then(|found| Some((found, image::plan::draw(service, found, &observed.labels, &config.policy)?)));
    let (found, plan) = plan.ok_or_else(|| Failure::new(Exit::Bug, format!("the image of `{}` was not looked at", from.service)))?;
    let holder = match plan.present {
        Some(digest) => Holder::Registry(ImageUri { repository: plan.uri.clone(), digest }),
        None => Holder::ToBuild(Box::new(plan)),
    };
    let content = match found {
        image::plan::Observed::Built(built) => built.tag.clone(),
        image::plan::Observed::Tagged { .. } => holder.name(),
    };
    Ok((holder, content))
}

/// The files of what is live, if they came out of the same image.
fn live_already(request: &Request, name: &UnitName, site: &Site, live: Option<&Manifest>, inputs: Sha256) -> Option<Output> {
    let live = live.filter(|live| live.inputs == Some(inputs) && !request.look.audits(live) && !request.look.rebuild)?;
    site::plan::output_of(site, live, directory(name))
}

/// Where a site's files are unpacked, from the configuration's directory.
fn directory(name: &UnitName) -> String {
    format!("{OWN}/from-image/{name}")
}

/// Takes a site's files out of the image that holds them, and builds that first if nobody has.
#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
async fn unpack(
    request: &Request,
    aws: &Aws,
    name: &UnitName,
    from: &FromImage,
    holder: &Holder,
    taken: &mut Taken,
    step: Step,
    events: &Events,
) -> Result<Output, Failure> {
    let root = &request.project.root;
    let connected = match taken.engine.take() {
        Some(connected) => connected,
        None => engine("a site's files have to be taken out of an image", events).await?,
    };
    let connected = taken.engine.insert(connected);
    if let Holder::ToBuild(image) = holder
        && taken.built.insert(from.service.clone())
    {
        image::execute::build(aws, connected, root, from.service.as_str(), image, Step::before(&from.service, "build"), events).await?;
    }
    let work = async {
        let at = directory(name);
        let into = emptied(root, &at).map_err(|error| {
            let failure = Failure::new(Exit::Build, format!("site `{name}`: making the directory `{at}` failed")).because(error);
            failure.hint("nothing was changed; windlass needs to write there, beside windlass.yml")
        })?;
        let credentials = match holder {
            Holder::Registry(uri) => credentials(aws, request.project.config.registry.as_deref(), uri).await?,
            Holder::ToBuild(_) => None,
        };
        let extracted = docker::extract(connected, &holder.name(), &from.path, &into, credentials.as_ref()).await;
        let extracted = extracted.map_err(|error| failed(name, from, error))?;
        let (owner, maps) = (name.clone(), request.project.config.sites[name].source_maps == SourceMaps::Upload);
        let root = root.clone();
        let wanted = Wanted { source_maps: maps, index: false };
        let scanned = tokio::task::spawn_blocking(move || scan::scan(&owner, &root, &at, wanted, |_, _| {})).await;
        let mut output =
            scanned.map_err(|error| Failure::new(Exit::Bug, format!("site `{name}`: reading its files failed")).because(error))??;
        output.left_out.extend(extracted.left_out.into_iter().map(|path| (path, LEADS_OUT)));
        let detail = format!("{} files of `{}` in the image of {}", output.files.len(), from.path, from.service);
        Ok((output, Outcome::Done, detail))
    };
    events.step(step, work).await
}

fn failed(name: &UnitName, from: &FromImage, error: DockerError) -> Failure {
    let hint = match &error {
        DockerError::NoDirectory { .. } => Some(format!(
            "nothing was changed; correct `sites.{name}.from_image.path`, or let the image's build write there (`RUN python manage.py collectstatic --no-input`); where there are no static files, take the site out"
        )),
        error => error.hint(),
    };
    let failure = Failure::new(Exit::Build, format!("site `{name}`: taking its files out of the image of `{}` failed", from.service));
    failure.because(error).hint(hint.unwrap_or_else(|| "nothing was changed; run again".to_owned()))
}

/// What the account's registry asks for. Another registry is not told it.
async fn credentials(aws: &Aws, configured: Option<&str>, image: &ImageUri) -> Result<Option<Credentials>, Failure> {
    let host = image.repository.split('/').next().unwrap_or_default();
    let ours = configured.is_some_and(|registry| registry.trim_end_matches('/') == host) || host.contains(".dkr.ecr.");
    if !ours {
        return Ok(None);
    }
    let token = aws.registry_credentials().await.map_err(|error| {
        let hint = error.hint();
        let failure = Failure::new(Exit::Preflight, format!("asking for the password of the registry `{host}` failed")).because(error);
        failure.hint(hint.unwrap_or_else(|| "nothing was changed; run again".to_owned()))
    })?;
    Ok(Some(Credentials { username: token.username, password: token.password }))
}

/// Makes windlass's own directory in `root`, in the manner of one that Git passes over.
pub(super) fn own(root: &Path) -> std::io::Result<()> {
    let own = root.join(OWN);
    std::fs::create_dir_all(&own)?;
    let ignore = own.join(".gitignore");
    if ignore.is_file() { Ok(()) } else { std::fs::write(&ignore, "*\n") }
}

/// An empty directory at `at` below `root`, in one that Git passes over.
pub(super) fn emptied(root: &Path, at: &str) -> std::io::Result<std::path::PathBuf> {
    own(root)?;
    let into = root.join(at);
    match std::fs::remove_dir_all(&into) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&into)?,
    }
    Ok(into)
}

/// The sites among `names` that are built here, or lie here already.
pub(super) fn others<'a>(config: &'a Config, names: &'a BTreeSet<UnitName>) -> impl Iterator<Item = (&'a UnitName, &'a Site)> {
    let sites: &BTreeMap<UnitName, Site> = &config.sites;
    names.iter().map(|name| (name, &sites[name])).filter(|(_, site)| !matches!(site.source(), Some(SiteSource::FromImage(_))))
}
