//! What went into the images of a release: on its page, and in the text of `history RELEASE`.

use std::fmt::Write as _;

use crate::journal::Record;
use crate::model::{ImageLayer, ImageUri, Made, UnitName};

use super::page::escaped;
use super::{bytes, count, seconds};

/// What is known of each image that the release has built or judged, those that share one together.
fn images(record: &Record) -> Vec<(Vec<&UnitName>, Option<&ImageUri>, &Made)> {
    let mut all: Vec<(Vec<&UnitName>, Option<&ImageUri>, &Made)> = Vec::new();
    for (name, made) in &record.made {
        let uri = record.images.get(name);
        match all.iter_mut().find(|(_, other, of)| *other == uri && (&of.layers, &of.steps) == (&made.layers, &made.steps)) {
            Some((names, ..)) => names.push(name),
            None => all.push((vec![name], uri, made)),
        }
    }
    all
}

/// What is said of an image, in rows of a name and a text.
fn rows(record: &Record, names: &[&UnitName], uri: Option<&ImageUri>, made: &Made) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |name, text: Option<String>| rows.extend(text.map(|text| (name, text)));
    row("image", uri.map(ToString::to_string));
    row("base", made.base.clone());
    if !made.layers.is_empty() {
        let sum = |layers: &mut dyn Iterator<Item = &ImageLayer>| bytes(layers.map(|layer| layer.bytes).sum());
        let all = sum(&mut made.layers.iter());
        let of_base = made.layers.iter().filter(|layer| layer.of_base).count();
        let base = if of_base == 0 {
            String::new()
        } else {
            format!(", {} in {of_base} of them the base's", sum(&mut made.layers.iter().filter(|layer| layer.of_base)))
        };
        row("size", Some(format!("{all} in {}{base}", count(made.layers.len(), "layer"))));
    }
    if !made.steps.is_empty() {
        let cached = made.steps.iter().filter(|step| step.cached).count();
        let took = made.steps.iter().map(|step| step.seconds).sum();
        row("build", Some(format!("{}, {cached} cached, {}", count(made.steps.len(), "step"), seconds(took))));
    }
    if let Some(found) = &made.findings {
        let mut found: Vec<String> =
            found.iter().filter(|(_, count)| **count > 0).map(|(severity, count)| format!("{count} {}", severity.to_lowercase())).collect();
        found.sort();
        row("scan", Some(if found.is_empty() { "nothing found".to_owned() } else { found.join(", ") }));
    }
    let bills: Vec<&str> = names.iter().filter_map(|name| record.made.get(*name)?.sbom.as_deref()).collect();
    row("sbom", (!bills.is_empty()).then(|| bills.join(", ")));
    rows
}

fn named(names: &[&UnitName]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The images of a release in lines of text.
pub(super) fn text(record: &Record) -> String {
    let mut out = String::new();
    for (names, uri, made) in images(record) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  image of {}", named(&names));
        for (name, text) in rows(record, &names, uri, made) {
            let _ = writeln!(out, "    {name:<6} {text}");
        }
        for layer in made.layers.iter().filter(|layer| !layer.of_base) {
            let _ = writeln!(out, "    layer  {:>9}  {}", bytes(layer.bytes), layer.by);
        }
        for step in &made.steps {
            let took = if step.cached { "cached".to_owned() } else { seconds(step.seconds) };
            let _ = writeln!(out, "    step   {took:>9}  {}", step.name);
        }
    }
    out
}

/// The images of a release as a section of its page.
pub(super) fn html(record: &Record, out: &mut String) {
    if record.made.is_empty() {
        return;
    }
    out.push_str("<section id=\"images\">\n<h2>What went into its images</h2>\n");
    for (names, uri, made) in images(record) {
        let _ = writeln!(out, "<div class=\"unit\">\n<div class=\"head\"><h3>{}</h3></div>\n<dl>", escaped(&named(&names)));
        for (name, text) in rows(record, &names, uri, made) {
            let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(&text));
        }
        out.push_str("</dl>\n");
        let layers = made.layers.iter().map(|layer| {
            let of = if layer.of_base { "base: " } else { "" };
            (format!("{of}{}", layer.by), bytes(layer.bytes))
        });
        list("size by layer", layers, out);
        let steps = made.steps.iter().map(|step| {
            let took = if step.cached { "cached".to_owned() } else { seconds(step.seconds) };
            (step.name.clone(), took)
        });
        list("time by step", steps, out);
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn list(title: &str, items: impl ExactSizeIterator<Item = (String, String)>, out: &mut String) {
    if items.len() == 0 {
        return;
    }
    let _ = writeln!(out, "<details><summary>{title}</summary><ul class=\"files\">");
    for (text, amount) in items {
        let _ = writeln!(out, "<li><span class=\"mono\">{}</span><span class=\"size\">{}</span></li>", escaped(&text), escaped(&amount));
    }
    out.push_str("</ul></details>\n");
}
