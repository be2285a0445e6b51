//! What the reading verbs answer: what is live, and what preflight has found.

use serde::Serialize;

use super::{Refusal, UnitKind, UnitName};

/// What is live of an application in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The application.
    pub app: UnitName,
    /// The environment; empty without environments.
    pub environment: String,
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// Who is releasing now, if anybody is.
    pub releasing: Option<String>,
    /// The newest release, if it has failed, or was cut off.
    pub unfinished: Option<Unfinished>,
    /// Its units.
    pub units: Vec<UnitStatus>,
}

/// A release that has not come to a good end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unfinished {
    /// Its id.
    pub release: String,
    /// The exit code of its last run; none if that was killed.
    pub exit: Option<u8>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// What is live of one unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnitStatus {
    /// What it is.
    pub kind: UnitKind,
    /// Its name.
    pub name: UnitName,
    /// The release that made it what it is, by the record.
    pub release: Option<String>,
    /// The release's commit.
    pub commit: Option<String>,
    /// What is live, in a few words.
    pub live: String,
    /// What differs from the record.
    pub drift: Option<String>,
}

/// One thing that preflight has looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: "site `web`: bucket `shop-web`".
    pub what: String,
    /// What is wrong with it; nothing if it is as it should be.
    pub refusal: Option<Refusal>,
}

/// What is thought of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could be better, or is a choice that should be known.
    Warn,
    /// Open, readable or lost to whom it should not be.
    Fail,
    /// Nobody could look.
    NotSeen,
}

/// One check of infrastructure that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, which stays the same: `bucket-closed`.
    pub check: String,
    /// On what: "site `web`".
    pub on: String,
    /// What is thought of it.
    pub verdict: Verdict,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// What `verify` has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// All that a release would look at.
    pub findings: Vec<Finding>,
    /// The infrastructure that it stands on.
    pub checks: Vec<Check>,
}
