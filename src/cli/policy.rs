//! `windlass policy`.

use std::process::ExitCode;

use crate::config::{Image, Project};
use crate::event;
use crate::image::observe;
use crate::infra::{policy, verify};
use crate::model::{Failure, Stage};

use super::arguments::{Common, Policy, PolicyOf};
use super::session;

pub(super) async fn run(common: &Common, verb: &Policy) -> Result<ExitCode, Failure> {
    // Nothing is asked of AWS, so that nothing is told.
    let (events, _) = event::channel(session::mask());
    let request = session::request(common, &[], &events).await?;
    let config = &request.project.config;
    super::print_json(&match verb.of {
        None => policy::policy(config, &Stage::ALL, &bases(&request.project)),
        Some(PolicyOf::Stage(stage)) => policy::policy(config, &[stage], &bases(&request.project)),
        Some(PolicyOf::Verify) => verify::policy(config),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the images that are built begin with, as far as their Dockerfiles lie here.
fn bases(project: &Project) -> Vec<String> {
    let built = project.config.services.iter().filter_map(|(name, service)| match &service.image {
        Image::Build(image) => Some(observe::bases(&project.root, name, service, image)),
        Image::Prebuilt(_) | Image::Tag(_) => None,
    });
    built.flatten().collect()
}
