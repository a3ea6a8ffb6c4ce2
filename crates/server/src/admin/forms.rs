//! How the text of a four-letter word becomes JSON. What a word says is made by `zk`.

use serde_json::{Map, Value, json};

/// The form of a text.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Nothing but that it was answered.
    Nothing,
    /// `key`, this separator, `value`; keys lose this beginning.
    Fields(&'static str, &'static str),
    /// Lines under one name.
    Lines(&'static str),
    /// All of it under one name.
    Text(&'static str),
    /// Under one name: a line, and in a list those that are indented below it.
    Below(&'static str),
    /// What this makes of it, under one name.
    Made(&'static str, fn(&str) -> Value),
    /// A line for each connection, as `cons` writes it.
    Connections,
    /// The two lines of `wchs`.
    WatchSummary,
    /// `ro` or `rw`.
    ReadOnly,
}

/// What `cons` calls something, and what the AdminServer does.
const OF_CONNECTIONS: [(&str, &str); 14] = [
    ("queued", "outstanding_requests"),
    ("recved", "packets_received"),
    ("sent", "packets_sent"),
    ("sid", "session_id"),
    ("lop", "last_operation"),
    ("est", "established"),
    ("to", "session_timeout"),
    ("lcxid", "last_cxid"),
    ("lzxid", "last_zxid"),
    ("lresp", "last_response_time"),
    ("llat", "last_latency"),
    ("minlat", "min_latency"),
    ("avglat", "avg_latency"),
    ("maxlat", "max_latency"),
];

impl Form {
    /// What a text says in this form: an object.
    pub(super) fn of(self, text: &str) -> Value {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        match self {
            Self::Nothing => json!({}),
            Self::Fields(separator, prefix) => {
                let fields = text.lines().filter_map(|line| line.split_once(separator));
                fields
                    .map(|(key, text)| (field(key, prefix), value(text)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Self::Lines(name) => json!({ name: lines().collect::<Vec<_>>() }),
            Self::Text(name) => json!({ name: text }),
            Self::Below(name) => json!({ name: below(text) }),
            Self::Made(name, make) => json!({ name: make(text) }),
            Self::Connections => {
                let connections: Vec<Value> = lines().filter_map(connection).collect();
                json!({ "connections": connections })
            }
            Self::WatchSummary => watch_summary(text),
            Self::ReadOnly => json!({ "read_only": text.trim() == "ro" }),
        }
    }
}

/// The servers that vote, of the lines `server.N=host:port:port:role;client` of the word `conf`.
pub(super) fn electorate(text: &str) -> Value {
    let server = |line: &str| {
        let (id, told) = line.strip_prefix("server.")?.split_once('=')?;
        let (peer, client) = told.split_once(';').unwrap_or((told, ""));
        let (address, role) = peer.rsplit_once(':')?;
        let (quorum, election) = address.rsplit_once(':')?;
        let host = quorum.rsplit_once(':').map_or(quorum, |(host, _)| host);
        (role == "participant").then(|| {
            let server = json!({
                "server_addresses": [quorum], "election_addresses": [format!("{host}:{election}")],
                "client_address": client, "learner_type": role,
            });
            (id.to_string(), server)
        })
    };
    text.lines().filter_map(server).collect::<Map<_, _>>().into()
}

fn below(text: &str) -> Value {
    let mut all = Map::new();
    let mut head = String::new();
    for line in text.lines() {
        match (line.strip_prefix('\t'), all.get_mut(&head)) {
            (Some(item), Some(Value::Array(items))) => items.push(item.into()),
            _ => {
                head = line.to_string();
                all.insert(head.clone(), json!([]));
            }
        }
    }
    all.into()
}

/// ` /ADDRESS[1](key=value,...)`.
fn connection(line: &str) -> Option<Value> {
    let (address, told) = line.strip_prefix('/')?.split_once('[')?;
    let (_, told) = told.split_once('(')?;
    let mut fields = Map::new();
    fields.insert("remote_socket_address".into(), address.into());
    for (key, text) in told.trim_end_matches(')').split(',').filter_map(|pair| pair.split_once('='))
    {
        let name = OF_CONNECTIONS.into_iter().find(|(short, _)| *short == key);
        fields.insert(name.map_or(key, |(_, long)| long).into(), value(text));
    }
    Some(fields.into())
}

/// `N connections watching M paths`, `Total watches:K`.
fn watch_summary(text: &str) -> Value {
    let numbers = text.split(|other: char| !other.is_ascii_digit()).filter_map(|n| n.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    json!({ "num_connections": number(0), "num_paths": number(1), "num_total_watches": number(2) })
}

/// `Zookeeper version` becomes `zookeeper_version`, as a program expects; keys with dots stay as they are.
fn field(key: &str, prefix: &str) -> String {
    let key = key.trim_start_matches(prefix);
    if key.contains(' ') || key.starts_with(|first: char| first.is_uppercase()) {
        key.to_lowercase().replace([' ', '/'], "_")
    } else {
        key.to_string()
    }
}

fn value(text: &str) -> Value {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map_or(text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-18: fields, lists and numbers out of the words' lines.
    #[test]
    fn words_become_fields() {
        let srvr = "Zookeeper version: 3.9.3\nLatency min/avg/max: 0/1.5/2\nMode: leader\n";
        let table = [
            (
                Form::Fields(": ", ""),
                srvr,
                json!({"zookeeper_version": "3.9.3", "latency_min_avg_max": "0/1.5/2", "mode": "leader"}),
            ),
            (Form::Fields("=", ""), "Environment:\nos.name=Linux\n", json!({"os.name": "Linux"})),
            (Form::ReadOnly, "rw", json!({"read_only": false})),
            (
                Form::Below("paths"),
                "0x1\n\t/a\n\t/b\n0x2\n\t/a\n",
                json!({"paths": {"0x1": ["/a", "/b"], "0x2": ["/a"]}}),
            ),
            (
                Form::WatchSummary,
                "2 connections watching 3 paths\nTotal watches:4\n",
                json!({"num_connections": 2, "num_paths": 3, "num_total_watches": 4}),
            ),
            (
                Form::Connections,
                " /127.0.0.1:4000[1](queued=0,recved=2,sent=2,sid=0x1,lop=SETD)\n\n",
                json!({"connections": [{"remote_socket_address": "127.0.0.1:4000", "outstanding_requests": 0,
                    "packets_received": 2, "packets_sent": 2, "session_id": "0x1", "last_operation": "SETD"}]}),
            ),
            (
                Form::Made("current_config", electorate),
                "peerType=participant\nmembership: \nserver.1=h1:7400:7401:participant;h1:2181\n\
                 server.2=h2:7400:7401:observer;h2:2181\nversion=0\n",
                json!({"current_config": {"1": {"server_addresses": ["h1:7400"], "election_addresses": ["h1:7401"],
                    "client_address": "h1:2181", "learner_type": "participant"}}}),
            ),
        ];
        for (form, text, expected) in table {
            assert_eq!(form.of(text), expected);
        }
    }
}
