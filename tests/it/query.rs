//! The services that have no SDK here, asked over the wire: refused, throttled, gone, and of many pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use windlass::aws::{Access, Aws, connect};

use crate::support::ministack;
use crate::support::proxy::{Fault, Proxy};

async fn behind() -> (Proxy, Aws) {
    let proxy = Proxy::start(ministack::shared().url());
    let access = Access {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(proxy.url()),
        keys: Some(("test".to_owned(), "test".to_owned())),
        ..Access::default()
    };
    let aws = connect(&access).await.unwrap();
    (proxy, aws)
}

fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer { status, headers: vec![("content-type", "text/xml".to_owned())], body: body.to_owned() }
}

#[tokio::test]
async fn the_network_is_read_and_each_question_is_signed_for_its_service() {
    let (proxy, aws) = behind().await;
    let subnets = aws.subnets(&[]).await.unwrap();
    assert!(subnets.iter().any(|subnet| subnet.id.starts_with("subnet-") && subnet.vpc.starts_with("vpc-")), "{subnets:?}");
    let tables = aws.route_tables(&subnets[0].vpc).await.unwrap();
    assert!(tables.iter().any(|table| table.main), "{tables:?}");
    assert!(!aws.security_groups(&[]).await.unwrap().is_empty());
    assert_eq!(aws.db_instances(None).await.unwrap(), []);
    assert_eq!(aws.alarms().await.unwrap(), []);
    let asked: Vec<(String, bool)> = proxy.requests().into_iter().map(|request| (request.operation, request.is_write)).collect();
    let reads = |operation: &str| (operation.to_owned(), false);
    assert_eq!(
        asked,
        [
            reads("ec2:DescribeSubnets"),
            reads("ec2:DescribeRouteTables"),
            reads("ec2:DescribeSecurityGroups"),
            reads("rds:DescribeDBInstances"),
            reads("monitoring:DescribeAlarms")
        ]
    );
}

/// The codes are AWS's: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>,
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html>.
#[tokio::test]
async fn a_failure_says_what_it_is() {
    let (proxy, aws) = behind().await;
    let refused = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this \
                   operation.</Message></Error></Errors><RequestID>1</RequestID></Response>";
    proxy.fail_next(|_| true, 1, answer(403, refused));
    let error = aws.subnets(&["subnet-1".to_owned()]).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
    assert_eq!(error.to_string(), "ec2:DescribeSubnets subnet-1: UnauthorizedOperation: You are not authorized to perform this operation.");
    let missing = aws.db_instances(Some("no-such-database")).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
    assert_eq!(missing.code(), Some("DBInstanceNotFound"));

    let throttled =
        "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
    proxy.fail_next(|_| true, 2, answer(400, throttled));
    assert_eq!(aws.db_instances(None).await.unwrap(), []);
    assert_eq!(proxy.faults_left(), 0, "it was asked again");
    proxy.fail_next(|_| true, 1, answer(503, "upstream gone"));
    assert_eq!(aws.alarms().await.unwrap(), []);

    proxy.fail_next(|_| true, 1, answer(200, "<html>hello"));
    let unreadable = aws.alarms().await.unwrap_err();
    assert!(unreadable.to_string().contains("the answer is no JSON"), "{unreadable}");
    proxy.fail_next(|_| true, 1, answer(200, "upstream"));
    assert!(aws.subnets(&[]).await.unwrap_err().to_string().contains("the answer is no XML"));
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let (proxy, aws) = behind().await;
    let page = |marker: &str, id: &str| {
        format!(
            "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances><DBInstance><DBInstanceIdentifier>{id}\
             </DBInstanceIdentifier><PubliclyAccessible>true</PubliclyAccessible><BackupRetentionPeriod>7</BackupRetentionPeriod>\
             </DBInstance></DBInstances>{marker}</DescribeDBInstancesResult></DescribeDBInstancesResponse>"
        )
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let rewrite = move |_, _| match counter.fetch_add(1, Ordering::SeqCst) {
        0 => (200, page("<Marker>a+b/=</Marker>", "one")),
        _ => (200, page("", "two")),
    };
    proxy.fail_next(|_| true, 2, Fault::Rewrite(Box::new(rewrite)));
    let found = aws.db_instances(None).await.unwrap();
    let ids: Vec<_> = found.iter().map(|instance| (instance.id.as_str(), instance.public, instance.backup_days)).collect();
    assert_eq!(ids, [("one", true, 7), ("two", true, 7)]);
    assert!(proxy.requests()[1].body.ends_with("&Marker=a%2Bb%2F%3D"), "{}", proxy.requests()[1].body);
}

/// Application Auto Scaling speaks JSON, and is not in the local cloud.
#[tokio::test]
async fn a_service_is_asked_in_json() {
    let (proxy, aws) = behind().await;
    let json = |body: &str| Fault::Answer { status: 200, headers: vec![], body: body.to_owned() };
    proxy.fail_next(|_| true, 1, json(r#"{"ScalableTargets":[{"MinCapacity":2,"MaxCapacity":6,"ResourceId":"service/shop/api"}]}"#));
    proxy.fail_next(|_| true, 1, json(r#"{"ScalingPolicies":[{},{}]}"#));
    let scaling = aws.scaling("shop", "api").await.unwrap().unwrap();
    assert_eq!((scaling.min, scaling.max, scaling.policies), (2, 6, 2));
    let targets: Vec<_> = proxy.requests().into_iter().filter_map(|request| request.target).collect();
    assert_eq!(targets, ["AnyScaleFrontendService.DescribeScalableTargets", "AnyScaleFrontendService.DescribeScalingPolicies"]);
    proxy.fail_next(|_| true, 1, Fault::json(400, "AccessDeniedException", "not authorized"));
    assert!(aws.scaling("shop", "api").await.unwrap_err().is_denied());
}

/// "nextToken": <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>. A page may be empty although there are more.
#[tokio::test]
async fn lists_of_ecs_are_read_to_their_last_page() {
    let (proxy, aws) = behind().await;
    let json = |body: &serde_json::Value| Fault::Answer { status: 200, headers: vec![], body: body.to_string() };
    proxy.fail_next(|_| true, 1, json(&serde_json::json!({"taskArns": [], "nextToken": "2"})));
    proxy.fail_next(|_| true, 1, json(&serde_json::json!({"taskArns": ["arn:task"]})));
    assert_eq!(aws.tasks_started_by("shop", "windlass/main/1").await.unwrap(), ["arn:task"]);
    assert!(proxy.requests()[1].body.contains(r#""nextToken":"2""#), "{}", proxy.requests()[1].body);
    proxy.clear();
    // At most 100 of them are described at once: API_DescribeContainerInstances.
    let arns = |from: u32, to: u32| (from..to).map(|number| format!("arn:host/{number}")).collect::<Vec<_>>();
    let host = |id: &str| serde_json::json!({"containerInstances": [{"ec2InstanceId": id, "status": "ACTIVE"}]});
    proxy.fail_next(|_| true, 1, json(&serde_json::json!({"containerInstanceArns": arns(0, 100), "nextToken": "n"})));
    proxy.fail_next(|_| true, 1, json(&serde_json::json!({"containerInstanceArns": arns(100, 130)})));
    proxy.fail_next(|_| true, 1, json(&host("i-1")));
    proxy.fail_next(|_| true, 1, json(&host("i-2")));
    let rooms: Vec<String> = aws.room("shop").await.unwrap().into_iter().map(|room| room.instance).collect();
    assert_eq!((rooms, proxy.faults_left()), (vec!["i-1".to_owned(), "i-2".to_owned()], 0));
}

/// "NextMarker": <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeRules.html>
#[tokio::test]
async fn a_rule_on_a_later_page_is_found() {
    let (proxy, aws) = behind().await;
    let page =
        |action: &str, body: &str| answer(200, &format!("<{action}Response><{action}Result>{body}</{action}Result></{action}Response>"));
    let group = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/1";
    let groups = "<TargetGroups><member><LoadBalancerArns><member>lb</member></LoadBalancerArns></member></TargetGroups>";
    let balancers = "<LoadBalancers><member><LoadBalancerArn>lb</LoadBalancerArn><DNSName>api.example</DNSName></member></LoadBalancers>";
    let listeners = |number: u32, more: &str| {
        format!(
            "<Listeners><member><ListenerArn>l{number}</ListenerArn><Port>{number}</Port><Protocol>HTTP</Protocol></member></Listeners>{more}"
        )
    };
    let more = "<NextMarker>m</NextMarker>";
    let rule = format!(
        "<Rules><member><Actions><member><Type>forward</Type><TargetGroupArn>{group}</TargetGroupArn></member></Actions></member></Rules>"
    );
    proxy.fail_next(|_| true, 1, page("DescribeTargetGroups", groups));
    proxy.fail_next(|_| true, 1, page("DescribeLoadBalancers", balancers));
    proxy.fail_next(|_| true, 1, page("DescribeListeners", &listeners(80, more)));
    proxy.fail_next(|_| true, 1, page("DescribeListeners", &listeners(8080, "")));
    proxy.fail_next(|_| true, 1, page("DescribeRules", "<Rules></Rules>"));
    proxy.fail_next(|_| true, 1, page("DescribeRules", &format!("<Rules></Rules>{more}")));
    proxy.fail_next(|_| true, 1, page("DescribeRules", &rule));
    let found = aws.listener(group).await.unwrap().unwrap();
    assert_eq!((found.port, found.host.as_str(), proxy.faults_left()), (8080, "api.example", 0));
}
