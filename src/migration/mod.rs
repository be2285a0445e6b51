//! Migrations: one for each database, a gate before any service rolls.
//!
//! Deliberately absent: running one twice. An invocation whose answer was lost is never repeated; its outcome is unknown.

pub mod execute;
pub mod observe;
pub mod plan;
