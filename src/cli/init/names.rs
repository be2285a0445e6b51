//! Names that no checkout can hold: from flags, from scripts that release it today, else by convention and to be checked.

use crate::detect::{Application, Known, Place};

use super::flags::{EnvironmentFlag, Init, Named};

/// A name, and why it is that.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) value: String,
    /// Whether a person has said it.
    pub(super) sure: bool,
    /// The script that has it.
    pub(super) at: Option<Place>,
}

/// All names of a configuration.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) app: Name,
    pub(super) app_why: String,
    pub(super) state: Name,
    environments: Vec<EnvironmentFlag>,
    bucket: Vec<Named>,
    distribution: Vec<Named>,
    cluster: Vec<Named>,
    service: Vec<Named>,
    container: Vec<Named>,
    repository: Vec<Named>,
    health: Vec<Named>,
    function: Vec<Named>,
    known: Vec<Known>,
    sites: usize,
    services: usize,
    images: usize,
    /// Services that nobody asks anything: no name in a script is theirs but one that holds their own.
    workers: Vec<String>,
    /// Services with the image of another, and whose.
    shared: Vec<(String, String)>,
}

fn sure(value: &str) -> Name {
    Name { value: value.to_owned(), sure: true, at: None }
}

fn named<'a>(given: &'a [Named], unit: &str) -> Option<&'a str> {
    let own = given.iter().find(|named| named.of.as_deref() == Some(unit));
    own.or_else(|| given.iter().find(|named| named.of.is_none())).map(|named| named.value.as_str())
}

impl Names {
    pub(super) fn new(verb: &Init, application: &Application) -> Self {
        let (found, why) = &application.name;
        let app = match &verb.app {
            Some(app) => sure(app.as_str()),
            None => Name { value: found.clone(), sure: false, at: None },
        };
        let state = match &verb.state {
            Some(state) => sure(state),
            None => Name { value: format!("s3://{}-state/windlass", bucket_name(&app.value)), sure: false, at: None },
        };
        let mut environments = verb.environment.clone();
        if environments.is_empty() {
            let found = application.known.iter().filter(|known| known.kind == "environment");
            environments.extend(found.map(|known| EnvironmentFlag { name: known.name.clone(), account: None, region: None }));
        }
        Self {
            app,
            app_why: why.clone(),
            state,
            environments,
            bucket: verb.bucket.clone(),
            distribution: verb.distribution.clone(),
            cluster: verb.cluster.clone(),
            service: verb.ecs_service.clone(),
            container: verb.container.clone(),
            repository: verb.repository.clone(),
            health: verb.health.clone(),
            function: verb.function.clone(),
            known: application.known.clone(),
            sites: application.sites.len(),
            services: application.services.iter().filter(|service| service.reached).count(),
            images: application.services.iter().filter(|service| service.image_of.is_none()).count(),
            workers: application.services.iter().filter(|service| !service.reached).map(|service| service.name.clone()).collect(),
            shared: application.services.iter().filter_map(|service| Some((service.name.clone(), service.image_of.clone()?))).collect(),
        }
    }

    pub(super) fn environments(&self) -> &[EnvironmentFlag] {
        &self.environments
    }

    /// The one name of a kind that scripts hold for a unit: the one that holds the unit's name, or the only one for the only unit.
    fn in_scripts(&self, kind: &str, unit: &str, units: usize) -> Option<&Known> {
        let of_kind: Vec<&Known> = self.known.iter().filter(|known| known.kind == kind).collect();
        match of_kind[..] {
            [one] if units == 1 && (kind == "cluster" || !self.workers.iter().any(|name| name == unit)) => Some(one),
            _ => {
                let mut own = of_kind.into_iter().filter(|known| known.name.split(['-', '_', '/', '.']).any(|part| part == unit));
                own.next().filter(|_| own.next().is_none())
            }
        }
    }

    fn pick(&self, given: &[Named], kind: &str, unit: &str, units: usize, convention: impl FnOnce() -> String) -> Name {
        if let Some(value) = named(given, unit) {
            return sure(value);
        }
        match self.in_scripts(kind, unit, units) {
            Some(known) => Name { value: known.name.clone(), sure: false, at: Some(known.at.clone()) },
            None => Name { value: convention(), sure: false, at: None },
        }
    }

    pub(super) fn bucket(&self, site: &str) -> Name {
        self.pick(&self.bucket, "bucket", site, self.sites, || bucket_name(&format!("{}-{site}", self.app.value)))
    }

    pub(super) fn distribution(&self, site: &str) -> Option<Name> {
        let name = self.pick(&self.distribution, "distribution", site, self.sites, String::new);
        (!name.value.is_empty()).then_some(name)
    }

    pub(super) fn cluster(&self, service: &str) -> Name {
        // Most often all services share one.
        self.pick(&self.cluster, "cluster", service, 1, || self.app.value.clone())
    }

    pub(super) fn service(&self, service: &str) -> Name {
        self.pick(&self.service, "service", service, self.services, || service.to_owned())
    }

    pub(super) fn container(&self, service: &str) -> Name {
        self.pick(&self.container, "container", service, self.services, || service.to_owned())
    }

    pub(super) fn repository(&self, service: &str) -> Name {
        let owner = self.shared.iter().find(|(name, _)| name == service).map_or(service, |(_, owner)| owner.as_str());
        self.pick(&self.repository, "repository", owner, self.images, || format!("{}/{owner}", self.app.value.to_lowercase()))
    }

    pub(super) fn health(&self, service: &str) -> Option<&str> {
        named(&self.health, service)
    }

    /// A function that migrates, if a flag names one.
    pub(super) fn function(&self, migration: &str) -> Option<&str> {
        named(&self.function, migration)
    }

    /// The account and the region that scripts name, if they name one.
    pub(super) fn account(&self) -> Option<(&Known, Option<&Known>)> {
        let one = |kind: &str| {
            let mut all = self.known.iter().filter(|known| known.kind == kind);
            all.next().filter(|_| all.next().is_none())
        };
        one("account").map(|account| (account, one("region")))
    }

    pub(super) fn set_state(&mut self, state: &str) {
        self.state = sure(state);
    }

    pub(super) fn set_bucket(&mut self, site: &str, bucket: &str) {
        self.bucket.insert(0, Named { of: Some(site.to_owned()), value: bucket.to_owned() });
    }

    pub(super) fn set_distribution(&mut self, site: &str, id: &str) {
        self.distribution.insert(0, Named { of: Some(site.to_owned()), value: id.to_owned() });
    }

    pub(super) fn set_cluster(&mut self, cluster: &str) {
        self.cluster.insert(0, Named { of: None, value: cluster.to_owned() });
    }
}

/// As S3 allows it.
pub(super) fn bucket_name(text: &str) -> String {
    let lower: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(60).collect();
    lower.trim_matches('-').to_owned()
}
