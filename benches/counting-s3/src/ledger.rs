//! The counts, the log, and what is done to the clients on purpose: latency, 503s, a kill after a given write.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::answer::encoded;

/// What a request was, and what became of it.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The operation, by AWS's name.
    pub operation: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The key, or the keys of a bulk deletion that are gone.
    pub keys: Vec<String>,
    /// Bytes of content that were sent.
    pub bytes: usize,
    /// The MD5 of what is at the key now, if this wrote it.
    pub md5: String,
}

impl Entry {
    /// Does the operation change what readers of a bucket see?
    fn writes(&self) -> bool {
        matches!(self.operation, "PutObject" | "CopyObject" | "DeleteObject" | "DeleteObjects" | "CompleteMultipartUpload")
    }
}

#[derive(Debug)]
struct Line {
    at: Duration,
    entry: Entry,
    status: u16,
}

#[derive(Debug, Default)]
struct Pages {
    operations: BTreeMap<&'static str, u64>,
    lines: Vec<Line>,
    writes: u64,
    put_bytes: u64,
}

/// A process that is to end right after a write.
#[derive(Debug, Clone, Copy)]
struct Doom {
    pid: Pid,
    after: u64,
}

/// Counts and log since the last reset, and the faults that are in force.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    pages: Mutex<Pages>,
    doom: Mutex<Option<Doom>>,
    latency_ms: AtomicU64,
    /// Every so many requests one is answered with 503; 0 is never.
    refuse_every: AtomicU64,
    arrived: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    connections: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            pages: Mutex::default(),
            doom: Mutex::default(),
            latency_ms: AtomicU64::new(0),
            refuse_every: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

/// A lock of which no holder panics half-way: what it guards is whole in any case.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A connection was opened.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A request has arrived whole. Waits as long as is set, and says whether it is to be refused.
    pub async fn admit(&self) -> bool {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.most_open.fetch_max(open, Relaxed);
        let latency = self.latency_ms.load(Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        let arrived = self.arrived.fetch_add(1, Relaxed) + 1;
        let every = self.refuse_every.load(Relaxed);
        let refuse = every > 0 && arrived.is_multiple_of(every);
        if refuse {
            self.refused.fetch_add(1, Relaxed);
        }
        refuse
    }

    /// A process was ended, and nothing of what it still has under way may happen any more.
    pub fn is_dead(&self) -> bool {
        let doom = *lock(&self.doom);
        doom.is_some_and(|doom| lock(&self.pages).writes >= doom.after)
    }

    /// A request is done. If this is the write that a process is to end after, ends it before anything else can happen.
    pub fn completed(&self, entry: Entry, status: u16) {
        self.open.fetch_sub(1, Relaxed);
        let done = (200..300).contains(&status);
        let writes = {
            let mut pages = lock(&self.pages);
            *pages.operations.entry(entry.operation).or_default() += 1;
            if done && entry.writes() {
                pages.writes += 1;
            }
            pages.put_bytes += entry.bytes as u64;
            pages.lines.push(Line { at: self.start.elapsed(), entry, status });
            pages.writes
        };
        if let Some(doom) = *lock(&self.doom)
            && writes >= doom.after
        {
            // It may be gone already.
            let _ = kill_process(doom.pid, Signal::KILL);
        }
    }

    /// Sets the latency of every request.
    pub fn set_latency(&self, milliseconds: u64) {
        self.latency_ms.store(milliseconds, Relaxed);
    }

    /// Answers one in so many requests with 503; 0 is none.
    pub fn refuse_one_in(&self, every: u64) {
        self.refuse_every.store(every, Relaxed);
    }

    /// Ends a process right after so many writes from the last reset on; with 0 writes, none.
    pub fn kill(&self, pid: i32, after: u64) {
        *lock(&self.doom) = Pid::from_raw(pid).filter(|_| after > 0).map(|pid| Doom { pid, after });
    }

    /// Begins to count anew. Latency and 503s stay in force; a kill does not.
    pub fn reset(&self) {
        *lock(&self.doom) = None;
        *lock(&self.pages) = Pages::default();
        for counter in [&self.arrived, &self.refused, &self.most_open, &self.connections] {
            counter.store(0, Relaxed);
        }
    }

    /// The counts, as JSON.
    pub fn counts(&self) -> String {
        let pages = lock(&self.pages);
        let operations: Vec<String> = pages.operations.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
        format!(
            "{{\"requests\":{},\"writes\":{},\"put_bytes\":{},\"refused\":{},\"most_open\":{},\"connections\":{},\"operations\":{{{}}}}}",
            pages.operations.values().sum::<u64>(),
            pages.writes,
            pages.put_bytes,
            self.refused.load(Relaxed),
            self.most_open.load(Relaxed),
            self.connections.load(Relaxed),
            operations.join(",")
        )
    }

    /// The log, a line for each request in the order of completion: microseconds, operation, bucket, keys (percent-encoded, a
    /// space between), bytes of content sent, status, MD5 of what is there now.
    pub fn log(&self) -> String {
        let mut text = String::new();
        for Line { at, entry, status } in &lock(&self.pages).lines {
            let Entry { operation, bucket, keys, bytes, md5 } = entry;
            let keys: Vec<String> = keys.iter().map(|key| encoded(key)).collect();
            let keys = keys.join(" ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{operation}\t{bucket}\t{keys}\t{bytes}\t{status}\t{md5}", at.as_micros());
        }
        text
    }
}
