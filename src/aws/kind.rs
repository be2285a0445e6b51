//! What a failure means: the one place where the codes, statuses and texts of AWS, of its SDK and of the network are told apart.

/// The kinds of failure that anybody asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    Denied,
    WrongCredentials,
    NoCredentials,
    ExpiredCredentials,
    NoRegion,
    NoEndpoint,
    Throttled,
    PreconditionFailed,
    Conflict,
    ClockSkew,
    OtherRegion,
    Unsupported,
    /// A success whose content is not what the action answers.
    Unreadable,
    Unreachable,
    /// The request went out and no answer came.
    AnswerLost {
        timeout: bool,
    },
    ServerFault,
    /// Nothing was sent: the lease had ended.
    Fenced,
    Other,
}

/// What an answer of AWS means. Codes are given with and without `Exception`, by the protocol of the service.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html> (throttling).
pub(super) fn classify(code: Option<&str>, status: Option<u16>, message: &str) -> Kind {
    let code = code.unwrap_or_default();
    let bare = code.strip_suffix("Exception").unwrap_or(code);
    match bare {
        "ExpiredToken" | "TokenRefreshRequired" => return Kind::ExpiredCredentials,
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => return Kind::ClockSkew,
        // The same code covers a wrong secret and a wrong clock; the text tells them apart.
        "SignatureDoesNotMatch" | "InvalidSignature" if message.contains("expired") || message.contains("not yet current") => {
            return Kind::ClockSkew;
        }
        "SignatureDoesNotMatch"
        | "InvalidSignature"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClient"
        | "InvalidToken"
        | "AuthFailure" => {
            return Kind::WrongCredentials;
        }
        "AccessDenied" | "AllAccessDisabled" | "UnauthorizedOperation" | "NotAuthorized" | "Forbidden" => return Kind::Denied,
        "Throttling"
        | "Throttled"
        | "RequestThrottled"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete"
        | "EC2Throttled" => return Kind::Throttled,
        "PreconditionFailed" => return Kind::PreconditionFailed,
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "ResourceConflict"
        | "ResourceInUse"
        | "UpdateInProgress"
        | "BucketAlreadyOwnedByYou" => return Kind::Conflict,
        // S3 may say so with status 200, once a copy has begun.
        "InternalError" | "InternalFailure" | "InternalServerError" | "ServiceUnavailable" => return Kind::ServerFault,
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraint" => return Kind::OtherRegion,
        "NotImplemented" | "MethodNotAllowed" | "InvalidAction" | "UnknownOperation" | "UnsupportedOperation" => return Kind::Unsupported,
        "NotFound" => return Kind::NotFound,
        // RDS calls some of its own faults.
        _ if bare.trim_end_matches("Fault").ends_with("NotFound") || bare.starts_with("NoSuch") => return Kind::NotFound,
        _ if bare.trim_end_matches("Fault").ends_with("AlreadyExists") => return Kind::Conflict,
        // ECS has no code of its own for a task definition that does not exist.
        "Client" if message.starts_with("Unable to describe task definition") || message.starts_with("TaskDefinition not found") => {
            return Kind::NotFound;
        }
        _ => {}
    }
    // A HEAD has no body, hence no code.
    match status {
        Some(401 | 403) => Kind::Denied,
        Some(404) => Kind::NotFound,
        Some(412) => Kind::PreconditionFailed,
        Some(429) => Kind::Throttled,
        Some(301 | 307) => Kind::OtherRegion,
        Some(405 | 501) => Kind::Unsupported,
        Some(409) if code.is_empty() => Kind::Conflict,
        Some(500..=599) => Kind::ServerFault,
        Some(200..=299) if code.is_empty() => Kind::Unreadable,
        _ => Kind::Other,
    }
}

/// The SDK gives no type to tell these apart, only the texts of its own layers (`aws-credential-types`, `hyper-util`). What cannot be told
/// may have been sent: to believe that of a request which was not is the safer mistake.
pub(super) fn dispatch_kind(chain: &str, timeout: bool, cause: Option<std::io::ErrorKind>) -> Kind {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let lower = chain.to_lowercase();
    let opening = lower.contains("(connect)") || lower.contains("connect timeout") || lower.contains("dns error");
    let opening = opening || matches!(cause, Some(ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable));
    if lower.contains("credential") {
        return match opening {
            _ if lower.contains("expired") => Kind::ExpiredCredentials,
            // The metadata service of EC2 is asked last and is there on EC2 only; any other source was configured.
            true if !lower.contains("imds") => Kind::Unreachable,
            _ => Kind::NoCredentials,
        };
    }
    if opening { Kind::Unreachable } else { Kind::AnswerLost { timeout } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_the_same_with_and_without_its_suffix() {
        for (code, kind) in [
            ("AccessDenied", Kind::Denied),
            ("AccessDeniedException", Kind::Denied),
            ("InvalidSignatureException", Kind::WrongCredentials),
            ("ExpiredToken", Kind::ExpiredCredentials),
            ("ExpiredTokenException", Kind::ExpiredCredentials),
            ("ThrottlingException", Kind::Throttled),
            ("SlowDown", Kind::Throttled),
            ("TooManyRequestsException", Kind::Throttled),
            ("NoSuchKey", Kind::NotFound),
            ("NotFound", Kind::NotFound),
            ("ServiceNotFoundException", Kind::NotFound),
            ("NoSuchDistribution", Kind::NotFound),
            ("ResourceNotFoundException", Kind::NotFound),
            ("PreconditionFailed", Kind::PreconditionFailed),
            ("ResourceConflictException", Kind::Conflict),
            ("DBClusterSnapshotNotFoundFault", Kind::NotFound),
            ("DBClusterSnapshotAlreadyExistsFault", Kind::Conflict),
            ("InvalidationBatchAlreadyExists", Kind::Conflict),
            ("InternalError", Kind::ServerFault),
            ("RequestTimeTooSkewed", Kind::ClockSkew),
            ("InvalidParameterException", Kind::Other),
        ] {
            assert_eq!(classify(Some(code), Some(400), ""), kind, "{code}");
        }
    }

    #[test]
    fn an_answer_without_a_body_is_read_by_its_status() {
        for (status, kind) in [
            (403, Kind::Denied),
            (404, Kind::NotFound),
            (412, Kind::PreconditionFailed),
            (429, Kind::Throttled),
            (301, Kind::OtherRegion),
            (503, Kind::ServerFault),
            (200, Kind::Unreadable),
            (400, Kind::Other),
        ] {
            assert_eq!(classify(None, Some(status), ""), kind, "{status}");
        }
    }

    #[test]
    fn a_wrong_clock_is_not_taken_for_a_wrong_secret() {
        let skewed = "Signature expired: 20261121T000000Z is now earlier than 20261121T010000Z";
        assert_eq!(classify(Some("InvalidSignatureException"), Some(403), skewed), Kind::ClockSkew);
        assert_eq!(
            classify(Some("SignatureDoesNotMatch"), Some(403), "The request signature we calculated does not match"),
            Kind::WrongCredentials
        );
    }

    #[test]
    fn a_refused_connection_is_unreachable_and_a_reset_one_has_lost_its_answer() {
        use std::io::ErrorKind;
        let refused = "client error (Connect): tcp connect error: Connection refused (os error 111)";
        assert_eq!(dispatch_kind(refused, false, Some(ErrorKind::ConnectionRefused)), Kind::Unreachable);
        let pooled = "tcp connect error: Connection refused (os error 111)";
        assert_eq!(dispatch_kind(pooled, false, Some(ErrorKind::ConnectionRefused)), Kind::Unreachable);
        let closed = "client error (SendRequest): connection closed before message completed";
        assert_eq!(dispatch_kind(closed, false, None), Kind::AnswerLost { timeout: false });
        assert_eq!(dispatch_kind("HTTP connect timeout occurred after 10s", true, None), Kind::Unreachable);
        assert_eq!(dispatch_kind("HTTP read timeout occurred after 75s", true, None), Kind::AnswerLost { timeout: true });
    }

    #[test]
    fn credentials_that_are_missing_are_not_taken_for_a_network_that_is() {
        assert_eq!(dispatch_kind("the credential provider was not enabled", false, None), Kind::NoCredentials);
        let login = "an error occurred while loading credentials: the SSO token has expired and cannot be refreshed";
        assert_eq!(dispatch_kind(login, false, None), Kind::ExpiredCredentials);
        let laptop = "an error occurred while loading credentials: failed to load IMDS session token: client error (Connect)";
        assert_eq!(dispatch_kind(laptop, false, None), Kind::NoCredentials);
        let role = "an error occurred while loading credentials: client error (Connect): dns error";
        assert_eq!(dispatch_kind(role, false, None), Kind::Unreachable);
    }
}
