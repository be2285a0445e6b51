//! A lease: a lock that is ours, rewritten all the while, and what is done when it is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::aws::{Aws, Condition, Fence, Moment};
use crate::model::ReleaseId;

use super::lock::{Document, Wrote, again, write};
use super::{Holder, JournalError, parse};

/// Why a lease was lost.
#[derive(Debug, Clone)]
pub enum Loss {
    /// Somebody else has taken it.
    Taken(Box<Holder>),
    /// Its object is gone, or free.
    Gone,
}

/// A lock that is ours, renewed until this is released or dropped.
#[derive(Debug)]
pub struct Lease {
    inner: Arc<Inner>,
    lost: watch::Receiver<Option<Loss>>,
    task: JoinHandle<()>,
    /// The releases that the lock was held for before, the last one first: the first of them that has a record has begun.
    pub previous: Vec<ReleaseId>,
    begun: AtomicBool,
    /// Is it known that the server holds writes to their conditions?
    asked: bool,
}

#[derive(Debug)]
pub(super) struct Inner {
    aws: Aws,
    bucket: String,
    key: String,
    lease: Duration,
    fence: Option<Fence>,
    written: Mutex<(Document, String)>,
}

impl Inner {
    /// A lock that was just written, with its entity tag.
    pub(super) fn new(
        aws: &Aws,
        bucket: &str,
        key: String,
        lease: Duration,
        fence: Option<Fence>,
        document: Document,
        etag: String,
    ) -> Self {
        Self { aws: aws.clone(), bucket: bucket.to_owned(), key, lease, fence, written: Mutex::new((document, etag)) }
    }

    fn written(&self) -> (Document, String) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes pass for three quarters of the lease from `start`, the moment before the last renewal was sent.
    fn guard(&self, start: Moment) {
        if let Some(fence) = &self.fence {
            fence.guard(start.after(self.lease * 3 / 4));
        }
    }

    /// Rewrites the lock, to be held on or to be free. Gives how it was lost, if it was.
    async fn rewrite(&self, change: impl Fn(&mut Document)) -> Result<Option<Loss>, JournalError> {
        let mut rounds = 0;
        loop {
            let (mut document, etag) = self.written();
            document.renewals += 1;
            change(&mut document);
            let start = Moment::now();
            match write(&self.aws, &self.bucket, &self.key, &document, &Condition::IfMatch(etag)).await? {
                Wrote::Tagged(etag) => {
                    self.guard(start);
                    *self.written.lock().unwrap_or_else(PoisonError::into_inner) = (document, etag);
                    return Ok(None);
                }
                Wrote::Lost(error) => match self.look(&document).await? {
                    Some(loss) => return Ok(Some(loss)),
                    None => again(&mut rounds, error).await?,
                },
            }
        }
    }

    /// Whose the lock is now. An earlier rewriting of ours may have arrived without our knowing.
    async fn look(&self, ours: &Document) -> Result<Option<Loss>, JournalError> {
        let Some(there) = self.aws.read_aged(&self.bucket, &self.key).await? else { return Ok(Some(Loss::Gone)) };
        let document: Document = parse(&self.key, &there.body)?;
        if document.token == ours.token {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = (document, there.etag);
            return Ok(None);
        }
        Ok(Some(document.holder.map_or(Loss::Gone, |holder| Loss::Taken(Box::new(holder)))))
    }
}

impl Lease {
    pub(super) fn keep(inner: Inner, start: Moment, asked: bool) -> Self {
        let previous = inner.written().0.earlier.into_iter().rev().collect();
        let inner = Arc::new(inner);
        inner.guard(start);
        let (tell, told) = watch::channel(None);
        let renewed = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            let mut pause = renewed.lease / 4;
            loop {
                tokio::time::sleep(pause).await;
                match renewed.rewrite(|_| {}).await {
                    Ok(None) => pause = renewed.lease / 4,
                    Ok(Some(loss)) => {
                        if let Some(fence) = &renewed.fence {
                            fence.close();
                        }
                        let _ = tell.send(Some(loss));
                        return;
                    }
                    // The fence closes by itself when this goes on for too long, and opens if the lock is still ours afterwards.
                    Err(_) => pause = renewed.lease / 16,
                }
            }
        });
        Self { inner, lost: told, task, previous, begun: AtomicBool::new(false), asked }
    }

    /// Waits until the lease is lost to somebody else.
    pub async fn lost(&self) -> Loss {
        let mut told = self.lost.clone();
        match told.wait_for(Option::is_some).await.map(|loss| loss.clone()) {
            Ok(Some(loss)) => loss,
            // It is renewed no more because it was released.
            _ => std::future::pending().await,
        }
    }

    /// How it was lost, if it was.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.lost.borrow().clone()
    }

    /// Has the lease run out without being renewed, or is it lost?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.loss().is_some() || self.inner.fence.as_ref().is_some_and(|fence| !fence.lets_pass())
    }

    /// Does the server refuse a write whose condition does not hold? One that takes it would let everybody have the lock, and this one is to
    /// be let go of. AWS refuses, so only others are asked, when the lock is made for the first time, or was taken from somebody who had not
    /// let go of it.
    ///
    /// # Errors
    /// [`JournalError::Unconditional`], or S3 fails.
    pub async fn held_to_conditions(&self) -> Result<(), JournalError> {
        if self.asked {
            return Ok(());
        }
        let Inner { aws, bucket, key, .. } = &*self.inner;
        let (document, _) = self.inner.written();
        let body = serde_json::to_vec(&document).map_err(|source| JournalError::Unreadable { key: key.clone(), source })?;
        let body = &Bytes::from(body);
        let another = Condition::IfMatch("\"00000000000000000000000000000000\"".to_owned());
        let conditions = [(Condition::IfAbsent, "If-None-Match"), (another, "If-Match")];
        let answers =
            conditions.map(|(condition, header)| async move { (aws.write_if(bucket, key, body.clone(), &condition).await, header) });
        for (answer, header) in join_all(answers).await {
            match answer {
                Err(error) if error.is_precondition_failed() || error.is_conflict() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(JournalError::Unconditional { bucket: bucket.clone(), header }),
            }
        }
        Ok(())
    }

    /// Says that the lock is held for this release, which begins or goes on now.
    ///
    /// # Errors
    /// S3 fails.
    pub async fn hold_for(&self, release: &ReleaseId) -> Result<Option<Loss>, JournalError> {
        self.begun.store(true, Ordering::Relaxed);
        if self.inner.written().0.last == *release {
            return Ok(None);
        }
        let change = |document: &mut Document| {
            document.last = release.clone();
            if let Some(holder) = &mut document.holder {
                holder.release = release.clone();
            }
        };
        self.inner.rewrite(change).await
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    /// S3 fails: then the lease ends by itself.
    pub async fn release(self) -> Result<(), JournalError> {
        self.task.abort();
        let begun = self.begun.load(Ordering::Relaxed);
        let free = |document: &mut Document| {
            document.holder = None;
            match document.earlier.pop() {
                // It was held for nothing.
                Some(last) if !begun => document.last = last,
                _ => document.earlier.clear(),
            }
        };
        let result = self.inner.rewrite(free).await;
        if let Some(fence) = &self.inner.fence {
            fence.open();
        }
        result.map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}
