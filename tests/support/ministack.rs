//! The local cloud of the tests: one `ministack` per test binary, on a free port of the loopback address, gone with the process that
//! started it. Tests share it and keep apart by names of their own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// The version that `windlass local` installs.
const VERSION: &str = "1.5.33";

/// It ends with its standard input, that is: with the tests, however they end, as a `static` is never dropped. When it has an engine it is
/// given the time to remove its containers.
const RUN: &str = "
import os, shutil, signal, sys, threading, time
def leave():
    sys.stdin.buffer.read()
    if os.environ['DOCKER_HOST'] != 'unix:///nonexistent':
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(15)
    shutil.rmtree(os.environ['HOME'], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=leave, daemon=True).start()
from ministack.app import main
from ministack.services import ecs
ecs._ECS_DEPLOYMENT_STEADY_DELAY = float(os.environ['STEADY_AFTER'])
main()
";

/// A running local cloud; it ends when this is dropped.
pub(crate) struct Ministack {
    child: Child,
    url: String,
    /// Nobody else's cloud has the engine as long as this one has it.
    _engine: Option<File>,
}

/// The one that the tests of a binary share.
pub(crate) fn shared() -> &'static Ministack {
    static SHARED: LazyLock<Ministack> = LazyLock::new(|| Ministack::start(false));
    &SHARED
}

impl Ministack {
    /// Starts one. Without an engine, services "run" at once and hold no containers; with one, it removes every container that any
    /// ministack has labelled on that engine: it waits until no other test has the engine.
    pub(crate) fn start(with_engine: bool) -> Self {
        let started = (0..5).find_map(|_| launch(&Kind { with_engine, ..Kind::default() }));
        started.expect("ministack starts within five attempts")
    }

    /// As with an engine, and a deployment is complete only when its tasks have run for four seconds, not for one: a container that is to
    /// crash takes its time on a busy machine.
    pub(crate) fn start_for_crashes() -> Self {
        let started = (0..5).find_map(|_| launch(&Kind { with_engine: true, steady_after: "4", ..Kind::default() }));
        started.expect("ministack starts within five attempts")
    }

    /// Starts one without an engine that checks signatures and evaluates the policies of IAM's users; `test` may do everything.
    pub(crate) fn start_with_authorization() -> Self {
        let started = (0..5).find_map(|_| launch(&Kind { authorization: true, ..Kind::default() }));
        started.expect("ministack starts within five attempts")
    }

    /// Where it listens: `http://127.0.0.1:34567`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where its registry listens, which is the same place: `127.0.0.1:34567`.
    pub(crate) fn registry(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(20) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

/// Which one.
struct Kind {
    with_engine: bool,
    authorization: bool,
    /// After so many seconds a task that runs is taken for one that stays.
    steady_after: &'static str,
}

impl Default for Kind {
    fn default() -> Self {
        Self { with_engine: false, authorization: false, steady_after: "1" }
    }
}

/// `None` when another process took the port in between.
fn launch(kind: &Kind) -> Option<Ministack> {
    let Kind { with_engine, authorization, steady_after } = *kind;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let home = std::env::temp_dir().join(format!("windlass-ministack-{port}"));
    std::fs::create_dir_all(&home).unwrap();
    let alone = with_engine.then(|| {
        let file = File::create(std::env::temp_dir().join("windlass-tests-engine")).unwrap();
        file.lock().unwrap();
        file
    });
    let engine = if with_engine {
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
    } else {
        "unix:///nonexistent".to_owned()
    };
    let log = File::create(home.join("log")).unwrap();
    let child = Command::new(python())
        .args(["-c", RUN])
        .current_dir(&home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("DOCKER_HOST", engine)
        // Each would open a port that cannot be chosen.
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .env("AUTH", if authorization { "true" } else { "false" })
        .env("STEADY_AFTER", steady_after)
        .env("PERSIST_STATE", "0")
        .env("STATE_DIR", home.join("state"))
        .env("S3_DATA_DIR", home.join("s3"))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    // The child's standard input stays open in it: its end is the signal to leave.
    let mut cloud = Ministack { child, _engine: alone, url: format!("http://127.0.0.1:{port}") };
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(5) {
        if cloud.child.try_wait().unwrap().is_some() {
            return None;
        }
        if is_healthy(port) {
            return Some(cloud);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("ministack is not healthy after five minutes: see {}", home.join("log").display())
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /_ministack/health HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
    };
    ask().unwrap_or_default()
}

/// The interpreter beside `WINDLASS_TEST_MINISTACK` (a `…/bin/ministack`), else in the place where `windlass local up` installs it.
pub(crate) fn python() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let given = folder("WINDLASS_TEST_MINISTACK");
    let program = given.unwrap_or_else(|| {
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))).unwrap();
        cache.join(format!("windlass/local/ministack-{VERSION}/bin/ministack"))
    });
    assert!(
        program.exists(),
        "{} is not there: run `windlass local up` once, or set WINDLASS_TEST_MINISTACK to the `ministack` of a virtual environment with \
         `ministack[full]=={VERSION}`",
        program.display()
    );
    program.with_file_name("python")
}
