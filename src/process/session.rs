//! Several programs one after the other, whose background processes live on until the session ends.
//!
//! Both outputs of a program go through one pipe, so that their lines keep their order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::lines::Lines;
use super::run::{GRACE, Group, ProcessError, Status};
use super::user::User;

/// How long a pipe that something in the background still holds is listened to after the program's end.
const QUIET: Duration = Duration::from_millis(100);

/// A program to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
    /// All of its environment, save the session's mark.
    pub environment: BTreeMap<OsString, OsString>,
    /// As whom, if not as this process's user.
    pub user: Option<User>,
}

/// Programs that belong together. When it is dropped, nothing of them is left: neither in their process groups, nor elsewhere with the
/// session's mark in its environment (looked for in `/proc`, where there is one).
pub struct Session {
    mark: (String, String),
    groups: Vec<Group>,
    /// What background processes print, from the tasks that listen to them.
    background: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

impl Session {
    /// A session whose programs have the variable `name` set to `value`, which nothing else on the machine has.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        Self { mark: (name.to_owned(), value.to_owned()), groups: Vec::new(), background: mpsc::unbounded_channel() }
    }

    /// Runs a program to its end and gives every line that it, or something earlier in the background, prints to `on_line`.
    ///
    /// What it has left in the background goes on. If `stop` comes to its end first, or `deadline` passes, the program's group gets SIGTERM,
    /// and five seconds later SIGKILL.
    ///
    /// # Errors
    /// An exit code other than 0 is none. [`ProcessError::Stopped`] and [`ProcessError::Deadline`]; or it could not be started.
    pub async fn run(
        &mut self,
        invocation: &Invocation,
        deadline: Option<Instant>,
        stop: impl Future<Output = ()>,
        mut on_line: impl FnMut(&str),
    ) -> Result<Status, ProcessError> {
        let started = Instant::now();
        let (mut child, mut pipe) = self.start(invocation)?;
        let mut lines = Lines::default();
        let mut buffer = vec![0; 16 * 1024];
        let mut ending: Option<ProcessError> = None;
        let mut limit = deadline;
        let mut open = true;
        let watch = |operation| move |source| ProcessError::Watch { operation, source };
        tokio::pin!(stop);
        let status = loop {
            tokio::select! {
                biased;
                () = &mut stop, if ending.is_none() => {
                    ending = Some(ProcessError::Stopped);
                    limit = Some(Instant::now() + GRACE);
                    self.signal(Signal::TERM);
                }
                () = sleep_until(limit.unwrap_or(started)), if limit.is_some() => {
                    if ending.is_some() {
                        self.signal(Signal::KILL);
                        limit = None;
                    } else {
                        ending = Some(ProcessError::Deadline { after: started.elapsed() });
                        limit = Some(Instant::now() + GRACE);
                        self.signal(Signal::TERM);
                    }
                }
                read = pipe.read(&mut buffer), if open => {
                    let read = read.map_err(watch("read the output of"))?;
                    open = read > 0;
                    lines.take(&buffer[..read], &mut on_line);
                }
                Some(line) = self.background.1.recv() => on_line(&line),
                status = child.wait() => break status.map_err(watch("wait for"))?,
            }
        };
        while open {
            match timeout(QUIET, pipe.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => lines.take(&buffer[..read], &mut on_line),
                Ok(_) => open = false,
                Err(_) => break,
            }
        }
        lines.finish(&mut on_line);
        if open {
            tokio::spawn(listen(pipe, self.background.0.clone()));
        }
        if let Some(error) = ending {
            self.signal(Signal::KILL);
            return Err(error);
        }
        // The number of a group without members may be given to others.
        if self.groups.last().is_some_and(|group| test_kill_process_group(group.0).is_err()) {
            self.groups.pop();
        }
        let signal = || Status::Signaled(status.signal().unwrap_or_default());
        Ok(status.code().map_or_else(signal, Status::Exited))
    }

    fn start(&mut self, invocation: &Invocation) -> Result<(tokio::process::Child, Receiver), ProcessError> {
        let failed = |source| ProcessError::Program { program: invocation.program.clone(), path: invocation.directory.clone(), source };
        if !invocation.directory.is_dir() {
            return Err(ProcessError::NoDirectory { path: invocation.directory.clone() });
        }
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = std::process::Command::new(&invocation.program);
        command
            .args(&invocation.arguments)
            .current_dir(&invocation.directory)
            .env_clear()
            .envs(&invocation.environment)
            .env(&self.mark.0, &self.mark.1)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer)
            .process_group(0);
        if let Some(user) = invocation.user.filter(|user| !user.is_own()) {
            command.uid(user.uid).gid(user.gid);
        }
        let mut command = tokio::process::Command::from(command);
        let child = command.spawn().map_err(failed)?;
        // The command holds the writing end: the pipe would never end.
        drop(command);
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        self.groups.push(Group(leader.ok_or_else(|| failed(io::Error::other("it has no process id")))?));
        Ok((child, Receiver::from_owned_fd(reader.into()).map_err(failed)?))
    }

    /// Signals the newest group: the program that runs now.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.groups.last() {
            group.signal(signal);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.groups.clear();
        // What has left its group by `setsid` is found by the mark; a second look finds what was being born during the first.
        let mark = format!("{}={}", self.mark.0, self.mark.1);
        for _ in 0..5 {
            let marked = marked(mark.as_bytes());
            if marked.is_empty() {
                return;
            }
            for process in marked {
                kill_process(process, Signal::KILL).ok();
            }
        }
    }
}

/// The processes with this entry in their environment.
fn marked(mark: &[u8]) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |number: &i32| {
        let environment = std::fs::read(format!("/proc/{number}/environ"));
        environment.is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    numbers.filter(is_marked).filter_map(Pid::from_raw).collect()
}

async fn listen(mut pipe: Receiver, to: mpsc::UnboundedSender<String>) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut give = |line: &str| {
        // Nobody listens after the session's end.
        to.send(line.to_owned()).ok();
    };
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        lines.take(&buffer[..read], &mut give);
    }
    lines.finish(&mut give);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            directory: "/".into(),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            user: None,
        }
    }

    async fn run(session: &mut Session, script: &str) -> (Result<Status, ProcessError>, Vec<String>) {
        let mut lines = Vec::new();
        let status = session.run(&shell(script), None, std::future::pending(), |line| lines.push(line.to_owned())).await;
        (status, lines)
    }

    #[tokio::test]
    async fn the_outputs_keep_their_order_and_the_status_is_the_programs() {
        let mut session = Session::new("MARK", "order");
        let (status, lines) = run(&mut session, "for n in 1 2 3; do echo o$n; echo e$n >&2; done; exit 7").await;
        assert_eq!(lines, ["o1", "e1", "o2", "e2", "o3", "e3"]);
        assert_eq!(status.unwrap(), Status::Exited(7));
        assert_eq!(run(&mut session, "kill -9 $$").await.0.unwrap(), Status::Signaled(9));
    }

    #[tokio::test]
    async fn the_background_lives_until_the_session_ends_wherever_it_went() {
        let mut session = Session::new("MARK", "background-91001");
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let waits = |name: &str| format!("until [ -e {at}/{name} ]; do sleep 0.05; done");
        let first = format!("sleep 91001 & echo $!; ({}; echo late; touch {at}/said) & setsid sleep 91002 >/dev/null 2>&1 &", waits("go"));
        let (status, lines) = run(&mut session, &first).await;
        assert!(status.unwrap().is_success());
        let second = format!("touch {at}/go; {}; kill -0 {} && echo lives", waits("said"), lines[0]);
        let (_, mut later) = run(&mut session, &second).await;
        let ended = Instant::now() + Duration::from_mins(1);
        // It comes through a pipe of its own.
        while !later.iter().any(|line| line == "late") {
            assert!(Instant::now() < ended, "{later:?}");
            later.extend(run(&mut session, "sleep 0.1").await.1);
        }
        later.sort_unstable();
        assert_eq!(later, ["late", "lives"]);
        // The one that has said so is gone in a moment.
        while marked(b"MARK=background-91001").len() != 2 {
            assert!(Instant::now() < ended);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(session);
        while !marked(b"MARK=background-91001").is_empty() {
            assert!(Instant::now() < ended);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_deadline_and_a_stop_end_it_with_all_that_it_started() {
        let mut session = Session::new("MARK", "deadline");
        let late = Some(Instant::now() + Duration::from_millis(100));
        let error = session.run(&shell("sleep 91003 & sleep 91003"), late, std::future::pending(), |_| {}).await.unwrap_err();
        assert!(error.is_deadline());
        let soon = tokio::time::sleep(Duration::from_millis(100));
        let error = session.run(&shell("sleep 91004"), None, soon, |_| {}).await.unwrap_err();
        assert!(matches!(error, ProcessError::Stopped));
    }
}
