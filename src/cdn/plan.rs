//! What has to be invalidated, and where the published page is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Site;
use crate::model::{Refusal, UnitName};

/// More paths than this are folded by directory: beyond 1,000 paths a month CloudFront bills each, and a pattern counts as one.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/PayingForInvalidation.html>
const MOST_PATHS: usize = 10;

/// So many patterns may be in progress at a time.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-invalidations>
const MOST_PATTERNS: usize = 15;

/// A distribution as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its own name.
    pub domain_name: String,
    /// What `/` serves.
    pub default_root_object: Option<String>,
    /// Does it serve at all?
    pub enabled: bool,
    /// The names of its origins.
    pub origins: Vec<String>,
    /// Does it know objects by the cache tags in their metadata?
    pub tagged: bool,
}

/// What of a site changes.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    /// The site.
    pub site: &'a Site,
    /// URL paths, percent-encoded.
    pub paths: &'a [String],
    /// The cache tag that the edges know some of them by, and the paths that it does not reach.
    pub tag: Option<(&'a str, &'a [String])>,
}

/// What has to be invalidated in one distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invalidation {
    /// Sorted, each once.
    pub paths: Vec<String>,
}

/// Where a published page is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageCheck {
    /// The page's full URL.
    pub url: String,
}

/// Gathers the changed paths of all sites, by distribution.
#[must_use]
pub fn draw<'a>(changed: impl Iterator<Item = Changed<'a>>) -> BTreeMap<String, Invalidation> {
    let mut all: BTreeMap<String, Invalidation> = BTreeMap::new();
    for Changed { site, paths, tag } in changed {
        let Some(distribution) = &site.distribution else { continue };
        if !paths.is_empty() {
            let invalidation = all.entry(distribution.clone()).or_insert_with(|| Invalidation { paths: Vec::new() });
            let root = if site.prefix.is_empty() { String::from("/") } else { format!("/{}/", site.prefix) };
            match tag {
                // A tag counts as one path, and hits nothing but the files that may change: a pattern would take those with it that never do.
                Some((tag, rest)) if paths.len() > MOST_PATHS && rest.len() < MOST_PATHS => {
                    invalidation.paths.push(format!("#{tag}"));
                    invalidation.paths.extend_from_slice(rest);
                }
                _ => invalidation.paths.extend(folded(paths, &root)),
            }
        }
    }
    for invalidation in all.values_mut() {
        invalidation.paths.sort();
        invalidation.paths.dedup();
    }
    all
}

/// The paths of one site, or few patterns that hold them all: a pattern for each directory below `root` that holds several, or one for
/// everything.
fn folded(paths: &[String], root: &str) -> Vec<String> {
    if paths.len() <= MOST_PATHS {
        return paths.to_vec();
    }
    let mut groups: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for path in paths {
        let below = path.strip_prefix(root).unwrap_or(path);
        let directory = below.split_once('/').map_or(String::new(), |(directory, _)| format!("{root}{directory}/"));
        groups.entry(directory).or_default().push(path);
    }
    let fold = |directory: &String, paths: &Vec<&String>| !directory.is_empty() && paths.len() > 2;
    let patterns = groups.iter().filter(|(directory, paths)| fold(directory, paths)).count();
    let folded: Vec<String> =
        groups
            .iter()
            .flat_map(|(directory, paths)| {
                if fold(directory, paths) { vec![format!("{directory}*")] } else { paths.iter().map(|path| (*path).clone()).collect() }
            })
            .collect();
    if patterns > MOST_PATTERNS || folded.len() > MOST_PATHS + MOST_PATTERNS { vec![format!("{root}*")] } else { folded }
}

/// Where a site is checked: what its `url`, else its distribution, answers for the URL path `document`; nowhere without either.
#[must_use]
pub fn page(site: &Site, found: Option<&Found>, document: &str) -> Option<PageCheck> {
    let base = site.url.clone().or_else(|| found.map(|found| format!("https://{}", found.domain_name)))?;
    let base = base.trim_end_matches('/');
    // Without a default root object `/` is an error of S3; below a prefix it needs a function that we know nothing of.
    let root = document == "/index.html" && found.is_none_or(|found| found.default_root_object.as_deref() == Some("index.html"));
    Some(PageCheck { url: format!("{base}{}", if root { "/" } else { document }) })
}

/// Why a site cannot be published through its distribution, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, site: &Site, found: Option<&Found>) -> Option<Refusal> {
    let id = site.distribution.as_deref()?;
    let cure = "correct `distribution`, or leave it out for a site without one";
    let Some(found) = found else {
        return Some(Refusal::new(format!("site `{name}`: there is no distribution `{id}` in this account"), cure));
    };
    if !found.enabled {
        return Some(Refusal::new(format!("site `{name}`: the distribution `{id}` is disabled"), "enable it, or name another"));
    }
    let bucket = site.bucket.as_str();
    if !found.origins.iter().any(|origin| origin == bucket || origin.starts_with(&format!("{bucket}."))) {
        let what =
            format!("site `{name}`: the distribution `{id}` has no origin in the bucket `{bucket}` (it has {})", found.origins.join(", "));
        return Some(Refusal::new(what, cure));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(prefix: &str) -> Site {
        let site = serde_json::json!({"prebuilt": true, "bucket": "shop-web", "distribution": "E1", "prefix": prefix});
        serde_json::from_value(site).unwrap()
    }

    fn found(root: Option<&str>) -> Found {
        let origins = vec!["shop-web.s3.us-east-1.amazonaws.com".to_owned()];
        Found {
            domain_name: "d1.cloudfront.net".to_owned(),
            default_root_object: root.map(str::to_owned),
            enabled: true,
            origins,
            tagged: false,
        }
    }

    #[test]
    fn two_sites_of_one_distribution_make_one_invalidation() {
        let (web, docs) = (site(""), site("docs"));
        let many: Vec<String> = (0..31).map(|n| format!("/docs/{n}.html")).collect();
        assert_eq!(folded(&many, "/"), ["/docs/*"]);
        let paths = ["/".to_owned(), "/index.html".to_owned()];
        let changed = |site, paths| Changed { site, paths, tag: None };
        let all = draw([changed(&web, &paths[..]), changed(&docs, &many[..])].into_iter());
        assert_eq!(all["E1"].paths, ["/", "/docs/*", "/index.html"]);
        assert!(draw([changed(&web, &[][..])].into_iter()).is_empty());
    }

    #[test]
    fn a_tag_stands_for_many_paths_and_for_few_it_does_not() {
        let web = site("");
        let many: Vec<String> = (0..31).map(|n| format!("/docs/{n}.html")).collect();
        let drawn = |paths, rest| {
            draw(std::iter::once(Changed { site: &web, paths, tag: Some(("windlass-web", rest)) })).remove("E1").unwrap().paths
        };
        assert_eq!(drawn(&many, &many[..1]), ["#windlass-web", "/docs/0.html"]);
        assert_eq!(drawn(&many, &many[..10]), ["/docs/*"], "too many that it does not reach");
        assert_eq!(drawn(&many[..2], &[]), ["/docs/0.html", "/docs/1.html"]);
    }

    #[test]
    fn many_paths_become_few_patterns_that_hold_them_all() {
        let pages = |directory: &str, count: usize| (0..count).map(move |n| format!("/{directory}/{n}/")).collect::<Vec<_>>();
        let paths = [vec!["/".to_owned(), "/index.html".to_owned()], pages("blog", 20), pages("legal", 2)].concat();
        assert_eq!(folded(&paths, "/"), ["/", "/index.html", "/blog/*", "/legal/0/", "/legal/1/"]);
        let wide: Vec<String> = (0..16).flat_map(|n| pages(&format!("d{n}"), 3)).collect();
        assert_eq!(folded(&wide, "/"), ["/*"], "more patterns than may be in progress");
    }

    #[test]
    fn the_page_is_asked_for_where_it_is_served() {
        let at = |root, document: &str| page(&site(""), Some(&found(root)), document).unwrap().url;
        assert_eq!(at(Some("index.html"), "/index.html"), "https://d1.cloudfront.net/");
        assert_eq!(at(None, "/index.html"), "https://d1.cloudfront.net/index.html");
        assert_eq!(at(Some("index.html"), "/docs/index.html"), "https://d1.cloudfront.net/docs/index.html");
        assert_eq!(at(Some("index.html"), "/static/a%20b.css"), "https://d1.cloudfront.net/static/a%20b.css");
        let alone = Site { url: Some("https://shop.example/".to_owned()), ..site("") };
        assert_eq!(page(&alone, None, "/index.html").unwrap().url, "https://shop.example/");
    }

    #[test]
    fn a_distribution_of_another_bucket_is_refused() {
        let name = "web".parse().unwrap();
        assert_eq!(refusal(&name, &site(""), Some(&found(None))), None);
        assert!(refusal(&name, &site(""), None).unwrap().what.contains("no distribution `E1`"));
        let other = Found { origins: vec!["shop-web-2.s3.amazonaws.com".to_owned()], ..found(None) };
        assert!(refusal(&name, &site(""), Some(&other)).unwrap().what.contains("no origin in the bucket"));
    }
}
