//! `CloudWatch` Logs: what a function, a task or a service has said.

use super::ecs_json::{little_retry, little_time};
use super::{Aws, AwsError};

/// One line of a log, or a few that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The stream that holds it.
    pub stream: String,
    /// What was said, without the line's end.
    pub message: String,
}

/// A part of a stream, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// What was said.
    pub events: Vec<LogEvent>,
    /// Where the next page begins. At the end of the stream it is the token that was asked with.
    pub next: Option<String>,
}

impl Aws {
    /// The last `count` lines of a log stream, oldest first. It is asked with little patience: whoever asks can do without.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>
    ///
    /// # Errors
    /// No such group or stream ([`AwsError::is_not_found`]); not allowed.
    pub async fn last_log_lines(&self, group: &str, stream: &str, count: i32) -> Result<Vec<String>, AwsError> {
        let failed = AwsError::of("logs:GetLogEvents", format!("{group}:{stream}"));
        let soon = aws_sdk_cloudwatchlogs::config::Builder::new().retry_config(little_retry()).timeout_config(little_time());
        let question = self.0.logs.get_log_events().log_group_name(group).log_stream_name(stream).limit(count).start_from_head(false);
        let answer = question.customize().config_override(soon).send().await.map_err(failed)?;
        let lines = answer.events.unwrap_or_default().into_iter().filter_map(|event| event.message);
        Ok(lines.flat_map(|message| message.lines().map(str::to_owned).collect::<Vec<_>>()).collect())
    }

    /// All events of a group since `since` (milliseconds since 1970) that hold `text`. `None` where there is no such group.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn find_in_log(&self, group: &str, text: &str, since: i64) -> Result<Option<Vec<LogEvent>>, AwsError> {
        // In quotes it is a text, and not a list of words.
        let pattern = format!("\"{}\"", text.replace('"', ""));
        let mut pages =
            self.0.logs.filter_log_events().log_group_name(group).filter_pattern(pattern).start_time(since).into_paginator().send();
        let mut found = Vec::new();
        // A page may be empty although there are more.
        while let Some(page) = pages.next().await {
            match page.map_err(AwsError::of("logs:FilterLogEvents", group)) {
                Err(error) if error.is_not_found() => return Ok(None),
                page => found.extend(page?.events.unwrap_or_default().into_iter().map(|event| LogEvent {
                    stream: event.log_stream_name.unwrap_or_default(),
                    message: event.message.unwrap_or_default().trim_end().to_owned(),
                })),
            }
        }
        Ok(Some(found))
    }

    /// A stream from its beginning, or from where a page before it ended. `None` where there is no such stream, or not yet.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn log_page(&self, group: &str, stream: &str, from: Option<&str>) -> Result<Option<LogPage>, AwsError> {
        let request = self.0.logs.get_log_events().log_group_name(group).log_stream_name(stream).start_from_head(true);
        let request = request.set_next_token(from.map(str::to_owned));
        let answer = match request.send().await.map_err(AwsError::of("logs:GetLogEvents", format!("{group}:{stream}"))) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let event = |event: aws_sdk_cloudwatchlogs::types::OutputLogEvent| LogEvent {
            stream: stream.to_owned(),
            message: event.message.unwrap_or_default().trim_end().to_owned(),
        };
        Ok(Some(LogPage { events: answer.events.unwrap_or_default().into_iter().map(event).collect(), next: answer.next_forward_token }))
    }
}
