//! What the dashboard shows of the key/value store: keys by prefix at a revision, and leases. Where authentication is
//! on nobody reads without a password, and so nothing is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_etcd::messages::etcdserverpb::RangeRequest;
use quorate_etcd::messages::mvccpb::KeyValue;
use quorate_etcd::prefix_end;
use quorate_etcd::store::Store;
use serde_json::{Value, json};

/// Keys that are listed; the page says how many there are.
const KEYS_MAX: i64 = 100;
const LEASES_MAX: usize = 100;
/// Bytes of a value that are shown.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The keys that begin like this at a revision, 0 for the newest, without their values; and leases.
pub(super) fn list(prefix: &str, revision: i64, store: &Store) -> Value {
    // As the API has it, the empty key is none, and "from the least one on" is all of them.
    let from = if prefix.is_empty() { "\0" } else { prefix };
    let request = RangeRequest {
        key: from.to_string().into(),
        range_end: prefix_end(prefix.as_bytes()).into(),
        revision,
        limit: KEYS_MAX,
        keys_only: true,
        ..RangeRequest::default()
    };
    read(store, &request)
}

/// One key at a revision, with its value.
pub(super) fn one(key: &str, revision: i64, store: &Store) -> Value {
    read(store, &RangeRequest { key: key.to_string().into(), revision, ..RangeRequest::default() })
}

fn read(store: &Store, request: &RangeRequest) -> Value {
    if store.auth().is_enabled() {
        return json!({ "error": "Authentication is on: who looks at this page has proven nothing." });
    }
    let found = match store.range(request) {
        Ok(found) => found,
        Err(refusal) => return json!({ "error": refusal.to_string() }),
    };
    let leases = store.leases().take(LEASES_MAX);
    json!({
        "revision": store.revision().0,
        "compacted": store.compacted().0,
        "count": found.count,
        "keys": found.kvs.iter().map(key_value).collect::<Vec<_>>(),
        "leases": leases.map(|(id, ttl)| json!({ "id": format!("{:x}", id.0), "ttl": ttl })).collect::<Vec<_>>(),
        "leases_total": store.leases().len(),
    })
}

fn key_value(kv: &KeyValue) -> Value {
    let shown = &kv.value[..kv.value.len().min(VALUE_BYTES_MAX)];
    json!({
        "key": String::from_utf8_lossy(&kv.key),
        "create_revision": kv.create_revision, "mod_revision": kv.mod_revision,
        "version": kv.version, "lease": format!("{:x}", kv.lease),
        "value": BASE64.encode(shown), "value_bytes": kv.value.len(),
    })
}

#[cfg(test)]
mod tests {
    use quorate_contracts::{LogIndex, StateMachine, WireWriter};
    use quorate_etcd::command::{Body, Command};
    use quorate_etcd::messages::etcdserverpb::PutRequest;

    use super::*;

    fn filled() -> Store {
        let mut store = Store::default();
        for (at, (key, value)) in
            [("a/1", "x"), ("a/2", "y"), ("b", "z"), ("a/1", "xx")].iter().enumerate()
        {
            let put =
                PutRequest { key: (*key).into(), value: (*value).into(), ..Default::default() };
            let mut bytes = WireWriter::with_capacity(64);
            Command::of_server(Body::Put(put)).encode(&mut bytes);
            store.apply(LogIndex(at as u64 + 1), &bytes.finish(), &mut Vec::new());
        }
        store
    }

    fn keys(shown: &Value) -> Vec<&str> {
        shown["keys"].as_array().unwrap().iter().map(|kv| kv["key"].as_str().unwrap()).collect()
    }

    #[test]
    fn keys_are_listed_by_prefix_and_read_at_a_revision() {
        let store = filled();
        assert_eq!(keys(&list("", 0, &store)), ["a/1", "a/2", "b"]);
        assert_eq!(keys(&list("a/", 0, &store)), ["a/1", "a/2"]);
        assert_eq!(list("a/", 0, &store)["count"], 2);
        assert_eq!(keys(&list("a/", 2, &store)), ["a/1"]);
        assert_eq!(one("a/1", 0, &store)["keys"][0]["value"], BASE64.encode("xx"));
        assert_eq!(one("a/1", 4, &store)["keys"][0]["value"], BASE64.encode("x"));
        assert_eq!(one("c", 0, &store)["keys"], json!([]));
    }

    #[test]
    fn a_revision_that_is_not_there_is_told() {
        let shown = list("", 99, &filled());
        assert!(shown["error"].as_str().is_some_and(|error| error.contains("future")), "{shown}");
    }
}
