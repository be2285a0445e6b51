//! Brings files from the build's output to S3: many at a time, with bounded memory, and on several threads when there are many.
//!
//! Deliberately absent: which files, whereto, and in what order; a plan says so.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::aws::{Aws, AwsError, Condition, PutFileError};
use crate::model::{Headers, ObjectKey, Sha256};

use super::plan::{Write, Writes};

/// So many requests are under way at most: 128 at 40 ms stay below S3's 3,500 writes a second for a prefix.
pub(super) const AT_ONCE: usize = 128;
/// So many are under way at first. Each costs some 100 KiB of buffers, and where answers come at once, more of them win nothing.
const AT_FIRST: usize = 12;
/// So many answers for each request that may be under way are a round.
const ROUND: usize = 4;
/// So many answers a second are worth it to have more requests under way.
const RATE: u128 = 6400;
/// From this size on a file is uploaded in parts, 64 MiB of it in memory at most.
pub(super) const BIG: u64 = 64 * 1024 * 1024;
/// Up to this size a file is read where it is needed.
const SMALL: u64 = 256 * 1024;
/// So many KiB of bodies may be in memory at a time.
const ROOM_KIB: u32 = 48 * 1024;
/// Fewer uploads than these are not worth another thread with connections of its own.
const FOR_A_THREAD: usize = 256;
/// More threads than these would only wait for S3.
const THREADS: usize = 4;

/// What can go wrong with one file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error("reading `{path}` failed")]
    Unreadable { path: String, source: io::Error },
    #[error("`{path}` is no longer what it was when the plan was drawn")]
    Changed { path: String },
    #[error("one of the threads that upload has ended early")]
    Thread { source: io::Error },
}

async fn read(output: &Path, write: &Write) -> Result<Bytes, Trouble> {
    let path = output.join(write.body());
    let shown = path.display().to_string();
    // A small file is read faster than a thread is woken to read it.
    let body = if write.size < SMALL { std::fs::read(&path) } else { tokio::fs::read(&path).await };
    let body = body.map_err(|source| Trouble::Unreadable { path: shown.clone(), source })?;
    if Sha256::of(&body) != write.sha256 {
        return Err(Trouble::Changed { path: shown });
    }
    Ok(Bytes::from(body))
}

/// Uploads the file of a write: small ones from memory, big ones in parts.
pub(super) async fn put(
    aws: &Aws,
    output: &Path,
    write: &Write,
    (bucket, key): (&str, &str),
    headers: &Headers,
    condition: Condition,
) -> Result<String, Trouble> {
    if write.size >= BIG {
        let path = output.join(write.body());
        return aws.put_file(bucket, key, &path, write.size, write.sha256, headers, |_| {}).await.map_err(|error| match error {
            PutFileError::Aws(error) => Trouble::Aws(error),
            PutFileError::Read { path, source } => Trouble::Unreadable { path: path.display().to_string(), source },
            PutFileError::Changed { path } => Trouble::Changed { path: path.display().to_string() },
        });
    }
    let body = read(output, write).await?;
    Ok(aws.put_object(bucket, key, body, write.sha256, headers, condition).await?)
}

/// The same, to the write's own key.
pub(super) async fn put_live(aws: &Aws, output: &Path, bucket: &str, write: &Write) -> Result<String, Trouble> {
    put(aws, output, write, (bucket, write.key.as_str()), &write.headers, Condition::Always).await
}

/// Runs `work` on each write, many at a time, as long as their bodies together fit the memory that is set apart for them.
pub(super) async fn each<'a, W, F, T, E>(aws: &Aws, writes: &'a [Write], work: W) -> Result<Vec<T>, E>
where
    W: Fn(&'a Write) -> F + Copy,
    F: Future<Output = Result<T, E>>,
{
    each_of(writes.iter().enumerate(), Pace::of(1, aws.quickest_answer()), |_, write| work(write)).await
}

/// As [`each`], with a share of the requests and of the memory.
async fn each_of<'a, W, F, T, E>(writes: impl Iterator<Item = (usize, &'a Write)>, pace: Pace, work: W) -> Result<Vec<T>, E>
where
    W: Fn(usize, &'a Write) -> F + Copy,
    F: Future<Output = Result<T, E>>,
{
    let shares = pace.shares;
    let room_kib = ROOM_KIB / u32::try_from(shares).unwrap_or(ROOM_KIB);
    let room = &Semaphore::new(room_kib as usize);
    let all = paced(writes, pace, move |(at, write)| async move {
        let weight = u32::try_from(write.size / 1024 + 1).unwrap_or(room_kib).min(room_kib);
        // Never closed.
        let _held = room.acquire_many(weight).await;
        work(at, write).await
    });
    stream::iter(all).buffer_unordered(AT_ONCE / shares).try_collect().await
}

/// Runs requests that need no memory of their own, many at a time.
pub(super) async fn at_pace<I, F: Future>(aws: &Aws, of: impl Iterator<Item = I>, request: impl Fn(I) -> F + Copy) -> Vec<F::Output> {
    stream::iter(paced(of, Pace::of(1, aws.quickest_answer()), request)).buffer_unordered(AT_ONCE).collect().await
}

/// Each request waits for its turn, and takes memory only then: a future of the SDK's is tens of KiB.
fn paced<I, F: Future>(
    of: impl Iterator<Item = I>,
    pace: Pace,
    request: impl Fn(I) -> F + Copy,
) -> impl Iterator<Item = impl Future<Output = F::Output>> {
    let pace = Rc::new(pace);
    of.map(move |one| {
        let pace = Rc::clone(&pace);
        async move {
            // Never closed.
            let _turn = pace.gate.acquire().await;
            let begun = Instant::now();
            let result = Box::pin(request(one)).await;
            pace.answered(begun.elapsed());
            result
        }
    })
}

/// How many requests of a share are under way: the more, the longer an answer takes to come.
///
/// How far away S3 is has mostly been seen before. It is looked at again once in a round, after several answers for each request that may
/// be under way: all of those may be late because this machine has something else to do.
struct Pace {
    gate: Semaphore,
    shares: usize,
    granted: Cell<usize>,
    rounds: Cell<usize>,
    /// Answers of this round, and how long the quickest of them took.
    answers: Cell<usize>,
    quickest: Cell<Duration>,
}

impl Pace {
    /// For one of so many equal shares, where the quickest answer so far took `quickest`.
    fn of(shares: usize, quickest: Duration) -> Self {
        let granted = worth(quickest, shares).max(AT_FIRST / shares);
        let (rounds, answers, quickest) = (Cell::new(0), Cell::new(0), Cell::new(Duration::MAX));
        Self { gate: Semaphore::new(granted), shares, granted: Cell::new(granted), rounds, answers, quickest }
    }

    /// Lets more requests be under way if even the quickest answer of a round took its time. The first round says nothing of that: its
    /// requests wait for their connections.
    fn answered(&self, took: Duration) {
        let granted = self.granted.get();
        self.answers.set(self.answers.get() + 1);
        self.quickest.set(self.quickest.get().min(took));
        if self.answers.get() < granted * ROUND {
            return;
        }
        self.answers.set(0);
        let quickest = self.quickest.replace(Duration::MAX);
        if self.rounds.replace(self.rounds.get() + 1) == 0 {
            return;
        }
        let wanted = worth(quickest, self.shares).min(AT_ONCE / self.shares);
        if wanted > granted {
            self.gate.add_permits(wanted - granted);
            self.granted.set(wanted);
        }
    }
}

/// As many requests of a share as answer at the rate that is worth it, if each takes this long.
fn worth(quickest: Duration, shares: usize) -> usize {
    let all = quickest.as_micros() * RATE / 1_000_000;
    usize::try_from(all).unwrap_or(AT_ONCE).min(AT_ONCE) / shares
}

/// One thread's part of the writes: every so many-th, from its own number on.
#[derive(Debug, Clone, Copy)]
struct Share {
    number: usize,
    of: usize,
    /// How long the quickest answer has taken before.
    quickest: Duration,
}

/// What came of a share: the entity tag of each write, by its place in the list.
type Tags = Result<Vec<(usize, String)>, (usize, Trouble)>;

/// Uploads each write from `output` to its own key of `bucket`, and gives their entity tags; `done` hears of each.
///
/// What takes the time is less the line than the CPU, for signatures, digests and TLS. So many uploads are shared out among threads,
/// each with a runtime and connections of its own, for which nobody has to be woken.
pub(super) async fn all<D>(
    aws: &Aws,
    output: &Path,
    bucket: &str,
    writes: &Writes,
    done: D,
) -> Result<BTreeMap<ObjectKey, String>, (ObjectKey, Trouble)>
where
    D: Fn(&Write) + Send + Sync + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(writes.len() / FOR_A_THREAD).max(1);
    let (done, quickest) = (Arc::new(done), aws.quickest_answer());
    // Dropped, it stops the threads.
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let (aws, output, bucket) = (aws.apart(), output.to_owned(), bucket.to_owned());
            on_a_thread(writes.clone(), Share { number, of: threads, quickest }, aws, output, bucket, Arc::clone(&done), stop.clone())
        })
        .collect();
    let own = share(aws, output, bucket, writes, Share { number: 0, of: threads, quickest }, &*done);
    let tags = try_join(own, try_join_all(others)).await;
    let (own, others) = tags.map_err(|(at, trouble)| (writes[at].key.clone(), trouble))?;
    Ok(own.into_iter().chain(others.into_iter().flatten()).map(|(at, etag)| (writes[at].key.clone(), etag)).collect())
}

/// Starts one thread's share of [`all`]; the future tells how it ended.
fn on_a_thread<D>(
    writes: Writes,
    part: Share,
    aws: Aws,
    output: PathBuf,
    bucket: String,
    done: Arc<D>,
    stop: CancellationToken,
) -> impl Future<Output = Tags>
where
    D: Fn(&Write) + Send + Sync + 'static,
{
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let result = runtime.block_on(stop.run_until_cancelled(share(&aws, &output, &bucket, &writes, part, &*done)));
                runtime.shutdown_background();
                result.map(Ok)
            }
            Err(error) => Some(Err(error)),
        };
        // Whoever has stopped this thread does not listen any more.
        let _ = tell.send(result);
    });
    async move {
        let source = match told.await {
            Ok(Some(Ok(result))) => return result,
            Ok(Some(Err(error))) => error,
            Ok(None) => io::Error::other("it was stopped"),
            Err(ended) => io::Error::other(ended),
        };
        Err((part.number, Trouble::Thread { source }))
    }
}

async fn share(aws: &Aws, output: &Path, bucket: &str, writes: &[Write], part: Share, done: &(dyn Fn(&Write) + Send + Sync)) -> Tags {
    let numbered = writes.iter().enumerate().skip(part.number).step_by(part.of);
    each_of(numbered, Pace::of(part.of, part.quickest), |at, write| async move {
        let etag = put_live(aws, output, bucket, write).await.map_err(|error| (at, error))?;
        done(write);
        Ok((at, etag))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_an_answer_takes_the_more_requests_are_under_way() {
        let round = |pace: &Pace, quickest: u64| {
            (1..pace.granted.get() * ROUND).for_each(|_| pace.answered(Duration::from_millis(90)));
            pace.answered(Duration::from_millis(quickest));
            (pace.granted.get(), pace.gate.available_permits())
        };
        let near = Pace::of(2, Duration::ZERO);
        assert_eq!(round(&near, 90), (6, 6), "these are new connections");
        assert_eq!((round(&near, 1), round(&near, 2)), ((6, 6), (6, 6)));
        assert_eq!(Pace::of(2, Duration::from_millis(10)).granted.get(), 32, "that was seen before");
        let far = Pace::of(2, Duration::ZERO);
        round(&far, 90);
        assert_eq!(round(&far, 15), (48, 48));
        assert_eq!(round(&far, 10), (48, 48));
        assert_eq!((worth(Duration::from_hours(1), 1), worth(Duration::from_micros(20), 1)), (AT_ONCE, 0));
    }
}
