//! The last lines of a run: what is live, why it failed, what to do next. The failure itself is printed by whoever reports errors.

use crate::journal::Record;
use crate::model::Stage;
use crate::plan::Plan;

use super::units::{State, UnitChange, units};

/// So many lines are read by somebody who has been woken up.
pub const LAST_LINES: usize = 15;

/// More units than this are counted.
const NAMED: usize = 6;

/// What is live of each unit, those first that somebody has to look at; if it went well, how long it took, too, and what next. Without
/// a state that is `kept` there is no way back.
#[must_use]
pub fn ending(plan: &Plan, record: Option<&Record>, failed: bool, kept: bool) -> Vec<String> {
    let mut changes = units(plan, record);
    in_order(&mut changes, failed);
    let width = changes.iter().take(NAMED).map(|change| change.name.as_str().len()).max().unwrap_or_default();
    let mut lines: Vec<String> =
        changes.iter().take(NAMED).map(|change| format!("{:<10}  {:<width$}  {}", "live", change.name, change.text())).collect();
    if changes.len() > NAMED {
        lines.push(format!("{:<10}  and {} more: `windlass status`", "live", changes.len() - NAMED));
    }
    if let Some(record) = record.filter(|_| !failed) {
        lines.extend(took(record));
        if kept {
            lines.push(format!("{:<10}  {}", "next", next(record)));
        }
    }
    lines
}

/// Those first that somebody has to look at.
fn in_order(changes: &mut [UnitChange], failed: bool) {
    changes.sort_by_key(|change| change.state);
    if failed && changes.len() > NAMED {
        // What went well can be counted; what has failed, and what is still to come, is what has to be known.
        changes.sort_by_key(|change| (!change.failed, change.state != State::Unsure, change.state != State::Waiting, change.state));
    }
}

fn next(record: &Record) -> String {
    // A rollback goes through them the other way round.
    let last = record.runs.last().and_then(|run| run.stages.iter().max());
    let stage = last.and_then(|last| Stage::ALL.iter().find(|stage| *stage > last));
    match stage {
        // A pipeline goes on by itself; people want the command.
        Some(stage) => format!("`windlass stage {stage} --release {}` goes on", record.release),
        None if record.restores.is_some() => "`windlass history` names the release that `windlass rollback` can go forth to".to_owned(),
        None => "`windlass rollback` goes back to what was live before".to_owned(),
    }
}

/// How long the last run took, and its stages.
fn took(record: &Record) -> Option<String> {
    let run = record.runs.last()?;
    let seconds = (run.ended? - run.started).as_seconds_f64().max(0.0);
    // A stage is as long as its steps, which run side by side, from the first one's start to the last one's end.
    let stages = run.stages.iter().filter_map(|stage| {
        let own: Vec<_> = record.steps.iter().filter(|step| step.stage == Some(*stage) && step.ended >= run.started).collect();
        let from = own.iter().map(|step| step.ended - time::Duration::seconds_f64(step.seconds)).min()?;
        let to = own.iter().map(|step| step.ended).max()?;
        Some(format!("{stage} {}", super::seconds((to - from).as_seconds_f64().max(0.0))))
    });
    let stages = stages.collect::<Vec<_>>().join(", ");
    let stages = if stages.is_empty() { String::new() } else { format!(": {stages}") };
    Some(format!("{:<10}  {}{stages}", "took", super::seconds(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnitKind;

    #[test]
    fn what_has_failed_is_among_those_that_are_named() {
        let change = |name: &str, state, failed| UnitChange {
            kind: UnitKind::Service,
            name: name.parse().unwrap(),
            before: String::new(),
            after: String::new(),
            state,
            failed,
        };
        let new = ["a", "b", "c"].map(|name| change(name, State::Changed, false));
        let waiting = ["d", "e", "f", "g", "h", "i"].map(|name| change(name, State::Waiting, name == "i"));
        let mut changes = [&new[..], &waiting[..], &[change("db", State::Untouched, true)]].concat();
        in_order(&mut changes, true);
        let names: Vec<&str> = changes.iter().take(NAMED).map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["i", "db", "d", "e", "f", "g"]);
    }
}
