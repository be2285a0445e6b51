//! What `verify` thinks of parts that the shop of `verify.rs` does not have: a website's bucket, functions behind CloudFront, an origin
//! inside a VPC, caches, hosts of one's own, a key of one's own, repositories.

use serde_json::{Value, json};

use crate::migration::answers;
use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::verify::Estate;

fn xml(text: String) -> Fault {
    Fault::Answer { status: 200, headers: vec![("content-type", "text/xml".to_owned())], body: text }
}

#[tokio::test]
async fn a_bucket_that_is_a_website_is_known_for_what_it_is() {
    let estate = Estate::new("data-website");
    estate.change("s3.delete_public_access_block(Bucket=f'{name}-web')");
    estate.change("s3.put_bucket_website(Bucket=f'{name}-web', WebsiteConfiguration={'IndexDocument': {'Suffix': 'index.html'}})");
    let everyone = "s3.put_bucket_policy(Bucket=f'{name}-web', Policy=json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', \
                    'Principal': '*', 'Action': 's3:GetObject', 'Resource': f'arn:aws:s3:::{name}-web/*'}]}))";
    estate.change(everyone);
    let website = "edge(lambda config: config['Origins']['Items'][0].update(DomainName=f'{name}-web.s3-website-us-east-1.amazonaws.com', \
                   OriginAccessControlId='', CustomOriginConfig={'HTTPPort': 80, 'HTTPSPort': 443, 'OriginProtocolPolicy': 'http-only'}) \
                   or config['Origins']['Items'][0].pop('S3OriginConfig'))";
    estate.change(website);
    // A release refuses a bucket that everyone may read, unless the configuration says that it is wanted.
    let refused = estate.verify(&[]).expect(11);
    assert!(refused.stdout.contains("is public: its policy lets everyone in"), "{}", refused.stdout);
    let config = std::fs::read_to_string(estate.scene.project().join("windlass.yml")).unwrap();
    estate.scene.write("windlass.yml", config.replace("bucket: data-website-web", "bucket: data-website-web, allow_public: true"));
    let (verdict, seen) = estate.check("bucket-website", 0);
    assert_eq!(verdict, "warn");
    assert!(seen.contains("serves `data-website-web` as a website, which is public by its nature"), "{seen}");
    let (verdict, seen) = estate.check("bucket-closed", 0);
    assert_eq!((verdict.as_str(), seen.as_str()), ("warn", "`data-website-web` is open, as its website has to be"));
    assert_eq!(estate.check("site-behind-cdn", 0).0, "ok");
}

#[tokio::test]
async fn functions_behind_the_distribution_are_asked_for_their_guards() {
    let estate = Estate::new("data-functions");
    let next = "edge(lambda config: config['Origins'].update(Quantity=3, Items=config['Origins']['Items'] + [{'Id': 'next', 'DomainName': \
                'abc.lambda-url.us-east-1.on.aws', 'CustomOriginConfig': {'HTTPPort': 80, 'HTTPSPort': 443, 'OriginProtocolPolicy': \
                'https-only'}}]))";
    estate.change(next);
    let (verdict, seen) = estate.check("function-origin", 11);
    assert_eq!(verdict, "fail");
    assert!(seen.contains("`abc.lambda-url.us-east-1.on.aws` are not signed: anybody may send them"), "{seen}");
    assert_eq!(estate.check("image-optimisation", 11).0, "warn");
    let (verdict, seen) = estate.check("warmer", 11);
    assert_eq!((verdict.as_str(), seen.contains("functions start cold")), ("warn", true), "{seen}");
    let (verdict, seen) = estate.check("function-address", 11);
    assert_eq!((verdict.as_str(), seen.contains("no function whose name begins with `shop`")), ("not_seen", true), "{seen}");

    let control = "edge(lambda config: config['Origins']['Items'][2].update(OriginAccessControlId=cloudfront.create_origin_access_control(\
                   OriginAccessControlConfig={'Name': f'{name}-next', 'SigningProtocol': 'sigv4', 'SigningBehavior': 'always', \
                   'OriginAccessControlOriginType': 'lambda'})['OriginAccessControl']['Id']))";
    estate.change(control);
    let images = "edge(lambda config: config['CacheBehaviors'].update(Quantity=2, Items=[dict(config['CacheBehaviors']['Items'][0], \
                  PathPattern='/_next/image*', TargetOriginId='next')] + config['CacheBehaviors']['Items']))";
    estate.change(images);
    estate.change("events.put_rule(Name='shop-warmer', ScheduleExpression='rate(5 minutes)', State='ENABLED')");
    let good = ["function-origin", "image-optimisation", "warmer"].map(|check| estate.check(check, 0));
    estate.change("events.delete_rule(Name='shop-warmer')");
    assert_eq!(good.clone().map(|(verdict, _)| verdict), ["ok", "ok", "ok"], "{good:#?}");
    assert!(good[2].1.contains("shop-warmer: rate(5 minutes)"), "{good:?}");
}

#[tokio::test]
async fn functions_with_addresses_of_their_own_are_looked_at() {
    let estate = Estate::new("data-addresses");
    let network = "VpcConfig={'SubnetIds': subnets('private'), 'SecurityGroupIds': [find('security_groups', 'tasks')['GroupId']]}";
    let make = |more: &str| {
        format!(
            "functions.create_function(FunctionName='shop-next', Runtime='nodejs22.x', Role='arn:aws:iam::000000000000:role/x', Handler='x.y', \
             Code={{'ZipFile': b'PK\\x05\\x06' + bytes(18)}}, {more})"
        )
    };
    estate.change(&make("Description='next'"));
    estate.change("functions.create_function_url_config(FunctionName='shop-next', AuthType='NONE')");
    estate.change(
        "edge(lambda config: config['Origins'].update(Quantity=3, Items=config['Origins']['Items'] + [{'Id': 'next', 'DomainName': \
         functions.get_function_url_config(FunctionName='shop-next')['FunctionUrl'].split('/')[2], 'OriginAccessControlId': 'x', \
         'CustomOriginConfig': {'HTTPPort': 80, 'HTTPSPort': 443, 'OriginProtocolPolicy': 'https-only'}}]))",
    );
    assert_eq!(estate.check("function-address", 11), ("fail".to_owned(), "`shop-next` answer anybody at their own addresses".to_owned()));
    let (verdict, seen) = estate.check("function-network", 11);
    assert_eq!((verdict.as_str(), seen.contains("`shop-next` run outside a VPC")), ("warn", true), "{seen}");
    estate.change("functions.update_function_url_config(FunctionName='shop-next', AuthType='AWS_IAM')");
    estate.change(&format!("functions.update_function_configuration(FunctionName='shop-next', {network})"));
    assert_eq!(estate.check("function-address", 0).0, "ok");
    assert_eq!(estate.check("function-network", 0), ("ok".to_owned(), "they run in 2 private subnets".to_owned()));
    estate.change("functions.delete_function(FunctionName='shop-next')");
}

#[tokio::test]
async fn a_load_balancer_inside_the_vpc_needs_neither_tls_nor_a_header() {
    let estate = Estate::new("data-vpc");
    estate.change("edge(lambda config: config['Origins']['Items'][1]['CustomOriginConfig'].update(OriginProtocolPolicy='http-only'))");
    assert_eq!(estate.check("origin-tls", 0).0, "warn");
    // <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_VpcOriginConfig.html>
    let inside = |status, body: String| {
        let custom = regex::Regex::new("(?s)<CustomOriginConfig>.*?</CustomOriginConfig>").unwrap();
        (status, custom.replace_all(&body, "<VpcOriginConfig><VpcOriginId>vo_1</VpcOriginId></VpcOriginConfig>").into_owned())
    };
    let internal = |status, body: String| (status, body.replace("internet-facing", "internal"));
    let whole = |operation: &'static str, rewrite: fn(u16, String) -> (u16, String)| {
        estate.proxy.fail_next(move |request| request.operation == operation, 99, Fault::Rewrite(Box::new(rewrite)));
    };
    whole("cloudfront:GetDistribution", inside);
    whole("elasticloadbalancing:DescribeLoadBalancers", internal);
    let verified: Value = serde_json::from_str(&estate.verify(&["--format", "json"]).expect(0).stdout).unwrap();
    let of = |check: &str| verified["checks"].as_array().unwrap().iter().find(|one| one["check"] == check).cloned();
    let (tls, closed) = (of("origin-tls").unwrap(), of("load-balancer-closed").unwrap());
    assert_eq!((&tls["verdict"], &closed["verdict"]), (&json!("ok"), &json!("ok")), "{tls} {closed}");
    assert!(closed["seen"].as_str().unwrap().contains("is internal: the internet does not reach it"), "{closed}");
    assert_eq!(of("load-balancer-header"), None);
    assert!(of("load-balancer-subnets").unwrap()["seen"].as_str().unwrap().contains("subnets, internal of 2 zones"));
}

#[tokio::test]
async fn caches_that_variables_name_are_encrypted_or_not() {
    let estate = Estate::new("data-cache");
    let host = "data-cache.abc.ng.0001.use1.cache.amazonaws.com";
    estate.change(&format!("roll(environment=[{{'name': 'CACHE', 'value': 'rediss://{host}:6379/0'}}])"));
    // <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_ReplicationGroup.html>
    let group = |id: &str, host: &str, at_rest: bool, in_transit: bool| {
        format!(
            "<ReplicationGroup><ReplicationGroupId>{id}</ReplicationGroupId><AtRestEncryptionEnabled>{at_rest}</AtRestEncryptionEnabled>\
             <TransitEncryptionEnabled>{in_transit}</TransitEncryptionEnabled><NodeGroups><NodeGroup><PrimaryEndpoint><Address>{host}\
             </Address><Port>6379</Port></PrimaryEndpoint></NodeGroup></NodeGroups></ReplicationGroup>"
        )
    };
    let check = |at_rest, in_transit| {
        let groups = group("other", "other.use1.cache.amazonaws.com", false, false) + &group("data-cache", host, at_rest, in_transit);
        let body = format!(
            "<DescribeReplicationGroupsResponse><DescribeReplicationGroupsResult><ReplicationGroups>{groups}</ReplicationGroups>\
             </DescribeReplicationGroupsResult></DescribeReplicationGroupsResponse>"
        );
        estate.proxy.fail_next(|request| request.operation == "elasticache:DescribeReplicationGroups", 1, xml(body));
        let verified: Value = serde_json::from_str(&estate.verify(&["--format", "json"]).expect(0).stdout).unwrap();
        let checks = verified["checks"].as_array().unwrap().clone();
        let found: Vec<Value> = checks.into_iter().filter(|one| one["check"] == "cache-encrypted").collect();
        assert_eq!(found.len(), 1, "only its own: {found:?}");
        assert_eq!(found[0]["on"], "cache `data-cache`");
        (found[0]["verdict"].as_str().unwrap().to_owned(), found[0]["seen"].as_str().unwrap().to_owned())
    };
    assert_eq!(check(true, true).0, "ok");
    assert_eq!(check(true, false), ("warn".to_owned(), "what goes there is not encrypted".to_owned()));
    assert_eq!(check(false, true), ("warn".to_owned(), "what it holds is not encrypted".to_owned()));
}

/// A service without a network of its own, on two hosts in these subnets, which have so much CPU and memory left.
fn on_hosts(estate: &Estate, subnets: &Value, group: &Value, public: bool, left: (i32, i32)) {
    let service = |status, body: String| {
        let Ok(mut value) = serde_json::from_str::<Value>(&body) else { return (status, body) };
        for service in value["services"].as_array_mut().into_iter().flatten() {
            service.as_object_mut().unwrap().remove("networkConfiguration");
            service["launchType"] = json!("EC2");
        }
        (status, value.to_string())
    };
    let when = |operation: &'static str, fault: Fault| estate.proxy.fail_next(move |request| request.operation == operation, 99, fault);
    when("ecs:DescribeServices", Fault::Rewrite(Box::new(service)));
    let arns = json!({ "containerInstanceArns": ["arn:aws:ecs:us-east-1:0:container-instance/c/1", "arn:aws:ecs:us-east-1:0:container-instance/c/2"] });
    when("ecs:ListContainerInstances", answers(&arns));
    // <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerInstance.html>; t3a.xlarge has 4096 units and 16384 MiB.
    let resource = |name: &str, value: i32| json!({ "name": name, "type": "INTEGER", "integerValue": value });
    let host = |id: &str| {
        json!({ "ec2InstanceId": id, "status": "ACTIVE",
            "remainingResources": [resource("CPU", left.0), resource("MEMORY", left.1)],
            "registeredResources": [resource("CPU", 4096), resource("MEMORY", 15_747)] })
    };
    when("ecs:DescribeContainerInstances", answers(&json!({ "containerInstances": [host("i-1"), host("i-2")], "failures": [] })));
    // <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
    let address = if public { "<ipAddress>192.0.2.1</ipAddress>" } else { "" };
    let instance = |at: usize| {
        format!(
            "<item><instancesSet><item><instanceId>i-{}</instanceId><subnetId>{}</subnetId>{address}<groupSet><item><groupId>{}</groupId>\
             </item></groupSet></item></instancesSet></item>",
            at + 1,
            subnets[at].as_str().unwrap(),
            group.as_str().unwrap()
        )
    };
    let body =
        format!("<DescribeInstancesResponse><reservationSet>{}{}</reservationSet></DescribeInstancesResponse>", instance(0), instance(1));
    when("ec2:DescribeInstances", xml(body));
}

#[tokio::test]
async fn hosts_of_ones_own_are_private_and_have_room() {
    let estate = Estate::new("data-hosts");
    let at = |key: &str| -> Value { serde_json::from_str(&estate.tells(&format!("subnets('{key}')"))).unwrap() };
    let (private, group) = (at("private"), serde_json::from_str(&estate.tells("find('security_groups', 'tasks')['GroupId']")).unwrap());
    on_hosts(&estate, &private, &group, false, (1024, 4096));
    assert_eq!(estate.check("tasks-private", 0), ("ok".to_owned(), "no task has a public address, in 2 subnets of 2 zones".to_owned()));
    assert_eq!(estate.check("tasks-egress", 0).0, "ok");
    // Tasks of 256 units and 512 MiB: 4 on each host by their CPU.
    let (verdict, seen) = estate.check("hosts-room", 0);
    assert_eq!((verdict.as_str(), seen.as_str()), ("ok", "8 more tasks of 256 CPU units and 512 MiB fit on the 2 hosts of `data-hosts`"));
}

#[tokio::test]
async fn full_hosts_with_public_addresses_are_told() {
    let estate = Estate::new("data-full");
    let public: Value = serde_json::from_str(&estate.tells("subnets('public')")).unwrap();
    let group = serde_json::from_str(&estate.tells("find('security_groups', 'tasks')['GroupId']")).unwrap();
    on_hosts(&estate, &public, &group, true, (4000, 500));
    let (verdict, seen) = estate.check("tasks-private", 0);
    assert_eq!((verdict.as_str(), seen.contains("have public addresses")), ("warn", true), "{seen}");
    let (verdict, seen) = estate.check("hosts-room", 0);
    assert_eq!((verdict.as_str(), seen.contains("a rollout finds no room")), ("warn", true), "{seen}");
}

#[tokio::test]
async fn a_secret_with_a_key_of_its_own_needs_a_grant() {
    let estate = Estate::new("data-key");
    estate.change("secrets.update_secret(SecretId=name, KmsKeyId=kms.create_key()['KeyMetadata']['KeyId'])");
    let (verdict, seen) = estate.check("secrets-kept", 0);
    assert_eq!(verdict, "ok");
    assert!(seen.contains("`kms:Decrypt`"), "{seen}");
}

#[tokio::test]
async fn a_repository_keeps_its_tags_and_looks_through_what_is_pushed() {
    let shop = Shop::whole("data-repository").await;
    let check = |check: &str| {
        let verified: Value = serde_json::from_str(&shop.run(&["verify", "--format", "json"]).stdout).unwrap();
        let found = verified["checks"].as_array().unwrap().iter().find(|one| one["check"] == check).cloned().unwrap();
        (found["verdict"].as_str().unwrap().to_owned(), found["seen"].as_str().unwrap().to_owned())
    };
    assert_eq!(check("image-tags"), ("ok".to_owned(), "no tag of `data-repository/api` ever moves".to_owned()));
    assert_eq!(check("image-scan").0, "warn");
    shop.seed.repository_settings("data-repository/api").await;
    assert_eq!(check("image-tags").0, "warn");
    assert_eq!(check("image-scan").0, "ok");
}

#[tokio::test]
async fn scaling_and_pipelines_that_are_not_as_they_should_be_are_told() {
    let estate = Estate::new("data-rest");
    let found = |targets: &Value, policies: usize, pipeline: &Value, check: &str| {
        for (operation, answer) in [
            ("application-autoscaling:DescribeScalableTargets", json!({ "ScalableTargets": targets })),
            ("application-autoscaling:DescribeScalingPolicies", json!({ "ScalingPolicies": vec![json!({}); policies] })),
            ("codepipeline:GetPipeline", json!({ "pipeline": pipeline })),
        ] {
            estate.proxy.fail_next(move |request| request.operation == operation, 1, answers(&answer));
        }
        estate.check(check, 0)
    };
    let action = |category: &str, provider: &str| json!({ "actionTypeId": { "category": category, "provider": provider } });
    let stages = json!([{ "actions": [action("Source", "CodeStarSourceConnection")] }, { "actions": [action("Deploy", "ECS")] }]);
    let pipeline = json!({ "pipelineType": "V2", "executionMode": "SUPERSEDED", "stages": stages });
    let (verdict, seen) = found(&json!([]), 0, &pipeline, "auto-scaling");
    assert_eq!((verdict.as_str(), seen.as_str()), ("warn", "it is always 2 tasks, whatever the traffic"));
    let targets = json!([{ "MinCapacity": 1, "MaxCapacity": 4 }]);
    let (verdict, seen) = found(&targets, 0, &pipeline, "auto-scaling");
    assert_eq!((verdict.as_str(), seen.as_str()), ("warn", "it may have 1 to 4 tasks, and no policy says when"));
    assert_eq!(found(&targets, 1, &pipeline, "task-count").0, "warn");
    let (verdict, seen) = found(&targets, 1, &pipeline, "pipeline");
    assert_eq!((verdict.as_str(), seen.contains("are SUPERSEDED: one may be dropped")), ("warn", true), "{seen}");
    assert_eq!(found(&targets, 1, &pipeline, "pipeline-trigger").0, "warn");
    let (verdict, seen) = found(&targets, 1, &pipeline, "pipeline-infrastructure");
    assert_eq!((verdict.as_str(), seen.as_str()), ("warn", "it rolls services by CodePipeline's own ECS action"));
}

#[tokio::test]
async fn the_function_of_a_migration_is_where_its_database_is() {
    let estate = Estate::new("data-function");
    let path = estate.scene.project().join("windlass.yml");
    let config = std::fs::read_to_string(&path).unwrap();
    let migration = "migrations:\n  main: {framework: django, driver: lambda-zip, from: api, function: data-function, zip: bundle.zip}\n";
    estate.scene.write("windlass.yml", config + migration).write("bundle.zip", b"PK\x05\x06");
    let make = |more: &str| {
        format!(
            "functions.create_function(FunctionName=name, Runtime='python3.13', Role='arn:aws:iam::000000000000:role/x', Handler='x.y', \
             Code={{'ZipFile': b'PK\\x05\\x06' + bytes(18)}}, {more})"
        )
    };
    estate.change(&make("Environment={'Variables': {'DATABASE_URL': 'postgres://shop:canary-password@db/shop'}}"));
    let of = |estate: &Estate, check: &str| {
        let said = estate.verify(&["--format", "json"]).stdout;
        assert!(!said.contains("canary"), "{said}");
        let verified: Value = serde_json::from_str(&said).unwrap();
        let found =
            verified["checks"].as_array().unwrap().iter().find(|one| one["on"] == "migration `main`" && one["check"] == check).cloned();
        found.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!((of(&estate, "migration-network"), of(&estate, "secrets-by-reference")), ("warn".to_owned(), "fail".to_owned()));
    estate.change("functions.delete_function(FunctionName=name)");
    let network = "VpcConfig={'SubnetIds': subnets('private'), 'SecurityGroupIds': [find('security_groups', 'tasks')['GroupId']]}";
    estate.change(&make(network));
    assert_eq!((of(&estate, "migration-network"), of(&estate, "secrets-by-reference")), ("ok".to_owned(), "ok".to_owned()));
}

#[tokio::test]
async fn a_database_whose_storage_is_open_is_told() {
    let estate = Estate::new("data-plain");
    // It cannot be turned off later, so no change makes it: <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.html>.
    let plain = |status, body: String| (status, body.replace("<StorageEncrypted>true<", "<StorageEncrypted>false<"));
    estate.proxy.fail_next(|request| request.operation == "rds:DescribeDBInstances", 1, Fault::Rewrite(Box::new(plain)));
    assert_eq!(estate.check("database-encrypted", 11), ("fail".to_owned(), "its storage is not encrypted".to_owned()));
}

#[tokio::test]
async fn a_load_balancer_without_cloudfront_should_speak_tls() {
    let estate = Estate::new("data-tls");
    let config = std::fs::read_to_string(estate.scene.project().join("windlass.yml")).unwrap();
    let service = config.split_once("services:").unwrap().1;
    estate.scene.write("windlass.yml", format!("app: shop\nstate: s3://data-tls-state/windlass\nservices:{service}"));
    assert_eq!(estate.check("load-balancer-tls", 0), ("ok".to_owned(), "`data-tls` forwards only what comes by TLS".to_owned()));
    estate.change(
        "elb.create_listener(LoadBalancerArn=elb.describe_load_balancers(Names=[name])['LoadBalancers'][0]['LoadBalancerArn'], Protocol='HTTP', \
         Port=80, DefaultActions=[{'Type': 'forward', 'TargetGroupArn': elb.describe_target_groups(Names=[name])['TargetGroups'][0]['TargetGroupArn']}])",
    );
    let (verdict, seen) = estate.check("load-balancer-tls", 0);
    assert_eq!((verdict.as_str(), seen.contains("without TLS, from the internet (`HTTP 80`)")), ("warn", true), "{seen}");
}
