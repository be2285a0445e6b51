//! Both ways of an upload against a server that keeps what it is sent and answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::super::*;
use super::*;

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Does {
    Answers(&'static str),
    /// Takes it, and closes the connection.
    Closes,
    /// Takes it, and says nothing.
    Stalls,
}

const DONE: Does = Does::Answers("HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 0\r\n\r\n");
const BUSY: Does = Does::Answers("HTTP/1.1 503 Slow Down\r\ncontent-length: 39\r\n\r\n<Error><Code>SlowDown</Code></Error>   ");
const HALF: Does = Does::Answers("HTTP/1.1 200 OK\r\netag: \"half\"\r\ncontent-length: 9\r\nconnection: close\r\n\r\n");
const SKEWED: Does = Does::Answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 48\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>");
const EXPIRED: Does = Does::Answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 40\r\n\r\n<Error><Code>ExpiredToken</Code></Error>");
const HELD: Does =
    Does::Answers("HTTP/1.1 412 Precondition Failed\r\ncontent-length: 46\r\n\r\n<Error><Code>PreconditionFailed</Code></Error>");

#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

#[derive(Clone)]
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<VecDeque<Does>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, requests: Arc::default(), script: Arc::default() };
        let listening = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = listening.clone();
                std::thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        server
    }

    fn serve(&self, stream: TcpStream) {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut to = stream;
        while let Some(request) = read(&mut from) {
            self.requests.lock().unwrap().push(request);
            let does = self.script.lock().unwrap().pop_front().unwrap_or(DONE);
            match does {
                Does::Answers(text) => {
                    to.write_all(text.as_bytes()).unwrap();
                    if text.contains("connection: close") {
                        return;
                    }
                }
                Does::Closes => return,
                Does::Stalls => std::thread::sleep(Duration::from_mins(1)),
            }
        }
    }

    /// What it was sent since it was last asked.
    fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn will(&self, script: &[Does]) {
        *self.script.lock().unwrap() = script.iter().copied().collect();
    }
}

fn read(from: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        assert_eq!(headers.insert(name.to_owned(), value.to_owned()), None, "{name} comes twice");
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    from.read_exact(&mut body).ok()?;
    Some(Request { line: first, headers, body })
}

async fn connected(server: &Server) -> Aws {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https_client())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKID", "a secret", Some("a token/+=".to_owned()), None, "test"))
        .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1)))
        .endpoint_url(&server.url);
    clients(&config.load().await)
}

/// As `connect` makes them.
fn clients(config: &SdkConfig) -> Aws {
    let renewing = Renewing::new(config.credentials_provider().unwrap());
    let provider = SharedCredentialsProvider::new(renewing.clone());
    let config = config.to_builder().credentials_provider(provider).identity_cache(IdentityCache::no_cache()).build();
    Aws::new(config, "eu-west-1".to_owned(), renewing, Fence::default())
}

/// An upload of the SDK's.
async fn usual(aws: &Aws, key: &str, body: &[u8], headers: &Headers, condition: Condition) -> Result<String, AwsError> {
    let stream = ByteStream::from(body.to_vec());
    aws.put_body("a-bucket", key, (stream, body.len()), Sha256::of(body), headers, condition).await
}

/// An upload that goes the short way if it can.
async fn short(aws: &Aws, key: &str, headers: &Headers, condition: Condition) -> Result<String, AwsError> {
    let body = b"body{}";
    aws.put_object("a-bucket", key, Bytes::from_static(body), Sha256::of(body), headers, condition).await
}

/// The signature of a request by the library, which knows S3's exceptions.
fn signature(server: &Server, request: &Request) -> String {
    let identity = Credentials::new("AKID", "a secret", Some("a token/+=".to_owned()), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let date = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date: SystemTime = PrimitiveDateTime::parse(&request.headers["x-amz-date"], date).unwrap().assume_utc().into();
    let params = v4::SigningParams::builder().identity(&identity).region("eu-west-1").name("s3").time(date).settings(settings);
    let params = SigningParams::V4(params.build().unwrap());
    let path = request.line.split(' ').nth(1).unwrap();
    let added = ["amz-sdk-request", "amz-sdk-invocation-id", "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
    let headers = request.headers.iter().filter(|(name, _)| {
        let signed = request.headers["authorization"].split("SignedHeaders=").nth(1).unwrap();
        !added.contains(&name.as_str()) && signed.split([';', ',']).any(|signed| signed == name.as_str())
            || name.starts_with("amz-sdk") && signed.contains(name.as_str())
    });
    let digest = SignableBody::Precomputed(request.headers["x-amz-content-sha256"].clone());
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("PUT", format!("{}{path}", server.url), headers, digest).unwrap();
    sign(signable, &params).unwrap().into_parts().1
}

#[tokio::test]
async fn both_ways_say_the_same() {
    let server = Server::start();
    let aws = connected(&server).await;
    let plain = Headers::of("text/html; charset=utf-8", "no-cache");
    usual(&aws, "first.html", b"", &plain, Condition::Always).await.unwrap();
    server.seen();
    let mut tagged = Headers::of("text/css", "public, max-age=31536000, immutable");
    tagged.content_encoding = Some("br".into());
    tagged.cache_tag = Some("windlass-web".into());
    let ascii: String = (b' '..=b'~').map(char::from).filter(|c| *c != '/').collect();
    let keys = ["a b+c%20d#e?f=g&h.js", "caf\u{e9}/cafe\u{301}.css", "a//b", "deep/er/x.js", "a/", "~tilde", "日本", "a..b/.c", &ascii];
    let conditions = [Condition::Always, Condition::IfAbsent, Condition::IfMatch("\"etag\"".to_owned())];
    for key in keys {
        for headers in [&plain, &tagged] {
            for condition in &conditions {
                usual(&aws, key, b"body{}", headers, condition.clone()).await.unwrap();
                assert_eq!(short(&aws, key, headers, condition.clone()).await.unwrap(), "\"e\"");
                let [usual, short] = &server.seen()[..] else { panic!("two requests") };
                assert_eq!((&short.line, &short.body), (&usual.line, &usual.body));
                let (example, made) = (&usual.headers["amz-sdk-invocation-id"], &short.headers["amz-sdk-invocation-id"]);
                assert!(example != made && example[..24] == made[..24], "made after the example: {key}");
                let said = |request: &Request| {
                    let mut headers = request.headers.clone();
                    let authorization = headers.remove("authorization").unwrap();
                    headers.remove("x-amz-date");
                    let length = headers.remove("amz-sdk-invocation-id").unwrap().len();
                    (headers, authorization.split("Signature=").next().unwrap().to_owned(), length)
                };
                assert_eq!(said(short), said(usual));
                for request in [usual, short] {
                    assert!(request.headers["authorization"].ends_with(&signature(&server, request)), "{request:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_only_the_sdk_knows_is_left_to_it() {
    let server = Server::start();
    let aws = connected(&server).await;
    let headers = Headers::of("text/css", "no-cache");
    let spaced = Headers::of("text/css", "no-cache,  no-store");
    usual(&aws, "first", b"", &headers, Condition::Always).await.unwrap();
    let first = server.seen().remove(0);
    for (key, headers) in [("/x", &headers), ("a/../x", &headers), ("./x", &headers), ("x", &spaced)] {
        short(&aws, key, headers, Condition::Always).await.unwrap();
        let [request] = &server.seen()[..] else { panic!("one request") };
        assert_ne!(request.headers["amz-sdk-invocation-id"][..24], first.headers["amz-sdk-invocation-id"][..24], "{key}");
    }
}

#[tokio::test]
async fn what_is_no_plain_success_is_done_again_by_the_sdk() {
    let server = Server::start();
    let mut aws = connected(&server).await;
    Arc::get_mut(&mut aws.0).unwrap().short_way.patience = Duration::from_secs(2);
    let headers = Headers::of("text/css", "no-cache");
    usual(&aws, "first", b"", &headers, Condition::Always).await.unwrap();
    for (name, faults) in [
        ("busy", &[BUSY][..]),
        ("busy for longer", &[BUSY, BUSY, BUSY]),
        ("lost", &[Does::Closes]),
        ("half an answer", &[HALF]),
        ("stalled", &[Does::Stalls]),
        ("another clock", &[SKEWED]),
        ("expired once", &[EXPIRED]),
    ] {
        server.seen();
        server.will(faults);
        assert_eq!(short(&aws, "a", &headers, Condition::Always).await.as_deref(), Ok("\"e\""), "{name}");
        let seen = server.seen();
        assert_eq!(seen.len(), faults.len() + 1, "{name}");
        assert!(seen.iter().all(|request| request.body == b"body{}" && request.line == seen[0].line), "{name}");
    }
    server.will(&[HELD; 2]);
    assert!(short(&aws, "a", &headers, Condition::IfAbsent).await.unwrap_err().is_precondition_failed());
    server.will(&[]);
    server.seen();
    assert!(short(&aws, "a", &headers, Condition::Always).await.is_ok());
    assert_eq!(server.seen().len(), 1, "the short way is open again");
    server.will(&[EXPIRED; 2]);
    assert!(short(&aws, "a", &headers, Condition::Always).await.unwrap_err().is_expired_credentials());
    assert_eq!(server.seen().len(), 2, "there are no others to ask with");
}

#[tokio::test]
async fn the_short_way_is_left_when_it_never_leads_anywhere() {
    let server = Server::start();
    let aws = connected(&server).await;
    let headers = Headers::of("text/css", "no-cache");
    usual(&aws, "first", b"", &headers, Condition::Always).await.unwrap();
    server.seen();
    for _ in 0..40 {
        server.will(&[HELD; 2]);
        assert!(short(&aws, "a", &headers, Condition::IfAbsent).await.unwrap_err().is_precondition_failed());
    }
    assert_eq!(server.seen().len(), 40 + 16);
}

#[tokio::test]
async fn nothing_leaves_after_the_lease() {
    let server = Server::start();
    let aws = connected(&server).await;
    let headers = Headers::of("text/css", "no-cache");
    usual(&aws, "first", b"", &headers, Condition::Always).await.unwrap();
    server.seen();
    aws.fence().close();
    assert!(short(&aws, "a", &headers, Condition::Always).await.unwrap_err().is_fenced());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn credentials_that_are_about_to_expire_are_the_sdks_affair() {
    let soon = SystemTime::now() + Duration::from_secs(30);
    let server = Server::start();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https_client())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKID", "a secret", None, Some(soon), "test"))
        .endpoint_url(&server.url);
    let aws = clients(&config.load().await);
    let headers = Headers::of("text/css", "no-cache");
    for _ in 0..2 {
        short(&aws, "a", &headers, Condition::Always).await.unwrap();
    }
    let [first, second] = &server.seen()[..] else { panic!("two requests") };
    assert_ne!(first.headers["amz-sdk-invocation-id"][..24], second.headers["amz-sdk-invocation-id"][..24]);
}
