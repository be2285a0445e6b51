//! `windlass policy`.

use std::process::ExitCode;

use crate::event;
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
        None => policy::policy(config, &Stage::ALL),
        Some(PolicyOf::Stage(stage)) => policy::policy(config, &[stage]),
        Some(PolicyOf::Verify) => verify::policy(config),
    })?;
    Ok(ExitCode::SUCCESS)
}
