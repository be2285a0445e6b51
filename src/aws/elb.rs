//! Elastic Load Balancing: how a target group's targets are, and where its load balancer listens.

use aws_sdk_elasticloadbalancingv2::config::Builder;

use super::ecs_json::{little_retry, little_time};
use super::{Aws, AwsError};

/// A target that does not get traffic, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its address, or the id of an instance.
    pub id: String,
    /// Its port.
    pub port: Option<i32>,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`.
    pub state: String,
    /// `Target.ResponseCodeMismatch`, `Target.Timeout` …
    pub reason: Option<String>,
    /// `Health checks failed with these codes: [503]`.
    pub description: Option<String>,
}

/// Where a load balancer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `shop-123.us-east-1.elb.amazonaws.com`.
    pub host: String,
    /// `HTTP` or `HTTPS` of an application load balancer.
    pub protocol: String,
    /// Its port.
    pub port: u16,
    /// A host name that its rule for the target group asks for.
    pub rule_host: Option<String>,
    /// The name of a header that the rule asks for. Its value is a secret.
    pub rule_header: Option<String>,
}

impl Aws {
    /// How the targets of a group are.
    ///
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html>
    ///
    /// # Errors
    /// No such group ([`AwsError::is_not_found`]); not allowed.
    pub async fn target_health(&self, group: &str) -> Result<Vec<Target>, AwsError> {
        let soon = Builder::new().retry_config(little_retry()).timeout_config(little_time());
        let question = self.0.elb.describe_target_health().target_group_arn(group).customize().config_override(soon);
        let answer = question.send().await.map_err(AwsError::of("elasticloadbalancing:DescribeTargetHealth", group))?;
        let target = |found: aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let health = found.target_health?;
            Some(Target {
                id: found.target.as_ref().and_then(|target| target.id.clone()).unwrap_or_default(),
                port: found.target.and_then(|target| target.port),
                state: health.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
                reason: health.reason.map(|reason| reason.as_str().to_owned()),
                description: health.description,
            })
        };
        Ok(answer.target_health_descriptions.unwrap_or_default().into_iter().filter_map(target).collect())
    }

    /// Where the load balancer of a target group listens for it: the listener whose default or first rule forwards to the group, HTTPS
    /// before HTTP; `None` when the group has no application load balancer.
    ///
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeRules.html>
    ///
    /// # Errors
    /// No such group ([`AwsError::is_not_found`]); not allowed.
    pub async fn listener(&self, group: &str) -> Result<Option<Listener>, AwsError> {
        let elb = &self.0.elb;
        let groups = elb.describe_target_groups().target_group_arns(group).send().await;
        let groups = groups.map_err(AwsError::of("elasticloadbalancing:DescribeTargetGroups", group))?.target_groups.unwrap_or_default();
        let arn = groups.into_iter().next().and_then(|group| group.load_balancer_arns).and_then(|arns| arns.into_iter().next());
        // Not every endpoint says which one it is, that of mere rules least: then it is looked for among all.
        let balancers = elb.describe_load_balancers().set_load_balancer_arns(arn.clone().map(|arn| vec![arn])).send().await;
        let balancers = balancers.map_err(AwsError::of("elasticloadbalancing:DescribeLoadBalancers", arn.as_deref().unwrap_or("*")))?;
        for balancer in balancers.load_balancers.unwrap_or_default() {
            let (Some(arn), Some(host)) = (balancer.load_balancer_arn, balancer.dns_name) else { continue };
            let found = self.listener_of(&arn, &host, group).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn listener_of(&self, balancer: &str, host: &str, group: &str) -> Result<Option<Listener>, AwsError> {
        let mut found: Vec<Listener> = Vec::new();
        for listener in self.all_listeners(balancer).await? {
            let protocol = listener.protocol.as_ref().map(|protocol| protocol.as_str().to_owned()).unwrap_or_default();
            let (Some(port), true) = (listener.port.and_then(|port| u16::try_from(port).ok()), protocol.starts_with("HTTP")) else {
                continue;
            };
            let here =
                |rule_host, rule_header| Listener { host: host.to_owned(), protocol: protocol.clone(), port, rule_host, rule_header };
            if listener.default_actions.iter().flatten().any(|action| forwards(action, group)) {
                found.push(here(None, None));
                continue;
            }
            let Some(arn) = listener.listener_arn else { continue };
            let rules = self.all_rules(&arn).await?;
            let rule = rules.into_iter().find(|rule| rule.actions.iter().flatten().any(|action| forwards(action, group)));
            found.extend(rule.map(|rule| {
                let conditions = rule.conditions.unwrap_or_default();
                here(conditions.iter().find_map(host_of), conditions.iter().find_map(header_of))
            }));
        }
        found.sort_by_key(|listener| (listener.protocol != "HTTPS", listener.port));
        Ok(found.into_iter().next())
    }

    /// Every listener of a load balancer.
    ///
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeListeners.html>
    pub(super) async fn all_listeners(&self, balancer: &str) -> Result<Vec<aws_sdk_elasticloadbalancingv2::types::Listener>, AwsError> {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let page = self.0.elb.describe_listeners().load_balancer_arn(balancer).set_marker(marker).send().await;
            let page = page.map_err(AwsError::of("elasticloadbalancing:DescribeListeners", balancer))?;
            found.extend(page.listeners.unwrap_or_default());
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// Every rule of a listener.
    ///
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeRules.html>
    pub(super) async fn all_rules(&self, listener: &str) -> Result<Vec<aws_sdk_elasticloadbalancingv2::types::Rule>, AwsError> {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let page = self.0.elb.describe_rules().listener_arn(listener).set_marker(marker).send().await;
            let page = page.map_err(AwsError::of("elasticloadbalancing:DescribeRules", listener))?;
            found.extend(page.rules.unwrap_or_default());
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(found);
            }
        }
    }
}

fn forwards(action: &aws_sdk_elasticloadbalancingv2::types::Action, group: &str) -> bool {
    let weighted = action.forward_config.as_ref().and_then(|forward| forward.target_groups.as_deref()).unwrap_or_default();
    action.target_group_arn.as_deref() == Some(group) || weighted.iter().any(|tuple| tuple.target_group_arn.as_deref() == Some(group))
}

/// The name of a header that a rule asks for, so that nobody gets past the distribution that sends it.
fn header_of(condition: &aws_sdk_elasticloadbalancingv2::types::RuleCondition) -> Option<String> {
    condition.http_header_config.as_ref()?.http_header_name.clone()
}

/// A host name without wildcards that a rule asks for.
fn host_of(condition: &aws_sdk_elasticloadbalancingv2::types::RuleCondition) -> Option<String> {
    (condition.field.as_deref() == Some("host-header")).then_some(())?;
    let configured = condition.host_header_config.as_ref().and_then(|config| config.values.as_deref()).unwrap_or_default();
    let values = configured.iter().chain(condition.values.as_deref().unwrap_or_default());
    values.into_iter().find(|value| !value.contains(['*', '?'])).cloned()
}
