//! windlass takes a commit to a healthy release on AWS, and says at every moment what is live.

pub mod aws;
pub mod config;
pub mod docker;
pub mod event;
pub mod journal;
pub mod local;
pub mod model;
pub mod probe;
pub mod process;
