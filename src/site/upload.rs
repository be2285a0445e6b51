//! Brings files from the build's output to S3: many at a time, with bounded memory, and on several threads when there are many.
//!
//! Deliberately absent: which files, whereto, and in what order; a plan says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::aws::{Aws, AwsError, Condition, PutFileError};
use crate::model::{Headers, ObjectKey, Sha256};

use super::plan::Write;

/// How many requests are under way at a time: 96 at 30 ms stay below S3's 3,500 writes a second for a prefix.
pub(super) const AT_ONCE: usize = 96;
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
pub(super) async fn each<'a, W, F, T, E>(writes: &'a [Write], work: W) -> Result<Vec<T>, E>
where
    W: Fn(&'a Write) -> F + Copy,
    F: Future<Output = Result<T, E>>,
{
    each_of(writes, 1, work).await
}

/// As [`each`], with one of so many equal `shares` of the requests and of the memory.
async fn each_of<'a, W, F, T, E>(writes: &'a [Write], shares: usize, work: W) -> Result<Vec<T>, E>
where
    W: Fn(&'a Write) -> F + Copy,
    F: Future<Output = Result<T, E>>,
{
    let room_kib = ROOM_KIB / u32::try_from(shares).unwrap_or(ROOM_KIB);
    let room = &Semaphore::new(room_kib as usize);
    let all = writes.iter().map(|write| async move {
        let weight = u32::try_from(write.size / 1024 + 1).unwrap_or(room_kib).min(room_kib);
        // It is never closed.
        let _held = room.acquire_many(weight).await;
        work(write).await
    });
    stream::iter(all).buffer_unordered(AT_ONCE / shares).try_collect().await
}

/// Uploads each write from `output` to its own key of `bucket`, and gives their entity tags in any order; `done` hears of each.
///
/// What takes the time is less the line than the CPU, for signatures, digests and TLS. So many uploads are shared out among threads,
/// each with a runtime and connections of its own, for which nobody has to be woken.
pub(super) async fn all<D>(
    aws: &Aws,
    output: &Path,
    bucket: &str,
    writes: &[Write],
    done: D,
) -> Result<Vec<(ObjectKey, String)>, (ObjectKey, Trouble)>
where
    D: Fn(&Write) + Send + Sync + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(writes.len() / FOR_A_THREAD);
    if threads < 2 {
        return share(aws, output, bucket, writes, 1, &done).await;
    }
    let done = Arc::new(done);
    // Dropped, it stops the threads.
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let mut of_each = (0..threads).map(|number| writes.iter().skip(number).step_by(threads).cloned().collect::<Vec<Write>>());
    let own = of_each.next().unwrap_or_default();
    let others: Vec<_> = of_each
        .map(|writes| {
            let (aws, output, bucket) = (aws.apart(), output.to_owned(), bucket.to_owned());
            on_a_thread(writes, threads, aws, output, bucket, Arc::clone(&done), stop.clone())
        })
        .collect();
    let (mut etags, others) = try_join(share(aws, output, bucket, &own, threads, &*done), try_join_all(others)).await?;
    etags.extend(others.into_iter().flatten());
    Ok(etags)
}

/// Starts one thread's share of [`all`]; the future tells how it ended.
fn on_a_thread<D>(
    writes: Vec<Write>,
    threads: usize,
    aws: Aws,
    output: PathBuf,
    bucket: String,
    done: Arc<D>,
    stop: CancellationToken,
) -> impl Future<Output = Result<Vec<(ObjectKey, String)>, (ObjectKey, Trouble)>>
where
    D: Fn(&Write) + Send + Sync + 'static,
{
    let (tell, told) = oneshot::channel();
    let first = writes.first().map(|write| write.key.clone());
    std::thread::spawn(move || {
        let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let result = runtime.block_on(stop.run_until_cancelled(share(&aws, &output, &bucket, &writes, threads, &*done)));
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
        // A thread without a share has not lost any.
        match first {
            Some(key) => Err((key, Trouble::Thread { source })),
            None => Ok(Vec::new()),
        }
    }
}

async fn share(
    aws: &Aws,
    output: &Path,
    bucket: &str,
    writes: &[Write],
    shares: usize,
    done: &(dyn Fn(&Write) + Send + Sync),
) -> Result<Vec<(ObjectKey, String)>, (ObjectKey, Trouble)> {
    let upload = |write| async move {
        let etag = put_live(aws, output, bucket, write).await.map_err(|error| (write.key.clone(), error))?;
        done(write);
        Ok((write.key.clone(), etag))
    };
    each_of(writes, shares, upload).await
}
