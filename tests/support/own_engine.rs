//! An engine of a test's own beside the machine's: a second `dockerd`, which a test may kill, fill up, or speak to over TLS.
//!
//! It needs root, as the first one does, and shares that one's bridge.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running engine; it ends when this is dropped, and all that it holds goes.
pub(crate) struct OwnEngine {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    tls: bool,
    /// Is its storage a file system of its own?
    mounted: bool,
}

impl OwnEngine {
    /// An engine at a socket.
    pub(crate) fn start() -> Self {
        Self::new(false, None)
    }

    /// An engine that speaks TLS, and to those alone who have a certificate.
    pub(crate) fn with_tls() -> Self {
        Self::new(true, None)
    }

    /// An engine on a disk of so many megabytes.
    pub(crate) fn on_disk_of(megabytes: u32) -> Self {
        Self::new(false, Some(megabytes))
    }

    fn new(tls: bool, megabytes: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("wl").tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        for name in ["data", "exec", "certs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        if let Some(megabytes) = megabytes {
            mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "none"], &folder.path().join("data"));
        }
        if tls {
            certificates(&folder.path().join("certs"));
        }
        let child = spawn(folder.path(), port, tls);
        let engine = Self { child, folder, port, tls, mounted: megabytes.is_some() };
        engine.wait();
        engine
    }

    /// Its disk has so many megabytes from now on.
    pub(crate) fn grow(&self, megabytes: u32) {
        mount(&["-o", &format!("remount,size={megabytes}m")], &self.folder.path().join("data"));
    }

    /// `unix:///…`, which the test itself speaks to.
    pub(crate) fn socket(&self) -> String {
        format!("unix://{}/s", self.folder.path().display())
    }

    /// `tcp://127.0.0.1:34567`, with TLS.
    pub(crate) fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The client's files: `ca.pem`, `cert.pem`, `key.pem`.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Kills it where it stands.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`OwnEngine::kill`].
    pub(crate) fn again(&mut self) {
        // A process that nobody has waited for yet would be taken for one that runs.
        for name in ["pid", "exec/containerd/containerd.pid"] {
            fs::remove_file(self.folder.path().join(name)).ok();
        }
        self.child = spawn(self.folder.path(), self.port, self.tls);
        self.wait();
    }

    fn wait(&self) {
        let started = Instant::now();
        while !docker(&self.socket(), &["version"]).status.success() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_mins(3), "the engine does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // Asked for it, it takes down what it has mounted; killed, it would not.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        let started = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if started.elapsed() > Duration::from_secs(15) {
                self.child.kill().ok();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // It binds its storage onto itself; and killed in the midst of a step, it has left that step's files mounted below.
        for _ in 0..=usize::from(self.mounted) {
            let storage = self.folder.path().join("data");
            Command::new("umount").args(["--recursive", "--lazy"]).arg(storage).stderr(Stdio::null()).status().ok();
        }
    }
}

/// Runs Docker's command line against an engine.
pub(crate) fn docker(engine: &str, arguments: &[&str]) -> std::process::Output {
    Command::new("docker").args(arguments).env("DOCKER_HOST", engine).stdin(Stdio::null()).output().unwrap()
}

fn spawn(folder: &Path, port: u16, tls: bool) -> Child {
    let file = |name: &str| folder.join(name).display().to_string();
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("dockerd");
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
    command.args(["--config-file", &file("daemon.json"), "--data-root", &file("data"), "--exec-root", &file("exec")]);
    command.args(["--pidfile", &file("pid"), "--host", &format!("unix://{}", file("s"))]);
    // Containers of two engines on one bridge must not have one address: those of this one are in a part of the bridge's net that the other
    // comes to last.
    command.args(["--bridge", "docker0", "--iptables=false", "--ip-masq=false"]);
    command.args(far_part(port).map(|part| format!("--fixed-cidr={part}")));
    if tls {
        command.args(["--host", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"]);
        command.args([
            "--tlscacert",
            &file("certs/ca.pem"),
            "--tlscert",
            &file("certs/server.pem"),
            "--tlskey",
            &file("certs/server-key.pem"),
        ]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().expect("`dockerd` is there: apt-get install docker.io")
}

/// `172.17.143.0/24` of `172.17.0.0/16`, which is the net that an engine gives its bridge: another one for each port, mostly.
fn far_part(port: u16) -> Option<String> {
    let format = "{{(index .IPAM.Config 0).Subnet}}";
    let output = Command::new("docker").args(["network", "inspect", "bridge", "--format", format]).output().unwrap();
    let subnet = String::from_utf8(output.stdout).unwrap();
    let net = subnet.trim().strip_suffix("/16")?;
    let first: Vec<&str> = net.split('.').take(2).collect();
    Some(format!("{}.{}.0/24", first.join("."), 64 + port % 190))
}

fn mount(arguments: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(mounted.success(), "mounting needs root");
}

/// As <https://docs.docker.com/engine/security/protect-access/> has them made.
fn certificates(folder: &Path) {
    let script = r#"
set -e
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$1" "${@:3}" 2>/dev/null; }
new ca-key.pem /CN=ca -x509 -days 2 -out ca.pem
new server-key.pem /CN=server -out server.csr
new key.pem /CN=client -out client.csr
sign() { openssl x509 -req -days 2 -in "$1" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out "$2" -extfile <(echo "$3") 2>/dev/null; }
sign server.csr server.pem "subjectAltName=IP:127.0.0.1"
sign client.csr cert.pem "extendedKeyUsage=clientAuth"
"#;
    let made = Command::new("bash").args(["-c", script]).current_dir(folder).status().unwrap();
    assert!(made.success(), "`openssl` is there: apt-get install openssl");
}
