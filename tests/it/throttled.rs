//! Too many requests: ridden out by every service, and not for ever.

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
        let count = AtomicUsize::new(0);
        let third =
            move |request: &Recorded| request.operation.split(':').next() == Some(service) && count.fetch_add(1, Ordering::SeqCst) % 3 == 1;
        shop.proxy.fail_next(third, usize::MAX / 16, throttle(service));
    }
    answers(&shop, "items.0001_initial");
    shop.release();
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

/// Services that refuse whatever they are asked: each run ends within two minutes, with the code of what it could not do and the cause.
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
    assert!(start.elapsed() < Duration::from_mins(2), "{operation} was tried for {:?}", start.elapsed());
    let asked = shop.proxy.requests().iter().filter(|request| request.operation == operation).count();
    assert!((2..=200).contains(&asked), "{operation} was asked {asked} times");
    let said = shop.error(&failed);
    assert!(said.contains(operation) && said.contains("run it again"), "{operation}:\n{said}");
}
