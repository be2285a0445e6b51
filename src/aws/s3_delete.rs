//! S3's conditional delete: an object goes only if it is still the one that is meant.

use super::s3::{is_missing_key, resource};
use super::{Aws, AwsError};

/// What became of an object that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It was not there.
    Absent,
    /// Its content is another one by now: it stays.
    Changed,
}

impl Aws {
    /// Deletes an object if it is still the one that has the entity tag `etag`, with or without quotes. S3 decides atomically.
    ///
    /// Without an entity tag this is [`Aws::delete_object`], and always [`Deleted::Gone`]. The SDK repeats a request whose answer was
    /// lost: [`Deleted::Absent`] may be the work of the first attempt.
    ///
    /// What speaks S3's language elsewhere may not know the condition, and delete whatever is there. Where an endpoint is configured, the
    /// entity tag is therefore compared beforehand, too; such a store leaves a gap between the two requests.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html>
    ///
    /// # Errors
    /// No such bucket ([`AwsError::is_not_found`]); not allowed: a condition takes `s3:GetObject` in addition to `s3:DeleteObject`.
    pub async fn delete_object_if(&self, bucket: &str, key: &str, etag: Option<&str>) -> Result<Deleted, AwsError> {
        let Some(etag) = etag.map(quoted) else {
            return self.delete_object(bucket, key).await.map(|()| Deleted::Gone);
        };
        if self.endpoint_url().is_some() {
            // "Not found" may mean the bucket, and is left to the delete.
            let head = self.head_object(bucket, key).await?;
            if head.is_some_and(|head| quoted(&head.etag) != etag) {
                return Ok(Deleted::Changed);
            }
        }
        let failed = AwsError::of("s3:DeleteObject", resource(bucket, key));
        let answer = self.0.s3.delete_object().bucket(bucket).key(key).if_match(etag).send().await;
        deleted(answer.map(drop).map_err(failed))
    }
}

/// What S3 answered to a conditional delete.
fn deleted(answer: Result<(), AwsError>) -> Result<Deleted, AwsError> {
    match answer {
        Ok(()) => Ok(Deleted::Gone),
        Err(error) if is_missing_key(&error) => Ok(Deleted::Absent),
        // A conflict is another write at the same moment: it is that one's object now.
        Err(error) if error.is_precondition_failed() || error.is_conflict() => Ok(Deleted::Changed),
        Err(error) => Err(error),
    }
}

/// S3 gives entity tags in quotes, except in listings as they are read here.
fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::{ErrorMetadata, SdkError};
    use aws_sdk_s3::operation::delete_object::DeleteObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(status: u16, code: &str) -> Result<(), AwsError> {
        let error = DeleteObjectError::generic(ErrorMetadata::builder().code(code).build());
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        Err(AwsError::of("s3:DeleteObject", "b/k")(SdkError::service_error(error, response)))
    }

    #[test]
    fn an_object_that_is_another_by_now_is_told_from_one_that_is_gone() {
        assert_eq!(deleted(Ok(())), Ok(Deleted::Gone));
        assert_eq!(deleted(answer(404, "NoSuchKey")), Ok(Deleted::Absent));
        assert_eq!(deleted(answer(412, "PreconditionFailed")), Ok(Deleted::Changed));
        assert_eq!(deleted(answer(409, "ConditionalRequestConflict")), Ok(Deleted::Changed));
        assert!(deleted(answer(404, "NoSuchBucket")).unwrap_err().is_not_found());
        assert!(deleted(answer(403, "AccessDenied")).unwrap_err().is_denied());
        assert!(deleted(answer(501, "NotImplemented")).unwrap_err().is_unsupported());
    }

    #[test]
    fn an_entity_tag_is_quoted_once() {
        for etag in ["abc-2", "\"abc-2\""] {
            assert_eq!(quoted(etag), "\"abc-2\"");
        }
    }
}
