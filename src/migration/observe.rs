//! Looks for what a migration runs in.

use std::path::Path;

use crate::aws::{Aws, AwsError};
use crate::config::{Driver, Framework, Migration, Service};
use crate::journal::{Journal, JournalError};
use crate::model::{Exit, Failure, Refusal, Sha256, UnitName};

use super::checkout::{self, History};
use super::plan::{Found, FoundFunction};
use super::verdict::Answer;

/// The function, the task definition or the machine that migrates. `root` is the configuration's directory.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn found(aws: &Aws, root: &Path, migration: &Migration, service: &Service) -> Result<Found, Failure> {
    match migration.driver {
        Driver::LambdaImage | Driver::LambdaZip => {
            function(aws, root, migration.function.as_deref().unwrap_or_default(), &root.join(&service.path), migration).await
        }
        Driver::Task => task_definition(aws, migration, service).await,
        Driver::Local => Ok(Found::Machine),
    }
}

async fn function(aws: &Aws, root: &Path, name: &str, code: &Path, migration: &Migration) -> Result<Found, Failure> {
    let found = aws.function(name).await;
    let found = found.map_err(|error| failed(&format!("the function `{name}`"), error))?;
    Ok(found.map_or(Found::NoFunction, |function| {
        Found::Function(FoundFunction {
            code: function.code().map(str::to_owned),
            package_type: function.package_type,
            zip: migration.zip.as_ref().map(|file| zip(&root.join(file))),
            runtime: function.runtime,
            handler: function.handler,
            timeout: function.timeout,
            architecture: function.architecture,
            has_command: !function.image_command.is_empty(),
            plain_application: is_plain(code, migration.framework),
        })
    }))
}

/// Why the database cannot have a snapshot taken of it, if it cannot.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn snapshot_refusal(aws: &Aws, name: &UnitName, instance: &str) -> Result<Option<Refusal>, Failure> {
    let found = match aws.db_instances(Some(instance)).await {
        Err(error) if error.is_not_found() || error.code().is_some_and(|code| code.contains("NotFound")) => Vec::new(),
        found => found.map_err(|error| failed(&format!("the database `{instance}`"), error))?,
    };
    Ok(found.is_empty().then(|| {
        let what = format!("migration `{name}`: there is no RDS instance `{instance}` to take a snapshot of");
        Refusal::new(what, "correct `snapshot`: the identifier of an instance, also for an Aurora cluster")
    }))
}

/// The digest of a zip that was made elsewhere; or why it cannot be taken.
fn zip(path: &Path) -> Result<Sha256, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(b"PK") { Ok(Sha256::of(&bytes)) } else { Err("it does not begin as one".to_owned()) }
}

/// What is known of a database's past: by the handler of windlass's that is live, else by what earlier answers have told.
///
/// # Errors
/// The state cannot be read.
pub async fn history(
    aws: &Aws,
    journal: Option<&Journal>,
    root: &Path,
    name: &UnitName,
    migration: &Migration,
    service: &Service,
    found: &Found,
) -> Result<History, JournalError> {
    let kind = match migration.framework {
        Framework::Django => checkout::Kind::Django,
        Framework::Prisma => checkout::Kind::Prisma,
        Framework::Command => return Ok(History { by: "a command does not tell what it applies".to_owned(), ..History::default() }),
    };
    let folder = root.join(&service.path);
    let checkout = tokio::task::spawn_blocking(move || checkout::migrations(&folder, kind)).await.unwrap_or_default();
    let unknown = |by: &str| History { checkout: checkout.clone(), applied: None, by: by.to_owned() };
    let Some(journal) = journal else { return Ok(unknown("`state: none`: nobody remembers what is applied")) };
    let past = journal.migration(name).await?;
    // Only a handler that is known to be windlass's is asked: any other may take the question for a migration.
    if let (Found::Function(function), Some(asked)) = (found, past.asked)
        && function.code.as_ref() == Some(&asked)
    {
        let event = serde_json::json!({ "action": "state", "databases": migration.databases });
        let name = migration.function.as_deref().unwrap_or_default();
        if let Ok(answer) = aws.invoke(name, None, &event, function.timeout).await
            && let Ok(Answer { all_applied: Some(applied), .. }) = serde_json::from_str(&answer.payload)
        {
            return Ok(History { checkout, applied: Some(applied), by: format!("the function `{name}`") });
        }
    }
    Ok(match past.applied {
        Some(applied) => History { checkout, applied: Some(applied), by: "earlier releases".to_owned() },
        None => unknown("no earlier release has told what is applied"),
    })
}

/// Is the directory such an application, that brings no Lambda runtime of its own?
fn is_plain(code: &Path, framework: Framework) -> bool {
    let read = |name: &str| std::fs::read_to_string(code.join(name)).unwrap_or_default();
    let is_application = match framework {
        Framework::Django => code.join("manage.py").is_file(),
        Framework::Prisma => ["prisma/schema.prisma", "prisma/schema", "schema.prisma"].iter().any(|path| code.join(path).exists()),
        Framework::Command => false,
    };
    let runtimes = ["awslambdaric", "aws-lambda-ric", "aws_lambda_ric", "public.ecr.aws/lambda", "aws-lambda-rie", "amazon/aws-lambda-"];
    let told = ["Dockerfile", "requirements.txt", "pyproject.toml", "package.json", "Pipfile"].map(read).join("\n");
    is_application && !runtimes.iter().any(|runtime| told.contains(runtime))
}

async fn task_definition(aws: &Aws, migration: &Migration, service: &Service) -> Result<Found, Failure> {
    let what = format!("the service `{}`", service.service);
    let services = match aws.services(&service.cluster, &[&service.service]).await {
        Err(error) if error.is_not_found() => return Ok(Found::NoService),
        services => services.map_err(|error| failed(&what, error))?,
    };
    let Some(like) = services.into_iter().next() else { return Ok(Found::NoService) };
    let arn = migration.task_definition.clone().unwrap_or(like.task_definition);
    match aws.task_definition(&arn).await {
        Err(error) if error.is_not_found() => Ok(Found::NoTaskDefinition),
        definition => {
            let definition = definition.map_err(|error| failed(&format!("the task definition `{arn}`"), error))?;
            let containers = definition.containers.into_iter().map(|container| container.name).collect();
            Ok(Found::TaskDefinition(definition.arn, containers))
        }
    }
}

fn failed(what: &str, error: AwsError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again".to_owned());
    Failure::new(Exit::Preflight, format!("looking for {what} failed")).because(error).hint(hint)
}
