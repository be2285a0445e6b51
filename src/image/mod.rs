//! Images: each is named by what goes into it, so that what the registry has is never built again.

pub mod copy;
pub mod execute;
mod findings;
pub mod manifest;
pub mod observe;
pub mod plan;
mod prebuilt;
mod push;
mod sbom;

pub use prebuilt::{Prebuilt, look, mismatch};
