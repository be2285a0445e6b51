//! `windlass stage`.

use std::process::ExitCode;

use crate::model::Failure;
use crate::release;

use super::arguments::{Common, StageVerb};
use super::outputs;

pub(super) async fn run(common: &Common, verb: &StageVerb) -> Result<ExitCode, Failure> {
    let name = format!("stage {}", verb.stage);
    let released = outputs::reported(common, &verb.outputs, &name, async |events, stop, watched| {
        let request = watched.request(&verb.units.units, verb.locking.hold(), events).await?;
        release::stage(&request, verb.stage, verb.release.clone(), events, stop).await
    });
    super::release::say(common, &released.await?, &format!("stage {} done, release", verb.stage), &verb.units.units)
}
