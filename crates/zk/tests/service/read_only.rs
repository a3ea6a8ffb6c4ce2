//! What is left for clients while there is no quorum (ZK-18).

use quorate_contracts::{ServiceInput, Term};
use quorate_zk::server::ClientRequest;
use quorate_zk::wire::{ConnectRequest, opcode};

use crate::bench::Bench;

fn request(read_only: Option<bool>) -> ConnectRequest {
    ConnectRequest { timeout_ms: 6_000, password: vec![0; 16], read_only, ..Default::default() }
}

/// ZK-18: without a quorum who asks for it reads, is told so, and can change nothing; others are sent away. Once there is
/// a leader again it finds a server for everything.
#[test]
fn clients_that_ask_for_it_read_while_there_is_no_quorum() {
    let mut bench = Bench::configured_without_leader(1, |config| config.read_only_mode = true);
    bench.pass(3_000);
    assert_eq!(bench.word(0, *b"isro"), "ro");
    assert!(bench.word(0, *b"srvr").contains("\nMode: read-only\n"));
    let writer = bench.open(0);
    assert!(bench.join(writer, &request(Some(false))).is_none() && bench.is_closed(writer));
    let reader = bench.open(0);
    let joined = bench.join(reader, &request(Some(true))).expect("it may read");
    assert_eq!((joined.read_only, joined.timeout_ms), (Some(true), 6_000));
    assert_ne!(joined.session, 0);
    bench.read(reader, 1, opcode::GET_CHILDREN, "/", false);
    bench.set(reader, 2, "/", "x");
    bench.ask(reader, -2, opcode::PING, |_| {});
    assert_eq!(bench.story(reader), ["1 ok", "2 error -119", "-2 ok"]);
    assert!(bench.proposed.is_empty(), "not even a session is written");
    bench.tell(0, ClientRequest::Serving);
    bench.elect(0, 1);
    bench.settle();
    assert!(bench.is_closed(reader));
    assert_eq!(bench.word(0, *b"isro"), "rw");
    let reader = bench.open(0);
    let joined = bench.join(reader, &request(Some(true))).expect("there is a quorum");
    assert_eq!(joined.read_only, Some(false));
}

/// ZK-18: a session that was there before goes on reading under its own id, if the client knows its password; an election
/// alone makes nothing read-only.
#[test]
fn a_session_goes_on_reading() {
    let mut bench = Bench::configured(1, |config| config.read_only_mode = true);
    bench.tell(0, ClientRequest::Serving);
    let (_, session) = bench.client(0);
    bench.step(0, ServiceInput::Leader { leader: None, term: Term(2) });
    bench.pass(1_000);
    assert_eq!(bench.word(0, *b"isro"), "null");
    bench.pass(2_000);
    for (password, knows) in [(session.password.to_vec(), true), (vec![7; 16], false)] {
        let client = bench.open(0);
        let request = ConnectRequest { session: session.session, password, ..request(Some(true)) };
        let joined = bench.join(client, &request).map(|joined| (joined.session, joined.read_only));
        assert_eq!(joined, knows.then_some((session.session, Some(true))));
    }
}
