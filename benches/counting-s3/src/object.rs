//! The operations on objects.

use bytes::Bytes;
use hyper::{Method, StatusCode};

use crate::answer::{Answer, INVALID_REQUEST, NO_SUCH_KEY, Refusal, empty, escaped, http_date, iso_date, set, unescaped, xml};
use crate::ledger::Entry;
use crate::request::S3Request;
use crate::store::{CHECKSUM, Condition, Object, Place, Store};

/// `PutObject`.
pub fn put(store: &mut Store, request: &S3Request, entry: &mut Entry) -> Result<Answer, Refusal> {
    let object = store.put(&request.place, request.body.clone(), &request.md5, request.stored_headers(), &request.condition())?;
    entry.md5.clone_from(&object.md5);
    let mut answer = tagged(&object.etag);
    if let Some(checksum) = request.header(CHECKSUM) {
        set(&mut answer, CHECKSUM, checksum);
    }
    Ok(answer)
}

/// `CopyObject`.
pub fn copy(store: &mut Store, request: &S3Request, entry: &mut Entry) -> Result<Answer, Refusal> {
    let from = request.copy_source().ok_or(INVALID_REQUEST)?;
    let replace = request.header("x-amz-metadata-directive").is_some_and(|directive| directive == "REPLACE");
    let headers = replace.then(|| request.stored_headers());
    let with_checksum = request.header("x-amz-checksum-algorithm").is_some_and(|algorithm| algorithm == "SHA256");
    let object = store.copy(&from, &request.place, headers, with_checksum, &request.condition())?;
    entry.md5.clone_from(&object.md5);
    let (date, etag) = (iso_date(object.modified), &object.etag);
    Ok(xml(format!("<CopyObjectResult><LastModified>{date}</LastModified><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>")))
}

/// `GetObject`.
pub fn get(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let object = store.get(&request.place).ok_or(NO_SUCH_KEY)?;
    let mut answer = described(object, request);
    *answer.body_mut() = object.whole().into();
    Ok(answer)
}

/// `HeadObject`.
pub fn head(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let object = store.get(&request.place).ok_or(NO_SUCH_KEY)?;
    let mut answer = described(object, request);
    set(&mut answer, "content-length", &object.size().to_string());
    Ok(answer)
}

/// `DeleteObject`.
pub fn delete(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    store.delete(&request.place, &request.condition())?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `DeleteObjects`: each key by itself, perhaps only if it has an entity tag.
pub fn delete_many(store: &mut Store, request: &S3Request, entry: &mut Entry) -> Result<Answer, Refusal> {
    let document = std::str::from_utf8(&request.body).map_err(|_| INVALID_REQUEST)?;
    let quiet = element(document, "Quiet").is_some_and(|quiet| quiet == "true");
    let mut results = String::new();
    for wanted in document.split("<Object>").skip(1) {
        let wanted = wanted.split("</Object>").next().unwrap_or_default();
        let key = unescaped(element(wanted, "Key").ok_or(INVALID_REQUEST)?);
        let condition = match element(wanted, "ETag") {
            Some(etag) => Condition::Match(unescaped(etag).trim_matches('"').to_owned()),
            None => Condition::Always,
        };
        let shown = escaped(&key);
        let place = Place { bucket: request.place.bucket.clone(), key };
        match store.delete(&place, &condition) {
            Ok(()) => {
                entry.keys.push(place.key);
                if !quiet {
                    results += &format!("<Deleted><Key>{shown}</Key></Deleted>");
                }
            }
            Err(Refusal(_, code)) => results += &format!("<Error><Key>{shown}</Key><Code>{code}</Code><Message>{code}</Message></Error>"),
        }
    }
    Ok(xml(format!("<DeleteResult>{results}</DeleteResult>")))
}

/// `CreateMultipartUpload`.
pub fn begin(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let id = store.begin(&request.place, request.stored_headers());
    let (bucket, key) = (&request.place.bucket, escaped(&request.place.key));
    Ok(xml(format!(
        "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    )))
}

/// `UploadPart`.
pub fn part(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let number = request.parameter("partNumber").parse().map_err(|_| INVALID_REQUEST)?;
    store.part(request.parameter("uploadId"), number, request.body.clone(), &request.md5)?;
    Ok(tagged(&request.md5))
}

/// `UploadPartCopy`.
pub fn part_copy(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let number = request.parameter("partNumber").parse().map_err(|_| INVALID_REQUEST)?;
    store.keep_part(request.parameter("uploadId"), number, copied_pieces(store, request)?, &request.md5)?;
    let etag = &request.md5;
    Ok(xml(format!("<CopyPartResult><ETag>&quot;{etag}&quot;</ETag></CopyPartResult>")))
}

fn copied_pieces(store: &Store, request: &S3Request) -> Result<Vec<Bytes>, Refusal> {
    let from = request.copy_source().ok_or(INVALID_REQUEST)?;
    let range = request.header("x-amz-copy-source-range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?))).ok_or(INVALID_REQUEST)?;
    store.range(&from, first, last)
}

/// What a request makes one content of that was not sent with it, if it does: gigabytes, perhaps, whose MD5 must not be taken under the
/// store's lock.
pub fn gathered(store: &Store, request: &S3Request) -> Option<Vec<Bytes>> {
    if request.method == Method::PUT && request.asks("partNumber") && request.copy_source().is_some() {
        copied_pieces(store, request).ok()
    } else if request.method == Method::POST && request.asks("uploadId") {
        store.parts(request.parameter("uploadId")).ok()
    } else {
        None
    }
}

/// `CompleteMultipartUpload`.
pub fn complete(store: &mut Store, request: &S3Request, entry: &mut Entry) -> Result<Answer, Refusal> {
    let object = store.complete(request.parameter("uploadId"), &request.md5, &request.condition())?;
    entry.md5.clone_from(&object.md5);
    let (bucket, key, etag) = (&request.place.bucket, escaped(&request.place.key), &object.etag);
    Ok(xml(format!(
        "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
    )))
}

/// `AbortMultipartUpload`.
pub fn abort(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    store.abort(request.parameter("uploadId"))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The text of the first element of a name.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn tagged(etag: &str) -> Answer {
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "etag", &format!("\"{etag}\""));
    answer
}

/// An object's headers; its digest only for those who ask for it, as S3 does.
fn described(object: &Object, request: &S3Request) -> Answer {
    let mut answer = tagged(&object.etag);
    set(&mut answer, "last-modified", &http_date(object.modified));
    let with_checksum = request.header("x-amz-checksum-mode").is_some();
    for (name, value) in object.headers.iter().filter(|(name, _)| name != CHECKSUM || with_checksum) {
        set(&mut answer, name, value);
    }
    *answer.body_mut() = Bytes::new().into();
    answer
}
