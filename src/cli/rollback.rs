//! `windlass rollback`.

use std::process::ExitCode;

use crate::model::{Exit, Failure, Invalid, ReleaseId, UnitName};
use crate::release;
use crate::report;

use super::arguments::{Common, Format, Rollback};
use super::{outputs, session};

pub(super) async fn run(common: &Common, verb: &Rollback) -> Result<ExitCode, Failure> {
    let (to, units) = parse(&verb.to)?;
    if verb.plan {
        let plan = session::with_reporter(common, false, async |events, _| {
            let request = session::request(common, &units, events).await?;
            release::plan_rollback(&request, to.as_ref(), events).await
        });
        let plan = plan.await?;
        match common.format {
            Format::Human => super::print(&report::plan_text(&plan))?,
            Format::Json => super::print_json(&plan)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let released = outputs::reported(common, &verb.outputs, "rollback", async |events, stop, watched| {
        let request = watched.request(&units, verb.locking.hold(), events).await?;
        release::rollback(&request, to.as_ref(), events, stop).await
    });
    let released = released.await?;
    let done = released.plan.restores.as_ref().map_or("rolled back".to_owned(), |to| format!("back to {to}, as"));
    super::release::say(common, &released, &done, &units)
}

/// Ids of releases begin with a date, which names of units do not.
fn parse(words: &[String]) -> Result<(Option<ReleaseId>, Vec<UnitName>), Failure> {
    let is_id = |word: &&String| word.len() > 9 && word.as_bytes()[8] == b'T' && word.bytes().take(8).all(|byte| byte.is_ascii_digit());
    let wrong = |invalid: Invalid| {
        let failure = Failure::new(Exit::Config, "the command line names neither a release nor a unit").because(invalid);
        failure.hint("`windlass history` prints the releases, `windlass status` the units")
    };
    let to = words.first().filter(is_id).map(|word| word.parse()).transpose().map_err(wrong)?;
    let units = words.iter().skip(usize::from(to.is_some())).map(|word| word.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    Ok((to, units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_may_be_a_release() {
        let words = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(words(&[]), (None, vec![]));
        let id = "20261121T054700123Z-1a2b3c4d";
        assert_eq!(words(&[id, "web"]), (Some(id.parse().unwrap()), vec!["web".parse().unwrap()]));
        assert_eq!(words(&["web"]), (None, vec!["web".parse().unwrap()]));
    }
}
