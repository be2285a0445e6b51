//! As much of gRPC as serving a build's session takes: framed messages over HTTP/2, and a status at the end.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use prost::Message;
use tokio::sync::mpsc;

/// How a call ended: gRPC's code, and words.
#[derive(Debug, Clone)]
pub(super) struct Status(pub(super) u16, pub(super) String);

impl Status {
    pub(super) fn ok() -> Self {
        Self(0, String::new())
    }
}

pub(super) const NOT_FOUND: u16 = 5;
pub(super) const FAILED_PRECONDITION: u16 = 9;
pub(super) const UNIMPLEMENTED: u16 = 12;
pub(super) const INTERNAL: u16 = 13;

/// What is answered.
pub(super) type Answer = Response<BoxBody<Bytes, std::convert::Infallible>>;

/// What an answer consists of.
pub(super) enum Part {
    Message(Bytes),
    End(Status),
}

/// A message with its frame.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// An answer whose parts are sent as they come.
pub(super) fn streamed(parts: mpsc::Receiver<Part>) -> Answer {
    let frames = stream::unfold(Some(parts), async |parts| {
        let mut parts = parts?;
        let end = |Status(code, words): Status| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(code));
            if let Ok(words) = HeaderValue::from_str(&words.replace(|c: char| !c.is_ascii() || c.is_ascii_control(), "?")) {
                trailers.insert("grpc-message", words);
            }
            Frame::trailers(trailers)
        };
        match parts.recv().await {
            Some(Part::Message(bytes)) => Some((Ok(Frame::data(bytes)), Some(parts))),
            Some(Part::End(status)) => Some((Ok(end(status)), None)),
            None => Some((Ok(end(Status(INTERNAL, "ended early".to_owned()))), None)),
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An answer of one message, or none.
pub(super) fn unary(result: Result<Bytes, Status>) -> Answer {
    let (to, parts) = mpsc::channel(2);
    let (message, status) = match result {
        Ok(message) => (Some(message), Status::ok()),
        Err(status) => (None, status),
    };
    // There is room for both.
    message.map(|message| to.try_send(Part::Message(message)));
    drop(to.try_send(Part::End(status)));
    streamed(parts)
}

/// The messages of a request.
pub(super) struct Messages {
    body: Incoming,
    read: BytesMut,
}

impl Messages {
    pub(super) fn of(request: Request<Incoming>) -> Self {
        Self { body: request.into_body(), read: BytesMut::new() }
    }

    /// The next message; `None` at the end, and of what cannot be read.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if self.read.len() >= 5 {
                let length = u32::from_be_bytes([self.read[1], self.read[2], self.read[3], self.read[4]]) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return M::decode(self.read.split_to(length)).ok();
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}
