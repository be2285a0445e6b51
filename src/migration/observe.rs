//! Looks for what a migration runs in.

use std::path::Path;

use crate::aws::{Aws, AwsError};
use crate::config::{Driver, Framework, Migration, Service};
use crate::model::{Exit, Failure};

use super::plan::{Found, FoundFunction};

/// The function, the task definition or the machine that migrates. `root` is the configuration's directory.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn found(aws: &Aws, root: &Path, migration: &Migration, service: &Service) -> Result<Found, Failure> {
    match migration.driver {
        Driver::LambdaImage | Driver::LambdaZip => {
            function(aws, migration.function.as_deref().unwrap_or_default(), &root.join(&service.path), migration).await
        }
        Driver::Task => task_definition(aws, migration, service).await,
        Driver::Local => Ok(Found::Machine),
    }
}

async fn function(aws: &Aws, name: &str, code: &Path, migration: &Migration) -> Result<Found, Failure> {
    let found = aws.function(name).await;
    let found = found.map_err(|error| failed(&format!("the function `{name}`"), error))?;
    Ok(found.map_or(Found::NoFunction, |function| {
        Found::Function(FoundFunction {
            package_type: function.package_type,
            image: function.resolved_image.or(function.image),
            timeout: function.timeout,
            architecture: function.architecture,
            has_command: !function.image_command.is_empty(),
            plain_application: is_plain(code, migration.framework),
        })
    }))
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
