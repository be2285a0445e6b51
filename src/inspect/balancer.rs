//! The load balancers of a service: who gets through to it.

use crate::aws::{Aws, Balancer, BalancerListener, EdgeOrigin};

use super::edge::{Front, is_server};
use super::network::{Guests, Network, some};
use super::{Sheet, see};

/// Looks at the load balancers of a service's target groups.
pub(super) async fn inspect(aws: &Aws, groups: &[String], fronts: &[Front], sheet: &mut Sheet) {
    if groups.is_empty() {
        return sheet.ok("load-balancer", "it has none: nothing reaches it from outside by its service");
    }
    for group in groups {
        let short = group.rsplit("targetgroup/").next().unwrap_or(group);
        let balancers = match see(aws.balancers(group)).await {
            Ok(balancers) => balancers,
            Err(why) => {
                for check in ["load-balancer", "load-balancer-closed", "load-balancer-header"] {
                    sheet.unseen(check, why.clone());
                }
                continue;
            }
        };
        if balancers.is_empty() {
            sheet.fail(
                "load-balancer",
                format!("the target group `{short}` belongs to no load balancer: nobody reaches the service"),
                "forward to it by a rule of a listener",
            );
        }
        for balancer in balancers {
            routes(&balancer, group, sheet);
            subnets(aws, &balancer, sheet).await;
            let origins: Vec<(&Front, &EdgeOrigin)> = origins(&balancer, fronts);
            guests(aws, &balancer, !origins.is_empty(), sheet).await;
            header(&balancer, group, &origins, sheet);
            if origins.is_empty() {
                encryption(&balancer, group, sheet);
            }
        }
    }
}

/// The origins that are this load balancer, by its own name or by one that nobody here can tell.
fn origins<'a>(balancer: &Balancer, fronts: &'a [Front]) -> Vec<(&'a Front, &'a EdgeOrigin)> {
    let all = || fronts.iter().flat_map(|front| front.origins.iter().map(move |origin| (front, origin)));
    let own: Vec<_> = all().filter(|(_, origin)| origin.domain.eq_ignore_ascii_case(&balancer.host)).collect();
    // A certificate needs a name of one's own, which leads here by DNS.
    if own.is_empty() { all().filter(|(_, origin)| is_server(origin) && !origin.domain.contains(".elb.")).collect() } else { own }
}

fn routes(balancer: &Balancer, group: &str, sheet: &mut Sheet) {
    let listeners = balancer.listeners.iter().flat_map(|listener| listener.forwards.iter().map(move |forward| (listener, forward)));
    let ways: Vec<String> = listeners
        .filter(|(_, forward)| forward.groups.iter().any(|one| one == group))
        .map(|(listener, forward)| {
            let wanted = if forward.wanted.is_empty() { "everything".to_owned() } else { forward.wanted.join(" ") };
            format!("{} {}: {wanted}", listener.protocol, listener.port)
        })
        .collect();
    if ways.is_empty() {
        let seen = format!("no listener of `{}` forwards to the service's target group", balancer.name);
        sheet.fail("load-balancer", seen, "add a rule that forwards the service's paths or hosts to it");
    } else {
        sheet.ok("load-balancer", format!("`{}` forwards to it ({})", balancer.name, some(&ways)));
    }
}

/// Of what CloudFront reaches, `origin-tls` tells.
fn encryption(balancer: &Balancer, group: &str, sheet: &mut Sheet) {
    const CHECK: &str = "load-balancer-tls";
    let ours = |listener: &&BalancerListener| listener.forwards.iter().any(|forward| forward.groups.iter().any(|one| one == group));
    let plain = |listener: &&BalancerListener| matches!(listener.protocol.as_str(), "HTTP" | "TCP" | "UDP" | "TCP_UDP");
    let open: Vec<String> =
        balancer.listeners.iter().filter(ours).filter(plain).map(|one| format!("{} {}", one.protocol, one.port)).collect();
    if !open.is_empty() && balancer.public {
        let cure = "add an HTTPS listener with a certificate, and have the one for HTTP redirect to it; or put CloudFront in front";
        sheet.warn(CHECK, format!("`{}` forwards what comes without TLS, from the internet ({})", balancer.name, some(&open)), cure);
    } else if open.is_empty() && balancer.listeners.iter().any(|listener| ours(&listener)) {
        sheet.ok(CHECK, format!("`{}` forwards only what comes by TLS", balancer.name));
    }
}

async fn subnets(aws: &Aws, balancer: &Balancer, sheet: &mut Sheet) {
    const CHECK: &str = "load-balancer-subnets";
    match Network::of(aws, &balancer.subnets).await {
        Err(why) => sheet.unseen(CHECK, why),
        Ok(network) if network.zones() < 2 => {
            sheet.warn(CHECK, format!("`{}` is in one zone only", balancer.name), "give it subnets in two zones or more");
        }
        Ok(network) if balancer.public && network.public().is_empty() => {
            let seen = format!("`{}` is to be reached from the internet, and none of its subnets has a way there", balancer.name);
            sheet.fail(CHECK, seen, "put it into public subnets, or make it internal behind a VPC origin");
        }
        Ok(network) => {
            let what = if balancer.public { "public subnets" } else { "subnets, internal" };
            sheet.ok(CHECK, format!("`{}` is in {what} of {} zones", balancer.name, network.zones()));
        }
    }
}

async fn guests(aws: &Aws, balancer: &Balancer, fronted: bool, sheet: &mut Sheet) {
    const CHECK: &str = "load-balancer-closed";
    let cure =
        "let in the managed prefix list com.amazonaws.global.cloudfront.origin-facing alone, or make it internal behind a VPC origin";
    if !balancer.public {
        return sheet.ok(CHECK, format!("`{}` is internal: the internet does not reach it", balancer.name));
    }
    match Guests::of(aws, &balancer.security_groups).await {
        Err(why) => sheet.unseen(CHECK, why),
        Ok(guests) if !guests.everyone.is_empty() && fronted => {
            let seen = format!("anybody reaches `{}` past CloudFront ({})", balancer.name, some(&guests.everyone));
            sheet.fail(CHECK, seen, cure);
        }
        Ok(guests) if !guests.everyone.is_empty() => {
            let seen = format!("anybody reaches `{}`, which is the service's own address ({})", balancer.name, some(&guests.everyone));
            sheet.warn(CHECK, seen, "put CloudFront in front of it, with TLS and a web ACL, and let nobody else in");
        }
        Ok(guests) if !guests.addresses.is_empty() || !guests.lists.is_empty() => {
            let others = [guests.addresses, guests.lists].concat();
            sheet.warn(CHECK, format!("`{}` lets in more than CloudFront: {}", balancer.name, some(&others)), cure);
        }
        Ok(guests) if guests.cloudfront => sheet.ok(CHECK, format!("`{}` lets in CloudFront's addresses alone", balancer.name)),
        Ok(guests) if guests.groups.is_empty() => sheet.warn(CHECK, format!("`{}` lets nobody in", balancer.name), cure),
        Ok(guests) => sheet.ok(CHECK, format!("`{}` lets in {} alone", balancer.name, some(&guests.groups))),
    }
}

/// CloudFront's addresses are those of everybody's distributions: only a secret header tells one's own.
fn header(balancer: &Balancer, group: &str, origins: &[(&Front, &EdgeOrigin)], sheet: &mut Sheet) {
    const CHECK: &str = "load-balancer-header";
    if !balancer.public || origins.is_empty() || origins.iter().all(|(_, origin)| origin.in_vpc) {
        return;
    }
    let cure = "have the distribution add a header with a secret value, and forward only requests that have it (condition `http-header`)";
    let forwards = balancer.listeners.iter().flat_map(|listener| &listener.forwards);
    let ours: Vec<_> = forwards.filter(|forward| forward.groups.iter().any(|one| one == group)).collect();
    let Some(forward) = ours.iter().find(|forward| forward.headers.is_empty()) else {
        let asked = ours.iter().flat_map(|forward| &forward.headers);
        let sent = |name: &String| origins.iter().any(|(_, origin)| origin.headers.iter().any(|header| header.eq_ignore_ascii_case(name)));
        if let Some(name) = asked.clone().find(|name| !sent(name)) {
            let ids: Vec<&str> = origins.iter().map(|(front, _)| front.id.as_str()).collect();
            let seen = format!("`{}` asks for the header `{name}`, which {} does not add", balancer.name, some(&ids));
            return sheet.fail(CHECK, seen, "let the distribution's origin add it, with the value that the rule asks for");
        }
        if let Some(name) = asked.clone().next() {
            sheet.ok(CHECK, format!("`{}` forwards only requests with the header `{name}`, which the distribution adds", balancer.name));
        }
        return;
    };
    let wanted = if forward.wanted.is_empty() { "everything".to_owned() } else { forward.wanted.join(" ") };
    let seen = format!("`{}` forwards {wanted} without asking for a header: other people's distributions reach it, too", balancer.name);
    sheet.warn(CHECK, seen, cure);
}
