//! The objects, and the rules of S3 for writing them: entity tags, conditions, parts that become one object.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use time::OffsetDateTime;

use crate::answer::{NO_SUCH_KEY, NO_SUCH_UPLOAD, PRECONDITION_FAILED, Refusal, hex};

/// A bucket and a key in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// Headers that an object is stored and served with.
pub type Headers = Vec<(String, String)>;

/// The header of a stored digest.
pub const CHECKSUM: &str = "x-amz-checksum-sha256";

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its content, in the parts that it came in.
    pub body: Vec<Bytes>,
    /// The MD5 of its content, which the log names it by.
    pub md5: String,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: OffsetDateTime,
    /// What it is served with.
    pub headers: Headers,
}

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Nothing is there.
    Absent,
    /// What is there has this entity tag; `*` stands for any.
    Match(String),
}

/// How entity tags are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tags {
    /// The MD5 of the content, as without encryption or with S3's own keys.
    #[default]
    Md5,
    /// Anything but the MD5, another one at each write, as with a key of KMS.
    Kms,
}

/// An upload in parts.
#[derive(Debug, Clone)]
struct Upload {
    place: Place,
    headers: Headers,
    parts: BTreeMap<u32, Part>,
}

/// A part of an upload: its pieces, and their MD5.
#[derive(Debug, Clone)]
struct Part {
    pieces: Vec<Bytes>,
    md5: String,
}

/// All buckets.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Place, Object>,
    saved: BTreeMap<Place, Object>,
    uploads: HashMap<String, Upload>,
    /// One copy of each content: every client of a run brings the same tree, each to a bucket of its own.
    bodies: HashMap<String, Bytes>,
    /// How entity tags are made.
    pub tags: Tags,
}

impl Object {
    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Its content in one piece.
    pub fn whole(&self) -> Bytes {
        match &self.body[..] {
            [only] => only.clone(),
            parts => parts.concat().into(),
        }
    }

    fn checksum(&self) -> String {
        let mut sum = Sha256::new();
        self.body.iter().for_each(|part| sum.update(part));
        STANDARD.encode(sum.finalize())
    }
}

impl Store {
    /// An object, if it is there.
    pub fn get(&self, place: &Place) -> Option<&Object> {
        self.objects.get(place)
    }

    /// Every object of a bucket, or of all, in the order of their keys.
    pub fn objects<'a>(&'a self, bucket: &'a str, after: &str) -> impl Iterator<Item = (&'a Place, &'a Object)> {
        let from = Place { bucket: bucket.to_owned(), key: after.to_owned() };
        self.objects.range(from..).take_while(move |(place, _)| bucket.is_empty() || place.bucket == bucket)
    }

    /// Writes an object with this MD5, if the condition holds.
    pub fn put(&mut self, place: &Place, body: Bytes, md5: &str, headers: Headers, condition: &Condition) -> Result<&Object, Refusal> {
        self.hold(place, condition)?;
        let body = self.bodies.entry(md5.to_owned()).or_insert(body).clone();
        let etag = self.etag(md5);
        Ok(self.write(place, Object { body: vec![body], md5: md5.to_owned(), etag, modified: OffsetDateTime::now_utc(), headers }))
    }

    /// Copies an object: with `headers` under new ones, otherwise under its own.
    pub fn copy(
        &mut self,
        from: &Place,
        to: &Place,
        headers: Option<Headers>,
        with_checksum: bool,
        condition: &Condition,
    ) -> Result<&Object, Refusal> {
        self.hold(to, condition)?;
        let mut object = self.objects.get(from).ok_or(NO_SUCH_KEY)?.clone();
        let checksum = object.headers.iter().find(|(name, _)| name == CHECKSUM).cloned();
        object.headers = headers.unwrap_or(object.headers);
        object.headers.retain(|(name, _)| name != CHECKSUM);
        if with_checksum || checksum.is_some() {
            let made = || (CHECKSUM.to_owned(), object.checksum());
            object.headers.push(checksum.unwrap_or_else(made));
        }
        object.etag = self.etag(&object.md5);
        object.modified = OffsetDateTime::now_utc();
        Ok(self.write(to, object))
    }

    /// Deletes an object, if the condition holds. What is not there is deleted, too.
    pub fn delete(&mut self, place: &Place, condition: &Condition) -> Result<(), Refusal> {
        self.hold(place, condition)?;
        self.objects.remove(place);
        Ok(())
    }

    /// Begins an upload in parts.
    pub fn begin(&mut self, place: &Place, headers: Headers) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!("upload-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.uploads.insert(id.clone(), Upload { place: place.clone(), headers, parts: BTreeMap::new() });
        id
    }

    /// Keeps a part with this MD5, which is its entity tag. Equal parts are kept once, so that a file of many gigabytes of nothing takes
    /// no memory.
    pub fn part(&mut self, id: &str, number: u32, body: Bytes, md5: &str) -> Result<(), Refusal> {
        let body = self.bodies.entry(md5.to_owned()).or_insert(body).clone();
        self.keep_part(id, number, vec![body], md5)
    }

    /// What an object has from its byte `first` to `last`.
    pub fn range(&self, from: &Place, first: usize, last: usize) -> Result<Vec<Bytes>, Refusal> {
        let object = self.objects.get(from).ok_or(NO_SUCH_KEY)?;
        let (mut pieces, mut at) = (Vec::new(), 0);
        for piece in &object.body {
            let (start, end) = (first.clamp(at, at + piece.len()), (last + 1).clamp(at, at + piece.len()));
            if start < end {
                pieces.push(piece.slice(start - at..end - at));
            }
            at += piece.len();
        }
        Ok(pieces)
    }

    /// Makes a part of pieces with this MD5.
    pub fn keep_part(&mut self, id: &str, number: u32, pieces: Vec<Bytes>, md5: &str) -> Result<(), Refusal> {
        self.uploads.get_mut(id).ok_or(NO_SUCH_UPLOAD)?.parts.insert(number, Part { pieces, md5: md5.to_owned() });
        Ok(())
    }

    /// All that an upload has by now.
    pub fn parts(&self, id: &str) -> Result<Vec<Bytes>, Refusal> {
        let upload = self.uploads.get(id).ok_or(NO_SUCH_UPLOAD)?;
        Ok(upload.parts.values().flat_map(|part| part.pieces.iter().cloned()).collect())
    }

    /// Makes one object of an upload's parts, whose content has this MD5.
    pub fn complete(&mut self, id: &str, md5: &str, condition: &Condition) -> Result<&Object, Refusal> {
        let upload = self.uploads.get(id).ok_or(NO_SUCH_UPLOAD)?;
        self.hold(&upload.place, condition)?;
        let upload = self.uploads.remove(id).ok_or(NO_SUCH_UPLOAD)?;
        let bytes = |hex: &str| (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect();
        let sums: Vec<u8> = upload.parts.values().flat_map(|part| -> Vec<u8> { bytes(&part.md5) }).collect();
        let etag = format!("{}-{}", self.etag(&hex(&Md5::digest(sums))), upload.parts.len());
        let body = upload.parts.into_values().flat_map(|part| part.pieces).collect();
        let object = Object { body, md5: md5.to_owned(), etag, modified: OffsetDateTime::now_utc(), headers: upload.headers };
        Ok(self.write(&upload.place, object))
    }

    /// Gives an upload up.
    pub fn abort(&mut self, id: &str) -> Result<(), Refusal> {
        self.uploads.remove(id).map(drop).ok_or(NO_SUCH_UPLOAD)
    }

    /// Empties a bucket, or all of them.
    pub fn wipe(&mut self, bucket: &str) {
        self.objects.retain(|place, _| !bucket.is_empty() && place.bucket != bucket);
        if self.objects.is_empty() {
            self.bodies.clear();
            self.uploads.clear();
        }
    }

    /// Remembers every object as it is.
    pub fn save(&mut self) {
        self.saved.clone_from(&self.objects);
    }

    /// Goes back to what was remembered.
    pub fn restore(&mut self) {
        self.objects.clone_from(&self.saved);
        self.uploads.clear();
    }

    fn hold(&self, place: &Place, condition: &Condition) -> Result<(), Refusal> {
        match (condition, self.objects.get(place)) {
            (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Match(_), None) => Err(NO_SUCH_KEY),
            (Condition::Match(etag), Some(object)) if etag == "*" || *etag == object.etag => Ok(()),
            (Condition::Absent | Condition::Match(_), Some(_)) => Err(PRECONDITION_FAILED),
        }
    }

    fn etag(&self, md5: &str) -> String {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        match self.tags {
            Tags::Md5 => md5.to_owned(),
            Tags::Kms => hex(&Md5::digest(format!("{md5}{}", WRITES.fetch_add(1, Ordering::Relaxed)))),
        }
    }

    fn write(&mut self, place: &Place, object: Object) -> &Object {
        self.objects.entry(place.clone()).insert_entry(object).into_mut()
    }
}
