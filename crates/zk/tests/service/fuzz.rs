//! Hostile packets, by mutation of a corpus (ZK-20): the decoder and the sessions' state machine take whatever comes, and
//! what one client sends harms no other. The same number of rounds is the same run; FUZZ_ROUNDS makes it longer, and
//! FUZZ_SEED another one.

use bytes::Bytes;
use quorate_contracts::{Random, StateMachine};
use quorate_zk::wire::framing::Framer;
use quorate_zk::wire::{ConnectRequest, ConnectResponse, JuteReader, ReplyHeader, Request, opcode};

use crate::bench::{Bench, Client};

const CORPUS: &str = include_str!("corpus.txt");

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn random(name: &str) -> Random {
    Random::new(from_environment("FUZZ_SEED", 1)).derive(name)
}

/// The packets of the corpus, by name.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#'));
    let packet = |line: &'static str| {
        let (name, hex) = line.split_once(' ').expect("a name and a packet");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hexadecimal");
        (name, (0..hex.len()).step_by(2).map(byte).collect())
    };
    lines.map(packet).collect()
}

/// Numbers that break what believes them.
const EVIL: [i32; 8] = [0, -1, 1, 0x7fff_ffff, i32::MIN, 0x00ff_ffff, 1_000, 0x6765_7420];

/// Changes a packet a little, or a lot.
fn mutate(packet: &mut Vec<u8>, corpus: &[(&str, Vec<u8>)], random: &mut Random) {
    for _ in 0..random.between(1, 5) {
        let at = random.below(packet.len() as u64 + 1) as usize;
        match random.below(7) {
            0 if at < packet.len() => packet[at] ^= 1 << random.below(8),
            1 if at < packet.len() => packet[at] = random.below(256) as u8,
            2 => packet.truncate(at),
            3 if at + 4 <= packet.len() => {
                let evil = EVIL[random.below(EVIL.len() as u64) as usize];
                packet[at..at + 4].copy_from_slice(&evil.to_be_bytes());
            }
            4 => {
                let (_, other) = &corpus[random.below(corpus.len() as u64) as usize];
                let from = random.below(other.len() as u64) as usize;
                packet.truncate(at);
                packet.extend_from_slice(&other[from..]);
            }
            5 => packet.insert(at, random.below(256) as u8),
            _ => packet.truncate(packet.len().saturating_sub(1)),
        }
    }
}

fn any_packet(corpus: &[(&str, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let (_, packet) = &corpus[random.below(corpus.len() as u64) as usize];
    let mut packet = packet.clone();
    if random.below(4) > 0 {
        mutate(&mut packet, corpus, random);
    }
    packet
}

/// The corpus itself reads: mutations begin with what makes sense.
#[test]
fn the_corpus_makes_sense() {
    for (name, packet) in corpus() {
        if name.starts_with("connect") {
            assert!(ConnectRequest::decode(&packet).is_ok(), "{name}");
            continue;
        }
        let (_, request) = Request::decode(&packet).expect(name);
        let odd = matches!(request, Request::Malformed | Request::BadMulti | Request::BadFlags);
        assert!(!odd, "{name} reads as {request:?}");
    }
}

/// ZK-20: no bytes make a decoder panic, whichever end they are meant for.
#[test]
fn decoders_take_whatever_comes() {
    let (corpus, mut random) = (corpus(), random("decoders"));
    for _ in 0..from_environment("FUZZ_ROUNDS", 20_000) {
        let packet = any_packet(&corpus, &mut random);
        let _ = Request::decode(&packet);
        let _ = ConnectRequest::decode(&packet);
        let _ = ConnectResponse::decode(&packet);
        let _ = ReplyHeader::decode(&mut JuteReader::new(&packet));
        let mut input = bytes::BytesMut::from(&packet[..]);
        let mut framer = Framer::new(1_000);
        while let Ok(Some(_)) = framer.next(&mut input) {}
    }
}

/// One hostile client, that connects now and then.
struct Hostile {
    client: Client,
    joined: bool,
}

/// ZK-20: sessions whose clients send anything in any order, hang up and come back: nobody panics, all servers have the
/// same tree, and a client that behaves is answered throughout.
#[test]
fn sessions_take_whatever_comes() {
    let (corpus, mut random) = (corpus(), random("sessions"));
    let rounds = from_environment("FUZZ_ROUNDS", 20_000) / 1_000;
    for round in 0..rounds.max(1) {
        storm(round, &corpus, &mut random);
    }
}

fn storm(round: u64, corpus: &[(&str, Vec<u8>)], random: &mut Random) {
    let mut bench = Bench::configured(2, |config| config.reconfig_enabled = true);
    bench.members(&[1, 2], &[]);
    let (good, _) = bench.client(1);
    let mut hostile: Vec<Hostile> = Vec::new();
    for step in 0..1_000 {
        act(&mut bench, &mut hostile, corpus, random);
        if step % 50 == 0 {
            bench.settle();
            bench.pass(250);
            let xid = step / 50 + 1;
            bench.ask(good, xid, opcode::WHO_AM_I, |_| {});
            bench.settle();
            let story = bench.story(good);
            assert_eq!(story, [format!("{xid} ok")], "round {round}, step {step}");
        }
    }
    bench.settle();
    assert_eq!(bench.tree(0).digest(), bench.tree(1).digest(), "round {round}");
}

fn act(
    bench: &mut Bench,
    hostile: &mut Vec<Hostile>,
    corpus: &[(&str, Vec<u8>)],
    random: &mut Random,
) {
    hostile.retain(|known| !bench.is_closed(known.client));
    if hostile.len() < 4 {
        let client = bench.open(random.below(2) as usize);
        hostile.push(Hostile { client, joined: false });
        return;
    }
    let nth = random.below(hostile.len() as u64) as usize;
    let Hostile { client, joined } = &mut hostile[nth];
    match random.below(20) {
        0 => bench.settle(),
        1 => {
            bench.hang_up(*client);
            hostile.remove(nth);
        }
        2 => bench.end_reconfig(),
        3 if !bench.barriers.is_empty() => bench.end_barrier(random.below(2) == 0),
        // Most sessions begin well, so that what follows reaches further.
        _ if !*joined && random.below(4) > 0 => {
            bench.send(*client, corpus[0].1.clone());
            bench.settle();
            *joined = true;
        }
        _ => {
            *joined = true;
            bench.send(*client, Bytes::from(any_packet(corpus, random)));
        }
    }
}
