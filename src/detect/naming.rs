//! The names of units, and of the application.

use super::compose::{Composed, chief};
use super::package::Packages;
use super::tree::Tree;
use super::units::Built;
use super::{Migration, Site, path};

/// Letters, digits and `-`.
pub(super) fn plain(text: &str) -> String {
    let mapped: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let short: String = mapped.trim_matches(['-', '_']).chars().take(40).collect();
    short.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The unit's name: its directory's, unless that says nothing.
fn unit_name(directory: &str, default: &str) -> String {
    let empty = ["src", "app", "project", "code", "source", "docker", "."];
    let mut at = directory;
    while empty.contains(&path::name(at)) && at != "." {
        at = path::parent(at);
    }
    Some(plain(path::name(at))).filter(|name| at != "." && !name.is_empty()).unwrap_or_else(|| default.to_owned())
}

pub(super) fn name_units(sites: &mut [Site], services: &mut [Built], composed: &[Composed]) {
    let alone = services.iter().filter(|built| !built.like).count() == 1;
    for site in sites.iter_mut() {
        site.name = unit_name(&site.directory, "web");
    }
    for built in services.iter_mut() {
        let default = if built.service.kind == "Next.js" && sites.is_empty() { "web" } else { "api" };
        let said = chief(composed, &built.service.dockerfile).map(|service| plain(&service.name));
        let own = unit_name(&built.service.directory, "");
        let file = path::name(&built.service.dockerfile).to_lowercase();
        let by_file = file.strip_prefix("dockerfile.").or_else(|| file.strip_suffix(".dockerfile")).filter(|_| !alone).map(plain);
        let name = if own.is_empty() { said.or(by_file).unwrap_or_else(|| default.to_owned()) } else { own };
        built.service.name = built.said.clone().filter(|name| !name.is_empty()).unwrap_or(name);
    }
    // Two directories of one name are told apart by their paths, and a service from a site by a word.
    let names = |sites: &[Site], services: &[Built]| -> Vec<String> {
        sites.iter().map(|site| site.name.clone()).chain(services.iter().map(|built| built.service.name.clone())).collect()
    };
    let all = names(sites, services);
    let twice = |name: &String| all.iter().filter(|other| *other == name).count() > 1;
    for site in sites.iter_mut().filter(|site| twice(&site.name)) {
        let long = plain(&site.directory.replace('/', "-"));
        site.name = if long.is_empty() || long == site.name { format!("{}-site", site.name) } else { long };
    }
    for built in services.iter_mut().filter(|built| twice(&built.service.name)) {
        let long = plain(&built.service.directory.replace('/', "-"));
        built.service.name = if long.is_empty() || built.like { format!("{}-service", built.service.name) } else { long };
    }
    let mut seen: Vec<String> = Vec::new();
    for name in sites.iter_mut().map(|site| &mut site.name).chain(services.iter_mut().map(|built| &mut built.service.name)) {
        let mut number = 2;
        let first = name.clone();
        while seen.contains(name) {
            *name = format!("{first}-{number}");
            number += 1;
        }
        seen.push(name.clone());
    }
}

pub(super) fn name_migrations(migrations: &mut [Migration], sites: &[Site], services: &[Built]) {
    let taken = |name: &str| sites.iter().any(|site| site.name == name) || services.iter().any(|built| built.service.name == name);
    if let [one] = migrations {
        one.name = if taken("main") { "database".to_owned() } else { "main".to_owned() };
        return;
    }
    let mut seen: Vec<String> = Vec::new();
    for migration in migrations {
        let mut name = format!("{}-db", migration.from);
        while taken(&name) || seen.contains(&name) {
            name.push_str("-2");
        }
        seen.push(name.clone());
        migration.name = name;
    }
}

/// The application's name, and where it comes from.
pub(super) fn name(tree: &Tree, packages: &Packages) -> (String, String) {
    let package =
        packages.at(".").and_then(|package| Some((package.name()?.rsplit('/').next()?.to_owned(), package.place("name").to_string())));
    let generic =
        |name: &str| ["app", "my-app", "frontend", "web", "client", "root", "monorepo", "workspace", "vite-project", "src"].contains(&name);
    let remote = || Some((tree.remote_name()?, "the name of the Git remote `origin`".to_owned()));
    let own = || Some((tree.own_name()?, "the name of the directory".to_owned()));
    let found = package.filter(|(name, _)| !generic(name)).or_else(remote).or_else(own);
    let (name, why) = found.unwrap_or_default();
    let name = plain(&name).replace('_', "-");
    if name.is_empty() { ("app".to_owned(), "nothing says more".to_owned()) } else { (name, why) }
}
