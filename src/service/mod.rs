//! Services on ECS: the next revision of each, and the watch over the deployment that it makes.
//!
//! Deliberately absent: "stable". A service that ECS has rolled back is stable; only our own deployment's end counts.

pub mod execute;
mod explain;
pub mod observe;
pub mod plan;
mod watch;
