//! A fence in front of every write: once a lease has ended, no attempt of a write leaves this process, a retry no more than a first one.
//!
//! Reads pass. Time is counted while the machine sleeps too, since leases end then as at any other time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;

/// Lets writes pass until the lease that guards them has ended. Clones are one fence; a new one lets everything pass.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// There is no lease.
    #[default]
    Open,
    /// The lease lasts until then.
    Until(Moment),
    /// The lease is lost.
    Closed,
}

/// A moment of this machine's time since it was started, sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        // The standard library's clock stands still while a laptop sleeps.
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Realtime;
        let time = rustix::time::clock_gettime(clock);
        Self(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default()))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

/// Why a write was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease has ended: nothing more is written")]
pub(super) struct Fenced;

impl Fence {
    /// Lets writes pass until `end`.
    pub fn guard(&self, end: Moment) {
        *self.lock() = State::Until(end);
    }

    /// Lets no write pass any more.
    pub fn close(&self) {
        *self.lock() = State::Closed;
    }

    /// Lets everything pass.
    pub fn open(&self) {
        *self.lock() = State::Open;
    }

    /// May a write be sent now?
    #[must_use]
    pub fn lets_pass(&self) -> bool {
        match *self.lock() {
            State::Open => true,
            State::Until(end) => Moment::now() < end,
            State::Closed => false,
        }
    }

    /// Refuses a write that must not be sent any more.
    pub(super) fn pass(&self) -> Result<(), Fenced> {
        if self.lets_pass() { Ok(()) } else { Err(Fenced) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Fence {
    fn name(&self) -> &'static str {
        "Fence"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let writes = config.load::<Metadata>().is_none_or(|metadata| !reads(metadata.name()));
        Ok(if writes { self.pass() } else { Ok(()) }?)
    }
}

/// An action that nobody knows writes.
pub(super) fn reads(action: &str) -> bool {
    ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "AssumeRole"].iter().any(|verb| action.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_pass_until_the_lease_ends() {
        let fence = Fence::default();
        assert!(fence.lets_pass());
        fence.guard(Moment::now().after(Duration::from_mins(1)));
        assert!(fence.clone().lets_pass());
        fence.guard(Moment::now());
        assert!(!fence.lets_pass());
        fence.open();
        assert!(fence.lets_pass());
        fence.close();
        assert!(!fence.lets_pass());
    }

    #[test]
    fn what_changes_nothing_is_a_read() {
        assert!(["GetObject", "HeadObject", "ListObjectsV2", "DescribeServices", "BatchGetImage"].into_iter().all(reads));
        assert!(!["PutObject", "CopyObject", "Invoke", "UpdateService", "RunTask", "CreateInvalidation"].into_iter().any(reads));
    }
}
