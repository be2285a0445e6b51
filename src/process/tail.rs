//! What of an output is worth repeating where a program has failed: its last lines, and where it first speaks of an error.

use std::collections::VecDeque;

/// So many of the last lines.
const LAST: usize = 20;
/// So many from the first word of an error on.
const FIRST: usize = 8;

/// The lines of an output, of which most are forgotten again.
///
/// A program that ends with a page of advice (`npm ci`, `argparse`) has said long before what is wrong.
#[derive(Debug, Default)]
pub struct Tail {
    first: Vec<String>,
    /// The number of the first of them.
    from: usize,
    last: VecDeque<String>,
    seen: usize,
}

impl Tail {
    /// Takes the next line.
    pub fn push(&mut self, line: String) {
        if self.first.is_empty() && tells_of_an_error(&line) {
            self.from = self.seen;
            self.first.push(line.clone());
        } else if !self.first.is_empty() && self.first.len() < FIRST && self.seen < self.from + FIRST {
            self.first.push(line.clone());
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
        self.seen += 1;
    }

    /// The lines; `…` stands for those between.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        let begins = self.seen - self.last.len();
        let before = self.first.len().min(begins.saturating_sub(self.from));
        let mut lines: Vec<String> = self.first.into_iter().take(before).collect();
        if before > 0 && self.from + before < begins {
            lines.push("…".to_owned());
        }
        lines.extend(self.last);
        lines
    }
}

/// Is `error`, or a word as good, among its words?
fn tells_of_an_error(line: &str) -> bool {
    let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '!'));
    words.any(|word| {
        let word = word.to_ascii_lowercase();
        matches!(word.as_str(), "error" | "err!" | "fatal" | "failed" | "traceback" | "cannot")
            || (word.ends_with("error") && word != "terror")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut tail = Tail::default();
        for line in lines {
            tail.push(line);
        }
        tail.lines()
    }

    fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
        range.map(|number| number.to_string())
    }

    #[test]
    fn the_first_error_is_told_beside_the_last_lines() {
        assert_eq!(told(numbered(0..30)), numbered(10..30).collect::<Vec<_>>());
        let long = numbered(0..3).chain(["npm error code EUSAGE".to_owned()]).chain(numbered(4..60));
        let expected = ["npm error code EUSAGE", "4", "5", "6", "7", "8", "9", "10", "…"].map(str::to_owned).into_iter();
        assert_eq!(told(long), expected.chain(numbered(40..60)).collect::<Vec<_>>());
    }

    #[test]
    fn no_line_is_told_twice() {
        let early = |total: usize| told(["a TypeError".to_owned()].into_iter().chain(numbered(1..total)));
        assert_eq!(early(5).len(), 5);
        assert_eq!(early(22), ["a TypeError".to_owned(), "1".to_owned()].into_iter().chain(numbered(2..22)).collect::<Vec<_>>());
        assert_eq!(early(28).iter().filter(|line| *line == "…").count(), 0);
        assert_eq!(early(29)[7..9], ["7", "…"].map(str::to_owned));
    }

    #[test]
    fn words_that_only_look_like_it_do_not_count() {
        for line in ["0 errors", "errorless", "terror", "npm warn", "mirror"] {
            assert!(!tells_of_an_error(line), "{line}");
        }
        for line in ["error: x", "npm ERR! x", "Error: x", "ModuleNotFoundError: x", "fatal: x", "[vite] build failed"] {
            assert!(tells_of_an_error(line), "{line}");
        }
    }
}
