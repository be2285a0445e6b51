//! S3's objects: read, list, write, copy, delete.
//!
//! What is too big for one request or for memory is next door, in `s3_multipart`. Deliberately absent: ranges.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, MetadataDirective};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::s3_example::encoded;
use super::s3_put::Signed;
use super::{ATTEMPT_TIMEOUT, Aws, AwsError, attempt_timeout};
use crate::model::{Headers, Sha256};

/// The metadata under which [`Aws::put_file`] keeps the digest of a whole that S3 has in parts.
pub(super) const DIGEST: &str = "sha256";
/// Where a cache tag is kept in an object's metadata.
const CACHE_TAG: &str = "cache-tag";

/// Up to so many bytes a body needs no more time than [`ATTEMPT_TIMEOUT`].
const SMALL: usize = 512 * 1024;

/// An object with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub body: Bytes,
    /// The entity tag, as S3 quotes it: fit for [`Condition::IfMatch`].
    pub etag: String,
}

/// What S3 knows of an object, without its content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ObjectHead {
    /// Bytes.
    pub size: u64,
    /// The entity tag, as S3 quotes it: fit for [`Condition::IfMatch`].
    pub etag: String,
    /// The SHA-256 of the whole content, when the object was written with one: by S3's own account, else as [`Aws::put_file`] noted it.
    pub sha256: Option<Sha256>,
    /// The headers that it is served with; empty where S3 has none.
    pub headers: Headers,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListedObject {
    /// The whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The entity tag without its quotes.
    pub etag: String,
}

/// When a write may happen. S3 decides atomically.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Nothing is there.
    IfAbsent,
    /// What is there has this entity tag, quoted as S3 gave it.
    IfMatch(String),
}

impl Condition {
    pub(super) fn if_none_match(&self) -> Option<String> {
        matches!(self, Self::IfAbsent).then(|| "*".to_owned())
    }

    pub(super) fn if_match(&self) -> Option<String> {
        match self {
            Self::IfMatch(etag) => Some(etag.clone()),
            Self::Always | Self::IfAbsent => None,
        }
    }
}

impl Aws {
    /// An object with its content; `None` when there is no such key.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    ///
    /// # Errors
    /// No such bucket ([`AwsError::is_not_found`]); not allowed (without `s3:ListBucket` S3 says so for a missing key, too).
    pub async fn get_object(&self, bucket: &str, key: &str) -> Result<Option<Object>, AwsError> {
        const OPERATION: &str = "s3:GetObject";
        let resource = resource(bucket, key);
        let answer = match self.0.s3.get_object().bucket(bucket).key(key).send().await.map_err(AwsError::of(OPERATION, &resource)) {
            Err(error) if is_missing_key(&error) => return Ok(None),
            answer => answer?,
        };
        let etag = answer.e_tag.unwrap_or_default();
        let body = answer.body.collect().await.map_err(|error| AwsError::broken_off(OPERATION, &resource, &error))?.into_bytes();
        Ok(Some(Object { body, etag }))
    }

    /// What S3 knows of an object; `None` when there is no such key (or bucket: a HEAD's 404 cannot tell).
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    ///
    /// # Errors
    /// Not allowed (without `s3:ListBucket` S3 says so for a missing key, too).
    pub async fn head_object(&self, bucket: &str, key: &str) -> Result<Option<ObjectHead>, AwsError> {
        // HEAD is allowed by GET's permission: there is no `s3:HeadObject`.
        let failed = AwsError::of("s3:GetObject", resource(bucket, key));
        let request = self.0.s3.head_object().bucket(bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let answer = match request.send().await.map_err(failed) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let header = |value: Option<String>| Cow::Owned(value.unwrap_or_default());
        Ok(Some(ObjectHead {
            size: unsigned(answer.content_length),
            etag: answer.e_tag.unwrap_or_default(),
            sha256: digest(answer.checksum_sha256.as_deref(), answer.metadata.as_ref()),
            headers: Headers {
                content_type: header(answer.content_type),
                cache_control: header(answer.cache_control),
                content_encoding: answer.content_encoding.map(Cow::Owned),
                cache_tag: answer.metadata.as_ref().and_then(|all| all.get(CACHE_TAG)).cloned().map(Cow::Owned),
            },
        }))
    }

    /// Every object whose key starts with `prefix`, in the order of the keys' bytes.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
    ///
    /// # Errors
    /// No such bucket ([`AwsError::is_not_found`]); not allowed.
    pub async fn list_objects(&self, bucket: &str, prefix: &str) -> Result<Vec<ListedObject>, AwsError> {
        let mut pages = self.0.s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(AwsError::of("s3:ListBucket", resource(bucket, prefix)))?;
            objects.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                let etag = object.e_tag.unwrap_or_default().trim_matches('"').to_owned();
                Some(ListedObject { key: object.key?, size: unsigned(object.size), etag })
            }));
        }
        Ok(objects)
    }

    /// Writes an object and gives its entity tag, quoted as S3 quotes it. S3 compares the content with `sha256` and keeps it.
    ///
    /// The SDK repeats a request whose answer was lost, so that a conditional write can lose against its own first attempt: on
    /// [`AwsError::is_precondition_failed`], read what is there before believing that somebody else wrote it.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
    ///
    /// # Errors
    /// The condition does not hold ([`AwsError::is_precondition_failed`], or [`AwsError::is_conflict`] when another write was under way, or
    /// [`AwsError::is_not_found`] when there is nothing to match); no such bucket; not allowed; the content arrived damaged (`BadDigest`).
    pub async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        sha256: Sha256,
        headers: &Headers,
        condition: Condition,
    ) -> Result<String, AwsError> {
        let length = body.len();
        if length <= SMALL
            && let Some(etag) = self.0.short_way.put((bucket, key), &body, sha256, headers, &condition).await
        {
            return Ok(etag);
        }
        // In memory only if it is needed: a future of the SDK's is tens of KiB.
        Box::pin(self.put_body(bucket, key, (ByteStream::from(body), length), sha256, headers, condition)).await
    }

    /// As [`Aws::put_object`], of a body wherever it lies, with its length.
    pub(super) async fn put_body(
        &self,
        bucket: &str,
        key: &str,
        (body, length): (ByteStream, usize),
        sha256: Sha256,
        headers: &Headers,
        condition: Condition,
    ) -> Result<String, AwsError> {
        let failed = AwsError::of("s3:PutObject", resource(bucket, key));
        // Another configuration for one call costs as much as a small upload itself.
        let bulk = (length > SMALL).then(|| Builder::new().timeout_config(attempt_timeout(transfer_timeout(length))));
        let request = self.0.s3.put_object().bucket(bucket).key(key).body(body);
        let request = request
            .checksum_sha256(to_checksum(sha256))
            // Without its name some servers do not keep the checksum.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .content_type(&*headers.content_type)
            .cache_control(&*headers.cache_control)
            .set_content_encoding(headers.content_encoding.as_deref().map(str::to_owned))
            .set_metadata(metadata(headers, None))
            .set_if_none_match(condition.if_none_match())
            .set_if_match(condition.if_match());
        let lesson = self.0.short_way.lesson(key);
        let request = request.customize().interceptor(Signed(sha256)).interceptor(lesson.clone());
        let request = match bulk {
            Some(bulk) => request.config_override(bulk),
            None => request,
        };
        let answer = request.send().await.map_err(failed)?;
        self.0.short_way.learn(bucket, &lesson);
        Ok(answer.e_tag.unwrap_or_default())
    }

    /// Copies an object inside S3 under new headers, and gives the copy's entity tag. S3 computes a SHA-256 for the copy, whatever the
    /// original has; where it is known beforehand, or the object may be larger than 5 GiB, see [`Aws::copy_file`].
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
    ///
    /// # Errors
    /// No such key or bucket ([`AwsError::is_not_found`]); not allowed: it takes `s3:GetObject` there and `s3:PutObject` here.
    pub async fn copy_object(
        &self,
        from_bucket: &str,
        from_key: &str,
        bucket: &str,
        key: &str,
        headers: &Headers,
    ) -> Result<String, AwsError> {
        self.copy_whole(from_bucket, from_key, bucket, key, None, headers).await
    }

    /// Copies in one request. New headers replace the original's metadata, too: `sha256` is what the copy gets instead.
    pub(super) async fn copy_whole(
        &self,
        from_bucket: &str,
        from_key: &str,
        bucket: &str,
        key: &str,
        sha256: Option<Sha256>,
        headers: &Headers,
    ) -> Result<String, AwsError> {
        let failed = AwsError::of("s3:PutObject", format!("{} (a copy of {})", resource(bucket, key), resource(from_bucket, from_key)));
        let request = self.0.s3.copy_object().bucket(bucket).key(key).copy_source(copy_source(from_bucket, from_key));
        let request = request
            .metadata_directive(MetadataDirective::Replace)
            .set_metadata(metadata(headers, sha256))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .content_type(&*headers.content_type)
            .cache_control(&*headers.cache_control)
            .set_content_encoding(headers.content_encoding.as_deref().map(str::to_owned));
        // S3 reads the whole source before it answers.
        let bulk = Builder::new().timeout_config(attempt_timeout(ATTEMPT_TIMEOUT * 5));
        let answer = request.customize().config_override(bulk).send().await.map_err(failed)?;
        Ok(answer.copy_object_result.and_then(|copied| copied.e_tag).unwrap_or_default())
    }

    /// Deletes an object. A key that does not exist is deleted, too.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>
    ///
    /// # Errors
    /// No such bucket ([`AwsError::is_not_found`]); not allowed.
    pub async fn delete_object(&self, bucket: &str, key: &str) -> Result<(), AwsError> {
        let failed = AwsError::of("s3:DeleteObject", resource(bucket, key));
        self.0.s3.delete_object().bucket(bucket).key(key).send().await.map_err(failed)?;
        Ok(())
    }
}

/// An object's metadata: its digest where S3 does not compute it, and its cache tag.
pub(super) fn metadata(headers: &Headers, sha256: Option<Sha256>) -> Option<HashMap<String, String>> {
    let digest = sha256.map(|sha256| (DIGEST.to_owned(), sha256.to_string()));
    let tag = headers.cache_tag.as_ref().map(|tag| (CACHE_TAG.to_owned(), tag.to_string()));
    let all: HashMap<_, _> = digest.into_iter().chain(tag).collect();
    (!all.is_empty()).then_some(all)
}

/// The digest of an object's whole content: S3's own, else the noted one.
fn digest(checksum: Option<&str>, metadata: Option<&HashMap<String, String>>) -> Option<Sha256> {
    checksum.and_then(from_checksum).or_else(|| metadata?.get(DIGEST)?.parse().ok())
}

pub(super) fn resource(bucket: &str, key: &str) -> String {
    if key.is_empty() { bucket.to_owned() } else { format!("{bucket}/{key}") }
}

/// A missing key is an answer, a missing bucket is a mistake.
pub(super) fn is_missing_key(error: &AwsError) -> bool {
    error.is_not_found() && error.code() != Some("NoSuchBucket")
}

/// Time for an upload: the usual, and what a line of 50 kB/s needs.
pub(super) fn transfer_timeout(bytes: usize) -> Duration {
    ATTEMPT_TIMEOUT + Duration::from_secs(bytes as u64 / 50_000)
}

fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

/// S3 gives and takes digests in base 64.
pub(super) fn to_checksum(sha256: Sha256) -> String {
    STANDARD.encode(sha256.bytes())
}

/// `None` also for the checksum of a multipart upload (`…-3`), which is not the digest of the content.
fn from_checksum(text: &str) -> Option<Sha256> {
    Some(Sha256::from_bytes(STANDARD.decode(text).ok()?.try_into().ok()?))
}

/// `x-amz-copy-source` is percent-encoded by the caller; the SDK sends it as it is given.
pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", encoded(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_copy_is_encoded_once_and_keeps_its_slashes() {
        for (key, source) in [
            ("assets/app-1a2b.js", "b/assets/app-1a2b.js"),
            ("a b#c+d?e", "b/a%20b%23c%2Bd%3Fe"),
            ("100%25.txt", "b/100%2525.txt"),
            ("grün/ü.html", "b/gr%C3%BCn/%C3%BC.html"),
        ] {
            assert_eq!(copy_source("b", key), source);
        }
    }

    #[test]
    fn a_checksum_survives_the_way_through_base_64_and_a_composite_one_is_no_digest() {
        let sha256 = Sha256::of(b"abc");
        assert_eq!(to_checksum(sha256), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(from_checksum(&to_checksum(sha256)), Some(sha256));
        assert_eq!(from_checksum("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-2"), None);
        assert_eq!(from_checksum(""), None);
    }

    #[test]
    fn s3s_own_digest_comes_before_the_noted_one() {
        let (whole, noted) = (Sha256::of(b"abc"), Sha256::of(b"def"));
        let metadata = |digest: &str| HashMap::from([(DIGEST.to_owned(), digest.to_owned())]);
        let composite = format!("{}-2", to_checksum(whole));
        assert_eq!(digest(Some(&to_checksum(whole)), Some(&metadata(&noted.to_string()))), Some(whole));
        assert_eq!(digest(Some(&composite), Some(&metadata(&noted.to_string()))), Some(noted));
        assert_eq!(digest(None, Some(&metadata(&noted.to_string()))), Some(noted));
        assert_eq!(digest(Some(&composite), Some(&metadata("no digest"))), None);
        assert_eq!(digest(None, None), None);
    }

    #[test]
    fn a_large_upload_may_take_longer() {
        assert_eq!(transfer_timeout(0), Duration::from_mins(1));
        assert_eq!(transfer_timeout(5_000_000), Duration::from_secs(160));
    }
}
