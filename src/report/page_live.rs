//! What is live of each unit, before and after, on the page of a release: with the files and settings that differ.

use std::fmt::Write as _;

use crate::journal::Record;
use crate::model::{UnitKind, UnitName};
use crate::plan::Plan;
use crate::site::plan::{Change, SitePlan};

use super::page::{Page, escaped};
use super::units::{State, UnitChange, units};
use super::{bytes, count};

/// More files of a site than this are counted.
const FILES: usize = 200;

/// What was live of each unit, and what is.
pub(super) fn live(page: &Page<'_>, out: &mut String) {
    let mut changes = page.plan.map_or_else(Vec::new, |plan| units(plan, page.record));
    if let Some(record) = page.record {
        changes.extend(recorded(record).into_iter().filter(|other| !changes.iter().any(|one| one.name == other.name)).collect::<Vec<_>>());
    }
    if changes.is_empty() {
        return;
    }
    out.push_str("<section id=\"live\">\n<h2>What is live</h2>\n");
    for change in &changes {
        let (class, word) = match change.state {
            State::Changed => ("good", "new"),
            State::Unchanged => ("calm", "unchanged"),
            State::Waiting | State::Untouched => ("wait", "still as before"),
            State::Unsure => ("bad", "has to be looked at"),
        };
        let _ = writeln!(
            out,
            "<div class=\"unit\">\n<div class=\"head\"><h3>{}</h3><span class=\"kind\">{}</span><span class=\"badge {class}\">{word}</span></div>",
            escaped(change.name.as_str()),
            change.kind
        );
        if change.state == State::Unchanged {
            let _ = writeln!(out, "<div class=\"kind\">{}</div>", escaped(&change.before));
        } else {
            let now = if change.state == State::Changed { "now" } else { "was to be" };
            let _ = writeln!(
                out,
                "<div class=\"change\"><div><small>before</small>{}</div><div class=\"arrow\">→</div><div><small>{now}</small>{}</div></div>",
                escaped(&change.before),
                escaped(&change.after)
            );
        }
        if let Some(plan) = page.plan {
            differences(plan, &change.name, change.kind, out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

/// What the record says of units that are in no plan that was kept.
fn recorded(record: &Record) -> Vec<UnitChange> {
    let change = |kind, name: &UnitName, before: Option<String>, after: String| UnitChange {
        kind,
        name: name.clone(),
        before: before.unwrap_or_else(|| "nothing recorded".to_owned()),
        after,
        state: State::Changed,
        failed: false,
    };
    let Record { before, after, release, .. } = record;
    let revision = |arn: &str| arn.rsplit('/').next().unwrap_or(arn).to_owned();
    let mut all = Vec::new();
    for (name, live) in after.migrations.iter().filter(|(_, live)| live.release == *release) {
        let of = |image: &crate::model::ImageUri| format!("migrated with {}", image.digest.short());
        all.push(change(UnitKind::Migration, name, before.migrations.get(name).map(|live| of(&live.image)), of(&live.image)));
    }
    for (name, live) in after.services.iter().filter(|(_, live)| live.release == *release) {
        let of = |live: &crate::journal::LiveService| format!("{} ({})", revision(&live.revision), live.image.digest.short());
        all.push(change(UnitKind::Service, name, before.services.get(name).map(of), of(live)));
    }
    for (name, live) in after.sites.iter().filter(|(_, live)| live.release == *release) {
        let was = before.sites.get(name).map(|live| format!("release {}", live.release));
        all.push(change(UnitKind::Site, name, was, format!("release {}", live.release)));
    }
    all
}

/// Files of a site, settings of a service.
fn differences(plan: &Plan, name: &UnitName, kind: UnitKind, out: &mut String) {
    match kind {
        UnitKind::Site => {
            if let Some(site) = plan.sites.get(name).filter(|site| !site.is_empty()) {
                files(site, out);
            }
        }
        UnitKind::Service => {
            let Some(service) = plan.services.get(name).filter(|service| !service.changes.is_empty()) else { return };
            let _ =
                writeln!(out, "<details><summary>{} in its revision</summary><ul class=\"files\">", count(service.changes.len(), "change"));
            for change in &service.changes {
                let (class, sign) = sign(change.from.is_some(), change.to.is_some());
                let value = [&change.from, &change.to].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" → ");
                item(class, sign, &format!("{}: {value}", change.what), "", out);
            }
            out.push_str("</ul></details>\n");
        }
        UnitKind::Migration => {
            let pending = plan.migrations.get(name).and_then(|migration| migration.pending.as_ref()).filter(|pending| !pending.is_empty());
            let Some(pending) = pending else { return };
            let _ = writeln!(out, "<details><summary>{} pending</summary><ul class=\"files\">", count(pending.len(), "migration"));
            for one in pending {
                let (class, risks) = if one.risks.is_empty() { ("good", String::new()) } else { ("wait", one.risks.join("; ")) };
                item(class, if one.risks.is_empty() { "+" } else { "!" }, &one.name, &risks, out);
            }
            out.push_str("</ul></details>\n");
        }
    }
}

fn sign(before: bool, after: bool) -> (&'static str, &'static str) {
    match (before, after) {
        (false, _) => ("good", "+"),
        (true, true) => ("wait", "~"),
        (true, false) => ("bad", "-"),
    }
}

fn item(class: &str, sign: &str, text: &str, size: &str, out: &mut String) {
    let size = if size.is_empty() { String::new() } else { format!("<span class=\"size\">{}</span>", escaped(size)) };
    let _ = writeln!(out, "<li><span class=\"sign {class}\">{sign}</span><span class=\"mono\">{}</span>{size}</li>", escaped(text));
}

fn files(site: &SitePlan, out: &mut String) {
    let written: Vec<_> = site.upload.iter().chain(&site.publish).collect();
    let total: u64 = written.iter().filter(|file| file.change != Change::Headers).map(|file| file.size).sum();
    let gone = if site.prune.is_empty() { String::new() } else { format!(", {} deleted", count(site.prune.len(), "file")) };
    let _ = writeln!(
        out,
        "<details><summary>{}, {}{gone}; {} unchanged</summary><ul class=\"files\">",
        count(written.len(), "changed file"),
        bytes(total),
        site.unchanged
    );
    for file in written.iter().take(FILES) {
        let (class, sign) = sign(file.change != Change::New, true);
        let amount = if file.change == Change::Headers { "headers".to_owned() } else { bytes(file.size) };
        item(class, sign, file.key.as_str(), &amount, out);
    }
    for file in site.prune.iter().take(FILES) {
        item("bad", "-", file.key.as_str(), "", out);
    }
    out.push_str("</ul>\n");
    let left = written.len().saturating_sub(FILES) + site.prune.len().saturating_sub(FILES);
    if left > 0 {
        let _ = writeln!(out, "<p class=\"kind\">and {left} more</p>");
    }
    out.push_str("</details>\n");
}
