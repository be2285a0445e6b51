//! Plain lines, for logs: no cursor control, one line for each event that matters, a sign of life in between.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::event::{Event, Outcome, Step};
use crate::model::CiSystem;

use super::group::Groups;

/// A log in which nothing stands for so long looks dead: CI systems and people stop such runs.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

/// So much of what a part has printed is in a sign of life.
const WIDEST: usize = 160;

pub(super) struct Line {
    color: bool,
    last: Instant,
    running: HashMap<Step, Running>,
    groups: Groups,
    started: Instant,
}

struct Running {
    since: Instant,
    progress: Option<(u64, u64, &'static str)>,
    /// What a part of it has printed last.
    said: Option<String>,
}

impl Line {
    pub(super) fn new(color: bool, system: Option<CiSystem>) -> Self {
        let now = Instant::now();
        Self { color, last: now, running: HashMap::new(), groups: Groups::of(system), started: now }
    }

    pub(super) fn event(&mut self, event: &Event, out: &mut impl Write) -> io::Result<()> {
        match event {
            Event::StepStarted { step } => {
                self.running.insert(step.clone(), Running { since: Instant::now(), progress: None, said: None });
                return Ok(());
            }
            Event::Progress { part: Some(_), .. } => return Ok(()),
            Event::Progress { step, done, total, of, .. } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.progress = Some((*done, *total, of));
                }
                return Ok(());
            }
            Event::Output { step, part: Some(part), line, .. } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.said = Some(format!("{part}: {}", without_control(line)).chars().take(WIDEST).collect());
                }
                return Ok(());
            }
            Event::StepFinished { step, .. } => drop(self.running.remove(step)),
            _ => {}
        }
        match event {
            Event::ReleaseStarted { .. } | Event::StageFinished { .. } => self.groups.close(out)?,
            _ => {}
        }
        if let Some(text) = text(event, self.color) {
            self.last = Instant::now();
            if let Event::StepFinished { step, .. } | Event::Output { step, .. } = event {
                self.groups.open(step.stage, out)?;
            }
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    /// Closes what is open.
    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.groups.close(out)
    }

    /// Says what is running, if nothing has been said for a while.
    pub(super) fn beat(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.last = Instant::now();
        if self.running.is_empty() {
            writeln!(out, "{:<10}  … {} s", "windlass", self.started.elapsed().as_secs())?;
        }
        for (step, running) in &self.running {
            let progress = running.progress.map_or(String::new(), |progress| format!(", {}", amount(progress)));
            let said = running.said.as_ref().map_or(String::new(), |said| format!(", {said}"));
            writeln!(out, "{}… {} s{progress}{said}", prefix(step), running.since.elapsed().as_secs())?;
        }
        Ok(())
    }
}

/// So much of so much.
pub(super) fn amount((done, total, of): (u64, u64, &str)) -> String {
    match (of, total) {
        ("B", 0) => super::bytes(done),
        ("B", total) => format!("{} of {}", super::bytes(done), super::bytes(total)),
        (of, 0) => format!("{done} {of}"),
        (of, total) => format!("{done} of {total} {of}"),
    }
}

/// What stands before whatever a step says: its stage, its unit, its action.
fn prefix(step: &Step) -> String {
    let stage = step.stage.map_or("prepare", crate::model::Stage::name);
    format!("{stage:<10}  {} {}: ", step.unit, step.action)
}

/// The line of an event; none for what is shown otherwise.
pub(super) fn text(event: &Event, color: bool) -> Option<String> {
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    Some(match event {
        Event::ReleaseStarted { release, commit } => {
            let commit = commit.as_ref().map_or(String::new(), |commit| format!(" of commit {commit}"));
            format!("{:<10}  {release}{commit}", "release")
        }
        Event::StepFinished { step, outcome, detail, seconds } => {
            let detail = match outcome {
                Outcome::Done => detail.clone(),
                Outcome::Unchanged => format!("unchanged, {detail}"),
                Outcome::Failed => format!("{} {}", paint("1;31", "FAILED"), detail.lines().next().unwrap_or_default()),
            };
            format!("{}{detail} ({})", prefix(step), super::seconds(*seconds))
        }
        Event::Output { aside: true, .. } => return None,
        Event::Output { step, line, .. } => {
            let stage = step.stage.map_or("prepare", crate::model::Stage::name);
            format!("{stage:<10}  {} {}", paint("2", &format!("{} |", step.unit)), without_control(line))
        }
        Event::Note { text } => format!("{:<10}  {text}", "note"),
        Event::StageFinished { stage, outcome: Outcome::Unchanged, .. } => format!("{stage:<10}  nothing to do"),
        Event::StageStarted { .. } | Event::StageFinished { .. } | Event::StepStarted { .. } | Event::Progress { .. } => return None,
    })
}

/// A build's own colours and cursor movements do not belong in a log.
pub(super) fn without_control(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // ECMA-48: a control sequence ends with a character from `@` to `~`.
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stage;

    #[test]
    fn a_step_is_one_line_when_it_ends_and_a_sign_of_life_before() {
        let mut line = Line::new(false, None);
        let mut out = Vec::new();
        let step = Step::of(Stage::Assets, "web", "upload");
        line.event(&Event::StepStarted { step: step.clone() }, &mut out).unwrap();
        line.event(&Event::Progress { step: step.clone(), part: None, done: 1_400, total: 2_000, of: "B" }, &mut out).unwrap();
        line.beat(&mut out).unwrap();
        assert!(out.is_empty(), "too early to say anything");
        line.last = Instant::now().checked_sub(HEARTBEAT).unwrap();
        line.beat(&mut out).unwrap();
        let finished = Event::StepFinished { step, outcome: Outcome::Done, detail: "2 new".into(), seconds: 1.5 };
        line.event(&finished, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "assets      web upload: … 0 s, 1.4 kB of 2.0 kB\nassets      web upload: 2 new (1.5 s)\n"
        );
    }

    #[test]
    fn a_builds_colours_are_taken_out() {
        assert_eq!(without_control("\x1b[32mok\x1b[0m\tdone\x07"), "ok\tdone");
    }
}
