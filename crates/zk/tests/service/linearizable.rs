//! Reads that see everything that was acknowledged before them, on whichever server (ZK-8).

use quorate_zk::wire::opcode;

use crate::bench::{Bench, Client, data_of};

fn wish(bench: &mut Bench, client: Client, wish: &str) -> Vec<String> {
    bench.ask(client, -4, opcode::AUTH, |out| {
        out.int(0);
        out.str("quorate");
        out.buffer(Some(wish.as_bytes()));
    });
    bench.story(client)
}

/// ZK-8: by auth scheme `quorate`, credential `linearizable`, each read of the session waits for a barrier that begins
/// after it came; other sessions' reads ask nobody.
#[test]
fn a_session_asks_for_linearizable_reads() {
    let mut bench = Bench::new(2);
    let (plain, _) = bench.client(1);
    let (client, _) = bench.client(1);
    assert_eq!(wish(&mut bench, client, "linearizable"), ["-4 ok"]);
    bench.read(plain, 1, opcode::GET_DATA, "/", false);
    assert_eq!((bench.story(plain), bench.barriers.len()), (vec!["1 ok".to_string()], 0));
    bench.read(client, 1, opcode::GET_DATA, "/", false);
    bench.read(client, 2, opcode::EXISTS, "/", false);
    assert_eq!((bench.story(client).len(), bench.barriers.len()), (0, 2));
    // The second barrier is passed first: the order of replies stays.
    bench.barriers.swap(0, 1);
    bench.end_barrier(true);
    assert_eq!(bench.story(client).len(), 0);
    bench.end_barrier(true);
    assert_eq!(bench.story(client), ["1 ok", "2 ok"]);
    assert_eq!(wish(&mut bench, client, "local"), ["-4 ok"]);
    bench.read(client, 3, opcode::GET_DATA, "/", false);
    assert_eq!(bench.story(client), ["3 ok"]);
    assert_eq!(wish(&mut bench, client, "faster"), ["-4 error -115"]);
}

/// ZK-6, ZK-8: a linearizable read between writes sees exactly those before it: the ones behind it are proposed once it
/// is answered, and a leader change in between loses nothing.
#[test]
fn a_linearizable_read_keeps_its_place_between_writes() {
    let mut bench = Bench::configured(1, |config| config.linearizable_reads = true);
    let (client, _) = bench.client(0);
    bench.set(client, 1, "/", "one");
    bench.read(client, 2, opcode::GET_DATA, "/", false);
    bench.set(client, 3, "/", "two");
    assert_eq!((bench.proposed.len(), bench.barriers.len()), (1, 1));
    bench.proposed.clear(); // the old leader died with it
    bench.elect(0, 2);
    assert_eq!(bench.proposed.len(), 1, "the first write alone is proposed again");
    bench.end_barrier(true);
    assert!(
        bench.heard(client).is_empty(),
        "the barrier alone does not do: the own write comes first"
    );
    bench.settle();
    let heard = bench.heard(client);
    assert_eq!((heard.len(), data_of(&heard[1]).0), (3, "one".to_string()));
    bench.read(client, 4, opcode::GET_DATA, "/", false);
    bench.end_barrier(true);
    assert_eq!(data_of(&bench.heard(client)[0]).0, "two");
}

/// A barrier that no leader answered is asked for again; nobody asks for a client that is gone.
#[test]
fn a_refused_barrier_is_asked_for_again() {
    let mut bench = Bench::configured(1, |config| config.linearizable_reads = true);
    let (client, _) = bench.client(0);
    bench.read(client, 1, opcode::EXISTS, "/", false);
    bench.end_barrier(false);
    assert_eq!(bench.barriers.len(), 0);
    bench.pass(500);
    assert_eq!(bench.barriers.len(), 1);
    bench.end_barrier(true);
    assert_eq!(bench.story(client), ["1 ok"]);
    bench.read(client, 2, opcode::EXISTS, "/", false);
    bench.hang_up(client);
    bench.end_barrier(false);
    bench.pass(500);
    assert_eq!(bench.barriers.len(), 0);
}
