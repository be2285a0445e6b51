//! A request that the SDK has made, as the example for others like it: where they go, what they say of this program, how they are signed.
//!
//! An example is taken only of what is understood as a whole: of headers that are known here, and if the SDK's own signature comes out
//! when it is computed again. Whatever else is configured (another way to sign, another header) so stays the SDK's alone.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
//!
//! Deliberately absent: sending anything.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::model::Sha256;

/// As `SigV4` writes a time.
const DATE: &[BorrowedFormatItem<'static>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// Credentials are not used any more so long before they expire: by then the SDK is to renew them.
const RENEWAL: Duration = Duration::from_mins(1);

/// What is the same in each request.
const SAME: [&str; 5] = ["user-agent", "x-amz-sdk-checksum-algorithm", "x-amz-security-token", "x-amz-user-agent", "x-amzn-trace-id"];
/// What each request has of its own.
const OWN: [&str; 12] = [
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "if-match",
    "if-none-match",
    "x-amz-checksum-sha256",
    "x-amz-content-sha256",
    "x-amz-date",
];
/// So begin the names of an object's metadata.
const METADATA: &str = "x-amz-meta-";

/// A header's name and value.
pub(super) type Field<'name, 'value> = (&'name str, Cow<'value, str>);

/// What requests to one bucket have in common.
pub(super) struct Example {
    /// Scheme and authority.
    origin: String,
    host: String,
    /// The path up to the key, encoded.
    folder: String,
    query: String,
    same: Vec<(&'static str, String)>,
    /// The headers that are not signed.
    unsigned: Vec<String>,
    credentials: Credentials,
    region: String,
    service: String,
    /// How far AWS's clock is ahead of ours, in seconds.
    skew: i64,
    /// A day as `SigV4` writes it, and the key to sign with on that day.
    key: Mutex<Option<(String, Vec<u8>)>>,
}

/// A request that is ready to be sent.
pub(super) struct Made<'a> {
    pub(super) uri: String,
    pub(super) headers: Vec<Field<'static, 'a>>,
}

impl Example {
    /// What is to be learnt from a request for an object that is signed with `credentials`; `None` if it is not understood.
    pub(super) fn of<'a>(
        key: &str,
        uri: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        credentials: Credentials,
        now: SystemTime,
    ) -> Option<Self> {
        let (address, query) = uri.split_once('?').unwrap_or((uri, ""));
        let (scheme, rest) = address.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let folder = path.strip_suffix(&encoded(key)).filter(|folder| folder.ends_with('/'))?;
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let host = authority.strip_suffix(default_port).unwrap_or(authority).to_owned();

        let mut fields: Vec<Field> = headers.map(|(name, value)| (name, Cow::Borrowed(value))).collect();
        fields.sort_unstable();
        let known = |name: &str| SAME.contains(&name) || OWN.contains(&name) || name.starts_with(METADATA);
        if !fields.iter().all(|(name, value)| known(name) && is_plain(value)) {
            return None;
        }
        let value = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_string());
        let (authorization, date, digest) = (value("authorization")?, value("x-amz-date")?, value("x-amz-content-sha256")?);
        let [_, _, region, service, _] = *between(&authorization, "Credential=", ",")?.split('/').collect::<Vec<_>>() else {
            return None;
        };
        let signed: Vec<&str> = between(&authorization, "SignedHeaders=", ",")?.split(';').collect();
        let unsigned = fields.iter().map(|(name, _)| *name).filter(|name| !signed.contains(name)).map(str::to_owned).collect();

        let there = PrimitiveDateTime::parse(&date, DATE).ok()?.assume_utc();
        let example = Self {
            origin: format!("{scheme}://{authority}"),
            host,
            folder: folder.to_owned(),
            query: query.to_owned(),
            same: SAME.iter().filter_map(|name| Some((*name, value(name)?))).collect(),
            unsigned,
            credentials,
            region: region.to_owned(),
            service: service.to_owned(),
            skew: there.unix_timestamp() - OffsetDateTime::from(now).unix_timestamp(),
            key: Mutex::default(),
        };
        fields.retain(|(name, _)| *name != "authorization");
        (example.authorization(path, &fields, &date, there.into(), &digest) == authorization).then_some(example)
    }

    /// May a request be signed as this one was?
    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|end| now + RENEWAL < end)
    }

    /// The request for the object `key` with the headers `own`, whose body has this digest; `None` if only the SDK knows how to write it.
    pub(super) fn request<'a>(&'a self, key: &str, own: Vec<Field<'static, 'a>>, digest: Sha256, now: SystemTime) -> Option<Made<'a>> {
        // Of a key that begins with a slash, or has a segment of dots, addresses may make another one.
        if key.split('/').any(|segment| matches!(segment, "." | "..")) || key.starts_with('/') {
            return None;
        }
        let there = OffsetDateTime::from(now) + time::Duration::seconds(self.skew);
        let (date, digest) = (there.format(DATE).ok()?, digest.to_string());
        let mut headers = own;
        headers.extend(self.same.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str()))));
        headers.push(("x-amz-content-sha256", Cow::Owned(digest.clone())));
        headers.push(("x-amz-date", Cow::Owned(date.clone())));
        headers.sort_unstable_by_key(|(name, _)| *name);
        if !headers.iter().all(|(_, value)| is_plain(value)) {
            return None;
        }
        let path = format!("{}{}", self.folder, encoded(key));
        let authorization = self.authorization(&path, &headers, &date, there.into(), &digest);
        headers.push(("authorization", Cow::Owned(authorization)));
        let separator = if self.query.is_empty() { "" } else { "?" };
        Some(Made { uri: format!("{}{path}{separator}{}", self.origin, self.query), headers })
    }

    /// The signature of a PUT, as the header has it. `headers` are sorted, and lack `host`.
    fn authorization(&self, path: &str, headers: &[Field], date: &str, time: SystemTime, digest: &str) -> String {
        let day = date.get(..8).unwrap_or(date);
        let host = ("host", Cow::Borrowed(self.host.as_str()));
        let at = headers.partition_point(|(name, _)| *name < host.0);
        let all = headers[..at].iter().chain(std::iter::once(&host)).chain(&headers[at..]);
        let mut names = String::with_capacity(256);
        let mut canonical = format!("PUT\n{path}\n{}\n", self.query);
        for (name, value) in all.filter(|(name, _)| !self.unsigned.iter().any(|unsigned| unsigned == name)) {
            for part in [name, ":", value, "\n"] {
                canonical.push_str(part);
            }
            names.push_str(if names.is_empty() { "" } else { ";" });
            names.push_str(name);
        }
        // Into a string nothing fails to be written.
        let _ = write!(canonical, "\n{names}\n{digest}");
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", Sha256::of(canonical.as_bytes()));
        let signature = {
            let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.as_ref().is_none_or(|(of, _)| of != day) {
                let key = generate_signing_key(self.credentials.secret_access_key(), time, &self.region, &self.service);
                *kept = Some((day.to_owned(), key.as_ref().to_vec()));
            }
            kept.as_ref().map(|(_, key)| calculate_signature(key, to_sign.as_bytes())).unwrap_or_default()
        };
        let id = self.credentials.access_key_id();
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// Is a header's value signed as it stands, and does every header take it?
fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !value.starts_with(' ') && !value.ends_with(' ') && !value.contains("  ")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// A key as S3's addresses have it, with its slashes.
pub(super) fn encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len() + 16);
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for nibble in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    encoded
}
