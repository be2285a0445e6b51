//! How far away S3 is: the quickest of its answers so far.
//!
//! Deliberately absent: an average. Answers are late for many reasons, and early for none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

/// Microseconds; 0 before there is an answer. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Quickest(Arc<AtomicU64>);

/// When a request was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl Quickest {
    /// Zero before there is an answer.
    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        // It fails where nothing is to be changed.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| (old == 0 || took < old).then_some(took));
    }
}

impl Intercept for Quickest {
    fn name(&self) -> &'static str {
        "Quickest"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Sent(sent)) = config.load::<Sent>() {
            self.note(sent.elapsed());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_counts() {
        let quickest = Quickest::default();
        assert_eq!(quickest.time(), Duration::ZERO);
        for (took, then) in [(30, 30), (40, 30), (20, 20)] {
            quickest.note(Duration::from_millis(took));
            assert_eq!(quickest.time(), Duration::from_millis(then));
        }
    }
}
