//! Services on ECS: the next revision of each, and the watch over the deployment that it makes.
//!
//! `observe`, `plan` and `execute` as in every feature. `revision` is the document that is registered; `look` asks for all services at
//! once, `watch` judges what it shows, `crash` counts stopped tasks, `explain` says why. `execute_start` begins, `execute_say` finds
//! the words, `execute_back` brings a service back, `execute_schedules` lets scheduled tasks follow, `execute_health` asks it how it is, `execute_leave` says what goes on when the run has
//! to end.
//!
//! Deliberately absent: "stable". A service that ECS has rolled back is stable; only our own deployment's end counts.

mod crash;
pub mod execute;
mod execute_back;
pub mod execute_health;
pub mod execute_housekeeping;
pub mod execute_leave;
mod execute_say;
mod execute_schedules;
mod execute_start;
mod explain;
mod found;
mod look;
pub mod observe;
pub mod plan;
pub mod revision;
mod watch;
