//! LIN-5: weaker promises, kept and broken.

use quorate_checker::formats;
use quorate_checker::models::{Kv, Txn};
use quorate_checker::promises::{Kept, Promise, keeps, serializable};
use quorate_checker::{HistoryOf, Limits, check};

use crate::generate::{Dice, history};
use crate::models::Appends;

fn kv(lines: &str) -> HistoryOf<Kv> {
    formats::understand(&Kv::default(), formats::read(lines, None).expect("JSON lines"))
        .expect("kv")
}

fn txn(lines: &str) -> HistoryOf<Txn> {
    formats::understand(&Txn, formats::read(lines, None).expect("JSON lines")).expect("txn")
}

/// Client, operation, argument or result, call, return, server.
fn line((client, f, value, call, ret, server): (u64, &str, &str, u64, u64, &str)) -> String {
    let field = if f == "read" { "result" } else { "value" };
    format!(
        r#"{{"client":{client},"f":"{f}","key":"x","{field}":{value},"call":{call},"return":{ret},"server":"{server}"}}"#
    )
}

const PROMISES: [Promise; 5] = [
    Promise::LinearizableWrites,
    Promise::ReadYourWrites,
    Promise::MonotonicReads,
    Promise::Fifo,
    Promise::SessionOrder,
];

/// Which of the promises a history breaks.
fn broken(operations: &[(u64, &str, &str, u64, u64, &str)]) -> Vec<&'static str> {
    let lines: Vec<_> = operations.iter().copied().map(line).collect();
    let history = kv(&lines.join("\n"));
    let is_broken = |promise: &Promise| match keeps(&Kv::default(), &history, *promise) {
        Kept::No(ways) => {
            assert!(
                ways.iter().all(|way| !way.why.is_empty() && !way.operations.is_empty()),
                "{ways:?}"
            );
            true
        }
        Kept::Yes => false,
        Kept::Unknown(why) => panic!("{promise} is unknown: {why}"),
    };
    PROMISES.into_iter().filter(is_broken).map(Promise::name).collect()
}

/// LIN-5: each promise is broken by what it forbids, and by nothing else here.
#[test]
fn each_promise_is_broken_by_what_it_forbids() {
    let two_writes = [(1, "write", "1", 0, 10, "a"), (1, "write", "2", 20, 30, "a")];
    let cases: [(&str, Vec<_>, &[&str]); 6] = [
        ("an old read of somebody else is allowed", vec![(2, "read", "1", 40, 50, "b")], &[]),
        (
            "two reads of one client go back",
            vec![(2, "read", "2", 40, 50, "b"), (2, "read", "1", 60, 70, "b")],
            &["monotonic-reads", "fifo"],
        ),
        (
            "they go back after it moved to another server",
            vec![(2, "read", "2", 40, 50, "b"), (2, "read", "1", 60, 70, "c")],
            &["monotonic-reads", "fifo", "session-order"],
        ),
        (
            "a client misses its own write",
            vec![(1, "read", "1", 40, 50, "a")],
            &["read-your-writes", "fifo"],
        ),
        (
            "a client that did not wait misses its own write",
            vec![(1, "read", "1", 25, 35, "a")],
            &["fifo"],
        ),
        (
            "a write is seen before it began",
            vec![(2, "read", "2", 12, 15, "b")],
            &["linearizable-writes"],
        ),
    ];
    for (what, more, expected) in cases {
        let all: Vec<_> = two_writes.into_iter().chain(more).collect();
        assert_eq!(broken(&all), expected, "{what}");
    }
}

/// LIN-5: what one client saw in one order and another in the other is no order of writes at all.
#[test]
fn writes_in_real_time_keep_their_order_for_everybody() {
    let history = [
        (1, "write", "1", 0, 100, "a"),
        (2, "write", "2", 0, 100, "a"),
        (3, "read", "1", 110, 120, "a"),
        (3, "read", "2", 130, 140, "a"),
    ];
    assert_eq!(
        broken(&history),
        [] as [&str; 0],
        "overlapping writes have no order before somebody sees one"
    );
}

/// LIN-5: a value out of the air is no order of writes.
#[test]
fn what_nobody_wrote_breaks_linearizable_writes() {
    let history = [(1, "write", "1", 0, 10, "a"), (2, "read", "7", 20, 30, "a")];
    assert_eq!(broken(&history), ["linearizable-writes"]);
}

/// Client, operation, key, argument or result, call, return, position.
fn placed(operations: &[(u64, &str, &str, u64, u64, u64, u64)]) -> Vec<String> {
    let lines = operations.iter().map(|(client, f, key, value, call, ret, position)| {
        let field = if *f == "read" { "result" } else { "value" };
        format!(
            r#"{{"client":{client},"f":"{f}","key":"{key}","{field}":{value},"call":{call},"return":{ret},"position":{position}}}"#
        )
    });
    let history = kv(&lines.collect::<Vec<_>>().join("\n"));
    match keeps(&Kv::default(), &history, Promise::SessionOrder) {
        Kept::Yes => vec![],
        Kept::No(ways) => ways.into_iter().map(|way| way.why).collect(),
        Kept::Unknown(why) => panic!("unknown: {why}"),
    }
}

/// LIN-5: session order across servers and keys, by zxids: no client goes back, and a server shows the state that it says.
#[test]
fn positions_tell_of_all_keys_at_once() {
    let writes = [(1, "write", "x", 1, 0, 10, 5), (1, "write", "y", 2, 20, 30, 6)];
    let with = |more: &[_]| placed(&[&writes, more].concat());
    assert!(with(&[(2, "read", "y", 2, 40, 50, 6), (2, "read", "x", 1, 60, 70, 6)]).is_empty());
    assert_eq!(
        with(&[(2, "read", "y", 2, 40, 50, 6), (2, "read", "x", 1, 60, 70, 5)]),
        ["c2 get y = 2 stood at 6, and after it c2 get x = 1 at 5."],
        "an older server, of another key"
    );
    assert_eq!(
        with(&[(2, "read", "x", 1, 40, 50, 6), (3, "write", "x", 3, 40, 50, 6)]),
        ["c2 get x = 1 stands at 6, where c3 put x 3 of 6 is the last change."],
    );
    assert_eq!(
        with(&[(3, "write", "x", 3, 40, 50, 5)]),
        ["c1 put x 1 and c3 put x 3 both stand at 5."],
    );
    assert!(
        with(&[(2, "read", "y", 2, 40, 70, 6), (2, "read", "x", 1, 41, 71, 5)]).is_empty(),
        "who asks for two things at once may be told of them in either order"
    );
}

fn answers(history: &HistoryOf<Txn>) -> [Kept; 2] {
    [Promise::Serializable, Promise::StrictSerializable]
        .map(|promise| serializable(history, promise, &Limits::default()))
}

fn kind(kept: &Kept) -> &str {
    match kept {
        Kept::Yes => "yes",
        Kept::Unknown(_) => "unknown",
        Kept::No(broken) => broken[0].kind,
    }
}

/// LIN-5: the anomalies of transactions, by their names.
#[test]
fn transactions_have_named_anomalies() {
    let t = |client: u64, call: u64, ret: u64, asked: &str, answered: &str| {
        format!(
            r#"{{"client":{client},"f":"txn","value":{asked},"result":{answered},"call":{call},"return":{ret}}}"#
        )
    };
    let same = |client, call, ret, both: &str| t(client, call, ret, both, both);
    for (what, lines, expected) in [
        (
            "one after the other",
            vec![
                same(1, 0, 10, r#"[["append","x",1]]"#),
                t(
                    2,
                    20,
                    30,
                    r#"[["r","x",null],["append","x",2]]"#,
                    r#"[["r","x",[1]],["append","x",2]]"#,
                ),
            ],
            ["yes", "yes"],
        ),
        (
            "a read of the past: serializable, but not in real time",
            vec![
                same(1, 0, 10, r#"[["append","x",1]]"#),
                same(2, 20, 30, r#"[["r","x",null]]"#),
                t(3, 40, 50, r#"[["r","x",null]]"#, r#"[["r","x",[1]]]"#),
            ],
            ["yes", "not in real time"],
        ),
        (
            "each sees the other's write",
            vec![
                t(
                    1,
                    0,
                    10,
                    r#"[["append","x",1],["r","y",null]]"#,
                    r#"[["append","x",1],["r","y",[1]]]"#,
                ),
                t(
                    2,
                    0,
                    10,
                    r#"[["append","y",1],["r","x",null]]"#,
                    r#"[["append","y",1],["r","x",[1]]]"#,
                ),
            ],
            ["G1c (circular information flow)"; 2],
        ),
        (
            "write skew: neither sees the other's write",
            vec![
                same(1, 0, 10, r#"[["append","x",1],["r","y",null]]"#),
                same(2, 0, 10, r#"[["append","y",1],["r","x",null]]"#),
                t(
                    3,
                    20,
                    30,
                    r#"[["r","x",null],["r","y",null]]"#,
                    r#"[["r","x",[1]],["r","y",[1]]]"#,
                ),
            ],
            ["G2 (anti-dependency cycle)"; 2],
        ),
        (
            "half of a transaction",
            vec![
                same(1, 0, 10, r#"[["append","x",1],["append","y",1]]"#),
                t(
                    2,
                    0,
                    10,
                    r#"[["r","x",null],["r","y",null]]"#,
                    r#"[["r","x",[1]],["r","y",null]]"#,
                ),
            ],
            ["G-single (read skew)"; 2],
        ),
        (
            "the middle of a transaction",
            vec![
                same(1, 0, 10, r#"[["append","x",1],["append","x",2]]"#),
                t(2, 0, 10, r#"[["r","x",null]]"#, r#"[["r","x",[1]]]"#),
            ],
            ["G1b (intermediate read)"; 2],
        ),
        (
            "two orders of one list",
            vec![
                same(1, 0, 10, r#"[["append","x",1]]"#),
                same(2, 0, 10, r#"[["append","x",2]]"#),
                t(3, 0, 10, r#"[["r","x",null]]"#, r#"[["r","x",[1,2]]]"#),
                t(4, 0, 10, r#"[["r","x",null]]"#, r#"[["r","x",[2,1]]]"#),
            ],
            ["incompatible order"; 2],
        ),
    ] {
        let found = answers(&txn(&lines.join("\n")));
        assert_eq!([kind(&found[0]), kind(&found[1])], expected, "{what}: {found:?}");
    }
}

/// LIN-2, LIN-5: cycles and the complete search agree about strict serializability.
#[test]
fn cycles_agree_with_the_search() {
    let mut yes = 0;
    for seed in 0..30_000 {
        let mut dice = Dice::new(seed);
        let history = history(&Appends, &mut dice, 2 + seed % 5);
        let by_search = check(&Txn, &history, &Limits::default()).is_linearizable();
        let [serializable, strictly] = answers(&history);
        yes += u64::from(by_search);
        assert_eq!(strictly == Kept::Yes, by_search, "seed {seed}: {strictly:?}");
        assert!(serializable == Kept::Yes || !by_search, "seed {seed}: {serializable:?}");
    }
    assert!(yes > 1000, "{yes}");
}
