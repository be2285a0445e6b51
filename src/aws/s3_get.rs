//! S3: an object into a file, however large it is.

use std::path::Path;

use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;

use super::{Aws, AwsError};
use crate::model::Sha256;

impl Aws {
    /// Writes an object into the file at `path`, and gives the digest of what was written; `None` when there is no such key.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    ///
    /// # Errors
    /// No such bucket; not allowed; the answer breaks off; the file cannot be written.
    pub async fn get_file(&self, bucket: &str, key: &str, path: &Path) -> Result<Option<Sha256>, AwsError> {
        const OPERATION: &str = "s3:GetObject";
        let resource = format!("{bucket}/{key}");
        let answer = match self.0.s3.get_object().bucket(bucket).key(key).send().await.map_err(AwsError::of(OPERATION, &resource)) {
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            answer => answer?,
        };
        let unwritable =
            |error: std::io::Error| AwsError::unexpected(OPERATION, &resource, format!("writing `{}`: {error}", path.display()));
        let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
        let mut hash = sha2::Sha256::new();
        let mut body = answer.body;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| AwsError::broken_off(OPERATION, &resource, &error))?;
            hash.update(&bytes);
            file.write_all(&bytes).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        Ok(Some(Sha256::from_bytes(hash.finalize().into())))
    }
}
