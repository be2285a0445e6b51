//! Each stage is run under its policy, and under its policy without each of its actions, in a cloud that evaluates policies: what is missing
//! stops the stage, is named, and leaves nothing half done. What the cloud evaluates is written down in `tests/support/users.py`.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::images::Leftovers;
use crate::shop::Shop;
use crate::support::ministack::{self, Ministack};
use crate::support::proxy::Fault;
use crate::support::scene::Outcome;

const USERS: &str = include_str!("../support/users.py");

/// Lambda takes no role that is not there.
const ROLE: &str = "\
import boto3, sys
iam = boto3.client('iam', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='test', aws_secret_access_key='test')
iam.create_role(RoleName='lambda', AssumeRolePolicyDocument='{\"Version\": \"2012-10-17\", \"Statement\": []}')
";

/// Runs a script in the cloud's own environment, which has an SDK that knows IAM; gives what it prints.
fn python(script: &str, arguments: &[&str], input: &Value) -> String {
    let mut python = Command::new(ministack::python());
    let python = python.args(["-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().unwrap();
    // A script that reads nothing may be gone already.
    serde_json::to_writer(child.stdin.take().unwrap(), input).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A cloud that evaluates policies, and a shop in it.
async fn guarded(name: &str) -> (Ministack, Shop) {
    let cloud = Ministack::start_with_authorization();
    python(ROLE, &[cloud.url()], &Value::Null);
    let shop = Shop::whole_on(&cloud, name).await;
    (cloud, shop)
}

/// What is seen of a stage that lacks an action.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Without {
    /// It ends with this code, and names the action and what on.
    Ends(i32),
    /// It goes on without: a look that others make up for.
    GoesOn,
    /// It asks for it in another case than this one: when, or why the cloud cannot tell.
    Elsewhere(&'static str),
}
use Without::{Elsewhere, Ends, GoesOn};

/// The statement, the action, and what is seen without it.
type Needs<'a> = &'a [(&'static str, &'static str, Without)];

/// What a stage is given to do, besides a new site.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Given {
    /// No image.
    Nothing,
    /// An image to build.
    Sources,
    /// An image that the registry has.
    Image,
}

/// A stage of an application, and what each action of its policy is needed for.
struct Stage<'a> {
    name: &'a str,
    given: Given,
    /// Stages that go before it.
    before: &'a [&'a str],
    /// Requests whose answers are made up, where the cloud has let them pass.
    made_up: &'a [(&'static str, &'a str)],
    needs: Needs<'a>,
}

fn as_user(shop: &mut Shop, id: &str, secret: &str) {
    shop.scene.set("AWS_ACCESS_KEY_ID", id);
    shop.scene.set("AWS_SECRET_ACCESS_KEY", secret);
}

/// Something new to release.
async fn change(shop: &Shop, given: Given) {
    static NUMBER: AtomicU32 = AtomicU32::new(2);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    shop.build(number);
    if given != Given::Nothing {
        shop.scene.write("api/app.py", format!("{number}\n"));
    }
    shop.scene.commit(number % 60);
    if given == Given::Image {
        shop.push_image().await;
    }
}

/// Runs the stage without each action, and at last with all of them.
async fn prove(cloud: &Ministack, shop: &mut Shop, stage: &Stage<'_>) {
    let policy: Value = serde_json::from_str(&shop.scene.windlass(&["policy", stage.name]).expect(0).stdout).unwrap();
    let strings = |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let of = |statement: &Value| {
        let sid = statement["Sid"].as_str().unwrap().to_owned();
        strings(&statement["Action"]).into_iter().map(move |action| (sid.clone(), action)).collect::<Vec<_>>()
    };
    let all: Vec<(String, String)> = policy["Statement"].as_array().unwrap().iter().flat_map(of).collect();
    let known: Vec<(String, String)> = stage.needs.iter().map(|(sid, action, _)| ((*sid).to_owned(), (*action).to_owned())).collect();
    assert!(all == known, "each action of the policy of `{}` has a case, and no other: {all:#?}", stage.name);
    let users: Vec<Value> = all
        .iter()
        .map(|(sid, action)| json!({ "policy": policy, "without": [sid, action] }))
        .chain([json!({ "policy": policy, "without": null })])
        .collect();
    let users = python(USERS, &[cloud.url(), &format!("{}-{}", shop.name, stage.name)], &Value::from(users));
    let users: Vec<(&str, &str)> = users.lines().map(|line| line.split_once(' ').unwrap()).collect();
    for (number, (sid, action)) in all.iter().enumerate() {
        let expected = stage.needs[number].2;
        if matches!(expected, Elsewhere(_)) {
            continue;
        }
        as_user(shop, "test", "test");
        change(shop, stage.given).await;
        for before in stage.before {
            run(shop, stage, before).expect(0);
        }
        as_user(shop, users[number].0, users[number].1);
        let outcome = run(shop, stage, stage.name);
        let what = format!("`{}` without {action} of {sid}:\n{}\n{}", stage.name, outcome.stdout, outcome.stderr);
        let Ends(code) = expected else {
            assert_eq!(outcome.code, Some(0), "{what}");
            continue;
        };
        assert_eq!(outcome.code, Some(code), "{what}");
        let hint = outcome.stderr.lines().last().unwrap();
        let named = hint.contains(&format!("the credentials need `{action}` on "));
        // Where nobody knows what came of something, that is the hint.
        let unknown = code == 24 && outcome.stderr.contains(&format!("   {action} arn:aws:"));
        assert!(hint.starts_with("hint: ") && (named || unknown), "{what}");
        // A page that is live names only what is there.
        if let Some(page) = shop.body("index.html").await {
            let script = page.split('"').find(|part| part.contains("assets/")).unwrap();
            assert!(shop.head(script.trim_start_matches('/')).await.is_some(), "{what}");
        }
    }
    let (id, secret) = users[all.len()];
    as_user(shop, "test", "test");
    change(shop, stage.given).await;
    for before in stage.before {
        run(shop, stage, before).expect(0);
    }
    as_user(shop, id, secret);
    run(shop, stage, stage.name).expect(0);
    as_user(shop, "test", "test");
}

fn run(shop: &Shop, stage: &Stage<'_>, name: &str) -> Outcome {
    run_verb(shop, stage, &["stage", name])
}

fn run_verb(shop: &Shop, stage: &Stage<'_>, arguments: &[&str]) -> Outcome {
    for (operation, body) in stage.made_up {
        let (operation, body) = (*operation, (*body).to_owned());
        let answer = move |status: u16, said: String| if status < 300 { (200, body.clone()) } else { (status, said) };
        shop.proxy.fail_next(move |request| request.operation == operation, 1, Fault::Rewrite(Box::new(answer)));
    }
    shop.scene.windlass(arguments)
}

const LARGE: Without = Elsewhere("an upload in parts that is given up");
const CLOSED: Without = Elsewhere("where public access is not blocked");
const REGISTRY: Without = Elsewhere("of a push; the cloud's registry asks nobody");
const PULL: Without = Elsewhere("of a pull; the cloud's registry asks nobody");
const FAILED: Without = Elsewhere("to explain a rollout that fails");
const BALANCED: Without = Elsewhere("of a service behind a load balancer");
const ALONG: Without = Elsewhere("comes along with others, and the cloud does not ask for it");
const LOST: Without = Elsewhere("a migration that is followed, or whose answer is lost");

/// The state, which each stage reads and writes.
const STATE: [(&str, &str, Without); 9] = [
    ("State", "s3:GetObject", Ends(11)),
    ("State", "s3:PutObject", Ends(11)),
    ("State", "s3:AbortMultipartUpload", LARGE),
    ("StateBucket", "s3:ListBucket", Elsewhere("S3 answers 403 for a key that is not there, this cloud 404")),
    ("StateBucket", "s3:GetBucketAcl", CLOSED),
    ("StateBucket", "s3:GetBucketPolicy", CLOSED),
    ("StateBucket", "s3:GetBucketPolicyStatus", CLOSED),
    ("StateBucket", "s3:GetBucketPublicAccessBlock", GoesOn),
    ("StateBucket", "s3:GetBucketWebsite", CLOSED),
];

const BUCKET: [(&str, &str, Without); 6] = [
    ("SiteBuckets", "s3:ListBucket", Ends(11)),
    ("SiteBuckets", "s3:GetBucketAcl", CLOSED),
    ("SiteBuckets", "s3:GetBucketPolicy", CLOSED),
    ("SiteBuckets", "s3:GetBucketPolicyStatus", CLOSED),
    ("SiteBuckets", "s3:GetBucketPublicAccessBlock", GoesOn),
    ("SiteBuckets", "s3:GetBucketWebsite", CLOSED),
];

const IMAGES: [(&str, &str, Without); 2] = [("Images", "ecr:DescribeRepositories", Ends(11)), ("Images", "ecr:DescribeImages", Ends(11))];

const PUSH: [(&str, &str, Without); 7] = [
    ("ReadImages", "ecr:BatchGetImage", PULL),
    ("ReadImages", "ecr:GetDownloadUrlForLayer", PULL),
    ("PushImages", "ecr:BatchCheckLayerAvailability", REGISTRY),
    ("PushImages", "ecr:InitiateLayerUpload", REGISTRY),
    ("PushImages", "ecr:UploadLayerPart", REGISTRY),
    ("PushImages", "ecr:CompleteLayerUpload", REGISTRY),
    ("PushImages", "ecr:PutImage", REGISTRY),
];

#[tokio::test]
async fn a_site_is_released_under_its_policies() {
    let (cloud, mut shop) = guarded("least-site").await;
    let sites = [("Sites", "s3:GetObject", Ends(11)), ("Sites", "s3:PutObject", Ends(21)), ("Sites", "s3:AbortMultipartUpload", LARGE)];
    let needs = [&STATE[..], &sites, &BUCKET].concat();
    prove(&cloud, &mut shop, &Stage { name: "assets", given: Given::Nothing, before: &[], made_up: &[], needs: &needs }).await;

    let sites = [
        ("Sites", "s3:GetObject", Ends(11)),
        ("Sites", "s3:PutObject", Ends(40)),
        ("Sites", "s3:AbortMultipartUpload", LARGE),
        ("Sites", "s3:DeleteObject", Elsewhere("files that no release names any more")),
    ];
    let distributions = [
        ("Distributions", "cloudfront:GetDistribution", Ends(11)),
        ("Distributions", "cloudfront:CreateInvalidation", Ends(40)),
        ("Distributions", "cloudfront:GetInvalidation", Ends(40)),
    ];
    let needs = [&STATE[..], &sites, &BUCKET, &distributions].concat();
    prove(&cloud, &mut shop, &Stage { name: "publish", given: Given::Nothing, before: &["assets"], made_up: &[], needs: &needs }).await;
}

#[tokio::test]
async fn an_image_is_built_under_its_policy() {
    let (cloud, mut shop) = guarded("least-image").await;
    let _images = Leftovers(format!("{}/least-image/api", cloud.registry()));
    let needs = [&STATE[..], &IMAGES, &PUSH, &[("Registry", "ecr:GetAuthorizationToken", Ends(22))]].concat();
    prove(&cloud, &mut shop, &Stage { name: "images", given: Given::Sources, before: &[], made_up: &[], needs: &needs }).await;
}

#[tokio::test]
async fn a_service_is_released_under_its_policy() {
    let (cloud, mut shop) = guarded("least-service").await;
    shop.configure("migrations:\n  main: {framework: django, driver: lambda-image, from: api, function: least-service}\n", "");
    let services = [
        ("Clusters", "ecs:DescribeClusters", FAILED),
        ("Clusters", "ecs:ListContainerInstances", FAILED),
        ("Services", "ecs:DescribeServices", Ends(11)),
        ("Services", "ecs:UpdateService", Ends(30)),
        ("Services", "ecs:ListServiceDeployments", FAILED),
        ("Deployments", "ecs:DescribeServiceDeployments", FAILED),
        ("Deployments", "ecs:StopServiceDeployment", FAILED),
        ("Tasks", "ecs:DescribeTasks", FAILED),
        ("Hosts", "ecs:DescribeContainerInstances", FAILED),
        ("ListTasks", "ecs:ListTasks", FAILED),
        ("RegisterRevisions", "ecs:RegisterTaskDefinition", Ends(30)),
        ("TagRevisions", "ecs:TagResource", ALONG),
        ("Revisions", "ecs:DescribeTaskDefinition", Ends(11)),
        ("TaskRoles", "iam:PassRole", ALONG),
        ("LoadBalancers", "elasticloadbalancing:DescribeListeners", BALANCED),
        ("LoadBalancers", "elasticloadbalancing:DescribeLoadBalancers", BALANCED),
        ("LoadBalancers", "elasticloadbalancing:DescribeRules", BALANCED),
        ("LoadBalancers", "elasticloadbalancing:DescribeTargetGroups", BALANCED),
        ("LoadBalancers", "elasticloadbalancing:DescribeTargetHealth", FAILED),
        ("Logs", "logs:GetLogEvents", FAILED),
    ];
    let needs = [&STATE[..], &IMAGES, &services].concat();
    prove(&cloud, &mut shop, &Stage { name: "services", given: Given::Image, before: &[], made_up: &[], needs: &needs }).await;
}

/// What the function answers.
const APPLIED: &str = r#"{"applied": ["items.0001_initial"]}"#;

#[tokio::test]
async fn a_function_migrates_under_its_policy() {
    let (cloud, mut shop) = guarded("least-function").await;
    let functions = [
        ("Registry", "ecr:GetAuthorizationToken", Elsewhere("an image with windlass's handler on top")),
        ("FunctionLogs", "logs:GetLogEvents", LOST),
        ("FunctionLogs", "logs:FilterLogEvents", LOST),
        ("MigrationFunctions", "lambda:GetFunction", Ends(11)),
        ("MigrationFunctions", "lambda:UpdateFunctionCode", Ends(23)),
        ("MigrationFunctions", "lambda:PublishVersion", Ends(23)),
        ("MigrationFunctions", "lambda:InvokeFunction", Ends(23)),
    ];
    let needs = [&STATE[..], &IMAGES, &PUSH, &functions].concat();
    let made_up = [("lambda:Invoke", APPLIED)];
    prove(&cloud, &mut shop, &Stage { name: "migrations", given: Given::Image, before: &[], made_up: &made_up, needs: &needs }).await;
}

/// What ECS says of a task that has ended well: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html>.
const STOPPED: &str = r#"{"tasks": [{"taskArn": "arn:aws:ecs:us-east-1:000000000000:task/least-task/1", "lastStatus": "STOPPED",
    "stopCode": "EssentialContainerExited", "containers": [{"name": "web", "lastStatus": "STOPPED", "exitCode": 0}]}], "failures": []}"#;

#[tokio::test]
async fn a_task_migrates_under_its_policy() {
    let (cloud, mut shop) = guarded("least-task").await;
    shop.configure("driver: lambda-image, from: api, function: least-task", "driver: task, from: api");
    let tasks = [
        ("MigrationServices", "ecs:DescribeServices", Ends(11)),
        ("MigrationTasks", "ecs:DescribeTasks", Ends(24)),
        ("MigrationTasks", "ecs:StopTask", Elsewhere("a task that is to end before its time")),
        ("ListMigrationTasks", "ecs:ListTasks", GoesOn),
        ("RunMigrationTasks", "ecs:RunTask", Ends(23)),
        ("MigrationLogs", "logs:GetLogEvents", LOST),
        ("MigrationLogs", "logs:FilterLogEvents", LOST),
        ("RegisterRevisions", "ecs:RegisterTaskDefinition", Ends(23)),
        ("TagRevisions", "ecs:TagResource", ALONG),
        ("Revisions", "ecs:DescribeTaskDefinition", Ends(11)),
        ("TaskRoles", "iam:PassRole", ALONG),
    ];
    let needs = [&STATE[..], &IMAGES, &tasks].concat();
    let made_up = [("ecs:DescribeTasks", STOPPED)];
    prove(&cloud, &mut shop, &Stage { name: "migrations", given: Given::Image, before: &[], made_up: &made_up, needs: &needs }).await;
}

/// `verify` sees under its policy what it sees as root, and without it says what it was not allowed to see.
#[tokio::test]
async fn what_verify_looks_at_is_in_its_policy() {
    let (cloud, mut shop) = guarded("least-verify").await;
    let policy: Value = serde_json::from_str(&shop.scene.windlass(&["policy", "verify"]).expect(0).stdout).unwrap();
    let nothing = json!({ "Version": "2012-10-17", "Statement": [{ "Sid": "None", "Effect": "Allow", "Action": ["sts:GetCallerIdentity"], "Resource": ["*"] }] });
    let given = json!([{ "policy": policy, "without": null }, { "policy": nothing, "without": null }]);
    let users = python(USERS, &[cloud.url(), "least-verify"], &given);
    let users: Vec<(&str, &str)> = users.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let sees = |shop: &Shop| {
        let outcome = shop.scene.windlass(&["verify", "--format", "json"]);
        serde_json::from_str::<Value>(&outcome.stdout).unwrap_or_else(|_| panic!("{}\n{}", outcome.stdout, outcome.stderr))
    };
    let as_root = sees(&shop);
    as_user(&mut shop, users[0].0, users[0].1);
    assert_eq!(sees(&shop), as_root);
    as_user(&mut shop, users[1].0, users[1].1);
    assert_ne!(sees(&shop), as_root);
}

/// The policy without a stage is that of the verbs that do all of them.
#[tokio::test]
async fn a_release_and_its_rollback_need_no_more_than_the_five_policies_together() {
    let (cloud, mut shop) = guarded("least-all").await;
    let policy: Value = serde_json::from_str(&shop.scene.windlass(&["policy"]).expect(0).stdout).unwrap();
    let keys = python(USERS, &[cloud.url(), "least-all"], &policy);
    let (id, secret) = keys.trim().split_once(' ').unwrap();
    let all = Stage { name: "", given: Given::Image, before: &[], made_up: &[("lambda:Invoke", APPLIED)], needs: &[] };
    for _ in 0..2 {
        as_user(&mut shop, "test", "test");
        change(&shop, Given::Image).await;
        as_user(&mut shop, id, secret);
        run_verb(&shop, &all, &["release"]).expect(0);
    }
    for verb in [&["rollback"][..], &["status"], &["history"], &["release"], &["plan"]] {
        run_verb(&shop, &all, verb).expect(0);
    }
}
