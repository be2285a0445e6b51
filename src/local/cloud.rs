//! The emulator: installing, starting, asking and stopping `ministack`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::process::without_cloud_credentials;

use super::Cloud;
use super::error::LocalError;
use super::host::{answers, running, sh, stop, tail};
use super::settings::Settings;

/// Pinned, because it changes weekly. Without `[full]` there is no Docker client in it, and it makes up that containers run.
const VERSION: &str = "1.5.33";
/// How long it may take to answer after its start. It first removes the containers of an earlier run.
const START: Duration = Duration::from_mins(1);
/// How long it may take to stop, which includes stopping its containers.
const STOP: Duration = Duration::from_secs(15);

const INSTALL: &str = r#"
set -e
rm -rf "$VENV"
python3 -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --no-input "$PACKAGE"
touch "$VENV/complete"
"#;

/// A session of its own, so that neither Ctrl-C nor the end of a terminal reaches it.
const RUN: &str = "import os; os.setsid(); from ministack.app import main; main()";

/// The files of one emulator. Those on other ports have their own; the programs are shared.
struct Files {
    environment: PathBuf,
    home: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

fn files(settings: &Settings) -> Files {
    let home = settings.directory.join(format!("cloud-{}", settings.port));
    Files { environment: settings.directory.join(format!("ministack-{VERSION}")), pid: home.join("pid"), log: home.join("log"), home }
}

/// What its command line can be told by.
fn sign(settings: &Settings) -> String {
    format!("# the local cloud of windlass on port {}", settings.port)
}

async fn process(settings: &Settings) -> Option<Pid> {
    running(settings, &files(settings).pid, &sign(settings)).await
}

fn cloud(settings: &Settings, pid: Pid) -> Cloud {
    Cloud { endpoint: format!("http://127.0.0.1:{}", settings.port), pid: pid.as_raw_nonzero().get() }
}

pub(super) async fn up(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> Result<Cloud, LocalError> {
    if process(settings).await.is_none() {
        if answers(settings.port).await {
            return Err(LocalError::PortTaken { port: settings.port, what: "the local cloud", variable: "WINDLASS_LOCAL_PORT" });
        }
        install(settings, on_step).await?;
        on_step(&format!("starting the local cloud on 127.0.0.1:{}", settings.port));
        start(settings)?;
    }
    let started = Instant::now();
    let log = files(settings).log;
    loop {
        let pid = process(settings).await;
        match pid {
            Some(pid) if is_healthy(settings.port).await => return Ok(cloud(settings, pid)),
            // The process is there before it has become the program that it is to be.
            None if started.elapsed() > Duration::from_secs(2) => {
                return Err(LocalError::Unhealthy { after: None, tail: tail(&log), log });
            }
            _ if started.elapsed() > START => return Err(LocalError::Unhealthy { after: Some(START), tail: tail(&log), log }),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn install(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> Result<(), LocalError> {
    let environment = files(settings).environment;
    if environment.join("complete").exists() {
        return Ok(());
    }
    let operation = "install the local cloud";
    if sh(settings, operation, "command -v python3", Path::new("/"), &[]).await?.is_err() {
        return Err(LocalError::PythonAbsent);
    }
    let package = format!("ministack[full]=={VERSION}");
    on_step(&format!("installing {package} into `{}`", environment.display()));
    let variables = [("VENV", environment.into()), ("PACKAGE", OsString::from(&package))];
    let done = sh(settings, operation, INSTALL, &settings.directory, &variables).await?;
    done.map_err(|tail| LocalError::Install { package, tail })
}

fn start(settings: &Settings) -> Result<(), LocalError> {
    let Files { environment, home, pid, log } = files(settings);
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| LocalError::Files { operation, path, source }
    };
    // Nothing of an earlier run is to be seen in this one.
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &home)(error)),
        _ => fs::create_dir_all(&home).map_err(failed("create", &home))?,
    }
    let output = File::create(&log).map_err(failed("create", &log))?;
    let errors = output.try_clone().map_err(failed("open", &log))?;
    let mut variables = without_cloud_credentials(settings.environment.clone().into_iter());
    // These would move it, hide some of its services, or keep its state.
    let unwanted = ["EDGE_PORT", "USE_SSL", "SERVICES", "LOCALSTACK_PERSISTENCE"];
    variables.retain(|name, _| !unwanted.iter().any(|unwanted| name == unwanted));
    for (name, value) in [
        ("GATEWAY_PORT", settings.port.to_string()),
        // It would listen on every address, with Docker's socket behind it and no authentication before it.
        ("BIND_HOST", "127.0.0.1".to_owned()),
        // Each would open another port.
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        ("PERSIST_STATE", "0".to_owned()),
        ("S3_PERSIST", "0".to_owned()),
        ("RDS_PERSIST", "0".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ] {
        variables.insert(name.into(), value.into());
    }
    variables.insert("STATE_DIR".into(), home.join("state").into());
    variables.insert("S3_DATA_DIR".into(), home.join("s3").into());
    let python = environment.join("bin/python");
    let child = tokio::process::Command::new(&python)
        .arg("-c")
        .arg(format!("{RUN}  {}", sign(settings)))
        .current_dir(&home)
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(failed("run", &python))?;
    let id = child.id().map(|id| id.to_string()).unwrap_or_default();
    fs::write(&pid, id).map_err(failed("write", &pid))
}

/// Does it say that it is well? One request by hand, as this room has no other for an HTTP client.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /_ministack/health HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        io::Result::Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
    };
    matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}

pub(super) async fn status(settings: &Settings) -> Option<Cloud> {
    let pid = process(settings).await?;
    is_healthy(settings.port).await.then(|| cloud(settings, pid))
}

pub(super) async fn down(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> bool {
    let Some(pid) = process(settings).await else { return false };
    on_step("stopping the local cloud and its containers");
    let file = files(settings).pid;
    stop(settings, &file, &sign(settings), pid, STOP).await;
    fs::remove_file(file).ok();
    true
}
