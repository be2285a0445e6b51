//! The Docker engine: what a build context holds, its digest, building an image and pushing it; and what an image holds.
//!
//! The only room that names `bollard`. Deliberately absent: printing, events and retries (a caller asks the error, and decides);
//! `BuildKit` (images are built by the engine's classic builder, see [`build()`]); running containers.

mod build;
mod context;
mod digest;
mod endpoint;
mod engine;
#[cfg(test)]
mod engine_tests;
mod error;
mod extract;
mod ignore;
mod push;

pub use build::{Build, ImageId, architecture, build, tag};
pub use context::{Context, Entry, Kind, scan};
pub use digest::{Recipe, digest};
pub use engine::{Engine, connect};
pub use error::DockerError;
pub use extract::{Extracted, extract};
pub use push::{Credentials, Progress, push};
