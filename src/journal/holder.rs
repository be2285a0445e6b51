//! Who holds a lock, and whether that process still lives, as far as can be told from here.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::model::ReleaseId;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// For which release.
    pub release: ReleaseId,
    /// Who: the ARN behind the credentials.
    pub by: String,
    /// Where: a build's URL, or the machine's name.
    pub at: String,
    /// Since when, by the holder's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Which process, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// A process of one machine, that no other process can be taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The machine, since it was started last, and the container in it.
    pub machine: String,
    /// Its id there.
    pub pid: u32,
    /// When it was started, as the system counts: ids are used again.
    pub started: String,
}

impl Process {
    /// This process; `None` where the system does not tell.
    #[must_use]
    pub fn this() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { machine: machine()?, pid, started: alive(pid)? })
    }

    /// Is it a process of this machine that has come to its end?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        machine().is_some_and(|machine| machine == self.machine) && alive(self.pid).is_none_or(|started| started != self.started)
    }
}

/// A container sees process ids of its own, and shares the boot id with its host.
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), container.display()))
}

/// When a process was started, if it is there and has not ended: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
fn alive(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ended = matches!(fields.first(), Some(&("Z" | "X")));
    (!ended).then(|| fields.get(19).map(|started| (*started).to_owned()))?
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_to_have_ended() {
        let this = Process::this().unwrap();
        assert!(!this.has_ended());
        let earlier = Process { started: "1".to_owned(), ..this.clone() };
        assert!(earlier.has_ended(), "its id was used again");
        let elsewhere = Process { machine: "other".to_owned(), ..earlier };
        assert!(!elsewhere.has_ended(), "nobody can tell");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { pid: child.id(), started: alive(child.id()).unwrap(), ..this };
        assert!(!process.has_ended());
        child.kill().unwrap();
        while !process.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.has_ended());
    }
}
