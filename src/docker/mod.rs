//! The Docker engine: what a build context holds, its digest, building an image and pushing it; what an image holds;
//! a container for the commands of a build; and registries, spoken to directly where an image is only copied.
//!
//! The only room that names `bollard`. Deliberately absent: printing, events and retries (a caller asks the error, and decides).

mod anatomy;
mod archive;
mod base;
mod build;
mod buildkit;
mod container;
mod context;
mod copy;
mod digest;
mod dockerfile;
mod endpoint;
mod engine;
#[cfg(test)]
mod engine_tests;
mod error;
mod extract;
mod fetch;
mod filesync;
mod grpc;
mod ignore;
mod listener;
mod login;
mod packages;
mod pull;
mod push;
mod registry;
mod session;
mod tls;
mod walk;
mod wire;

pub use anatomy::anatomy;
pub use base::{ask_registry, pinned, provide, resolve};
pub use build::{Build, Built, ImageId, architecture, build, image_id, remove_image, tag};
pub use container::{Machine, MachineOptions};
pub use context::{Content, Context, Entry, Kind, scan};
pub use copy::{Contents, Copied, configuration, contents, copy};
pub use digest::{Recipe, digest};
pub use dockerfile::{Base, Dockerfile, SecretMount};
pub use engine::{Engine, connect};
pub use error::DockerError;
pub use extract::{Extracted, extract};
pub use fetch::fetch;
pub use listener::Listener;
pub use login::{Logins, host};
pub use packages::{Inventory, Manager, Package, packages};
pub use push::{Credentials, Progress, push};
pub use registry::{Registry, RegistryError};

/// Reads what the Dockerfile of `recipe`, below `root`, asks for from outside the context.
///
/// # Errors
/// It is not there, cannot be read, or names an image or a stage that cannot be.
pub fn dockerfile(root: &std::path::Path, recipe: &Recipe) -> Result<Dockerfile, DockerError> {
    let path = root.join(context::within(&recipe.dockerfile)?);
    let text = std::fs::read(&path).map_err(|source| DockerError::Read { path, source })?;
    let parsed = dockerfile::parse(&String::from_utf8_lossy(&text), recipe);
    parsed.map_err(|(line, message)| DockerError::Dockerfile { dockerfile: recipe.dockerfile.clone(), line, message })
}
