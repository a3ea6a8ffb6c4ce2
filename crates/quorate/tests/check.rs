//! `quorate check` as a person meets it: what it says, and its exit code.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A history in a file.
struct Kept(PathBuf);

impl Kept {
    fn new(test: &str, history: &[u8]) -> Self {
        let path =
            std::env::temp_dir().join(format!("quorate-check-{test}-{}", std::process::id()));
        std::fs::write(&path, history).expect("a file can be written");
        Self(path)
    }

    fn check(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let output = command.arg("check").arg(&self.0).args(arguments).output();
        Answer::of(&output.expect("the binary runs"))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What it came to.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    talk: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), talk: text(&output.stderr) }
    }
}

const GOOD: &str = r#"{"client":1,"f":"write","key":"x","value":1,"call":0,"return":10}
{"client":2,"f":"read","key":"x","call":20,"return":30,"result":1}
"#;
const STALE: &str = r#"{"client":1,"f":"write","key":"x","value":1,"call":0,"return":10}
{"client":1,"f":"write","key":"x","value":2,"call":11,"return":12}
{"client":2,"f":"read","key":"x","call":20,"return":30,"result":1}
"#;

/// Overlapping writes of few values, and reads of them, the last of which sees what nobody wrote: a search that ends late.
fn hard() -> String {
    let mut lines = String::new();
    for client in 0..40 {
        let (value, ret) = (client % 3, 1000 + client);
        writeln!(
            lines,
            r#"{{"client":{client},"f":"write","value":{value},"call":{client},"return":{ret}}}"#
        )
        .expect("a String takes everything");
        let (reader, call) = (100 + client, 500 + client);
        writeln!(
            lines,
            r#"{{"client":{reader},"f":"cas","value":[{value},{}],"call":{call},"return":{ret}}}"#,
            client % 2
        )
        .expect("a String takes everything");
    }
    lines + r#"{"client":999,"f":"read","call":2000,"return":2001,"result":9}"#
}

/// LIN-2, LIN-3: the answer is the exit code, and one that is no says where and why.
#[test]
fn yes_no_and_undecided_are_exit_codes() {
    let good = Kept::new("good", GOOD.as_bytes()).check(&[]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains(": linearizable\n  2 operations of 1 key, kv model"), "{good:?}");

    let stale = Kept::new("stale", STALE.as_bytes());
    let no = stale.check(&[]);
    assert_eq!(no.code, Some(1), "{no:?}");
    assert!(no.out.contains("key x: A stale read: c2 saw 1"), "{no:?}");
    let told: serde_json::Value =
        serde_json::from_str(&stale.check(&["--json"]).out).expect("one JSON object");
    assert_eq!(told["answer"], "not linearizable");
    assert_eq!(told["parts"][0]["breach"]["stuck"]["client"], 2);

    let hard = Kept::new("hard", hard().as_bytes());
    for limit in [["--timeout", "0"], ["--memory", "0"]] {
        let undecided = hard.check(&limit);
        assert_eq!(undecided.code, Some(2), "{limit:?}: {undecided:?}");
        assert!(undecided.out.contains("unknown"), "{limit:?}: {undecided:?}");
    }
}

/// LIN-5: a stale read breaks nothing that is promised of plain reads.
#[test]
fn weaker_promises_have_the_same_exit_codes() {
    let stale = Kept::new("weaker", STALE.as_bytes());
    let kept =
        stale.check(&["--promise", "linearizable-writes,fifo,monotonic-reads,read-your-writes"]);
    assert_eq!(kept.code, Some(0), "{kept:?}");
    let both = stale.check(&["--promise", "fifo,linearizable"]);
    assert_eq!(both.code, Some(1), "the answer is that of the strictest: {both:?}");
    let other = stale.check(&["--promise", "serializable"]);
    assert_eq!(other.code, Some(65), "{other:?}");
}

/// An empty history is linearizable, whatever it is about.
#[test]
fn nothing_is_linearizable() {
    let empty = Kept::new("empty", b"\n");
    for model in ["register", "kv", "queue", "set", "lock", "expiring-lock", "txn"] {
        let answer = empty.check(&["--model", model]);
        assert_eq!(answer.code, Some(0), "{model}: {answer:?}");
    }
}

/// LIN-3: what cannot be read is named by line and reason.
#[test]
fn bad_input_is_named_by_line_and_reason() {
    let cut = &STALE[..STALE.len() - 20];
    let huge =
        format!("{GOOD}{{\"client\":1,\"f\":\"write\",\"value\":\"{}", "x".repeat(5_000_000));
    let cases: [(&str, &[u8], &str); 5] = [
        ("cut", cut.as_bytes(), "line 3: "),
        ("huge", huge.as_bytes(), "line 3: "),
        ("foreign", b"once upon a time\n", "line 1: no line tells of an operation"),
        ("binary", b"{\"client\":1}\n\xff\xfe", "line 2: this is no UTF-8 text"),
        (
            "other",
            b"{\"client\":1,\"f\":\"jump\",\"call\":0}",
            "line 1: the register model has no operation `jump`",
        ),
    ];
    for (name, history, reason) in cases {
        let answer = Kept::new(name, history).check(&[]);
        assert_eq!(answer.code, Some(65), "{name}: {:?} {}", answer.code, answer.out);
        assert!(answer.talk.contains(reason), "{name}: {}", answer.talk);
        assert!(answer.talk.contains("docs/histories.md"), "{name}: a next step");
        assert!(answer.talk.len() < 1000, "{name}: the message is short");
        assert!(answer.out.is_empty(), "{name}: data goes to stdout, and there is none");
    }
    let missing = Kept(PathBuf::from("/nowhere/history.edn")).check(&[]);
    assert_eq!(missing.code, Some(74), "{missing:?}");
    let usage = Kept::new("usage", b"").check(&["--model", "bicycle"]);
    assert_eq!(usage.code, Some(64), "{usage:?}");
    assert!(usage.talk.contains("register, kv, queue"), "{usage:?}");
}

/// A line of megabytes is a line like others.
#[test]
fn a_huge_line_is_read() {
    let value = "x".repeat(3_000_000);
    let history = format!(
        "{{\"client\":1,\"f\":\"write\",\"value\":\"{value}\",\"call\":0,\"return\":1}}\n\
         {{\"client\":2,\"f\":\"read\",\"call\":2,\"return\":3,\"result\":\"{value}\"}}\n"
    );
    let kept = Kept::new("megabytes", history.as_bytes());
    let page = kept.0.with_extension("html");
    let answer = kept.check(&["--html", page.to_str().expect("a plain path")]);
    let drawn = std::fs::read_to_string(&page).expect("there is a picture");
    let _ = std::fs::remove_file(&page);
    assert_eq!(answer.code, Some(0), "{}", answer.talk);
    assert!(drawn.len() < 100_000, "long texts are cut in pictures");
}
