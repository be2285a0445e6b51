//! Too many requests: ridden out by every service, and not for ever.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// How each service throttles: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>.
fn throttle(operation: &str) -> Fault {
    match operation.split(':').next().unwrap() {
        "s3" => Fault::xml(503, "SlowDown", "Please reduce your request rate."),
        "lambda" => Fault::json(429, "TooManyRequestsException", "Rate exceeded"),
        "cloudfront" | "sts" | "elasticloadbalancing" => {
            let error =
                "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
            Fault::Answer { status: 400, headers: vec![("content-type", "text/xml".to_owned())], body: error.to_owned() }
        }
        _ => Fault::json(400, "ThrottlingException", "Rate exceeded"),
    }
}

fn answers(shop: &Shop, applied: &str) {
    let body = format!("{{\"applied\": [\"{applied}\"]}}");
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::Answer { status: 200, headers: vec![], body });
}

/// A whole shop whose next release has something to do everywhere.
async fn shop(name: &str) -> Shop {
    let shop = Shop::whole(name).await;
    shop.push_image().await;
    shop
}

/// Every third request of a run is refused, whichever service it is for: nothing of that is seen at the end.
#[tokio::test]
async fn every_third_request_may_be_refused() {
    let shop = shop("throttled-third").await;
    for service in ["s3", "ecs", "ecr", "lambda", "cloudfront", "sts", "logs"] {
        // Of many at once one could be the third each time it is tried.
        let (count, refused) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, u32>::new()));
        let third = move |request: &Recorded| {
            let is_third = request.operation.split(':').next() == Some(service) && count.fetch_add(1, Ordering::SeqCst) % 3 == 1;
            let mut refused = refused.lock().unwrap();
            let times = refused.entry(format!("{} {} {}", request.operation, request.path, request.body)).or_default();
            *times += u32::from(is_third);
            is_third && *times < 4
        };
        shop.proxy.fail_next(third, usize::MAX / 16, throttle(service));
    }
    answers(&shop, "items.0001_initial");
    shop.release();
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

/// Services that refuse whatever they are asked: each run ends within minutes, with the code of what it could not do and the cause.
/// The waits are the SDK's, so all of them wait at the same time.
#[tokio::test]
async fn nobody_asks_for_ever() {
    let cases = [
        ("s3:GetObject", "", 11),
        ("s3:PutObject", "/assets/", 21),
        ("sts:GetCallerIdentity", "", 11),
        ("ecr:DescribeRepositories", "", 11),
        ("lambda:UpdateFunctionCode", "", 23),
        ("ecs:DescribeServices", "", 11),
        ("ecs:RegisterTaskDefinition", "", 30),
        ("cloudfront:CreateInvalidation", "", 40),
    ];
    let mut shops = Vec::new();
    for (operation, part, exit) in cases {
        let shop = shop(&format!("throttled-{}", operation.replace(':', "-").to_lowercase())).await;
        answers(&shop, "items.0001_initial");
        let is = move |request: &Recorded| request.operation == operation && request.path.contains(part);
        shop.proxy.fail_next(is, usize::MAX / 16, throttle(operation));
        shops.push((operation, exit, shop));
    }
    std::thread::scope(|scope| {
        for (operation, exit, shop) in &shops {
            scope.spawn(move || ends(shop, operation, *exit));
        }
    });
}

fn ends(shop: &Shop, operation: &str, exit: i32) {
    let start = Instant::now();
    let failed = shop.run(&["release"]).expect(exit);
    assert!(start.elapsed() < Duration::from_mins(4), "{operation} was tried for {:?}", start.elapsed());
    let asked = shop.proxy.requests().iter().filter(|request| request.operation == operation).count();
    assert!((2..=200).contains(&asked), "{operation} was asked {asked} times");
    let said = shop.error(&failed);
    assert!(said.contains(operation) && said.contains("run it again"), "{operation}:\n{said}");
}

/// Two whose answers a release could do without: what is said is where it would have helped, and the end is not put off for ever.
#[tokio::test]
async fn a_balancer_and_a_log_that_refuse_hold_nobody_up_for_ever() {
    let name = "throttled-balancer";
    let balanced = Shop::site(name).await;
    balanced.add_service(crate::support::ministack::shared().registry());
    balanced.configure(&format!("migrations:\n  main: {{framework: django, driver: lambda-image, from: api, function: {name}}}\n"), "");
    balanced.configure("    container: web\n", "    container: web\n    health: /healthz\n");
    balanced.seed.repository(&format!("{name}/api")).await;
    let digest = balanced.seed.image(&format!("{name}/api"), "before").await;
    balanced.seed.cluster(name).await;
    let group = balanced.seed.balancer(name).await;
    let image = format!("{}/{name}/api@{digest}", crate::support::ministack::shared().registry());
    balanced.seed.balanced_service(name, &image, &group).await;
    balanced.push_image().await;
    let of_balancer = |request: &Recorded| request.operation.starts_with("elasticloadbalancing:");
    balanced.proxy.fail_next(of_balancer, usize::MAX / 16, throttle("elasticloadbalancing:"));

    let logged = shop("throttled-logs").await;
    logged.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::LoseAnswer);
    logged.proxy.fail_next(|request| request.operation.starts_with("logs:"), usize::MAX / 16, throttle("logs:"));

    std::thread::scope(|scope| {
        let of_health = "api: `/healthz` is not asked: elasticloadbalancing:DescribeTargetGroups";
        let of_log = "its log cannot be read: logs:FilterLogEvents";
        for (shop, service, exit, said) in [(&balanced, "elasticloadbalancing:", 0, of_health), (&logged, "logs:", 24, of_log)] {
            scope.spawn(move || {
                let start = Instant::now();
                let outcome = shop.run(&["release", "api"]).expect(exit);
                assert!(outcome.stderr.contains(said) && outcome.stderr.contains("Rate exceeded"), "{}", outcome.stderr);
                let asked = shop.proxy.requests().iter().filter(|request| request.operation.starts_with(service)).count();
                assert!((1..=200).contains(&asked), "{service} was asked {asked} times");
                assert!(start.elapsed() < Duration::from_mins(4), "{service} was asked for {:?}", start.elapsed());
            });
        }
    });
}
