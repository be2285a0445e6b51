//! Releases as people read them, a few lines each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::event::Outcome;
use crate::journal::Record;

/// A release, what it came to, who ran it where, and the units that it changed.
#[must_use]
pub fn history_text(records: &[Record]) -> String {
    let mut out = String::new();
    if records.is_empty() {
        out.push_str("no release is recorded\n");
    }
    for record in records {
        // Writing to a String cannot fail.
        let _ = write(record, &mut out);
    }
    out
}

/// One release with its steps, stage by stage, what failed of it, and what went into its images.
#[must_use]
pub fn release_text(record: &Record) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(record, &mut out);
    for (name, url) in record.runs.last().iter().flat_map(|run| &run.links) {
        let _ = writeln!(out, "    {name}: {url}");
    }
    for step in &record.steps {
        let stage = step.stage.map_or("prepare", crate::model::Stage::name);
        let failed = if step.outcome == Outcome::Failed { "FAILED " } else { "" };
        let _ = writeln!(
            out,
            "  {stage:<10}  {} {}: {failed}{} ({})",
            step.unit,
            step.action,
            super::first_line(&step.detail),
            super::seconds(step.seconds)
        );
        if let Some(hint) = step.why.as_ref().and_then(|why| why.hint.as_ref()) {
            let _ = writeln!(out, "    hint: {hint}");
        }
        for line in &step.log {
            let _ = writeln!(out, "    | {}", super::line::without_control(line));
        }
    }
    out + &super::images::text(record)
}

fn write(record: &Record, out: &mut String) -> std::fmt::Result {
    let commit = record.commit.as_ref().map_or("no commit".to_owned(), |commit| format!("commit {}", commit.short()));
    let dirty = if record.dirty { " with changes" } else { "" };
    let back = record.restores.as_ref().map_or(String::new(), |to| format!(", back to {to}"));
    let promoted = record.promotes.as_ref().map_or(String::new(), |of| format!(", release {} of {}", of.release, of.environment));
    writeln!(out, "{}  {}  {commit}{dirty}{back}{promoted}", record.release, ending(record))?;
    if let Some(run) = record.runs.last() {
        let runs = if record.runs.len() > 1 { format!(", run {} of it", record.runs.len()) } else { String::new() };
        let pipeline = run.pipeline.as_ref().map_or(String::new(), |pipeline| format!(", {pipeline}"));
        let took =
            run.ended.map_or(String::new(), |ended| format!(", {}", super::seconds((ended - run.started).as_seconds_f64().max(0.0))));
        writeln!(out, "    {} by {} at {}{pipeline}{took}{runs}", minute(run.started), run.by, run.at)?;
        if let Some(failure) = &run.failure {
            writeln!(out, "    ! {}", failure.lines().next().unwrap_or_default())?;
        }
    }
    let changed = changed(record);
    if !changed.is_empty() {
        writeln!(out, "    {}", changed.join(", "))?;
    }
    Ok(())
}

fn ending(record: &Record) -> String {
    match record.runs.last().map(|run| (run.exit, run.ended)) {
        Some((Some(0), _)) => "done".to_owned(),
        Some((Some(exit), _)) => format!("failed ({exit})"),
        Some((None, _)) => "under way or killed".to_owned(),
        None => "not begun".to_owned(),
    }
}

fn minute(time: OffsetDateTime) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]Z");
    time.format(format).unwrap_or_default()
}

/// The units that steps have changed, and what came of each last.
fn changed(record: &Record) -> Vec<String> {
    let done = record.steps.iter().filter(|step| step.stage.is_some() && step.outcome == Outcome::Done);
    let mut units = BTreeMap::new();
    for step in done {
        let (at, what) = match step.action.as_str() {
            "publish" => ("publish", "published"),
            "roll" => ("roll", "rolled"),
            "roll back" => ("roll", "rolled back"),
            "migrate" => ("migrate", "migrated"),
            _ => continue,
        };
        units.insert((&step.unit, at), what);
    }
    units.into_iter().map(|((unit, _), what)| format!("{unit} {what}")).collect()
}
