//! `CloudWatch` Logs: the last lines of a stream.

use super::ecs_json::{little_retry, little_time};
use super::{Aws, AwsError};

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
}
