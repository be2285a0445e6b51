//! The text of a `Jenkinsfile` for an application's units and environments.

use crate::detect::{Application, Site, Source};

use super::names::Names;

/// What can be chosen.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) services: Vec<String>,
    /// Services by their images: those of one image stand together.
    pub(super) images: Vec<Vec<String>>,
    /// Sites, each with the service whose image holds its files, if one does.
    pub(super) sites: Vec<(String, Option<String>)>,
    pub(super) environments: Vec<String>,
}

impl Units {
    pub(super) fn of(application: &Application, names: &Names) -> Self {
        let from = |site: &Site| match &site.source {
            Source::Image { service, .. } => Some(service.clone()),
            Source::Build(_) | Source::Prebuilt => None,
        };
        let mut images: Vec<Vec<String>> = Vec::new();
        for service in &application.services {
            match images.iter_mut().find(|names| service.image_of.as_ref().is_some_and(|owner| names.contains(owner))) {
                Some(names) => names.push(service.name.clone()),
                None => images.push(vec![service.name.clone()]),
            }
        }
        Self {
            images,
            services: application.services.iter().map(|service| service.name.clone()).collect(),
            sites: application.sites.iter().map(|site| (site.name.clone(), from(site))).collect(),
            environments: names.environments().iter().map(|environment| environment.name.clone()).collect(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(String::as_str).chain(self.sites.iter().map(|(name, _)| name.as_str()))
    }
}

const TEMPLATE: &str = include_str!("Jenkinsfile.in");

/// Writes it. `config` is the configuration's file, from the checkout's root.
pub(super) fn render(units: &Units, config: &str) -> String {
    let choices = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))).collect::<Vec<_>>().join(", ")
    };
    let all = choices(&mut std::iter::once("all").chain(units.names()));
    let mut text = String::new();
    for line in TEMPLATE.lines() {
        // Lines that are marked so are for a choice of environments.
        let line = match line.strip_suffix("  // @environments") {
            Some(_) if units.environments.is_empty() => continue,
            Some(line) => line,
            None => line,
        };
        let line = match line.strip_suffix("  // @config") {
            Some(_) if config == "windlass.yml" => continue,
            Some(line) => line,
            None => line,
        };
        let environments = choices(&mut units.environments.iter().map(String::as_str));
        text.push_str(&line.replace("@UNITS@", &all).replace("@ENVIRONMENTS@", &environments).replace("@CONFIG@", config));
        text.push('\n');
    }
    text
}
