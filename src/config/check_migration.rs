//! What no type can say of migrations: which keys belong to which driver and framework.

use crate::model::UnitName;
use crate::model::yaml::Node;

use super::check::{place, unknown};
use super::read::Problem;
use super::{Config, Driver, Framework, Handler, Migration, State, Strategy};

pub(super) fn migration(config: &Config, file: &Node, name: &UnitName, migration: &Migration) -> Result<(), Problem> {
    let at = |key: &str| place(file, &["migrations", name.as_str(), key]);
    for (key, service) in std::iter::once(("from", &migration.from)).chain(migration.services.iter().map(|name| ("services", name))) {
        if !config.services.contains_key(service) {
            return Err(unknown(at(key), "service", service, config.services.keys()));
        }
    }
    let same = |other: &Migration| migration.database.is_some() && other.database == migration.database;
    if let Some((other, _)) = config.migrations.iter().find(|(other, one)| *other < name && same(one)) {
        let problem = Problem::new(at("database"), format!("the migrations `{other}` and `{name}` are both of this database"));
        return Err(problem.hint("make them one: services that share a database are listed under its `services`"));
    }
    let lambda = matches!(migration.driver, Driver::LambdaImage | Driver::LambdaZip);
    if lambda && migration.function.is_none() {
        return Err(Problem::new(at(""), format!("migration `{name}` names no `function`")).hint("name the Lambda function that migrates"));
    }
    if let Some((key, hint)) = misplaced(migration) {
        return Err(Problem::new(at(key), format!("`{key}` says nothing to the driver of migration `{name}`")).hint(hint));
    }
    if migration.command.as_ref().is_some_and(super::Words::is_empty) {
        return Err(Problem::new(at("command"), "`command` is empty").hint("write the command that migrates, or leave the key out"));
    }
    let bundled = migration.zip.is_some() || migration.image.is_some() || migration.handler == Some(Handler::Own);
    let commanded = migration.command.is_some() || migration.task_definition.is_some();
    if migration.framework == Framework::Command && !commanded && !(lambda && bundled) {
        let problem = Problem::new(at(""), format!("migration `{name}` is a `command`, and names none"));
        return Err(problem.hint("write `command`: a line for `sh`, or a list of words"));
    }
    if migration.strategy == Strategy::Stop && config.state == State::None {
        let problem = Problem::new(at("strategy"), format!("migration `{name}` stops services, and `state: none` remembers nothing"));
        return Err(problem.hint("name a bucket under `state`: how many tasks a service had is written there before it is stopped"));
    }
    Ok(())
}

/// A key that the driver would pass over in silence, and what to do instead.
fn misplaced(migration: &Migration) -> Option<(&'static str, &'static str)> {
    let driver = migration.driver;
    let lambda = matches!(driver, Driver::LambdaImage | Driver::LambdaZip);
    let own_command = migration.command.is_some() && migration.framework != Framework::Command;
    [
        ("zip", migration.zip.is_some() && driver != Driver::LambdaZip, "leave it out, or name the image under `image`"),
        ("image", migration.image.is_some() && driver != Driver::LambdaImage, "leave it out: it is for the driver `lambda-image`"),
        ("handler", migration.handler.is_some() && !lambda, "leave it out: only a function has a handler"),
        ("command", own_command && lambda, "leave it out: the function's handler knows its framework; or use `framework: command`"),
        ("task_definition", migration.task_definition.is_some() && driver != Driver::Task, "leave it out: it is for the driver `task`"),
        ("container", migration.container.is_some() && driver != Driver::Task, "leave it out: it is for the driver `task`"),
        ("env", !migration.env.is_empty() && driver != Driver::Local, "leave it out: tasks and functions have an environment of their own"),
        ("timeout", migration.timeout.is_some() && lambda, "leave it out: the function's own timeout holds"),
        (
            "databases",
            !migration.databases.is_empty() && migration.framework != Framework::Django,
            "leave it out: only Django knows its databases by name",
        ),
    ]
    .into_iter()
    .find_map(|(key, wrong, hint)| wrong.then_some((key, hint)))
}
