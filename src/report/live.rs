//! A bar or a spinner for each step that runs, lines for those that have ended.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{Event, Step};

use super::line;

/// Longer than this, a build's line would wrap and the bars would smear.
const WIDEST: usize = 60;
/// The name of a part, of which a Dockerfile's may be long.
const NAME: usize = 48;

pub(super) struct Live {
    color: bool,
    all: MultiProgress,
    running: HashMap<Step, ProgressBar>,
    /// The parts of steps that run, each below its step, in the order in which they began.
    parts: Vec<Part>,
}

struct Part {
    of: Step,
    name: String,
    bar: ProgressBar,
}

impl Live {
    pub(super) fn new(color: bool) -> Self {
        Self { color, all: MultiProgress::new(), running: HashMap::new(), parts: Vec::new() }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step } => {
                let bar = self.all.add(ProgressBar::new_spinner().with_style(style("{spinner} {prefix} {wide_msg} {elapsed}")));
                bar.set_prefix(format!("{} {}", step.unit, step.action));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.running.insert(step.clone(), bar);
                return Ok(());
            }
            Event::Progress { step, part: Some(part), done, total, of } => {
                self.part(step, part, (*done, *total, of));
                return Ok(());
            }
            Event::Progress { step, part: None, done, total, of } => {
                if let Some(bar) = self.running.get(step) {
                    if *total > 0 {
                        bar.set_style(style("{spinner} {prefix} [{bar:30}] {wide_msg} {elapsed}"));
                        bar.set_length(*total);
                        bar.set_position(*done);
                    }
                    bar.set_message(line::amount((*done, *total, of)));
                }
                return Ok(());
            }
            Event::Output { step, part: Some(part), line, .. } => {
                if let Some(at) = self.place(step, part) {
                    self.parts[at].bar.set_message(short(line, WIDEST));
                }
                return Ok(());
            }
            Event::Output { aside: true, .. } => return Ok(()),
            Event::Output { step, line, .. } => {
                if let Some(bar) = self.running.get(step) {
                    bar.set_message(short(line, WIDEST));
                }
                return Ok(());
            }
            Event::StepFinished { step, .. } => {
                for part in self.parts.extract_if(.., |part| part.of == *step) {
                    part.bar.finish_and_clear();
                }
                if let Some(bar) = self.running.remove(step) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        match line::text(event, self.color) {
            Some(text) => self.all.println(text),
            None => Ok(()),
        }
    }

    fn place(&self, step: &Step, part: &str) -> Option<usize> {
        self.parts.iter().position(|one| one.of == *step && one.name == part)
    }

    /// A bar for each part, or a spinner where nobody knows how much it is, until all of it is done.
    fn part(&mut self, step: &Step, part: &str, (done, total, of): (u64, u64, &str)) {
        let place = self.place(step, part);
        if total > 0 && done >= total {
            if let Some(at) = place {
                self.parts.remove(at).bar.finish_and_clear();
            }
            return;
        }
        let Some(above) = self.running.get(step) else { return };
        let at = place.unwrap_or_else(|| {
            let above = self.parts.iter().rfind(|one| one.of == *step).map_or(above, |last| &last.bar);
            let bar =
                self.all.insert_after(above, ProgressBar::new_spinner().with_style(style("    {spinner} {prefix} {wide_msg} {elapsed}")));
            bar.set_prefix(short(part, NAME));
            bar.enable_steady_tick(Duration::from_millis(120));
            self.parts.push(Part { of: step.clone(), name: part.to_owned(), bar });
            self.parts.len() - 1
        });
        let bar = &self.parts[at].bar;
        if total > 0 {
            bar.set_style(style("    {prefix} [{bar:30}] {wide_msg}"));
            bar.set_length(total);
            bar.set_position(done);
        }
        if total > 0 || done > 0 {
            bar.set_message(line::amount((done, total, of)));
        }
    }

    pub(super) fn end(&self) {
        for bar in self.parts.iter().map(|part| &part.bar).chain(self.running.values()) {
            bar.finish_and_clear();
        }
    }
}

/// The beginning of a line, as it may stand in one of ours.
fn short(line: &str, most: usize) -> String {
    let line = line::without_control(line);
    let line = line.trim();
    if line.chars().count() > most { line.chars().take(most - 1).chain(['…']).collect() } else { line.to_owned() }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
