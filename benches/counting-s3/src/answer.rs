//! What goes back: XML, errors by S3's codes, dates, escapes.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use time::macros::format_description;

/// An answer, whole.
pub type Answer = Response<Full<Bytes>>;

/// What S3 leaves as it is in a key with `encoding-type=url`.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// An error of S3's, by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub &'static str);

/// Nothing is there.
pub const NO_SUCH_KEY: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchKey");
/// No such multipart upload.
pub const NO_SUCH_UPLOAD: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
/// The condition of a write does not hold.
pub const PRECONDITION_FAILED: Refusal = Refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
/// Come back later.
pub const SLOW_DOWN: Refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
/// This server does not know the operation.
pub const NOT_IMPLEMENTED: Refusal = Refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
/// The request makes no sense.
pub const INVALID_REQUEST: Refusal = Refusal(StatusCode::BAD_REQUEST, "InvalidRequest");

impl Refusal {
    /// As S3 says it.
    pub fn answer(self) -> Answer {
        let Self(status, code) = self;
        let mut answer = xml(format!("<Error><Code>{code}</Code><Message>{code}</Message><RequestId>0</RequestId></Error>"));
        *answer.status_mut() = status;
        answer
    }
}

/// An empty answer.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// A document.
pub fn xml(body: impl AsRef<str>) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", body.as_ref());
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Text for a person or a script.
pub fn text(body: String) -> Answer {
    Response::new(Full::new(Bytes::from(body)))
}

/// Adds a header, unless its value cannot be one.
pub fn set(answer: &mut Answer, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
}

/// Escapes text for XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Undoes [`escaped`].
pub fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&#34;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}

/// Percent-encodes a key.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}

/// A time in a listing.
pub fn iso_date(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z")).unwrap_or_default()
}

/// A time in a header.
pub fn http_date(at: OffsetDateTime) -> String {
    at.format(format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT")).unwrap_or_default()
}
