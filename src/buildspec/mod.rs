//! Buildspecs: reads what AWS CodeBuild reads, and runs it as CodeBuild does, on this machine or in a container.
//!
//! [`run()`] runs one build. It takes an [`Order`], says what happens as [`Said`], and answers with a [`BuildResult`]: a failed build is no
//! error. [`run_batch()`] runs the builds of a batch, and [`read()`] is the parser alone.
//!
//! Deliberately absent: printing; the process's own environment (the order has it); Windows; compute types, which a machine does not have.

mod artifacts;
mod batch;
mod batch_plan;
mod cache;
mod container;
mod environment;
mod files;
mod lint;
mod log;
mod order;
mod outline;
mod phase;
mod problem;
mod read;
mod read_batch;
mod read_output;
mod reading;
mod report_coverage;
mod report_tests;
mod reports;
mod result;
mod run;
mod runtimes;
mod secrets;
mod shell;
mod shell_text;
pub mod spec;
mod tools;

pub use batch::run_batch;
pub use lint::lint;
pub use log::{CodebuildLog, Said};
pub use order::{CacheStore, Container, Order, Packaging, Source};
pub use outline::outline;
pub use problem::Problem;
pub use read::read;
pub use result::{ArtifactResult, ArtifactsResult, BuildResult, FailedCommand, PhaseResult, Refused, ReportResult, Status};
pub use run::run;
pub use spec::Buildspec;

/// The JSON Schema of buildspecs: strict, so that an editor marks what `read` warns about, too.
pub const SCHEMA: &str = include_str!("schema.json");
