//! Appended values as an alphabet: if each was appended once and none begins another, what a read saw can be taken
//! apart in one way only, and tells the order of the appends.

use rustc_hash::FxHashMap;

use crate::value::Value;

/// The written values, by number.
pub(crate) enum Tokens<'a> {
    /// Non-empty texts of which none begins another, sorted.
    Texts(Vec<(&'a str, u32)>),
    /// Distinct numbers, which are appended to lists.
    Numbers(FxHashMap<i64, u32>),
}

impl<'a> Tokens<'a> {
    /// `None` if what a read saw could be taken apart in more than one way.
    pub(crate) fn of(values: &[&'a Value]) -> Option<Self> {
        let numbered = || (0..).zip(values);
        if let Some(texts) = numbered().map(|(i, v)| Some((v.as_text()?, i))).collect() {
            return Self::texts(texts);
        }
        let numbers: FxHashMap<i64, u32> =
            numbered().map(|(i, v)| Some((number_in(v)?, i))).collect::<Option<_>>()?;
        (numbers.len() == values.len()).then_some(Self::Numbers(numbers))
    }

    fn texts(mut texts: Vec<(&'a str, u32)>) -> Option<Self> {
        texts.sort_unstable();
        let none_begins_another = texts.windows(2).all(|pair| !pair[1].0.starts_with(pair[0].0));
        let none_empty = texts.first().is_none_or(|(text, _)| !text.is_empty());
        (none_begins_another && none_empty).then_some(Self::Texts(texts))
    }

    /// The numbers of the values of which this one consists; `None` if it consists of something else, too.
    pub(crate) fn take_apart(&self, value: &Value) -> Option<Vec<u32>> {
        match (self, value) {
            (_, Value::Nil) => Some(Vec::new()),
            (Self::Texts(texts), Value::Text(text)) => take_text_apart(texts, text),
            (Self::Numbers(numbers), Value::List(list)) => {
                list.iter().map(|element| numbers.get(&number_in(element)?).copied()).collect()
            }
            _ => None,
        }
    }
}

fn take_text_apart(texts: &[(&str, u32)], mut rest: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        // As none begins another, the one that begins the rest is the greatest that is not above it.
        let above = texts.partition_point(|(text, _)| *text <= rest);
        let (text, number) = texts.get(above.checked_sub(1)?)?;
        rest = rest.strip_prefix(text)?;
        found.push(*number);
    }
    Some(found)
}

fn number_in(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_apart_in_one_way_or_not_at_all() {
        let values = ["x 1 y", "x 10 y", "z"].map(Value::from);
        let tokens = Tokens::of(&values.iter().collect::<Vec<_>>()).expect("none begins another");
        assert_eq!(tokens.take_apart(&"zx 10 yx 1 y".into()), Some(vec![2, 1, 0]));
        assert_eq!(tokens.take_apart(&"zx 1".into()), None);
        assert_eq!(tokens.take_apart(&"".into()), Some(vec![]));
    }

    #[test]
    fn ambiguous_alphabets_are_refused() {
        for values in [["a", "ab"], ["a", "a"], ["", "a"]] {
            assert!(Tokens::of(&values.map(Value::from).iter().collect::<Vec<_>>()).is_none());
        }
    }
}
