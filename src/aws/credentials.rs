//! The credentials that the SDK works with, for what is signed without it.
//!
//! The SDK asks for credentials when it needs them, keeps them, and renews them; whatever it was given last is remembered here on the way.
//! Deliberately absent: asking for any.

use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_types::SdkConfig;

/// What was given out last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered(Arc<Mutex<Option<Credentials>>>);

impl Remembered {
    /// The configuration, and what remembers its credentials from now on.
    pub(super) fn of(config: SdkConfig) -> (SdkConfig, Self) {
        let last = Self::default();
        let Some(provider) = config.credentials_provider() else { return (config, last) };
        let provider = SharedCredentialsProvider::new(Remembering { provider, last: last.clone() });
        (config.into_builder().credentials_provider(provider).build(), last)
    }

    /// The credentials that were given out last.
    pub(super) fn last(&self) -> Option<Credentials> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct Remembering {
    provider: SharedCredentialsProvider,
    last: Remembered,
}

impl ProvideCredentials for Remembering {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.provider.provide_credentials().await?;
            *self.last.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.provider.fallback_on_interrupt()
    }
}
