//! Coverage reports: lines, and how many of them ran. Clover, Cobertura, `JaCoCo` and `SimpleCov`.

use super::report_tests::{Attributes, Visit, walk};
use super::spec::ReportFormat;

/// Covered lines and all lines.
pub(super) fn coverage(format: ReportFormat, text: &str) -> Result<(u64, u64), String> {
    match format {
        ReportFormat::SimpleCov => simplecov(text),
        ReportFormat::JacocoXml => jacoco(text),
        ReportFormat::CoberturaXml => cobertura(text),
        _ => clover(text),
    }
}

fn number(attributes: &Attributes, name: &str) -> Option<u64> {
    attributes.get(name)?.parse().ok()
}

/// The project's own `metrics` come right below `project`; without them the lines are counted.
fn clover(text: &str) -> Result<(u64, u64), String> {
    let mut stated = None;
    let mut counted = (0, 0);
    walk(text, |visit| {
        let Visit::Start { name, attributes, depth } = visit else { return };
        match name {
            "metrics" if depth == 3 => {
                stated = number(&attributes, "coveredstatements").zip(number(&attributes, "statements")).or(stated);
            }
            "line" => {
                counted.1 += 1;
                counted.0 += u64::from(number(&attributes, "count").unwrap_or_default() > 0);
            }
            _ => {}
        }
    })?;
    Ok(stated.unwrap_or(counted))
}

/// The root says `lines-covered` and `lines-valid`; older writers leave them out. A method's lines come again in its class.
fn cobertura(text: &str) -> Result<(u64, u64), String> {
    let mut stated = None;
    let mut counted = (0, 0);
    let mut inside = 0_u32;
    walk(text, |visit| match visit {
        Visit::Start { name: "coverage", attributes, depth: 1 } => {
            stated = number(&attributes, "lines-covered").zip(number(&attributes, "lines-valid"));
        }
        Visit::Start { name: "method", .. } => inside += 1,
        Visit::End { name: "method" } => inside = inside.saturating_sub(1),
        Visit::Start { name: "line", attributes, .. } if inside == 0 => {
            counted.1 += 1;
            counted.0 += u64::from(number(&attributes, "hits").unwrap_or_default() > 0);
        }
        _ => {}
    })?;
    Ok(stated.unwrap_or(counted))
}

/// The sum of a report is in the counters right below its root.
fn jacoco(text: &str) -> Result<(u64, u64), String> {
    let mut sum = None;
    walk(text, |visit| {
        if let Visit::Start { name: "counter", attributes, depth: 2 } = visit
            && attributes.get("type").is_some_and(|kind| kind == "LINE")
        {
            sum = number(&attributes, "covered").zip(number(&attributes, "missed"));
        }
    })?;
    let (covered, missed) = sum.unwrap_or_default();
    Ok((covered, covered + missed))
}

/// `.resultset.json`: for each command's name a `coverage` of files, each a list with `null` for lines that are no code, or a mapping
/// with such a list under `lines`. The JSON formatter has the same without the command's name.
fn simplecov(text: &str) -> Result<(u64, u64), String> {
    let document: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let root = document.as_object().ok_or("a mapping was expected")?;
    let own = document.get("coverage").and_then(serde_json::Value::as_object);
    let runs: Vec<_> = match own {
        Some(files) => vec![files],
        None => root.values().filter_map(|run| run["coverage"].as_object()).collect(),
    };
    if runs.is_empty() {
        return Err("it has no `coverage`".to_owned());
    }
    // Of a file that ran several times, a line is covered if it was once.
    let mut files: std::collections::BTreeMap<&String, Vec<Option<bool>>> = std::collections::BTreeMap::new();
    for (file, lines) in runs.into_iter().flatten() {
        let lines = lines.as_array().or_else(|| lines["lines"].as_array());
        let known = files.entry(file).or_default();
        for (index, line) in lines.into_iter().flatten().enumerate() {
            if known.len() <= index {
                known.resize(index + 1, None);
            }
            if let Some(hits) = line.as_u64() {
                known[index] = Some(known[index].unwrap_or(false) || hits > 0);
            }
        }
    }
    let lines: Vec<bool> = files.into_values().flatten().flatten().collect();
    Ok((lines.iter().filter(|covered| **covered).count() as u64, lines.len() as u64))
}
