//! Credentials that end in the middle of a release: renewed where they come from, or told with what is live.

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// A shop whose credentials come from a process, for so many seconds each time; it counts in its home.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
async fn shop(name: &str, seconds: u32) -> Shop {
    let mut shop = Shop::site(name).await;
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        shop.scene.unset(variable);
    }
    shop.scene.program(
        "give-credentials",
        &format!(
            "echo >> \"$HOME/given\"\necho \"{{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"test\\\", \\\"SecretAccessKey\\\": \\\"test\\\", \
             \\\"SessionToken\\\": \\\"t\\\", \\\"Expiration\\\": \\\"$(date -u -d '+{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)\\\"}}\""
        ),
    );
    let config = shop.scene.home().join(".aws/config");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "[default]\ncredential_process = give-credentials\n").unwrap();
    shop
}

/// They are others each time: the session token is the number of times.
fn others_each_time(shop: &Shop) {
    let script = "echo >> \"$HOME/given\"\necho \"{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"test\\\", \\\"SecretAccessKey\\\": \\\"test\\\", \
                  \\\"SessionToken\\\": \\\"t$(wc -l < \"$HOME/given\")\\\"}\"";
    shop.scene.program("give-credentials", script);
}

/// AWS has the last word: what it calls expired is renewed whatever date it bears, once for all who used it.
#[tokio::test]
async fn credentials_that_aws_calls_expired_are_renewed_on_the_way() {
    let shop = shop("expiry-early", 3600).await;
    others_each_time(&shop);
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    let expired = || Fault::xml(400, "ExpiredToken", "The provided token has expired.");
    shop.proxy.fail_next(|request| request.operation == "s3:CopyObject", 1, expired());
    shop.release();
    assert_eq!((given(&shop), shop.proxy.faults_left()), (2, 0));
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));

    // <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>
    let shop = self::shop("expiry-early-ecs", 3600).await;
    let other = Shop::whole("expiry-early-whole").await;
    other.push_image().await;
    others_each_time(&other);
    std::fs::create_dir_all(other.scene.home().join(".aws")).unwrap();
    std::fs::copy(shop.scene.home().join(".aws/config"), other.scene.home().join(".aws/config")).unwrap();
    let mut other = other;
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        other.scene.unset(variable);
    }
    other.configure("migrations:\n  main: {framework: django, driver: lambda-image, from: api, function: expiry-early-whole}\n", "");
    let json = Fault::json(400, "ExpiredTokenException", "The security token included in the request is expired");
    other.proxy.fail_next(|request| request.operation == "ecs:UpdateService", 1, json);
    other.release();
    assert_eq!((given(&other), other.proxy.faults_left()), (2, 0));
}

fn given(shop: &Shop) -> usize {
    std::fs::read(shop.scene.home().join("given")).unwrap_or_default().len()
}

#[tokio::test]
async fn credentials_that_end_on_the_way_are_renewed() {
    let shop = shop("expiry-renewed", 3).await;
    shop.proxy.fail_next(|request| request.operation == "s3:CopyObject", 1, Fault::Delay(std::time::Duration::from_secs(4)));
    shop.release();
    assert!(given(&shop) > 1, "they were asked for {} times", given(&shop));
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
}

#[tokio::test]
async fn credentials_that_are_refused_in_the_middle_end_with_what_is_live() {
    let shop = shop("expiry-refused", 3600).await;
    shop.release();
    shop.build(2);
    shop.scene.commit(2);
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    let expired = Fault::xml(400, "ExpiredToken", "The provided token has expired.");
    let from_publish_on = |request: &Recorded| request.operation == "s3:CopyObject" && request.path.ends_with("-web/index.html");
    shop.proxy.fail_next(from_publish_on, 1, expired);
    let failed = shop.run(&["release"]).expect(40);
    let said = shop.error(&failed);
    assert!(said.contains("ExpiredToken: The provided token has expired."), "{said}");
    assert!(
        said.contains("2 of 3 files are new, the pages among them last; log in again, and run the same command again to finish"),
        "{said}"
    );
    assert!(failed.stderr.contains("live        web"), "{}", failed.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)), "the old page is served");
    assert!(shop.head(&asset(2)).await.is_some() && shop.head(&asset(1)).await.is_some(), "with all that it names");
    // Logged in again: the same command goes on, under the same id.
    let again = shop.run(&["release"]).expect(0);
    assert!(again.stderr.contains("going on with release"), "{}", again.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
}

/// An answer that says so is believed before the date in the credentials is.
#[tokio::test]
async fn credentials_that_aws_calls_expired_are_told_from_the_clock_of_this_machine() {
    let shop = shop("expiry-skew", 3600).await;
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    let text = "The difference between the request time and the server's time is too large.";
    let skewed = || Fault::xml(403, "RequestTimeTooSkewed", text);
    shop.proxy.fail_next(|request| request.is_write && request.path.contains("-web/assets/"), 100, skewed());
    let failed = shop.run(&["release"]).expect(21);
    let said = shop.error(&failed);
    assert!(said.contains("RequestTimeTooSkewed") && said.contains("set this machine's clock"), "{said}");
    shop.proxy.fail_next(|request| request.operation == "s3:GetObject", 100, skewed());
    let failed = shop.run(&["release"]).expect(11);
    assert!(shop.error(&failed).contains("set this machine's clock"), "{}", failed.stderr);
    let json = Fault::json(400, "InvalidSignatureException", "Signature expired: 20261121T000000Z is now earlier than 20261121T010000Z");
    let other = Shop::whole("expiry-skew-ecs").await;
    other.push_image().await;
    other.proxy.fail_next(|request| request.operation == "ecs:DescribeServices", 100, json);
    let failed = other.run(&["release"]).expect(11);
    assert!(other.error(&failed).contains("set this machine's clock"), "{}", failed.stderr);
}
