//! Reports: what the tests and the coverage of a build say, read from the files that its tools have written.

use std::path::Path;

use super::files;
use super::log::Log;
use super::order::Order;
use super::report_coverage::coverage;
use super::report_tests::{Case, cases, junit};
use super::result::ReportResult;
use super::shell::Shell;
use super::spec::{ReportFormat, ReportGroup};

/// Reads all report groups. A file that cannot be read, or a group without files, is a warning; nothing of it fails a build.
pub(super) async fn collect(
    order: &Order,
    source: &Path,
    groups: &[ReportGroup],
    shell: &mut Shell,
    log: &Log<'_>,
) -> Vec<(String, ReportResult)> {
    let mut results = Vec::new();
    for group in groups {
        let mut set = group.files.clone();
        let mut texts = vec![group.name.clone(), set.base_directory.clone().unwrap_or_default()];
        texts.extend(set.files.iter().cloned());
        let Ok(mut expanded) = shell.expand(&texts, |line| log.output(line)).await else {
            log.warn(format!("the shell could not expand the paths of the report {}", group.name));
            continue;
        };
        set.files = expanded.split_off(2);
        set.base_directory = expanded.pop().filter(|base| !base.is_empty());
        let given = expanded.pop().unwrap_or_default();
        // A group of one's own is named by its ARN; any other belongs to the project.
        let name = if given.starts_with("arn:") { given } else { format!("{}-{given}", order.project) };
        let discard = std::mem::take(&mut set.discard_paths);
        let found = match files::find(source, &set, None, &|_| {}) {
            Ok(found) if !found.is_empty() => found,
            _ => {
                log.warn(format!("the report {name}: no file matches {}", set.files.join(", ")));
                continue;
            }
        };
        let mut result = ReportResult { format: group.format.api_name().to_owned(), ..ReportResult::default() };
        let mut all: Vec<Case> = Vec::new();
        for (file, path) in found {
            let text = std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            match text.map_err(|error| error.to_string()).and_then(|text| read(group.format, &text)) {
                Ok(Content::Tests(cases)) => {
                    result.total += cases.len() as u64;
                    result.failed += cases.iter().filter(|case| case.failure.is_some()).count() as u64;
                    all.extend(cases);
                }
                Ok(Content::Lines { covered, total }) => {
                    result.total += total;
                    result.failed += total.saturating_sub(covered);
                }
                Err(why) => log.warn(format!("the report {name}: {file} is no {}: {why}", group.format.api_name())),
            }
            result.files.push(if discard { file.rsplit('/').next().unwrap_or(&file).to_owned() } else { file });
        }
        if let Some(folder) = order.reports.as_ref().filter(|_| !all.is_empty())
            && let Err(error) = write(folder, &name, &junit(&name, &all))
        {
            log.warn(format!("the report {name} could not be written to {}: {error}", folder.display()));
        }
        results.push((name, result));
    }
    results
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("{}.xml", name.replace(['/', ':'], "-"))), text)
}

/// What a report's file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// Test cases.
    Tests(Vec<Case>),
    /// Lines of code, and how many of them ran.
    Lines { covered: u64, total: u64 },
}

pub(super) fn read(format: ReportFormat, text: &str) -> Result<Content, String> {
    let text = text.trim_start_matches('\u{feff}');
    match format {
        ReportFormat::CloverXml | ReportFormat::CoberturaXml | ReportFormat::JacocoXml | ReportFormat::SimpleCov => {
            coverage(format, text).map(|(covered, total)| Content::Lines { covered, total })
        }
        _ => cases(format, text).map(Content::Tests),
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
