//! Runs one script to its end, or to its deadline.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, sleep_until};

use super::lines::Lines;

/// How long a group has from SIGTERM to SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long output is waited for when the shell has ended, but something in the background still holds the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// A script to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// What `/bin/sh -c` gets.
    pub script: String,
    /// Where it runs.
    pub directory: PathBuf,
    /// All of its environment: nothing is inherited, not even `PATH`.
    pub environment: BTreeMap<OsString, OsString>,
    /// How long it may take, if that is limited.
    pub deadline: Option<Duration>,
}

/// Which of its two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a script ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// With what.
    pub status: Status,
    /// After how long.
    pub elapsed: Duration,
}

/// What a script ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl Status {
    /// Did it exit with 0?
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// Why a script did not come to an end of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The directory that it should run in is not there.
    #[error("the directory `{}` does not exist", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The shell could not be started.
    #[error("failed to start `/bin/sh` in `{}`", path.display())]
    Start {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("failed to start `{}` in `{}`", program.display(), path.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It was asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// Its output or its end could not be read. It has been killed.
    #[error("failed to {operation} a child process")]
    Watch {
        /// "wait for", "read the output of".
        operation: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// It took longer than it may, and was killed.
    #[error("it took longer than {} s and was stopped", after.as_secs_f32())]
    Deadline {
        /// How long it was allowed to take.
        after: Duration,
    },
}

impl ProcessError {
    /// Was it stopped because it took too long?
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }
}

/// Runs `command` and gives every line of its output to `on_line`, in order for each of the two outputs.
///
/// When this returns, or its future is dropped, nothing of the script's process group is left: what it started in the background is
/// killed as well. A deadline ends the group with SIGTERM, and five seconds later with SIGKILL; dropping the future with both at once.
///
/// # Errors
/// An exit code other than 0 is none. [`ProcessError::Deadline`]; and when the script could not be started.
pub async fn run(command: &Command, mut on_line: impl FnMut(Source, &str) + Send) -> Result<Ended, ProcessError> {
    let started = Instant::now();
    let (mut child, group) = start(command)?;
    let mut stdout = Output::new(Source::Stdout, child.stdout.take());
    let mut stderr = Output::new(Source::Stderr, child.stderr.take());
    let mut ended = None;
    let mut late = false;
    let mut limit = command.deadline.map(|deadline| started + deadline);
    while ended.is_none() || stdout.is_open() || stderr.is_open() {
        tokio::select! {
            read = stdout.read(), if stdout.is_open() => stdout.take(read?, &mut on_line),
            read = stderr.read(), if stderr.is_open() => stderr.take(read?, &mut on_line),
            status = child.wait(), if ended.is_none() => {
                ended = Some((status.map_err(|source| ProcessError::Watch { operation: "wait for", source })?, started.elapsed()));
                if !late {
                    limit = Some(Instant::now() + DRAIN);
                }
            }
            () = sleep_until(limit.unwrap_or(started)), if limit.is_some() => {
                if late || ended.is_some() {
                    break;
                }
                late = true;
                limit = Some(Instant::now() + GRACE);
                group.signal(Signal::TERM);
            }
        }
    }
    group.signal(Signal::KILL);
    stdout.finish(&mut on_line);
    stderr.finish(&mut on_line);
    match (late, ended) {
        (false, Some((status, elapsed))) => {
            let signal = || Status::Signaled(status.signal().unwrap_or_default());
            Ok(Ended { status: status.code().map_or_else(signal, Status::Exited), elapsed })
        }
        (_, None) => {
            drop(child.wait().await);
            Err(ProcessError::Deadline { after: command.deadline.unwrap_or_default() })
        }
        (true, Some(_)) => Err(ProcessError::Deadline { after: command.deadline.unwrap_or_default() }),
    }
}

fn start(command: &Command) -> Result<(tokio::process::Child, Group), ProcessError> {
    let path = &command.directory;
    if !path.is_dir() {
        return Err(ProcessError::NoDirectory { path: path.clone() });
    }
    let failed = |source| ProcessError::Start { path: path.clone(), source };
    let child = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(&command.script)
        .current_dir(path)
        .env_clear()
        .envs(&command.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let leader = leader.ok_or_else(|| failed(io::Error::other("it has no process id")))?;
    Ok((child, Group(leader)))
}

/// A process group, killed when this is dropped.
///
/// The id stays the group's as long as it has a member. When the last is gone, the kernel may give the id away, but counts through all
/// others first: a signal sent in the moment after the end finds nobody.
pub(super) struct Group(pub(super) Pid);

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        // The only failure is that nobody is left.
        kill_process_group(self.0, signal).ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        self.signal(Signal::KILL);
    }
}

/// One of the two outputs.
struct Output<R> {
    source: Source,
    pipe: Option<R>,
    buffer: Vec<u8>,
    lines: Lines,
}

impl<R: AsyncRead + Unpin> Output<R> {
    fn new(source: Source, pipe: Option<R>) -> Self {
        Self { source, pipe, buffer: vec![0; 16 * 1024], lines: Lines::default() }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads once, into the buffer. Nothing is lost if this is dropped before it is done.
    async fn read(&mut self) -> Result<usize, ProcessError> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        pipe.read(&mut self.buffer).await.map_err(|source| ProcessError::Watch { operation: "read the output of", source })
    }

    /// Gives the lines in the first `read` bytes of the buffer; none at all are the end.
    fn take(&mut self, read: usize, on_line: &mut impl FnMut(Source, &str)) {
        self.lines.take(&self.buffer[..read], &mut |line: &str| on_line(self.source, line));
        if read == 0 {
            self.pipe = None;
        }
    }

    fn finish(&mut self, on_line: &mut impl FnMut(Source, &str)) {
        self.lines.finish(&mut |line: &str| on_line(self.source, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(script: &str) -> Command {
        let environment = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
        Command { script: script.into(), directory: "/".into(), environment, deadline: None }
    }

    async fn output(command: &Command) -> (Result<Ended, ProcessError>, Vec<(Source, String)>) {
        let mut lines = Vec::new();
        let ended = run(command, |source, line| lines.push((source, line.to_owned()))).await;
        (ended, lines)
    }

    /// Is any process running whose arguments hold `marker`?
    fn runs(marker: &str) -> bool {
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        processes
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .any(|arguments| arguments.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes()))
    }

    async fn is_gone(marker: &str) -> bool {
        for _ in 0..1000 {
            if !runs(marker) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn output_status_and_environment_are_the_scripts_own() {
        let mut command = script("pwd; echo err >&2; env; cat; exit 7");
        command.directory = "/tmp".into();
        command.environment.insert("ONLY".into(), "this".into());
        let (ended, lines) = output(&command).await;
        assert_eq!(ended.unwrap().status, Status::Exited(7));
        assert!(lines.contains(&(Source::Stdout, "/tmp".into())) && lines.contains(&(Source::Stderr, "err".into())));
        assert!(lines.contains(&(Source::Stdout, "ONLY=this".into())));
        assert!(!lines.iter().any(|(_, line)| line.starts_with("CARGO") || line.starts_with("HOME=")), "{lines:?}");
    }

    #[tokio::test]
    async fn a_signal_is_no_exit_code_and_a_lot_of_output_is_not_lost() {
        let (ended, lines) = output(&script("seq 100000; seq 100000 >&2; kill -9 $$")).await;
        assert_eq!(ended.unwrap().status, Status::Signaled(9));
        assert_eq!(lines.len(), 200_000);
    }

    #[tokio::test]
    async fn what_cannot_start_is_named() {
        let mut command = script("true");
        command.directory = "/nowhere".into();
        assert!(matches!(run(&command, |_, _| ()).await, Err(ProcessError::NoDirectory { .. })));
    }

    #[tokio::test]
    async fn what_runs_in_the_background_is_gone_when_the_shell_has_ended() {
        // One holds the pipe, the other does not.
        let started = Instant::now();
        let (ended, lines) = output(&script("sleep 7001 & sleep 7002 >/dev/null 2>&1 & echo done")).await;
        assert!(ended.unwrap().status.is_success());
        assert_eq!(lines, [(Source::Stdout, "done".into())]);
        assert!(started.elapsed() < Duration::from_mins(1));
        assert!(is_gone("7001").await && is_gone("7002").await);
    }

    #[tokio::test]
    async fn a_deadline_asks_first_and_kills_later() {
        let mut command = script("trap 'echo asked; exit 0' TERM; echo on; sleep 7003 & wait");
        // Long enough for the shell to have set its trap, on a busy machine too.
        command.deadline = Some(Duration::from_secs(2));
        let (ended, lines) = output(&command).await;
        assert!(ended.unwrap_err().is_deadline());
        assert_eq!(lines.last(), Some(&(Source::Stdout, "asked".into())));
        assert!(is_gone("7003").await);

        let started = Instant::now();
        command.script = "trap '' TERM; sleep 7004 & wait; sleep 7004".into();
        assert!(output(&command).await.0.unwrap_err().is_deadline());
        assert!(started.elapsed() >= GRACE);
        assert!(is_gone("7004").await);
    }

    #[tokio::test]
    async fn dropping_the_future_kills_the_whole_tree() {
        let command = script("trap '' TERM; (sleep 7005 & sleep 7006) & echo on; wait");
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        {
            let running = run(&command, |_, line| drop(said.send(line.to_owned())));
            tokio::select! {
                ended = running => panic!("{ended:?}"),
                line = heard.recv() => assert_eq!(line.as_deref(), Some("on")),
            }
        }
        assert!(is_gone("7005").await && is_gone("7006").await);
    }
}
