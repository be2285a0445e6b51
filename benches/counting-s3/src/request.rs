//! A request as S3 means it: bucket, key, query, headers, and the content without its wrapping.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;

use crate::answer::hex;
use crate::store::{CHECKSUM, Condition, Headers, Place};

/// A request.
#[derive(Debug)]
pub struct S3Request {
    /// The method.
    pub method: Method,
    /// The path as it is, with its leading slash.
    pub path: String,
    /// Bucket and key, either of which may be empty.
    pub place: Place,
    /// The query's parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// The content.
    pub body: Bytes,
    /// The MD5 of what is put (or gathered, see `object::gathered`), taken here and not under the store's lock, which all connections share.
    pub md5: String,
    headers: HeaderMap,
}

impl S3Request {
    /// Reads a request whose body has arrived.
    pub fn read(parts: Parts, body: Bytes) -> Self {
        let path = decoded(parts.uri.path());
        let whole = path.trim_start_matches('/');
        let (bucket, key) = whole.split_once('/').unwrap_or((whole, ""));
        let place = Place { bucket: bucket.to_owned(), key: key.to_owned() };
        let query = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        });
        let query = query.collect();
        let streaming = text(&parts.headers, "x-amz-content-sha256").is_some_and(|value| value.starts_with("STREAMING-"));
        let body = if streaming { unwrapped(&body) } else { body };
        let md5 = if parts.method == Method::PUT { hex(&Md5::digest(&body)) } else { String::new() };
        Self { method: parts.method, place, query, body, md5, headers: parts.headers, path }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// A parameter of the query; empty if it is not there.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Does the query have the parameter?
    pub fn asks(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    /// When the write may happen.
    pub fn condition(&self) -> Condition {
        match (self.header("if-none-match"), self.header("if-match")) {
            (Some(_), _) => Condition::Absent,
            (None, Some(etag)) => Condition::Match(etag.trim_matches('"').to_owned()),
            (None, None) => Condition::Always,
        }
    }

    /// What `x-amz-copy-source` names.
    pub fn copy_source(&self) -> Option<Place> {
        let source = decoded(self.header("x-amz-copy-source")?);
        let (bucket, key) = source.trim_start_matches('/').split_once('/')?;
        Some(Place { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The headers that the object is to be stored with.
    pub fn stored_headers(&self) -> Headers {
        let mut stored: Headers = Vec::new();
        for (name, value) in &self.headers {
            let name = name.as_str();
            let Ok(value) = value.to_str() else { continue };
            match name {
                "content-type" | "cache-control" | "content-disposition" | "content-language" | CHECKSUM => {
                    stored.push((name.to_owned(), value.to_owned()));
                }
                // `aws-chunked` is how the content travels, not what it is.
                "content-encoding" => {
                    let real: Vec<&str> = value.split(',').map(str::trim).filter(|part| !matches!(*part, "" | "aws-chunked")).collect();
                    if !real.is_empty() {
                        stored.push((name.to_owned(), real.join(",")));
                    }
                }
                _ if name.starts_with("x-amz-meta-") => stored.push((name.to_owned(), value.to_owned())),
                _ => {}
            }
        }
        stored.sort();
        stored
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Takes `aws-chunked` apart: each chunk has a line with its length in hex (and perhaps a signature) before it; after the last, empty
/// one there may be trailers, which hold checksums.
fn unwrapped(wrapped: &Bytes) -> Bytes {
    let mut content = BytesMut::with_capacity(wrapped.len());
    let mut rest = &wrapped[..];
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let from = end + 2;
        let Some(chunk) = rest.get(from..from + length).filter(|chunk| !chunk.is_empty()) else { break };
        content.extend_from_slice(chunk);
        rest = rest.get(from + length + 2..).unwrap_or_default();
    }
    content.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_lose_their_lengths_signatures_and_trailers() {
        let signed =
            Bytes::from_static(b"5;chunk-signature=aa\r\nhello\r\n1\r\n!\r\n0;chunk-signature=bb\r\nx-amz-checksum-crc32:x\r\n\r\n");
        assert_eq!(unwrapped(&signed), "hello!");
        assert_eq!(unwrapped(&Bytes::from_static(b"0\r\n\r\n")), "");
    }
}
