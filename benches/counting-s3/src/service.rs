//! From a request to an operation, and from its outcome to the ledger.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::{Method, Request, StatusCode};
use md5::{Digest as _, Md5};

use crate::answer::{self, Answer, INVALID_REQUEST, NOT_IMPLEMENTED, Refusal, SLOW_DOWN};
use crate::ledger::{Entry, Ledger, lock};
use crate::request::S3Request;
use crate::store::{Store, Tags};
use crate::{admin, bucket, object};

/// The server: what is stored, and what has been asked.
#[derive(Debug, Default)]
pub struct Server {
    /// The counts and the log.
    pub ledger: Ledger,
    /// The objects.
    pub store: Mutex<Store>,
}

/// An operation's name, and what does it.
type Operation = (&'static str, fn(&mut Store, &S3Request, &mut Entry) -> Result<Answer, Refusal>);

impl Server {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(INVALID_REQUEST.answer()) };
        let mut request = S3Request::read(parts, body.to_bytes());
        if request.path.starts_with("/__") {
            return Ok(admin::answer(self, &request));
        }
        let gathered = object::gathered(&lock(&self.store), &request);
        if let Some(pieces) = gathered {
            let sum = tokio::task::spawn_blocking(move || pieces.iter().fold(Md5::new(), Md5::chain_update).finalize());
            let Ok(sum) = sum.await else { return Ok(INVALID_REQUEST.answer()) };
            request.md5 = answer::hex(&sum);
        }
        let refuse = self.ledger.admit().await;
        Ok(self.operate(&request, refuse))
    }

    /// The store stays locked until the ledger knows, so that the log's order is the order of what happened.
    fn operate(&self, request: &S3Request, refuse: bool) -> Answer {
        let mut store = lock(&self.store);
        let (name, operation) = choose(request);
        let bytes = if request.method == Method::PUT { request.body.len() } else { 0 };
        let place = &request.place;
        let keys = if place.key.is_empty() { Vec::new() } else { vec![place.key.clone()] };
        let mut entry = Entry { operation: name, bucket: place.bucket.clone(), keys, bytes, md5: String::new() };
        let outcome = if refuse || self.ledger.is_dead() { Err(SLOW_DOWN) } else { operation(&mut store, request, &mut entry) };
        let mut answer = outcome.unwrap_or_else(Refusal::answer);
        self.ledger.completed(entry, answer.status().as_u16());
        if store.tags == Tags::Kms && !place.key.is_empty() {
            answer::set(&mut answer, "x-amz-server-side-encryption", "aws:kms");
        }
        drop(store);
        answer::set(&mut answer, "x-amz-request-id", "0");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            answer::set(&mut answer, CONNECTION.as_str(), "close");
        }
        if request.method == Method::HEAD && !answer.status().is_success() {
            *answer.body_mut() = Bytes::new().into();
        }
        answer
    }
}

fn choose(request: &S3Request) -> Operation {
    let asks = |name| request.asks(name);
    let copies = request.header("x-amz-copy-source").is_some();
    if request.place.bucket.is_empty() {
        return match request.method {
            Method::POST if request.body.windows(17).any(|part| part == b"GetCallerIdentity") => ("GetCallerIdentity", bucket::identity),
            Method::GET => ("ListBuckets", bucket::list_buckets),
            _ => unknown(),
        };
    }
    if request.place.key.is_empty() {
        return match request.method {
            Method::HEAD => ("HeadBucket", bucket::head),
            Method::PUT => ("CreateBucket", bucket::create),
            Method::POST if asks("delete") => ("DeleteObjects", object::delete_many),
            Method::GET => bucket::question(request).unwrap_or(if request.parameter("list-type") == "2" {
                ("ListObjectsV2", bucket::list)
            } else {
                ("ListObjects", bucket::list)
            }),
            _ => unknown(),
        };
    }
    match request.method {
        Method::PUT if asks("partNumber") && !copies => ("UploadPart", object::part),
        Method::PUT if asks("partNumber") => ("UploadPartCopy", object::part_copy),
        Method::PUT if copies && !asks("partNumber") => ("CopyObject", object::copy),
        Method::PUT if request.query.keys().all(|name| name == "x-id") => ("PutObject", object::put),
        Method::GET => ("GetObject", object::get),
        Method::HEAD => ("HeadObject", object::head),
        Method::DELETE if asks("uploadId") => ("AbortMultipartUpload", object::abort),
        Method::DELETE => ("DeleteObject", object::delete),
        Method::POST if asks("uploads") => ("CreateMultipartUpload", object::begin),
        Method::POST if asks("uploadId") => ("CompleteMultipartUpload", object::complete),
        _ => unknown(),
    }
}

fn unknown() -> Operation {
    ("Unknown", |_, _, _| Err(NOT_IMPLEMENTED))
}
