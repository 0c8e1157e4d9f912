//! Strict JSON bodies: one object, each key once, nothing after it, bounded nesting.
//!
//! By default serde also reads a struct from an array, in the order of its fields. And of a key that occurs twice, two parsers may
//! use different values.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, error::Category};

/// Largest nesting depth of arrays and objects.
const MAX_DEPTH: u8 = 16;

/// Error of a body that is not accepted.
#[derive(Debug)]
pub(crate) enum JsonError {
    /// Invalid JSON, a repeated key, or nesting that is too deep.
    Syntax(String),
    /// Valid JSON that does not have the structure the route expects.
    Schema(String),
}

/// Parses a body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = UniqueKeys { depth: MAX_DEPTH }.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    let value = value.map_err(|error| match error.classify() {
        Category::Eof => JsonError::Syntax("the body is incomplete".to_owned()),
        _ => JsonError::Syntax(error.to_string()),
    })?;
    if !value.is_object() {
        return Err(JsonError::Schema("the body must be one JSON object, {…}".to_owned()));
    }
    T::deserialize(NoStructFromArray(value)).map_err(|error| JsonError::Schema(error.to_string()))
}

/// Visitor that builds any JSON value, with each key once and bounded depth.
#[derive(Clone, Copy)]
struct UniqueKeys {
    depth: u8,
}

impl UniqueKeys {
    fn nested<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let depth =
            depth.ok_or_else(|| E::custom(format!("arrays and objects are nested more than {MAX_DEPTH} deep")))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let nested = self.nested()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(nested)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let nested = self.nested()?;
        let mut values = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(nested)?;
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} occurs twice")));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// Deserializer that rejects an array where a struct is expected.
struct NoStructFromArray(Value);

impl IntoDeserializer<'_, serde_json::Error> for NoStructFromArray {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for NoStructFromArray {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(values) => {
                let mut values = SeqDeserializer::new(values.into_iter().map(NoStructFromArray));
                let read = visitor.visit_seq(&mut values)?;
                values.end()?;
                Ok(read)
            }
            Value::Object(values) => visitor.visit_map(MapDeserializer::new(
                values.into_iter().map(|(key, value)| (key, NoStructFromArray(value))),
            )),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self.0.is_array() {
            return Err(Self::Error::invalid_type(Unexpected::Seq, &"a JSON object, {…}"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Inner {
        n: u64,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Sample {
        name: Option<String>,
        inner: Option<Inner>,
        pairs: Vec<(u32, u32)>,
        by_name: BTreeMap<String, Inner>,
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two { n: u8 },
    }

    #[test]
    fn one_object_with_each_key_once_is_accepted() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(15), "]".repeat(15));
        for (text, accepted) in [
            ("{}", true),
            (" {\"name\":\"a\",\"inner\":{\"n\":1},\"unknown\":[1]} \n", true),
            ("{\"pairs\":[[1,2]],\"by_name\":{\"a\":{\"n\":1}},\"kind\":\"one\"}", true),
            ("{\"kind\":{\"two\":{\"n\":1}}}", true),
            (&deep, true),
            ("", false),
            ("[]", false),
            ("null", false),
            ("\"{}\"", false),
            ("{}{}", false),
            ("{} x", false),
            ("{\"name\":\"a\",\"name\":\"a\"}", false),
            ("{\"name\":\"a\",\"n\\u0061me\":\"b\"}", false),
            ("{\"other\":1,\"other\":1}", false),
            ("{\"inner\":[1]}", false),
            ("{\"by_name\":{\"a\":[1]}}", false),
            ("{\"pairs\":[[1,2,3]]}", false),
            ("{\"name\":1}", false),
            ("{\"name\":NaN}", false),
            ("{\"name\":\"a\",}", false),
            ("{\"inner\":{\"n\":-1}}", false),
            ("{\"inner\":{\"n\":1e400}}", false),
            (&format!("{{\"x\":{deep}}}"), false),
            (&"[".repeat(100_000), false),
            (&"{\"a\":".repeat(100_000), false),
        ] {
            let shown: String = text.chars().take(60).collect();
            assert_eq!(parse::<Sample>(text.as_bytes()).is_ok(), accepted, "{shown}");
        }
        assert!(parse::<Sample>(b"{\"name\":\"\xff\"}").is_err());
    }

    proptest! {
        #[test]
        fn a_serialised_body_parses_back(
            name in proptest::option::of(".{0,9}"), n in proptest::option::of(any::<u64>()), pairs in proptest::collection::vec(any::<(u32, u32)>(), 0..5),
            names in proptest::collection::btree_map(".{0,3}", any::<u64>().prop_map(|n| Inner { n }), 0..4), two in any::<Option<u8>>(),
        ) {
            let kind = two.map_or(Some(Kind::One), |n| Some(Kind::Two { n }));
            let sample = Sample { name, inner: n.map(|n| Inner { n }), pairs, by_name: names, kind };
            prop_assert_eq!(parse::<Sample>(&serde_json::to_vec(&sample).unwrap()).unwrap(), sample);
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse::<Sample>(&bytes);
        }
    }
}
