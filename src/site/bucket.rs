//! A bucket as preflight finds it, and why nothing is released to it, or no state is kept in it.

use crate::model::{Refusal, UnitName};

/// A bucket, as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketFound {
    /// It is there.
    Present(Openness),
    /// There is none of this name.
    Absent,
    /// These credentials may not look.
    Denied(String),
}

/// Who can reach a bucket past the distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Openness {
    /// Nobody.
    Closed,
    /// Nobody yet, but nothing keeps a policy or an access control list from letting everyone in.
    Unblocked,
    /// Everyone, for this reason.
    Public(String),
    /// It is a website endpoint, which origin access control cannot use.
    Website,
}

/// Why a site cannot be released to its bucket, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, bucket: &str, allow_public: bool, found: &BucketFound) -> Option<Refusal> {
    let why = match found {
        BucketFound::Absent => {
            let what = format!("site `{name}`: there is no bucket `{bucket}`");
            return Some(Refusal::new(what, "create it (private, all public access blocked) in this account, or correct `bucket`"));
        }
        BucketFound::Denied(why) => {
            let what = format!("site `{name}`: the bucket `{bucket}` cannot be looked at: {why}");
            return Some(Refusal::new(what, "allow `s3:ListBucket` on it, or correct `bucket`"));
        }
        BucketFound::Present(Openness::Closed) => return None,
        BucketFound::Present(_) if allow_public => return None,
        BucketFound::Present(Openness::Public(why)) => format!("is public: {why}"),
        BucketFound::Present(Openness::Website) => "is public: it is a website endpoint".to_owned(),
        BucketFound::Present(Openness::Unblocked) => "may become public: not all public access to it is blocked".to_owned(),
    };
    let cure = "block all public access to it and let CloudFront read it by origin access control, or write `allow_public: true`";
    Some(Refusal::new(format!("site `{name}`: the bucket `{bucket}` {why}"), cure))
}

/// Why the state cannot be kept in its bucket, if it cannot.
#[must_use]
pub fn state_refusal(bucket: &str, found: &BucketFound) -> Option<Refusal> {
    let (what, cure) = match found {
        BucketFound::Present(Openness::Closed | Openness::Unblocked) => return None,
        BucketFound::Present(Openness::Public(why)) => {
            (format!("is public: {why}"), "block all public access to it: it holds every release's record")
        }
        BucketFound::Present(Openness::Website) => {
            ("is public: it is a website endpoint".to_owned(), "name another, private bucket under `state`")
        }
        BucketFound::Absent => {
            ("is not there".to_owned(), "create it (private, all public access blocked), correct `state`, or write `state: none`")
        }
        BucketFound::Denied(why) => (format!("cannot be looked at: {why}"), "allow `s3:ListBucket` on it, or correct `state`"),
    };
    Some(Refusal::new(format!("the state's bucket `{bucket}` {what}"), cure))
}
