//! Roles: what applications, migrations and pipelines may do beyond what they have to, and who may act as them.

use std::collections::{BTreeMap, BTreeSet};

use crate::aws::{Aws, Role};
use crate::model::Check;

use super::grants::{self, Wide, Width};
use super::network::some;
use super::{Sheet, see};

/// What a role is for. What an application acts as weighs most: whoever breaks into it has the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A service's application acts as it.
    Application,
    /// A migration's function acts as it.
    Migration,
    /// ECS pulls images and reads secrets as it.
    Execution,
    /// A pipeline or its builds act as it.
    Pipeline,
}

/// A role that is used somewhere.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) arn: String,
    pub(super) part: Part,
    /// Whose it is, as people read it.
    pub(super) by: String,
    /// The ARNs of secrets and parameters that it has to read.
    pub(super) reads: BTreeSet<String>,
}

/// Looks at each role once, whoever uses it.
pub(super) async fn inspect(aws: &Aws, used: &[Used]) -> Vec<Check> {
    let mut by_arn: BTreeMap<&str, Vec<&Used>> = BTreeMap::new();
    for one in used {
        by_arn.entry(&one.arn).or_default().push(one);
    }
    let mut checks = Vec::new();
    for (arn, uses) in by_arn {
        let name = arn.rsplit('/').next().unwrap_or(arn);
        let mut sheet = Sheet::of(format!("role `{name}`"));
        match see(aws.role(name)).await {
            Err(why) => sheet.unseen("role-grants", why),
            Ok(None) => sheet.unseen("role-grants", format!("there is no role `{name}`, {}", purpose(&uses))),
            Ok(Some(role)) => {
                granted(&role, &uses, &mut sheet);
                trusted(&role, arn, &mut sheet);
                readable(&role, &uses, &mut sheet);
            }
        }
        checks.extend(sheet.checks);
    }
    checks
}

/// What a role is for, in words.
fn purpose(uses: &[&Used]) -> String {
    let of = |part: Part, what: &str| {
        let names: BTreeSet<&str> = uses.iter().filter(|one| one.part == part).map(|one| one.by.as_str()).collect();
        let shown: Vec<&str> = names.iter().take(3).copied().collect();
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        (!names.is_empty()).then(|| format!("{what} {}{more}", shown.join(", ")))
    };
    let parts = [
        of(Part::Application, "which is what the application acts as in"),
        of(Part::Migration, "which migrates in"),
        of(Part::Execution, "which ECS starts tasks with for"),
        of(Part::Pipeline, "which releases in"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn granted(role: &Role, uses: &[&Used], sheet: &mut Sheet) {
    const CHECK: &str = "role-grants";
    let cure = "grant the actions that it needs, on the resources that it needs them for (`windlass policy` prints what a release needs)";
    let part = uses.iter().map(|one| one.part).min().unwrap_or(Part::Pipeline);
    let wide = grants::wide(&role.policies);
    let Some(widest) = wide.first() else {
        if part == Part::Application && uses.iter().any(|one| one.part == Part::Execution) {
            let seen = "applications act as the role that starts them: they may read every secret that any of them is given".to_owned();
            return sheet.warn(CHECK, seen, "give the application a role of its own (`taskRoleArn`)");
        }
        let secrets = grants::resources(&role.policies, "secretsmanager:GetSecretValue");
        let secrets: Vec<&str> = secrets.iter().map(|arn| arn.split(":secret:").nth(1).unwrap_or(arn)).collect();
        let reads = if secrets.is_empty() { String::new() } else { format!("; it reads the secrets {}", some(&secrets)) };
        return sheet.ok(CHECK, format!("no policy of it is wider than named resources (policies: {}){reads}", role.policies.len()));
    };
    let seen = format!("{}: {}{}", says(widest.width), shown(&wide), if role.bounded { "; a boundary may hold it back" } else { "" });
    let breaks = widest.width >= Width::Rights && !widest.conditional && !role.bounded;
    if breaks && matches!(part, Part::Application | Part::Migration) {
        sheet.fail(CHECK, format!("{seen}; whoever breaks into the application has the account"), cure);
    } else {
        sheet.warn(CHECK, seen, cure);
    }
}

fn says(width: Width) -> &'static str {
    match width {
        Width::Everything => "it may do everything in the account",
        Width::Rights => "it may give itself any right",
        Width::Service => "it may do everything with all that a service has",
        Width::Data => "it reaches what belongs to others, too",
    }
}

/// `s3:*` by `files`, `kms:Decrypt` by `files` and 2 more.
fn shown(wide: &[Wide]) -> String {
    let condition = |one: &Wide| if one.conditional { ", under a condition" } else { "" };
    let named: Vec<String> =
        wide.iter().take(3).map(|one| format!("`{}` by the policy `{}`{}", one.action, one.policy, condition(one))).collect();
    let more = if wide.len() > 3 { format!(" and {} more", wide.len() - 3) } else { String::new() };
    named.join(", ") + &more
}

fn trusted(role: &Role, arn: &str, sheet: &mut Sheet) {
    const CHECK: &str = "role-trust";
    let account = arn.split(':').nth(4).unwrap_or_default();
    let principals = grants::principals(&role.trust);
    let everybody = principals.iter().any(|(name, conditional)| name == "*" && !conditional);
    let foreign: Vec<&str> =
        principals.iter().filter(|(name, conditional)| !conditional && is_foreign(name, account)).map(|(name, _)| name.as_str()).collect();
    let names: BTreeSet<&str> = principals.iter().map(|(name, _)| name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    if everybody {
        let cure = "name the service that acts as it (`ecs-tasks.amazonaws.com`, `lambda.amazonaws.com`, `codebuild.amazonaws.com`) as the only principal";
        sheet.fail(CHECK, "anybody in any account may act as it", cure);
    } else if foreign.is_empty() {
        sheet.ok(CHECK, format!("only {} may act as it", some(&names)));
    } else {
        let cure = "take them out, or ask them for an external id (condition `sts:ExternalId`)";
        sheet.warn(CHECK, format!("other accounts may act as it, under no condition: {}", some(&foreign)), cure);
    }
}

/// An account's number, or an ARN of one, that is not ours.
fn is_foreign(principal: &str, account: &str) -> bool {
    let of = if principal.starts_with("arn:") { principal.split(':').nth(4).unwrap_or_default() } else { principal };
    of.len() == 12 && of.bytes().all(|byte| byte.is_ascii_digit()) && of != account
}

/// May ECS read, with an execution role, the secrets that it is to give to containers?
fn readable(role: &Role, uses: &[&Used], sheet: &mut Sheet) {
    const CHECK: &str = "role-secrets";
    let needed: BTreeSet<&String> = uses.iter().filter(|one| one.part == Part::Execution).flat_map(|one| &one.reads).collect();
    if needed.is_empty() {
        return;
    }
    let action = |arn: &str| if arn.contains(":ssm:") { "ssm:GetParameters" } else { "secretsmanager:GetSecretValue" };
    let refused: Vec<&str> = needed
        .iter()
        .filter(|arn| !grants::allow(&role.policies, action(arn), arn))
        .map(|arn| arn.splitn(6, ':').nth(5).unwrap_or(arn))
        .collect();
    if refused.is_empty() {
        sheet.ok(CHECK, format!("it may read what containers are given (secrets and parameters: {})", needed.len()));
    } else {
        let seen = format!("no policy of it lets it read {}: tasks start only if those let it in themselves", some(&refused));
        sheet.warn(CHECK, seen, "allow it `secretsmanager:GetSecretValue` (for parameters `ssm:GetParameters`) on them");
    }
}
