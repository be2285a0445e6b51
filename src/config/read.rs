//! From a located YAML tree to a type: serde's data model over [`Node`], so that every error has a place.

use std::path::Path;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::model::yaml::{Entry, Node, Place, SyntaxError, Value};
use crate::model::{Exit, Failure};

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Problem {
    place: Option<Place>,
    message: String,
    hint: Option<String>,
    unknown_key: bool,
    /// The key that is missing.
    missing: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), hint: None, unknown_key: false, missing: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure that a person reads: the file, the place, and the line itself.
    pub(super) fn at(self, path: &Path, text: &str) -> Failure {
        let excerpt = self.excerpt(text);
        let failure = Failure::new(Exit::Config, format!("the configuration `{}:{}` was refused", path.display(), self.place()));
        let hint = self.hint.unwrap_or_else(|| "`windlass schema` prints what the file may hold".to_owned());
        failure.because(format!("{}{excerpt}", self.message)).hint(hint)
    }

    fn place(&self) -> Place {
        self.place.unwrap_or(Place { line: 1, column: 1 })
    }

    /// The line that it is about, with a mark below it.
    fn excerpt(&self, text: &str) -> String {
        let place = self.place();
        let line = text.lines().nth(place.line - 1).unwrap_or_default().trim_end();
        if line.is_empty() { String::new() } else { format!("\n   {line}\n   {}^", " ".repeat(place.column - 1)) }
    }
}

impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Self::new(error.place, format!("no valid YAML: {}", error.message)).hint("correct the line that is shown, or the one above it")
    }
}

impl de::Error for Problem {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { place: None, message: message.to_string(), hint: None, unknown_key: false, missing: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(field, expected).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let problem = Self { unknown_key: true, ..Self::custom(format!("unknown key `{field}`{near}")) };
        problem.hint(format!("the keys that may stand here: {}", expected.join(", ")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(variant, expected).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Self::custom(format!("`{variant}` is not one of the values that may stand here{near}"))
            .hint(format!("one of: {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::custom(format!("the key `{field}` is missing here")) }
    }
}

/// The one of `known` that `text` was most likely meant to be.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|word| (strsim::jaro_winkler(text, word), *word));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// Reads a `T` from a tree.
fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node)).map_err(|problem| within(problem, node.place))
}

/// So many problems are told at most.
const MOST: usize = 20;

/// Reads a `T`, and adds everything that is wrong to `problems`; `None` if there was any.
///
/// What could not be read is taken out of a copy of the tree, which is then read again. What follows from that, such as a key that is
/// missing because it was taken out, is no problem of its own.
pub(super) fn every<T: DeserializeOwned>(node: &Node, problems: &mut Vec<Problem>) -> Option<T> {
    let mut next = match from_node::<T>(node) {
        Ok(value) => return Some(value),
        Err(problem) => Some(problem),
    };
    let before = problems.len();
    let mut tree = node.clone();
    let mut damaged = Vec::new();
    while let Some(problem) = next.take().filter(|_| problems.len() < before + MOST) {
        let place = problem.place.unwrap_or(node.place);
        let (unknown, missing) = (problem.unknown_key, problem.missing);
        if !damaged.contains(&place) && !problems.iter().any(|known| known.place == Some(place)) {
            problems.push(problem);
        }
        let repaired = if let Some(key) = missing.filter(|_| place == node.place)
            && let Value::Mapping(entries) = &mut tree.value
        {
            // Nothing is above the root that could be taken out.
            let value = Node { place, value: Value::Scalar { text: "none".to_owned(), plain: true } };
            entries.push(Entry { key: key.to_owned(), place, value });
            true
        } else {
            !unknown && take_out(&mut tree, place, &|entry| entry.value.place == place, &mut damaged)
                || missing.is_none() && take_out(&mut tree, place, &|entry| entry.place == place, &mut damaged)
        };
        if repaired {
            next = from_node::<T>(&tree).err();
        }
    }
    None
}

/// Takes out an entry, or an item at `place`, and remembers where the mapping begins that the entry was in.
fn take_out(node: &mut Node, place: Place, is: &dyn Fn(&Entry) -> bool, damaged: &mut Vec<Place>) -> bool {
    match &mut node.value {
        Value::Mapping(entries) => {
            if let Some(at) = entries.iter().position(is) {
                entries.remove(at);
                damaged.push(node.place);
                return true;
            }
            entries.iter_mut().any(|entry| take_out(&mut entry.value, place, is, damaged))
        }
        Value::Sequence(items) => {
            if let Some(at) = items.iter().position(|item| item.place == place) {
                items.remove(at);
                return true;
            }
            items.iter_mut().any(|item| take_out(item, place, is, damaged))
        }
        Value::Null | Value::Scalar { .. } => false,
    }
}

/// Adds the unknown keys and nothing else: for a tree whose variables have not been put in.
pub(super) fn unknown_keys<T: DeserializeOwned>(node: &Node, problems: &mut Vec<Problem>) {
    let mut all = Vec::new();
    let _: Option<T> = every(node, &mut all);
    let new = |problem: &Problem| problem.unknown_key && !problems.iter().any(|known| known.place == problem.place);
    let new: Vec<Problem> = all.into_iter().filter(new).collect();
    problems.extend(new);
}

/// The failure that a person reads: all that is wrong, in the order of the file.
pub(super) fn refused(mut problems: Vec<Problem>, path: &Path, text: &str) -> Failure {
    problems.sort_by_key(|problem| problem.place);
    problems.dedup();
    if problems.len() == 1 {
        return problems.remove(0).at(path, text);
    }
    let failure = Failure::new(Exit::Config, format!("the configuration `{}` was refused for {} reasons", path.display(), problems.len()));
    let shown = problems.iter().map(|problem| {
        let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("\n      → {hint}"));
        format!("{}:{}: {}{}{hint}", path.display(), problem.place(), problem.message, problem.excerpt(text))
    });
    failure
        .because(shown.collect::<Vec<_>>().join("\n   "))
        .hint("correct them and run again; `windlass schema` prints what the file may hold")
}

/// Gives a problem the nearest place that is known; an inner one stays.
fn within(problem: Problem, place: Place) -> Problem {
    Problem { place: problem.place.or(Some(place)), ..problem }
}

struct Reader<'a>(&'a Node);

impl<'a> Reader<'a> {
    fn text(&self, wanted: &str) -> Result<&'a str, Problem> {
        match &self.0.value {
            Value::Scalar { text, .. } => Ok(text),
            _ => Err(Problem::new(self.0.place, format!("{wanted} was expected here, not {}", self.0.kind()))),
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, Problem> {
        let text = self.text("a number")?;
        text.parse().map_err(|_| Problem::new(self.0.place, format!("`{text}` is no whole number that fits here")))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            visitor.$visit(self.number()?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar { text, .. } => visitor.visit_str(text),
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter())),
            Value::Mapping(entries) => visitor.visit_map(Entries::of(entries)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.text("`true` or `false`")? {
            // As YAML 1.2 spells them: <https://yaml.org/spec/1.2.2/#10212-boolean>
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            other => Err(Problem::new(self.0.place, format!("`{other}`: `true` or `false` was expected here"))),
        }
    }

    numbers! {
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_str(self.text("a text")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter())),
            Value::Null => visitor.visit_seq(Items([].iter())),
            _ => Err(Problem::new(self.0.place, format!("a list was expected here, not {}", self.0.kind()))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Mapping(entries) => visitor.visit_map(Entries::of(entries)),
            Value::Null => visitor.visit_map(Entries::of(&[])),
            _ => Err(Problem::new(self.0.place, format!("a mapping was expected here, not {}", self.0.kind()))),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, keys: &'static [&'static str], visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            // A key whose value was commented out is as good as none.
            Value::Mapping(entries) => visitor.visit_map(Entries { optional: keys, ..Entries::of(entries) }),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Problem> {
        let place = self.0.place;
        visitor.visit_enum(Variant(self.text("a word")?)).map_err(|problem| within(problem, place))
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|problem| within(problem, item.place))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
    /// Passed over where nothing stands behind them.
    optional: &'static [&'static str],
}

impl<'a> Entries<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        Self { rest: entries.iter(), value: None, optional: &[] }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let is_none = |entry: &Entry| entry.value.value == Value::Null && self.optional.contains(&entry.key.as_str());
        let Some(entry) = self.rest.find(|entry| !is_none(entry)) else { return Ok(None) };
        self.value = Some(&entry.value);
        let key: de::value::StrDeserializer<'_, Problem> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|problem| within(problem, entry.place))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let Some(node) = self.value.take() else { return Err(Problem::custom("a value was asked for before its key")) };
        seed.deserialize(Reader(node)).map_err(|problem| within(problem, node.place))
    }
}

struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Problem> {
        let name: de::value::StrDeserializer<'_, Problem> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Problem> {
        Err(Problem::custom("only a word may stand here"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Problem> {
        Err(Problem::custom("only a word may stand here"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Problem> {
        Err(Problem::custom("only a word may stand here"))
    }
}
