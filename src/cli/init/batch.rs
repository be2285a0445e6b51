//! The batch buildspec, with a node for each of the application's units.

use std::fmt::Write as _;

use super::jenkins::Units;

/// The nodes that the shipped buildspec has as an example begin and end here.
const FIRST: &str = "    - identifier: assets_web\n";
const LAST: &str = "    - identifier: release\n";
const ALL: &str = "depend-on: [assets_web, images_api]";

/// Puts the units into the text of `buildspecs/batch.yml`; as it is, where that is written otherwise.
pub(super) fn render(text: &str, units: &Units) -> String {
    let (Some(first), Some(last), true) = (text.find(FIRST), text.find(LAST), text.contains(ALL)) else { return text.to_owned() };
    let identifier = |stage: &str, unit: &str| format!("{stage}_{}", unit.replace('-', "_"));
    let mut nodes = String::new();
    let mut names = Vec::new();
    let mut node = |stage: &str, unit: &str, units: &str, after: &str| {
        let name = identifier(stage, unit);
        // An image needs the Docker engine.
        let privileged = if stage == "images" { "        privileged-mode: true\n" } else { "" };
        // Writing to a text cannot fail.
        let _ = writeln!(
            nodes,
            "    - identifier: {name}\n      depend-on: [{after}]\n      env:\n{privileged}        variables:\n          NODE: {stage}\n          UNITS: {units}"
        );
        names.push(name);
    };
    // One image is made once, and is that of all its services.
    for services in &units.images {
        node("images", &services[0], &services.join(" "), "begin");
    }
    for (site, from) in &units.sites {
        // Files in an image are taken out of it when it is there.
        let maker = |service: &String| {
            units.images.iter().find(|services| services.contains(service)).map_or(service.clone(), |all| all[0].clone())
        };
        let after = from.as_ref().map_or_else(|| "begin".to_owned(), |service| identifier("images", &maker(service)));
        node("assets", site, site, &after);
    }
    let text = format!("{}{nodes}{}", &text[..first], &text[last..]);
    text.replace(ALL, &format!("depend-on: [{}]", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_a_node_that_the_last_one_waits_for() {
        let shipped = include_str!("../../../buildspecs/batch.yml");
        let sites = vec![("my-web".to_owned(), None), ("static".to_owned(), Some("worker".to_owned()))];
        let images = vec![vec!["api".to_owned(), "worker".to_owned()], vec!["reports".to_owned()]];
        let text = render(shipped, &Units { sites, services: Vec::new(), images, environments: Vec::new() });
        let (buildspec, warnings) = crate::buildspec::read(&text).unwrap();
        assert!(warnings.is_empty() && crate::buildspec::lint(&buildspec).is_empty());
        for part in [
            "- identifier: assets_my_web\n      depend-on: [begin]\n",
            "- identifier: assets_static\n      depend-on: [images_api]\n",
            "depend-on: [images_api, images_reports, assets_my_web, assets_static]\n",
            "UNITS: my-web\n",
            "UNITS: api worker\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("assets_web"));
    }
}
