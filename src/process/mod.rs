//! Child processes: a shell script in a process group of its own, its output line by line, a deadline, and nothing left over; and
//! sessions of several programs, whose background processes live until the session's end.
//!
//! Deliberately absent: printing and events; a terminal or any input for the child; inheriting the environment (a caller says all of it);
//! and catching a child that leaves its process group by `setsid`, as a daemon does on purpose.

mod environment;
mod lines;
mod run;
mod session;
mod tail;
mod user;

pub use environment::without_cloud_credentials;
pub use run::{Command, Ended, ProcessError, Source, Status, run};
pub use session::{Invocation, Session};
pub use tail::Tail;
pub use user::{User, find_program};
