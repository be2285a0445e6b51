//! What is tried again beside what the SDK tries again, and what is not: refusals whose own documentation says that the request is to be
//! made once more, and requests that must not be made twice unseen.

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};

/// What an answer begins with that is a success by its status, and tells of a failure.
const ERROR: &str = "<Error>";

/// Is an answer, which the SDK has found to be a failure, one of those?
///
/// * S3, 409 `ConditionalRequestConflict`: another write of the same key was under way. "On a 409 failure you should retry the upload."
///   <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
/// * S3, 200 with an error in the body: the copy has begun well, and failed.
///   <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
/// * ECS, 400 `ClientException`: somebody else registers a revision of the same family at this moment.
///   <https://github.com/cloudposse/terraform-aws-ecs-alb-service-task/issues/258>
pub(super) fn passing(response: &HttpResponse) -> Option<RetryAction> {
    let body = || String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
    match response.status().as_u16() {
        200 => {
            let body = body();
            let own = ["<Code>InternalError<", "<Code>ServiceUnavailable<"].iter().any(|code| body.contains(code));
            (body.contains(ERROR) && own).then(RetryAction::transient_error)
        }
        400 => body().contains("Too many concurrent attempts to create a new revision").then(RetryAction::throttling_error),
        409 => body().contains("ConditionalRequestConflict").then(RetryAction::transient_error),
        _ => None,
    }
}

/// Leaves it to the caller to find out what an attempt has done that nobody has answered, or that has met a fault of the server's.
#[derive(Debug)]
pub(super) struct UnlessLost;

impl ClassifyRetry for UnlessLost {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let failed = matches!(context.output_or_error(), Some(Err(_)));
        let refused = context.response().is_some_and(|response| !response.status().is_server_error());
        if failed && !refused { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "UnlessLost"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::body::SdkBody;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        let answer =
            |status: u16, body: &'static str| passing(&HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))).is_some();
        assert!(answer(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"));
        assert!(!answer(409, "<Error><Code>BucketNotEmpty</Code></Error>"));
        assert!(answer(200, "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>"));
        assert!(!answer(200, "<Error><Code>AccessDenied</Code></Error>"));
        assert!(answer(
            400,
            r#"{"__type":"ClientException","message":"Too many concurrent attempts to create a new revision of the specified family."}"#
        ));
        assert!(!answer(400, r#"{"__type":"ClientException","message":"Invalid setting for container 'web'."}"#));
    }
}
