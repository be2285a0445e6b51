//! What the integration tests stand on: a local cloud of their own, a proxy in front of it that records and fails, and a project on disk
//! in which the real binary runs.
//!
//! Include it as `#[cfg(test)] #[path = "../support/mod.rs"] mod support;`: its own tests, which say what it promises, run with yours.

pub(crate) mod ministack;
pub(crate) mod own_engine;
pub(crate) mod parameter_store;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod request;
pub(crate) mod scene;
pub(crate) mod scripted;
pub(crate) mod seed;
mod tests;
