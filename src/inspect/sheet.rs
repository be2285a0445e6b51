//! The checks of one thing, as they come.

use crate::model::{Check, Verdict};

/// The checks of one thing.
#[derive(Debug)]
pub(super) struct Sheet {
    /// What they are about, as people read it.
    on: String,
    pub(super) checks: Vec<Check>,
}

impl Sheet {
    pub(super) fn of(on: impl Into<String>) -> Self {
        Self { on: on.into(), checks: Vec::new() }
    }

    /// It is as it should be.
    pub(super) fn ok(&mut self, check: &'static str, seen: impl Into<String>) {
        self.add(check, Verdict::Ok, seen, None);
    }

    /// It could be better, or is a choice that should be known.
    pub(super) fn warn(&mut self, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) {
        self.add(check, Verdict::Warn, seen, Some(cure.into()));
    }

    /// It is open, readable or lost to whom it should not be.
    pub(super) fn fail(&mut self, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) {
        self.add(check, Verdict::Fail, seen, Some(cure.into()));
    }

    /// Nobody knows, and why.
    pub(super) fn unseen(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, Verdict::NotSeen, why, None);
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, seen: impl Into<String>, cure: Option<String>) {
        self.checks.push(Check { check: check.to_owned(), on: self.on.clone(), verdict, seen: seen.into(), cure });
    }
}
