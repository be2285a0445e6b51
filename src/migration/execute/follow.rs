//! Follows the log of a migration by its mark: shows its lines, and finds out how it ended.

use serde::Deserialize;

use crate::aws::{Aws, AwsError};

use super::super::verdict::{Answer, Trouble};

/// What the last line of a migration's log says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// It has come to its end.
    Answered(Answer),
    /// It has failed.
    Failed(Trouble),
}

/// The line with the mark, as the handlers write it.
#[derive(Debug, Deserialize)]
struct Line {
    mark: String,
    #[serde(default)]
    answer: Option<Answer>,
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    request: Option<String>,
}

/// What a line of log is to those who wait for the end.
#[derive(Debug, PartialEq)]
pub(super) enum Read<'a> {
    /// Something that was said.
    Said(&'a str),
    /// The beginning of the migration with the mark, in the invocation with this id.
    Start(Option<String>),
    /// Its end.
    End(End),
    /// A line of a protocol that is none of people's business.
    Nothing,
}

/// Reads one line.
pub(super) fn read<'a>(line: &'a str, mark: &str) -> Read<'a> {
    let parsed = |rest: &str| serde_json::from_str::<Line>(rest).ok().filter(|line| line.mark == mark);
    // Lambda may put its own time and request id before what a function says.
    if let Some((_, rest)) = line.split_once("windlass-start ") {
        return parsed(rest).map_or(Read::Nothing, |line| Read::Start(line.request));
    }
    if let Some((_, rest)) = line.split_once("windlass-end ") {
        let Some(line) = parsed(rest) else { return Read::Nothing };
        return Read::End(match (line.answer, line.error) {
            (Some(answer), _) => End::Answered(answer),
            (None, error) => End::Failed(Trouble::of_function(&error.unwrap_or_default().to_string(), "")),
        });
    }
    if line.contains("windlass-state ") || line.trim().is_empty() { Read::Nothing } else { Read::Said(line) }
}

/// Follows a function's log. It knows its stream once the line with the mark has come.
#[derive(Debug)]
pub(super) struct Follower {
    group: String,
    mark: String,
    /// In milliseconds since 1970.
    since: i64,
    stream: Option<String>,
    token: Option<String>,
    begun: bool,
    /// Has the platform said that the invocation is over?
    pub(super) reported: bool,
    request: Option<String>,
    /// How it ended, once that is known.
    pub(super) end: Option<End>,
}

impl Follower {
    /// Of the function whose log group this is; `since` is in milliseconds since 1970.
    pub(super) fn new(group: &str, mark: &str, since: i64) -> Self {
        Self {
            group: group.to_owned(),
            mark: mark.to_owned(),
            since,
            stream: None,
            token: None,
            begun: false,
            reported: false,
            request: None,
            end: None,
        }
    }

    /// Of a stream that is known from the start: a task's.
    pub(super) fn of_stream(group: &str, stream: String, mark: &str) -> Self {
        Self { stream: Some(stream), begun: true, ..Self::new(group, mark, 0) }
    }

    /// Has the migration begun, as far as its log tells?
    pub(super) fn has_begun(&self) -> bool {
        self.begun && self.stream.is_some()
    }

    /// Reads on, and gives the new lines to `say`. How many were there?
    pub(super) async fn poll(&mut self, aws: &Aws, say: &mut (dyn FnMut(&str) + Send)) -> Result<usize, AwsError> {
        let mut count = 0;
        if self.stream.is_none() {
            // A few seconds of difference between two clocks are not worth a lost line.
            let found = aws.find_in_log(&self.group, &self.mark, self.since - 60_000).await?.unwrap_or_default();
            self.stream = found.into_iter().next().map(|event| event.stream);
        }
        let Some(stream) = self.stream.clone() else { return Ok(0) };
        loop {
            let Some(page) = aws.log_page(&self.group, &stream, self.token.as_deref()).await? else { return Ok(count) };
            for event in &page.events {
                // Lambda's runtimes keep a message of several lines together by ending them with carriage returns.
                for line in event.message.split(['\n', '\r']) {
                    count += 1;
                    self.take(line, say);
                }
            }
            let at_end = page.next.is_none() || page.next == self.token || page.events.is_empty();
            self.token = page.next.or(self.token.take());
            if at_end {
                return Ok(count);
            }
        }
    }

    fn take(&mut self, line: &str, say: &mut (dyn FnMut(&str) + Send)) {
        match read(line, &self.mark) {
            Read::Start(request) => {
                self.begun = true;
                self.request = request;
            }
            Read::End(end) => self.end = Some(end),
            Read::Said(line) => {
                // A stream of a function holds its other invocations too.
                if self.begun && self.end.is_none() && !is_platform(line) {
                    say(line);
                }
                let is_ours = self.request.as_ref().is_some_and(|request| line.contains(request.as_str()));
                if !self.begun || self.end.is_some() || !is_ours {
                    return;
                }
                let is_report = line.contains("REPORT RequestId");
                self.reported |= is_report;
                // The report of an invocation that ended well has no status, and may come before the function's own last line.
                // <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-view.html>
                if line.contains("Task timed out") || (is_report && line.contains("Status: ")) {
                    let payload = serde_json::json!({ "errorType": "Runtime.ExitError", "errorMessage": line });
                    self.end = Some(End::Failed(Trouble::of_function(&payload.to_string(), line)));
                }
            }
            Read::Nothing => {}
        }
    }
}

/// A line of Lambda's own.
fn is_platform(line: &str) -> bool {
    ["START RequestId", "END RequestId", "REPORT RequestId", "INIT_START"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::super::verdict::Kind;
    use super::*;

    #[test]
    fn lines_are_read_by_their_mark() {
        let end = r#"2026-11-21T10:00:00Z windlass-end {"mark": "m", "answer": {"protocol": 1, "applied": ["a.1"], "pending": []}}"#;
        let Read::End(End::Answered(answer)) = read(end, "m") else { panic!() };
        assert_eq!((answer.protocol, answer.applied), (1, Some(vec!["a.1".to_owned()])));
        assert_eq!(read(end, "other"), Read::Nothing);
        let failed = r#"windlass-end {"mark": "m", "error": {"errorType": "P3009", "errorMessage": "x"}}"#;
        let Read::End(End::Failed(trouble)) = read(failed, "m") else { panic!() };
        assert_eq!(trouble.kind, Kind::FailedEarlier);
        assert_eq!(read(r#"windlass-start {"mark": "m", "request": "1-2"}"#, "m"), Read::Start(Some("1-2".to_owned())));
        assert_eq!(read("Applying a.1... OK", "m"), Read::Said("Applying a.1... OK"));
    }

    #[test]
    fn a_report_without_an_end_is_one() {
        let mut follower = Follower::of_stream("g", "s".to_owned(), "m");
        let mut said = Vec::new();
        let mut say = |line: &str| said.push(line.to_owned());
        for line in [
            r#"windlass-start {"mark": "m", "request": "r1"}"#,
            "Applying",
            "REPORT RequestId: r0\tStatus: timeout",
            "REPORT RequestId: r1\tStatus: timeout",
        ] {
            follower.take(line, &mut say);
        }
        assert_eq!(said, ["Applying"]);
        let Some(End::Failed(trouble)) = follower.end else { panic!() };
        assert_eq!(trouble.kind, Kind::Timeout);
    }

    #[test]
    fn a_report_may_come_before_the_last_line() {
        let mut follower = Follower::of_stream("g", "s".to_owned(), "m");
        for line in [r#"windlass-start {"mark": "m", "request": "r1"}"#, "REPORT RequestId: r1\tDuration: 870 ms"] {
            follower.take(line, &mut |_| {});
        }
        assert!(follower.reported && follower.end.is_none());
        follower.take(r#"windlass-end {"mark": "m", "answer": {"protocol": 1, "applied": [], "pending": []}}"#, &mut |_| {});
        assert!(matches!(follower.end, Some(End::Answered(_))));
    }
}
