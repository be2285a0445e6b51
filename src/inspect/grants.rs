//! What IAM policies grant, read as text: how wide it is, and whether it holds one action on one resource.
//!
//! Deliberately absent: what other policies take away (denials, boundaries of the organisation). It is the allowance itself that is
//! judged: who relies on a denial elsewhere is one change away from losing it.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>

use serde_json::Value;

/// How wide a grant is, the widest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    /// Secrets, parameters, keys or objects, whosever they are.
    Data,
    /// All that a service can do, with all that it has.
    Service,
    /// Rights: it may give itself whatever it has not.
    Rights,
    /// Everything.
    Everything,
}

/// A grant that is wider than an application needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) width: Width,
    /// `s3:*`, as it is written.
    pub(super) action: String,
    /// The policy that grants it.
    pub(super) policy: String,
    /// Does it hold under a condition only?
    pub(super) conditional: bool,
}

/// What reads or writes what others have, whatever resource it is asked for.
const DATA: [&str; 8] = [
    "secretsmanager:getsecretvalue",
    "secretsmanager:putsecretvalue",
    "ssm:getparameter",
    "ssm:getparameters",
    "kms:decrypt",
    "s3:getobject",
    "s3:putobject",
    "s3:deleteobject",
];

/// Services whose every action is about the caller itself: a task's shell, traces.
const OWN: [&str; 3] = ["ec2messages", "ssmmessages", "xray"];

/// The grants of a role's policies that are too wide.
pub(super) fn wide(policies: &[(String, Value)]) -> Vec<Wide> {
    let mut found = Vec::new();
    for (policy, statement) in allowances(policies) {
        let conditional = statement.get("Condition").and_then(Value::as_object).is_some_and(|condition| !condition.is_empty());
        let mut add = |width, action: &str| {
            found.push(Wide { width, action: action.to_owned(), policy: policy.to_owned(), conditional });
        };
        let resources = texts(statement, "Resource");
        // Whatever is left out of "all but".
        let all_but = statement.get("NotResource").is_some();
        let every = all_but || resources.contains(&"*");
        if statement.get("NotAction").is_some() && every {
            add(Width::Everything, "all but a few actions");
        }
        for action in texts(statement, "Action") {
            let lower = action.to_ascii_lowercase();
            let (service, verb) = lower.split_once(':').unwrap_or((lower.as_str(), "*"));
            let of_service = every || resources.iter().any(|resource| is_every(resource, service));
            let width = if matches!(lower.as_str(), "*" | "*:*") {
                if !every {
                    continue;
                }
                Width::Everything
            } else if !of_service {
                continue;
            } else if gives_rights(service, verb) {
                Width::Rights
            } else if verb == "*" && !OWN.contains(&service) {
                Width::Service
            } else if DATA.iter().any(|one| matches(&lower, one)) {
                Width::Data
            } else {
                continue;
            };
            // A condition is what narrows these where no resource can.
            if !(conditional && width < Width::Everything) {
                add(width, action);
            }
        }
    }
    found.sort_by(|a, b| (b.width, &a.action, &a.policy).cmp(&(a.width, &b.action, &b.policy)));
    found.dedup();
    found
}

/// Do the policies grant an action on a resource, whatever the condition?
pub(super) fn allow(policies: &[(String, Value)], action: &str, resource: &str) -> bool {
    allowances(policies).any(|(_, statement)| {
        let named = |key: &str, is: &dyn Fn(&str) -> bool| texts(statement, key).iter().any(|pattern| is(pattern));
        let is_action = |pattern: &str| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase());
        let is_resource = |pattern: &str| matches(pattern, resource);
        let acts = if statement.get("NotAction").is_some() { !named("NotAction", &is_action) } else { named("Action", &is_action) };
        let on = if statement.get("NotResource").is_some() { !named("NotResource", &is_resource) } else { named("Resource", &is_resource) };
        acts && on
    })
}

/// The resources of an action that are granted one by one.
pub(super) fn resources(policies: &[(String, Value)], action: &str) -> Vec<String> {
    let grants = allowances(policies).filter(|(_, statement)| {
        texts(statement, "Action").iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
    });
    let mut found: Vec<String> = grants.flat_map(|(_, statement)| texts(statement, "Resource")).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

/// Who may act as a role: the principals of its trust policy, with whether a condition narrows them.
pub(super) fn principals(trust: &Value) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for statement in many(trust.get("Statement")).into_iter().filter(|statement| statement["Effect"] == "Allow") {
        let conditional = statement.get("Condition").is_some();
        let names = match statement.get("Principal") {
            Some(Value::String(all)) => vec![all.clone()],
            Some(Value::Object(kinds)) => {
                kinds.values().flat_map(|names| many(Some(names))).filter_map(Value::as_str).map(str::to_owned).collect()
            }
            // `NotPrincipal` is everybody else.
            _ => vec!["*".to_owned()],
        };
        found.extend(names.into_iter().map(|name| (name, conditional)));
    }
    found
}

fn allowances(policies: &[(String, Value)]) -> impl Iterator<Item = (&str, &Value)> {
    let statements =
        policies.iter().flat_map(|(name, policy)| many(policy.get("Statement")).into_iter().map(move |one| (name.as_str(), one)));
    statements.filter(|(_, statement)| statement["Effect"] == "Allow")
}

/// Can it change what anybody may do, or become somebody else?
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_managed-policies.html> (permissions management)
fn gives_rights(service: &str, verb: &str) -> bool {
    match service {
        "iam" => {
            let harmless = ["get", "list", "generate", "simulate", "createservicelinkedrole", "tag", "untag"];
            !harmless.iter().any(|start| verb.starts_with(start))
        }
        "sts" => matches(verb, "assumerole"),
        "organizations" => verb == "*",
        _ => false,
    }
}

/// Does a resource stand for all that a service has? `arn:aws:secretsmanager:us-east-1:1:secret:*`, `arn:aws:s3:::*`.
fn is_every(resource: &str, service: &str) -> bool {
    let parts: Vec<&str> = resource.splitn(6, ':').collect();
    let [_, _, of, _, _, rest] = parts.as_slice() else { return false };
    if *of != service && *of != "*" {
        return false;
    }
    // What stands before the first `:` or `/` is the kind of a resource, save S3's, where it is the bucket.
    let rest = if *of == "s3" { rest } else { rest.split_once([':', '/']).map_or(*rest, |(_, rest)| rest) };
    !rest.is_empty() && rest.bytes().all(|byte| b"*/:".contains(&byte))
}

/// Does a pattern with `*` and `?` fit a text?
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut on) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while on < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, on));
            at += 1;
        } else if pattern.get(at).is_some_and(|byte| *byte == b'?' || *byte == text[on]) {
            (at, on) = (at + 1, on + 1);
        } else if let Some((back, from)) = star {
            star = Some((back, from + 1));
            (at, on) = (back + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn texts<'a>(statement: &'a Value, key: &str) -> Vec<&'a str> {
    many(statement.get(key)).into_iter().filter_map(Value::as_str).collect()
}

fn many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policies(statements: &Value) -> Vec<(String, Value)> {
        vec![("p".to_owned(), json!({ "Statement": statements }))]
    }

    fn widths(action: &Value, resource: &str) -> Vec<Width> {
        wide(&policies(&json!({"Effect": "Allow", "Action": action, "Resource": resource}))).into_iter().map(|one| one.width).collect()
    }

    #[test]
    fn a_grant_is_as_wide_as_its_action_and_its_resource() {
        for (action, resource, expected) in [
            ("*", "*", Some(Width::Everything)),
            ("*", "arn:aws:s3:::shop-files/*", None),
            ("s3:*", "*", Some(Width::Service)),
            ("s3:*", "arn:aws:s3:::*", Some(Width::Service)),
            ("s3:*", "arn:aws:s3:::shop-files/*", None),
            ("S3:getobject", "arn:aws:s3:::*/*", Some(Width::Data)),
            ("iam:PassRole", "*", Some(Width::Rights)),
            ("iam:*", "arn:aws:iam::1:role/*", Some(Width::Rights)),
            ("iam:PassRole", "arn:aws:iam::1:role/shop-*", None),
            ("iam:GetRole", "*", None),
            ("sts:Assume*", "*", Some(Width::Rights)),
            ("secretsmanager:Get*", "arn:aws:secretsmanager:us-east-1:1:secret:*", Some(Width::Data)),
            ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:1:secret:shop-*", None),
            ("ssm:GetParameter*", "arn:aws:ssm:us-east-1:1:parameter/*", Some(Width::Data)),
            ("kms:Decrypt", "*", Some(Width::Data)),
            // AmazonECSTaskExecutionRolePolicy.
            ("ecr:GetAuthorizationToken", "*", None),
            ("logs:PutLogEvents", "*", None),
            ("ssmmessages:*", "*", None),
        ] {
            assert_eq!(widths(&json!(action), resource), expected.into_iter().collect::<Vec<_>>(), "{action} on {resource}");
        }
        assert_eq!(widths(&json!(["s3:*", "iam:*"]), "*"), [Width::Rights, Width::Service]);
    }

    #[test]
    fn what_is_left_out_is_little_and_a_condition_narrows() {
        let power = policies(&json!({"Effect": "Allow", "NotAction": ["iam:*", "organizations:*"], "Resource": "*"}));
        assert_eq!(wide(&power)[0].width, Width::Everything);
        let all_but = policies(&json!({"Effect": "Allow", "Action": "dynamodb:*", "NotResource": "arn:aws:dynamodb:::table/x"}));
        assert_eq!(wide(&all_but)[0].width, Width::Service);
        let pass = json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*",
            "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}});
        assert_eq!(wide(&policies(&json!([pass]))), []);
        let region =
            json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": "x"}}});
        assert!(wide(&policies(&region))[0].conditional);
        assert_eq!(wide(&policies(&json!({"Effect": "Deny", "Action": "*", "Resource": "*"}))), []);
    }

    #[test]
    fn a_resource_is_allowed_or_not() {
        let secret = "arn:aws:secretsmanager:us-east-1:1:secret:shop-abcdef";
        let of = |action: &str, resource: &str| {
            allow(&policies(&json!({"Effect": "Allow", "Action": action, "Resource": resource})), "secretsmanager:GetSecretValue", secret)
        };
        assert!(of("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:1:secret:shop-??????") && of("*", "*"));
        assert!(!of("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:1:secret:other-*"));
        assert!(!of("secretsmanager:DescribeSecret", "*"));
        let but = policies(&json!({"Effect": "Allow", "NotAction": "secretsmanager:*", "Resource": "*"}));
        assert!(!allow(&but, "secretsmanager:GetSecretValue", secret) && allow(&but, "s3:GetObject", "x"));
    }

    #[test]
    fn patterns_fit_texts() {
        for (pattern, text, fits) in
            [("*", "", true), ("a*c", "abbc", true), ("a*c", "abcd", false), ("?b*", "ab", true), ("", "a", false), ("*b*b", "abab", true)]
        {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn whoever_may_act_as_a_role_is_named() {
        let trust = json!({"Statement": [
            {"Effect": "Allow", "Principal": {"Service": ["ecs-tasks.amazonaws.com"], "AWS": "*"}, "Action": "sts:AssumeRole"},
            {"Effect": "Allow", "Principal": "*", "Condition": {"StringEquals": {"sts:ExternalId": "x"}}},
            {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::1:root"}},
        ]});
        let mut names = principals(&trust);
        names.sort();
        let owned = |name: &str, conditional| (name.to_owned(), conditional);
        assert_eq!(names, [owned("*", false), owned("*", true), owned("ecs-tasks.amazonaws.com", false)]);
    }
}
