//! The key/value service as its clients meet it: the Rust library and plain HTTP against real processes.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use quorate_client::kv::{Kv, KvError, Options, mvccpb, pb};

use crate::cluster::{Cluster, kill, until};

/// Puts of one client while nodes die.
const PUTS: i64 = 400;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn endpoints(cluster: &Cluster) -> Vec<String> {
    let etcd = |node: &serde_json::Value| node["etcd"].as_str().unwrap().to_string();
    cluster.nodes().iter().map(etcd).collect()
}

fn client(endpoints: &[String]) -> Kv {
    let options = Options { patience: Duration::from_secs(60), ..Options::default() };
    Kv::new(endpoints, options).unwrap()
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..Default::default()
    }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_string().into(), ..Default::default() }
}

fn values(kvs: &[mvccpb::KeyValue]) -> Vec<&[u8]> {
    kvs.iter().map(|kv| &kv.value[..]).collect()
}

/// KV-2, KV-8: what one server acknowledged, every other one reads at once, and tells its watchers.
#[test]
fn a_write_is_read_and_watched_at_every_server() {
    let cluster = Cluster::start(3);
    run(async {
        let clients: Vec<Kv> =
            endpoints(&cluster).into_iter().map(|endpoint| client(&[endpoint])).collect();
        let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        let mut watching = clients[1].watch(create).await.unwrap();
        assert!(watching.next().await.unwrap().unwrap().created);
        for (at, writer) in clients.iter().enumerate() {
            let value = format!("v{at}");
            let revision = writer.put(put("k", &value)).await.unwrap().header.unwrap().revision;
            for reader in &clients {
                let read = reader.range(get("k")).await.unwrap();
                assert_eq!(values(&read.kvs), [value.as_bytes()]);
            }
            let told = watching.next().await.unwrap().unwrap();
            assert_eq!(told.header.unwrap().revision, revision);
            assert_eq!(told.events[0].kv.as_ref().unwrap().value, value);
        }
        let refused = clients[0].put(put("", "v")).await;
        let words = refused.unwrap_err().to_string();
        assert_eq!(words, "etcdserver: key is not provided", "KV-9");
    });
}

/// KV-3, KV-4, KV-6: a client's writes take effect once each although nodes are killed under it and come back: the key's
/// version counts them.
#[test]
fn each_write_takes_effect_once_while_nodes_are_killed() {
    let cluster = Cluster::start(3);
    let directory = cluster.directory.path.display().to_string();
    run(async {
        let kv = client(&endpoints(&cluster));
        for at in 1..=PUTS {
            if at % 100 == 50 {
                kill(cluster.nodes()[(at / 100) as usize % 3]["pid"].as_u64().unwrap());
            }
            if at % 100 == 90 {
                let id = ((at / 100) % 3 + 1).to_string();
                let words = ["node", "start", "--dir", &directory, "--id", &id];
                let started = cluster.directory.run(&words);
                assert_eq!(started.code, 0, "{started:?}");
            }
            kv.put(put("counter", &at.to_string())).await.unwrap();
        }
        let read = kv.range(get("counter")).await.unwrap();
        assert_eq!(read.kvs[0].version, PUTS, "a write was lost or doubled");
        assert_eq!(values(&read.kvs), [PUTS.to_string().as_bytes()]);
    });
}

/// KV-5, KV-9: a server whose others are gone acknowledges nothing, and says that the outcome is not known.
#[test]
fn a_minority_acknowledges_nothing() {
    let cluster = Cluster::start(3);
    let nodes = cluster.nodes();
    run(async {
        let endpoint = nodes[0]["etcd"].as_str().unwrap().to_string();
        let options = Options { patience: Duration::from_secs(3), ..Options::default() };
        let kv = Kv::new(&[endpoint], options).unwrap();
        kv.put(put("before", "1")).await.unwrap();
        nodes[1..].iter().for_each(|node| kill(node["pid"].as_u64().unwrap()));
        assert_eq!(kv.put(put("after", "1")).await.unwrap_err(), KvError::Unknown);
        assert!(kv.range(get("before")).await.is_err(), "a linearizable read without a majority");
        let local = pb::RangeRequest { serializable: true, ..get("before") };
        assert_eq!(values(&kv.range(local).await.unwrap().kvs), [b"1"]);
    });
}

/// KV-1, KV-7: a range of many megabytes arrives whole, in order, of one revision, while keys are written.
#[test]
fn a_large_range_is_of_one_revision() {
    let cluster = Cluster::start(1);
    run(async {
        let kv = client(&endpoints(&cluster));
        let value = "x".repeat(64 << 10);
        for at in 0..100 {
            kv.put(put(&format!("large/{at:03}"), &value)).await.unwrap();
        }
        let all = pb::RangeRequest {
            key: "large/".into(),
            range_end: "large0".into(),
            ..Default::default()
        };
        let writer = kv.clone();
        let writing = tokio::spawn(async move {
            for at in 0..50 {
                writer.put(put(&format!("large/{at:03}"), "new")).await.unwrap();
            }
        });
        let read = kv.range(all).await.unwrap();
        writing.await.unwrap();
        let revision = read.header.unwrap().revision;
        assert_eq!((read.kvs.len(), read.count, read.more), (100, 100, false));
        assert!(read.kvs.iter().all(|kv| kv.mod_revision <= revision), "newer than {revision}");
        assert!(read.kvs.is_sorted_by_key(|kv| kv.key.clone()));
        let newest = read.kvs.iter().map(|kv| kv.mod_revision).max();
        assert_eq!(newest, Some(revision), "what was written at {revision} is missing");
    });
}

/// KV-8: probes by plain HTTP, and the JSON gateway, on the same port.
#[test]
fn probes_and_json_are_answered_on_the_same_port() {
    let cluster = Cluster::start(1);
    let endpoint = endpoints(&cluster).remove(0);
    let ask = |head: &str, body: &str| {
        let mut socket = TcpStream::connect(&endpoint).unwrap();
        let length = body.len();
        let rest = format!(
            "Host: {endpoint}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        socket.write_all(format!("{head}\r\n{rest}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    until("it is healthy", || ask("GET /health HTTP/1.1", "").contains(r#"{"health":"true""#));
    assert!(ask("GET /version HTTP/1.1", "").contains("etcdserver"));
    assert!(ask("GET /metrics HTTP/1.1", "").contains("\netcd_server_has_leader 1\n"));
    assert!(ask("GET /nothing HTTP/1.1", "").starts_with("HTTP/1.1 404"));
    let put = ask("POST /v3/kv/put HTTP/1.1", r#"{"key":"Zm9v","value":"YmFy"}"#);
    assert!(put.contains(r#""revision":"2""#), "{put}");
    let range = ask("POST /v3/kv/range HTTP/1.1", r#"{"key":"Zm9v"}"#);
    assert!(range.contains(r#""value":"YmFy""#), "{range}");
    let page = "POST /v3/kv/range HTTP/1.1\r\nOrigin: http://evil.example";
    assert!(ask(page, r#"{"key":"Zm9v"}"#).starts_with("HTTP/1.1 403"));
    let key = ask("POST /v3/kv/range HTTP/1.1", r#"{"key":""}"#);
    assert!(key.starts_with("HTTP/1.1 400") && key.contains("key is not provided"), "{key}");
}
