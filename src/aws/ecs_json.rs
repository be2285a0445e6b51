//! ECS as JSON: one call that carries any action's own document there and back.
//!
//! The SDK's types know the fields of the day that they were generated on, and drop the others: a revision that is cloned through
//! them loses what AWS has added since. So credentials, signing, endpoint, retries and errors are the SDK's, by way of its smallest
//! ECS operation, whose target and body are replaced before signing; the answer is read as it came. It also lets an answer pass that
//! the SDK would refuse for a field that nobody asks for.
//!
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ecs::config::interceptors::{AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef};
use aws_sdk_ecs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecs::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fence::Fence;
use super::retries::UnlessLost;
use super::{Aws, AwsError, CONNECT_TIMEOUT};

const TARGET: &str = "AmazonEC2ContainerServiceV20141113";

/// How much an answer is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The SDK's own attempts.
    Usual,
    /// The caller asks again anyway, or can do without.
    Little,
    /// The SDK's own attempts, up to one whose answer is lost: what that has done, the caller finds out.
    Once,
}

/// For a call that the caller can do without.
pub(super) fn little_retry() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(2)
}

/// For a call that the caller can do without.
pub(super) fn little_time() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(std::time::Duration::from_secs(3))
        .operation_timeout(std::time::Duration::from_secs(5))
        .build()
}

impl Aws {
    /// Sends `body` to the action (`ecs:DescribeServices`) and gives what it answers.
    pub(super) async fn ecs(
        &self,
        operation: &'static str,
        resource: impl Into<String>,
        body: &Value,
        patience: Patience,
    ) -> Result<Value, AwsError> {
        let resource = resource.into();
        let target = format!("{TARGET}.{}", operation.trim_start_matches("ecs:"));
        let body = body.to_string();
        let fence = (!super::fence::reads(target.rsplit('.').next().unwrap_or_default())).then(|| self.0.fence.clone());
        let answer = Carried { answer: Arc::default(), fence };
        let call = self.0.ecs.list_clusters().customize().interceptor(answer.clone()).mutate_request(move |request| {
            let headers = request.headers_mut();
            headers.insert("x-amz-target", target.clone());
            headers.insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.as_str());
        });
        let call = match patience {
            Patience::Usual => call,
            Patience::Once => call.config_override(aws_sdk_ecs::config::Builder::new().retry_classifier(UnlessLost)),
            Patience::Little => {
                call.config_override(aws_sdk_ecs::config::Builder::new().retry_config(little_retry()).timeout_config(little_time()))
            }
        };
        call.send().await.map_err(AwsError::of(operation, &resource))?;
        let bytes = answer.answer.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|error| AwsError::unexpected(operation, resource, format!("the answer is no JSON: {error}")))
    }
}

impl Aws {
    /// As [`Aws::ecs`], to the last page: all entries of the answers' `list`. A page may be empty although there are more.
    pub(super) async fn ecs_pages(
        &self,
        operation: &'static str,
        resource: &str,
        mut question: Value,
        entries: &str,
        patience: Patience,
    ) -> Result<Vec<Value>, AwsError> {
        let mut found = Vec::new();
        loop {
            let answer = self.ecs(operation, resource, &question, patience).await?;
            found.extend(list(&answer, entries).iter().cloned());
            // An endpoint that knows no pages may answer with the same token for ever.
            match text(&answer, "nextToken").filter(|token| text(&question, "nextToken").as_ref() != Some(token)) {
                Some(next) => question["nextToken"] = Value::String(next),
                None => return Ok(found),
            }
        }
    }
}

/// Keeps the last answer's bytes, and holds back a write whose lease has ended: the operation that carries it only reads.
#[derive(Clone)]
struct Carried {
    answer: Arc<Mutex<Option<Bytes>>>,
    fence: Option<Fence>,
}

impl fmt::Debug for Carried {
    /// Shows nothing of the answer: task definitions hold what people have put there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried")
    }
}

impl Intercept for Carried {
    fn name(&self) -> &'static str {
        "Carried"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        Ok(self.fence.as_ref().map_or(Ok(()), Fence::pass)?)
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.response().body().bytes().map(Bytes::copy_from_slice);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(())
    }
}

/// A text; `None` when it is absent, empty or no text.
pub(super) fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A text, empty when it is absent.
pub(super) fn text_or_empty(value: &Value, key: &str) -> String {
    text(value, key).unwrap_or_default()
}

/// A whole number, however it is written.
pub(super) fn number(value: &Value, key: &str) -> Option<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "counts of tasks and percentages")]
    let whole = |float: f64| float as i32;
    match value.get(key)? {
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()).or_else(|| number.as_f64().map(whole)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number that is 0 when it is absent.
pub(super) fn count(value: &Value, key: &str) -> i32 {
    number(value, key).unwrap_or_default()
}

/// A moment in seconds since 1970: AWS writes a number, some endpoints an ISO 8601 text.
pub(super) fn moment(value: &Value, key: &str) -> Option<f64> {
    match value.get(key)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
            let seconds = |at: OffsetDateTime| (at.unix_timestamp_nanos() / 1_000_000) as f64 / 1000.0;
            parsed.map(seconds).or_else(|| text.parse().ok())
        }
        _ => None,
    }
}

/// A list; empty when it is absent.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A list of texts.
pub(super) fn texts(value: &Value, key: &str) -> Vec<String> {
    of_texts(list(value, key))
}

/// Those of the values that are texts.
pub(super) fn of_texts(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// AWS's way to say with HTTP 200 that something could not be done: `failures[]`, as `arn: reason`.
pub(super) fn failures(value: &Value) -> Vec<String> {
    let one = |failure: &Value| {
        let parts = [text(failure, "arn"), text(failure, "reason"), text(failure, "detail")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    };
    list(value, "failures").iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_another_way_is_read_all_the_same() {
        let value =
            serde_json::json!({"a": 2, "b": "3", "c": 4.0, "d": null, "at": 1_763_000_000.5, "iso": "2025-11-13T02:13:20.5Z", "none": ""});
        assert_eq!((count(&value, "a"), count(&value, "b"), count(&value, "c"), count(&value, "d"), count(&value, "e")), (2, 3, 4, 0, 0));
        assert_eq!(moment(&value, "at"), Some(1_763_000_000.5));
        assert_eq!(moment(&value, "iso"), Some(1_763_000_000.5));
        assert_eq!((text(&value, "none"), text(&value, "d"), list(&value, "a").len()), (None, None, 0));
    }
}
