//! Shows what happens and what will: lines for people and logs, bars for terminals, JSON for programs.
//!
//! Narration goes to stderr, data to stdout. A stream that cannot be written to is remembered and drained to its end: a full
//! disk or a closed pipe never stops a release. Deliberately absent: any effect on what is reported.

mod ending;
mod group;
mod history;
mod images;
mod junit;
mod line;
mod live;
mod page;
mod page_live;
mod plan;
mod status;
mod units;

use std::io::{self, Write};

use crate::event::{Event, Stream};
use crate::model::CiSystem;

pub use ending::{LAST_LINES, ending};
pub use group::annotation;
pub use history::{history_text, release_text};
pub use junit::{TestCase, TestFailure, first_line, junit, step_cases};
pub use line::HEARTBEAT;
pub use page::{Page, page};
pub use plan::text as plan_text;
pub use status::{status_text, verification_cases, verification_text};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bars that move.
    Live,
    /// A line for each event, and one at least every 30 s.
    Line,
    /// Nothing.
    None,
}

/// What listens to a run.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    /// The narration on stderr.
    pub progress: Progress,
    /// Every event as a line of JSON on stdout.
    pub json: bool,
    /// May colours be used? They never carry meaning alone.
    pub color: bool,
    /// The system that keeps the log, if one does: some fold parts of it.
    pub system: Option<CiSystem>,
}

/// Reports events until the last sender is gone.
///
/// # Errors
/// The first error of writing; everything has been drained all the same.
pub async fn listen(mut stream: Stream, reporter: Reporter) -> io::Result<()> {
    let mut narrator = match reporter.progress {
        Progress::Live => Narrator::Live(live::Live::new(reporter.color)),
        Progress::Line => Narrator::Line(line::Line::new(reporter.color, reporter.system)),
        Progress::None => Narrator::None,
    };
    let mut first_error = None;
    let mut heartbeat = tokio::time::interval(line::HEARTBEAT / 4);
    heartbeat.tick().await;
    loop {
        tokio::select! {
            event = stream.next() => {
                let Some(event) = event else { break };
                let result = narrator.event(&event).and_then(|()| if reporter.json { json(&event) } else { Ok(()) });
                first_error = first_error.or(result.err());
            }
            _ = heartbeat.tick() => first_error = first_error.or(narrator.beat().err()),
        }
    }
    first_error = first_error.or(narrator.end().err());
    first_error.map_or(Ok(()), Err)
}

enum Narrator {
    Live(live::Live),
    Line(line::Line),
    None,
}

impl Narrator {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match self {
            Self::Live(live) => live.event(event),
            Self::Line(line) => line.event(event, &mut io::stderr().lock()),
            Self::None => Ok(()),
        }
    }

    fn beat(&mut self) -> io::Result<()> {
        match self {
            Self::Line(line) => line.beat(&mut io::stderr().lock()),
            Self::Live(_) | Self::None => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Live(live) => {
                live.end();
                Ok(())
            }
            Self::Line(line) => line.end(&mut io::stderr().lock()),
            Self::None => Ok(()),
        }
    }
}

fn json(event: &Event) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, event)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// `1.5 s`, `250 ms`, `3 min 20 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

/// `1.4 MB`, in powers of ten as S3's console does.
pub(crate) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let amount = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", amount / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", amount / 1e6),
        _ => format!("{:.1} GB", amount / 1e9),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([seconds(0.25), seconds(1.53), seconds(200.0)], ["250 ms", "1.5 s", "3 min 20 s"]);
        assert_eq!([bytes(999), bytes(1_400), bytes(2_500_000)], ["999 B", "1.4 kB", "2.5 MB"]);
        assert_eq!([count(1, "file"), count(0, "file")], ["1 file", "0 files"]);
    }
}
