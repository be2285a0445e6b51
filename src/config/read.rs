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
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), hint: None, unknown_key: false }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure that a person reads: the file, the place, and the line itself.
    pub(super) fn at(self, path: &Path, text: &str) -> Failure {
        let place = self.place.unwrap_or(Place { line: 1, column: 1 });
        let line = text.lines().nth(place.line - 1).unwrap_or_default().trim_end();
        let excerpt = if line.is_empty() { String::new() } else { format!("\n   {line}\n   {}^", " ".repeat(place.column - 1)) };
        let failure = Failure::new(Exit::Config, format!("the configuration `{}:{place}` was refused", path.display()));
        let hint = self.hint.unwrap_or_else(|| "`windlass schema` prints what the file may hold".to_owned());
        failure.because(format!("{}{excerpt}", self.message)).hint(hint)
    }
}

impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Self::new(error.place, format!("no valid YAML: {}", error.message)).hint("correct the line that is shown, or the one above it")
    }
}

impl de::Error for Problem {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { place: None, message: message.to_string(), hint: None, unknown_key: false }
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
        Self::custom(format!("the key `{field}` is missing here"))
    }
}

/// The one of `known` that `text` was most likely meant to be.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|word| (strsim::jaro_winkler(text, word), *word));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// Reads a `T` from a tree.
pub(super) fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node)).map_err(|problem| within(problem, node.place))
}

/// Refuses an unknown key and nothing else: for a tree whose variables have not been put in.
pub(super) fn unknown_key<T: DeserializeOwned>(node: &Node) -> Result<(), Problem> {
    match from_node::<T>(node) {
        Err(problem) if problem.unknown_key => Err(problem),
        _ => Ok(()),
    }
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
            Value::Mapping(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.text("`true` or `false`")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
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
            _ => Err(Problem::new(self.0.place, format!("a list was expected here, not {}", self.0.kind()))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Mapping(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
            Value::Null => visitor.visit_map(Entries { rest: [].iter(), value: None }),
            _ => Err(Problem::new(self.0.place, format!("a mapping was expected here, not {}", self.0.kind()))),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
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
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
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
