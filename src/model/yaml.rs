//! YAML as a tree that remembers where each thing stands, every scalar as the text that was written.
//!
//! The tree is kept apart from any type, so that layers can be merged and variables put in before a
//! configuration is read from it, and an error can still name its place.
//! Deliberately absent: YAML's types. `NO`, `3.10` and `1_000` are texts; who reads them decides.

use std::collections::HashMap;
use std::fmt;

use granit_parser::{Event, Marker, Parser, ScalarStyle};

/// A place in a text: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A node and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing was written, or a plain `null` or `~`.
    Null,
    /// A scalar as it was written; `plain` if it had no quotes and was no block.
    Scalar {
        /// The text, after YAML's escapes.
        text: String,
        /// Written without quotes on its own line.
        plain: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file; keys are scalars, and none comes twice.
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entries of a mapping; none of any other node.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value of `key` in a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// How many nodes it is made of.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::Sequence(items) => items.iter().map(Self::size).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }

    /// What the node is, in words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Why a text is no YAML that windlass reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

/// Reads the one document in `text`.
///
/// # Errors
/// The first syntax error, a second document, a key that is no scalar or comes twice, or an unknown alias.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), depth: 0, repeated: 0 };
    let empty = Node { place: Place { line: 1, column: 1 }, value: Value::Null };
    let mut root = None;
    loop {
        let (event, place) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root.unwrap_or(empty)),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event if root.is_none() => root = Some(reader.node(event, place)?),
            // `---` at the end of a file opens a document that holds nothing.
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~") => {}
            _ => return Err(SyntaxError { place, message: "a second document starts here; only one is read".to_owned() }),
        }
    }
}

struct Reader<'a, I: granit_parser::BorrowedInput<'a>> {
    events: Parser<'a, I>,
    /// What `&name` stands for, by the parser's number of it.
    anchors: HashMap<usize, Node>,
    /// How many sequences and mappings are open.
    depth: usize,
    /// How many nodes aliases have stood for so far.
    repeated: usize,
}

/// So many levels are read; each costs a frame of the stack.
const DEEPEST: usize = 128;
/// So many nodes may come from aliases: ten lines can otherwise stand for more than the memory holds.
const MOST_REPEATED: usize = 100_000;

impl<'a, I: granit_parser::BorrowedInput<'a>> Reader<'a, I> {
    fn next(&mut self) -> Result<(Event<'a>, Place), SyntaxError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, Place::of(&span.start))),
            Some(Err(error)) => Err(SyntaxError { place: Place::of(error.marker()), message: error.info().clone() }),
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place) -> Result<Node, SyntaxError> {
        if self.depth == DEEPEST {
            return Err(SyntaxError { place, message: format!("this is nested more than {DEEPEST} levels deep") });
        }
        self.depth += 1;
        let node = self.node_inside(event, place);
        self.depth -= 1;
        node
    }

    fn node_inside(&mut self, event: Event<'a>, place: Place) -> Result<Node, SyntaxError> {
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(&*text, "" | "~" | "null") {
                    Value::Null
                } else {
                    Value::Scalar { text: text.into_owned(), plain }
                };
                (anchor, value)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(SyntaxError { place, message: "this alias stands inside what it names".to_owned() });
                };
                self.repeated += node.size();
                if self.repeated > MOST_REPEATED {
                    return Err(SyntaxError { place, message: format!("the aliases stand for more than {MOST_REPEATED} values") });
                }
                return Ok(node.clone());
            }
            other => return Err(SyntaxError { place, message: format!("a value was expected here, not {other:?}") }),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Mapping(entries)),
                (Event::Scalar(text, ..), place) => (text.into_owned(), place),
                (_, place) => return Err(SyntaxError { place, message: "a key needs to be a plain text".to_owned() }),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("`{key}` is here a second time; the first is at {}", first.place);
                return Err(SyntaxError { place, message });
            }
            let (event, at) = self.next()?;
            entries.push(Entry { key, place, value: self.node(event, at)? });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_their_text_and_their_place() {
        let root = parse("a: NO\nb:\n  - 3.10\n  - \"x\"\nc:\n").unwrap();
        assert_eq!(root.get("a").unwrap().value, Value::Scalar { text: "NO".into(), plain: true });
        let Value::Sequence(items) = &root.get("b").unwrap().value else { panic!() };
        assert_eq!(items[0].value, Value::Scalar { text: "3.10".into(), plain: true });
        assert_eq!(items[1], Node { place: Place { line: 4, column: 5 }, value: Value::Scalar { text: "x".into(), plain: false } });
        assert_eq!(root.get("c").unwrap().value, Value::Null);
        assert_eq!(parse("").unwrap().value, Value::Null);
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_place() {
        for (text, place) in [("a: 1\nb: 2\na: 3\n", "3:1"), ("a: 1\n---\nb: 2\n", "3:1"), ("a: [1\n", "1:4"), ("? [x]\n: 1\n", "1:3")] {
            assert_eq!(parse(text).unwrap_err().place.to_string(), place, "{text}: {}", parse(text).unwrap_err());
        }
    }

    #[test]
    fn what_would_fill_the_stack_or_the_memory_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}x{}", "[".repeat(200), "]".repeat(200))).unwrap_err().message.contains("levels"));
        let bomb: String = (1..30).fold(String::new(), |text, n| text + &format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
        assert!(parse(&format!("a0: &a0 x\n{bomb}")).unwrap_err().message.contains("100000 values"));
    }

    #[test]
    fn an_empty_document_at_the_end_is_none() {
        assert_eq!(parse("a: 1\n---\n").unwrap().entries().len(), 1);
        assert_eq!(parse("---\na: 1\n...\n").unwrap().entries().len(), 1);
    }

    #[test]
    fn an_alias_stands_for_what_its_anchor_names() {
        let root = parse("a: &x {k: 1}\nb: *x\n").unwrap();
        assert_eq!(root.get("b").unwrap().value, root.get("a").unwrap().value);
    }
}
