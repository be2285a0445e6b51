//! windlass takes a commit to a healthy release on AWS, and says at every moment what is live.
//!
//! # The story of a release
//!
//! ```text
//! windlass.yml ─► build ─► Intended ┐
//!                 AWS   ─► Observed ┴► plan::draw ─► Plan ─► execute ─► Record
//!                                                     │          └─ events ─► reporters
//!                                                     └─ `windlass plan` prints it and stops
//! ```
//!
//! [`release`] tells it from top to bottom. A verb connects, refuses another account than the environment's, looks for all that its
//! units need, builds the sites, looks at what is live, and draws the plan: a pure function of what is wanted and what is there. What
//! [`cli`] prints for `plan` is the value that `release` executes, in five stages ([`model::Stage`]), each a barrier.
//!
//! # Rooms
//!
//! * The ground: [`model`] (nouns), [`process`] (children), [`event`] (what happens, as data), [`config`] (`windlass.yml`),
//!   [`aws`] (the only room that names the SDK), [`docker`] (the only one that names bollard), [`probe`] (HTTP checks),
//!   [`journal`] (records in the state bucket).
//! * The features: [`site`], [`cdn`], [`image`], [`migration`], [`service`]; in each, `observe.rs` never writes, `plan.rs` is pure,
//!   `execute.rs` does what the plan says. None names another.
//! * [`buildspec`] reads AWS CodeBuild's buildspecs and runs them as CodeBuild does; it knows nothing of releases.
//! * The rest: [`plan`] (what the features' plans add up to), [`release`] (the story), [`report`] (lines, bars, JSON), [`detect`]
//!   (what an application is, read from its checkout), [`local`] (the local cloud), [`infra`] (IAM policies), [`inspect`]
//!   (infrastructure that somebody else owns), [`cli`] (flags in, exit code out).
//!
//! Who may name whom is a table in `tests/architecture.rs`, which holds it against the source.
//!
//! # Invariants
//!
//! * Observing never writes, and a plan without changes writes nothing at all.
//! * A plan holds no clock, no release id and nothing secret: the same world gives the same bytes.
//! * An executor makes no choice: it does not even see the configuration.
//! * No page is written before everything that it names.
//! * No service rolls before every migration of its code has succeeded, and no site is published before every service has.
//! * A rollout is judged by the end of the deployment that we began, never by "stable" and never by "latest".
//! * Nobody prints but [`cli`] and [`report`]; a reporter that fails stops no release.
//! * No write leaves after the lease of the lock has ended, and what says what is live is written only over what was read.
//! * A rollback uploads nothing.
//! * Builds see no cloud credential.

pub mod aws;
pub mod buildspec;
pub mod cdn;
pub mod cli;
pub mod config;
pub mod detect;
pub mod docker;
pub mod event;
pub mod image;
pub mod infra;
pub mod inspect;
pub mod journal;
pub mod local;
pub mod migration;
pub mod model;
pub mod plan;
pub mod probe;
pub mod process;
pub mod release;
pub mod report;
pub mod service;
pub mod site;
