//! Values as histories have them: nothing, numbers, text, lists.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A value in a history. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Value {
    /// Nothing: `nil`, `null`.
    #[default]
    Nil,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text. Fractions, keywords and maps are kept as the text in which they were written.
    Text(Arc<str>),
    /// Several values in order.
    List(Arc<[Value]>),
}

impl Value {
    /// What is there after an append: text grows by text, a list by an element; appended to nothing a value stands alone
    /// (a number begins a list).
    pub fn appended(&self, more: &Self) -> Self {
        match (self, more) {
            (Self::Nil, Self::Text(_) | Self::List(_)) => more.clone(),
            (Self::Nil, _) => Self::List([more.clone()].into()),
            (Self::Text(text), Self::Text(more)) => Self::Text(format!("{text}{more}").into()),
            (Self::List(list), more) => Self::List(list.iter().chain([more]).cloned().collect()),
            (one, more) => Self::List([one.clone(), more.clone()].into()),
        }
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len() + 16,
                Self::List(list) => 16 + list.iter().map(Self::bytes).sum::<usize>(),
                _ => 0,
            }
    }

    /// As text without quotes, for use as a key.
    pub(crate) fn as_key(&self) -> Arc<str> {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_string().into(),
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(list: Vec<Value>) -> Self {
        Self::List(list.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => write!(f, "nil"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(list) => {
                write!(f, "[")?;
                for (i, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { " " })?;
                }
                write!(f, "]")
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(yes) => serializer.serialize_bool(*yes),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => {
                let mut sequence = serializer.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|value| sequence.serialize_element(value))?;
                sequence.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }
    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| number.to_string().as_str().into(), Value::Int))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.to_string().as_str().into())
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        entries.sort();
        let text: Vec<_> = entries.iter().map(|(key, value)| format!("{key} {value}")).collect();
        Ok(format!("{{{}}}", text.join(", ")).as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn append_grows_text_and_lists() {
        for (before, more, after) in [
            (Value::Nil, Value::from("a"), Value::from("a")),
            (Value::from("a"), Value::from("b"), Value::from("ab")),
            (Value::Nil, Value::Int(1), vec![Value::Int(1)].into()),
            (vec![Value::Int(1)].into(), Value::Int(2), vec![Value::Int(1), Value::Int(2)].into()),
        ] {
            assert_eq!(before.appended(&more), after);
        }
    }

    #[test]
    fn json_and_back() {
        for text in ["null", "true", "-3", "\"x y\"", "[1,[null,\"a\"]]"] {
            let value: Value = serde_json::from_str(text).expect("it is JSON");
            assert_eq!(serde_json::to_string(&value).expect("values are JSON"), text);
        }
    }
}
