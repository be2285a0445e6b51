//! A cluster's own hosts: is there room for the tasks of a rollout beside those that run?

use serde_json::Value;

use crate::aws::{Aws, Placement, Room, TaskDefinition};

use super::{Sheet, see};

const CHECK: &str = "hosts-room";

/// Looks at the hosts of a service that does not run on Fargate.
pub(super) async fn inspect(aws: &Aws, cluster: &str, placement: &Placement, definition: &TaskDefinition, sheet: &mut Sheet) {
    if placement.capacity.contains("FARGATE") {
        return;
    }
    let rooms = match see(aws.room(cluster)).await {
        Ok(rooms) => rooms,
        Err(why) => return sheet.unseen(CHECK, why),
    };
    let hosts: Vec<&Room> = rooms.iter().filter(|room| room.status == "ACTIVE").collect();
    if hosts.is_empty() && placement.capacity == "EC2" {
        return sheet.fail(CHECK, format!("no host of `{cluster}` takes tasks"), "add hosts to the cluster, or run the service on Fargate");
    }
    if hosts.is_empty() {
        return sheet.unseen(CHECK, format!("`{}` has no hosts at present, and may add some", placement.capacity));
    }
    let (cpu, memory) = size(definition.document());
    let fits: i64 = hosts.iter().map(|room| times(room.cpu.0, cpu).min(times(room.memory.0, memory)).max(0)).sum();
    let size = format!("of {cpu} CPU units and {memory} MiB");
    if fits > 0 {
        sheet.ok(CHECK, format!("{fits} more tasks {size} fit on the {} hosts of `{cluster}`", hosts.len()));
    } else {
        sheet.warn(
            CHECK,
            format!("no task {size} fits on the {} hosts of `{cluster}` beside those that run: a rollout finds no room", hosts.len()),
            "add a host, lower what a task asks for, or lower minimumHealthyPercent so that old tasks make room",
        );
    }
}

fn times(left: i32, each: i64) -> i64 {
    // What asks for nothing fits everywhere.
    i64::from(left).checked_div(each).unwrap_or(i64::from(i32::MAX))
}

/// What a task asks for: its own size, else that of its containers together.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html>
fn size(document: &Value) -> (i64, i64) {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| *number > 0);
    let of = |keys: &[&str]| {
        let get = |value: &Value| keys.iter().find_map(|key| value.get(key).and_then(number));
        get(document).unwrap_or_else(|| {
            let containers = document.get("containerDefinitions").and_then(Value::as_array);
            containers.into_iter().flatten().filter_map(get).sum()
        })
    };
    (of(&["cpu"]), of(&["memoryReservation", "memory"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_is_as_large_as_it_says_or_as_its_containers() {
        assert_eq!(size(&json!({"cpu": "256", "memory": "512", "containerDefinitions": [{"cpu": 10, "memory": 64}]})), (256, 512));
        let containers = json!([{"cpu": 10, "memory": 128, "memoryReservation": 64}, {"cpu": 5, "memory": 32}]);
        assert_eq!(size(&json!({"containerDefinitions": containers})), (15, 96));
        assert_eq!((times(100, 0), times(100, 60)), (i64::from(i32::MAX), 1));
    }
}
