//! Sees to it that the engine has an image.

use super::engine::Engine;
use super::error::DockerError;
use super::pull::pull;
use super::push::Credentials;

/// Fetches an image, named by its digest, unless the engine has it.
///
/// # Errors
/// [`DockerError::Pull`]: the registry does not have it, or does not let it go.
pub async fn fetch(engine: &Engine, image: &str, credentials: Option<&Credentials>) -> Result<(), DockerError> {
    if engine.docker.inspect_image(image).await.is_ok() {
        return Ok(());
    }
    pull(engine, image, None, credentials).await
}
