//! `windlass migration-handler`.

use std::process::ExitCode;

use crate::migration::handler::Kind;
use crate::model::{Exit, Failure};

use super::arguments::{HandlerFramework, MigrationHandler};

pub(super) fn run(verb: &MigrationHandler) -> Result<ExitCode, Failure> {
    let kind = match verb.framework {
        HandlerFramework::Django => Kind::Django,
        HandlerFramework::Prisma => Kind::Prisma,
        HandlerFramework::Command => Kind::Command,
    };
    let Some(folder) = &verb.output else {
        super::print(kind.handler().text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let dockerfile = format!("ARG BASE\n{}", kind.dockerfile("${BASE}", false));
    std::fs::create_dir_all(folder)
        .and_then(|()| kind.files().iter().try_for_each(|file| std::fs::write(folder.join(file.name), file.text)))
        .and_then(|()| std::fs::write(folder.join("Dockerfile"), dockerfile))
        .map_err(|error| {
            let failure = Failure::new(Exit::Config, format!("writing the handler into `{}` failed", folder.display())).because(error);
            failure.hint("name a directory that may be written with --output")
        })?;
    super::print(&format!("docker build --build-arg BASE=IMAGE@sha256:… {}\n", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
