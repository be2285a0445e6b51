//! Sites: files that a build wrote, made to be what a bucket serves.
//!
//! `scan` reads the build's output, `classify` says how each file is to be served, `observe` finds what is live, `plan`
//! draws the difference, `execute` makes it so. Deliberately absent: CloudFront (see `cdn`), and deleting anything.

pub mod classify;
pub mod execute;
pub mod observe;
pub mod plan;
pub mod scan;
