//! A project on disk, under Git, in which the real binary runs. Of the surrounding environment nothing reaches it but `PATH`, so that a
//! test can neither find real credentials nor depend on whose machine it is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// The longest that anything may take. A test that hangs says so instead of holding up the others for ever; one on a busy machine does not.
const PATIENCE: Duration = Duration::from_mins(10);

/// Waits until `is` holds.
#[track_caller]
pub(crate) fn until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Is any process running with `marker` among its arguments?
pub(crate) fn runs(marker: &str) -> bool {
    marked(marker).next().is_some()
}

/// Waits until `count` processes run with `marker` among their arguments, and kills them. What has been said of a program may be heard before
/// it has begun.
#[track_caller]
pub(crate) fn end(marker: &str, count: usize) {
    until(marker, || marked(marker).count() == count);
    for pid in marked(marker) {
        kill_process(pid, Signal::KILL).ok();
    }
}

fn marked(marker: &str) -> impl Iterator<Item = Pid> {
    let has = move |arguments: &Vec<u8>| arguments.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.filter_map(move |entry| {
        std::fs::read(entry.path().join("cmdline")).ok().filter(has)?;
        Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)
    })
}

/// A project on disk.
pub(crate) struct Scene {
    root: TempDir,
    environment: BTreeMap<String, OsString>,
}

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Panics with everything that was said, unless it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "signal {:?}\n--- stdout\n{}\n--- stderr\n{}", self.signal, self.stdout, self.stderr);
        self
    }
}

impl Scene {
    /// An empty project under Git, whose binary will talk to `endpoint_url` with the keys `test`/`test`, in `us-east-1`.
    pub(crate) fn new(endpoint_url: &str) -> Self {
        let root = TempDir::new().unwrap();
        let mut scene = Self { root, environment: BTreeMap::new() };
        for folder in [scene.project(), scene.home(), scene.programs()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let mut path = scene.programs().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let fixed: [(&str, OsString); 15] = [
            ("PATH", path),
            ("HOME", scene.home().into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "dumb".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ENDPOINT_URL", endpoint_url.into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            // A commit's id is the same in every run.
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_AUTHOR_NAME", "Ada".into()),
            ("GIT_AUTHOR_EMAIL", "ada@shop.example".into()),
            ("GIT_COMMITTER_NAME", "Ada".into()),
            ("GIT_COMMITTER_EMAIL", "ada@shop.example".into()),
        ];
        scene.environment.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        scene.git(&["init", "--quiet", "--initial-branch=main"]);
        scene
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// An empty home.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn programs(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    /// Sets a variable for every later run.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// Takes a variable away from every later run.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    /// Writes a file of the project, with the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        write(&self.project().join(path), content.as_ref());
        self
    }

    /// Removes a file of the project.
    pub(crate) fn remove(&self, path: &str) -> &Self {
        std::fs::remove_file(self.project().join(path)).unwrap();
        self
    }

    /// Puts a shell script on the `PATH` in front of everything else, in the place of `npm`, say.
    pub(crate) fn program(&self, name: &str, script: &str) -> &Self {
        let path = self.programs().join(name);
        write(&path, format!("#!/bin/sh\n{script}\n").as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Commits everything and gives the commit's full id. The `number`-th minute of a fixed day is its date.
    pub(crate) fn commit(&self, number: u32) -> String {
        let date = format!("2026-01-01T00:{number:02}:00Z");
        self.git(&["add", "--all"]);
        let mut commit = self.command("git", &["commit", "--quiet", "--allow-empty", "--message", &format!("commit {number}")]);
        commit.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        assert!(commit.status().unwrap().success());
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs Git in the project and gives what it says, without the last line's end.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git", arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs the binary in the project to its end.
    pub(crate) fn windlass(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).wait()
    }

    /// Starts the binary in the project, for a test that meets it on its way.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.spawn(env!("CARGO_BIN_EXE_windlass"), arguments)
    }

    /// Runs another program in the same surroundings to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        self.spawn(program, arguments).wait()
    }

    /// Starts another program in the same surroundings.
    pub(crate) fn spawn(&self, program: &str, arguments: &[&str]) -> Running {
        Running::spawn(self.command(program, arguments))
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.project()).env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }
}

/// A program on its way, in a process group of its own; all of the group ends when this is dropped.
pub(crate) struct Running {
    child: Child,
    output: Option<[Said; 2]>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let output = [Said::by(child.stdout.take()), Said::by(child.stderr.take())];
        Self { child, output: Some(output) }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// The process id, for a closure that outlives the borrow.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the binary alone, as `kill` does: SIGINT, SIGTERM.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until this is true of what it has said, on both streams.
    #[track_caller]
    pub(crate) fn until_said(&self, what: &str, is: impl Fn(&str) -> bool) {
        let so_far = || self.output.iter().flatten().map(Said::so_far).collect::<String>();
        let started = Instant::now();
        while !is(&so_far()) {
            assert!(started.elapsed() < PATIENCE, "it has not said {what}:\n{}", so_far());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has said `text`.
    #[track_caller]
    pub(crate) fn until_says(&self, text: &str) {
        self.until_said(text, |said| said.contains(text));
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > PATIENCE => break None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        // What it has left behind would hold its output open.
        kill_process_group(self.pid(), Signal::KILL).ok();
        let [stdout, stderr] = self.output.take().unwrap().map(Said::all);
        let Some(status) = status else { panic!("still running after {PATIENCE:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}") };
        Outcome { code: status.code(), signal: status.signal(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.output.is_some() {
            kill_process_group(self.pid(), Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

/// What a program says on a stream.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Said {
    fn by(stream: Option<impl Read + Send + 'static>) -> Self {
        let (mut stream, bytes) = (stream.unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let heard = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All of it, once the stream has ended.
    fn all(self) -> String {
        let Self { bytes, reader } = self;
        reader.join().unwrap();
        String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
