//! Plain static sites: pages that lie in the checkout as they are served.

use super::{Notes, Place, Site, Source, Topic, path};

/// Directories with an `index.html` that no other unit has, and no tool builds.
pub(super) fn sites(taken: &[String], notes: &mut Notes<'_>) -> Vec<Site> {
    let tree = notes.tree;
    let mut found: Vec<Site> = Vec::new();
    let usual = ["public", "site", "www", "html", "web", "static", "frontend", "client", "htdocs", "website", "docs"];
    for file in tree.files().filter(|file| path::name(file) == "index.html") {
        let directory = path::parent(file);
        let inside = |other: &String| path::within(directory, other);
        // Templates of a server, pages of a package, and pages below other pages are no sites of their own.
        let is_template = file.split('/').any(|part| matches!(part, "templates" | "views" | "src" | "app" | "tests" | "test"));
        if taken.iter().any(|other| inside(other) && other != ".") || found.iter().any(|site| path::within(directory, &site.directory)) {
            continue;
        }
        if is_template || (directory == "." && !taken.is_empty()) || taken.iter().any(|other| other == ".") {
            continue;
        }
        let at = Place::file(file);
        let wanted = notes.answers.get(Topic::Kind, directory);
        if let Some("skip" | "service") = wanted {
            continue;
        }
        if directory != "." && wanted.is_none() && !usual.contains(&path::name(directory)) {
            // Of a directory at the top of the checkout; what is deeper down are reports and examples more often than sites.
            if !directory.contains('/') && !matches!(directory, "coverage" | "htmlcov" | "emails" | "examples" | "demo") {
                notes.unused(directory, format!("pages that no tool builds: if they are a site, `--as {directory}=site` takes it"), at);
            }
            continue;
        }
        if directory == "." {
            // Everything would be published, the scripts and this configuration too.
            let what = "pages beside everything else: move them into a directory of their own, `public`, and run again";
            notes.unused(directory, what, at);
            continue;
        }
        notes.used(directory, "pages as they are: a site", at.clone());
        found.push(Site {
            name: String::new(),
            directory: directory.to_owned(),
            kind: "plain files".to_owned(),
            at,
            path: directory.to_owned(),
            source: Source::Prebuilt,
            output: ".".to_owned(),
            prefix: String::new(),
            unset: Vec::new(),
        });
    }
    found
}
