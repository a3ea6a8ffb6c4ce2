//! Comparisons and operations of a transaction as one types them.
//!
//! ```text
//! value(KEY) = TEXT        version(KEY) > 3      create(KEY) = 0     mod(KEY) != 7      lease(KEY) = 694d7a1c
//! put KEY VALUE            get KEY               del KEY
//! ```
//!
//! A key or value with spaces goes in double quotes.

use bytes::Bytes;
use quorate_client::kv::pb;
use quorate_client::kv::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_client::kv::pb::request_op::Request;

use super::text;

pub(super) const EXAMPLES: &str = "Examples:
  quorate kv txn --if 'create(leader) = 0' --then 'put leader me' --else 'get leader'
  quorate kv txn --if 'value(\"my key\") = \"my value\"' --then 'del \"my key\"'";

/// A transaction out of words.
pub(super) fn parse(
    compare: &[String],
    then: &[String],
    otherwise: &[String],
) -> Result<pb::TxnRequest, String> {
    Ok(pb::TxnRequest {
        compare: compare.iter().map(|text| comparison(text)).collect::<Result<_, _>>()?,
        success: then.iter().map(|text| operation(text)).collect::<Result<_, _>>()?,
        failure: otherwise.iter().map(|text| operation(text)).collect::<Result<_, _>>()?,
    })
}

fn comparison(text: &str) -> Result<pb::Compare, String> {
    let malformed = || format!("`{text}` is not like `value(KEY) = TEXT`");
    let (target, rest) = text.split_once('(').ok_or_else(malformed)?;
    let close = closing(rest).ok_or_else(malformed)?;
    let key = words(&rest[..close])?.pop().ok_or_else(malformed)?;
    let mut right = words(&rest[close + 1..])?;
    let value = right.pop().ok_or_else(malformed)?;
    let result = match right.pop().as_deref() {
        Some("=" | "==") => CompareResult::Equal,
        Some("!=") => CompareResult::NotEqual,
        Some("<") => CompareResult::Less,
        Some(">") => CompareResult::Greater,
        _ => return Err(malformed()),
    };
    let number = || value.parse::<i64>().map_err(|_| format!("`{value}` is not a number"));
    let (target, union) = match target.trim() {
        "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(text::lease(&value)?)),
        other => return Err(format!("there is no `{other}`: value, version, create, mod, lease")),
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(union),
        ..Default::default()
    })
}

/// Where the parenthesis closes; one in quotes does not.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b')' && !quoted
    })
}

fn operation(text: &str) -> Result<pb::RequestOp, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let request = match words[..] {
        ["put", key, value] => Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            value: bytes(value),
            ..Default::default()
        }),
        ["get", key] => {
            Request::RequestRange(pb::RangeRequest { key: bytes(key), ..Default::default() })
        }
        ["del", key] => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: bytes(key),
            ..Default::default()
        }),
        _ => return Err(format!("`{text}` is not `put KEY VALUE`, `get KEY` or `del KEY`")),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// Words between spaces, or in double quotes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(format!("`{text}`: a quote is open"))?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_string());
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_and_operations_are_read() {
        let compare = comparison("value(\"a )b\") != \"x y\"").unwrap();
        assert_eq!((&compare.key[..], compare.result()), (&b"a )b"[..], CompareResult::NotEqual));
        assert_eq!(compare.target_union, Some(TargetUnion::Value("x y".into())));
        let compare = comparison("create(k) = 0").unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::CreateRevision(0)));
        let Some(Request::RequestPut(put)) = operation("put k \"\"").unwrap().request else {
            panic!("not a put")
        };
        assert_eq!((&put.key[..], &put.value[..]), (&b"k"[..], &b""[..]));
    }

    #[test]
    fn what_is_neither_is_told_with_what_it_should_be() {
        for text in
            ["", "value", "value(k)", "value(k) ~ 3", "mod(k) = x", "age(k) = 1", "value(\"k) = 1"]
        {
            assert!(comparison(text).is_err(), "{text}");
        }
        for text in ["", "put k", "get", "get a b", "drop k", "put \"k v"] {
            assert!(operation(text).is_err(), "{text}");
        }
    }
}
