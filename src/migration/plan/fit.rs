//! Does what a migration runs in fit it? What preflight has found, and why it is refused.

use std::time::Duration;

use crate::config::{Driver, Framework, Handler, Migration, Service};
use crate::model::{Refusal, Sha256, UnitName};

use super::{container, kind};

/// What a migration runs in, as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no such function.
    NoFunction,
    /// A function.
    Function(FoundFunction),
    /// There is no such service, or its cluster is not there.
    NoService,
    /// The task definition that a task is made of: its ARN, and its containers.
    TaskDefinition(String, Vec<String>),
    /// There is no such task definition.
    NoTaskDefinition,
    /// This machine.
    Machine,
}

/// The function of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFunction {
    /// `Image` or `Zip`.
    pub package_type: String,
    /// What its code is: an image by its digest, or a zip's SHA-256 in base64.
    pub code: Option<String>,
    /// `python3.13`, `nodejs22.x`; `None` for an image.
    pub runtime: Option<String>,
    /// `MODULE.FUNCTION` of a zip.
    pub handler: Option<String>,
    /// The zip that was made elsewhere, or why it cannot be taken; `None` where none is named.
    pub zip: Option<Result<Sha256, String>>,
    /// How long it may take.
    pub timeout: Duration,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Does its configuration say what the image runs: a handler of the application's own?
    pub has_command: bool,
    /// Is the code of the service such an application, without a Lambda runtime of its own?
    pub plain_application: bool,
}

/// Where a migration runs, in a few words.
#[must_use]
pub fn place(migration: &Migration, service: &Service) -> String {
    match migration.driver {
        Driver::LambdaImage | Driver::LambdaZip => format!("function `{}`", migration.function.as_deref().unwrap_or_default()),
        Driver::Task => format!("a task as of `{}` in cluster `{}`", service.service, service.cluster),
        Driver::Local => "this machine".to_owned(),
    }
}

/// Does native code out of the service's image run in the function?
fn takes_image(migration: &Migration) -> bool {
    migration.driver == Driver::LambdaImage || (migration.zip.is_none() && migration.framework != Framework::Prisma)
}

/// Why a zip does not fit its function, and what to do.
fn unfit_zip(migration: &Migration, found: &FoundFunction) -> Option<(String, String)> {
    let function = migration.function.as_deref().unwrap_or_default();
    if let Some(Err(why)) = &found.zip {
        let file = migration.zip.as_deref().unwrap_or_default();
        return Some((format!("`{file}` is no zip that can be taken: {why}"), "make it before the release, or correct `zip`".to_owned()));
    }
    if migration.handler == Some(Handler::Own) || migration.zip.is_some() {
        return None;
    }
    let wanted = if migration.framework == Framework::Prisma { "nodejs" } else { "python" };
    let runtime = found.runtime.as_deref().unwrap_or_default();
    if !runtime.starts_with(wanted) {
        let what = format!(
            "the function `{function}` runs on {}, and {} takes {wanted}",
            or(runtime, "no runtime of Lambda's"),
            migration.framework
        );
        return Some((what, format!("give the function a runtime of {wanted}, or name a `zip` made elsewhere")));
    }
    let handler = found.handler.as_deref().unwrap_or_default();
    kind(migration.framework).in_zip(handler).is_none().then(|| {
        let what = format!("the handler of the function `{function}` is `{handler}`, which names no module and function");
        (what, "give the function a handler such as `index.handler`: windlass puts a module of that name into its zip".to_owned())
    })
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// Why a migration cannot run, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, migration: &Migration, service: &Service, found: &Found) -> Option<Refusal> {
    let refused = |what: String, cure: String| Some(Refusal::new(format!("migration `{name}`: {what}"), cure));
    let function = migration.function.as_deref().unwrap_or_default();
    let (wanted, driver) = match migration.driver {
        Driver::LambdaZip => ("Zip", "lambda-zip"),
        _ => ("Image", "lambda-image"),
    };
    match found {
        Found::NoFunction => {
            let first = if wanted == "Image" { "; its first image can be pushed with `windlass stage images`" } else { "" };
            refused(
                format!("there is no Lambda function `{function}`"),
                format!("create it (package type {wanted}{first}), or correct `function`"),
            )
        }
        Found::Function(found) if found.package_type != wanted => refused(
            format!("the function `{function}` is made of a {}, and the driver is `{driver}`", found.package_type),
            format!("make a function of package type {wanted}: the type of a function cannot be changed"),
        ),
        Found::Function(found) if wanted == "Zip" && unfit_zip(migration, found).is_some() => {
            let (what, cure) = unfit_zip(migration, found).unwrap_or_default();
            refused(what, cure)
        }
        Found::Function(found) => {
            let platform = match &service.image {
                crate::config::Image::Build(image) => Some(image.platform.to_string()),
                crate::config::Image::Prebuilt(_) | crate::config::Image::Tag(_) => None,
            };
            let built_for = platform.map(|platform| if platform == "linux/arm64" { "arm64" } else { "x86_64" });
            let other =
                built_for.filter(|built_for| migration.image.is_none() && takes_image(migration) && *built_for != found.architecture)?;
            refused(
                format!("the function `{function}` runs on {}, and the image is built for {other}", found.architecture),
                "correct `image.platform`, or make the function anew with the other architecture".to_owned(),
            )
        }
        Found::NoService => refused(
            format!("there is no service `{}` in the cluster `{}` whose task could migrate", service.service, service.cluster),
            "create it with its infrastructure, or correct the names".to_owned(),
        ),
        Found::NoTaskDefinition => refused(
            format!("there is no task definition `{}`", migration.task_definition.as_deref().unwrap_or_default()),
            "create it, or correct `task_definition`".to_owned(),
        ),
        Found::TaskDefinition(arn, containers) => {
            let wanted = migration.container.clone().unwrap_or_else(|| container(migration, service, found));
            (!containers.contains(&wanted)).then(|| {
                let what = format!("migration `{name}`: `{arn}` has no container `{wanted}`");
                Refusal::new(what, format!("name one of its containers under `container`: {}", containers.join(", ")))
            })
        }
        Found::Machine => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{function, migration, service};
    use super::*;

    #[test]
    fn what_cannot_migrate_is_refused_with_words() {
        let refuse = |more: serde_json::Value, found| {
            refusal(&"main".parse().unwrap(), &migration(&more), &service(), &found).map(|refusal| refusal.what)
        };
        assert!(refuse(serde_json::json!({}), Found::NoFunction).unwrap().contains("no Lambda function `f`"));
        let zip = FoundFunction { package_type: "Zip".into(), ..function() };
        assert!(refuse(serde_json::json!({}), Found::Function(zip)).unwrap().contains("made of a Zip"));
        let arm = FoundFunction { architecture: "arm64".into(), ..function() };
        assert!(refuse(serde_json::json!({}), Found::Function(arm)).unwrap().contains("runs on arm64"));
        let task = Found::TaskDefinition("arn".into(), vec!["other".into()]);
        assert!(refuse(serde_json::json!({"driver": "task"}), task).unwrap().contains("no container `web`"));
        assert_eq!(refuse(serde_json::json!({}), Found::Function(function())), None);
    }
}
