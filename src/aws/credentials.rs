//! Credentials are asked for once, again before they end, and again once AWS has called them expired, whatever date they bear: a session
//! may be revoked, and a role's credentials may come through a cache that is late.
//!
//! The SDK keeps credentials until their date and takes `ExpiredToken` for the end. So its cache is off, and what keeps them is here.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Credentials, Intercept, RuntimeComponents, SharedCredentialsProvider};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::retries::passing;

/// So long before their end credentials are renewed, as by the SDK's own cache.
const BEFORE: Duration = Duration::from_secs(10);

/// Credentials, and where they come from. Clones share them.
#[derive(Clone)]
pub(super) struct Renewing(Arc<Inner>);

struct Inner {
    source: SharedCredentialsProvider,
    state: Mutex<State>,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Credentials>,
    /// Those that AWS called expired, and its words.
    refused: Option<(Credentials, StillExpired)>,
}

/// What is given is what AWS has called expired: its code and its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct StillExpired {
    pub(super) code: String,
    pub(super) message: String,
}

/// The session token that a request was signed with.
#[derive(Debug)]
struct Used(Option<String>);

impl Storable for Used {
    type Storer = StoreReplace<Self>;
}

impl Renewing {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self(Arc::new(Inner { source, state: Mutex::default(), asking: tokio::sync::Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that were given out last, for what is signed without the SDK; `None` where AWS has called them expired.
    pub(super) fn last(&self) -> Option<Credentials> {
        self.state().held.clone()
    }

    fn usable(&self) -> Option<Credentials> {
        let lasts = |credentials: &Credentials| credentials.expiry().is_none_or(|end| end > SystemTime::now() + BEFORE);
        self.state().held.clone().filter(lasts)
    }

    async fn credentials(&self) -> provider::Result {
        if let Some(credentials) = self.usable() {
            return Ok(credentials);
        }
        let _one = self.0.asking.lock().await;
        if let Some(credentials) = self.usable() {
            return Ok(credentials);
        }
        let fresh = self.0.source.provide_credentials().await?;
        let mut state = self.state();
        if let Some((refused, said)) = &state.refused
            && same(refused, &fresh)
        {
            return Err(CredentialsError::provider_error(said.clone()));
        }
        *state = State { held: Some(fresh.clone()), refused: None };
        Ok(fresh)
    }

    /// Gives up what a request was signed with, unless somebody has already.
    fn refuse(&self, used: Option<&str>, said: StillExpired) {
        let mut state = self.state();
        if let Some(held) = state.held.take_if(|held| held.session_token() == used) {
            state.refused = Some((held, said));
        }
    }
}

fn same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id() && one.session_token() == other.session_token()
}

/// Does the answer say that the credentials have expired? `ExpiredToken` in XML, `ExpiredTokenException` in JSON.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>
fn expired(response: &HttpResponse) -> Option<StillExpired> {
    if response.status().is_success() {
        return None;
    }
    let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
    let code = response.headers().get("x-amzn-errortype").unwrap_or_default();
    let code = ["ExpiredTokenException", "ExpiredToken"].into_iter().find(|name| code.starts_with(name) || body.contains(name))?;
    let json = serde_json::from_str::<serde_json::Value>(&body).ok();
    let json = json.and_then(|body| ["message", "Message"].iter().find_map(|name| body.get(name)?.as_str().map(str::to_owned)));
    let xml = || Some(body.split_once("<Message>")?.1.split_once("</Message>")?.0.to_owned());
    Some(StillExpired { code: code.to_owned(), message: json.or_else(xml).unwrap_or_default() })
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("source", &self.0.source).finish_non_exhaustive()
    }
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

impl Intercept for Renewing {
    fn name(&self) -> &'static str {
        "Renewing"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let used = context.request().headers().get("x-amz-security-token").map(str::to_owned);
        config.interceptor_state().store_put(Used(used));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(said), Some(Used(used))) = (context.response().and_then(expired), config.load::<Used>()) {
            self.refuse(used.as_deref(), said);
        }
        Ok(())
    }
}

impl ClassifyRetry for Renewing {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(response) = context.response().filter(|_| matches!(context.output_or_error(), Some(Err(_)))) else {
            return RetryAction::NoActionIndicated;
        };
        // The next attempt is signed with others, or ends with what was said.
        if expired(response).is_some() {
            return RetryAction::transient_error();
        }
        passing(response).unwrap_or(RetryAction::NoActionIndicated)
    }

    fn name(&self) -> &'static str {
        "Renewing"
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn an_answer_that_calls_credentials_expired_is_recognised() {
        let answer = |status: u16, body: &'static str| HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        let xml = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
        let said = |code: &str, message: &str| Some(StillExpired { code: code.to_owned(), message: message.to_owned() });
        assert_eq!(expired(&answer(400, xml)), said("ExpiredToken", "The provided token has expired."));
        let json = r#"{"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}"#;
        assert_eq!(expired(&answer(400, json)), said("ExpiredTokenException", "The security token included in the request is expired"));
        assert_eq!(expired(&answer(200, xml)), None, "a file may hold these words");
        assert_eq!(expired(&answer(403, "<Error><Code>AccessDenied</Code></Error>")), None);
    }

    #[tokio::test]
    async fn what_was_refused_is_not_taken_again() {
        let keys = |token: &str| Credentials::new("id", "secret", Some(token.to_owned()), None, "test");
        let said = StillExpired { code: "ExpiredToken".to_owned(), message: "x".to_owned() };
        let renewing = Renewing::new(SharedCredentialsProvider::new(keys("one")));
        assert_eq!(renewing.credentials().await.unwrap().session_token(), Some("one"));
        renewing.refuse(Some("zero"), said.clone());
        assert!(renewing.usable().is_some(), "others have renewed it already");
        renewing.refuse(Some("one"), said);
        let error = renewing.credentials().await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("ExpiredToken"), "{error:?}");
    }
}
