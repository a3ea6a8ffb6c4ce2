//! Files as ZooKeeper lays them out, made byte by byte, and what becomes of them. Files that a real ZooKeeper wrote are
//! read end to end by `interop/import.sh`.

use quorate_contracts::{LogIndex, StateMachine};

use super::adler::adler;
use super::*;
use crate::command::{AclEntry, Identity};
use crate::tree::{Founding, Tree, anyone, perms};
use crate::wire::JuteWriter;

fn record(fill: impl FnOnce(&mut JuteWriter)) -> Vec<u8> {
    let mut out = JuteWriter::with_capacity(64);
    fill(&mut out);
    out.finish()[4..].to_vec()
}

fn secret() -> Vec<AclEntry> {
    let identity = Identity { scheme: "digest".into(), id: "bob:hash".into() };
    vec![AclEntry { perms: perms::READ, identity }]
}

fn open() -> Vec<AclEntry> {
    vec![AclEntry { perms: perms::ALL, identity: anyone() }]
}

/// A znode of a snapshot: path, data, number of its list, owner, children created; zxids and times are `zxid`.
fn znode(
    out: &mut JuteWriter,
    path: &str,
    data: &[u8],
    list: i64,
    owner: i64,
    created: i32,
    zxid: i64,
) {
    out.str(path);
    out.buffer(Some(data));
    out.long(list);
    (0..4).for_each(|_| out.long(zxid));
    out.int(0);
    out.int(created);
    out.int(0);
    out.long(owner);
    out.long(zxid);
}

fn snapshot(znodes: impl FnOnce(&mut JuteWriter)) -> Vec<u8> {
    let mut bytes = record(|out| {
        out.int(i32::from_be_bytes(*b"ZKSN"));
        out.int(2);
        out.long(-1);
        out.count(1);
        out.long(0x77);
        out.int(6_000);
        out.count(1);
        out.long(1);
        out.acl(&secret());
        znode(out, "", b"", -1, 0, 3, 0);
        znode(out, "/zookeeper", b"", -1, 0, 2, 0);
        znode(out, "/zookeeper/quota", b"", -1, 0, 0, 0);
        znodes(out);
        out.str("/");
    });
    let seal = adler(&bytes);
    bytes.extend(record(|out| {
        out.long(seal);
        out.str("/");
    }));
    bytes
}

/// A log with these transactions: session, zxid, type, body.
fn log(transactions: &[(i64, i64, i32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = record(|out| {
        out.int(i32::from_be_bytes(*b"ZKLG"));
        out.int(2);
        out.long(0);
    });
    for (session, zxid, kind, body) in transactions {
        let mut entry = record(|out| {
            out.long(*session);
            out.int(9);
            out.long(*zxid);
            out.long(1_000 + zxid);
            out.int(*kind);
        });
        entry.extend(body);
        bytes.extend(record(|out| {
            out.long(adler(&entry));
            out.buffer(Some(&entry));
        }));
        bytes.push(b'B');
    }
    bytes.resize(bytes.len() + 1_000, 0);
    bytes
}

fn create(path: &str, data: &[u8], ephemeral: bool, parent_created: i32) -> Vec<u8> {
    record(|out| {
        out.str(path);
        out.buffer(Some(data));
        out.acl(&open());
        out.bool(ephemeral);
        out.int(parent_created);
    })
}

fn set(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    record(|out| {
        out.str(path);
        out.buffer(Some(data));
        out.int(version);
    })
}

fn delete(path: &str) -> Vec<u8> {
    record(|out| out.str(path))
}

/// ZK-19: data, lists, kinds, sessions and numbers of a snapshot are all there.
#[test]
fn a_snapshot_is_read_whole() {
    let ttl = 0xff00_0000_0000_0000_u64 as i64 | 5_000;
    let bytes = snapshot(|out| {
        znode(out, "/a", b"one", 1, 0, 7, 5);
        znode(out, "/a/e", b"", -1, 0x77, 0, 6);
        znode(out, "/c", b"", -1, i64::MIN, 1, 7);
        znode(out, "/t", b"", -1, ttl, 0, 8);
        znode(out, "/zookeeper/quota/a", b"", -1, 0, 1, 9);
        znode(out, "/zookeeper/quota/a/zookeeper_limits", b"count=5,bytes=-1", -1, 0, 0, 9);
    });
    let tree = read_snapshot(Zxid(3), &bytes).expect("it is whole");
    assert_eq!(tree.flaw(), None);
    let a = &tree.znodes["/a"];
    assert_eq!((a.data.as_deref(), a.created, a.stat.mzxid), (Some(&b"one"[..]), 7, Zxid(5)));
    assert_eq!(a.acl.as_deref(), Some(&secret()[..]));
    assert_eq!(tree.znodes["/t"].owner, Owner::Ttl(5_000));
    let summary = tree.summary();
    let expected = Summary {
        znodes: 9,
        data_bytes: 19,
        ephemerals: 1,
        containers: 1,
        ttl: 1,
        restricted: 1,
        quotas: 1,
        sessions: 1,
        last_zxid: Zxid(9),
    };
    assert_eq!(summary, expected);
}

/// ZK-19: a fuzzy snapshot holds some of what happened while it was written. Replaying everything after its zxid gives
/// what replaying over an exact one gives.
#[test]
fn a_fuzzy_snapshot_is_repaired_by_the_log() {
    let transactions = [
        (0x77, 0x11, 1, create("/a", b"1", false, 4)),
        (0x77, 0x12, 5, set("/a", b"2", 1)),
        (0x77, 0x13, 1, create("/a/x", b"", false, 1)),
        (0x77, 0x14, 2, delete("/a/x")),
        (0x77, 0x15, 1, create("/gone", b"", false, 5)),
        (0x77, 0x16, 2, delete("/gone")),
        (0x77, 0x17, 1, create("/e", b"", true, 6)),
        (0x77, 0x18, 5, set("/a", b"3", 2)),
    ];
    let log = log(&transactions);
    let replayed = |snapshot: Vec<u8>| {
        let mut tree = read_snapshot(Zxid(0x10), &snapshot).expect("it is whole");
        let read = read_log(Zxid(0x10), &log, &mut tree).expect("it is whole");
        assert_eq!(read, LogRead { replayed: 8, ..LogRead::default() });
        assert_eq!(tree.flaw(), None);
        tree
    };
    let exact = replayed(snapshot(|_| {}));
    assert_eq!(exact.znodes["/a"].data.as_deref(), Some(&b"3"[..]));
    assert_eq!((exact.znodes["/a"].created, exact.znodes["/a"].stat.pzxid), (1, Zxid(0x14)));
    assert_eq!(exact.znodes["/"].created, 6);

    // Written between 0x12 and 0x16, the parts at different times; the list of /a is in no table yet.
    let fuzzy = replayed(snapshot(|out| {
        out.str("/a");
        out.buffer(Some(b"2"));
        out.long(42);
        for number in [0x11, 0x12, 0x3e8 + 0x11, 0x3e8 + 0x12] {
            out.long(number);
        }
        for version in [1, 0, 0] {
            out.int(version);
        }
        out.long(0);
        out.long(0x11);
        znode(out, "/gone", b"", -1, 0, 0, 0x15);
    }));
    assert_eq!(compare(&exact, &fuzzy), []);
    assert_eq!(fuzzy, exact);
}

/// All of a multi, or nothing of one that failed; containers, times to live, lists; ephemerals go with their session.
#[test]
fn every_type_of_transaction_is_replayed() {
    let multi = |parts: &[(i32, Vec<u8>)]| {
        record(|out| {
            out.count(parts.len());
            for (kind, body) in parts {
                out.int(*kind);
                out.buffer(Some(body));
            }
        })
    };
    let code = |code: i32| record(|out| out.int(code));
    let extended = |path: &str, ttl: Option<i64>| {
        record(|out| {
            out.str(path);
            out.buffer(None);
            out.acl(&open());
            out.int(-1);
            ttl.into_iter().for_each(|ttl| out.long(ttl));
        })
    };
    let set_acl = record(|out| {
        out.str("/m");
        out.acl(&secret());
        out.int(1);
    });
    let log = log(&[
        (0x88, 0x11, -10, code(4_000)),
        (0x88, 0x12, 1, create("/e", b"", true, 4)),
        (
            0x77,
            0x13,
            14,
            multi(&[(1, create("/m", b"", false, 5)), (13, delete("/m")), (5, set("/m", b"m", 1))]),
        ),
        (0x77, 0x14, 14, multi(&[(-1, code(0)), (-1, code(-103))])),
        (0x77, 0x15, 19, extended("/c", None)),
        (0x77, 0x16, 21, extended("/t", Some(900))),
        (0x77, 0x17, 7, set_acl),
        (0x77, 0x18, -1, code(-101)),
        (0x88, 0x19, -11, Vec::new()),
        (0x77, 0x1a, 20, delete("/c")),
    ]);
    let mut tree = read_snapshot(Zxid(0x10), &snapshot(|_| {})).expect("it is whole");
    let read = read_log(Zxid(0x10), &log, &mut tree).expect("it is whole");
    assert_eq!((read.replayed, read.torn_at, tree.last_zxid), (10, None, Zxid(0x1a)));
    let paths: Vec<&str> = tree.znodes.keys().map(String::as_str).collect();
    assert_eq!(paths, ["/", "/m", "/t", "/zookeeper", "/zookeeper/quota"]);
    let m = &tree.znodes["/m"];
    assert_eq!((m.data.as_deref(), m.stat.version, m.stat.aversion), (Some(&b"m"[..]), 1, 1));
    assert_eq!(m.acl.as_deref(), Some(&secret()[..]));
    assert_eq!((tree.znodes["/t"].owner, &tree.znodes["/t"].data), (Owner::Ttl(900), &None));
    assert_eq!(tree.sessions.keys().copied().collect::<Vec<_>>(), [SessionId(0x77)]);
}

/// A torn last record is left out and told; the same bytes with a record behind them are damage.
#[test]
fn a_torn_tail_is_cut_and_damage_is_refused() {
    let whole = log(&[
        (1, 0x11, 1, create("/a", b"1", false, 4)),
        (1, 0x12, 1, create("/b", b"2", false, 5)),
    ]);
    let second = 16 + (whole.len() - 1_000 - 16) / 2;
    let read = |bytes: &[u8]| {
        let mut tree = read_snapshot(Zxid(0x10), &snapshot(|_| {})).expect("it is whole");
        read_log(Zxid(0x10), bytes, &mut tree)
    };
    for torn in [whole[..whole.len() - 1_010].to_vec(), {
        let mut bytes = whole.clone();
        bytes[second + 30] ^= 1;
        bytes
    }] {
        let expected = LogRead { replayed: 1, skipped: 0, torn_at: Some(second as u64) };
        assert_eq!(read(&torn), Ok(expected));
    }
    let mut damaged = whole;
    damaged[16 + 30] ^= 1;
    let what = "a record fails its checksum".to_owned();
    assert_eq!(read(&damaged), Err(BadFile { at: 16, what }));
    assert_eq!(read(&[0; 64]), Ok(LogRead::default()));
    assert!(read(b"ZKSN, not a log at all").is_err());
}

/// Whatever byte of a file is wrong or missing: it is refused, in time and without memory that it did not pay for.
#[test]
fn no_broken_file_is_taken_for_a_whole_one() {
    let whole = snapshot(|out| znode(out, "/a", b"one", 1, 0, 7, 5));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        // The database's id means nothing, but the checksum covers it.
        assert!(read_snapshot(Zxid(3), &bytes).is_err(), "byte {at} flipped");
        assert!(read_snapshot(Zxid(3), &whole[..at]).is_err(), "cut at {at}");
    }
    let log = log(&[(1, 0x11, 1, create("/a", b"1", false, 4))]);
    for at in 0..log.len() - 1_000 {
        let mut tree = ImportedTree::default();
        let mut bytes = log.clone();
        bytes[at] ^= 0x80;
        let _ = read_log(Zxid(0), &bytes, &mut tree);
    }
}

/// ZK-19: the new cluster goes on above the old one; ephemerals stay behind, and what they were part of shows it.
#[test]
fn a_founded_tree_goes_on_above_the_imported_one() {
    let bytes = snapshot(|out| {
        znode(out, "/a", b"one", 1, 0, 7, 0x5_0000_0004);
        znode(out, "/locks", b"", -1, 0, 4, 6);
        znode(out, "/locks/e", b"", -1, 0x77, 0, 6);
        znode(out, "/zookeeper/config", b"server.1=old:2888:3888", -1, 0, 0, 6);
        znode(out, "/zookeeper/quota/a", b"", -1, 0, 2, 6);
        znode(out, "/zookeeper/quota/a/zookeeper_limits", b"count=9,bytes=-1", -1, 0, 0, 6);
        znode(out, "/zookeeper/quota/a/zookeeper_stats", b"count=7,bytes=7", -1, 0, 0, 6);
    });
    let imported = read_snapshot(Zxid(3), &bytes).expect("it is whole");
    let founding = Founding::above(imported.last_zxid);
    assert_eq!(founding.zxid, Zxid(0x6_0000_0000));
    let mut tree = Tree::found(&imported, founding).expect("it has no flaw");
    assert_eq!(tree.znodes(), 9);
    let counted = tree.znode("/zookeeper/quota/a/zookeeper_stats").expect("it was kept").data();
    assert_eq!(counted, Some(&b"count=1,bytes=3"[..]), "the usage is counted anew");
    assert!(tree.znode("/locks/e").is_none());
    let locks = tree.znode("/locks").expect("it was kept").stat();
    assert_eq!((locks.pzxid, locks.cversion, locks.num_children), (founding.zxid, 8, 0));
    assert_eq!(tree.znode("/a").expect("it was kept").stat().cversion, 14);
    assert_eq!(tree.znode("/zookeeper/config").and_then(|znode| znode.data()), Some(&b""[..]));

    // The snapshot that a new node starts from holds the same, offset included.
    let mut bytes = Vec::new();
    tree.begin_snapshot();
    while tree.snapshot_slice(64, &mut bytes) == quorate_contracts::Progress::More {}
    let mut restored = Tree::restore(&mut &bytes[..]).expect("it is whole");
    assert_eq!((restored.digest(), restored.last_zxid()), (tree.digest(), founding.zxid));
    let body =
        crate::command::Body::Expire { session: SessionId(1), attachment: Default::default() };
    let mut command = quorate_contracts::WireWriter::default();
    crate::command::Command { unix_ms: 1, body }.encode(&mut command);
    restored.apply(LogIndex(founding.index.0 + 1), &command.finish(), &mut Vec::new());
    assert_eq!(restored.last_zxid(), Zxid(founding.zxid.0 + 1));
}

/// A znode without a parent, or without a known list, is told rather than left out.
#[test]
fn files_that_do_not_belong_together_are_refused() {
    let tree = |path: &'static str, list| {
        read_snapshot(Zxid(3), &snapshot(|out| znode(out, path, b"", list, 0, 0, 5)))
            .expect("it reads")
    };
    assert_eq!(tree("/a/b", -1).flaw().as_deref(), Some("/a/b has no parent"));
    assert!(tree("/a", 9).flaw().is_some_and(|flaw| flaw.contains("list of /a")));
    let founding = Founding::above(Zxid(5));
    assert!(Tree::found(&tree("/a", 9), founding).is_err());
}

#[test]
fn differences_are_told_by_path() {
    let tree = |data: &'static [u8], extra: bool| {
        let bytes = snapshot(|out| {
            znode(out, "/a", data, -1, 0, 0, 5);
            if extra {
                znode(out, "/b", b"", -1, 0, 0, 6);
            }
            znode(out, "/e", b"", -1, 0x77, 0, 7);
        });
        read_snapshot(Zxid(3), &bytes).expect("it is whole")
    };
    let told = |source, found| -> Vec<String> {
        compare(source, found).iter().map(Difference::to_string).collect()
    };
    let (source, other) = (tree(b"one", true), tree(b"two!", false));
    assert!(told(&source, &source).is_empty());
    assert_eq!(told(&source, &other), ["/a: data differ (3 bytes, 4 bytes)", "/b: is missing"]);
    assert_eq!(
        told(&other, &source),
        ["/a: data differ (4 bytes, 3 bytes)", "/b: is not in the source"]
    );
}
