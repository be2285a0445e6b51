//! Sites: files that a build wrote, made to be what a bucket serves.
//!
//! `inputs` says whether anything has to be built (with `reach`, what a build reads outside of its directory), `frozen` which environment a build is for, `scan` reads the build's output, `compress`
//! packs some of it, `classify` says how each file is to be served, `observe` finds what is live, `bucket` says which bucket is refused,
//! `plan` draws the difference (with `retention`, what of earlier releases goes, `writes`, what is written, and `tags`, what edges know
//! files by), `execute` makes it so (with `upload`, many files at a time). `promoted` takes another environment's manifest for a build.
//! Deliberately absent: CloudFront (see `cdn`).

pub mod back;
pub mod bucket;
pub mod classify;
pub mod compress;
pub mod execute;
pub mod frozen;
pub mod inputs;
pub mod observe;
pub mod plan;
pub mod promoted;
#[cfg(test)]
mod properties_tests;
mod reach;
pub mod retention;
pub mod scan;
mod tags;
mod upload;
mod writes;
