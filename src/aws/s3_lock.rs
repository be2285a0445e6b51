//! The two calls that a lock is made of: read it with its age, and write it if it is still what was read.
//!
//! They go past the fence, because they are what it stands on, and give up soon: a lease does not wait for an answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use bytes::Bytes;

use super::s3::{is_missing_key, resource};
use super::{Aws, AwsError, Condition};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long all attempts may take.
const ALTOGETHER: Duration = Duration::from_secs(10);

/// An object with its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aged {
    /// The content.
    pub body: Bytes,
    /// The entity tag, as S3 quotes it.
    pub etag: String,
    /// How long ago it was written, by S3's own clock at both ends: this machine's may be wrong. `None` where the answer has no date.
    pub age: Option<Duration>,
}

impl Aws {
    /// An object with its age; `None` when there is no such key.
    ///
    /// # Errors
    /// As [`Aws::get_object`].
    pub async fn read_aged(&self, bucket: &str, key: &str) -> Result<Option<Aged>, AwsError> {
        const OPERATION: &str = "s3:GetObject";
        let resource = resource(bucket, key);
        let dated = Dated::default();
        let request = self.0.lock_s3.get_object().bucket(bucket).key(key);
        let answer = request.customize().interceptor(dated.clone()).config_override(soon()).send().await;
        let answer = match answer.map_err(AwsError::of(OPERATION, &resource)) {
            Err(error) if is_missing_key(&error) => return Ok(None),
            answer => answer?,
        };
        let written = answer.last_modified;
        let etag = answer.e_tag.unwrap_or_default();
        let body = answer.body.collect().await.map_err(|error| AwsError::broken_off(OPERATION, &resource, &error))?.into_bytes();
        let age = dated
            .seconds()
            .zip(written)
            .map(|(now, written)| Duration::from_secs(now.saturating_sub(written.secs()).max(0).unsigned_abs()));
        Ok(Some(Aged { body, etag, age }))
    }

    /// Writes an object if the condition holds, and gives its entity tag. See [`Aws::put_object`] for what may have happened where the
    /// condition does not hold: read what is there.
    ///
    /// # Errors
    /// As [`Aws::put_object`].
    pub async fn write_if(&self, bucket: &str, key: &str, body: Bytes, condition: &Condition) -> Result<String, AwsError> {
        let request = self.0.lock_s3.put_object().bucket(bucket).key(key).body(ByteStream::from(body));
        let request = request.content_type("application/json").cache_control("private, no-store");
        let request = request.set_if_none_match(condition.if_none_match()).set_if_match(condition.if_match());
        let answer = request.customize().config_override(soon()).send().await;
        Ok(answer.map_err(AwsError::of("s3:PutObject", resource(bucket, key)))?.e_tag.unwrap_or_default())
    }
}

fn soon() -> Builder {
    let timeout = TimeoutConfig::builder().connect_timeout(ATTEMPT).operation_attempt_timeout(ATTEMPT).operation_timeout(ALTOGETHER);
    Builder::new().timeout_config(timeout.build()).retry_config(RetryConfig::standard().with_max_attempts(3))
}

/// Keeps the `Date` of an answer, in seconds since 1970.
#[derive(Debug, Clone, Default)]
struct Dated(Arc<Mutex<Option<i64>>>);

impl Dated {
    fn seconds(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.secs());
        Ok(())
    }
}
