//! A service on ECS: where its tasks run, how it is rolled, scaled, watched and given secrets.

use crate::aws::{Alarm, Aws, Placement, TaskDefinition};
use crate::config::Service;
use crate::model::UnitName;

use super::database::Found;
use super::edge::Front;
use super::network::{Guests, Network, some};
use super::role::{Part, Used};
use super::{Seen, Sheet, balancer, image, log, references, room, secrets, see};

/// Looks at a service. It gives what leads on to databases, too.
pub(super) async fn inspect(aws: &Aws, name: &UnitName, service: &Service, fronts: &[Front]) -> (Sheet, Found) {
    let mut sheet = Sheet::of(format!("service `{name}`"));
    let mut found = Found::default();
    let (cluster, own) = (service.cluster.as_str(), service.service.as_str());
    let state = match see(aws.services(cluster, &[own])).await {
        Ok(services) => services.into_iter().next(),
        Err(why) => {
            sheet.unseen("circuit-breaker", why);
            return (sheet, found);
        }
    };
    let Some(state) = state else {
        sheet.unseen("circuit-breaker", format!("there is no service `{own}` in `{cluster}`"));
        return (sheet, found);
    };
    breaker(&state, &mut sheet);
    scaling(aws, cluster, own, state.desired, &mut sheet).await;
    balancer::inspect(aws, &state.target_groups, fronts, &mut sheet).await;
    alarms(&see(aws.alarms()).await, own, &state, &mut sheet);
    let placement = see(aws.placement(cluster, own)).await;
    match &placement {
        Ok(Some(placement)) => tasks(aws, cluster, placement, &mut found, &mut sheet).await,
        Ok(None) => {}
        Err(why) => sheet.unseen("tasks-private", why.clone()),
    }
    image::inspect(aws, service, &mut sheet).await;
    match see(aws.task_definition(&state.task_definition)).await {
        Ok(definition) => {
            if let Ok(Some(placement)) = &placement {
                room::inspect(aws, cluster, placement, &definition, &mut sheet).await;
            }
            revision(aws, name, &definition, &mut found, &mut sheet).await;
        }
        Err(why) => {
            sheet.unseen("secrets-by-reference", why.clone());
            sheet.unseen("logs-kept", why);
        }
    }
    (sheet, found)
}

fn breaker(state: &crate::aws::Service, sheet: &mut Sheet) {
    const CHECK: &str = "circuit-breaker";
    let cure = "turn on the deployment circuit breaker, with rollback";
    match state.circuit_breaker {
        _ if state.controller != "ECS" => {
            sheet.warn(
                CHECK,
                format!("the service is rolled by {}, not by ECS", state.controller),
                "give it the ECS deployment controller",
            );
        }
        Some(breaker) if breaker.enabled && breaker.rollback => {
            sheet.ok(CHECK, "a deployment whose tasks keep failing is given up and rolled back");
        }
        Some(breaker) if breaker.enabled => {
            sheet.warn(CHECK, "a deployment whose tasks keep failing is given up and not rolled back", cure);
        }
        _ => sheet.warn(CHECK, "a deployment whose tasks keep failing is tried for ever (windlass itself gives it up)", cure),
    }
}

async fn scaling(aws: &Aws, cluster: &str, service: &str, desired: i32, sheet: &mut Sheet) {
    const CHECK: &str = "auto-scaling";
    let cure = "register the service with Application Auto Scaling: 2 tasks at the least, a target of 70 % CPU, say";
    let least = match see(aws.scaling(cluster, service)).await {
        Err(why) => {
            sheet.unseen(CHECK, why);
            desired
        }
        Ok(None) => {
            sheet.warn(CHECK, format!("it is always {desired} tasks, whatever the traffic"), cure);
            desired
        }
        Ok(Some(scaling)) if scaling.policies == 0 => {
            sheet.warn(CHECK, format!("it may have {} to {} tasks, and no policy says when", scaling.min, scaling.max), cure);
            scaling.min
        }
        Ok(Some(scaling)) => {
            sheet.ok(CHECK, format!("{} to {} tasks, policies: {}", scaling.min, scaling.max, scaling.policies));
            scaling.min
        }
    };
    if least > 1 {
        sheet.ok("task-count", format!("{least} tasks at the least"));
    } else {
        sheet.warn("task-count", format!("{least} tasks at the least: where one fails nothing serves"), "let it have 2 tasks or more");
    }
}

/// Alarms that end a deployment, or that watch the service or its load balancer.
fn alarms(all: &Seen<Vec<Alarm>>, service: &str, state: &crate::aws::Service, sheet: &mut Sheet) {
    const CHECK: &str = "alarms";
    let cure = "alarm on 5xx answers, unhealthy hosts and CPU, with an action; and name the alarms in the deployment configuration, so that it is rolled back";
    if !state.alarms.is_empty() {
        return sheet.ok(CHECK, format!("a deployment ends when one of {} goes off", some(&state.alarms)));
    }
    let all = match all {
        Ok(all) => all,
        Err(why) => return sheet.unseen(CHECK, why.clone()),
    };
    let groups: Vec<&str> = state.target_groups.iter().filter_map(|arn| arn.find("targetgroup/").map(|at| &arn[at..])).collect();
    let ours = |alarm: &&Alarm| {
        let is = |key: &str, value: &str| alarm.dimensions.get(key).is_some_and(|found| found == value);
        is("ServiceName", service) || groups.iter().any(|group| is("TargetGroup", group))
    };
    let ours: Vec<&Alarm> = all.iter().filter(ours).collect();
    let silent: Vec<&str> = ours.iter().filter(|alarm| !alarm.acts).map(|alarm| alarm.name.as_str()).collect();
    if ours.is_empty() {
        sheet.warn(CHECK, "no alarm watches the service or its target group", cure);
    } else if ours.len() == silent.len() {
        sheet.warn(CHECK, format!("{} go off and tell nobody", some(&silent)), "give them actions, and turn the actions on");
    } else {
        let names: Vec<&str> = ours.iter().map(|alarm| alarm.name.as_str()).collect();
        sheet.ok(CHECK, format!("it is watched by {}", some(&names)));
    }
}

async fn tasks(aws: &Aws, cluster: &str, placement: &Placement, found: &mut Found, sheet: &mut Sheet) {
    const CHECK: &str = "tasks-private";
    let (subnets, groups, public_ip) = if placement.subnets.is_empty() {
        // Tasks that share their host's network are where the hosts are.
        match see(aws.hosts(cluster)).await {
            Ok(hosts) if hosts.is_empty() => {
                return sheet.unseen(CHECK, "no host of the cluster is there, and tasks have no network of their own");
            }
            Ok(hosts) => {
                let subnets: std::collections::BTreeSet<String> = hosts.iter().map(|host| host.subnet.clone()).collect();
                let groups: std::collections::BTreeSet<String> = hosts.iter().flat_map(|host| host.security_groups.clone()).collect();
                (subnets.into_iter().collect(), groups.into_iter().collect(), hosts.iter().any(|host| host.public_ip))
            }
            Err(why) => return sheet.unseen(CHECK, why),
        }
    } else {
        (placement.subnets.clone(), placement.security_groups.clone(), placement.public_ip)
    };
    let network = match Network::of(aws, &subnets).await {
        Ok(network) => network,
        Err(why) => return sheet.unseen(CHECK, why),
    };
    found.vpcs.extend(network.vpcs().into_iter().map(str::to_owned));
    found.groups.extend(groups.iter().cloned());
    let guests = Guests::of(aws, &groups).await;
    let public = network.public();
    let everyone = guests.as_ref().is_ok_and(|guests| !guests.everyone.is_empty());
    let cure = "run them in private subnets, with a NAT gateway or VPC endpoints (ecr.api, ecr.dkr, s3, logs, secretsmanager), and let in the load balancer's security group alone";
    if public_ip && !public.is_empty() {
        let closed = match &guests {
            Ok(guests) if guests.everyone.is_empty() => "; their security groups let nobody in from the internet",
            Ok(_) => "; and their security groups let anybody in",
            Err(_) => "",
        };
        let seen = format!(
            "tasks have public addresses in {}{closed}: without one, an image or a secret is not reached from a public subnet",
            some(&public)
        );
        if everyone {
            sheet.fail(CHECK, seen, cure);
        } else {
            sheet.warn(CHECK, seen, cure);
        }
        return;
    }
    match &guests {
        Ok(guests) if everyone => {
            let seen = format!("no task has a public address, but {} let anybody in", some(&guests.everyone));
            sheet.warn(CHECK, seen, "let in the load balancer's security group alone");
        }
        Err(why) => sheet.ok(CHECK, format!("no task has a public address (its security groups were not seen: {why})")),
        Ok(_) => sheet.ok(CHECK, format!("no task has a public address, in {} subnets of {} zones", subnets.len(), network.zones())),
    }
    way_out(aws, &network, &public, sheet).await;
}

/// Tasks without a public address need a way to the registry: NAT, or endpoints of the VPC.
async fn way_out(aws: &Aws, network: &Network, public: &[&str], sheet: &mut Sheet) {
    const CHECK: &str = "tasks-egress";
    let cure = "add a NAT gateway's route, or the VPC endpoints ecr.api, ecr.dkr, s3, logs and secretsmanager";
    if !public.is_empty() {
        let seen = format!("tasks without public addresses are in the public subnets {}, where nothing leads out for them", some(public));
        return sheet.warn(CHECK, seen, "move them to private subnets with a NAT gateway or VPC endpoints");
    }
    let closed = network.closed();
    let Some(vpc) = network.vpcs().into_iter().next().filter(|_| !closed.is_empty()) else {
        return sheet.ok(CHECK, "every subnet of the tasks has a way out");
    };
    match see(aws.vpc_endpoints(vpc)).await {
        Err(why) => sheet.unseen(CHECK, why),
        Ok(services) if services.iter().any(|service| service.ends_with(".ecr.dkr")) => {
            sheet.ok(CHECK, "images come by VPC endpoints, and nothing else goes out");
        }
        Ok(_) => sheet.warn(
            CHECK,
            format!("nothing leads out of {}, and the VPC has no endpoint for ECR: no image can be pulled", some(&closed)),
            cure,
        ),
    }
}

async fn revision(aws: &Aws, name: &UnitName, definition: &TaskDefinition, found: &mut Found, sheet: &mut Sheet) {
    const CHECK: &str = "secrets-by-reference";
    let cure = "put the value into Secrets Manager, and name it under `secrets` (`valueFrom`) instead of `environment`; change the value, too, as every reader of the task definition has seen it";
    let mut plain = Vec::new();
    let mut references = 0;
    for container in &definition.containers {
        plain.extend(secrets::plain(&container.environment));
        references += container.secrets.len();
        found.hosts.extend(container.environment.values().cloned());
    }
    if plain.is_empty() {
        sheet.ok(CHECK, format!("by reference: {references}; no plain variable looks like a secret"));
    } else {
        sheet.fail(CHECK, format!("{} are written plainly into {}", some(&plain), definition.family), cure);
    }
    if references > 0 && definition.execution_role.is_none() {
        sheet.fail(
            "execution-role",
            "secrets are referred to, and no execution role may read them",
            "give the task definition an `executionRoleArn`",
        );
    }
    let reads = references::inspect(aws, definition, sheet).await;
    let used = |arn: &String, part, reads| Used { arn: arn.clone(), part, by: format!("service `{name}`"), reads };
    found.roles.extend(definition.execution_role.as_ref().map(|arn| used(arn, Part::Execution, reads)));
    found.roles.extend(definition.task_role.as_ref().map(|arn| used(arn, Part::Application, std::collections::BTreeSet::new())));
    match &definition.task_role {
        Some(role) => sheet.ok("task-role", format!("the application acts as `{}`", role.rsplit('/').next().unwrap_or(role))),
        None => sheet.ok("task-role", "the application has no role of its own: it reads no secret, bucket or queue by itself"),
    }
    let size = |key: &str| definition.document().get(key).is_some_and(|value| !value.is_null());
    let each = |key: &str| {
        let containers = definition.document().get("containerDefinitions").and_then(serde_json::Value::as_array);
        containers.is_some_and(|all| all.iter().all(|one| one.get(key).and_then(serde_json::Value::as_i64).is_some_and(|value| value > 0)))
    };
    if size("memory") || each("memory") || each("memoryReservation") {
        sheet.ok("task-size", "CPU and memory of a task are said");
    } else {
        sheet.warn("task-size", "no memory is said for a task: one may take its neighbours' away", "set `cpu` and `memory`");
    }
    log::inspect(aws, &definition.containers, sheet).await;
}
