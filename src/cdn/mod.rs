//! Distributions: which paths of them are stale after a release. They stand apart from sites, because sites may share one.

pub mod execute;
pub mod observe;
pub mod plan;
