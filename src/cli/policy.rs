//! `windlass policy`.

use std::process::ExitCode;

use crate::event;
use crate::infra::policy;
use crate::model::{Failure, Stage};

use super::arguments::{Common, Policy};
use super::session;

pub(super) async fn run(common: &Common, verb: &Policy) -> Result<ExitCode, Failure> {
    // Nothing is asked of AWS, so that nothing is told.
    let (events, _) = event::channel(session::mask());
    let request = session::request(common, &[], &events).await?;
    let stages = verb.stage.map_or(Stage::ALL.to_vec(), |stage| vec![stage]);
    super::print_json(&policy::policy(&request.project.config, &stages))?;
    Ok(ExitCode::SUCCESS)
}
