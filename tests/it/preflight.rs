//! What is missing or wrong in the account is said before anything is written, all of it at once.

use insta::assert_snapshot;

use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::support::seed::ACCOUNT;

#[tokio::test]
async fn without_credentials_nothing_is_asked() {
    let mut shop = Shop::site("pre-credentials").await;
    shop.scene.unset("AWS_ACCESS_KEY_ID");
    shop.scene.unset("AWS_SECRET_ACCESS_KEY");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: asking AWS whose credentials these are failed
       sts:GetCallerIdentity: the credential provider was not enabled: no credentials found in chain. Attempted:
      Environment: the credential provider was not enabled: environment variable not set
      Profile: the credential provider was not enabled
      WebIdentityToken: the credential provider was not enabled: $AWS_WEB_IDENTITY_TOKEN_FILE was not set
      EcsContainer: the credential provider was not enabled: ECS provider not configured
      Ec2InstanceMetadata: the credential provider was not enabled: IMDS disabled by AWS_EC2_METADATA_DISABLED env var set to `true`
    hint: set AWS_PROFILE to a profile that exists, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached
    ");
    assert_eq!(shop.proxy.requests(), []);
    shop.refused(&["plan"], 11);
}

#[tokio::test]
async fn another_account_is_refused_after_one_question() {
    let shop = Shop::site("pre-account").await;
    shop.configure("app: shop\n", "app: shop\nenvironments:\n  production: {account: \"111111111111\", region: us-east-1}\n");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: the credentials are those of account 000000000000, not of 111111111111
       the environment `production` is in account 111111111111, and the credentials are `arn:aws:iam::000000000000:root`
    hint: nothing was looked at or changed; choose other credentials (--profile), or the right --env
    ");
    let asked: Vec<_> = shop.proxy.requests().into_iter().map(|request| request.operation).collect();
    assert_eq!(asked, ["sts:GetCallerIdentity"]);
    shop.refused(&["plan"], 11);
    shop.configure("111111111111", ACCOUNT).release();
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_named() {
    let shop = Shop::site("pre-endpoint").await;
    let error = shop.refused(&["release", "--endpoint-url", "http://127.0.0.1:1"], 11);
    assert_snapshot!(error, @r"
    error: asking AWS whose credentials these are failed
       sts:GetCallerIdentity: client error (Connect): tcp connect error: Connection refused (os error 111)
    hint: check the endpoint URL, the region's name, and the network or proxy between here and AWS
    ");
}

#[tokio::test]
async fn an_absent_bucket_is_refused() {
    let shop = Shop::site("pre-bucket").await;
    shop.configure("bucket: pre-bucket-web", "bucket: pre-bucket-gone")
        .configure(&format!("    distribution: {}\n", shop.distribution), "");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       site `web`: there is no bucket `pre-bucket-gone`
    hint: create it (private, all public access blocked) in this account, or correct `bucket`
    ");
    shop.refused(&["plan"], 11);
}

#[tokio::test]
async fn a_public_bucket_is_refused() {
    let shop = Shop::site("pre-public").await;
    shop.seed.publish("pre-public-web").await;
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       site `web`: the bucket `pre-public-web` is public: its policy lets everyone in
    hint: block all public access to it and let CloudFront read it by origin access control, or write `allow_public: true`
    ");
    shop.refused(&["plan"], 11);
}

#[tokio::test]
async fn a_bucket_that_may_become_public_is_refused_unless_that_is_meant() {
    let shop = Shop::site("pre-open").await;
    shop.seed.s3().delete_public_access_block().bucket("pre-open-web").send().await.unwrap();
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       site `web`: the bucket `pre-open-web` may become public: not all public access to it is blocked
    hint: block all public access to it and let CloudFront read it by origin access control, or write `allow_public: true`
    ");
    shop.configure("prebuilt: true", "prebuilt: true\n    allow_public: true").release();
}

#[tokio::test]
async fn a_public_state_bucket_is_refused() {
    let shop = Shop::site("pre-state-public").await;
    shop.seed.publish("pre-state-public-state").await;
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       the state's bucket `pre-state-public-state` is public: its policy lets everyone in
    hint: block all public access to it: it holds every release's record
    ");
}

#[tokio::test]
async fn an_absent_state_bucket_is_refused() {
    let shop = Shop::site("pre-state").await;
    shop.configure("pre-state-state", "pre-state-gone");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       the state's bucket `pre-state-gone` is not there
    hint: create it (private, all public access blocked), correct `state`, or write `state: none`
    ");
}

#[tokio::test]
async fn an_absent_distribution_is_refused() {
    let shop = Shop::site("pre-distribution").await;
    shop.configure(&shop.distribution, "EGONE");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       site `web`: there is no distribution `EGONE` in this account
    hint: correct `distribution`, or leave it out for a site without one
    ");
}

#[tokio::test]
async fn a_distribution_of_another_bucket_is_refused() {
    let (shop, other) = (Shop::site("pre-origin").await, Shop::site("pre-origin-2").await);
    shop.configure(&shop.distribution, &other.distribution);
    let error = shop.refused(&["release"], 11).replace(&other.distribution, "[other]");
    assert_snapshot!(error, @r"
    error: preflight refused the release; nothing was changed
       site `web`: the distribution `[other]` has no origin in the bucket `pre-origin-web` (it has pre-origin-2-web.s3.us-east-1.amazonaws.com)
    hint: correct `distribution`, or leave it out for a site without one
    ");
}

#[tokio::test]
async fn an_absent_repository_is_refused() {
    let shop = Shop::whole("pre-repository").await;
    shop.configure("repository: pre-repository/api", "repository: pre-repository/gone");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       service `api`: there is no repository `pre-repository/gone` in ECR
    hint: write `create: true` below `image`, or create it (`aws ecr create-repository --repository-name pre-repository/gone --image-tag-mutability IMMUTABLE`), or correct `repository`
    ");
}

#[tokio::test]
async fn an_absent_cluster_is_refused() {
    let shop = Shop::whole("pre-cluster").await;
    shop.configure("cluster: pre-cluster", "cluster: pre-gone");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       service `api`: there is no cluster `pre-gone`
    hint: create it with its infrastructure (its first image can be pushed with `windlass stage images`), or correct the name
    ");
}

#[tokio::test]
async fn an_absent_service_is_refused() {
    let shop = Shop::whole("pre-service").await;
    shop.configure("service: pre-service", "service: pre-gone");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       service `api`: the cluster `pre-service` has no service `pre-gone`
    hint: create it with its infrastructure (its first image can be pushed with `windlass stage images`), or correct the name
    ");
}

#[tokio::test]
async fn an_absent_container_is_refused() {
    let shop = Shop::whole("pre-container").await;
    shop.configure("container: web", "container: nginx");
    let error = shop.refused(&["release"], 11);
    assert!(error.contains("has no container `nginx`") && error.ends_with("hint: it has: web\n"), "{error}");
}

#[tokio::test]
async fn an_absent_function_is_refused() {
    let shop = Shop::whole("pre-function").await;
    shop.configure("function: pre-function", "function: pre-gone");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       migration `main`: there is no Lambda function `pre-gone`
    hint: create it (package type Image; its first image can be pushed with `windlass stage images`), or correct `function`
    ");
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_at_once_and_verify_says_the_same() {
    let shop = Shop::whole("pre-all").await;
    for what in ["s3://pre-all-state", "bucket: pre-all-web", "repository: pre-all/api", "service: pre-all", "function: pre-all"] {
        shop.configure(what, &what.replace("pre-all", "pre-gone"));
    }
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: preflight refused the release; nothing was changed
       6 things are wrong:
       - the state's bucket `pre-gone-state` is not there
          → create it (private, all public access blocked), correct `state`, or write `state: none`
       - site `web`: there is no bucket `pre-gone-web`
          → create it (private, all public access blocked) in this account, or correct `bucket`
       - site `web`: the distribution `[distribution]` has no origin in the bucket `pre-gone-web` (it has pre-all-web.s3.us-east-1.amazonaws.com)
          → correct `distribution`, or leave it out for a site without one
       - service `api`: there is no repository `pre-gone/api` in ECR
          → write `create: true` below `image`, or create it (`aws ecr create-repository --repository-name pre-gone/api --image-tag-mutability IMMUTABLE`), or correct `repository`
       - migration `main`: there is no Lambda function `pre-gone`
          → create it (package type Image; its first image can be pushed with `windlass stage images`), or correct `function`
       - service `api`: the cluster `pre-all` has no service `pre-gone`
          → create it with its infrastructure (its first image can be pushed with `windlass stage images`), or correct the name
    hint: correct them and run again; `windlass verify` looks without releasing
    ");
    assert_eq!(shop.refused(&["plan"], 11), shop.refused(&["release"], 11));
    let verified = shop.run(&["verify"]).expect(11);
    assert_eq!((verified.stdout.matches("REFUSED").count(), shop.proxy.written().len()), (6, 0), "{}", verified.stdout);
}

#[tokio::test]
async fn verify_accepts_what_a_release_accepts() {
    let shop = Shop::whole("pre-verify").await;
    let verified = shop.run(&["verify"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    let preflight = verified.stdout.split("\ninfrastructure\n").next().unwrap();
    assert_snapshot!(shop.redacted(preflight), @r"
    account 000000000000 in us-east-1
      ok       state: bucket `pre-verify-state`
      ok       site `web`: bucket `pre-verify-web`
      ok       site `web`: distribution `[distribution]`
      ok       service `api`: repository `pre-verify/api`
      ok       migration `main`: function `pre-verify`
      ok       service `api`: `pre-verify` in cluster `pre-verify`
    ");
}

#[tokio::test]
async fn a_server_of_s3_alone_will_do_for_sites_and_for_nothing_else() {
    let (site, whole) = (Shop::site("without-sts").await, Shop::whole("without-sts-whole").await);
    for shop in [&site, &whole] {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList, as a server of S3 takes a POST to `/`
        let answer = Fault::xml(405, "MethodNotAllowed", "The specified method is not allowed against this resource.");
        shop.proxy.fail_next(|request| request.operation == "sts:GetCallerIdentity", 100, answer);
    }
    let released = site.release();
    assert!(released.stderr.contains("does not say whose credentials these are"), "{}", released.stderr);
    assert!(site.run(&["status"]).expect(0).stdout.contains("shop: account unknown in us-east-1"));
    let refused = whole.refused(&["release"], 11);
    assert!(refused.contains("405") || refused.contains("MethodNotAllowed"), "{refused}");
    assert!(refused.contains("it has to answer `sts:GetCallerIdentity`"), "{refused}");
}
