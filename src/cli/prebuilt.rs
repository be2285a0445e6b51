//! `--prebuilt`: which site a build that was made elsewhere is for.

use std::path::Path;

use crate::config::{Project, Site};
use crate::model::{Exit, Failure, UnitName};

/// Puts the given builds in the place of the sites' own. `units` are those that were chosen; all if empty.
pub(super) fn take(project: &mut Project, given: &[String], units: &[UnitName]) -> Result<(), Failure> {
    for text in given {
        let (name, directory) = of(project, text, units)?;
        let directory = match directory {
            "" => return Err(wrong(text, "it names no directory").hint(format!("write `--prebuilt {name}=DIR`"))),
            directory => from(&project.root, Path::new(directory)).map_err(|error| wrong(text, error).hint("name a directory"))?,
        };
        let site: Option<&mut Site> = project.config.sites.get_mut(&name);
        if let Some(first) = site.and_then(|site| site.given.replace(directory)) {
            let failure = wrong(text, format!("the site `{name}` has a build already: `{first}`"));
            return Err(failure.hint("give each site one build"));
        }
    }
    Ok(())
}

fn wrong(text: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(Exit::Config, format!("`--prebuilt {text}` was refused")).because(why)
}

/// The site that is meant, and its directory.
fn of<'a>(project: &Project, text: &'a str, units: &[UnitName]) -> Result<(UnitName, &'a str), Failure> {
    let sites = &project.config.sites;
    let names = || sites.keys().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
    if let Some((name, directory)) = text.split_once('=') {
        match name.parse::<UnitName>() {
            Ok(name) if sites.contains_key(&name) => return Ok((name, directory)),
            // A directory may have such a name itself.
            _ if Path::new(text).is_dir() => {}
            _ => return Err(wrong(text, format!("there is no site `{name}`")).hint(format!("the configuration has: {}", names()))),
        }
    }
    let chosen: Vec<&UnitName> = sites.keys().filter(|name| units.is_empty() || units.contains(name)).collect();
    match chosen[..] {
        [only] => Ok((only.clone(), text)),
        [] => Err(wrong(text, "no site is released").hint(format!("the configuration has these sites: {}", names()))),
        [..] => {
            let failure = wrong(text, format!("it does not say for which of the sites it is: {}", names()));
            Err(failure.hint(format!("write `--prebuilt {}={text}`", chosen[0])))
        }
    }
}

/// `directory`, which counts from the working directory, from `root`: as the configuration would name it, if it lies there.
fn from(root: &Path, directory: &Path) -> std::io::Result<String> {
    let (root, directory) = (std::path::absolute(root)?, std::path::absolute(directory)?);
    let below = directory.strip_prefix(&root).unwrap_or(&directory);
    let text = below.to_str().ok_or_else(|| std::io::Error::other("the name is not UTF-8"))?;
    Ok(if text.is_empty() { ".".to_owned() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn project() -> Project {
        let config: Config = serde_json::from_value(serde_json::json!({
            "app": "shop", "state": "none",
            "sites": {"web": {"build": "b", "bucket": "web"}, "docs": {"build": "b", "bucket": "docs"}},
        }))
        .unwrap();
        Project { root: "/shop".into(), config }
    }

    fn given(arguments: &[&str], units: &[&str]) -> Result<Vec<Option<String>>, Failure> {
        let mut project = project();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let units: Vec<UnitName> = units.iter().map(|unit| unit.parse().unwrap()).collect();
        take(&mut project, &arguments, &units)?;
        Ok(["web", "docs"].map(|name| project.config.sites[&name.parse().unwrap()].given.clone()).into())
    }

    #[test]
    fn a_build_is_for_the_site_that_is_named_or_the_only_one() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(given(&["web=/shop/web/out", "docs=/elsewhere"], &[]).unwrap(), [some("web/out"), some("/elsewhere")]);
        assert_eq!(given(&["/elsewhere"], &["docs"]).unwrap(), [None, some("/elsewhere")]);
        assert_eq!(given(&["web=/shop"], &[]).unwrap(), [some("."), None]);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for (arguments, units, why) in [
            (&["/elsewhere"][..], &[][..], "for which of the sites"),
            (&["wep=/elsewhere"], &[], "there is no site `wep`"),
            (&["web="], &[], "names no directory"),
            (&["web=/a", "web=/b"], &[], "has a build already: `/a`"),
            (&["/a"], &["api"], "no site is released"),
        ] {
            let failure = given(arguments, units).unwrap_err();
            assert!(failure.causes()[0].contains(why) && failure.hint_text().is_some(), "{failure:?}");
        }
    }
}
