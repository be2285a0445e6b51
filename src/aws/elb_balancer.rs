//! Elastic Load Balancing: whom a load balancer lets in, and what it asks of them.

use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, RuleCondition};

use super::{Aws, AwsError};

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `shop-123.us-east-1.elb.amazonaws.com`.
    pub host: String,
    /// Is it reached from the internet at all?
    pub public: bool,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Where it listens.
    pub listeners: Vec<BalancerListener>,
}

/// A listener, with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerListener {
    /// Its port.
    pub port: i32,
    /// `HTTP` or `HTTPS`; `TCP` … of a network load balancer.
    pub protocol: String,
    /// What is forwarded by it: the default's last.
    pub forwards: Vec<Forward>,
}

/// Requests that are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The target groups.
    pub groups: Vec<String>,
    /// What they are asked for: paths and hosts; empty for all requests.
    pub wanted: Vec<String>,
    /// The names of headers that a request has to have. Their values are secrets.
    pub headers: Vec<String>,
}

impl Aws {
    /// The load balancers of a target group; none if it has none, or is not there.
    ///
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeLoadBalancers.html>,
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeRules.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn balancers(&self, group: &str) -> Result<Vec<Balancer>, AwsError> {
        let elb = &self.0.elb;
        let groups = elb.describe_target_groups().target_group_arns(group).send().await;
        let groups = match groups.map_err(AwsError::of("elasticloadbalancing:DescribeTargetGroups", group)) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            groups => groups?.target_groups.unwrap_or_default(),
        };
        let arns: Vec<String> = groups.into_iter().flat_map(|group| group.load_balancer_arns.unwrap_or_default()).collect();
        // Not every endpoint says which ones they are, those of mere rules least: then it is looked for among all.
        let known = !arns.is_empty();
        let found = elb.describe_load_balancers().set_load_balancer_arns(known.then(|| arns.clone())).send().await;
        let found = found.map_err(AwsError::of("elasticloadbalancing:DescribeLoadBalancers", arns.join(", ")))?;
        let mut balancers = Vec::new();
        for one in found.load_balancers.unwrap_or_default() {
            let arn = one.load_balancer_arn.unwrap_or_default();
            let zones = one.availability_zones.unwrap_or_default();
            balancers.push(Balancer {
                name: one.load_balancer_name.unwrap_or_default(),
                host: one.dns_name.unwrap_or_default(),
                public: one.scheme.is_none_or(|scheme| scheme.as_str() != "internal"),
                subnets: zones.into_iter().filter_map(|zone| zone.subnet_id).collect(),
                security_groups: one.security_groups.unwrap_or_default(),
                listeners: self.listeners(&arn).await?,
                arn,
            });
        }
        let forwards = |balancer: &Balancer| {
            let mut forwards = balancer.listeners.iter().flat_map(|listener| &listener.forwards);
            forwards.any(|forward| forward.groups.iter().any(|one| one == group))
        };
        balancers.retain(|balancer| known || forwards(balancer));
        Ok(balancers)
    }

    async fn listeners(&self, balancer: &str) -> Result<Vec<BalancerListener>, AwsError> {
        let mut found = Vec::new();
        for listener in self.all_listeners(balancer).await? {
            let arn = listener.listener_arn.unwrap_or_default();
            let rules = self.all_rules(&arn).await?;
            let others = rules.iter().filter(|rule| rule.is_default != Some(true));
            let mut forwards: Vec<Forward> = others
                .filter_map(|rule| forward(rule.actions.as_deref().unwrap_or_default(), rule.conditions.as_deref().unwrap_or_default()))
                .collect();
            forwards.extend(forward(&listener.default_actions.unwrap_or_default(), &[]));
            let protocol = listener.protocol.map(|protocol| protocol.as_str().to_owned()).unwrap_or_default();
            found.push(BalancerListener { port: listener.port.unwrap_or_default(), protocol, forwards });
        }
        Ok(found)
    }
}

fn forward(actions: &[Action], conditions: &[RuleCondition]) -> Option<Forward> {
    let forwards = actions.iter().filter(|action| action.r#type == Some(ActionTypeEnum::Forward));
    let groups: Vec<String> = forwards
        .flat_map(|action| {
            let weighted = action.forward_config.iter().flat_map(|forward| forward.target_groups.iter().flatten());
            let weighted = weighted.filter_map(|group| group.target_group_arn.clone());
            action.target_group_arn.clone().into_iter().chain(weighted).collect::<Vec<_>>()
        })
        .collect();
    let headers = conditions.iter().filter_map(|condition| condition.http_header_config.as_ref()?.http_header_name.clone());
    let wanted = conditions.iter().filter(|condition| condition.http_header_config.is_none()).flat_map(|condition| {
        let hosts = condition.host_header_config.iter().flat_map(|config| config.values.iter().flatten());
        let paths = condition.path_pattern_config.iter().flat_map(|config| config.values.iter().flatten());
        let mut wanted: Vec<String> = hosts.chain(paths).chain(condition.values.iter().flatten()).cloned().collect();
        wanted.dedup();
        wanted
    });
    (!groups.is_empty()).then(|| Forward { groups, wanted: wanted.collect(), headers: headers.collect() })
}
