//! The whole reading: from files to units with names.

use std::collections::BTreeMap;
use std::path::Path;

use super::compose::Composed;
use super::container::{self, Chosen};
use super::django::{self, Project};
use super::django_settings::StaticRoot;
use super::docker::Dockerfile;
use super::naming::{name, name_migrations, name_units};
use super::node::{self, NodeService, Unit};
use super::package::Packages;
use super::prisma::{self, Schema};
use super::{
    Answers, Application, DetectError, Migration, Notes, Place, Recipe, Service, Site, Source, Topic, compose, deploy, path, siblings,
    static_site,
};

/// Where windlass's handlers look for a project, beside the directory that the image starts in.
const HANDLERS_LOOK: [&str; 5] = ["/app", "/code", "/srv", "/usr/src/app", "/var/task"];

/// Reads the checkout at `root`. What the files leave open is in [`Application::questions`]: with an answer to each, nothing is.
///
/// # Errors
/// A directory that cannot be listed, and files that are no JSON or TOML where they should be.
pub fn look(root: &Path, answers: &Answers) -> Result<Application, DetectError> {
    let tree = super::tree(root)?;
    let mut notes = Notes { tree: &tree, answers, findings: Vec::new(), questions: Vec::new() };
    let (composed, images) = compose::read(&tree);
    let dockerfiles = Dockerfile::all(&tree);
    let packages = Packages::read(&tree)?;
    let units = node::units(&packages, &mut notes);
    let projects = django::projects(&dockerfiles, &mut notes)?;
    let schemas = prisma::schemas(&packages, &mut notes);

    let (mut sites, mut servers) = (Vec::new(), Vec::new());
    for unit in units {
        match unit {
            Unit::Site(site) => sites.push(site),
            Unit::Service(service) => servers.push(service),
        }
    }
    let directories =
        (projects.iter().map(|project| project.directory.clone())).chain(servers.iter().map(|server| server.directory.clone()));
    let mut directories: Vec<String> = directories.collect();
    directories.sort_unstable();
    let mut builder = Builder { directories, composed: &composed, packages: &packages, left: dockerfiles.clone(), services: Vec::new() };
    for project in &projects {
        builder.django(project, &mut notes);
    }
    for server in &servers {
        builder.node(server, &schemas, &mut notes);
    }
    for site in &sites {
        builder.of_a_site(&site.directory, &mut notes);
    }
    builder.containers(&mut notes);
    let Builder { mut services, .. } = builder;
    let alone = services.len() == 1;
    siblings::add(&mut services, &composed, &mut notes);
    let taken: Vec<String> =
        (sites.iter().map(|site| site.directory.clone())).chain(services.iter().map(|built| built.service.directory.clone())).collect();
    sites.extend(static_site::sites(&taken, &mut notes));
    name_units(&mut sites, &mut services, &composed);
    siblings::share(&mut services);
    let statics: Vec<Site> = services.iter().filter_map(|built| static_files(built, alone, &mut notes)).collect();
    sites.extend(statics);
    let mut migrations: Vec<Migration> = services.iter().filter_map(|built| django_migration(built, &services, &mut notes)).collect();
    migrations.extend(schemas.iter().filter_map(|schema| prisma_migration(schema, &services, &packages, &mut notes)));
    name_migrations(&mut migrations, &sites, &services);
    others(&images, &mut notes);
    let name = name(&tree, &packages);
    let recognised = notes.findings.iter().map(|finding| finding.directory.clone());
    let recognised = recognised.chain(composed.iter().map(|service| service.name.clone()));
    let mut recognised: Vec<String> = recognised.chain(services.iter().map(|built| built.service.name.clone())).collect();
    recognised.sort_unstable();
    recognised.dedup();
    let Notes { findings, questions, .. } = notes;
    Ok(Application {
        name,
        sites,
        services: services.into_iter().map(|built| built.service).collect(),
        migrations,
        findings,
        questions,
        known: deploy::known(&tree),
        directories: recognised,
    })
}

/// A service, with what it was made of.
pub(super) struct Built {
    pub(super) service: Service,
    pub(super) project: Option<Project>,
    pub(super) chosen: Option<Chosen>,
    /// The name that Compose has for it, where that tells it from others of its image.
    pub(super) said: Option<String>,
    /// Is it one of Compose's with the Dockerfile of another?
    pub(super) like: bool,
}

/// Finds a Dockerfile for each service.
struct Builder<'a> {
    directories: Vec<String>,
    composed: &'a [Composed],
    packages: &'a Packages,
    /// Dockerfiles that no unit has yet.
    left: Vec<Dockerfile>,
    services: Vec<Built>,
}

impl Builder<'_> {
    fn choose(&mut self, directory: &str, notes: &mut Notes<'_>) -> Option<Chosen> {
        container::choose(directory, &mut self.left, &self.directories, self.composed, notes)
    }

    fn django(&mut self, project: &Project, notes: &mut Notes<'_>) {
        let directory = project.directory.as_str();
        let chosen = self.choose(directory, notes);
        let holder = project.requirements.as_ref().map_or(directory, |requirements| requirements.directory.as_str());
        let mut recipe = None;
        let context = if let Some(chosen) = &chosen {
            chosen.context.clone()
        } else {
            let context = if path::within(directory, holder) { holder } else { directory }.to_owned();
            // Packages of the checkout that it is made of lie in the context, too.
            let local = project.requirements.iter().flat_map(|requirements| &requirements.local);
            let context = local.fold(context, |context, local| path::common(&context, local));
            recipe = django::recipe(project, &context, notes);
            if recipe.is_none() {
                return;
            }
            context
        };
        let mut service = service(directory, "Django", project.at.clone(), context, chosen.as_ref(), recipe, notes);
        let named_by_image = chosen.as_ref().is_none_or(|chosen| chosen.dockerfile.end.env.contains_key("DJANGO_SETTINGS_MODULE"));
        if let (Some(module), false) = (&project.settings.chosen, named_by_image) {
            service.env.insert("DJANGO_SETTINGS_MODULE".to_owned(), module.clone());
        }
        self.services.push(Built { service, project: Some(project.clone()), chosen, said: None, like: false });
    }

    fn node(&mut self, server: &NodeService, schemas: &[Schema], notes: &mut Notes<'_>) {
        let directory = server.directory.as_str();
        let chosen = self.choose(directory, notes);
        let mut recipe = None;
        let context = if let Some(chosen) = &chosen {
            chosen.context.clone()
        } else {
            let schema = schemas.iter().find(|schema| belongs(schema, directory, self.packages)).map(|schema| schema.file.as_str());
            recipe = super::node_run::recipe(self.packages, server, schema, notes);
            if recipe.is_none() {
                return;
            }
            server.manager.root.clone()
        };
        let service = service(directory, &server.framework, server.at.clone(), context, chosen.as_ref(), recipe, notes);
        self.services.push(Built { service, project: None, chosen, said: None, like: false });
    }

    /// A site's own Dockerfile serves it from a container; the bucket does that.
    fn of_a_site(&mut self, directory: &str, notes: &mut Notes<'_>) {
        for dockerfile in self.left.iter().filter(|dockerfile| path::parent(&dockerfile.file) == directory && directory != ".") {
            let what =
                format!("a Dockerfile beside a site: the site goes to a bucket, and needs none (`--as {directory}=service` takes it)");
            notes.unused(directory, what, Place::file(&dockerfile.file));
        }
        self.left.retain(|dockerfile| path::parent(&dockerfile.file) != directory || directory == ".");
        for built in &self.services {
            let Some(Chosen { dockerfile, context, .. }) = &built.chosen else { continue };
            // The lists of a workspace's packages are copied for its lockfile's sake.
            let list = |source: &str| ["json", "yaml", "yml", "lock"].contains(&path::ending(source));
            let copies = |source: &String| {
                !list(source) && path::normal(&format!("{context}/{source}")).is_some_and(|full| path::within(&full, directory))
            };
            if directory != "." && dockerfile.sources.iter().any(copies) {
                let what = format!("an image is made of it, too: where that serves it, leave it out by `--as {directory}=skip`");
                notes.unused(directory, what, Place::file(&dockerfile.file));
            }
        }
    }

    /// What is left are services that only their Dockerfile knows.
    fn containers(&mut self, notes: &mut Notes<'_>) {
        let mut folders: Vec<String> = self.left.iter().map(|dockerfile| path::parent(&dockerfile.file).to_owned()).collect();
        folders.dedup();
        for folder in folders {
            let Some(first) = self.left.iter().find(|dockerfile| path::parent(&dockerfile.file) == folder).cloned() else { continue };
            let at = Place::file(&first.file);
            let wanted = notes.answers.get(Topic::Kind, &folder).map(str::to_owned);
            let image = first.stages.last().map(|stage| stage.image.to_lowercase()).unwrap_or_default();
            let proxy = container::is_proxy(&image);
            let tool = folder.split('/').any(|part| matches!(part, "ci" | "e2e" | "test" | "tests" | "tools" | "scripts" | "jenkins"));
            let composed = self.composed.iter().any(|service| service.dockerfile == first.file);
            let why = match wanted.as_deref() {
                Some("service") => None,
                Some(_) => Some("left out, as --as says".to_owned()),
                None if container::is_foreign(&image) => Some(format!("an image made of `{image}`: no part of the application")),
                None if proxy => Some(format!(
                    "a server or proxy made of `{image}`: the load balancer and the CDN do that (`--as {folder}=service` takes it)"
                )),
                None if tool && !composed => Some(format!("a Dockerfile among tools (`--as {folder}=service` takes it)")),
                None if first.end.command.is_none() && first.end.port.is_none() && !composed => {
                    Some(format!("a Dockerfile with neither `CMD` nor `EXPOSE` (`--as {folder}=service` takes it)"))
                }
                None => None,
            };
            if let Some(why) = why {
                notes.unused(&folder, why, at);
                self.left.retain(|dockerfile| path::parent(&dockerfile.file) != folder);
                continue;
            }
            notes.used(&folder, "a Dockerfile: a service", at.clone());
            let Some(chosen) = self.choose(&folder, notes) else { continue };
            let context = chosen.context.clone();
            let service = service(&folder, "container", at, context, Some(&chosen), None, notes);
            self.services.push(Built { service, project: None, chosen: Some(chosen), said: None, like: false });
        }
    }
}

fn service(
    directory: &str,
    kind: &str,
    at: Place,
    context: String,
    chosen: Option<&Chosen>,
    recipe: Option<Recipe>,
    notes: &mut Notes<'_>,
) -> Service {
    let health = super::health::health(directory, chosen.map(|chosen| &chosen.dockerfile), notes);
    if let Some((path, at)) = &health {
        notes.used(directory, format!("`{path}` says whether it is well"), at.clone());
    }
    let dockerfile = chosen.map_or_else(|| path::join(directory, "Dockerfile"), |chosen| chosen.dockerfile.file.clone());
    let port = chosen.and_then(|chosen| chosen.dockerfile.end.port.map(|(port, line)| (port, chosen.dockerfile.at(line))));
    Service {
        name: String::new(),
        directory: directory.to_owned(),
        kind: kind.to_owned(),
        at,
        path: context,
        dockerfile,
        recipe,
        target: chosen.and_then(|chosen| chosen.target.clone()),
        platform: chosen.and_then(|chosen| chosen.dockerfile.platform.as_ref().map(|(platform, _)| platform.clone())),
        env: BTreeMap::new(),
        health,
        port,
        image_of: None,
        reached: true,
    }
}

/// Does a service use the schema: its own, its workspace's, or the one above it?
fn belongs(schema: &Schema, directory: &str, packages: &Packages) -> bool {
    let depends = || {
        let (own, other) = (packages.at(directory), packages.at(&schema.package));
        own.zip(other).is_some_and(|(own, other)| packages.local(own).iter().any(|local| local.directory == other.directory))
    };
    schema.package == directory || depends()
}

/// The files that Django's `collectstatic` leaves in an image, as a site.
fn static_files(built: &Built, alone: bool, notes: &mut Notes<'_>) -> Option<Site> {
    let (project, service) = (built.project.as_ref()?, &built.service);
    let directory = project.directory.as_str();
    let (root, at) = project.settings.static_root.clone()?;
    if let Some((who, at)) = &project.settings.served {
        notes.used(directory, format!("{who} takes care of static files"), at.clone());
        return None;
    }
    let place = match (&root, &built.chosen) {
        (StaticRoot::Computed, _) => {
            let what = "`STATIC_ROOT` is computed: where a CDN is to serve static files, add a site with `from_image` by hand";
            notes.unused(directory, what, at);
            return None;
        }
        (_, Some(chosen)) if chosen.dockerfile.end.collects.is_none() => {
            let what = "`STATIC_ROOT` is set, and the Dockerfile does not run `collectstatic`: nobody serves static files";
            notes.unused(directory, what, at);
            return None;
        }
        (StaticRoot::Absolute(place), _) => Some(place.clone()),
        (StaticRoot::Inside(folder), Some(chosen)) => chosen.dockerfile.inside(&chosen.context, folder),
        (StaticRoot::Inside(folder), None) => Some(format!("/app/{}", path::from(&service.path, folder))),
    };
    let Some(place) = place else {
        notes.unused(directory, "`STATIC_ROOT` lies where the Dockerfile does not copy to: nobody serves static files", at);
        return None;
    };
    if let Some((dockerfile, line)) = built.chosen.as_ref().and_then(|chosen| Some((&chosen.dockerfile, chosen.dockerfile.end.collects?))) {
        notes.used(directory, format!("its image holds static files in `{place}`: a site"), dockerfile.at(line));
    }
    Some(Site {
        name: if alone { "static".to_owned() } else { format!("{}-static", service.name) },
        directory: directory.to_owned(),
        kind: "Django's static files".to_owned(),
        at,
        path: service.path.clone(),
        source: Source::Image { service: service.name.clone(), path: place },
        output: String::new(),
        prefix: project.settings.static_url.clone().unwrap_or_default(),
        unset: Vec::new(),
    })
}

fn django_migration(built: &Built, all: &[Built], notes: &mut Notes<'_>) -> Option<Migration> {
    let project = built.project.as_ref()?;
    let Some((at, _)) = &project.settings.databases else {
        notes.unused(&project.directory, "no `DATABASES` in its settings: nothing is migrated", project.at.clone());
        return None;
    };
    notes.used(&project.directory, "`DATABASES`: its migrations are applied", at.clone());
    let image = built.chosen.as_ref().and_then(|chosen| {
        let place = chosen.dockerfile.inside(&chosen.context, &project.directory)?;
        let found = place == chosen.dockerfile.end.workdir || HANDLERS_LOOK.contains(&place.as_str());
        (!found).then_some(place)
    });
    let settings = built.service.env.get("DJANGO_SETTINGS_MODULE").map(|module| format!("DJANGO_SETTINGS_MODULE={module} "));
    let command = (image.is_some() || settings.is_some()).then(|| {
        let into = image.map_or(String::new(), |place| format!("cd {} && ", path::shell(&place)));
        format!("{into}{}python manage.py migrate --no-input", settings.unwrap_or_default())
    });
    let (from, services) = (built.service.name.clone(), siblings::names(built, all));
    Some(Migration { name: String::new(), framework: "django", from, services, at: at.clone(), command })
}

fn prisma_migration(schema: &Schema, services: &[Built], packages: &Packages, notes: &mut Notes<'_>) -> Option<Migration> {
    let on_node: Vec<&Built> = services.iter().filter(|built| !built.like && packages.at(&built.service.directory).is_some()).collect();
    let users: Vec<&Built> = on_node.iter().copied().filter(|built| belongs(schema, &built.service.directory, packages)).collect();
    let candidates = if users.is_empty() { on_node } else { users };
    let answer = notes.answers.get(Topic::MigratedBy, &schema.package);
    let built = match (answer, &candidates[..]) {
        (Some(name), _) => services.iter().find(|built| built.service.name == name)?,
        (None, [one]) => *one,
        (None, []) => {
            notes.unused(&schema.package, "a schema of Prisma's, and no service on Node whose image could migrate it", schema.at.clone());
            return None;
        }
        (None, [first, ..]) => {
            let choices = candidates.iter().map(|built| (built.service.name.clone(), built.service.at.clone())).collect();
            notes.ask(Topic::MigratedBy, &schema.package, format!("several services use the schema `{}`", schema.file), choices);
            *first
        }
    };
    let service = &built.service;
    let inside = match &built.chosen {
        Some(chosen) => chosen.dockerfile.inside(&chosen.context, &schema.package),
        None => Some(super::docker::absolute("/app", &path::from(&service.path, &schema.package))),
    };
    let workdir = match &built.chosen {
        Some(chosen) => chosen.dockerfile.end.workdir.clone(),
        None => super::docker::absolute("/app", service.recipe.as_ref().map_or(".", |recipe| recipe.workdir.as_str())),
    };
    let own = path::from(&schema.package, &schema.file);
    let usual = ["prisma/schema.prisma", "prisma/schema", "schema.prisma"].contains(&own.as_str());
    let named = packages.at(&schema.package).is_some_and(|package| package.json["prisma"]["schema"].is_string());
    let seen = inside.as_ref().is_none_or(|place| *place == workdir || ["/app", "/usr/src/app", "/var/task"].contains(&place.as_str()));
    let command = (!(seen && (usual || named))).then(|| {
        let into = inside.filter(|place| *place != workdir).map_or(String::new(), |place| format!("cd {} && ", path::shell(&place)));
        format!("{into}npx --no-install prisma migrate deploy")
    });
    let (from, services) = (service.name.clone(), siblings::names(built, services));
    Some(Migration { name: String::new(), framework: "prisma", from, services, at: schema.at.clone(), command })
}

/// What Compose runs and no unit is.
fn others(images: &[(String, Place)], notes: &mut Notes<'_>) {
    if let Some((_, at)) = images.first() {
        let mut names: Vec<String> = images.iter().map(|(image, _)| format!("`{image}`")).collect();
        names.dedup();
        let what = format!("Compose runs {}: on AWS that is infrastructure, which a release finds there", names.join(", "));
        notes.unused(".", what, at.clone());
    }
}
