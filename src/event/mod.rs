//! What happens during a release, as plain data, and the channel that carries it to whoever listens.
//!
//! Deliberately absent: who listens. A saved stream of events replays in any reporter.

mod progress;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::model::{Failure, Mask, ReleaseId, Stage};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The release has its id: whatever follows belongs to it.
    ReleaseStarted {
        /// The id.
        release: ReleaseId,
        /// The commit's short id, if there is one.
        commit: Option<String>,
    },
    /// A stage begins.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A stage has ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: f64,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        #[serde(flatten)]
        step: Step,
    },
    /// A step has ended.
    StepFinished {
        /// Which.
        #[serde(flatten)]
        step: Step,
        /// How.
        outcome: Outcome,
        /// What came of it, in a few words.
        detail: String,
        /// How long it took.
        seconds: f64,
    },
    /// A line that a step's build or task printed.
    Output {
        /// The step.
        #[serde(flatten)]
        step: Step,
        /// The line without its end.
        line: String,
        /// The part of the step that printed it (an instruction of a Dockerfile); none where that is not told apart.
        #[serde(skip_serializing_if = "Option::is_none")]
        part: Option<String>,
        /// It is kept, and not shown to those who read along: there are others that say enough.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        aside: bool,
    },
    /// How far a step is. May be dropped on the way.
    Progress {
        /// The step.
        #[serde(flatten)]
        step: Step,
        /// The part of it that this is about (a layer, an instruction of a Dockerfile); none for the whole.
        #[serde(skip_serializing_if = "Option::is_none")]
        part: Option<String>,
        /// So much is done.
        done: u64,
        /// Of so much; 0 if unknown. A part is over when all of it is done.
        total: u64,
        /// What is counted: `B` for bytes, or a plural noun.
        of: &'static str,
    },
    /// Something worth knowing that is no step.
    Note {
        /// One sentence.
        text: String,
    },
}

/// How a step or a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// There was nothing to do.
    Unchanged,
    /// It failed.
    Failed,
}

/// A step: what is done to which unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Step {
    /// The stage that it belongs to; none for what comes before the first.
    pub stage: Option<Stage>,
    /// The unit, or what else it is about ("account").
    pub unit: String,
    /// What is done: "build", "upload".
    pub action: &'static str,
}

impl Step {
    /// A step of a stage.
    pub fn of(stage: Stage, unit: &(impl std::fmt::Display + ?Sized), action: &'static str) -> Self {
        Self { stage: Some(stage), unit: unit.to_string(), action }
    }

    /// A step before the first stage.
    pub fn before(unit: &(impl std::fmt::Display + ?Sized), action: &'static str) -> Self {
        Self { stage: None, unit: unit.to_string(), action }
    }
}

/// What a step came to, for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRan {
    /// The stage that it belongs to; none for what comes before the first.
    pub stage: Option<Stage>,
    /// The unit, or what else it is about.
    pub unit: String,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it, in a few words.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub ended: OffsetDateTime,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The last lines that it printed, if it failed; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// A failure as it is kept: without the errors themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The operation that failed.
    pub what: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit code that it stands for.
    #[serde(default)]
    pub exit: u8,
    /// Is it known that what was tried has changed nothing?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed_nothing: bool,
}

/// The sending end. Sending never waits and never fails: no reporter can slow or stop a release.
#[derive(Debug, Clone)]
pub struct Events {
    to: mpsc::UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
    mask: Arc<Mask>,
    ran: Arc<Mutex<Vec<StepRan>>>,
    /// The end of a piece of a long line, until its next piece shows whether a secret goes on there.
    held: Arc<Mutex<HashMap<Step, String>>>,
    /// The last lines of each step that runs.
    tails: Arc<Mutex<HashMap<Step, VecDeque<String>>>>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Stream {
    from: mpsc::UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

/// A line of this length may be a piece of one that was too long to be given whole.
const PIECE: usize = 60 * 1024;
/// So many last lines of a failed step are kept, and so many characters of each: a record is read whole, and often.
const TAIL: (usize, usize) = (60, 500);

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A channel for the events of one run; `mask` is taken out of whatever a build or a task prints.
#[must_use]
pub fn channel(mask: Mask) -> (Events, Stream) {
    let (to, from) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (ran, held, tails) = Default::default();
    (Events { to, waiting: Arc::clone(&waiting), mask: Arc::new(mask.and_passwords()), ran, held, tails }, Stream { from, waiting })
}

impl Stream {
    /// The next event; `None` once every sender is gone.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.from.recv().await?;
        if matches!(event, Event::Progress { .. }) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Some(event)
    }
}

impl Events {
    /// Sends an event that must not be lost.
    pub fn send(&self, event: Event) {
        // The listener outlives every sender; if it is gone the process is ending.
        let _ = self.to.send(event);
    }

    /// The steps that have ended so far.
    #[must_use]
    pub fn ran(&self) -> Vec<StepRan> {
        lock(&self.ran).clone()
    }

    /// Sends a sentence.
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note { text: text.into() });
    }

    /// Sends a line of a step's own output.
    pub fn output(&self, step: &Step, line: &str) {
        let mut text = lock(&self.held).remove(step).unwrap_or_default() + line;
        if line.len() >= PIECE {
            let rest = text.split_off(self.mask.cut(&text));
            lock(&self.held).insert(step.clone(), rest);
        }
        self.said(step, None, &text, false);
    }

    /// As [`Events::output`], for lines that a record, a report and whoever reads JSON are to have, and a terminal is not.
    pub fn output_aside(&self, step: &Step, line: &str) {
        self.said(step, None, line, true);
    }

    /// Sends a line about a step's output that is no part of it.
    pub fn remark(&self, step: &Step, line: impl Into<String>) {
        self.send(Event::Output { step: step.clone(), line: line.into(), part: None, aside: false });
    }

    /// Sends a line, and keeps it for as long as the step may still fail.
    fn said(&self, step: &Step, part: Option<String>, text: &str, aside: bool) {
        let line = self.mask.apply(text);
        let mut tails = lock(&self.tails);
        let tail = tails.entry(step.clone()).or_default();
        if tail.len() == TAIL.0 {
            tail.pop_front();
        }
        tail.push_back(line.chars().take(TAIL.1).collect());
        drop(tails);
        self.send(Event::Output { step: step.clone(), line, part, aside });
    }

    /// A failure as it may be kept.
    #[must_use]
    pub fn why(&self, failure: &Failure) -> Why {
        let causes = failure.causes().iter().map(|cause| self.mask.apply(cause)).collect();
        Why {
            what: self.mask.apply(&failure.to_string()),
            causes,
            hint: failure.hint_text().map(|hint| self.mask.apply(hint)),
            exit: failure.exit().code(),
            changed_nothing: failure.has_changed_nothing(),
        }
    }

    /// `text` as it may be shown.
    #[must_use]
    pub fn masked(&self, text: &str) -> String {
        self.mask.apply(text)
    }

    /// Runs `work` as a step; what it answers beside its value is said when the step ends.
    ///
    /// # Errors
    /// The failure of `work`.
    pub async fn step<T>(&self, step: Step, work: impl Future<Output = Result<(T, Outcome, String), Failure>>) -> Result<T, Failure> {
        let start = Instant::now();
        self.send(Event::StepStarted { step: step.clone() });
        let result = work.await;
        let held = lock(&self.held).remove(&step);
        if let Some(rest) = held {
            self.said(&step, None, &rest, false);
        }
        let tail = lock(&self.tails).remove(&step).unwrap_or_default();
        let (outcome, detail) = match &result {
            Ok((_, outcome, detail)) => (*outcome, detail.clone()),
            Err(failure) => (Outcome::Failed, failure.causes().last().cloned().unwrap_or_else(|| failure.to_string())),
        };
        let (detail, seconds) = (self.mask.apply(&detail), start.elapsed().as_secs_f64());
        let ended = OffsetDateTime::now_utc();
        let ran = StepRan {
            stage: step.stage,
            unit: step.unit.clone(),
            action: step.action.to_owned(),
            outcome,
            detail: detail.clone(),
            seconds,
            ended,
            why: result.as_ref().err().map(|failure| self.why(failure)),
            log: if result.is_err() { tail.into() } else { Vec::new() },
        };
        lock(&self.ran).push(ran);
        self.send(Event::StepFinished { step, outcome, detail, seconds });
        result.map(|(value, _, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_may_be_dropped_and_a_step_never_is() {
        let (events, mut stream) = channel(Mask::default());
        let step = Step::of(Stage::Assets, "web", "upload");
        for done in 0..10_000 {
            events.progress(&step, done, 10_000, "files");
        }
        events.step(step, async { Ok(((), Outcome::Done, "10,000 files".to_owned())) }).await.unwrap();
        drop(events);
        let (mut progress, mut steps) = (0, 0);
        while let Some(event) = stream.next().await {
            match event {
                Event::Progress { .. } => progress += 1,
                _ => steps += 1,
            }
        }
        assert_eq!((progress, steps), (progress::WAITING, 2));
    }
    #[tokio::test]
    async fn a_secret_across_two_pieces_of_a_line_is_masked() {
        let (events, mut stream) = channel(Mask::new(["s3cr3t-value-that-is-long".to_owned()]));
        let step = Step::of(Stage::Assets, "web", "build");
        let work = async {
            events.output(&step, &format!("{}s3cr3t-value", "x".repeat(64 * 1024 - 12)));
            events.output(&step, "-that-is-long; more");
            Ok(((), Outcome::Done, String::new()))
        };
        events.step(step.clone(), work).await.unwrap();
        drop(events);
        let mut said = String::new();
        while let Some(event) = stream.next().await {
            if let Event::Output { line, .. } = event {
                said.push_str(&line);
            }
        }
        assert_eq!(said.trim_start_matches('x'), "***; more");
    }
}
