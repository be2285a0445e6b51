//! The function of a migration: where it runs, what it is given and what it acts as.

use std::collections::BTreeSet;

use crate::aws::Aws;
use crate::config::{Driver, Migration};
use crate::model::UnitName;

use super::database::Found;
use super::network::{Network, some};
use super::role::{Part, Used};
use super::{Sheet, secrets, see};

/// Looks at the function of a migration. It gives what leads on to databases and roles, too.
pub(super) async fn inspect(aws: &Aws, name: &UnitName, migration: &Migration) -> (Sheet, Found) {
    let mut sheet = Sheet::of(format!("migration `{name}`"));
    let mut found = Found::default();
    let (Driver::LambdaImage | Driver::LambdaZip, Some(function)) = (migration.driver, &migration.function) else { return (sheet, found) };
    let surroundings = match see(aws.surroundings(function)).await {
        Ok(Some(surroundings)) => surroundings,
        Ok(None) => {
            sheet.unseen("migration-network", format!("there is no function `{function}`"));
            return (sheet, found);
        }
        Err(why) => {
            sheet.unseen("migration-network", why);
            return (sheet, found);
        }
    };
    found.hosts.extend(surroundings.variables.values().cloned());
    found.groups.extend(surroundings.security_groups.iter().cloned());
    let used = |arn: &String| Used { arn: arn.clone(), part: Part::Migration, by: format!("migration `{name}`"), reads: BTreeSet::new() };
    found.roles.extend(surroundings.role.as_ref().map(used));
    if surroundings.subnets.is_empty() {
        let cure = "put it into the database's VPC, and let its security group in on the database's port";
        sheet.warn(
            "migration-network",
            format!("`{function}` is in no VPC: a database that is closed to the internet is closed to it"),
            cure,
        );
    } else {
        match Network::of(aws, &surroundings.subnets).await {
            Ok(network) => {
                found.vpcs.extend(network.vpcs().into_iter().map(str::to_owned));
                sheet.ok("migration-network", format!("`{function}` runs in {} subnets of the VPC", surroundings.subnets.len()));
            }
            Err(why) => sheet.unseen("migration-network", why),
        }
    }
    let plain = secrets::plain(&surroundings.variables);
    if plain.is_empty() {
        sheet.ok("secrets-by-reference", "no plain variable of the function looks like a secret");
    } else {
        let cure = "give the function the secret's ARN (`DATABASE_SECRET_ARN`, which windlass's handlers read), and change the value";
        sheet.fail("secrets-by-reference", format!("{} are written plainly into `{function}`", some(&plain)), cure);
    }
    (sheet, found)
}
