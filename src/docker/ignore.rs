//! What a `.dockerignore` file leaves out: the rules of moby's `patternmatcher`, which are not those of `.gitignore`.
//!
//! Patterns are anchored at the context's root; the last one that matches wins; a pattern that matches a directory matches what is
//! below. <https://docs.docker.com/build/concepts/context/#dockerignore-files>, <https://github.com/moby/patternmatcher>

use regex::Regex;

/// The patterns of one file, in its order.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    /// `!pattern`: what it matches is taken back in.
    exception: bool,
    text: String,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    Exact,
    /// `text**`
    Prefix,
    /// `**text`, which is also `**/name` for a `name` at the root
    Suffix,
    Regex(Regex),
}

/// Which patterns a directory matches: what is below matches them too.
#[derive(Debug, Clone, Default)]
pub(super) struct Matched(Vec<bool>);

impl Patterns {
    /// Reads the lines of a `.dockerignore` file, and takes the paths in `always` back in at the end.
    ///
    /// # Errors
    /// The line that is malformed.
    pub(super) fn parse(text: &str, always: &[&str]) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Self::default();
        // Only a `#` in the first column starts a comment.
        for line in text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty()) {
            let (exception, rest) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if rest.is_empty() {
                return Err(line.to_owned());
            }
            let cleaned = clean(rest);
            let anchored = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
            patterns.0.push(Pattern::new(exception, anchored).ok_or_else(|| line.to_owned())?);
        }
        for path in always {
            if patterns.excludes(path, None).0 {
                patterns.0.push(Pattern { exception: true, text: (*path).to_owned(), matcher: Matcher::Exact });
            }
        }
        Ok(patterns)
    }

    /// Is `path` left out? `parent` is what was found for the directory that it lies in; `None` at the root.
    pub(super) fn excludes(&self, path: &str, parent: Option<&Matched>) -> (bool, Matched) {
        let mut excluded = false;
        let mut found = vec![false; self.0.len()];
        for (index, pattern) in self.0.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.0[index]);
            if !inherited && pattern.exception != excluded {
                // It could change nothing. Docker does not remember it for what is below either, so neither do we.
                continue;
            }
            if inherited || pattern.is_match(path) || (parent.is_none() && parents(path).any(|above| pattern.is_match(above))) {
                found[index] = true;
                excluded = !pattern.exception;
            }
        }
        (excluded, Matched(found))
    }

    /// As [`Patterns::excludes`], for what has nothing below it.
    pub(super) fn leaves_out(&self, path: &str, parent: Option<&Matched>) -> bool {
        !self.0.is_empty() && self.excludes(path, parent).0
    }

    /// May something below the excluded `directory` be taken back in? Docker looks at the exception's text, not at its meaning:
    /// `!**/keep` brings nothing back from an excluded directory.
    pub(super) fn may_keep_below(&self, directory: &str) -> bool {
        self.0.iter().any(|pattern| {
            pattern.exception && pattern.text.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Pattern {
    fn new(exception: bool, text: &str) -> Option<Self> {
        let matcher = compile(text)?;
        Some(Self { exception, text: text.to_owned(), matcher })
    }

    fn is_match(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Matcher::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }
}

/// `a`, `a/b` of `a/b/c`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The matcher of a cleaned pattern, `None` if it is malformed: an open `[`, a `\` at the end.
fn compile(pattern: &str) -> Option<Matcher> {
    let mut regex = String::from("^");
    let mut matcher = Shape::Exact;
    let mut rest = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    regex.push_str("(.*/)?");
                    matcher = Shape::Regex;
                } else if matcher == Shape::Exact {
                    matcher = Shape::Prefix;
                } else {
                    regex.push_str(".*");
                    matcher = Shape::Regex;
                }
                if first {
                    matcher = Shape::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                matcher = Shape::Regex;
            }
            '?' => {
                regex.push_str("[^/]");
                matcher = Shape::Regex;
            }
            '[' => {
                class(&mut rest, &mut regex)?;
                matcher = Shape::Regex;
            }
            '\\' => {
                literal(rest.next()?, &mut regex);
                matcher = Shape::Regex;
            }
            c => literal(c, &mut regex),
        }
        first = false;
    }
    Some(match matcher {
        Shape::Exact => Matcher::Exact,
        Shape::Prefix => Matcher::Prefix,
        Shape::Suffix => Matcher::Suffix,
        Shape::Regex => Matcher::Regex(Regex::new(&format!("{regex}$")).ok()?),
    })
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

/// A character class after its `[`, by the grammar of Go's `path.Match`. <https://pkg.go.dev/path#Match>
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String) -> Option<()> {
    let one = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String| {
        let c = match rest.next()? {
            '-' | ']' => return None,
            '\\' => rest.next()?,
            c => c,
        };
        literal(c, regex);
        Some(())
    };
    regex.push('[');
    if rest.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut ranges = 0;
    loop {
        if ranges > 0 && rest.next_if_eq(&']').is_some() {
            regex.push(']');
            return Some(());
        }
        one(rest, regex)?;
        if rest.next_if_eq(&'-').is_some() {
            regex.push('-');
            one(rest, regex)?;
        }
        ranges += 1;
    }
}

fn literal(c: char, regex: &mut String) {
    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

/// Go's `filepath.Clean`: the shortest path that means the same, without looking at the disk. <https://pkg.go.dev/path#Clean>
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if rooted => {}
            part => kept.push(part),
        }
    }
    let joined = kept.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_go_does() {
        for (path, cleaned) in
            [("", "."), (".", "."), ("/", "/"), ("a/", "a"), ("./a//b/../c", "a/c"), ("../a", "../a"), ("/../a", "/a"), ("a/..", ".")]
        {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_refused_with_its_line() {
        for line in ["!", "a[", "a[]", "[-a]", "a\\", "[a-]", "[a"] {
            assert_eq!(Patterns::parse(line, &[]).unwrap_err(), line);
        }
    }

    #[test]
    fn single_patterns_match_as_in_docker() {
        let cases = [
            ("**", "a/b", true),
            ("**/", "a", true),
            ("**/b", "b", true),
            ("**/b", "a/b", true),
            ("**/b", "a/xb", false),
            ("**b", "a/xb", true),
            ("a/**", "a", false),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("*.py", "a.py", true),
            ("*.py", "b/a.py", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[&~[]", "&", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a.c", "abc", false),
            ("a+(b)|{c}$", "a+(b)|{c}$", true),
            ("/a", "a", true),
            (".", "a", false),
            ("/", "a", false),
            ("ä?", "äö", true),
        ];
        for (pattern, path, expected) in cases {
            let patterns = Patterns::parse(pattern, &[]).unwrap();
            assert_eq!(patterns.excludes(path, None).0, expected, "{pattern} {path}");
        }
    }
}
