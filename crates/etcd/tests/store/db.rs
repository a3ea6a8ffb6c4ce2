//! Snapshots as etcd's database file, and back.

use std::io::Cursor;

use quorate_contracts::{EntryId, LogIndex, Progress, StateMachine, Term};
use quorate_etcd::Revision;
use quorate_etcd::command::{AuthChange, Body, Command};
use quorate_etcd::db::{Database, Origin, export, import};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::store::Store;

use super::script::Player;

fn put(player: &mut Player, key: String, lease: i64) {
    let value = vec![b'v'; key.len() * 97 % 700].into();
    player.apply(Command::of_server(Body::Put(pb::PutRequest {
        key: key.into(),
        value,
        lease,
        ..Default::default()
    })));
}

fn delete(player: &mut Player, key: String, range_end: &str) {
    let range_end = range_end.to_string().into();
    let request = pb::DeleteRangeRequest { key: key.into(), range_end, ..Default::default() };
    player.apply(Command::of_server(Body::DeleteRange(request)));
}

fn auth(player: &mut Player, change: AuthChange) {
    player.apply(Command::of_server(Body::Auth(change)));
}

/// Keys with several versions, tombstones, changes of one transaction, compacted revisions; a lease, a user, a role, an alarm.
fn filled() -> Player {
    let mut player = Player::default();
    let grant = pb::LeaseGrantRequest { ttl: 1000, id: 7 };
    player.apply(Command::of_server(Body::LeaseGrant(grant)));
    for n in 0..3_000_u64 {
        put(&mut player, format!("k{:04}", n * 7 % 500), if n % 50 == 0 { 7 } else { 0 });
        if n % 90 == 0 {
            delete(&mut player, format!("k{:04}", n % 500), "");
        }
    }
    delete(&mut player, "k01".into(), "k02");
    let compact = pb::CompactionRequest { revision: 900, physical: false };
    player.apply(Command::of_server(Body::Compact(compact)));
    put(&mut player, "k0100".into(), 0);
    let (name, hashed_password) = ("ann".to_string(), "$2a$10$hash".to_string());
    auth(
        &mut player,
        AuthChange::UserAdd(pb::AuthUserAddRequest { name, hashed_password, ..Default::default() }),
    );
    auth(&mut player, AuthChange::RoleAdd(pb::AuthRoleAddRequest { name: "reader".into() }));
    let (user, role) = ("ann".to_string(), "reader".to_string());
    auth(&mut player, AuthChange::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }));
    let alarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        member_id: 3,
        alarm: pb::AlarmType::Nospace.into(),
    };
    player.apply(Command::of_server(Body::Alarm(alarm)));
    player
}

fn snapshot(store: &mut Store) -> Vec<u8> {
    store.begin_snapshot();
    let mut bytes = Vec::new();
    while store.snapshot_slice(1 << 16, &mut bytes) == Progress::More {}
    bytes
}

fn database(store: &mut Store) -> Cursor<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    let origin = Origin {
        applied: EntryId::new(LogIndex(4711), Term(3)),
        members: vec![(0xa1, b"{}".to_vec()), (2, b"{}".to_vec())],
    };
    let scratch = Cursor::new(Vec::new());
    let exported = export(&snapshot(store)[..], &origin, scratch, &mut file).unwrap();
    assert_eq!(exported.bytes, file.get_ref().len() as u64);
    assert_eq!(exported.revision, store.revision());
    file
}

/// KV-6, KV-8: a snapshot in etcd's format holds everything at its revision, and a store made of it is the same for every client.
#[test]
fn a_database_file_holds_all_that_the_store_holds() {
    let mut store = filled().store;
    let mut restored = import(&mut Database::open(database(&mut store)).unwrap()).unwrap();
    assert_eq!(restored.revision(), store.revision());
    assert_eq!(restored.compacted(), Revision(900));
    for revision in (900..=store.revision().0).step_by(37).chain([store.revision().0]) {
        let (wanted, found) = (store.hash(Revision(revision)), restored.hash(Revision(revision)));
        assert_eq!(found, wanted, "at revision {revision}");
        let all = pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..Default::default()
        };
        assert_eq!(restored.range(&all), store.range(&all), "at revision {revision}");
    }
    assert_eq!(restored.leases().collect::<Vec<_>>(), store.leases().collect::<Vec<_>>());
    assert_eq!(restored.alarms().collect::<Vec<_>>(), store.alarms().collect::<Vec<_>>());
    let (auth, wanted) = (restored.auth(), store.auth());
    assert_eq!((auth.users(), auth.roles()), (wanted.users(), wanted.roles()));
    assert_eq!(
        (auth.revision(), auth.roles_of("ann")),
        (wanted.revision(), wanted.roles_of("ann"))
    );
    // Its keys go with the lease.
    let mut player = Player::default();
    player.store = restored;
    let keys = player.store.keys();
    player.apply(Command::of_server(Body::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 })));
    assert!(player.store.keys() < keys);
    restored = player.store;
    // Garbage that came along can be collected.
    let again = import(&mut Database::open(database(&mut restored)).unwrap()).unwrap();
    assert_eq!(again.hash(again.revision()), restored.hash(restored.revision()));
}

/// What of a snapshot's own says where it comes from, as etcd keeps it.
#[test]
fn a_database_file_says_where_it_comes_from() {
    let mut file = Database::open(database(&mut filled().store)).unwrap();
    let mut meta = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        meta.push((String::from_utf8_lossy(key).into_owned(), value.to_vec()));
        Ok(())
    };
    file.visit(b"meta", &mut visit).unwrap();
    let mut compacting = 900_i64.to_be_bytes().to_vec();
    compacting.extend_from_slice(b"_\0\0\0\0\0\0\0\0");
    let entry = |name: &str, value: &[u8]| (name.to_string(), value.to_vec());
    assert_eq!(
        meta,
        [
            entry("confState", br#"{"voters":[161,2],"auto_leave":false}"#),
            entry("consistent_index", &4711_u64.to_be_bytes()),
            entry("scheduledCompactRev", &compacting),
            entry("term", &3_u64.to_be_bytes()),
        ]
    );
    let mut members = Vec::new();
    file.visit(b"members", &mut |key, _| {
        members.push(key.to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(members, [b"2".to_vec(), b"a1".to_vec()]);
}

/// KV-9: a snapshot that is cut short becomes no database.
#[test]
fn a_snapshot_that_is_cut_is_not_exported() {
    let mut bytes = snapshot(&mut filled().store);
    bytes.truncate(bytes.len() - 1);
    let (scratch, out) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
    assert!(export(&bytes[..], &Origin::default(), scratch, out).is_err());
}
