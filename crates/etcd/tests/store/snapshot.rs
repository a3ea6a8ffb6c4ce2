//! Snapshots taken in slices while writes go on.

use quorate_contracts::{Progress, StateMachine};
use quorate_etcd::command::{Body, Command};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::store::Store;

use super::script::Player;

fn put(key: String) -> Command {
    Command::of_server(Body::Put(pb::PutRequest {
        key: key.into(),
        value: "v".into(),
        ..Default::default()
    }))
}

/// KV-6: a snapshot is the state when it began, whatever is written, deleted and compacted while it is taken.
#[test]
fn a_snapshot_is_of_one_moment() {
    let mut player = Player::default();
    (0..500).for_each(|n| drop(player.apply(put(format!("k{:03}", n % 300)))));
    player.store.begin_snapshot();
    let digest = player.store.digest();
    let mut bytes = Vec::new();
    let mut n = 0;
    while player.store.snapshot_slice(200, &mut bytes) == Progress::More {
        n += 7;
        player.apply(put(format!("k{:03}", n % 400)));
        let range =
            pb::DeleteRangeRequest { key: format!("k{:03}", n % 350).into(), ..Default::default() };
        player.apply(Command::of_server(Body::DeleteRange(range)));
        let revision = player.store.revision().0 - 3;
        player.apply(Command::of_server(Body::Compact(pb::CompactionRequest {
            revision,
            physical: false,
        })));
    }
    let restored = Store::restore(&mut &bytes[..]).expect("a snapshot can be read");
    assert_eq!(restored.digest(), digest);
    assert_ne!(player.store.digest(), digest);
}

/// KV-6: damage is found, wherever it is.
#[test]
fn a_snapshot_cut_short_is_refused() {
    let mut player = Player::default();
    (0..20).for_each(|n| drop(player.apply(put(format!("k{n}")))));
    player.store.begin_snapshot();
    let mut bytes = Vec::new();
    while player.store.snapshot_slice(1000, &mut bytes) == Progress::More {}
    for end in 0..bytes.len() {
        assert!(Store::restore(&mut &bytes[..end]).is_err(), "cut at {end}");
    }
}
