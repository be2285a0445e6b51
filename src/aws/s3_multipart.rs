//! S3's multipart uploads: a big file in parts, without ever being in memory as a whole; and copies of what is too big for one request.
//!
//! S3 keeps of such an object only a checksum over the checksums of its parts, which is not the digest of its content. The digest goes
//! with it as metadata, `x-amz-meta-sha256`, where [`Aws::head_object`] finds it.
//!
//! An upload that is neither completed nor aborted is kept, and charged for, until somebody aborts it: both an error and the end of a
//! dropped future abort. What a killed process leaves is for the bucket's lifecycle rule `AbortIncompleteMultipartUpload`.
//!
//! Deliberately absent: going on with an upload that another process began.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::Digest as _;

use super::s3::{copy_source, metadata, resource, to_checksum, transfer_timeout};
use super::{ATTEMPT_TIMEOUT, Aws, AwsError, attempt_timeout};
use crate::model::{Headers, Sha256};

const MIB: u64 = 1024 * 1024;
/// S3 takes parts of up to 5 GiB, and copies in one request what is not larger.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const LARGEST_PART: u64 = 5 * 1024 * MIB;
/// S3 takes so many parts, and no more.
const MOST_PARTS: u64 = 10_000;
/// The size of a part that is sent, unless the file has more than [`MOST_PARTS`] of them.
const SENT_PART: u64 = 16 * MIB;
/// So many parts of an upload are in memory and under way at a time; fewer where they are larger.
const SENT_AT_ONCE: u64 = 4;
/// The size of a part that S3 copies by itself.
const COPIED_PART: u64 = 512 * MIB;
/// So many parts of a copy are under way at a time.
const COPIED_AT_ONCE: usize = 8;
/// S3 reads every byte before it answers; it says so with blanks in the meantime, which the SDK would take for a stalled answer.
const SLOW_ANSWER: Duration = ATTEMPT_TIMEOUT.saturating_mul(10);

/// Why a file was not uploaded. Nothing has changed in the bucket, unless [`AwsError::is_answer_lost`] or [`AwsError::is_server_fault`].
#[derive(Debug, thiserror::Error)]
pub enum PutFileError {
    /// S3 was not reached, or refused.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The file cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is not what it was said to be.
    #[error("`{}` has changed since its digest was taken", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Aws {
    /// Uploads a file in parts, and gives the object's entity tag, quoted as S3 quotes it. Meant for big files: it takes three requests
    /// at least, where [`Aws::put_object`] takes one.
    ///
    /// At most 64 MiB of the file are in memory at a time (one part, where a part is larger than that: above 625 GiB). S3 compares
    /// every part with a digest of its own; the parts together are compared with `size` and `sha256` here, while they are read, and
    /// before the upload is completed: until then the object is what it was. `on_bytes` is called with the size of each part that has
    /// arrived.
    ///
    /// Dropping the future aborts the upload, if the runtime lives on for long enough.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
    ///
    /// # Errors
    /// The file cannot be read, or is not the one that `size` and `sha256` are of; no such bucket; not allowed: all requests are covered
    /// by `s3:PutObject`, but that which aborts takes `s3:AbortMultipartUpload`.
    #[expect(clippy::too_many_arguments, reason = "a source, a destination and what is between them; a struct would only name them twice")]
    pub async fn put_file(
        &self,
        bucket: &str,
        key: &str,
        path: &Path,
        size: u64,
        sha256: Sha256,
        headers: &Headers,
        on_bytes: impl Fn(u64) + Sync,
    ) -> Result<String, PutFileError> {
        let source = Source::open(path.to_owned(), size, sha256).await?;
        let at_once = sent_at_once(source.part);
        let upload = Upload::begin(self, bucket, key, sha256, headers).await?;
        let sent = source
            .parts()
            .map_ok(|part| async {
                let bytes = part.body.len() as u64;
                let sent = upload.send(part, at_once).await?;
                on_bytes(bytes);
                Ok(sent)
            })
            .try_buffer_unordered(at_once)
            .try_collect()
            .await;
        match sent {
            Ok(parts) => Ok(upload.complete(parts, size, sha256, headers).await?),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Copies an object of a known content inside S3 under new headers, and gives the copy's entity tag. As [`Aws::copy_object`], but of
    /// any size, and [`Aws::head_object`] is sure to know the copy's digest.
    ///
    /// Above 5 GiB it copies in parts, and dropping the future aborts as in [`Aws::put_file`].
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>
    ///
    /// # Errors
    /// No such key or bucket ([`AwsError::is_not_found`]); the object has another size, or changed under the copy
    /// ([`AwsError::is_precondition_failed`]); not allowed: it takes `s3:GetObject` there, and here what [`Aws::put_file`] takes.
    #[expect(clippy::too_many_arguments, reason = "a source, a destination and what is between them; a struct would only name them twice")]
    pub async fn copy_file(
        &self,
        from_bucket: &str,
        from_key: &str,
        bucket: &str,
        key: &str,
        size: u64,
        sha256: Sha256,
        headers: &Headers,
    ) -> Result<String, AwsError> {
        if size <= LARGEST_PART {
            return self.copy_whole(from_bucket, from_key, bucket, key, Some(sha256), headers).await;
        }
        let from = resource(from_bucket, from_key);
        let head = self.head_object(from_bucket, from_key).await?;
        let head = head.ok_or_else(|| AwsError::missing("s3:GetObject", &from, "there is no such object"))?;
        if head.size != size {
            let message = format!("the object has {} bytes and not {size}", head.size);
            return Err(AwsError::unexpected("s3:GetObject", from, message));
        }
        let upload = Upload::begin(self, bucket, key, sha256, headers).await?;
        let source = copy_source(from_bucket, from_key);
        let copied = stream::iter(ranges(size, part_size(size, COPIED_PART)))
            // All parts are of one object, though it be overwritten meanwhile.
            .map(|(number, first, last)| upload.copy(&source, &head.etag, number, first, last))
            .buffer_unordered(COPIED_AT_ONCE)
            .try_collect()
            .await;
        match copied {
            Ok(parts) => upload.complete(parts, size, sha256, headers).await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// An upload that has begun. Dropped while it is open, it is aborted.
struct Upload {
    aws: Aws,
    bucket: String,
    key: String,
    id: String,
    open: bool,
}

impl Upload {
    async fn begin(aws: &Aws, bucket: &str, key: &str, sha256: Sha256, headers: &Headers) -> Result<Self, AwsError> {
        const OPERATION: &str = "s3:PutObject";
        let request = aws.0.s3.create_multipart_upload().bucket(bucket).key(key);
        let request = request
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_metadata(metadata(headers, Some(sha256)))
            .content_type(&*headers.content_type)
            .cache_control(&*headers.cache_control)
            .set_content_encoding(headers.content_encoding.as_deref().map(str::to_owned));
        let (aws, bucket, key, what) = (aws.clone(), bucket.to_owned(), key.to_owned(), resource(bucket, key));
        let beginning = async move {
            let answer = request.send().await.map_err(AwsError::of(OPERATION, resource(&bucket, &key)))?;
            let id =
                answer.upload_id.ok_or_else(|| AwsError::unexpected(OPERATION, resource(&bucket, &key), "S3 gave the upload no id"))?;
            Ok(Self { aws, bucket, key, id, open: true })
        };
        // A task of its own hears the answer even if nobody waits for it any more; what it began is then dropped, and so aborted.
        let begun = tokio::spawn(beginning).await;
        begun.unwrap_or_else(|ended| Err(AwsError::unexpected(OPERATION, what, ended.to_string())))
    }

    async fn send(&self, part: Part, at_once: usize) -> Result<CompletedPart, AwsError> {
        // The parts share the line.
        let bulk = Builder::new().timeout_config(attempt_timeout(transfer_timeout(part.body.len() * at_once)));
        let checksum = to_checksum(part.sha256);
        let request = self.aws.0.s3.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id).part_number(part.number);
        let request = request.checksum_sha256(&checksum).body(ByteStream::from(part.body));
        let answer = request.customize().config_override(bulk).send().await.map_err(self.failed())?;
        Ok(CompletedPart::builder().part_number(part.number).set_e_tag(answer.e_tag).checksum_sha256(checksum).build())
    }

    async fn copy(&self, source: &str, etag: &str, number: i32, first: u64, last: u64) -> Result<CompletedPart, AwsError> {
        let request = self.aws.0.s3.upload_part_copy().bucket(&self.bucket).key(&self.key).upload_id(&self.id).part_number(number);
        let request = request.copy_source(source).copy_source_range(format!("bytes={first}-{last}")).copy_source_if_match(etag);
        let answer = request.customize().config_override(patient()).send().await.map_err(self.failed())?;
        let (etag, checksum) = answer.copy_part_result.map(|part| (part.e_tag, part.checksum_sha256)).unwrap_or_default();
        Ok(CompletedPart::builder().part_number(number).set_e_tag(etag).set_checksum_sha256(checksum).build())
    }

    async fn complete(mut self, mut parts: Vec<CompletedPart>, size: u64, sha256: Sha256, headers: &Headers) -> Result<String, AwsError> {
        parts.sort_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.aws.0.s3.complete_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let answer = request.multipart_upload(parts).customize().config_override(patient()).send().await.map_err(self.failed());
        let error = match answer {
            Ok(answer) => {
                self.open = false;
                return Ok(answer.e_tag.unwrap_or_default());
            }
            Err(error) => error,
        };
        // The SDK repeats a request whose answer was lost, and the upload may be gone because the first attempt has completed it.
        if error.is_not_found() || error.is_answer_lost() || error.is_server_fault() {
            let head = self.aws.head_object(&self.bucket, &self.key).await.ok().flatten();
            if let Some(head) = head.filter(|head| head.size == size && head.sha256 == Some(sha256) && head.headers == *headers) {
                self.abort().await;
                return Ok(head.etag);
            }
        }
        self.abort().await;
        Err(error)
    }

    async fn abort(mut self) {
        self.open = false;
        // What it is told about already says more than a second failure would.
        abort(&self.aws, &self.bucket, &self.key, &self.id).await.ok();
    }

    fn failed<E>(&self) -> impl FnOnce(aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> AwsError + use<E>
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        AwsError::of("s3:PutObject", resource(&self.bucket, &self.key))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.open, tokio::runtime::Handle::try_current()) {
            let (aws, bucket, key, id) = (self.aws.clone(), self.bucket.clone(), self.key.clone(), self.id.clone());
            runtime.spawn(async move { abort(&aws, &bucket, &key, &id).await });
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>
async fn abort(aws: &Aws, bucket: &str, key: &str, id: &str) -> Result<(), AwsError> {
    let failed = AwsError::of("s3:AbortMultipartUpload", resource(bucket, key));
    aws.0.s3.abort_multipart_upload().bucket(bucket).key(key).upload_id(id).send().await.map_err(failed)?;
    Ok(())
}

fn patient() -> Builder {
    let patient = Builder::new().timeout_config(attempt_timeout(SLOW_ANSWER));
    patient.stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// The size of all parts but the last: `least`, or what keeps them within [`MOST_PARTS`], in whole MiB.
fn part_size(size: u64, least: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(MIB).max(least)
}

fn sent_at_once(part: u64) -> usize {
    usize::try_from(SENT_AT_ONCE * SENT_PART / part).map_or(1, |at_once| at_once.max(1))
}

/// Each part's number, and its first and last byte.
fn ranges(size: u64, part: u64) -> impl Iterator<Item = (i32, u64, u64)> {
    (1..)
        .zip((0..size.div_ceil(part)).map(move |index| index * part))
        .map(move |(number, first)| (number, first, size.min(first + part) - 1))
}

/// One part of a file.
#[derive(Debug)]
struct Part {
    number: i32,
    body: Bytes,
    sha256: Sha256,
}

/// A file that is read part by part, from its beginning to its end.
struct Source {
    file: File,
    path: PathBuf,
    /// What the whole has to be.
    size: u64,
    sha256: Sha256,
    /// The size of all parts but the last.
    part: u64,
    /// What was read of it.
    read: u64,
    parts: i32,
    hash: sha2::Sha256,
}

impl Source {
    async fn open(path: PathBuf, size: u64, sha256: Sha256) -> Result<Self, PutFileError> {
        let opened = tokio::fs::File::open(&path).await;
        let file = match opened {
            Ok(file) => file.into_std().await,
            Err(source) => return Err(PutFileError::Read { path, source }),
        };
        let part = part_size(size, SENT_PART);
        Ok(Self { file, path, size, sha256, part, read: 0, parts: 0, hash: sha2::Sha256::new() })
    }

    /// The file's parts, each read when it is asked for, by a thread that may wait for the disk.
    fn parts(self) -> impl stream::Stream<Item = Result<Part, PutFileError>> + Send {
        stream::try_unfold(self, |mut source| async move {
            let path = source.path.clone();
            let read = tokio::task::spawn_blocking(move || source.next().map(|part| part.map(|part| (part, source)))).await;
            read.unwrap_or_else(|ended| Err(PutFileError::Read { path, source: io::Error::other(ended) }))
        })
    }

    /// The next part. The last is given only when the whole is what it has to be.
    fn next(&mut self) -> Result<Option<Part>, PutFileError> {
        // Even an empty file has one part.
        if self.parts > 0 && self.read == self.size {
            return Ok(None);
        }
        let length = self.part.min(self.size - self.read);
        let last = self.read + length == self.size;
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let unreadable = |source| PutFileError::Read { path: self.path.clone(), source };
        (&self.file).take(length).read_to_end(&mut body).map_err(unreadable)?;
        self.hash.update(&body);
        let longer = last && (&self.file).take(1).read(&mut [0]).map_err(unreadable)? > 0;
        let other = last && self.hash.clone().finalize().as_slice() != self.sha256.bytes();
        if body.len() as u64 != length || longer || other {
            return Err(PutFileError::Changed { path: self.path.clone() });
        }
        self.read += length;
        self.parts += 1;
        Ok(Some(Part { number: self.parts, sha256: Sha256::of(&body), body: body.into() }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const GIB: u64 = 1024 * MIB;

    #[test]
    fn a_file_has_no_more_parts_than_s3_takes_and_no_more_memory_than_is_said() {
        for (size, part, at_once) in
            [(0, 16, 4), (64 * MIB, 16, 4), (156 * GIB, 16, 4), (157 * GIB, 17, 3), (625 * GIB, 64, 1), (5 * 1024 * GIB, 525, 1)]
        {
            let found = part_size(size, SENT_PART);
            assert_eq!((found, sent_at_once(found)), (part * MIB, at_once), "{size}");
            assert!(size.div_ceil(found) <= MOST_PARTS && found <= LARGEST_PART);
        }
    }

    #[test]
    fn ranges_cover_every_byte_once() {
        assert_eq!(ranges(10, 4).collect::<Vec<_>>(), [(1, 0, 3), (2, 4, 7), (3, 8, 9)]);
        assert_eq!(ranges(8, 4).collect::<Vec<_>>(), [(1, 0, 3), (2, 4, 7)]);
        assert_eq!(ranges(1, 4).collect::<Vec<_>>(), [(1, 0, 0)]);
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    async fn read(path: &Path, size: u64, sha256: Sha256, part: u64) -> Result<Vec<Part>, PutFileError> {
        let mut source = Source::open(path.to_owned(), size, sha256).await?;
        source.part = part;
        source.parts().try_collect().await
    }

    #[tokio::test]
    async fn a_file_is_read_in_parts_that_make_up_the_whole() {
        for (content, part, bodies) in
            [(&b"0123456789"[..], 4, vec!["0123", "4567", "89"]), (b"01234567", 4, vec!["0123", "4567"]), (b"", 4, vec![""])]
        {
            let file = file(content);
            let parts = read(file.path(), content.len() as u64, Sha256::of(content), part).await.unwrap();
            assert_eq!(
                parts.iter().map(|part| &part.body[..]).collect::<Vec<_>>(),
                bodies.iter().map(|body| body.as_bytes()).collect::<Vec<_>>()
            );
            assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), (1..).take(bodies.len()).collect::<Vec<_>>());
            assert!(parts.iter().all(|part| part.sha256 == Sha256::of(&part.body)));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_another_by_now_is_not_read_to_its_end() {
        let meant = Sha256::of(b"0123456789");
        for content in [&b"0123456780"[..], b"012345678", b"01234567890", b"0123", b""] {
            let file = file(content);
            let error = read(file.path(), 10, meant, 4).await.unwrap_err();
            assert!(matches!(&error, PutFileError::Changed { path } if path == file.path()), "{error:?}");
        }
        let error = read(Path::new("/nowhere/at/all"), 10, meant, 4).await.unwrap_err();
        assert!(matches!(&error, PutFileError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound), "{error:?}");
    }
}
