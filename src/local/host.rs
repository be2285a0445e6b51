//! This machine: running a program for its output, finding a process again, looking at ports and at Docker's bridge.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::process::{self, Command, without_cloud_credentials};

use super::error::LocalError;
use super::settings::Settings;

/// How many of a program's last lines an error keeps.
const TAIL: usize = 20;

/// Runs `script` in `directory` with `variables`, which are how it gets paths: so none needs quoting. `Err` inside are its last lines.
pub(super) async fn sh(
    settings: &Settings,
    operation: &'static str,
    script: &str,
    directory: &Path,
    variables: &[(&str, OsString)],
) -> Result<Result<(), Vec<String>>, LocalError> {
    let mut environment = without_cloud_credentials(settings.environment.clone().into_iter());
    environment.extend(variables.iter().map(|(name, value)| ((*name).into(), value.clone())));
    let command =
        Command { script: script.to_owned(), directory: directory.to_owned(), environment, deadline: Some(Duration::from_mins(15)) };
    let mut tail = VecDeque::new();
    let ended = process::run(&command, |_, line| {
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    });
    let ended = ended.await.map_err(|source| LocalError::Program { operation, source })?;
    Ok(if ended.status.is_success() { Ok(()) } else { Err(tail.into()) })
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> Vec<String> {
    let bytes = fs::read(log).unwrap_or_default();
    let lines: Vec<_> = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(TAIL)..].to_vec()
}

/// The process in the first line of `file`, if it still runs and its command line holds `sign`: an id may by now be another's.
///
/// In the first moment of a process there is no command line yet, and this is `None`.
pub(super) async fn running(settings: &Settings, file: &Path, sign: &str) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    let pid = text.lines().next()?.trim().parse().ok().and_then(Pid::from_raw)?;
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return None;
    }
    // A process that has ended but was not waited for has no command line, so counts as gone.
    let proc = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("cmdline");
    let is_ours = if Path::new("/proc/self/cmdline").exists() {
        String::from_utf8_lossy(&fs::read(proc).ok()?).contains(sign)
    } else {
        let variables = [("PID", pid.as_raw_nonzero().to_string().into()), ("SIGN", sign.into())];
        let script = r#"ps -ww -o command= -p "$PID" | grep -qF -- "$SIGN""#;
        matches!(sh(settings, "look at processes", script, Path::new("/"), &variables).await, Ok(Ok(())))
    };
    is_ours.then_some(pid)
}

/// Ends the process in the first line of `file`, which leads its group: SIGTERM, and SIGKILL to the whole group when `grace` is over or
/// the process is gone.
pub(super) async fn stop(settings: &Settings, file: &Path, sign: &str, pid: Pid, grace: Duration) {
    kill_process(pid, Signal::TERM).ok();
    wait_for_end(settings, file, sign, grace).await;
    kill_process_group(pid, Signal::KILL).ok();
    wait_for_end(settings, file, sign, Duration::from_secs(2)).await;
}

async fn wait_for_end(settings: &Settings, file: &Path, sign: &str, limit: Duration) {
    let started = Instant::now();
    while started.elapsed() < limit && running(settings, file, sign).await.is_some() {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Does anything listen on this port of 127.0.0.1?
pub(super) async fn answers(port: u16) -> bool {
    matches!(timeout(Duration::from_secs(2), TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await, Ok(Ok(_)))
}

/// Networks of Docker's bridges, and this machine's address on the default one, which containers can reach.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bridges {
    pub(super) gateway: Option<Ipv4Addr>,
    /// Address and length of the prefix.
    pub(super) networks: Vec<(Ipv4Addr, u32)>,
}

/// Reads the kernel's table of routes; there is none on macOS, where Docker's bridge is inside a virtual machine.
///
/// <https://man7.org/linux/man-pages/man5/proc_pid_net.5.html>
pub(super) fn bridges() -> Bridges {
    let mut found = networks(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    found.sort_by_key(|(name, ..)| name != "docker0");
    let gateway = found.first().filter(|(name, ..)| name == "docker0").and_then(|(_, network, _)| {
        // Which address would this machine use to talk to a container? Connecting a UDP socket asks that, and sends nothing.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::from_bits(network.to_bits() + 2), 9)).ok()?;
        match socket.local_addr().ok()?.ip() {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        }
    });
    Bridges { gateway, networks: found.into_iter().map(|(_, network, prefix)| (network, prefix)).collect() }
}

fn networks(routes: &str) -> Vec<(String, Ipv4Addr, u32)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next().filter(|name| *name == "docker0" || name.starts_with("br-"))?;
        // In the byte order of the network, written as a number of the machine's.
        let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
        let (network, mask) = (address(fields.next()?)?, address(fields.nth(5)?)?);
        (mask.to_bits() != 0).then(|| (name.to_owned(), network, mask.to_bits().leading_ones()))
    };
    routes.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridges_networks_are_read_from_the_routes() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      br-1a2b\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        if cfg!(target_endian = "little") {
            let expected =
                [("br-1a2b".to_owned(), Ipv4Addr::new(172, 18, 0, 0), 16), ("docker0".to_owned(), Ipv4Addr::new(172, 17, 0, 0), 16)];
            assert_eq!(networks(routes), expected);
        }
    }

    #[tokio::test]
    async fn a_process_is_found_by_its_id_and_its_command_line() {
        let settings = Settings::from_environment([("HOME".into(), "/h".into())].into_iter()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        assert_eq!(running(&settings, &file, "x").await, None);
        let mut child = tokio::process::Command::new("sleep").arg("7007.1").process_group(0).kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        fs::write(&file, format!("{pid}\nmore")).unwrap();
        assert_eq!(running(&settings, &file, "7007.2").await, None);
        // The kernel says that a program has started a moment before it shows its command line.
        let found = timeout(Duration::from_secs(5), async {
            loop {
                match running(&settings, &file, "7007.1").await {
                    Some(found) => return found,
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        });
        let found = found.await.unwrap();
        stop(&settings, &file, "7007.1", found, Duration::from_secs(5)).await;
        assert_eq!(running(&settings, &file, "7007.1").await, None);
        assert!(!child.wait().await.unwrap().success());
    }
}
