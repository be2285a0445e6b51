//! Looks for the function of a migration.

use crate::aws::Aws;
use crate::model::{Exit, Failure};

use super::plan::Found;

/// The function of this name; `None` when there is none.
///
/// # Errors
/// AWS fails in another way.
pub async fn function(aws: &Aws, name: &str) -> Result<Option<Found>, Failure> {
    let found = aws.function(name).await;
    let found = found.map_err(|error| Failure::new(Exit::Preflight, format!("looking for the function `{name}` failed")).because(error))?;
    Ok(found.map(|function| Found {
        package_type: function.package_type,
        image: function.resolved_image.or(function.image),
        timeout: function.timeout,
        state: function.state,
    }))
}
