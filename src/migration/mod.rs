//! Migrations: one for each database, a gate before any service rolls.
//!
//! Deliberately absent: running one twice. An invocation whose answer was lost is never repeated: its outcome is found out, or unknown.

pub mod checkout;
pub mod execute;
pub mod handler;
pub mod observe;
pub mod plan;
pub mod verdict;
pub mod zip;
