//! Why a call to AWS failed: one type that answers the questions which the rooms above ask.
//!
//! Which code means what is decided in `kind`.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;

use super::credentials::StillExpired;
use super::fence::Fenced;
use super::kind::{Kind, classify, dispatch_kind};

/// A call to AWS that failed: which, on what, and why.
///
/// `Display` says all of it (`s3:PutObject shop-web/index.html: AccessDenied: …`); there is no `source()`, as the SDK's chain repeats itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    operation: &'static str,
    resource: String,
    code: Option<String>,
    message: String,
    request_id: Option<String>,
    kind: Kind,
}

impl AwsError {
    /// The action as IAM names it: `s3:PutObject`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was done to: `shop-web/index.html`.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// AWS's own code, `AccessDenied`, when it sent one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What AWS, or the network, said.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The id under which AWS's support finds the request.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// ECS does not know a task definition that the request names: it may have been registered a moment ago.
    #[must_use]
    pub fn is_revision_unknown(&self) -> bool {
        self.is_not_found() && self.code().is_some_and(|code| code.starts_with("Client"))
    }

    /// The credentials are known, or were once, and do not allow it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.kind, Kind::Denied | Kind::WrongCredentials)
    }

    /// Too many requests, still after the SDK's retries.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.kind == Kind::Throttled
    }

    /// A conditional write lost: the object exists already, or is another than expected.
    #[must_use]
    pub fn is_precondition_failed(&self) -> bool {
        self.kind == Kind::PreconditionFailed
    }

    /// Someone else is changing the same thing, or a thing with this name is there already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }

    /// No credentials were found anywhere.
    #[must_use]
    pub fn is_no_credentials(&self) -> bool {
        self.kind == Kind::NoCredentials
    }

    /// The credentials were good once.
    #[must_use]
    pub fn is_expired_credentials(&self) -> bool {
        self.kind == Kind::ExpiredCredentials
    }

    /// No connection could be opened: nothing was sent.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// The request was sent and no answer came, or none that can be read: a write may have happened or not.
    #[must_use]
    pub fn is_answer_lost(&self) -> bool {
        matches!(self.kind, Kind::AnswerLost { .. } | Kind::Unreadable)
    }

    /// The request was sent and the time for its answer ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::AnswerLost { timeout: true }
    }

    /// This machine's clock is too far off for AWS to accept a signature.
    #[must_use]
    pub fn is_clock_skew(&self) -> bool {
        self.kind == Kind::ClockSkew
    }

    /// The lease had ended: nothing was sent.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.kind == Kind::Fenced
    }

    /// AWS answered with an internal error (5xx): a write may have happened or not.
    #[must_use]
    pub fn is_server_fault(&self) -> bool {
        self.kind == Kind::ServerFault
    }

    /// Whatever answers at the endpoint does not know the action, or takes it for another one.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.kind, Kind::Unsupported | Kind::Unreadable)
    }

    /// Whoever answered does not know this action, by its code, its status, or an answer that is none.
    #[must_use]
    pub fn is_unanswerable(&self) -> bool {
        matches!(self.kind, Kind::Unsupported | Kind::NotFound | Kind::OtherRegion | Kind::Unreadable | Kind::Other)
    }

    /// What to do about it, where that is obvious.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self.kind {
            Kind::NoCredentials => {
                "set AWS_PROFILE to a profile that exists, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached"
                    .to_owned()
            }
            Kind::ExpiredCredentials => {
                "the credentials have expired: log in again (`aws sso login`) or renew the role's session".to_owned()
            }
            Kind::WrongCredentials => "AWS does not know these keys, or the secret does not belong to the key id".to_owned(),
            Kind::NoRegion => "set the environment's `region`, AWS_REGION, or the profile's `region`".to_owned(),
            Kind::NoEndpoint => "correct it, or unset it to reach AWS itself".to_owned(),
            Kind::Denied => {
                let (action, resource) = denied(&self.message).unwrap_or((self.operation, None));
                format!("the credentials need `{action}` on {}", resource.unwrap_or_else(|| self.resource_or("*")))
            }
            Kind::ClockSkew => "set this machine's clock: AWS accepts signatures that are at most five minutes off".to_owned(),
            Kind::OtherRegion => "the bucket is in another region than the one that is configured".to_owned(),
            Kind::Unreachable => "check the endpoint URL, the region's name, and the network or proxy between here and AWS".to_owned(),
            Kind::Throttled => "the account's rate limit was hit for longer than the retries last: run it again".to_owned(),
            _ => return None,
        })
    }

    fn resource_or<'a>(&'a self, otherwise: &'a str) -> &'a str {
        // Of a copy: where it goes.
        let resource = self.resource.split(" (a copy of ").next().unwrap_or_default();
        if resource.is_empty() { otherwise } else { resource }
    }

    /// No region is configured anywhere.
    pub(super) fn no_region() -> Self {
        Self::plain("aws:Configure", "", Kind::NoRegion, "no region is configured")
    }

    /// What is configured cannot be a region's name.
    pub(super) fn no_such_region(region: &str) -> Self {
        Self::plain("aws:Configure", "", Kind::NoRegion, format!("`{region}` is no region's name"))
    }

    /// What is configured cannot be an address.
    pub(super) fn no_endpoint(name: &str, url: &str) -> Self {
        let message = format!("{name}: `{url}` is no address, which begins with `http://` or `https://` and a host");
        Self::plain("aws:Configure", "", Kind::NoEndpoint, message)
    }

    /// AWS's answer lacks what its documentation promises, or the request cannot be made.
    pub(super) fn unexpected(operation: &'static str, resource: impl Into<String>, message: impl Into<String>) -> Self {
        Self::plain(operation, resource, Kind::Other, message)
    }

    /// The thing is not in AWS's answer, which is itself a success.
    pub(super) fn missing(operation: &'static str, resource: impl Into<String>, message: impl Into<String>) -> Self {
        Self::plain(operation, resource, Kind::NotFound, message)
    }

    /// A body that broke off after the headers had come.
    pub(super) fn broken_off(operation: &'static str, resource: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        Self::plain(operation, resource, Kind::AnswerLost { timeout: false }, chain(error))
    }

    fn plain(operation: &'static str, resource: impl Into<String>, kind: Kind, message: impl Into<String>) -> Self {
        Self { operation, resource: resource.into(), code: None, message: message.into(), request_id: None, kind }
    }

    /// Turns the SDK's error into this one: `.map_err(AwsError::of("s3:PutObject", "shop-web/index.html"))`.
    pub(super) fn of<E>(operation: &'static str, resource: impl Into<String>) -> impl FnOnce(SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let resource = resource.into();
        move |error| {
            let request_id = error.request_id().map(str::to_owned);
            let status = error.raw_response().map(|response| response.status().as_u16());
            let (kind, code, message) = match &error {
                _ if find::<Fenced>(&error).is_some() => (Kind::Fenced, None, Fenced.to_string()),
                SdkError::ServiceError(service) => {
                    let code = service.err().code();
                    let said = service.err().message().unwrap_or_default();
                    (classify(code, status, said), code.map(str::to_owned), said.to_owned())
                }
                SdkError::TimeoutError(_) => (Kind::AnswerLost { timeout: true }, None, chain(&error)),
                SdkError::DispatchFailure(failure) if failure.is_user() => (Kind::Other, None, chain(&error)),
                SdkError::DispatchFailure(failure) => not_answered(&error, failure.is_timeout()),
                SdkError::ResponseError(_) => (classify(None, status, ""), None, chain(&error)),
                _ => (Kind::Other, None, chain(&error)),
            };
            // A HEAD has no body: whose bucket is elsewhere, a header says. So botocore's S3RegionRedirector reads it, with 400 as with 301.
            let home = error.raw_response().filter(|_| matches!(status, Some(301 | 307 | 400)));
            let home = home.and_then(|response| response.headers().get("x-amz-bucket-region"));
            let (kind, message) = match home {
                Some(home) if matches!(kind, Kind::Other | Kind::OtherRegion) => {
                    (Kind::OtherRegion, format!("the bucket is in {home}{}{message}", if message.is_empty() { "" } else { ": " }))
                }
                _ => (kind, message),
            };
            let message = match (message.is_empty(), status) {
                (true, Some(status)) if kind == Kind::Unreadable => format!("HTTP {status}, but not an answer to this action"),
                (true, Some(status)) => format!("HTTP {status}"),
                _ => message,
            };
            Self { operation, resource, code, message, request_id, kind }
        }
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if !self.resource.is_empty() {
            write!(f, " {}", self.resource)?;
        }
        if let Some(code) = &self.code {
            write!(f, ": {code}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Error for AwsError {}

/// The action, and the resource's ARN, that AWS's own words name. They may be others than those of the call: a role that it passes on, what
/// it copies from.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
fn denied(message: &str) -> Option<(&str, Option<&str>)> {
    let (_, rest) = message.split_once("is not authorized to perform: ")?;
    let action = rest.split([' ', ',']).next().filter(|action| action.contains(':'))?;
    let named = rest.split_once(" on resource: ").and_then(|(_, rest)| rest.split(' ').next());
    Some((action, named.map(|arn| arn.trim_matches('"').trim_end_matches('.')).filter(|arn| arn.starts_with("arn:"))))
}

/// No answer came. Did the request get out?
fn not_answered<E>(error: &SdkError<E, HttpResponse>, timeout: bool) -> (Kind, Option<String>, String)
where
    E: Error + 'static,
{
    if let Some(StillExpired { code, message }) = find::<StillExpired>(error) {
        return (Kind::ExpiredCredentials, Some(code.clone()), message.clone());
    }
    if let Some(refused) = find::<AssumeRoleError>(error) {
        let message = format!("the role cannot be assumed: {}", refused.message().unwrap_or_default());
        return (classify(refused.code(), None, &message), refused.code().map(str::to_owned), message);
    }
    let message = chain(error);
    (dispatch_kind(&message, timeout, find::<std::io::Error>(error).map(std::io::Error::kind)), None, message)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The first error of a type among the causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// Every cause once, outermost first.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in causes(error) {
        let text = error.to_string();
        // The SDK's own layers add these words and nothing else; some layers repeat the text of the layer below them.
        let filler = ["dispatch failure", "response error", "service error", "io error", "timeout", "other"].contains(&text.as_str());
        if !filler && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_action_and_a_denial_says_what_is_needed() {
        let error = AwsError {
            operation: "s3:PutObject",
            resource: "shop-web/index.html".to_owned(),
            code: Some("AccessDenied".to_owned()),
            message: "Access Denied".to_owned(),
            request_id: None,
            kind: Kind::Denied,
        };
        assert_eq!(error.to_string(), "s3:PutObject shop-web/index.html: AccessDenied: Access Denied");
        assert_eq!(error.hint().unwrap(), "the credentials need `s3:PutObject` on shop-web/index.html");
    }

    #[test]
    fn a_denial_names_what_aws_says_is_missing() {
        let role = "arn:aws:iam::1:role/task";
        for (message, named) in [
            (
                "User: arn:aws:iam::1:user/ada is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/task because no \
                 identity-based policy allows the iam:PassRole action",
                Some(("iam:PassRole", Some(role))),
            ),
            (
                "User: arn:aws:iam::1:user/ada is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::b/k\" because",
                Some(("s3:GetObject", Some("arn:aws:s3:::b/k"))),
            ),
            (
                "User: x is not authorized to perform: ecs:ListTasks because no identity-based policy allows it",
                Some(("ecs:ListTasks", None)),
            ),
            ("User: x is not authorized to perform: ecs:ListTasks on resource: *", Some(("ecs:ListTasks", None))),
            ("Access Denied", None),
        ] {
            assert_eq!(denied(message), named, "{message}");
        }
    }
}
