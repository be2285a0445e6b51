//! The tools of `read`: values out of a tree with places, every problem noted and none of them the end.

use crate::model::yaml::{Entry, Node, Place, Value};

use super::problem::Problem;

/// What has been found wrong so far.
#[derive(Default)]
pub(super) struct Reading {
    /// What makes the file unusable.
    pub(super) problems: Vec<Problem>,
    /// What is worth knowing.
    pub(super) warnings: Vec<Problem>,
}

impl Reading {
    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// The entries of a mapping. Nothing at all is an empty one.
    pub(super) fn mapping<'a>(&mut self, node: &'a Node, what: &str) -> &'a [Entry] {
        match &node.value {
            Value::Mapping(entries) => entries,
            Value::Null => &[],
            _ => {
                let problem = Problem::new(node.place, format!("`{what}` needs to be a mapping of keys to values, not {}", node.kind()));
                self.refuse(problem.cure("write `key: value` lines, indented below it"));
                &[]
            }
        }
    }

    /// A scalar as it was written; nothing at all is the empty text.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            Value::Null => Some(String::new()),
            _ => {
                self.refuse(Problem::new(node.place, format!("`{what}` needs to be a text, not {}", node.kind())).cure("put it in quotes"));
                None
            }
        }
    }

    /// A scalar that says something.
    pub(super) fn some_text(&mut self, node: &Node, what: &str) -> Option<String> {
        self.text(node, what).filter(|text| !text.is_empty())
    }

    /// A list of texts; one text alone is a list of one, nothing an empty one.
    pub(super) fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Scalar { text, .. } => vec![text.clone()],
            Value::Sequence(items) => items.iter().filter_map(|item| self.some_text(item, what)).collect(),
            Value::Mapping(_) => {
                self.refuse(
                    Problem::new(node.place, format!("`{what}` needs to be a list of texts, not a mapping"))
                        .cure("write `- text` lines below it"),
                );
                Vec::new()
            }
        }
    }

    /// `yes` or `no`, in any of YAML's spellings.
    pub(super) fn yes(&mut self, node: &Node, what: &str) -> bool {
        let Some(text) = self.text(node, what) else { return false };
        match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "y" => true,
            "no" | "false" | "off" | "n" | "" => false,
            _ => {
                self.refuse(Problem::new(node.place, format!("`{what}: {text}`: `yes` or `no` was expected")).cure("write `yes` or `no`"));
                false
            }
        }
    }

    /// A whole number between two others.
    pub(super) fn number(&mut self, node: &Node, what: &str, least: u32, most: u32) -> Option<u32> {
        let text = self.text(node, what)?;
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let problem = Problem::new(node.place, format!("`{what}: {text}`: a whole number from {least} to {most} was expected"));
            self.refuse(problem.cure("correct the number"));
        }
        number
    }

    /// Names and literal values.
    pub(super) fn variables(&mut self, node: &Node, what: &str) -> Vec<(String, String)> {
        let entries = self.mapping(node, what);
        entries.iter().filter_map(|entry| Some((entry.key.clone(), self.text(&entry.value, &entry.key)?))).collect()
    }

    /// Warns of a key that means nothing here.
    pub(super) fn unknown(&mut self, entry: &Entry, inside: &str, known: &[&str]) {
        let inside = if inside.is_empty() { "at the top of a buildspec".to_owned() } else { format!("in `{inside}`") };
        let near = known.iter().map(|word| (strsim::jaro_winkler(&entry.key, word), *word)).filter(|(score, _)| *score > 0.8);
        let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(String::new(), |(_, word)| format!("; did you mean `{word}`?"));
        let problem = Problem::new(entry.place, format!("the key `{}` means nothing {inside}, and is passed over{near}", entry.key));
        self.warn(problem.cure(format!("the keys that may stand there: {}", known.join(", "))).rule("unknown-key"));
    }
}

/// Puts in what merge keys (`<<: *anchor`) stand for.
pub(super) fn merged(node: Node, reading: &mut Reading) -> Node {
    crate::model::merge_keys::merged(node, &mut |place| {
        reading.refuse(Problem::new(place, "`<<` needs to be followed by a mapping").cure("name an anchor: `<<: *name`"));
    })
}

/// The place of a key's value, or of the key where there is none.
pub(super) fn place_of(entry: &Entry) -> Place {
    if entry.value.value == Value::Null { entry.place } else { entry.value.place }
}
