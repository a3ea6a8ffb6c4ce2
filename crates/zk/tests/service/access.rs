//! What an access control list hides stays hidden, whichever way it is asked for.

use quorate_zk::command::{AclEntry, CreateMode, Identity, Op};
use quorate_zk::tree::{anyone, perms};
use quorate_zk::wire::{JuteReader, JuteWriter, opcode};

use crate::bench::{Bench, Client, Heard};
use crate::order::create;

fn entry(perms: i32, scheme: &str, id: &str) -> AclEntry {
    AclEntry { perms, identity: Identity { scheme: scheme.into(), id: id.into() } }
}

/// Whoever the caller has proven to be, and nobody else.
fn own() -> Vec<AclEntry> {
    vec![entry(perms::ALL, "auth", "")]
}

/// Someone with a secret, and somebody who is not to see it.
fn owner_and_stranger(bench: &mut Bench) -> (Client, Client) {
    let ((owner, _), (stranger, _)) = (bench.client(0), bench.client(0));
    bench.auth(owner, "owner:pw");
    (owner, stranger)
}

fn secret(path: &str) -> Op<'_> {
    Op::Create { path, data: Some(b""), acl: own(), mode: CreateMode::Persistent }
}

fn add_watch(bench: &mut Bench, client: Client, path: &str, mode: i32) {
    bench.ask(client, 1, opcode::ADD_WATCH, |out| {
        out.str(path);
        out.int(mode);
    });
    assert_eq!(bench.story(client), ["1 ok"]);
}

/// ZK-18: events of a znode are told only to those who may read it; also its last one.
#[test]
fn a_hidden_znode_goes_unseen() {
    let mut bench = Bench::new(1);
    let (owner, stranger) = owner_and_stranger(&mut bench);
    add_watch(&mut bench, stranger, "/secret", 0);
    add_watch(&mut bench, owner, "/secret", 0);
    bench.write(owner, 2, opcode::CREATE, &secret("/secret"));
    bench.set(owner, 3, "/secret", "x");
    bench.write(owner, 4, opcode::DELETE, &Op::Delete { path: "/secret", version: -1 });
    bench.settle();
    let told = ["event 1 /secret", "2 ok", "event 3 /secret", "3 ok", "event 2 /secret", "4 ok"];
    assert_eq!(bench.story(owner), told);
    assert_eq!(bench.story(stranger), [""; 0]);
}

/// ZK-18: within one transaction a list that is no longer used may give its number to another: each event is
/// judged by the list that its own znode had.
#[test]
fn an_event_is_judged_by_its_own_list() {
    let mut bench = Bench::new(1);
    let (owner, stranger) = owner_and_stranger(&mut bench);
    bench.write(owner, 1, opcode::CREATE, &secret("/secret"));
    bench.settle();
    bench.heard(owner);
    add_watch(&mut bench, stranger, "/secret", 0);
    let open = vec![entry(perms::ALL, "world", "anyone"), entry(perms::READ, "ip", "10.0.0.1")];
    let multi = [
        Op::Delete { path: "/secret", version: -1 },
        Op::Create { path: "/open", data: None, acl: open, mode: CreateMode::Persistent },
    ];
    bench.multi(owner, 2, &[(opcode::DELETE, &multi[0]), (opcode::CREATE, &multi[1])]);
    bench.settle();
    assert_eq!((bench.story(owner), bench.story(stranger)), (vec!["2 ok".to_string()], vec![]));
}

/// ZK-12, ZK-18: who sets watches again learns nothing of znodes that are hidden.
#[test]
fn watches_set_again_show_nothing_hidden() {
    let mut bench = Bench::new(1);
    let (owner, stranger) = owner_and_stranger(&mut bench);
    for (xid, path) in [(1, "/data"), (2, "/exist"), (3, "/child"), (4, "/child/c")] {
        bench.write(owner, xid, opcode::CREATE, &secret(path));
    }
    bench.settle();
    bench.heard(owner);
    let set_watches = |out: &mut JuteWriter| {
        out.long(0);
        for path in ["/data", "/exist", "/child"] {
            out.count(1);
            out.str(path);
        }
    };
    bench.ask(stranger, -8, opcode::SET_WATCHES, set_watches);
    assert_eq!(bench.story(stranger), ["-8 ok"]);
    bench.ask(owner, -8, opcode::SET_WATCHES, set_watches);
    assert_eq!(bench.story(owner), ["event 3 /data", "event 1 /exist", "event 4 /child", "-8 ok"]);
}

/// ZK-18: `auth` stands for what the caller has proven, but not for being the superuser: that would let every
/// superuser in by name.
#[test]
fn auth_does_not_stand_for_the_superuser() {
    let mut bench = Bench::new(1);
    let (root, _) = bench.client(0);
    bench.auth(root, "super:test");
    bench.write(root, 1, opcode::CREATE, &secret("/s"));
    bench.settle();
    bench.heard(root);
    bench.ask(root, 2, opcode::GET_ACL, |out| out.str("/s"));
    let heard = bench.heard(root);
    let [Heard::Reply(2, 0, record)] = &heard[..] else { panic!("{heard:?}") };
    let acl = JuteReader::new(record).acl().expect("a list");
    assert_eq!(acl, [entry(perms::ALL, "digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")]);
}

/// ZK-3: which refusal comes first, as in ZooKeeper's `PrepRequestProcessor`.
#[test]
fn checks_come_in_zookeepers_order() {
    let mut bench = Bench::new(1);
    let (owner, stranger) = owner_and_stranger(&mut bench);
    let reader = vec![entry(perms::READ, "world", "anyone"), own()[0].clone()];
    for (xid, path, acl) in [(1, "/p", reader), (2, "/p/c", own())] {
        let op = Op::Create { path, data: None, acl, mode: CreateMode::Persistent };
        bench.write(owner, xid, opcode::CREATE, &op);
    }
    bench.write(owner, 3, opcode::CREATE, &create("/open", CreateMode::Persistent));
    bench.settle();
    bench.heard(owner);
    let anybody = || vec![AclEntry { perms: perms::ALL, identity: anyone() }];
    let made = |path, acl| Op::Create { path, data: None, acl, mode: CreateMode::Persistent };
    let set = |path, version| Op::SetData { path, data: None, version };
    let cases: [(Op<'_>, i32, i32); 21] = [
        // create: list, parent, permission, path, existence
        (made("/none/c", vec![]), opcode::CREATE, -114),
        (made("/none/", anybody()), opcode::CREATE, -101),
        (made("/p/", anybody()), opcode::CREATE, -102),
        (made("/p/c", anybody()), opcode::CREATE, -102),
        (made("/open/", vec![]), opcode::CREATE, -114),
        (made("/open/..", anybody()), opcode::CREATE, -8),
        (made("a", vec![]), opcode::CREATE, -8),
        (made("/", anybody()), opcode::CREATE, -110),
        // delete: path, parent, permission, existence, version, children
        (Op::Delete { path: "a", version: -1 }, opcode::DELETE, -8),
        (Op::Delete { path: "/zookeeper/config", version: -1 }, opcode::DELETE, -8),
        (Op::Delete { path: "/none/c", version: -1 }, opcode::DELETE, -101),
        (Op::Delete { path: "/p/none", version: 9 }, opcode::DELETE, -102),
        (Op::Delete { path: "/open/none", version: 9 }, opcode::DELETE, -101),
        (Op::Delete { path: "/p", version: 9 }, opcode::DELETE, -103),
        // setData: path, existence, permission, version
        (set("/none/", -1), opcode::SET_DATA, -8),
        (set("a", -1), opcode::SET_DATA, -8),
        (set("/none", 9), opcode::SET_DATA, -101),
        (set("/p", 9), opcode::SET_DATA, -102),
        // setACL: path, list, existence, permission
        (Op::SetAcl { path: "/p/", acl: vec![], version: -1 }, opcode::SET_ACL, -8),
        (Op::SetAcl { path: "/none", acl: vec![], version: -1 }, opcode::SET_ACL, -114),
        (Op::SetAcl { path: "/p", acl: anybody(), version: 9 }, opcode::SET_ACL, -102),
    ];
    for (op, opcode, error) in cases {
        bench.write(stranger, 9, opcode, &op);
        bench.settle();
        assert_eq!(bench.story(stranger), [format!("9 error {error}")], "{op:?}");
    }
    for (path, version, error) in [("/p/c/", 1, -8), ("/none", 1, -101), ("/p/c", 1, -102)] {
        let op = Op::Check { path, version };
        bench.multi(stranger, 9, &[(opcode::CHECK, &op)]);
        bench.settle();
        assert_eq!(bench.multi_errors(stranger), [error], "{op:?}");
    }
}

/// ZK-3: a multi may not hold a setACL, nor anything else that ZooKeeper does not take there (-5); flags
/// that mean nothing are refused where they stand (-8).
#[test]
fn a_multi_holds_only_what_it_may() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    let made = create("/a", CreateMode::Persistent);
    let acl = Op::SetAcl { path: "/", acl: own(), version: -1 };
    bench.multi(client, 1, &[(opcode::CREATE, &made), (opcode::SET_ACL, &acl)]);
    bench.settle();
    assert_eq!(bench.story(client), ["1 error -5"]);
    assert!(bench.tree(0).znode("/a").is_none() && !bench.is_closed(client));
    bench.ask(client, 2, opcode::MULTI, |out| {
        for (path, flags) in [("/a", 0), ("/b", 77)] {
            out.int(opcode::CREATE);
            out.bool(false);
            out.int(-1);
            out.str(path);
            out.buffer(None);
            out.acl(&[AclEntry { perms: perms::ALL, identity: anyone() }]);
            out.int(flags);
        }
        out.int(-1);
        out.bool(true);
        out.int(-1);
    });
    bench.settle();
    assert_eq!(bench.multi_errors(client), [0, -8]);
    assert!(bench.tree(0).znode("/a").is_none());
}

/// ZK-18: a client that answers the SASL challenge with something else than the proof is sent away (-115).
#[test]
fn sasl_without_a_proof() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.ask(client, 1, opcode::SASL, |out| out.buffer(Some(b"")));
    let heard = bench.heard(client);
    let [Heard::Reply(1, 0, record)] = &heard[..] else { panic!("{heard:?}") };
    let token = JuteReader::new(record).buffer().expect("a token").unwrap_or_default();
    assert!(token.starts_with(b"realm=\"zk-sasl-md5\",nonce=\""));
    bench.ask(client, 2, opcode::SASL, |out| out.buffer(Some(b"username=\"bob\"")));
    assert_eq!(bench.story(client), ["2 error -115"]);
    assert!(bench.is_closed(client));
}

/// ZK-17: most clients number auth -4, but the registry's Rust client numbers it like any other request, and waits for that number.
#[test]
fn auth_is_answered_under_the_number_that_it_came_with() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    for xid in [-4, 7] {
        bench.ask(client, xid, opcode::AUTH, |out| {
            out.int(0);
            out.str("digest");
            out.buffer(Some(b"bob:pw"));
        });
        assert_eq!(bench.story(client), [format!("{xid} ok")]);
    }
}

/// ZK-18: which schemes prove something: digest, also without a colon; world and unknown ones end the connection.
#[test]
fn schemes_of_auth() {
    let mut bench = Bench::new(1);
    for (scheme, data, expected) in [
        ("digest", "nocolon", "-4 ok"),
        ("ip", "", "-4 ok"),
        ("world", "anyone", "-4 error -115"),
        ("nosuch", "x", "-4 error -115"),
        ("super", "", "-4 error -115"),
    ] {
        let (client, _) = bench.client(0);
        bench.ask(client, -4, opcode::AUTH, |out| {
            out.int(0);
            out.str(scheme);
            out.buffer(Some(data.as_bytes()));
        });
        assert_eq!(bench.story(client), [expected], "{scheme}");
        assert_eq!(bench.is_closed(client), expected != "-4 ok", "{scheme}");
    }
}

/// ZK-18: the subject of a client's certificate is its identity in the scheme `x509`, also where a list says `auth`; others
/// are kept out.
#[test]
fn a_certificate_is_an_identity() {
    let mut bench = Bench::new(1);
    let owner = bench.client_with_certificate(0, "CN=app,O=Example");
    let stranger = bench.client_with_certificate(0, "CN=other,O=Example");
    let (plain, _) = bench.client(0);
    for (xid, path, acl) in
        [(1, "/named", vec![entry(perms::ALL, "x509", "CN=app,O=Example")]), (2, "/auth", own())]
    {
        let op = Op::Create { path, data: Some(b"x"), acl, mode: CreateMode::Persistent };
        bench.write(owner, xid, opcode::CREATE, &op);
        bench.settle();
        assert_eq!(bench.story(owner), [format!("{xid} ok")]);
        for (client, expected) in
            [(owner, "9 ok"), (stranger, "9 error -102"), (plain, "9 error -102")]
        {
            bench.read(client, 9, opcode::GET_DATA, path, false);
            assert_eq!(bench.story(client), [expected], "{path}");
        }
    }
}

/// ZK-18: whoever owns the certificate of the superuser is kept out of nothing.
#[test]
fn the_owner_of_one_certificate_is_the_superuser() {
    let subject = "CN=root,O=Example";
    let mut bench = Bench::configured(1, |config| config.x509_super_user = Some(subject.into()));
    let root = bench.client_with_certificate(0, subject);
    let other = bench.client_with_certificate(0, "CN=other,O=Example");
    for (client, told) in [(other, "1 error -102"), (root, "1 ok")] {
        let acl = vec![entry(perms::ALL, "world", "anyone")];
        let set = Op::SetAcl { path: "/zookeeper/config", acl, version: -1 };
        bench.write(client, 1, opcode::SET_ACL, &set);
        bench.settle();
        assert_eq!(bench.story(client), [told]);
    }
}
