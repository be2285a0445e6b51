//! The policies against AWS's own reference of what a policy can say: `tests/cases/authorization.tsv`.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use crate::support::scene::Scene;

/// What the reference says of an action.
struct Action {
    /// The types of resources, those that have to be named with a star.
    types: Vec<String>,
    /// The keys of the service's own.
    keys: BTreeSet<String>,
}

struct Reference {
    actions: BTreeMap<String, Action>,
    /// `ecs service`: what its ARNs look like.
    types: BTreeMap<(String, String), Regex>,
}

fn reference() -> Reference {
    let text = include_str!("../cases/authorization.tsv");
    let (mut actions, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [first, second, third] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let words = |text: &str| text.split(' ').filter(|word| *word != "-").map(str::to_owned).collect::<Vec<_>>();
        if first.contains(':') {
            actions.insert(first.to_owned(), Action { types: words(second), keys: words(third).into_iter().collect() });
        } else {
            types.insert((first.to_owned(), second.to_owned()), shape(third));
        }
    }
    Reference { actions, types }
}

/// A format of the reference as an expression. Names of objects, repositories and roles have slashes in them, others have not.
fn shape(format: &str) -> Regex {
    let place = Regex::new(r"\\\$\\\{(\w+)\\\}").unwrap();
    let slashes = ["ObjectName", "RepositoryName", "RoleNameWithPath"];
    let name = |found: &regex::Captures<'_>| if slashes.contains(&&found[1]) { ".+" } else { "[^/]+" }.to_owned();
    Regex::new(&format!("^{}$", place.replace_all(&regex::escape(format), name))).unwrap()
}

/// Actions that are allowed everywhere although they can be limited, each with what bounds it instead.
const EVERYWHERE: [(&str, &str); 1] =
    // Its type is the host that a task is on, which Fargate does not have.
    [("ecs:ListTasks", "ecs:cluster")];

fn check(reference: &Reference, statement: &Value) -> Result<(), String> {
    let strings = |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let holds = |is: bool, why: String| if is { Ok(()) } else { Err(format!("{why}: {statement:#}")) };
    let (actions, resources) = (strings(&statement["Action"]), strings(&statement["Resource"]));
    let operators = statement["Condition"].as_object().into_iter().flatten();
    let keys: BTreeSet<String> = operators.flat_map(|(_, keys)| keys.as_object().unwrap().keys().cloned()).collect();
    let everywhere = resources == ["*"];
    let mut matched: BTreeSet<&String> = BTreeSet::new();
    for action in &actions {
        let known = reference.actions.get(action).ok_or_else(|| format!("the reference does not know {action}"))?;
        let missing: Vec<_> = keys.difference(&known.keys).collect();
        holds(missing.is_empty(), format!("{missing:?} is no key of {action}"))?;
        if everywhere {
            let bounded = EVERYWHERE.iter().any(|(name, key)| name == action && keys.contains(*key));
            holds(known.types.is_empty() || bounded, format!("{action} can be limited to {:?}", known.types))?;
            continue;
        }
        holds(!known.types.is_empty(), format!("{action} knows no resources, and is denied on these"))?;
        let service = action.split(':').next().unwrap();
        let of_type = |name: &str| {
            let shape = &reference.types[&(service.to_owned(), name.trim_end_matches('*').to_owned())];
            resources.iter().filter(|arn| shape.is_match(arn)).collect::<Vec<_>>()
        };
        for name in known.types.iter().filter(|name| name.ends_with('*')) {
            holds(!of_type(name).is_empty(), format!("no {name} is named, which {action} needs"))?;
        }
        let found: Vec<&String> = known.types.iter().flat_map(|name| of_type(name)).collect();
        holds(!found.is_empty(), format!("{action} needs one of {:?}", known.types))?;
        matched.extend(found);
    }
    let stray: Vec<&String> = resources.iter().filter(|arn| !everywhere && !matched.contains(arn)).collect();
    holds(stray.is_empty(), format!("{stray:?} is no resource of any action"))
}

const WHOLE: &str = r#"
app: shop
state: s3://shop-state/windlass
environments: {live: {account: "111111111111", region: us-east-1}}
policy: {image_findings: warn, keep_revisions: 5}
sites:
  web: {prebuilt: true, bucket: shop-web, distribution: E1}
  admin: {from_image: {service: api, path: /app/static}, bucket: shop-admin, prefix: admin}
services:
  api: {path: api, image: {repository: shop/api, create: true}, cluster: shop, service: api, container: web, scheduled_tasks: follow}
  mail: {image: "222222222222.dkr.ecr.eu-west-1.amazonaws.com/mail:1", cluster: "arn:aws:ecs:us-east-1:111111111111:cluster/shop", service: mail, container: web}
migrations:
  main: {framework: django, driver: lambda-image, from: api, function: shop-migrate, snapshot: shop-db}
  zip: {framework: django, driver: lambda-zip, from: api, function: shop-zip}
  other: {framework: django, driver: task, from: api, strategy: stop}
"#;

const SITE: &str = "app: shop\nstate: none\nsites:\n  web: {prebuilt: true, bucket: shop-web}\n";

#[test]
fn whatever_a_policy_allows_can_be_allowed_so() {
    let reference = reference();
    let scene = Scene::new("http://127.0.0.1:1");
    let stages = ["", "assets", "images", "migrations", "services", "publish", "verify"];
    let mut used = BTreeSet::new();
    for config in [WHOLE, &WHOLE.replace("us-east-1", "cn-north-1").replace("arn:aws:", "arn:aws-cn:"), SITE] {
        scene.write("windlass.yml", config).write("api/Dockerfile", "FROM scratch\n");
        for stage in stages {
            let arguments: Vec<&str> = ["policy", stage].into_iter().filter(|word| !word.is_empty()).collect();
            let environment = if config == SITE { &[][..] } else { &["--env", "live"] };
            let policy: Value = serde_json::from_str(&scene.windlass(&[&arguments, environment].concat()).expect(0).stdout).unwrap();
            // A managed policy has at most 6,144 characters without white space:
            // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
            let size = policy.to_string().len();
            assert!(stage.is_empty() || size <= 6144, "the policy of `{stage}` has {size} characters");
            for statement in policy["Statement"].as_array().unwrap() {
                check(&reference, statement).unwrap_or_else(|why| panic!("windlass policy {stage}: {why}"));
                used.extend(statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()));
            }
        }
    }
    let unused: Vec<&String> = reference.actions.keys().filter(|action| !used.contains(*action)).collect();
    assert!(unused.is_empty(), "no policy allows {unused:?}");
}

#[test]
fn what_cannot_be_allowed_so_is_found() {
    let reference = reference();
    let place = "arn:aws:ecs:us-east-1:111111111111";
    for (action, resource, condition, wrong) in [
        ("ecs:UpdateService", format!("{place}:service/shop/api"), Value::Null, false),
        ("ecs:UpdateService", "*".to_owned(), Value::Null, true),
        ("ecs:UpdateService", format!("{place}:cluster/shop"), Value::Null, true),
        ("ecs:DeregisterTaskDefinition", format!("{place}:task-definition/*:*"), Value::Null, true),
        ("ecs:MakeCoffee", "*".to_owned(), Value::Null, true),
        ("ecs:ListTasks", "*".to_owned(), serde_json::json!({"ArnEquals": {"ecs:cluster": "x"}}), false),
        ("ecs:ListTasks", "*".to_owned(), Value::Null, true),
        ("ecs:DescribeClusters", format!("{place}:cluster/shop"), serde_json::json!({"ArnEquals": {"ecs:cluster": "x"}}), true),
        ("s3:PutObject", "arn:aws:s3:::shop-web".to_owned(), Value::Null, true),
        ("s3:ListBucket", "arn:aws:s3:::shop-web/*".to_owned(), Value::Null, true),
    ] {
        let mut statement = serde_json::json!({ "Action": [action], "Resource": [resource] });
        if !condition.is_null() {
            statement["Condition"] = condition;
        }
        assert_eq!(check(&reference, &statement).is_err(), wrong, "{statement}");
    }
}
