//! windlass takes a commit to a healthy release on AWS, and says at every moment what is live.

pub mod aws;
pub mod cdn;
pub mod config;
pub mod docker;
pub mod event;
pub mod image;
pub mod journal;
pub mod local;
pub mod migration;
pub mod model;
pub mod probe;
pub mod process;
pub mod service;
pub mod site;
