//! A Next.js application's functions, behind the same distribution as its files.

use crate::aws::{Aws, Edge, EdgeOrigin};
use crate::config::Config;

use super::network::{Network, some};
use super::{Sheet, see};

/// Looks at the functions that a distribution leads to.
pub(super) async fn inspect(aws: &Aws, edge: &Edge, config: &Config, sheet: &mut Sheet) {
    let functions: Vec<&EdgeOrigin> = edge.origins.iter().filter(|origin| origin.is_function()).collect();
    if functions.is_empty() {
        return;
    }
    let open: Vec<&str> = functions.iter().filter(|origin| !origin.access_control).map(|origin| origin.domain.as_str()).collect();
    if open.is_empty() {
        sheet.ok("function-origin", "CloudFront signs its requests to the functions (their addresses have to ask for it: AWS_IAM)");
    } else {
        let cure = "set the function URL's authorisation to AWS_IAM, and give the origin an origin access control of type lambda";
        sheet.fail("function-origin", format!("requests to {} are not signed: anybody may send them", some(&open)), cure);
    }
    addresses(aws, &functions, config.app.as_str(), sheet).await;
    let images = edge.behaviours.iter().any(|behaviour| behaviour.path.trim_start_matches('/').starts_with("_next/image"));
    if images {
        sheet.ok("image-optimisation", "`/_next/image*` has a behaviour of its own");
    } else {
        let cure = "add a behaviour `/_next/image*` that leads to the image optimisation function, if the application has <Image />";
        sheet.warn("image-optimisation", "no behaviour is for `/_next/image*`", cure);
    }
    match see(aws.schedules(config.app.as_str())).await {
        Err(why) => sheet.unseen("warmer", why),
        Ok(rules) if rules.is_empty() => {
            let cure = "schedule a warmer with `rate(5 minutes)`, or keep functions warm by provisioned concurrency";
            sheet.warn("warmer", format!("no schedule's name begins with `{}`: functions start cold", config.app), cure);
        }
        Ok(rules) => {
            let shown: Vec<String> = rules.iter().map(|(name, schedule)| format!("{name}: {schedule}")).collect();
            sheet.ok("warmer", format!("scheduled: {}", some(&shown)));
        }
    }
}

/// Who may call the functions at their own addresses, and where do they run? Of the application's alone: their names begin with its.
async fn addresses(aws: &Aws, origins: &[&EdgeOrigin], app: &str, sheet: &mut Sheet) {
    const ADDRESS: &str = "function-address";
    const NETWORK: &str = "function-network";
    let hosts: Vec<&str> = origins.iter().map(|origin| origin.domain.as_str()).collect();
    let found = match see(aws.addressed(app, &hosts)).await {
        Ok(found) => found,
        Err(why) => return sheet.unseen(ADDRESS, why),
    };
    if found.is_empty() {
        return sheet.unseen(ADDRESS, format!("no function whose name begins with `{app}` has the address {}", some(&hosts)));
    }
    let open: Vec<&str> = found.iter().filter(|one| one.open).map(|one| one.function.as_str()).collect();
    if open.is_empty() {
        sheet.ok(ADDRESS, "their addresses answer signed requests alone");
    } else {
        let cure = "set the authorisation of the function's URL to AWS_IAM, and allow CloudFront `lambda:InvokeFunctionUrl`";
        sheet.fail(ADDRESS, format!("{} answer anybody at their own addresses", some(&open)), cure);
    }
    let outside: Vec<&str> = found.iter().filter(|one| one.subnets.is_empty()).map(|one| one.function.as_str()).collect();
    if !outside.is_empty() {
        let seen = format!("{} run outside a VPC: what is closed to the internet is closed to them", some(&outside));
        return sheet.warn(NETWORK, seen, "put them into private subnets, if they ask a database or a service inside");
    }
    let mut subnets: Vec<String> = found.iter().flat_map(|one| one.subnets.clone()).collect();
    subnets.sort();
    subnets.dedup();
    match Network::of(aws, &subnets).await {
        Err(why) => sheet.unseen(NETWORK, why),
        Ok(network) if network.public().is_empty() => sheet.ok(NETWORK, format!("they run in {} private subnets", subnets.len())),
        Ok(network) => {
            let seen = format!("they run in the public subnets {}, where nothing leads out for them", some(&network.public()));
            sheet.warn(NETWORK, seen, "move them to private subnets");
        }
    }
}
