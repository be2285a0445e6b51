//! `verify` looks at infrastructure that somebody else owns: all is well, each thing that is not is named by its own check, and what
//! may not be seen is said to be unseen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::ministack::{self, Ministack};
use crate::support::proxy::{Fault, Proxy};
use crate::support::scene::{Outcome, Scene};

/// A shop on infrastructure that is as it should be.
pub(crate) struct Estate {
    pub(crate) name: String,
    owner: Mutex<Owner>,
    pub(crate) scene: Scene,
    pub(crate) proxy: Proxy,
    distribution: String,
    balancer: String,
    /// AWS's list of CloudFront's addresses.
    cloudfront: String,
}

/// Whoever owns the infrastructure: see `infrastructure.py`.
struct Owner {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Owner {
    /// Makes it.
    fn start(cloud: &str, name: &str) -> (Self, Value) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/infrastructure.py");
        let mut command = Command::new(ministack::python());
        let mut child = command.arg(path).args([cloud, name]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        let mut owner = Self { child, says };
        let made = serde_json::from_str(&owner.line()).unwrap();
        (owner, made)
    }

    /// Changes it.
    fn tell(&mut self, statement: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{statement}").unwrap();
        assert_eq!(self.line(), "done\n", "{statement}");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

impl Estate {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(ministack::shared(), name)
    }

    fn on(cloud: &Ministack, name: &str) -> Self {
        let (owner, made) = Owner::start(cloud.url(), name);
        let of = |key: &str| made[key].as_str().unwrap().to_owned();
        let proxy = Proxy::start(cloud.url());
        let scene = Scene::new(&proxy.url());
        let (distribution, balancer, cloudfront) = (of("distribution"), of("balancer"), of("cloudfront"));
        let image = format!("registry.example/shop/api@sha256:{}", "0".repeat(64));
        scene.write(
            "windlass.yml",
            format!(
                "app: shop\nstate: s3://{name}-state/windlass\nregistry: {}\nsites:\n  web: {{prebuilt: true, bucket: {name}-web, distribution: \
                 {distribution}}}\nservices:\n  api: {{image: \"{image}\", cluster: {name}, service: {name}, container: web}}\n",
                cloud.registry()
            ),
        );
        scene.write("dist/index.html", "<html>");
        Self { name: name.to_owned(), owner: Mutex::new(owner), scene, proxy, distribution, balancer, cloudfront }
    }

    /// Changes the infrastructure.
    pub(crate) fn change(&self, statement: &str) {
        self.owner.lock().unwrap().tell(statement);
    }

    /// A value of the infrastructure, as JSON.
    pub(crate) fn tells(&self, expression: &str) -> String {
        let mut owner = self.owner.lock().unwrap();
        writeln!(owner.child.stdin.as_mut().unwrap(), "print(json.dumps({expression}))").unwrap();
        let line = owner.line();
        assert_eq!(owner.line(), "done\n", "{expression}");
        line
    }

    /// Application Auto Scaling, CodePipeline and CodeBuild, which the local cloud does not have: what AWS answers by its API references.
    ///
    /// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html>,
    /// <https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_GetPipeline.html>,
    /// <https://docs.aws.amazon.com/codebuild/latest/APIReference/API_BatchGetProjects.html>
    fn with_the_rest(&self) {
        let answer = |operation: &'static str, status, body: &str| {
            let fault = Fault::Answer { status, headers: vec![], body: body.to_owned() };
            self.proxy.fail_next(move |request| request.operation == operation, 1, fault);
        };
        let target = r#"{"ScalableTargets":[{"MinCapacity":2,"MaxCapacity":6}]}"#;
        answer("application-autoscaling:DescribeScalableTargets", 200, target);
        answer("application-autoscaling:DescribeScalingPolicies", 200, r#"{"ScalingPolicies":[{}]}"#);
        let pipeline = r#"{"pipeline":{"pipelineType":"V2","executionMode":"QUEUED","triggers":[{"providerType":"CodeStarSourceConnection"}],
            "roleArn":"arn:aws:iam::000000000000:role/NAME-pipeline","stages":[
                {"actions":[{"actionTypeId":{"category":"Source","provider":"CodeStarSourceConnection"}}]},
                {"actions":[{"actionTypeId":{"category":"Deploy","provider":"CloudFormation"}},
                    {"actionTypeId":{"category":"Build","provider":"CodeBuild"},"configuration":{"ProjectName":"shop-release"}}]}]}}"#;
        answer("codepipeline:GetPipeline", 200, &pipeline.replace("NAME", &self.name));
        let project = json!({ "name": "shop-release", "serviceRole": format!("arn:aws:iam::000000000000:role/{}-builds", self.name) });
        answer("codebuild:BatchGetProjects", 200, &json!({ "projects": [project] }).to_string());
        // It loses the prefix list of a rule: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html>.
        let (edge, list) =
            (format!("<groupName>{}-edge<", self.name), format!("<item><prefixListId>{}</prefixListId></item>", self.cloudfront));
        let rewrite = move |status, body: String| {
            let full = format!("<prefixListIds>{list}</prefixListIds>");
            (status, if body.contains(&edge) { body.replace("<prefixListIds></prefixListIds>", &full) } else { body })
        };
        self.proxy.fail_next(|request| request.operation == "ec2:DescribeSecurityGroups", 3, Fault::Rewrite(Box::new(rewrite)));
    }

    pub(crate) fn verify(&self, arguments: &[&str]) -> Outcome {
        self.proxy.clear();
        let outcome = self.scene.windlass(&[&["verify"], arguments].concat());
        assert_eq!(self.proxy.written(), [""; 0], "verify writes nothing");
        outcome
    }

    /// What is thought of a check: its verdict and what was seen.
    pub(crate) fn check(&self, check: &str, exit: i32) -> (String, String) {
        let json: Value = serde_json::from_str(&self.verify(&["--format", "json"]).expect(exit).stdout).unwrap();
        let all = json["checks"].as_array().unwrap();
        let found = all.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("no `{check}` in {all:#?}"));
        assert!(found["verdict"] == "ok" || found["verdict"] == "not_seen" || found["cure"].is_string(), "{found}");
        (found["verdict"].as_str().unwrap().to_owned(), found["seen"].as_str().unwrap().to_owned())
    }

    fn redacted(&self, text: &str) -> String {
        let text = text.replace(&self.distribution, "[distribution]").replace(&self.balancer, "[balancer]");
        let ids = regex::Regex::new(r"\b(sg|subnet|vpc)-[0-9a-f]+").unwrap();
        let text = ids.replace_all(&text, "$1-[id]");
        // Secrets Manager ends a secret's name with six characters of its own.
        regex::Regex::new(r"secrets `([a-z-]+)-\w{6}`").unwrap().replace_all(&text, "secrets `$1-[id]`").into_owned()
    }
}

#[tokio::test]
async fn infrastructure_that_is_as_it_should_be_is_all_ok() {
    let estate = Estate::new("verify-good");
    estate.with_the_rest();
    let verified = estate.verify(&[]).expect(0);
    assert_snapshot!(estate.redacted(&verified.stdout), @r"
    account 000000000000 in us-east-1
      ok       state: bucket `verify-good-state`
      ok       site `web`: bucket `verify-good-web`
      ok       site `web`: distribution `[distribution]`
      ok       service `api`: its image
      ok       service `api`: `verify-good` in cluster `verify-good`

    infrastructure
      site `web`
        ok        site-behind-cdn: the distribution `[distribution]` serves `*` out of `verify-good-web`
        ok        viewer-tls: every path is served with TLS alone, under CloudFront's own name
        ok        waf: the web ACL `verify-good` stands in front of the distribution `[distribution]`
        ok        api-behind-cdn: the distribution sends `/api/*` to a load balancer
        ok        origin-tls: CloudFront speaks TLS to the load balancer, or reaches it inside its VPC
        ok        bucket-closed: all public access to `verify-good-web` is blocked
        ok        bucket-tls: the policy of `verify-good-web` denies whatever comes without TLS
        ok        bucket-origin-access: the distribution reads `verify-good-web` by origin access control, and its policy names it
      service `api`
        ok        circuit-breaker: a deployment whose tasks keep failing is given up and rolled back
        ok        auto-scaling: 2 to 6 tasks, policies: 1
        ok        task-count: 2 tasks at the least
        ok        load-balancer: `verify-good` forwards to it (`HTTPS 443: /api/*`)
        ok        load-balancer-subnets: `verify-good` is in public subnets of 2 zones
        ok        load-balancer-closed: `verify-good` lets in CloudFront's addresses alone
        ok        load-balancer-header: `verify-good` forwards only requests with the header `X-Origin-Secret`, which the distribution adds
        ok        alarms: it is watched by `verify-good-5xx`
        ok        tasks-private: no task has a public address, in 2 subnets of 2 zones
        ok        tasks-egress: every subnet of the tasks has a way out
        ok        secrets-by-reference: by reference: 1; no plain variable looks like a secret
        ok        secrets-kept: 1 of Secrets Manager, encrypted with the account's own key
        ok        task-role: the application acts as `verify-good-application`
        ok        task-size: CPU and memory of a task are said
        ok        logs-kept: `/shop/verify-good` is kept for 30 days
      database `verify-good-db`
        ok        database-private: it has no public address, and nothing leads out of its subnets
        ok        database-closed: only `sg-[id]` are let in
        ok        database-encrypted: its storage is encrypted
        ok        database-backed-up: backups are made daily and kept for 7 days
        ok        database-storage: postgres 15.3 on db.t4g.micro, 20 GB that may grow to 50 GB
        ok        database-protected: it is held against deletion
        ok        database-available: another instance or zone takes over when it fails
      pipeline
        ok        pipeline: `shop` runs one release after the other
        ok        pipeline-trigger: pushes start `shop` (source: CodeStarSourceConnection)
        ok        pipeline-infrastructure: it deploys infrastructure, too
      role `verify-good-application`
        ok        role-grants: no policy of it is wider than named resources (policies: 1); it reads the secrets `verify-good-[id]`
        ok        role-trust: only `ecs-tasks.amazonaws.com` may act as it
      role `verify-good-builds`
        ok        role-grants: no policy of it is wider than named resources (policies: 1)
        ok        role-trust: only `codebuild.amazonaws.com` may act as it
      role `verify-good-pipeline`
        ok        role-grants: no policy of it is wider than named resources (policies: 1)
        ok        role-trust: only `codepipeline.amazonaws.com` may act as it
      role `verify-good-tasks`
        ok        role-grants: no policy of it is wider than named resources (policies: 2); it reads the secrets `verify-good-[id]`
        ok        role-trust: only `ecs-tasks.amazonaws.com` may act as it
        ok        role-secrets: it may read what containers are given (secrets and parameters: 1)

    42 ok, 0 to think about, 0 failed, 0 not seen
    ");
    // As test cases, too.
    estate.with_the_rest();
    estate.verify(&["--strict", "--junit", "verify.xml"]).expect(0);
    let junit = std::fs::read_to_string(estate.scene.project().join("verify.xml")).unwrap();
    assert!(
        junit.contains("<testcase classname=\"windlass.service api\" name=\"tasks-private\"") && junit.contains("failures=\"0\""),
        "{junit}"
    );
}

#[tokio::test]
async fn what_may_not_be_seen_is_said_and_fails_nothing() {
    let estate = Estate::new("verify-denied");
    let xml = |code: &str| Fault::Answer {
        status: 403,
        headers: vec![("content-type", "text/xml".to_owned())],
        body: format!("<Response><Errors><Error><Code>{code}</Code><Message>You are not authorized</Message></Error></Errors></Response>"),
    };
    let denied = |operation: &'static str, fault: Fault| estate.proxy.fail_next(move |request| request.operation == operation, 9, fault);
    denied("ec2:DescribeSubnets", xml("UnauthorizedOperation"));
    denied("ec2:DescribeSecurityGroups", xml("UnauthorizedOperation"));
    denied("rds:DescribeDBInstances", xml("AccessDenied"));
    denied("elasticloadbalancing:DescribeTargetGroups", xml("AccessDenied"));
    denied("monitoring:DescribeAlarms", Fault::json(400, "AccessDeniedException", "not authorized"));
    denied("logs:DescribeLogGroups", Fault::json(400, "AccessDeniedException", "not authorized"));
    let verified = estate.verify(&[]).expect(0).stdout;
    for (check, permission) in [
        ("load-balancer", "elasticloadbalancing:DescribeTargetGroups"),
        ("alarms", "cloudwatch:DescribeAlarms"),
        ("tasks-private", "ec2:DescribeSubnets"),
        ("logs-kept", "logs:DescribeLogGroups"),
        ("database-private", "rds:DescribeDBInstances"),
    ] {
        assert!(verified.contains(&format!("    not seen  {check}: needs `{permission}`")), "{verified}");
    }
}

#[tokio::test]
async fn a_failure_that_is_known_can_be_accepted() {
    let estate = Estate::new("verify-accept");
    estate.change("roll(environment=[{'name': 'SECRET_KEY', 'value': 'canary-django-key'}])");
    estate.verify(&[]).expect(11);
    let accepted = estate.verify(&["--accept", "secrets-by-reference"]).expect(0).stdout;
    assert!(accepted.contains("warn      secrets-by-reference: ") && accepted.contains("(accepted)"), "{accepted}");
    estate.verify(&["--accept", "secrets-by-reference", "--strict"]).expect(11);
    let unknown = estate.verify(&["--accept", "no-such-check"]).expect(10);
    assert!(unknown.stderr.ends_with("hint: checks are named in what `windlass verify` prints\n"), "{}", unknown.stderr);
}
