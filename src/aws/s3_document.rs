//! JSON documents for S3: small ones are in memory, large ones in a file that is gone with them.
//!
//! A plan of tens of thousands of files is megabytes of JSON, which are not to lie beside the plan itself. Deliberately absent: what the
//! documents hold.

use std::io::{self, BufWriter, Write};

use aws_sdk_s3::primitives::{ByteStream, Length};
use bytes::Bytes;
use serde::Serialize;
use sha2::Digest as _;

use super::s3::resource;
use super::{Aws, AwsError, Condition};
use crate::model::{Headers, Sha256};

/// Up to so many bytes a document is in memory.
const IN_MEMORY: u64 = 256 * 1024;
/// So much of a large one is read at a time.
const READ: usize = 64 * 1024;

/// A value's JSON, ready to be written as often as need be.
#[derive(Debug)]
pub struct Document {
    text: Text,
    length: u64,
    sha256: Sha256,
}

#[derive(Debug)]
enum Text {
    Memory(Bytes),
    File(tempfile::TempPath),
}

impl Document {
    /// The JSON of a value.
    ///
    /// # Errors
    /// It has none.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        // Measured first: megabytes that grow as they are written leave as many behind that nobody uses again.
        let mut measured = Measured { length: 0, hash: sha2::Sha256::new(), to: io::sink() };
        serde_json::to_writer(&mut measured, value)?;
        let (length, sha256) = (measured.length, Sha256::from_bytes(measured.hash.finalize().into()));
        if length > IN_MEMORY
            && let Some(path) = in_a_file(value, sha256)
        {
            return Ok(Self { text: Text::File(path), length, sha256 });
        }
        let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        serde_json::to_writer(&mut text, value)?;
        Ok(Self { text: Text::Memory(text.into()), length, sha256 })
    }

    /// Is this its text?
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        text.len() as u64 == self.length && Sha256::of(text) == self.sha256
    }
}

/// Writes a value to a temporary file; `None` where there is no room for one, or it is not what was written into it.
fn in_a_file(value: &impl Serialize, sha256: Sha256) -> Option<tempfile::TempPath> {
    let (file, path) = tempfile::NamedTempFile::with_prefix("windlass-").ok()?.into_parts();
    let hash = sha2::Sha256::new();
    let mut written = Measured { length: 0, hash, to: BufWriter::with_capacity(READ, file) };
    serde_json::to_writer(&mut written, value).ok()?;
    written.to.flush().ok()?;
    (Sha256::from_bytes(written.hash.finalize().into()) == sha256).then_some(path)
}

/// Counts and hashes what is written.
struct Measured<W> {
    length: u64,
    hash: sha2::Sha256,
    to: W,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Aws {
    /// Writes a JSON document that no cache may keep, and gives its entity tag. See [`Aws::put_object`].
    ///
    /// # Errors
    /// As [`Aws::put_object`]; the file that holds a large one cannot be read.
    pub async fn put_document(&self, bucket: &str, key: &str, document: &Document, condition: Condition) -> Result<String, AwsError> {
        let headers = Headers::of("application/json", "private, no-store");
        let unreadable = |error: &dyn std::fmt::Display| {
            AwsError::unexpected("s3:PutObject", resource(bucket, key), format!("reading the document failed: {error}"))
        };
        let body = match &document.text {
            Text::Memory(text) => ByteStream::from(text.clone()),
            Text::File(path) => {
                let from = ByteStream::read_from().path(path).length(Length::Exact(document.length)).buffer_size(READ);
                from.build().await.map_err(|error| unreadable(&error))?
            }
        };
        let length = usize::try_from(document.length).unwrap_or(usize::MAX);
        self.put_body(bucket, key, (body, length), document.sha256, &headers, condition).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_document_lies_in_a_file_as_long_as_it_is_needed() {
        let small = Document::of(&["a"]).unwrap();
        assert!(matches!(small.text, Text::Memory(_)) && small.is(br#"["a"]"#) && !small.is(br#"["b"]"#));
        let lines = vec!["a line of some length"; 20_000];
        let large = Document::of(&lines).unwrap();
        let Text::File(path) = &large.text else { panic!("{large:?}") };
        let (path, text) = (path.to_path_buf(), std::fs::read(path).unwrap());
        assert!(large.is(&text) && serde_json::from_slice::<Vec<String>>(&text).unwrap() == lines);
        drop(large);
        assert!(!path.exists());
    }
}
