//! The short way for small uploads: `PutObject` after the SDK's own example, without the SDK's machinery around each request.
//!
//! For a small object the SDK spends more on the request (configuration, endpoint rules, two dozen interceptors, retries) than the object
//! itself costs. So the first upload to a bucket is the SDK's, and those that follow are made as it was ([`super::s3_example`]) and sent
//! over the SDK's own connector, to which proxies, certificates and connections are left.
//!
//! Only a first attempt goes this way. Whatever does not end with a plain 200 (another status, no answer, half an answer) is nothing to
//! decide here: the SDK makes the upload once more, with its retries, its correction of the clock, its renewal of credentials, and its
//! kinds of failure. Writes pass the same fence.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sigv4::http_request::SignableBody;
use aws_smithy_runtime_api::client::http::{HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;

use super::ATTEMPT_TIMEOUT;
use super::credentials::Renewing;
use super::fence::Fence;
use super::s3::{Condition, to_checksum};
use super::s3_example::{Example, Field};
use crate::model::{Headers, Sha256};

/// After so many failures in a row it is given up: something about this way is not understood.
const FAILURES: u32 = 16;

/// What is known of each bucket's uploads, for one client.
pub(super) struct ShortWay {
    fence: Fence,
    credentials: Renewing,
    buckets: Mutex<HashMap<String, Arc<Learnt>>>,
    failures: AtomicU32,
    requests: AtomicU64,
    /// How long an answer may take.
    patience: Duration,
}

/// What the SDK's upload to a bucket has taught.
pub(super) struct Learnt {
    example: Example,
    connector: SharedHttpConnector,
    /// An `amz-sdk-invocation-id` without its last twelve digits.
    invocation: String,
    /// What a first attempt's `amz-sdk-request` says.
    attempt: String,
}

impl ShortWay {
    pub(super) fn new(fence: Fence, credentials: Renewing) -> Self {
        Self {
            fence,
            credentials,
            buckets: Mutex::default(),
            failures: AtomicU32::new(0),
            requests: AtomicU64::new(1),
            patience: ATTEMPT_TIMEOUT,
        }
    }

    /// Tries an upload once, and gives the entity tag. `None` says nothing of what became of it: it is to be made in the usual way.
    pub(super) async fn put(
        &self,
        (bucket, key): (&str, &str),
        body: &Bytes,
        sha256: Sha256,
        headers: &Headers,
        condition: &Condition,
    ) -> Option<String> {
        let now = SystemTime::now();
        let learnt = self.buckets().get(bucket).filter(|learnt| learnt.example.is_good(now)).map(Arc::clone)?;
        if self.failures.load(Ordering::Relaxed) >= FAILURES || !self.fence.lets_pass() {
            return None;
        }
        let request = self.request(&learnt, key, body, sha256, headers, condition, now)?;
        let answered = tokio::time::timeout(self.patience, answer(&learnt.connector, request)).await;
        match answered {
            Ok(Answer::Done(etag)) => {
                self.failures.store(0, Ordering::Relaxed);
                return Some(etag);
            }
            Ok(Answer::Busy) => tokio::time::sleep(pause(now)).await,
            Ok(Answer::Other) | Err(_) => {}
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        None
    }

    #[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
    fn request(
        &self,
        learnt: &Learnt,
        key: &str,
        body: &Bytes,
        sha256: Sha256,
        headers: &Headers,
        condition: &Condition,
        now: SystemTime,
    ) -> Option<HttpRequest> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let optional = [
            ("content-encoding", headers.content_encoding.as_deref().map(Cow::Borrowed)),
            ("if-match", condition.if_match().map(Cow::Owned)),
            ("if-none-match", condition.if_none_match().map(Cow::Owned)),
            ("x-amz-meta-cache-tag", headers.cache_tag.as_deref().map(Cow::Borrowed)),
        ];
        let mut own: Vec<Field> = vec![
            ("amz-sdk-invocation-id", Cow::Owned(format!("{}{number:012x}", learnt.invocation))),
            ("amz-sdk-request", Cow::Borrowed(&learnt.attempt)),
            ("cache-control", Cow::Borrowed(&*headers.cache_control)),
            ("content-length", Cow::Owned(body.len().to_string())),
            ("content-type", Cow::Borrowed(&*headers.content_type)),
            ("x-amz-checksum-sha256", Cow::Owned(to_checksum(sha256))),
        ];
        own.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let made = learnt.example.request(key, own, sha256, now)?;
        let mut request = HttpRequest::new(SdkBody::from(body.clone()));
        request.set_method("PUT").ok()?;
        request.set_uri(made.uri).ok()?;
        for (name, value) in made.headers {
            request.headers_mut().try_insert(name, value.into_owned()).ok()?;
        }
        Some(request)
    }

    /// Takes part in an upload of the SDK's, to learn from it.
    pub(super) fn lesson(&self, key: &str) -> Lesson {
        Lesson { key: key.to_owned(), credentials: self.credentials.clone(), learnt: Arc::default() }
    }

    /// What an upload has taught that S3 has taken.
    pub(super) fn learn(&self, bucket: &str, lesson: &Lesson) {
        if let Some(learnt) = lesson.learnt.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.buckets().insert(bucket.to_owned(), Arc::new(learnt));
        }
    }

    fn buckets(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Learnt>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As before the SDK's first retry: up to a second, for each request another time.
fn pause(begun: SystemTime) -> Duration {
    Duration::from_micros(u64::from(begun.elapsed().unwrap_or_default().subsec_nanos() % 1_000_000))
}

enum Answer {
    Done(String),
    /// S3 asks for less, or has trouble of its own.
    Busy,
    Other,
}

async fn answer(connector: &SharedHttpConnector, request: HttpRequest) -> Answer {
    let Ok(response) = connector.call(request).await else { return Answer::Other };
    let status = response.status().as_u16();
    let etag = response.headers().get("etag").unwrap_or_default().to_owned();
    let whole = ByteStream::new(response.into_body()).collect().await.is_ok();
    match status {
        200 if whole && !etag.is_empty() => Answer::Done(etag),
        429 | 500.. => Answer::Busy,
        _ => Answer::Other,
    }
}

/// Watches an upload of the SDK's.
#[derive(Clone)]
pub(super) struct Lesson {
    key: String,
    credentials: Renewing,
    learnt: Arc<Mutex<Option<Learnt>>>,
}

impl std::fmt::Debug for Lesson {
    /// Shows nothing of what was learnt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lesson").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Intercept for Lesson {
    fn name(&self) -> &'static str {
        "Lesson"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = self.learnt(context.request(), components, config);
        Ok(())
    }
}

impl Lesson {
    fn learnt(&self, request: &HttpRequest, components: &RuntimeComponents, config: &ConfigBag) -> Option<Learnt> {
        let headers = request.headers();
        let example = Example::of(&self.key, request.uri(), headers.iter(), self.credentials.last()?, SystemTime::now())?;
        // With the same settings it is the connector that the SDK uses.
        let timeouts = config.load::<TimeoutConfig>()?;
        let mut settings = HttpConnectorSettings::builder();
        settings.set_connect_timeout(timeouts.connect_timeout()).set_read_timeout(timeouts.read_timeout());
        let connector = components.http_client()?.http_connector(&settings.build(), components);
        let invocation = headers.get("amz-sdk-invocation-id")?.get(..24)?.to_owned();
        let (_, most) = headers.get("amz-sdk-request")?.rsplit_once("max=")?;
        Some(Learnt { example, connector, invocation, attempt: format!("attempt=1; max={most}") })
    }
}

/// Has a request signed with a digest of its body that is known already, instead of having it computed once more.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
#[derive(Debug)]
pub(super) struct Signed(pub(super) Sha256);

impl Intercept for Signed {
    fn name(&self) -> &'static str {
        "Signed"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(mut signing) = config.load::<SigV4OperationSigningConfig>().cloned() {
            signing.signing_options.payload_override = Some(SignableBody::Precomputed(self.0.to_string()));
            config.interceptor_state().store_put(signing);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "s3_put_tests.rs"]
mod tests;
