//! What the support promises to the tests that stand on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use windlass::aws::{Access, Aws, AwsError, Condition, connect};
use windlass::model::{Headers, Sha256};
use windlass::probe;

use super::ministack;
use super::proxy::{Fault, Proxy};
use super::scene::{Scene, until};
use super::seed::{ACCOUNT, Seed};

async fn aws(endpoint_url: String) -> Aws {
    let keys = Some(("test".to_owned(), "test".to_owned()));
    connect(&Access { region: Some("us-east-1".to_owned()), endpoint_url: Some(endpoint_url), keys, ..Access::default() }).await.unwrap()
}

async fn put(aws: &Aws, bucket: &str, key: &str, body: &'static [u8], condition: Condition) -> Result<String, AwsError> {
    let headers = Headers::of("application/json", "no-store");
    aws.put_object(bucket, key, Bytes::from_static(body), Sha256::of(body), &headers, condition).await
}

#[tokio::test]
async fn a_proxy_passes_everything_on_and_tells_writes_from_reads() {
    let proxy = Proxy::start(ministack::shared().url());
    let aws = aws(proxy.url()).await;
    aws.caller_identity().await.unwrap();
    Seed::new(&proxy.url()).bucket("support-record").await;
    put(&aws, "support-record", "a b#c.json", b"{}", Condition::IfAbsent).await.unwrap();
    assert_eq!(aws.get_object("support-record", "a b#c.json").await.unwrap().unwrap().body, "{}");
    // A HEAD's answer has a length and no body.
    assert_eq!(aws.head_object("support-record", "a b#c.json").await.unwrap().unwrap().size, 2);
    assert_eq!(aws.list_objects("support-record", "a").await.unwrap().len(), 1);
    aws.repository("support-none").await.unwrap();
    aws.cluster("support-none").await.unwrap();
    aws.function("support-none").await.unwrap();
    aws.distribution("ENONE").await.unwrap();
    aws.create_invalidation("ENONE", "r", &["/*".to_owned()]).await.unwrap_err();
    aws.invoke("support-none", None, &serde_json::json!({}), Duration::from_secs(1)).await.unwrap_err();
    let operations: Vec<_> = proxy.requests().into_iter().map(|request| request.operation).collect();
    assert_eq!(
        operations,
        [
            "sts:GetCallerIdentity",
            "s3:CreateBucket",
            "s3:PutPublicAccessBlock",
            "s3:PutObject",
            "s3:GetObject",
            "s3:HeadObject",
            "s3:ListObjectsV2",
            "ecr:DescribeRepositories",
            "ecs:DescribeClusters",
            "lambda:GetFunction",
            "cloudfront:GetDistribution",
            "cloudfront:CreateInvalidation",
            "lambda:Invoke",
        ]
    );
    let changes = ["s3:CreateBucket", "s3:PutPublicAccessBlock", "s3:PutObject", "cloudfront:CreateInvalidation", "lambda:Invoke"];
    assert_eq!(proxy.written(), changes);
    let written = &proxy.writes()[2];
    assert_eq!((written.path.as_str(), written.method.as_str(), written.body.as_str()), ("/support-record/a%20b%23c.json", "PUT", "{}"));
    assert_eq!(format!("http://{}", written.host), proxy.url());
    let asked = &proxy.requests()[7];
    assert!(asked.target.as_ref().is_some_and(|target| target.ends_with(".DescribeRepositories")));
    proxy.clear();
    aws.bucket_exposure("support-record").await.unwrap();
    assert!(proxy.writes().is_empty() && proxy.requests().iter().any(|request| request.query.contains("publicAccessBlock")));
}

#[tokio::test]
async fn a_fault_happens_as_often_as_it_is_ordered_and_looks_like_the_real_one() {
    let proxy = Proxy::start(ministack::shared().url());
    let aws = aws(proxy.url()).await;
    Seed::new(&proxy.url()).bucket("support-fault").await;

    // The SDK rides over a few of them.
    proxy.fail_next(|request| request.operation == "s3:PutObject", 2, Fault::xml(503, "SlowDown", "Please reduce your request rate."));
    put(&aws, "support-fault", "slow", b"", Condition::Always).await.unwrap();
    assert_eq!((proxy.written().len(), proxy.faults_left()), (5, 0));

    proxy.fail_next(|request| request.operation == "ecs:DescribeClusters", 1, Fault::json(400, "AccessDeniedException", "no"));
    let denied = aws.cluster("shop").await.unwrap_err();
    assert!(denied.is_denied(), "{denied}");

    proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::Refuse);
    let refused = aws.invoke("f", None, &serde_json::json!({}), Duration::from_secs(1)).await.unwrap_err();
    assert!(refused.is_answer_lost(), "{refused}");

    // The first attempt has written; the second, which the SDK makes by itself, therefore fails.
    proxy.fail_next(|request| request.operation == "s3:PutObject", 1, Fault::LoseAnswer);
    let lost = put(&aws, "support-fault", "lock", b"mine", Condition::IfAbsent).await.unwrap_err();
    assert!(lost.is_precondition_failed(), "{lost}");
    assert_eq!(aws.get_object("support-fault", "lock").await.unwrap().unwrap().body, "mine");

    let started = Instant::now();
    proxy.fail_next(|request| request.operation == "sts:GetCallerIdentity", 1, Fault::Delay(Duration::from_millis(300)));
    aws.caller_identity().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));

    let rewrite = |status, body: String| (status, body.replace(ACCOUNT, "999999999999"));
    proxy.fail_next(|request| request.operation == "sts:GetCallerIdentity", 1, Fault::Rewrite(Box::new(rewrite)));
    assert_eq!(aws.caller_identity().await.unwrap().account, "999999999999");
    assert_eq!(aws.caller_identity().await.unwrap().account, ACCOUNT);

    let happened = Arc::new(AtomicBool::new(false));
    let happens = Arc::clone(&happened);
    let first = Fault::First(Box::new(move || happens.store(true, Ordering::Relaxed)));
    proxy.fail_next(|request| request.operation == "page:GET", 1, first);
    let client = probe::client(Some(&proxy.url())).unwrap();
    assert_eq!(client.get("http://site.example/_ministack/health").await.unwrap().status, 200);
    assert!(happened.load(Ordering::Relaxed));
}

#[test]
fn a_scene_hides_the_machine_and_its_commits_are_the_same_everywhere() {
    let mut scene = Scene::new("http://127.0.0.1:1");
    scene.write("a/b.txt", "x").program("npm", "echo stub $1");
    assert_eq!(scene.commit(1), "8f14b3f52b4d7dd46c98dbaaabb7fdc4fe3a1504");
    scene.remove("a/b.txt");
    assert_ne!(scene.commit(2), scene.git(&["rev-parse", "HEAD~1"]));
    scene.set("SHOP", "1");
    scene.unset("AWS_ENDPOINT_URL");
    let run = |program: &str, arguments: &[&str]| scene.run(program, arguments).expect(0).stdout;
    assert_eq!(run("npm", &["ci"]), "stub ci\n");
    let said = run("env", &[]);
    let environment: BTreeMap<_, _> = said.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(environment.get("HOME").copied(), scene.home().to_str());
    assert!(environment.contains_key("SHOP") && !environment.contains_key("AWS_ENDPOINT_URL") && !environment.contains_key("CARGO"));
}

#[test]
fn a_program_can_be_met_on_its_way() {
    let scene = Scene::new("http://127.0.0.1:1");
    scene.program("slow", "trap 'echo bye; exit 143' TERM; echo ready > \"$HOME/ready\"; while :; do sleep 0.05; done");
    let running = scene.spawn("slow", &[]);
    assert!(running.id() > 0);
    until("it is ready", || scene.home().join("ready").exists());
    // Not SIGINT: whatever a shell runs in the background ignores that, and so would this script.
    running.signal(Signal::TERM);
    let outcome = running.wait();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.signal), ("bye\n", "", None));
    outcome.expect(143);
    assert!(scene.start(&["--version"]).wait().code.is_some() && scene.windlass(&["--version"]).signal.is_none());
}

#[tokio::test]
async fn what_is_seeded_is_there_for_the_program() {
    let url = ministack::shared().url();
    let (seed, aws) = (Seed::new(url), aws(url.to_owned()).await);
    seed.bucket("support-seed").await;
    let (id, name) = seed.distribution("support-seed").await;
    assert!(aws.distribution(&id).await.unwrap().unwrap().origins[0].access_control);
    let body = Bytes::from_static(b"<html>");
    seed.s3().put_object().bucket("support-seed").key("index.html").body(body.clone().into()).send().await.unwrap();
    // It redirects to HTTPS, and the page is found by the distribution's own name.
    let client = probe::client(Some(url)).unwrap();
    assert_eq!(client.get(&format!("http://{name}/")).await.unwrap().body, body);
    seed.repository("support/seed").await;
    let digest = seed.image("support/seed", "v1").await;
    assert_ne!(digest, seed.image("support/seed", "v2").await);
    assert_eq!(aws.image_digest("support/seed", "v1").await.unwrap().unwrap().to_string(), digest);
    let image = format!("{}/support/seed@{digest}", ministack::shared().registry());
    seed.cluster("support-seed").await;
    let arn = seed.service("support-seed", "support-seed", &image).await;
    let services = aws.services("support-seed", &["support-seed", "support-none"]).await.unwrap();
    assert_eq!((services.len(), &services[0].task_definition), (1, &arn));
    let definition = aws.task_definition(&arn).await.unwrap();
    let next = aws.register_task_definition(definition.document()).await.unwrap();
    assert_eq!(aws.roll_service("support-seed", "support-seed", &next, false, None).await.unwrap().task_definition, next);
    seed.function("support-seed", &image).await;
    assert_eq!(aws.function("support-seed").await.unwrap().unwrap().image, Some(image));
}

#[test]
fn a_cloud_of_its_own_is_gone_when_it_is_dropped() {
    let cloud = ministack::shared();
    assert_eq!(format!("http://{}", cloud.registry()), cloud.url());
    let own = ministack::Ministack::start(false);
    assert_ne!(own.url(), cloud.url());
    let address = own.registry().to_owned();
    drop(own);
    assert!(std::net::TcpStream::connect(address).is_err());
}
