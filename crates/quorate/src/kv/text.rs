//! Keys, values and leases as people and programs read them.

use quorate_client::kv::mvccpb::{Event, KeyValue, event::EventType};
use serde_json::{Map, Value, json};

use crate::failure::tell;

/// A lease's id, in hexadecimal as etcd's tools write it.
pub(super) fn lease(text: &str) -> Result<i64, String> {
    let id = u64::from_str_radix(text, 16).map(u64::cast_signed);
    id.map_err(|_| "a lease's id is up to 16 hexadecimal digits".to_string())
}

/// One or the other.
pub(super) fn print(as_json: bool, value: &Value, text: &str) {
    if as_json { tell(&value.to_string()) } else { tell(text) }
}

/// Bytes on a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key and what is known of it. What is no text is given in hexadecimal, under another name.
pub(super) fn key_value(kv: &KeyValue) -> Value {
    let mut object = Map::new();
    put(&mut object, "key", &kv.key);
    put(&mut object, "value", &kv.value);
    object.insert("create_revision".into(), json!(kv.create_revision));
    object.insert("mod_revision".into(), json!(kv.mod_revision));
    object.insert("version".into(), json!(kv.version));
    if kv.lease != 0 {
        object.insert("lease".into(), json!(format!("{:x}", kv.lease)));
    }
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), json!(text)),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

/// Something that happened to a key.
pub(super) fn event(event: &Event) -> (Value, String) {
    let kv = event.kv.clone().unwrap_or_default();
    let (kind, text) = match event.r#type() {
        EventType::Put => ("put", format!("put {} {}", shown(&kv.key), shown(&kv.value))),
        EventType::Delete => ("delete", format!("delete {}", shown(&kv.key))),
    };
    let before = event.prev_kv.as_ref();
    let mut value = json!({ "event": kind, "kv": key_value(&kv) });
    if let (Some(object), Some(before)) = (value.as_object_mut(), before) {
        object.insert("prev_kv".into(), key_value(before));
    }
    let was = before.map_or(String::new(), |before| format!("  (was {})", shown(&before.value)));
    (value, format!("{}  {text}{was}", kv.mod_revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_in_hexadecimal() {
        let kv = KeyValue { key: "k".into(), value: vec![0xff, 0].into(), ..Default::default() };
        let told = key_value(&kv);
        assert_eq!((told["key"].as_str(), told["value_hex"].as_str()), (Some("k"), Some("ff00")));
        assert_eq!(lease("ffffffffffffffff"), Ok(-1));
        assert!(lease("no").is_err());
    }
}
