//! `windlass stage`.

use std::process::ExitCode;

use crate::model::Failure;
use crate::release::{self, Request};

use super::arguments::{Common, StageVerb};
use super::{outputs, session};

pub(super) async fn run(common: &Common, verb: &StageVerb) -> Result<ExitCode, Failure> {
    let name = format!("stage {}", verb.stage);
    let released = outputs::reported(common, &verb.outputs, &name, async |events, stop| {
        let request = session::request(common, &verb.units.units, events).await?;
        let request = Request { hold: verb.locking.hold(), ..request };
        release::stage(&request, verb.stage, verb.release.clone(), events, stop).await
    });
    super::release::say(common, &released.await?, &format!("stage {} done, release", verb.stage))
}
