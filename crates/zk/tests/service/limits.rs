//! What a client is protected from.

use quorate_zk::command::CreateMode;
use quorate_zk::wire::{JuteReader, opcode};

use crate::bench::{Bench, Client, Heard};
use crate::order::create;

fn names(bench: &mut Bench, client: Client, after: &str) -> Vec<String> {
    bench.ask(client, 7, opcode::LIST_AFTER, |out| {
        out.str("/p");
        out.str(after);
    });
    let heard = bench.heard(client);
    let [Heard::Reply(7, 0, record)] = &heard[..] else { panic!("{heard:?}") };
    let names = JuteReader::new(record).strs().expect("a list");
    names.into_iter().map(str::to_string).collect()
}

/// ZK-4: a listing that is larger than the clients' buffers is refused, which they can handle, and sets no watch; what it holds can
/// be asked for in pieces, also while it changes.
#[test]
fn a_huge_directory_breaks_nobodys_buffer() {
    let mut bench = Bench::configured(1, |config| config.listing_bytes_max = 400);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/p", CreateMode::Persistent));
    for number in 0..60 {
        let path = format!("/p/child-{number:02}");
        bench.write(client, 2, opcode::CREATE, &create(&path, CreateMode::Persistent));
    }
    bench.settle();
    bench.story(client);
    bench.read(client, 3, opcode::GET_CHILDREN, "/p", true);
    bench.read(client, 4, opcode::GET_CHILDREN2, "/p", true);
    bench.read(client, 5, opcode::GET_CHILDREN, "/", true);
    assert_eq!(bench.story(client), ["3 error -5", "4 error -5", "5 ok"]);
    assert!(bench.word(0, *b"wchs").contains("watching 1 paths"));

    let mut all = names(&mut bench, client, "");
    assert!((2..60).contains(&all.len()), "{} names in one packet", all.len());
    loop {
        let last = all.last().expect("not empty").clone();
        let piece = names(&mut bench, client, &last);
        if piece.is_empty() {
            break;
        }
        all.extend(piece);
    }
    let newest_first: Vec<String> = (0..60).rev().map(|n| format!("child-{n:02}")).collect();
    assert_eq!(all, newest_first);
    bench.ask(client, 8, opcode::LIST_AFTER, |out| {
        out.str("/p");
        out.str("gone");
    });
    assert_eq!(bench.story(client), ["8 error -101"]);
}
