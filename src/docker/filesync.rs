//! The build context, as `BuildKit` asks for it: a list of what there is, then the files that it does not have yet.
//!
//! <https://github.com/tonistiigi/fsutil>, `send.go`, `receive.go` and `types/wire.proto`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use prost::Message;
use tokio::sync::mpsc;

use super::archive::{Exactly, Unread};
use super::context::{Context, Kind};
use super::error::DockerError;
use super::grpc::{Answer, INTERNAL, Messages, Part, Status, framed, streamed, unary};

/// The bytes of a file go in pieces of this size.
const PIECE: usize = 32 * 1024;
/// So many files are on their way at a time, as `send.go` has it: the engine hashes and writes each by itself, and what it takes in waits
/// for a file whose last piece it has not written yet.
const AT_ONCE: usize = 4;
/// Go's `os.ModeDir` and `os.ModeSymlink`.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

/// The kinds of packets.
const STAT: i32 = 0;
const REQUEST: i32 = 1;
const DATA: i32 = 2;
const FIN: i32 = 3;

/// The directories that a build reads: its context, and the Dockerfile with its ignore file.
pub(super) struct Files {
    root: PathBuf,
    context: Arc<Vec<Stat>>,
    dockerfile: Arc<Vec<Stat>>,
    unread: Unread,
}

impl Files {
    /// A file's time is told to the nanosecond, and those stand for its content, so that a file which was changed within a second, or
    /// back in time, is never taken for the one that the engine has.
    pub(super) fn of(context: &Context, dockerfile: &str, unread: Unread) -> Self {
        let mut all = BTreeMap::new();
        for entry in &context.entries {
            let path: Vec<&str> = entry.path.split('/').collect();
            for above in 1..path.len() {
                all.entry(path[..above].to_vec()).or_insert_with(|| directory(&path[..above].join("/")));
            }
            all.insert(path, stat(&entry.path, &entry.kind));
        }
        let hidden = |stat: &&Stat| !context.hidden.contains(&stat.path);
        let ignores = [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()];
        let is_recipe = |stat: &&Stat| {
            stat.path == dockerfile
                || ignores.contains(&stat.path)
                || dockerfile.strip_prefix(&stat.path).is_some_and(|rest| rest.starts_with('/'))
        };
        let of_context = all.values().filter(hidden).cloned().collect();
        let of_dockerfile = all.values().filter(is_recipe).cloned().collect();
        Self { root: context.root.clone(), context: Arc::new(of_context), dockerfile: Arc::new(of_dockerfile), unread }
    }
}

fn directory(path: &str) -> Stat {
    Stat { path: path.to_owned(), mode: DIRECTORY | 0o755, ..Stat::default() }
}

fn stat(path: &str, kind: &Kind) -> Stat {
    match kind {
        Kind::Directory => directory(path),
        Kind::Symlink { target } => Stat { path: path.to_owned(), mode: SYMLINK | 0o777, linkname: target.clone(), ..Stat::default() },
        Kind::File { size, executable, modified, content } => {
            let content = u32::from_be_bytes([content.0[0], content.0[1], content.0[2], content.0[3]]);
            let nanoseconds = modified * 1_000_000_000 + u64::from(content) % 1_000_000_000;
            Stat {
                path: path.to_owned(),
                mode: if *executable { 0o755 } else { 0o644 },
                size: i64::try_from(*size).unwrap_or(i64::MAX),
                mod_time: i64::try_from(nanoseconds).unwrap_or(i64::MAX),
                ..Stat::default()
            }
        }
    }
}

/// Serves one directory.
pub(super) fn answer(files: &Files, request: Request<Incoming>) -> Answer {
    let name = request.headers().get("dir-name").and_then(|name| name.to_str().ok()).unwrap_or_default();
    let list = match name {
        "context" => Arc::clone(&files.context),
        "dockerfile" => Arc::clone(&files.dockerfile),
        other => return unary(Err(Status(INTERNAL, format!("there is no directory `{other}`")))),
    };
    let list = wanted_of(list, request.headers());
    let (to, parts) = mpsc::channel(64);
    let (wanted, wants) = blocking::channel();
    let (root, unread) = (files.root.clone(), files.unread.clone());
    tokio::task::spawn_blocking(move || send(&root, &list, wants, &to, &unread));
    tokio::spawn(async move {
        let mut messages = Messages::of(request);
        while let Some(packet) = messages.next::<Packet>().await {
            let over = packet.r#type == FIN;
            if wanted.send(if over { None } else { Some(packet) }).is_err() || over {
                break;
            }
        }
    });
    streamed(parts)
}

/// What of a list is asked for: `BuildKit` names paths where it does not need everything, as when it looks for an ignore file, or for what a
/// Dockerfile copies. More than that does no harm but takes time, so that is what there is for patterns, and for links, which it follows.
///
/// <https://github.com/moby/buildkit/blob/master/session/filesync/filesync.go> and `followlinks.go` of fsutil
fn wanted_of(list: Arc<Vec<Stat>>, headers: &HeaderMap) -> Arc<Vec<Stat>> {
    const NAMES: [&str; 2] = ["include-patterns", "followpaths"];
    let all = NAMES.iter().flat_map(|name| headers.get_all(*name)).map(|value| value.to_str().ok());
    let Some(paths) = all.map(|value| value.map(plain_path)).collect::<Option<Option<Vec<String>>>>().flatten() else { return list };
    let is_encoded = NAMES.iter().any(|name| headers.contains_key(format!("{name}-encoded")));
    let below = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let on_the_way = |stat: &Stat| paths.iter().any(|path| below(path, &stat.path));
    if paths.is_empty() || is_encoded || list.iter().any(|stat| stat.mode & SYMLINK != 0 && on_the_way(stat)) {
        return list;
    }
    let wanted = |stat: &&Stat| on_the_way(stat) || paths.iter().any(|path| below(&stat.path, path));
    Arc::new(list.iter().filter(wanted).cloned().collect())
}

/// A path of the context as the list has it; `None` for a pattern, and for the context itself.
fn plain_path(text: &str) -> Option<String> {
    let path = text.trim_start_matches("./").trim_matches('/');
    let is_plain =
        !path.is_empty() && path != "." && !path.contains(['*', '?', '[', '\\', '!']) && !path.split('/').any(|part| part == "..");
    is_plain.then(|| path.to_owned())
}

/// Lists everything, then sends what is asked for until there is nothing more, or nobody listens any more.
fn send(root: &Path, list: &[Stat], wants: blocking::Receiver<Option<Packet>>, to: &mpsc::Sender<Part>, unread: &Unread) {
    let end = Packet { r#type: STAT, ..Packet::default() };
    let entries = list.iter().map(|stat| Packet { stat: Some(stat.clone()), ..end.clone() });
    if !entries.chain([end.clone()]).all(|packet| say(to, &packet)) {
        return;
    }
    let wants = Mutex::new(wants);
    let is_over = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| send_files(root, list, &wants, to, unread))).collect();
        let ends: Vec<bool> = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect();
        ends.contains(&true)
    });
    if is_over && say(to, &Packet { r#type: FIN, ..Packet::default() }) {
        drop(to.blocking_send(Part::End(Status::ok())));
    }
}

/// Sends one file after the other, and says whether the engine said that it was the last. A file that cannot be read ends the answer.
fn send_files(
    root: &Path,
    list: &[Stat],
    wants: &Mutex<blocking::Receiver<Option<Packet>>>,
    to: &mpsc::Sender<Part>,
    unread: &Unread,
) -> bool {
    let mut buffer = vec![0; PIECE];
    loop {
        // One waits for the next request, the others for that one.
        let want = wants.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let packet = match want {
            Ok(Some(packet)) => packet,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let Some(stat) = list.get(packet.id as usize).filter(|_| packet.r#type == REQUEST) else { continue };
        let path = root.join(&stat.path);
        if let Err(source) = send_file(&path, stat, packet.id, &mut buffer, to) {
            unread.put(DockerError::Read { path, source });
            drop(to.blocking_send(Part::End(Status(INTERNAL, "the build context could not be read".to_owned()))));
            return false;
        }
    }
}

fn send_file(path: &Path, stat: &Stat, id: u32, buffer: &mut [u8], to: &mpsc::Sender<Part>) -> io::Result<()> {
    let mut file = Exactly { file: File::open(path)?, left: u64::try_from(stat.size).unwrap_or_default() };
    loop {
        let read = file.read(buffer)?;
        // The last piece is an empty one.
        if !say(to, &Packet { r#type: DATA, id, data: buffer[..read].to_vec(), stat: None }) || read == 0 {
            return Ok(());
        }
    }
}

/// Is anybody listening?
fn say(to: &mpsc::Sender<Part>, packet: &Packet) -> bool {
    to.blocking_send(Part::Message(framed(packet))).is_ok()
}

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(message, optional, tag = "2")]
    stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    id: u32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Stat {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint32, tag = "2")]
    mode: u32,
    #[prost(int64, tag = "5")]
    size: i64,
    /// In nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    mod_time: i64,
    #[prost(string, tag = "7")]
    linkname: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let link = Kind::Symlink { target: "src".into() };
        let list =
            vec![directory("deps"), directory("deps/a"), directory("deps2"), stat("link", &link), directory("src"), directory("src/x")];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        wanted_of(Arc::new(list), &map).iter().map(|stat| stat.path.clone()).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_listed() {
        let all = ["deps", "deps/a", "deps2", "link", "src", "src/x"];
        assert_eq!(sent(&[]), all);
        assert_eq!(sent(&[("include-patterns", ".dockerignore")]), [""; 0]);
        assert_eq!(sent(&[("followpaths", "deps"), ("followpaths", "./src/x")]), ["deps", "deps/a", "src", "src/x"]);
        assert_eq!(sent(&[("exclude-patterns", "deps")]), all, "the list is without what is ignored");
        for everything in ["d*", ".", "/", "link", "link/x", "a/../src"] {
            assert_eq!(sent(&[("followpaths", everything)]), all, "{everything}");
        }
        assert_eq!(sent(&[("followpaths", "deps"), ("followpaths-encoded", "1")]), all);
    }
}
