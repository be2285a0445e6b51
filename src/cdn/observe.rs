//! Looks for a distribution.

use crate::aws::Aws;
use crate::model::{Exit, Failure};

use super::plan::Found;

/// The header that S3 serves the metadata `cache-tag` as.
const TAG_HEADER: &str = "x-amz-meta-cache-tag";

/// The distribution with this id; `None` when this account has none.
///
/// # Errors
/// AWS fails in another way.
pub async fn distribution(aws: &Aws, id: &str) -> Result<Option<Found>, Failure> {
    let found = aws.distribution(id).await;
    let found = found.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again".to_owned());
        Failure::new(Exit::Preflight, format!("looking for the distribution `{id}` failed")).because(error).hint(hint)
    })?;
    Ok(found.map(|found| Found {
        domain_name: found.domain_name,
        default_root_object: found.default_root_object.filter(|root| !root.is_empty()),
        enabled: found.enabled,
        tagged: found.tag_header.is_some_and(|header| header.eq_ignore_ascii_case(TAG_HEADER)),
        origins: found.origins.into_iter().map(|origin| origin.domain_name).collect(),
    }))
}
