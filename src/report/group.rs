//! What CI systems make of a log: parts that can be folded, and annotations.
//!
//! Groups are written where a line begins, and a build's own lines never begin one: what it prints cannot give commands to the
//! system. Jenkins, `CodeBuild` and `CodePipeline` have neither.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{CiSystem, Stage};

/// The groups of a log: one for what comes before the first stage, one for each stage.
pub(super) struct Groups {
    system: Option<CiSystem>,
    /// By its name.
    open: Option<&'static str>,
}

impl Groups {
    pub(super) fn of(system: Option<CiSystem>) -> Self {
        Self { system: system.filter(|system| matches!(system, CiSystem::GithubActions | CiSystem::Gitlab)), open: None }
    }

    /// Lines of this stage follow.
    pub(super) fn open(&mut self, stage: Option<Stage>, out: &mut impl Write) -> io::Result<()> {
        let name = stage.map_or("prepare", Stage::name);
        if self.open == Some(name) {
            return Ok(());
        }
        self.close(out)?;
        self.open = Some(name);
        match self.system {
            // <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#grouping-log-lines>
            Some(CiSystem::GithubActions) => writeln!(out, "::group::{name}"),
            // <https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections>
            Some(CiSystem::Gitlab) => writeln!(out, "\x1b[0Ksection_start:{}:windlass_{name}\r\x1b[0K{name}", now()),
            _ => Ok(()),
        }
    }

    /// What follows belongs to none.
    pub(super) fn close(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(name) = self.open.take() else { return Ok(()) };
        match self.system {
            Some(CiSystem::GithubActions) => writeln!(out, "::endgroup::"),
            Some(CiSystem::Gitlab) => writeln!(out, "\x1b[0Ksection_end:{}:windlass_{name}\r\x1b[0K", now()),
            _ => Ok(()),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A line that GitHub shows beside the run, and beside the line of a file if `place` names one; nothing for other systems.
///
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message>
#[must_use]
pub fn annotation(system: Option<CiSystem>, level: &str, title: &str, place: Option<(&str, usize, usize)>, text: &str) -> Option<String> {
    if system != Some(CiSystem::GithubActions) {
        return None;
    }
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let place = place.map_or(String::new(), |(file, line, column)| format!(",file={},line={line},col={column}", property(file)));
    Some(format!("::{level} title={}{place}::{}\n", property(title), data(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(system: CiSystem) -> String {
        let (mut groups, mut out) = (Groups::of(Some(system)), Vec::new());
        for stage in [None, None, Some(Stage::Assets)] {
            groups.open(stage, &mut out).unwrap();
            writeln!(out, "x").unwrap();
        }
        groups.close(&mut out).unwrap();
        groups.close(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_log_is_folded_by_stages_where_it_can_be() {
        assert_eq!(written(CiSystem::Jenkins), "x\nx\nx\n");
        assert_eq!(written(CiSystem::GithubActions), "::group::prepare\nx\nx\n::endgroup::\n::group::assets\nx\n::endgroup::\n");
        let gitlab = regex::Regex::new(r":\d{10,}:").unwrap().replace_all(&written(CiSystem::Gitlab), ":0:").into_owned();
        let (start, end) = ("\x1b[0Ksection_start:0:windlass_", "\x1b[0Ksection_end:0:windlass_");
        assert_eq!(
            gitlab,
            format!("{start}prepare\r\x1b[0Kprepare\nx\nx\n{end}prepare\r\x1b[0K\n{start}assets\r\x1b[0Kassets\nx\n{end}assets\r\x1b[0K\n")
        );
    }

    #[test]
    fn an_annotation_escapes_what_would_end_it() {
        let of = |system| annotation(Some(system), "error", "a: b,c", Some(("x,y.yml", 6, 5)), "100 %\nmore: so");
        assert_eq!(of(CiSystem::Gitlab), None);
        assert_eq!(of(CiSystem::GithubActions).unwrap(), "::error title=a%3A b%2Cc,file=x%2Cy.yml,line=6,col=5::100 %25%0Amore: so\n");
    }
}
