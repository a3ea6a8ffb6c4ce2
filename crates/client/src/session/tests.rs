//! The session's story, told packet by packet.

use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::Time;
use quorate_zk::command::Zxid;
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, ReplyHeader, Request, notification, packet,
};

use super::*;
use crate::failure::{Cause, Failure, Refusal};
use crate::watches::EventKind;

/// A session, the time, and everything that came out.
struct World {
    session: Session,
    now: Time,
    out: Vec<Output>,
}

impl World {
    fn new(servers: usize) -> Self {
        let options = SessionOptions {
            servers,
            timeout: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            packet_bytes_max: 1000,
            seed: 7,
        };
        Self { session: Session::new(options), now: Time::from_millis(1), out: Vec::new() }
    }

    /// A session that is attached.
    fn attached() -> Self {
        let mut world = Self::new(3);
        world.attach();
        world
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        self.out.clear();
        self.session.step(self.now, input, &mut self.out);
        self.out.clone()
    }

    fn attach(&mut self) -> Vec<Output> {
        self.step(Input::Wake);
        self.step(Input::Connected);
        let welcome =
            ConnectResponse { timeout_ms: 6000, session: 5, password: [1; 16], read_only: None };
        self.receive(welcome.encode())
    }

    /// A packet comes as it went: with its length, which the framer takes off.
    fn receive(&mut self, packet: Bytes) -> Vec<Output> {
        self.step(Input::Received(packet.slice(4..)))
    }

    fn answer(&mut self, xid: i32, zxid: i64, error: i32) -> Vec<Output> {
        self.receive(packet(ReplyHeader { xid, zxid: Zxid(zxid), error }, |_| {}))
    }

    fn after(&mut self, millis: u64) -> Vec<Output> {
        self.now += Duration::from_millis(millis);
        self.step(Input::Wake)
    }

    fn call(&mut self, id: u64, call: Call) -> Vec<Output> {
        self.step(Input::Call(CallId(id), call))
    }
}

fn sent(out: &[Output]) -> Vec<(i32, i32)> {
    let packets = out.iter().filter_map(|output| match output {
        Output::Send(packet) => Some(packet),
        _ => None,
    });
    packets
        .map(|packet| {
            let (header, _) = Request::decode(&packet[4..]).expect("a server reads it");
            (header.xid, header.opcode)
        })
        .collect()
}

fn answers(out: &[Output]) -> Vec<(u64, Result<usize, Failure>)> {
    let told = out.iter().filter_map(|output| match output {
        Output::Answer(id, result) => Some((id.0, result.clone().map(|body| body.len()))),
        _ => None,
    });
    told.collect()
}

fn disconnects(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Disconnect))
}

fn set_data() -> Call {
    use quorate_zk::command::Op;
    Call::write(5, &Op::SetData { path: "/a", data: Some(b"x"), version: -1 })
}

const LOST: Failure = Failure::Unknown(Cause::ConnectionLost);

/// ZK-6: many are in flight; each answer goes to the oldest request.
#[test]
fn answers_go_to_requests_in_order() {
    let mut world = World::attached();
    assert_eq!(sent(&world.call(1, set_data())), [(1, 5)]);
    assert_eq!(sent(&world.call(2, Call::exists("/a", None))), [(2, 3)]);
    assert_eq!(answers(&world.answer(1, 10, 0)), [(1, Ok(0))]);
    assert_eq!(answers(&world.answer(2, 10, -101)), [(2, Err(Failure::answered(-101)))]);
}

/// ZK-6: an answer out of order ends the connection; what was in flight is unknown.
#[test]
fn an_answer_out_of_order_ends_the_connection() {
    let mut world = World::attached();
    world.call(1, set_data());
    world.call(2, set_data());
    let out = world.answer(2, 10, 0);
    assert!(disconnects(&out));
    assert_eq!(answers(&out), [(1, Err(LOST)), (2, Err(LOST))]);
}

/// ZK-7: the same session, shown with the highest zxid seen. A write in flight is unknown, a read is asked again.
#[test]
fn a_lost_connection_moves_the_session() {
    let mut world = World::attached();
    world.call(1, set_data());
    world.answer(1, 77, 0);
    world.call(2, set_data());
    world.call(3, Call::get_data("/a", None));
    assert_eq!(answers(&world.step(Input::Disconnected)), [(2, Err(LOST))]);
    let out = world.step(Input::Wake);
    assert!(matches!(out[..], [Output::Connect(_)]), "{out:?}");
    let out = world.step(Input::Connected);
    let [Output::Send(greeting)] = &out[..] else { panic!("{out:?}") };
    let greeting = ConnectRequest::decode(&greeting[4..]).expect("a server reads it");
    assert_eq!(
        (greeting.session, greeting.last_zxid_seen, greeting.password),
        (5, 77, vec![1; 16])
    );
    let welcome =
        ConnectResponse { timeout_ms: 6000, session: 5, password: [1; 16], read_only: None };
    assert_eq!(sent(&world.receive(welcome.encode())), [(4, 4)]);
}

/// ZK-12: watches and credentials are there again before any other request.
#[test]
fn a_new_connection_begins_with_credentials_and_watches() {
    let mut world = World::attached();
    world.call(1, Call::auth("digest", b"bob:pw"));
    world.answer(-4, 0, 0);
    world.call(2, Call::exists("/a", Some(WatchId(9))));
    world.answer(1, 30, -101);
    world.step(Input::Disconnected);
    world.call(3, set_data());
    assert_eq!(sent(&world.attach()), [(-4, 100), (-8, 101), (2, 5)]);
    let out = world.receive(notification(1, "/a"));
    assert!(
        matches!(&out[..], [Output::Fired(WatchId(9), Event { kind: EventKind::Created, .. })]),
        "{out:?}"
    );
    assert!(world.receive(notification(1, "/a")).is_empty(), "a watch fires once");
}

/// ZK-11: the client pings in time, and leaves a server that is silent while there is time to find another.
#[test]
fn a_silent_server_is_left_in_time() {
    let mut world = World::attached();
    assert_eq!(world.session.deadline().map(|(_, why)| why), Some("a ping"));
    assert_eq!(sent(&world.after(2000)), [(-2, 11)]);
    assert!(!disconnects(&world.after(1000)));
    assert!(disconnects(&world.after(1000)));
    assert!(matches!(world.step(Input::Wake)[..], [Output::Connect(_)]));
}

/// ZK-13: a refused session is over: everybody is told, and nothing can be asked any more.
#[test]
fn an_expired_session_tells_everybody() {
    let mut world = World::attached();
    world.call(1, Call::get_data("/a", Some(WatchId(4))));
    world.receive(packet(ReplyHeader { xid: 1, zxid: Zxid(1), error: 0 }, |out| out.buffer(None)));
    world.step(Input::Disconnected);
    world.call(2, set_data());
    world.step(Input::Wake);
    world.step(Input::Connected);
    let out = world.receive(ConnectResponse::default().encode());
    assert_eq!(answers(&out), [(2, Err(Failure::Refused(Refusal::SessionExpired)))]);
    assert!(out.iter().any(|o| matches!(
        o,
        Output::Fired(WatchId(4), Event { kind: EventKind::SessionOver, .. })
    )));
    assert!(out.iter().any(|o| matches!(o, Output::State(State::Expired))));
    assert_eq!(
        answers(&world.call(3, set_data())),
        [(3, Err(Failure::Refused(Refusal::SessionExpired)))]
    );
    assert_eq!(world.session.deadline(), None);
}

/// A request that no server can be found for is refused in the end: nothing happened.
#[test]
fn a_request_without_a_server_is_refused_after_a_while() {
    let mut world = World::new(2);
    world.call(1, set_data());
    let mut told = Vec::new();
    for _ in 0..200 {
        told.extend(answers(&world.after(100)));
        told.extend(answers(&world.step(Input::Disconnected)));
    }
    assert_eq!(told, [(1, Err(Failure::Refused(Refusal::NotConnected)))]);
}

/// Every server is tried, and none twice before all were.
#[test]
fn servers_take_turns() {
    let mut world = World::new(3);
    let mut tried = Vec::new();
    for _ in 0..6 {
        while world.session.deadline().is_some_and(|(at, _)| at > world.now) {
            world.now += Duration::from_millis(10);
        }
        let out = world.step(Input::Wake);
        tried.extend(
            out.iter().filter_map(|o| if let Output::Connect(s) = o { Some(s.0) } else { None }),
        );
        world.step(Input::Disconnected);
    }
    assert_eq!(tried.len(), 6);
    assert_eq!(tried[..3], tried[3..]);
    assert_eq!(tried[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn closing_answers_what_came_before() {
    let mut world = World::attached();
    world.call(1, set_data());
    assert_eq!(sent(&world.step(Input::Close(CallId(2)))), [(2, -11)]);
    assert_eq!(answers(&world.call(3, set_data())), [(3, Err(Failure::Refused(Refusal::Closed)))]);
    assert_eq!(answers(&world.answer(1, 5, 0)), [(1, Ok(0))]);
    let out = world.answer(2, 6, 0);
    assert!(disconnects(&out) && world.session.is_over());
    assert_eq!(answers(&out), [(2, Ok(0))]);
}

/// ZK-20 for clients: a server's nonsense ends the connection, not the program.
#[test]
fn nonsense_ends_the_connection() {
    for nonsense in
        [&b""[..], b"x", b"\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0", b"\xff\xff\xff\xff0000000000000123"]
    {
        let mut world = World::attached();
        assert!(
            disconnects(&world.step(Input::Received(Bytes::copy_from_slice(nonsense)))),
            "{nonsense:?}"
        );
    }
    let mut world = World::attached();
    let large = Call::auth("digest", &[0; 2000]);
    assert!(matches!(
        answers(&world.call(1, large))[..],
        [(1, Err(Failure::Refused(Refusal::TooLarge { .. })))]
    ));
}
