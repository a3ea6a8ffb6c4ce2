//! Two ends of a connection, with nothing between them but bytes.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_http2::{Connection, ErrorCode, Event, Field, Limits, PREFACE, StreamId};

const LIMITS: Limits =
    Limits { streams: 100, stream_window_bytes: 65_535, connection_window_bytes: 1 << 20 };

struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new(server: Limits) -> Self {
        let mut pair =
            Self { client: Connection::client(LIMITS), server: Connection::server(server) };
        pair.settle();
        pair
    }

    /// Carries bytes both ways until there are none.
    fn settle(&mut self) {
        while carry(&mut self.client, &mut self.server) + carry(&mut self.server, &mut self.client)
            > 0
        {}
    }

    fn ask(&mut self, path: &str) -> StreamId {
        let stream = self.client.open(&request(path), false).expect("there is room for a stream");
        self.settle();
        stream
    }
}

fn carry(from: &mut Connection, to: &mut Connection) -> usize {
    let bytes = from.pending().to_vec();
    to.receive(&bytes);
    from.wrote(bytes.len());
    bytes.len()
}

fn request(path: &str) -> [Field<'_>; 3] {
    [
        Field::new(":method", b"POST"),
        Field::new(":scheme", b"http"),
        Field::new(":path", path.as_bytes()),
    ]
}

fn told(end: &mut Connection) -> Vec<String> {
    std::iter::from_fn(|| end.next_event()).map(|event| words(&event)).collect()
}

fn words(event: &Event) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list = |fields: &quorate_http2::Fields| {
        let pairs: Vec<String> =
            fields.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
        pairs.join(" ")
    };
    let last = |end: &bool| if *end { ", the last" } else { "" };
    match event {
        Event::Head { stream, fields, end } => {
            format!("{}: {}{}", stream.0, list(fields), last(end))
        }
        Event::Data { stream, data, end } if data.len() > 20 => {
            format!("{}: {} bytes{}", stream.0, data.len(), last(end))
        }
        Event::Data { stream, data, end } => {
            format!("{}: \"{}\"{}", stream.0, text(data), last(end))
        }
        Event::Trailers { stream, fields } => format!("{}: at the end {}", stream.0, list(fields)),
        Event::Reset { stream, code } => format!("{}: reset {}", stream.0, code.0),
        Event::Room { stream } => format!("{}: room", stream.0),
        Event::GoAway { code } => format!("go away {}", code.0),
    }
}

#[test]
fn a_call_and_its_answer() {
    let mut pair = Pair::new(LIMITS);
    let stream = pair.ask("/a.B/C");
    pair.client.send_data(stream, Bytes::from("hello"), true);
    pair.settle();
    assert_eq!(
        told(&mut pair.server),
        ["1: :method=POST :scheme=http :path=/a.B/C", "1: \"hello\", the last"]
    );
    pair.server.send_head(stream, &[Field::new(":status", b"200")], false);
    pair.server.send_data(stream, Bytes::from("hi"), false);
    pair.server.send_trailers(stream, &[Field::new("grpc-status", b"0")]);
    pair.settle();
    assert_eq!(
        told(&mut pair.client),
        ["1: :status=200", "1: \"hi\"", "1: at the end grpc-status=0"]
    );
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
}

/// A server that has answered before it heard all does not want the rest.
#[test]
fn an_early_answer_ends_the_stream() {
    let mut pair = Pair::new(LIMITS);
    let stream = pair.ask("/a.B/C");
    pair.server.send_head(stream, &[Field::new(":status", b"404")], true);
    pair.settle();
    assert_eq!(told(&mut pair.client), ["1: :status=404, the last"]);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    pair.client.send_data(stream, Bytes::from("late"), true);
    pair.settle();
    assert_eq!(pair.server.is_over(), None);
}

/// Section 6.9: no more is sent than the other end has room for, and the rest follows as it takes what came.
#[test]
fn data_waits_for_its_window() {
    let mut pair = Pair::new(Limits { stream_window_bytes: 20_000, ..LIMITS });
    let stream = pair.ask("/");
    pair.client.send_data(stream, Bytes::from(vec![b'x'; 50_000]), false);
    pair.settle();
    assert_eq!(told(&mut pair.server)[1..], ["1: 16384 bytes", "1: 3616 bytes"]);
    assert_eq!(pair.client.queued_bytes(), 30_000);
    assert!(!pair.client.has_room(stream));
    pair.server.taken(stream, 20_000);
    pair.settle();
    assert_eq!(told(&mut pair.server), ["1: 16384 bytes", "1: 3616 bytes"]);
    pair.server.taken(stream, 20_000);
    pair.settle();
    assert_eq!(told(&mut pair.server), ["1: 10000 bytes"]);
    assert_eq!(told(&mut pair.client), ["1: room"]);
    assert_eq!(pair.client.queued_bytes(), 0);
}

/// Trailers stay behind data that waits, however late its window comes.
#[test]
fn trailers_come_last() {
    let mut pair = Pair::new(LIMITS);
    let stream = pair.ask("/");
    pair.server.send_head(stream, &[Field::new(":status", b"200")], false);
    pair.server.send_data(stream, Bytes::from(vec![b'x'; 70_000]), false);
    pair.server.send_trailers(stream, &[Field::new("grpc-status", b"0")]);
    pair.settle();
    let before = told(&mut pair.client);
    assert_eq!(before.len(), 5, "{before:?}");
    pair.client.taken(stream, 65_535);
    pair.settle();
    assert_eq!(told(&mut pair.client), ["1: 4465 bytes", "1: at the end grpc-status=0"]);
}

/// While a peer does not read, what waits for it stays in its streams, and streams take turns when it reads again.
#[test]
fn a_peer_that_does_not_read_fills_no_memory_but_what_was_given() {
    let mut pair = Pair::new(LIMITS);
    let many: Vec<StreamId> = (0..8).map(|_| pair.ask("/")).collect();
    for stream in &many {
        pair.server.send_head(*stream, &[Field::new(":status", b"200")], false);
        pair.server.send_data(*stream, Bytes::from(vec![b'x'; 60_000]), true);
    }
    assert!(
        pair.server.pending().len() < (256 << 10) + (32 << 10),
        "{}",
        pair.server.pending().len()
    );
    pair.settle();
    let ends = told(&mut pair.client).iter().filter(|event| event.ends_with("the last")).count();
    assert_eq!(ends, 8, "the rest follows as it reads");
}

#[test]
fn a_stream_that_is_given_up_is_gone_at_both_ends() {
    let mut pair = Pair::new(LIMITS);
    let stream = pair.ask("/");
    pair.client.reset(stream, ErrorCode::CANCEL);
    pair.settle();
    assert_eq!(told(&mut pair.server)[1..], ["1: reset 8"]);
    assert_eq!(told(&mut pair.client), [""; 0]);
    // An answer that was on its way is nobody's.
    pair.server.send_head(stream, &[Field::new(":status", b"200")], true);
    pair.settle();
    assert_eq!(pair.client.is_over(), None);
}

/// Section 5.1.2: a client has as many streams as the server takes.
#[test]
fn streams_are_counted() {
    let mut pair = Pair::new(Limits { streams: 2, ..LIMITS });
    pair.ask("/");
    let second = pair.ask("/");
    assert_eq!(pair.client.open(&request("/"), false), None);
    pair.server.send_head(second, &[Field::new(":status", b"200")], true);
    pair.settle();
    assert!(pair.client.open(&request("/"), false).is_some());
}

/// Section 6.8: what is open goes on, and nothing new begins.
#[test]
fn a_server_that_leaves_answers_what_it_has() {
    let mut pair = Pair::new(LIMITS);
    let stream = pair.ask("/");
    pair.server.leave();
    pair.settle();
    assert_eq!(told(&mut pair.client), ["go away 0"]);
    assert_eq!(pair.client.open(&request("/"), false), None);
    pair.server.send_head(stream, &[Field::new(":status", b"200")], true);
    pair.settle();
    assert_eq!(told(&mut pair.client), ["1: :status=200, the last"]);
}

/// The bytes of a client that opens some streams, sends on them and gives one up.
fn conversation() -> Vec<u8> {
    let mut client = Connection::client(LIMITS);
    for path in ["/one", "/two", "/three"] {
        let stream = client.open(&request(path), false).expect("there is room for a stream");
        client.send_data(stream, Bytes::from(vec![b'y'; 300]), path != "/three");
    }
    client.ping();
    client.reset(StreamId(5), ErrorCode::CANCEL);
    client.pending().to_vec()
}

/// A stream of bytes means the same wherever it is cut.
#[test]
fn bytes_may_come_in_any_pieces() {
    let bytes = conversation();
    let mut whole = Connection::server(LIMITS);
    whole.receive(&bytes);
    let expected = told(&mut whole);
    assert_eq!(expected.len(), 7);
    for size in 1..40 {
        let mut server = Connection::server(LIMITS);
        bytes.chunks(size).for_each(|piece| server.receive(piece));
        assert_eq!(told(&mut server), expected, "pieces of {size}");
        assert_eq!(server.pending(), whole.pending());
    }
}

/// Sections 5 and 6: what a peer may not do, and what it is told.
#[test]
fn faults_of_a_peer() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let table: [(&str, &[u8], u32); 9] = [
        ("a frame before settings", &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], 1),
        ("a frame beyond the limit", &[0, 64, 1, 0, 0, 0, 0, 0, 1], 6),
        ("data of a stream that was never begun", &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'], 1),
        ("headers of an even stream", &[0, 0, 1, 1, 4, 0, 0, 0, 2, 0x82], 1),
        ("headers that cannot be unpacked", &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0xbe], 9),
        (
            "a ping within headers",
            &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82, 0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            1,
        ),
        ("a window without growth", &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ("a push", &[0, 0, 4, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2], 1),
        ("settings of a wrong length", &[0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 2, 3], 6),
    ];
    for (fault, bytes, code) in table {
        let mut server = Connection::server(LIMITS);
        server.receive(PREFACE);
        if fault != "a frame before settings" {
            server.receive(&settings);
        }
        server.wrote(server.pending().len());
        server.receive(bytes);
        assert!(server.is_over().is_some(), "{fault}");
        let goodbye = server.pending();
        assert_eq!((goodbye[3], &goodbye[13..17]), (7, &u32::to_be_bytes(code)[..]), "{fault}");
    }
}

/// Headers that go on for ever are cut off.
#[test]
fn headers_without_end_are_refused() {
    let mut server = Connection::server(LIMITS);
    server.receive(PREFACE);
    server.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    server.receive(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    for _ in 0..70 {
        let head = [0, 4, 0, 9, 0, 0, 0, 0, 1];
        server.receive(&[&head[..], &[0; 1024]].concat());
    }
    assert_eq!(server.is_over(), Some("a block of headers without end"));
}

proptest! {
    /// Whatever comes, the other end neither fails nor keeps more than its limits.
    #[test]
    fn no_bytes_harm(noise in prop::collection::vec(any::<u8>(), 0..2000), settled in any::<bool>()) {
        let mut server = Connection::server(LIMITS);
        if settled {
            server.receive(&conversation());
        }
        server.receive(&noise);
        while server.next_event().is_some() {}
    }

    /// A frame of a conversation that has one byte changed is no more than that.
    #[test]
    fn no_changed_byte_harms(at in 0usize..1300, to in any::<u8>()) {
        let mut bytes = conversation();
        let at = at % bytes.len();
        bytes[at] = to;
        let mut server = Connection::server(LIMITS);
        server.receive(&bytes);
        server.leave();
        while server.next_event().is_some() {}
    }

    /// Data of many streams arrives whole and in order, however it is cut and whatever windows there are.
    #[test]
    fn every_body_arrives(sizes in prop::collection::vec(0usize..60_000, 1..6), window in 1000u32..70_000) {
        let mut pair = Pair::new(Limits { stream_window_bytes: window, connection_window_bytes: 65_535, ..LIMITS });
        let streams: Vec<StreamId> = sizes.iter().map(|_| pair.ask("/")).collect();
        for (stream, size) in streams.iter().zip(&sizes) {
            pair.client.send_data(*stream, Bytes::from(vec![stream.0 as u8; *size]), true);
        }
        let mut heard = std::collections::BTreeMap::new();
        loop {
            pair.settle();
            let mut any = false;
            while let Some(event) = pair.server.next_event() {
                if let Event::Data { stream, data, .. } = event {
                    prop_assert!(data.iter().all(|byte| *byte == stream.0 as u8));
                    *heard.entry(stream).or_insert(0) += data.len();
                    pair.server.taken(stream, data.len());
                    any = true;
                }
            }
            if !any { break }
        }
        for (stream, size) in streams.iter().zip(&sizes) {
            prop_assert_eq!(heard.get(stream), Some(size));
        }
    }
}
