//! What is wrong with a buildspec: where, what, and its cure. All of a file's problems are kept, not only the first.

use std::fmt::{self, Write as _};

use crate::model::yaml::Place;

/// One thing that is wrong, or that `lint` would do otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
    /// The words of `CodeBuild`'s own parser, where they are known: what its log and its API say.
    pub codebuild: Option<String>,
    /// The rule of `lint` that found it: `colon`, `bash-in-sh`.
    pub rule: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), cure: None, codebuild: None, rule: None }
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    pub(super) fn codebuild(mut self, words: impl Into<String>) -> Self {
        self.codebuild = Some(words.into());
        self
    }

    pub(super) fn rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// The words for a build's `DOWNLOAD_SOURCE`.
    #[must_use]
    pub fn in_codebuilds_words(&self) -> String {
        self.codebuild.clone().unwrap_or_else(|| format!("{} at line {}", self.message, self.place.line))
    }

    /// The problem with its line, a mark below the column, and the cure.
    #[must_use]
    pub fn shown(&self, file: &str, text: &str) -> String {
        let line = text.lines().nth(self.place.line.saturating_sub(1)).unwrap_or_default().trim_end();
        let rule = self.rule.map_or(String::new(), |rule| format!(" [{rule}]"));
        let mut shown = format!("{file}:{}: {}{rule}", self.place, self.message);
        if !line.is_empty() {
            let tabs: String = line.chars().take(self.place.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = write!(shown, "\n  {line}\n  {tabs}^");
        }
        if let Some(cure) = &self.cure {
            let _ = write!(shown, "\n  cure: {cure}");
        }
        shown
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
