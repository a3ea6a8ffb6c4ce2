//! What a client asks takes effect and is answered in the order asked, and what it sends wrongly harms nobody.

use quorate_zk::command::{AclEntry, CreateMode, Op};
use quorate_zk::tree::{anyone, perms};
use quorate_zk::wire::{ConnectRequest, JuteReader, opcode};

use crate::bench::{Bench, Client, Heard, data_of};

pub(crate) fn create<'a>(path: &'a str, mode: CreateMode) -> Op<'a> {
    let acl = vec![AclEntry { perms: perms::ALL, identity: anyone() }];
    Op::Create { path, data: Some(b""), acl, mode }
}

/// ZK-6: reads between writes see exactly the writes before them, and replies keep the order, also when all were
/// sent before anything was answered.
#[test]
fn a_pipeline_is_answered_in_order() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    for (xid, data) in [(2, "one"), (4, "two")] {
        bench.set(client, xid, "/a", data);
        bench.read(client, xid + 1, opcode::GET_DATA, "/a", false);
    }
    assert!(bench.heard(client).is_empty(), "nothing is answered before it is committed");
    bench.settle();
    let heard = bench.heard(client);
    let xids: Vec<i32> =
        heard.iter().map(|h| if let Heard::Reply(xid, ..) = h { *xid } else { 0 }).collect();
    assert_eq!(xids, [1, 2, 3, 4, 5]);
    assert_eq!((data_of(&heard[2]).0, data_of(&heard[4]).0), ("one".into(), "two".into()));
}

/// ZK-6: a new leader may have lost what was proposed: it is proposed again, and what the old one did commit
/// takes effect once.
#[test]
fn writes_in_flight_survive_a_leader_change_once() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    bench.write(client, 1, opcode::CREATE, &create("/n-", CreateMode::PersistentSequential));
    bench.commit();
    bench.write(client, 2, opcode::CREATE, &create("/n-", CreateMode::PersistentSequential));
    bench.proposed.clear(); // the old leader died with it
    bench.elect(0, 2);
    bench.settle();
    assert_eq!(bench.story(client), ["1 ok", "2 ok"]);
    let names: Vec<&str> = bench.tree(0).znode("/").expect("the root").children().collect();
    let made = names.iter().filter(|name| name.starts_with("n-")).count();
    assert_eq!(made, 2, "{names:?}");
}

/// ZK-6: when a write is lost on its way and a later one is not, both are proposed again, in order.
#[test]
fn a_gap_is_filled() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.proposed.clear();
    for (xid, path) in [(2, "/a/b"), (3, "/a/b/c")] {
        bench.write(client, xid, opcode::CREATE, &create(path, CreateMode::Persistent));
    }
    bench.settle();
    assert_eq!(bench.story(client), ["1 ok", "2 ok", "3 ok"]);
    assert!(!bench.is_closed(client));
}

/// ZK-6: what is proposed to a new leader is lost too, and a later write is not: the gap is filled a moment later.
#[test]
fn a_gap_after_a_leader_change() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    bench.set(client, 1, "/zookeeper", "a");
    bench.elect(0, 2);
    bench.proposed.clear();
    bench.pass(250);
    bench.set(client, 2, "/zookeeper", "b");
    bench.settle();
    assert_eq!(bench.story(client), ["1 ok", "2 ok"]);
}

/// ZK-6: a busy leader refuses some of a pipeline: its client notices only that it takes longer.
#[test]
fn a_refusal_in_the_middle_of_a_pipeline() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    let paths = ["/a", "/a/b", "/a/b/c", "/a/b/c/d"];
    for (xid, path) in (1..).zip(paths) {
        bench.write(client, xid, opcode::CREATE, &create(path, CreateMode::Persistent));
    }
    bench.refuse(0);
    bench.settle();
    bench.read(client, 5, opcode::EXISTS, "/a/b/c/d", false);
    bench.set(client, 6, "/a/b", "x");
    assert_eq!(bench.proposed, [], "what follows a refused write waits");
    bench.pass(1_000);
    assert_eq!(bench.story(client), ["1 ok", "2 ok", "3 ok", "4 ok", "5 ok", "6 ok"]);
    (7..10).for_each(|xid| bench.set(client, xid, "/a/b", "y"));
    bench.refuse(1);
    bench.settle();
    assert_eq!(bench.story(client), ["7 ok", "8 ok", "9 ok"], "one before it got through");
    (10..12).for_each(|xid| bench.set(client, xid, "/a/b", "z"));
    (0..2).for_each(|_| bench.refuse(0));
    bench.elect(0, 2);
    bench.settle();
    assert_eq!(bench.story(client), ["10 ok", "11 ok"], "a new leader is asked at once");
}

/// ZK-1, ZK-2: a znode's Stat follows ZooKeeper's rules: cversion counts creations and deletions, the suffix
/// creations only.
#[test]
fn stats_and_suffixes() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/d", CreateMode::Persistent));
    for xid in 2..4 {
        bench.write(
            client,
            xid,
            opcode::CREATE,
            &create("/d/s-", CreateMode::PersistentSequential),
        );
    }
    bench.write(client, 4, opcode::DELETE, &Op::Delete { path: "/d/s-0000000000", version: -1 });
    bench.write(client, 5, opcode::CREATE, &create("/d/s-", CreateMode::PersistentSequential));
    bench.read(client, 6, opcode::GET_DATA, "/d", false);
    bench.settle();
    let heard = bench.heard(client);
    let Heard::Reply(5, 0, path) = &heard[4] else { panic!("{heard:?}") };
    assert_eq!(JuteReader::new(path).str(), Ok("/d/s-0000000002"));
    let (_, stat) = data_of(&heard[5]);
    assert_eq!((stat.cversion, stat.num_children, stat.version), (4, 2, 0));
}

/// ZK-3: refusals, with ZooKeeper's codes, and nothing changed.
#[test]
fn refusals_have_zookeepers_codes() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.write(client, 2, opcode::CREATE, &create("/e", CreateMode::Ephemeral));
    bench.write(client, 3, opcode::CREATE, &create("/a/c", CreateMode::Persistent));
    let cases: [(Op<'_>, i32, i32); 9] = [
        (create("/a", CreateMode::Persistent), opcode::CREATE, -110),
        (create("/x/y", CreateMode::Persistent), opcode::CREATE, -101),
        (create("/e/c", CreateMode::Persistent), opcode::CREATE, -108),
        (create("/a/", CreateMode::Persistent), opcode::CREATE, -8),
        (Op::Delete { path: "/a", version: -1 }, opcode::DELETE, -111),
        (Op::Delete { path: "/", version: -1 }, opcode::DELETE, -8),
        (Op::Delete { path: "/none", version: -1 }, opcode::DELETE, -101),
        (Op::SetData { path: "/a", data: None, version: 7 }, opcode::SET_DATA, -103),
        (Op::SetAcl { path: "/a", acl: vec![], version: -1 }, opcode::SET_ACL, -114),
    ];
    bench.settle();
    bench.heard(client);
    let before = bench.tree(0).znodes();
    for (op, opcode, error) in cases {
        bench.write(client, 9, opcode, &op);
        bench.settle();
        assert_eq!(bench.story(client), [format!("9 error {error}")], "{op:?}");
    }
    assert_eq!(bench.tree(0).znodes(), before);
}

/// ZK-3: exists refuses a path with a NUL, as ZooKeeper does; it sets no watch then.
#[test]
fn a_path_with_a_nul() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.read(client, 1, opcode::EXISTS, "/a\0b", true);
    assert_eq!(bench.story(client), ["1 error -8"]);
}

/// ZK-20: a record that does not read is refused (-5), a packet without a header ends its own connection; an unknown
/// opcode gets its code first.
#[test]
fn nonsense_ends_its_own_connection_only() {
    let mut bench = Bench::new(1);
    let (bystander, _) = bench.client(0);
    let (client, _) = bench.client(0);
    for packet in [&b"\0\0\0\x01\0\0\0\x04\x7f\xff\xff\xff"[..], b"\0\0\0\x01\0\0\0\x0e\xff"] {
        bench.send(client, packet.to_vec());
        assert_eq!(bench.story(client), ["1 error -5"], "{packet:?}");
    }
    bench.send(client, &b"\0\0"[..]);
    assert!(bench.is_closed(client), "not even a header");
    let (client, _) = bench.client(0);
    bench.ask(client, 1, 77, |_| {});
    assert_eq!(
        (bench.story(client), bench.is_closed(client)),
        (vec!["1 error -6".to_string()], true)
    );
    let fresh = bench.open(0);
    bench.send(fresh, b"not a handshake".to_vec());
    assert!(bench.is_closed(fresh) && !bench.is_closed(bystander));
}

/// ZK-20: a client with too much in flight, by number or by bytes, is not read from until it was answered.
#[test]
fn back_pressure() {
    let mut bench = Bench::new(1);
    let (many, _) = bench.client(0);
    let (large, _) = bench.client(0);
    for xid in 1..=10 {
        assert!(!bench.is_paused(many));
        bench.set(many, xid, "/zookeeper", "x");
    }
    let data = "x".repeat(40_000);
    for xid in 1..=3 {
        assert!(!bench.is_paused(large));
        bench.set(large, xid, "/zookeeper", &data);
    }
    assert!(bench.is_paused(many) && bench.is_paused(large));
    bench.settle();
    assert!(!bench.is_paused(many) && !bench.is_paused(large));
}

fn large_znode(bench: &mut Bench, client: Client) {
    bench.write(client, 1, opcode::CREATE, &create("/large", CreateMode::Persistent));
    bench.set(client, 2, "/large", &"x".repeat(15_000));
    bench.settle();
    bench.heard(client);
}

/// ZK-20, ZK-6: a client that asks faster than it takes its answers is answered as fast as it takes them, and
/// in order; its writes wait for the reads before them.
#[test]
fn replies_wait_for_a_slow_client() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    large_znode(&mut bench, client);
    bench.stall(client, true);
    for xid in 1..=8 {
        bench.read(client, xid, opcode::GET_DATA, "/large", false);
    }
    bench.set(client, 9, "/large", "small");
    bench.read(client, 10, opcode::GET_DATA, "/large", false);
    bench.settle();
    assert!(bench.unread(client) < 40_000, "{} bytes wait", bench.unread(client));
    bench.stall(client, false);
    bench.settle();
    let heard = bench.heard(client);
    let told: Vec<(i32, usize)> = heard
        .iter()
        .map(|heard| match heard {
            Heard::Reply(xid, 0, record) => (*xid, record.len() / 15_000),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<(i32, usize)> = (1..=10).map(|xid| (xid, usize::from(xid < 9))).collect();
    assert_eq!(told, expected);
}

/// ZK-20: a client that takes nothing, and is owed more and more, is given up.
#[test]
fn a_client_that_never_reads() {
    let mut bench = Bench::new(1);
    let (deaf, _) = bench.client(0);
    let (writer, _) = bench.client(0);
    bench.ask(deaf, 1, opcode::ADD_WATCH, |out| {
        out.str("/zookeeper");
        out.int(0);
    });
    bench.stall(deaf, true);
    for xid in 0..6_000 {
        bench.set(writer, xid, "/zookeeper", "x");
        bench.settle();
        bench.heard(writer);
    }
    assert!(bench.is_closed(deaf) && !bench.is_closed(writer));
    assert!(bench.unread(deaf) < 210_000);
}

/// ZK-18: what scripts read.
#[test]
fn four_letter_words() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(0);
    let request = ConnectRequest::default();
    assert_eq!((request.session, bench.is_closed(client)), (0, false));
    assert_eq!((bench.word(0, *b"ruok"), bench.word(0, *b"isro")), ("imok".into(), "rw".into()));
    let srvr = bench.word(0, *b"srvr");
    assert!(
        srvr.starts_with("Zookeeper version: 3.9.3-") && srvr.contains("\nMode: leader\n"),
        "{srvr}"
    );
    assert!(bench.word(1, *b"srvr").contains("\nMode: follower\n"));
    assert!(bench.word(0, *b"mntr").contains("zk_global_sessions\t1\n"));
    assert!(bench.word(0, *b"envi").starts_with("Environment:\nzookeeper.version=3.9.3-"));
    assert!(bench.word(0, *b"nope").contains("not in the whitelist"));
}

/// ZK-18: what takes as long as there are watches is closed to clients; administrators ask it by HTTP, and whoever opens it.
#[test]
fn words_of_watches_are_open_to_administrators() {
    let mut bench = Bench::new(1);
    let (client, session) = bench.client(0);
    bench.read(client, 1, opcode::EXISTS, "/a", true);
    bench.read(client, 2, opcode::EXISTS, "/b", true);
    let sid = session.session;
    let by_session = format!("0x{sid:x}\n\t/a\n\t/b\n");
    let by_path = format!("/a\n\t0x{sid:x}\n/b\n\t0x{sid:x}\n");
    for (word, told) in [(*b"wchc", by_session), (*b"wchp", by_path)] {
        assert!(bench.word(0, word).contains("not in the whitelist"));
        assert_eq!(bench.administrators_word(0, word), told);
    }
    assert_eq!(bench.word(0, *b"dirs"), "datadir_size: 0\nlogdir_size: 0\n");
    assert!(
        bench.word(0, *b"wchs").starts_with("1 connections watching 2 paths\nTotal watches:2\n")
    );
}

/// ZK-18: how long reads and writes took, and how large what was proposed is, under ZooKeeper's names.
#[test]
fn distributions_in_words() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(0);
    bench.set(client, 1, "/zookeeper", "x");
    bench.settle();
    bench.read(client, 2, opcode::EXISTS, "/", false);
    let mntr = bench.word(0, *b"mntr");
    for line in [
        "zk_cnt_readlatency\t1\n",
        "zk_cnt_updatelatency\t1\n",
        "zk_cnt_fsynctime\t0\n",
        "zk_leader_uptime\t",
    ] {
        assert!(mntr.contains(line), "no {line:?} in {mntr}");
    }
    assert!(bench.word(0, *b"srvr").contains("\nProposal sizes last/min/max: "));
    assert!(!bench.word(1, *b"srvr").contains("Proposal sizes"));
}

/// ZK-18: who is connected, and what was counted of it.
#[test]
fn connections_in_words() {
    let mut bench = Bench::new(1);
    let (client, session) = bench.client(0);
    bench.set(client, 0x1a, "/zookeeper", "x");
    bench.settle();
    let (cons, stat) = (bench.word(0, *b"cons"), bench.word(0, *b"stat"));
    let sid = session.session;
    let expected = format!(
        " /127.0.0.1:4000[1](queued=0,recved=2,sent=2,sid=0x{sid:x},lop=SETD,est=0,to=6000,lcxid=0x1a,\
         lzxid=0x2,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n"
    );
    assert!(cons.starts_with(&expected), "{cons}");
    let brief = "\nClients:\n /127.0.0.1:4000[1](queued=0,recved=2,sent=2)\n";
    assert!(stat.contains(brief), "{stat}");
    assert_eq!(bench.word(0, *b"crst"), "Connection stats reset.\n");
    assert!(bench.word(0, *b"stat").contains("(queued=0,recved=0,sent=0)\n"));
    assert_eq!(bench.word(0, *b"srst"), "Server stats reset.\n");
}

/// ZK-18: a server that knows no leader says so, as scripts expect, and claims no mode.
#[test]
fn words_without_a_leader() {
    let mut bench = Bench::without_leader(2);
    for word in [b"srvr", b"stat", b"mntr", b"cons", b"dump", b"wchs"] {
        let answer = bench.word(0, *word);
        assert_eq!(answer, "This ZooKeeper instance is not currently serving requests\n");
    }
    assert_eq!((bench.word(0, *b"ruok"), bench.word(0, *b"isro")), ("imok".into(), "null".into()));
    assert!(bench.word(0, *b"envi").starts_with("Environment:\n"));
}

/// ZK-9: a write that reaches a follower is answered by that follower, once it has applied the entry itself; that the
/// leader has is not enough.
#[test]
fn the_server_that_was_asked_answers_after_it_has_applied() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.commit();
    bench.apply(0);
    assert!(bench.tree(0).znode("/a").is_some() && bench.story(client).is_empty());
    bench.apply(1);
    assert_eq!(bench.story(client), ["1 ok"]);
}
