//! The XML of AWS's Query answers, as a tree: names without namespaces, attributes left out, as these answers have none that matter.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// How deep an answer may go; AWS's go about ten elements deep.
const DEPTH: usize = 64;

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// Its own text, trimmed.
    pub(super) text: String,
    /// The elements in it.
    pub(super) children: Vec<Node>,
}

impl Node {
    /// The element at a path of names, if it is there.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        path.split('/').try_fold(self, |node, name| node.children.iter().find(|child| child.name == name))
    }

    /// The text at a path; `None` where there is none, or an empty one.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.at(path).map(|node| node.text.clone()).filter(|text| !text.is_empty())
    }

    /// Does `true` stand there?
    pub(super) fn is_true(&self, path: &str) -> bool {
        self.at(path).is_some_and(|node| node.text == "true")
    }

    /// The whole number at a path.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// The items of the list at a path: `item` in EC2, `member` or the type's name elsewhere.
    pub(super) fn list(&self, path: &str) -> &[Node] {
        self.at(path).map(|node| node.children.as_slice()).unwrap_or_default()
    }

    /// Every element of a name, wherever it is.
    pub(super) fn descendants(&self, name: &str) -> Vec<&Node> {
        let mut found = Vec::new();
        let mut todo = vec![self];
        while let Some(node) = todo.pop() {
            if node.name == name {
                found.push(node);
            }
            todo.extend(node.children.iter().rev());
        }
        found
    }
}

/// Reads a document.
pub(super) fn read(bytes: &[u8]) -> Result<Node, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    // The document itself stands below its root.
    let mut open = vec![Node::default()];
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(_) if open.len() >= DEPTH => return Err("it goes too deep".to_owned()),
            Event::Start(start) => open.push(named(&start)),
            Event::Empty(start) => {
                if let Some(parent) = open.last_mut() {
                    parent.children.push(named(&start));
                }
            }
            Event::Text(text) => append(&mut open, &text),
            Event::CData(text) => append(&mut open, &text),
            Event::GeneralRef(reference) => {
                let meant = quick_xml::escape::unescape(&format!("&{};", &*reference)).map_err(|error| error.to_string())?.into_owned();
                append(&mut open, &meant);
            }
            Event::End(_) => {
                let mut node = open.pop().unwrap_or_default();
                node.text = node.text.trim().into();
                open.last_mut().ok_or("an element ends that has not begun")?.children.push(node);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let document = open.pop().filter(|_| open.is_empty()).ok_or("it breaks off")?;
    document.children.into_iter().next().ok_or_else(|| "it is empty".to_owned())
}

fn named(start: &BytesStart<'_>) -> Node {
    let name = start.local_name().as_ref().to_owned();
    Node { name, ..Node::default() }
}

fn append(open: &mut [Node], text: &str) {
    if let Some(node) = open.last_mut() {
        node.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_tree() {
        let answer = br#"<?xml version="1.0"?>
            <DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
              <subnetSet><item><subnetId>subnet-1</subnetId><mapPublicIpOnLaunch>true</mapPublicIpOnLaunch><tagSet/></item>
              <item><subnetId>a &amp; b &#x41;</subnetId></item></subnetSet>
            </DescribeSubnetsResponse>"#;
        let root = read(answer).unwrap();
        let subnets = root.list("subnetSet");
        assert_eq!((root.name.as_str(), subnets.len()), ("DescribeSubnetsResponse", 2));
        assert!(subnets[0].is_true("mapPublicIpOnLaunch"));
        assert_eq!((subnets[0].text("tagSet"), subnets[0].number("subnetId")), (None, None));
        assert_eq!(subnets[1].text("subnetId").as_deref(), Some("a & b A"));
        assert_eq!(root.descendants("subnetId").len(), 2);
    }

    #[test]
    fn what_is_no_xml_is_said_to_be_none() {
        for bad in ["", "upstream gone", "<a><b></a>", "<a>", "{}"] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read("<a>".repeat(100_000).as_bytes()).is_err());
    }
}
