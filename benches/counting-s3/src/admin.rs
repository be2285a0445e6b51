//! `/__…`: how a benchmark asks and steers. None of it is counted.
//!
//! ```text
//! /__stats                     the counts since the last reset, as JSON
//! /__log                       a line for each request, see `Ledger::log`
//! /__dump?bucket=B             a line for each object: bucket, key, MD5, entity tag, bytes, headers (percent-encoded but for spaces)
//! /__object?bucket=B&key=K     an object's content
//! /__reset                     begins to count anew
//! /__wipe?bucket=B             empties a bucket, or all of them
//! /__save, /__restore          remembers every object, goes back to that
//! /__latency?ms=N              waits so long before each request
//! /__fail?every=N              answers one in N requests with 503; 0 is none
//! /__kill?after=K&pid=P        ends process P when the K-th write since the reset has happened, before it is answered; nothing
//!                              that P still has under way happens after that
//! /__etag?as=md5|kms           makes entity tags as S3 does without or with a key of KMS
//! ```

use crate::answer::{self, Answer, INVALID_REQUEST, NO_SUCH_KEY, NOT_IMPLEMENTED, encoded};
use crate::ledger::lock;
use crate::request::S3Request;
use crate::service::Server;
use crate::store::{Object, Place, Tags};

/// Answers an administrator.
pub fn answer(server: &Server, request: &S3Request) -> Answer {
    let Server { ledger, store } = server;
    let bucket = request.parameter("bucket");
    let number = |name: &str| request.parameter(name).parse::<u64>().ok();
    match request.path.as_str() {
        "/__stats" => return answer::text(ledger.counts()),
        "/__log" => return answer::text(ledger.log()),
        "/__dump" => return answer::text(dump(server, bucket)),
        "/__object" => {
            let place = Place { bucket: bucket.to_owned(), key: request.parameter("key").to_owned() };
            let body = lock(store).get(&place).map(Object::whole);
            return body.map_or_else(|| NO_SUCH_KEY.answer(), |body| Answer::new(body.into()));
        }
        "/__reset" => ledger.reset(),
        "/__wipe" => lock(store).wipe(bucket),
        "/__save" => lock(store).save(),
        "/__restore" => lock(store).restore(),
        "/__latency" => match number("ms") {
            Some(milliseconds) => ledger.set_latency(milliseconds),
            None => return INVALID_REQUEST.answer(),
        },
        "/__fail" => match number("every") {
            Some(every) => ledger.refuse_one_in(every),
            None => return INVALID_REQUEST.answer(),
        },
        "/__kill" => match (number("after"), request.parameter("pid").parse()) {
            (Some(after), Ok(pid)) if pid > 1 => ledger.kill(pid, after),
            _ => return INVALID_REQUEST.answer(),
        },
        "/__etag" => match request.parameter("as") {
            "md5" => lock(store).tags = Tags::Md5,
            "kms" => lock(store).tags = Tags::Kms,
            _ => return INVALID_REQUEST.answer(),
        },
        _ => return NOT_IMPLEMENTED.answer(),
    }
    answer::text("ok\n".to_owned())
}

fn dump(server: &Server, bucket: &str) -> String {
    let store = lock(&server.store);
    let lines = store.objects(bucket, "").map(|(place, object)| {
        let headers: Vec<String> = object.headers.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let (key, size) = (encoded(&place.key), object.size());
        format!("{}\t{key}\t{}\t{}\t{size}\t{}\n", place.bucket, object.md5, object.etag, headers.join(" "))
    });
    lines.collect()
}
