//! A bar or a spinner for each step that runs, lines for those that have ended.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{Event, Step};

use super::line;

/// Longer than this, a build's line would wrap and the bars would smear.
const WIDEST: usize = 60;

pub(super) struct Live {
    color: bool,
    all: MultiProgress,
    running: HashMap<Step, ProgressBar>,
    /// The parts of steps, each below its step.
    parts: HashMap<(Step, String), ProgressBar>,
}

impl Live {
    pub(super) fn new(color: bool) -> Self {
        Self { color, all: MultiProgress::new(), running: HashMap::new(), parts: HashMap::new() }
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
            Event::Output { aside: true, .. } => return Ok(()),
            Event::Output { step, line, .. } => {
                if let Some(bar) = self.running.get(step) {
                    bar.set_message(line::without_control(line).trim().chars().take(WIDEST).collect::<String>());
                }
                return Ok(());
            }
            Event::StepFinished { step, .. } => {
                for ((_, _), bar) in self.parts.extract_if(|(of, _), _| of == step) {
                    bar.finish_and_clear();
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

    /// A bar for each part, until all of it is done.
    fn part(&mut self, step: &Step, part: &str, (done, total, of): (u64, u64, &str)) {
        let key = (step.clone(), part.to_owned());
        if total > 0 && done >= total {
            if let Some(bar) = self.parts.remove(&key) {
                bar.finish_and_clear();
            }
            return;
        }
        let Some(above) = self.running.get(step) else { return };
        let bar = self.parts.entry(key).or_insert_with(|| {
            let bar = ProgressBar::new(total).with_style(style("    {prefix} [{bar:30}] {wide_msg}"));
            let bar = self.all.insert_after(above, bar);
            bar.set_prefix(part.to_owned());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(line::amount((done, total, of)));
    }

    pub(super) fn end(&self) {
        for bar in self.parts.values().chain(self.running.values()) {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
