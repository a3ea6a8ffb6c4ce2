//! The leader's disk is full: writes are refused clearly, everything else goes on.

use quorate_contracts::{Refusal, Room, Service};
use quorate_zk::command::{CreateMode, Op};
use quorate_zk::server::{ClientRequest, HostFacts, Server};
use quorate_zk::wire::{ConnectRequest, opcode};

use crate::bench::{Bench, Client};
use crate::order::create;

/// A write that is refused where it came in.
fn write_in_vain(bench: &mut Bench, client: Client, xid: i32, path: &str) {
    bench.write(client, xid, opcode::CREATE, &create(path, CreateMode::Persistent));
    bench.refuse_for(0, Refusal::NoRoom);
}

/// ZK-6: each write is answered with -127, which says that nothing happened; reads between them are answered; and the
/// writes that come once there is room follow on each other as if nothing had been.
#[test]
fn writes_are_refused_at_once_and_leave_no_gap() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    write_in_vain(&mut bench, client, 1, "/a");
    write_in_vain(&mut bench, client, 2, "/b");
    bench.read(client, 3, opcode::EXISTS, "/a", false);
    assert_eq!(bench.story(client), ["1 error -127", "2 error -127", "3 error -101"]);
    bench.write(client, 4, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.write(client, 5, opcode::CREATE, &create("/a/b", CreateMode::Persistent));
    bench.settle();
    assert_eq!(bench.story(client), ["4 ok", "5 ok"]);
    assert!(bench.tree(0).znode("/b").is_none());
}

/// A write that had left before it was known may have happened: it waits for room, and so do those behind it ...
#[test]
fn a_write_that_had_left_waits_for_room() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.keep_proposals = true;
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.refuse_for(0, Refusal::Busy);
    bench.write(client, 2, opcode::CREATE, &create("/b", CreateMode::Persistent));
    bench.pass(250);
    bench.refuse_for(0, Refusal::NoRoom);
    assert_eq!(bench.story(client), [""; 0], "it is not said to be refused");
    bench.keep_proposals = false;
    bench.pass(1_000);
    assert_eq!(bench.story(client), ["1 ok", "2 ok"]);
}

/// ... but not for ever: its connection ends, which says that its outcome is not known.
#[test]
fn a_write_of_unknown_outcome_does_not_wait_for_ever() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.keep_proposals = true;
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.refuse_for(0, Refusal::Busy);
    for _ in 0..20 {
        bench.pass(250);
        while !bench.proposed.is_empty() {
            bench.refuse_for(0, Refusal::NoRoom);
        }
    }
    assert!(bench.is_closed(client));
    assert_eq!(bench.story(client), [""; 0]);
}

/// ZK-11: a server on its reserve sends away who begins a session or moves one here, at once: the next server may take them.
/// Those whom it has it keeps, and monitoring is answered. With room all come in again.
#[test]
fn a_server_on_its_reserve_sends_new_clients_away() {
    let mut bench = Bench::new(1);
    let (old, _) = bench.client(0);
    let room_is = |bench: &mut Bench, room| {
        let facts = HostFacts { room, ..HostFacts::default() };
        bench.tell(0, ClientRequest::HostFacts(Box::new(facts)));
    };
    let knock = |bench: &mut Bench, session| {
        let client = bench.open(0);
        let request = ConnectRequest { session, ..ConnectRequest::default() };
        bench.send(client, request.encode().slice(4..));
        bench.settle();
        bench.is_closed(client)
    };
    room_is(&mut bench, Room::Little);
    assert!(!knock(&mut bench, 0), "a little room does for sessions");
    room_is(&mut bench, Room::Reserve);
    assert_eq!([knock(&mut bench, 0), knock(&mut bench, 77)], [true, true]);
    bench.read(old, 1, opcode::EXISTS, "/a", false);
    assert_eq!(bench.story(old), ["1 error -101"], "who is here goes on reading");
    room_is(&mut bench, Room::Enough);
    assert!(!knock(&mut bench, 0));
}

/// Sessions are made, moved and ended with the little room that is left; nothing else is.
#[test]
fn what_sessions_need_is_vital_and_writes_are_not() {
    let mut bench = Bench::new(1);
    bench.keep_proposals = true;
    let vital = |bench: &mut Bench| {
        bench.proposed.drain(..).map(|p| Server::is_vital(p.command())).collect::<Vec<bool>>()
    };
    let fresh = bench.open(0);
    bench.send(fresh, quorate_zk::wire::ConnectRequest::default().encode().slice(4..));
    assert_eq!(vital(&mut bench), [true]);
    bench.keep_proposals = false;
    let (client, _) = bench.client(0);
    bench.keep_proposals = true;
    bench.write(client, 1, opcode::CREATE, &create("/a", CreateMode::Persistent));
    bench.write(client, 2, opcode::CLOSE_SESSION, &Op::CloseSession);
    assert_eq!(vital(&mut bench), [false, true]);
}
