//! YAML's merge keys: `<<: *anchor` puts in what the anchor names.
//!
//! Keys that are written out win, earlier sources before later ones. <https://yaml.org/type/merge.html>

use super::yaml::{Entry, Node, Place, Value};

/// The tree without merge keys; `wrong` hears of each that is followed by something else than mappings.
pub fn merged(node: Node, wrong: &mut dyn FnMut(Place)) -> Node {
    let Node { place, value } = node;
    let value = match value {
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(|item| merged(item, wrong)).collect()),
        Value::Mapping(entries) => Value::Mapping(merge(entries, wrong)),
        other => other,
    };
    Node { place, value }
}

fn merge(entries: Vec<Entry>, wrong: &mut dyn FnMut(Place)) -> Vec<Entry> {
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
    for entry in &mut own {
        let value = std::mem::replace(&mut entry.value, Node { place: entry.place, value: Value::Null });
        entry.value = merged(value, wrong);
    }
    for source in merges {
        let sources = match merged(source.value, wrong).value {
            Value::Mapping(entries) => vec![entries],
            Value::Sequence(items) => items.into_iter().map(|item| item.entries().to_vec()).collect(),
            _ => {
                wrong(source.place);
                Vec::new()
            }
        };
        for entry in sources.into_iter().flatten() {
            if !own.iter().any(|known| known.key == entry.key) {
                own.push(entry);
            }
        }
    }
    own
}
