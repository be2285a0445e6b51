//! The page of a release: one file of HTML that asks for nothing else, for people who were not there.
//!
//! It is made of the record alone, and of the plan where one is kept: the same page can be made long after the run. Nothing in it is
//! a program, and its policy forbids any; every text is escaped.

use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::event::{Outcome, StepRan, Why};
use crate::journal::{Record, Run};
use crate::model::Stage;
use crate::plan::Plan;

use super::line::without_control;
use super::page_live::live;
use super::seconds;

/// What a page is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// What was run: "release", "stage assets".
    pub verb: &'a str,
    /// The record; none where nothing was begun.
    pub record: Option<&'a Record>,
    /// What was to be done, if it is known.
    pub plan: Option<&'a Plan>,
    /// The steps of a run without a record.
    pub steps: &'a [StepRan],
    /// Why it failed, if it did.
    pub failure: Option<&'a Why>,
}

/// The page.
#[must_use]
pub fn page(page: &Page<'_>) -> String {
    let mut body = String::new();
    let title = title(page);
    head(page, &title, &mut body);
    failures(page, &mut body);
    live(page, &mut body);
    if let Some(record) = page.record {
        super::images::html(record, &mut body);
    }
    timeline(page, &mut body);
    runs(page, &mut body);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}<footer>windlass {}</footer>\n</main>\n</body>\n</html>\n",
        escaped(&title),
        include_str!("page.css"),
        env!("CARGO_PKG_VERSION")
    )
}

fn title(page: &Page<'_>) -> String {
    let of = page.record.map(|record| (record.app.to_string(), record.environment.clone()));
    let of = of.or_else(|| page.plan.map(|plan| (plan.app.to_string(), plan.environment.clone())));
    let of = of.map_or(
        String::new(),
        |(app, environment)| {
            if environment.is_empty() { format!("{app}: ") } else { format!("{app} in {environment}: ") }
        },
    );
    let back = page.record.is_some_and(|record| record.restores.is_some());
    match page.record {
        Some(record) if back => format!("{of}rollback {}", record.release),
        Some(record) => format!("{of}release {}", record.release),
        None => format!("{of}{}", page.verb),
    }
}

/// A class of the style, and a word: colour alone says nothing.
fn verdict(page: &Page<'_>) -> (&'static str, String) {
    let run = page.record.and_then(|record| record.runs.last());
    match run.map(|run| (run.exit, run.ended)) {
        _ if page.failure.is_some() => ("bad", format!("failed ({})", page.failure.map_or(1, |why| why.exit))),
        Some((Some(0), _)) => ("good", "done".to_owned()),
        Some((Some(exit), _)) => ("bad", format!("failed ({exit})")),
        Some((None, _)) => ("wait", "under way, or killed".to_owned()),
        None => ("calm", "nothing to do".to_owned()),
    }
}

fn head(page: &Page<'_>, title: &str, out: &mut String) {
    let (class, word) = verdict(page);
    // Writing to a String cannot fail.
    let _ =
        writeln!(out, "<header class=\"{class}\">\n<h1>{}</h1>\n<span class=\"badge {class}\">{}</span>", escaped(title), escaped(&word));
    let run = page.record.and_then(|record| record.runs.last());
    let failure = page.failure.map(|why| why.what.clone()).or_else(|| run.and_then(|run| run.failure.clone()));
    if let Some(failure) = failure {
        let _ = writeln!(out, "<p class=\"lead bad\">{}</p>", escaped(super::first_line(&failure)));
    }
    out.push_str("<dl>\n");
    let mut row = |name: &str, html: String| {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{html}</dd>");
    };
    let link = |name: &str| run.and_then(|run| run.links.get(name)).map(String::as_str);
    let commit = page.record.map(|record| (&record.commit, record.dirty)).or_else(|| page.plan.map(|plan| (&plan.commit, plan.dirty)));
    if let Some((Some(commit), dirty)) = commit {
        let dirty = if dirty { " <span class=\"badge wait\">with changes that are in no commit</span>" } else { "" };
        row("Commit", format!("<code>{}</code>{dirty}", linked(commit.as_str(), link("commit"))));
    }
    if let Some(to) = page.record.and_then(|record| record.restores.as_ref()) {
        row("Back to", format!("<code>{}</code>", escaped(to.as_str())));
    }
    if let Some(run) = run {
        row("Started", stamp(run.started));
        if let Some(ended) = run.ended {
            row("Took", escaped(&seconds((ended - run.started).as_seconds_f64().max(0.0))));
        }
        if !run.by.is_empty() {
            row("By", format!("<code>{}</code>", escaped(&run.by)));
        }
        row("At", place(run));
        if let Some(pipeline) = &run.pipeline {
            row("Pipeline", linked(pipeline, link("pipeline")));
        }
        if let Some(change) = link("change") {
            row("Change", linked(change, Some(change)));
        }
    }
    if let Some(plan) = page.plan {
        let account = plan.account.as_deref().map_or(String::new(), |account| format!("{account}, "));
        row("Account", escaped(&format!("{account}{}", plan.region)));
    }
    out.push_str("</dl>\n</header>\n");
}

fn place(run: &Run) -> String {
    let system = run.system.map_or(String::new(), |system| format!("{system}: "));
    let url = run.links.get("build").map(String::as_str).or(Some(run.at.as_str()));
    format!("{}{}", escaped(&system), linked(&run.at, url))
}

/// A text that leads to `url`, if that is an address of the web.
fn linked(text: &str, url: Option<&str>) -> String {
    match url.filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
        Some(url) => format!("<a href=\"{}\" rel=\"noreferrer\">{}</a>", escaped(url), escaped(text)),
        None => escaped(text),
    }
}

fn stamp(at: OffsetDateTime) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    escaped(&at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default())
}

fn steps<'a>(page: &Page<'a>) -> &'a [StepRan] {
    page.record.map_or(page.steps, |record| &record.steps)
}

/// Why it failed: each failed step of the last run, with the last lines that it printed.
fn failures(page: &Page<'_>, out: &mut String) {
    let since = page.record.and_then(|record| record.runs.last()).map(|run| run.started);
    let failed = steps(page).iter().filter(|step| step.outcome == Outcome::Failed && since.is_none_or(|since| step.ended >= since));
    let failed: Vec<&StepRan> = failed.collect();
    let own = page.failure.filter(|why| failed.iter().all(|step| step.why.as_ref() != Some(why)));
    if failed.is_empty() && own.is_none() {
        return;
    }
    out.push_str("<section id=\"failures\">\n<h2>Why it failed</h2>\n");
    for step in failed {
        let stage = step.stage.map_or("prepare", Stage::name);
        let _ = writeln!(out, "<div class=\"failure\">\n<h3>{}</h3>", escaped(&format!("{stage}: {} {}", step.unit, step.action)));
        match &step.why {
            Some(why) => reason(why, out),
            None => {
                let _ = writeln!(out, "<p>{}</p>", escaped(&step.detail));
            }
        }
        // A build's failure quotes its last lines itself.
        let quoted = |line: &String| step.why.iter().flat_map(|why| &why.causes).any(|cause| cause.contains(line.trim()));
        if step.log.last().is_some_and(|line| !quoted(line)) {
            let _ =
                writeln!(out, "<details open=\"\"><summary>Its last lines</summary><pre>{}</pre></details>", escaped(&step.log.join("\n")));
        }
        out.push_str("</div>\n");
    }
    if let Some(why) = own {
        out.push_str("<div class=\"failure\">\n");
        reason(why, out);
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn reason(why: &Why, out: &mut String) {
    let _ = writeln!(out, "<p>{}</p>", escaped(&why.what));
    for cause in &why.causes {
        // What is aligned by columns stays so.
        let text = escaped(cause);
        let _ = if cause.contains('\n') { writeln!(out, "<pre>{text}</pre>") } else { writeln!(out, "<p>{text}</p>") };
    }
    if let Some(hint) = &why.hint {
        let _ = writeln!(out, "<p class=\"hint\"><strong>Next:</strong> {}</p>", escaped(hint));
    }
}

/// The steps of a stage in one run.
struct OfRun<'a> {
    from: OffsetDateTime,
    seconds: f64,
    steps: Vec<&'a StepRan>,
}

/// The steps by the runs in which they ended, the first run first.
fn by_run<'a>(page: &Page<'_>, steps: &[&'a StepRan]) -> Vec<OfRun<'a>> {
    let starts: Vec<OffsetDateTime> = page.record.map_or_else(Vec::new, |record| record.runs.iter().map(|run| run.started).collect());
    // What comes before the first stage comes before the record, too: a run has it in front of its start.
    let run = |step: &StepRan| {
        let later = starts.iter().filter(|start| **start <= step.ended).count();
        if step.stage.is_none() { later } else { later.max(1) - 1 }
    };
    let mut groups: Vec<(usize, OfRun<'a>)> = Vec::new();
    for step in steps {
        let number = run(step);
        if groups.last().is_none_or(|(last, _)| *last != number) {
            groups.push((number, OfRun { from: began(step), seconds: 0.0, steps: Vec::new() }));
        }
        if let Some((_, group)) = groups.last_mut() {
            group.from = group.from.min(began(step));
            group.steps.push(step);
            let to = group.steps.iter().map(|step| step.ended).max().unwrap_or(group.from);
            group.seconds = (to - group.from).as_seconds_f64().max(0.0);
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The stages with their steps. Each has a scale of its own, in each run: there may be hours between two actions of a pipeline.
fn timeline(page: &Page<'_>, out: &mut String) {
    let all = steps(page);
    if all.is_empty() {
        return;
    }
    out.push_str("<section id=\"timeline\">\n<h2>What was done</h2>\n");
    for stage in std::iter::once(None).chain(Stage::ALL.map(Some)) {
        let own: Vec<&StepRan> = all.iter().filter(|step| step.stage == stage).collect();
        let ran = stage.and_then(|stage| page.record?.stages.get(&stage));
        if own.is_empty() && ran.is_none() {
            continue;
        }
        let runs = by_run(page, &own);
        let took: f64 = runs.iter().map(|run| run.seconds).sum();
        let failed =
            own.last().is_some_and(|step| step.outcome == Outcome::Failed) || ran.is_some_and(|ran| ran.outcome == Outcome::Failed);
        let (class, word) = match (failed, own.is_empty() || ran.is_some_and(|ran| ran.outcome == Outcome::Unchanged)) {
            (true, _) => ("bad", "failed"),
            (false, true) => ("calm", "nothing to do"),
            (false, false) => ("good", "done"),
        };
        let took = if own.is_empty() { String::new() } else { seconds(took) };
        let _ = writeln!(
            out,
            "<div class=\"stage\">\n<div class=\"head\"><h3>{} <span class=\"badge {class}\">{word}</span></h3><span class=\"kind\">{took}</span></div>",
            stage.map_or("prepare", Stage::name)
        );
        for run in &runs {
            for step in &run.steps {
                row(step, run.from, run.seconds.max(0.001), out);
            }
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn began(step: &StepRan) -> OffsetDateTime {
    step.ended - time::Duration::seconds_f64(step.seconds.max(0.0))
}

fn row(step: &StepRan, from: OffsetDateTime, span: f64, out: &mut String) {
    let left = ((began(step) - from).as_seconds_f64().max(0.0) / span * 100.0).min(100.0);
    let width = (step.seconds.max(0.0) / span * 100.0).min(100.0 - left);
    let (class, detail) = match step.outcome {
        Outcome::Done => ("", step.detail.clone()),
        Outcome::Unchanged => ("calm", format!("unchanged, {}", step.detail)),
        Outcome::Failed => ("bad", format!("FAILED: {}", super::first_line(&step.detail))),
    };
    let _ = writeln!(
        out,
        "<div class=\"step\"><span>{}</span><span class=\"track\"><i class=\"{class}\" style=\"left:{left:.1}%;width:{width:.1}%\"></i></span>\
         <span class=\"time\">{}</span><span class=\"detail\">{}</span></div>",
        escaped(&format!("{} {}", step.unit, step.action)),
        seconds(step.seconds),
        escaped(&detail)
    );
}

/// Every run of the release, if there were several.
fn runs(page: &Page<'_>, out: &mut String) {
    let Some(record) = page.record.filter(|record| record.runs.len() > 1) else { return };
    out.push_str("<section id=\"runs\">\n<h2>Its runs</h2>\n");
    for (number, run) in record.runs.iter().enumerate() {
        let stages: Vec<&str> = run.stages.iter().map(|stage| stage.name()).collect();
        let (class, word) = match run.exit {
            Some(0) => ("good", "done".to_owned()),
            Some(exit) => ("bad", format!("failed ({exit})")),
            None => ("wait", "under way, or killed".to_owned()),
        };
        let took = run.ended.map_or(String::new(), |ended| format!(", {}", seconds((ended - run.started).as_seconds_f64().max(0.0))));
        let _ = writeln!(
            out,
            "<div class=\"unit\"><div class=\"head\"><h3>{}. {}</h3><span class=\"badge {class}\">{}</span></div><div class=\"kind\">{}{}, {}</div></div>",
            number + 1,
            escaped(&stages.join(", ")),
            escaped(&word),
            stamp(run.started),
            escaped(&took),
            place(run)
        );
    }
    out.push_str("</section>\n");
}

/// A text as HTML shows it, in elements and in attributes, without a build's colours.
pub(super) fn escaped(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(without_control).collect();
    let mut out = String::with_capacity(text.len());
    for c in lines.join("\n").chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
