//! How far steps are, and the parts of them.

use std::sync::atomic::Ordering;

use super::{Event, Events, Step};

/// So many progress events may wait; more are dropped, so that a slow terminal costs no memory.
pub(super) const WAITING: usize = 256;

impl Events {
    /// Sends how far a step is, unless too much of that waits already.
    pub fn progress(&self, step: &Step, done: u64, total: u64, of: &'static str) {
        self.how_far(step, None, done, total, of);
    }

    /// Sends how far a part of a step is; it is over when all of it is done.
    pub fn part(&self, step: &Step, part: &str, done: u64, total: u64, of: &'static str) {
        self.how_far(step, Some(part.to_owned()), done, total, of);
    }

    /// Says that a part of a step begins, of which nobody knows how much it is. Never dropped, as its end must not be.
    pub fn part_begins(&self, step: &Step, part: &str) {
        self.must(step, part, 0, 0);
    }

    /// Says that it is over.
    pub fn part_ends(&self, step: &Step, part: &str) {
        self.must(step, part, 1, 1);
    }

    /// Sends a line that a part of a step has printed: as [`Events::output_aside`], and it stands beside the part for as long as that runs.
    pub fn part_output(&self, step: &Step, part: &str, line: &str) {
        self.said(step, Some(part.to_owned()), line, true);
    }

    fn must(&self, step: &Step, part: &str, done: u64, total: u64) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.send(Event::Progress { step: step.clone(), part: Some(part.to_owned()), done, total, of: "steps" });
    }

    fn how_far(&self, step: &Step, part: Option<String>, done: u64, total: u64, of: &'static str) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.send(Event::Progress { step: step.clone(), part, done, total, of });
    }
}
