//! What a million keys cost, in resident bytes each: `cargo run --release -p quorate-etcd --example memory [KEYS]`.

use std::time::Instant;

use quorate_contracts::{LogIndex, Progress, StateMachine, WireWriter};
use quorate_etcd::command::{Body, Command};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::store::Store;

/// Resident bytes of this process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    4096 * pages.split(' ').nth(1).expect("the second number").parse::<u64>().expect("a number")
}

#[expect(clippy::print_stdout, reason = "an example for people")]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn main() {
    let keys: u64 = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1_000_000);
    let idle = resident();
    let mut store = Store::default();
    let mut random = quorate_contracts::Random::new(1);
    let start = Instant::now();
    for index in 1..=keys {
        let key = format!("key-{:016x}", random.next_u64());
        let put =
            pb::PutRequest { key: key.into(), value: vec![b'v'; 100].into(), ..Default::default() };
        let mut command = WireWriter::default();
        Command::of_server(Body::Put(put)).encode(&mut command);
        store.apply(LogIndex(index), &command.finish(), &mut Vec::new());
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{keys} keys of 20 B with values of 100 B put in {seconds:.1} s");
    println!(
        "{} B resident a key; its own estimate {} B",
        (resident() - idle) / keys,
        store.bytes() / keys
    );

    let count = pb::RangeRequest {
        key: "key-4".into(),
        range_end: "key-8".into(),
        count_only: true,
        ..Default::default()
    };
    let start = Instant::now();
    let found = store.range(&count).expect("the newest revision is there").count;
    println!("{found} keys counted in {:.1} us", start.elapsed().as_secs_f64() * 1e6);

    let start = Instant::now();
    let mut snapshot = Vec::new();
    store.begin_snapshot();
    while store.snapshot_slice(1 << 20, &mut snapshot) == Progress::More {}
    println!("a snapshot of {} MB in {:.2} s", snapshot.len() >> 20, start.elapsed().as_secs_f64());
    let digest = store.digest();
    drop(store);
    let start = Instant::now();
    let store = Store::restore(&mut &snapshot[..]).expect("a snapshot can be read");
    assert_eq!(store.digest(), digest);
    println!("restored in {:.2} s", start.elapsed().as_secs_f64());
    drop(snapshot);
    println!("{} B resident a key after that", (resident().saturating_sub(idle)) / keys);
}
