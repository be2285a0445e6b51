//! Where containers log to, and for how long it is kept.

use crate::aws::{Aws, Container};

use super::{Sheet, see};

const CHECK: &str = "logs-kept";

/// Looks at the log of each container.
pub(super) async fn inspect(aws: &Aws, containers: &[Container], sheet: &mut Sheet) {
    for container in containers.iter().filter(|container| container.essential) {
        let name = &container.name;
        let cure = "send it to CloudWatch Logs (`awslogs`, with a stream prefix), or to a collector by `awsfirelens`";
        match container.log_driver.as_deref() {
            None => sheet.warn(CHECK, format!("the container `{name}` logs nowhere: why it crashes nobody will know"), cure),
            Some("awslogs") => group(aws, name, container, sheet).await,
            Some(driver) => {
                sheet.unseen(CHECK, format!("the container `{name}` logs by `{driver}`, and how long that is kept is not to be seen here"));
            }
        }
    }
}

async fn group(aws: &Aws, name: &str, container: &Container, sheet: &mut Sheet) {
    let option = |key: &str| container.log_options.get(key).map(String::as_str);
    let Some(group) = option("awslogs-group") else {
        return sheet.warn(CHECK, format!("the container `{name}` names no log group"), "add the option `awslogs-group`");
    };
    if option("awslogs-region").is_some_and(|region| region != aws.region()) {
        return sheet.unseen(CHECK, format!("the container `{name}` logs to `{group}` in another region"));
    }
    match see(aws.log_retention(group)).await {
        Err(why) => sheet.unseen(CHECK, why),
        Ok(None) if option("awslogs-create-group") == Some("true") => {
            sheet.warn(
                CHECK,
                format!("the log group `{group}` of `{name}` is still to be made, and would be kept for ever"),
                "create it, with a retention",
            );
        }
        Ok(None) => {
            sheet.fail(CHECK, format!("there is no log group `{group}`: tasks of `{name}` cannot start"), "create it, with a retention");
        }
        Ok(Some(None)) => {
            sheet.warn(CHECK, format!("`{group}` is kept for ever"), "set a retention (`aws logs put-retention-policy`), 30 days or more");
        }
        Ok(Some(Some(days))) if days < 7 => {
            sheet.warn(
                CHECK,
                format!("`{group}` is kept for {days} days only"),
                "keep it for 30 days or more: failures are looked into later than that",
            );
        }
        Ok(Some(Some(days))) => sheet.ok(CHECK, format!("`{group}` is kept for {days} days")),
    }
    if option("awslogs-stream-prefix").is_none() {
        sheet.warn(
            "log-prefix",
            format!("the streams of `{name}` have no prefix: their tasks are not to be told"),
            "add `awslogs-stream-prefix`",
        );
    }
}
