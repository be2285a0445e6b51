//! Databases and caches: those that variables name, else those that share the services' network.

use std::collections::BTreeSet;

use crate::aws::{Aws, Cache, DbInstance};
use crate::model::Check;

use super::network::{Guests, Network, some};
use super::role::Used;
use super::{Sheet, see};

/// What leads from a service to its databases.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Values of variables, in which a host may be named. They are never shown.
    pub(super) hosts: Vec<String>,
    pub(super) vpcs: Vec<String>,
    /// The security groups that it has.
    pub(super) groups: Vec<String>,
    /// The roles that it acts as.
    pub(super) roles: Vec<Used>,
}

/// What leads from all services to their databases.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    hosts: Vec<String>,
    vpcs: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Surroundings {
    pub(super) fn add(&mut self, found: Found) {
        self.hosts.extend(found.hosts);
        self.vpcs.extend(found.vpcs);
        self.groups.extend(found.groups);
    }

    /// By its own address, or by one of its cluster's, which its instances do not have:
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html>
    fn names_instance(&self, one: &DbInstance) -> bool {
        let of_cluster = |cluster: &String| self.names(&format!("{cluster}.cluster-"));
        one.address.as_deref().is_some_and(|address| self.names(address)) || one.cluster.as_ref().is_some_and(of_cluster)
    }

    fn names(&self, host: &str) -> bool {
        !host.is_empty() && self.hosts.iter().any(|value| value.contains(host))
    }
}

/// Looks at the databases, and at the caches that variables name.
pub(super) async fn inspect(aws: &Aws, around: &Surroundings) -> Vec<Check> {
    let mut checks = Vec::new();
    match see(aws.db_instances(None)).await {
        Err(why) => {
            let mut sheet = Sheet::of("databases");
            sheet.unseen("database-private", why);
            checks.extend(sheet.checks);
        }
        Ok(instances) => {
            let named: Vec<&DbInstance> = instances.iter().filter(|one| around.names_instance(one)).collect();
            let near = || instances.iter().filter(|one| one.vpc.as_ref().is_some_and(|vpc| around.vpcs.contains(vpc))).collect();
            let ours: Vec<&DbInstance> = if named.is_empty() { near() } else { named };
            if ours.is_empty() {
                let mut sheet = Sheet::of("databases");
                sheet.unseen("database-private", "no database is named by a variable, or shares the services' VPC");
                checks.extend(sheet.checks);
            }
            for one in ours {
                checks.extend(database(aws, one, around).await.checks);
            }
        }
    }
    if around.hosts.iter().any(|value| value.contains(".cache.amazonaws.com")) {
        checks.extend(caches(aws, around).await);
    }
    checks
}

async fn database(aws: &Aws, one: &DbInstance, around: &Surroundings) -> Sheet {
    let mut sheet = Sheet::of(format!("database `{}`", one.id));
    private(aws, one, &mut sheet).await;
    admission(aws, one, around, &mut sheet).await;
    if one.encrypted {
        sheet.ok("database-encrypted", "its storage is encrypted");
    } else {
        let cure = "copy a snapshot with encryption, and restore that: encryption cannot be turned on later";
        sheet.fail("database-encrypted", "its storage is not encrypted", cure);
    }
    match one.backup_days {
        0 => sheet.fail("database-backed-up", "no backups are made", "set a backup retention of 7 days or more"),
        days @ 1..7 => sheet.warn("database-backed-up", format!("backups are kept for {days} days"), "keep them for 7 days or more"),
        days => sheet.ok("database-backed-up", format!("backups are made daily and kept for {days} days")),
    }
    storage(one, &mut sheet);
    if one.deletion_protection {
        sheet.ok("database-protected", "it is held against deletion");
    } else {
        sheet.warn("database-protected", "one call deletes it", "turn deletion protection on");
    }
    if one.multi_az || one.cluster.is_some() {
        sheet.ok("database-available", "another instance or zone takes over when it fails");
    } else {
        sheet.warn("database-available", "it is in one zone only", "make it Multi-AZ, if it may not be away for an hour");
    }
    sheet
}

fn storage(one: &DbInstance, sheet: &mut Sheet) {
    const CHECK: &str = "database-storage";
    let what = format!("{} on {}", one.engine, one.class);
    match (&one.cluster, one.grows_to) {
        (Some(_), _) => sheet.ok(CHECK, format!("{what}; its cluster's storage grows by itself")),
        (None, Some(most)) if most > one.storage => {
            sheet.ok(CHECK, format!("{what}, {} GB that may grow to {most} GB", one.storage));
        }
        (None, _) => sheet.warn(
            CHECK,
            format!("{what}, {} GB that do not grow: a full disk stops it", one.storage),
            "turn storage autoscaling on, with a threshold (`MaxAllocatedStorage`) of twice its storage, say",
        ),
    }
}

async fn private(aws: &Aws, one: &DbInstance, sheet: &mut Sheet) {
    const CHECK: &str = "database-private";
    let cure = "make it not publicly accessible, in subnets without a route to the internet";
    let network = Network::of(aws, &one.subnets).await;
    let public = network.as_ref().map(Network::public).unwrap_or_default();
    match (&network, one.public) {
        (_, true) => sheet.fail(CHECK, "its address is a public one", cure),
        (Ok(_), false) if !public.is_empty() => {
            sheet.warn(CHECK, format!("it has no public address, but {} have a way to the internet", some(&public)), cure);
        }
        (Ok(network), false) if network.closed().len() == network.subnets.len() => {
            sheet.ok(CHECK, "it has no public address, and nothing leads out of its subnets");
        }
        (Ok(_), false) => sheet.ok(CHECK, "it has no public address, and its subnets are private"),
        (Err(why), false) => sheet.ok(CHECK, format!("it has no public address (its subnets were not seen: {why})")),
    }
}

async fn admission(aws: &Aws, one: &DbInstance, around: &Surroundings, sheet: &mut Sheet) {
    const CHECK: &str = "database-closed";
    let cure = "let in the security groups of the services and of the migration's function alone";
    match Guests::of(aws, &one.security_groups).await {
        Err(why) => sheet.unseen(CHECK, why),
        Ok(guests) if !guests.everyone.is_empty() => sheet.fail(CHECK, format!("{} let anybody in", some(&guests.everyone)), cure),
        Ok(guests) if !guests.addresses.is_empty() || !guests.lists.is_empty() => {
            let others = [guests.addresses, guests.lists].concat();
            sheet.warn(CHECK, format!("addresses are let in beside security groups: {}", some(&others)), cure);
        }
        Ok(guests) if guests.groups.is_empty() => sheet.warn(CHECK, "nobody is let in", cure),
        Ok(guests) if !around.groups.is_empty() && !guests.groups.iter().any(|group| around.groups.contains(group)) => {
            let ours: Vec<&String> = around.groups.iter().collect();
            let seen = format!("only {} are let in, and none of the services' own: {}", some(&guests.groups), some(&ours));
            sheet.warn(CHECK, seen, cure);
        }
        Ok(guests) => sheet.ok(CHECK, format!("only {} are let in", some(&guests.groups))),
    }
}

async fn caches(aws: &Aws, around: &Surroundings) -> Vec<Check> {
    const CHECK: &str = "cache-encrypted";
    let mut checks = Vec::new();
    let all: Vec<Cache> = match see(aws.caches()).await {
        Ok(all) => all,
        Err(why) => {
            let mut sheet = Sheet::of("caches");
            sheet.unseen(CHECK, why);
            return sheet.checks;
        }
    };
    for cache in all.iter().filter(|cache| cache.hosts.iter().any(|host| around.names(host))) {
        let mut sheet = Sheet::of(format!("cache `{}`", cache.id));
        match (cache.at_rest, cache.in_transit) {
            (true, true) => sheet.ok(CHECK, "what it holds and what goes there is encrypted"),
            (at_rest, _) => {
                let what = if at_rest { "what goes there is not encrypted" } else { "what it holds is not encrypted" };
                sheet.warn(CHECK, what, "turn on encryption in transit and at rest (at rest needs a new group)");
            }
        }
        checks.extend(sheet.checks);
    }
    checks
}
