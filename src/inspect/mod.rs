//! Looks at infrastructure that somebody else owns: is it guarded, is it kept, does it hold what a release relies on?
//!
//! What is looked at is found from the configuration outwards: a site's bucket, its distribution, that one's other origins; a service's
//! load balancers, tasks, network, roles and log; the databases that its variables name, or that share its network. Every look may be refused:
//! then the check is "not seen", and says which permission it lacks.
//!
//! Deliberately absent: writing anything, and what a release itself refuses (`release` looks for that).

mod balancer;
mod database;
mod edge;
mod functions;
mod grants;
mod image;
mod log;
mod migration;
mod network;
mod pipeline;
mod references;
mod role;
mod room;
mod secrets;
mod service;
mod sheet;
mod site;

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::aws::{Aws, AwsError};
use crate::config::Config;
use crate::model::{Check, UnitName};

use sheet::Sheet;

/// What was seen, or why it was not.
type Seen<T> = Result<T, String>;

/// The units that are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Units<'a> {
    /// Sites.
    pub sites: &'a BTreeSet<UnitName>,
    /// Services.
    pub services: &'a BTreeSet<UnitName>,
    /// Migrations.
    pub migrations: &'a BTreeSet<UnitName>,
}

/// Looks at all that the units stand on. It never fails: what cannot be seen is a check of its own.
pub async fn inspect(aws: &Aws, config: &Config, units: Units<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut edges = Vec::new();
    for name in units.sites {
        let (sheet, edge) = site::inspect(aws, name, &config.sites[name], config).await;
        checks.extend(sheet.checks);
        edges.extend(edge);
    }
    let services = join_all(units.services.iter().map(|name| service::inspect(aws, name, &config.services[name], &edges))).await;
    let mut surroundings = database::Surroundings::default();
    let mut roles = Vec::new();
    for (sheet, mut found) in services {
        checks.extend(sheet.checks);
        roles.append(&mut found.roles);
        surroundings.add(found);
    }
    for name in units.migrations {
        let (sheet, mut found) = migration::inspect(aws, name, &config.migrations[name]).await;
        checks.extend(sheet.checks);
        roles.append(&mut found.roles);
        surroundings.add(found);
    }
    if !units.services.is_empty() || !units.migrations.is_empty() {
        checks.extend(database::inspect(aws, &surroundings).await);
    }
    if !units.sites.is_empty() || !units.services.is_empty() {
        let (found, mut used) = pipeline::inspect(aws, config).await;
        checks.extend(found);
        roles.append(&mut used);
    }
    checks.extend(role::inspect(aws, &roles).await);
    checks
}

/// Why something was not seen, in words.
fn unseen(error: &AwsError) -> String {
    match error {
        error if error.is_denied() => format!("needs `{}`", error.operation()),
        error if error.is_unsupported() => format!("the endpoint does not know `{}`", error.operation()),
        error if error.is_not_found() => format!("it is not there: {error}"),
        error => error.to_string(),
    }
}

/// A look that may be refused.
async fn see<T>(look: impl Future<Output = Result<T, AwsError>>) -> Seen<T> {
    look.await.map_err(|error| unseen(&error))
}
