//! `quorate log` as an operator meets it, on a directory that a node wrote.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::channel;

use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, HardState, LogIndex, NodeId, Record, Term, Time,
    WriteMark,
};
use quorate_server::{DataDir, RealDisk};
use quorate_storage::{Storage, StorageEvent, StorageOptions};

/// A data directory with a few batches in it.
struct Written(PathBuf);

impl Written {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("quorate-log-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        DataDir::format(&dir, ClusterId(7), NodeId(2)).expect("a new directory can be made");
        write_batches(&dir);
        Self(dir)
    }

    fn segment(&self) -> PathBuf {
        self.0.join("log/000001.log")
    }

    fn quorate(&self, verb: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["log", verb]).arg(&self.0).output().expect("the binary runs")
    }

    /// Flips a bit of the first byte of this text, and returns where.
    fn damage(&self, text: &str) -> usize {
        let mut bytes = std::fs::read(self.segment()).expect("the segment reads");
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        let at = found.expect("the text is in the log");
        bytes[at] ^= 1;
        std::fs::write(self.segment(), bytes).expect("the segment can be written");
        at
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_batches(dir: &Path) {
    let (sender, completions) = channel();
    let disk = RealDisk::new(&DataDir::log_of(dir), move |completion| {
        let _ = sender.send(completion);
    });
    let identity = DataDir::identity_of(dir).expect("it was just made");
    let options = StorageOptions { segment_bytes: 1 << 16, ..StorageOptions::default() };
    let disk = disk.expect("threads can be started");
    let (mut storage, _) = Storage::open(disk, identity, options).expect("an empty log opens");
    let mut news = Vec::new();
    for index in 1..=3 {
        let id = EntryId::new(LogIndex(index), Term(4));
        let data = format!("set x={index}").into();
        let hard_state = Some(HardState { term: Term(4), voted_for: Some(NodeId(3)) });
        let entries = vec![Entry::new(id, EntryKind::Command, data)];
        let record = Record { hard_state, entries, ..Record::default() };
        storage.persist(GroupId::COORDINATION, WriteMark(index), record);
        storage.flush(Time::ZERO, &mut news);
        let durable = |event: &StorageEvent| matches!(event, StorageEvent::Persisted { mark, .. } if mark.0 == index);
        while !news.iter().any(durable) {
            storage.complete(completions.recv().expect("the disk answers"), &mut news);
        }
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_whole_directory_is_shown_and_vouched_for() {
    let written = Written::new("whole");
    let shown = written.quorate("inspect");
    let text = stdout(&shown);
    for part in [
        "node 2 of cluster 7",
        "000001.log: 3 batches from 1 on, 3 entries",
        "term 4, vote for n3; 3 entries after 0@0, the last one 3@4",
        "no damage",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let verified = written.quorate("verify");
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(stdout(&verified).contains("is whole: 3 entries in 3 batches"), "{verified:?}");
}

/// RAFT-16: damage is named by file, byte and entry, with the way out, and nothing is changed.
#[test]
fn damage_is_named_with_file_byte_entry_and_the_way_out() {
    let written = Written::new("damaged");
    let at = written.damage("set x=2");
    let before = std::fs::read(written.segment()).expect("the segment reads");
    let verified = written.quorate("verify");
    assert_eq!(verified.status.code(), Some(74), "{verified:?}");
    let text = String::from_utf8_lossy(&verified.stderr).into_owned();
    let batch = at / 64 * 64;
    let near = |byte: usize| text.contains(&format!("000001.log, byte {byte}"));
    assert!((0..4).any(|back| near(batch - 64 * back)), "{text}");
    assert!(
        text.contains("entry 2@4") && text.contains("start the node while the others serve"),
        "{text}"
    );
    assert!(stdout(&written.quorate("inspect")).contains("the data of 2@4 is damaged"));
    assert_eq!(before, std::fs::read(written.segment()).expect("the segment reads"));
}

#[test]
fn a_directory_that_is_none_is_said_to_be_none() {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["log", "verify", "/nonexistent/quorate"])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

/// A start that would refuse is said to, with the way out; a torn tail is no damage; `--json` says the same.
#[test]
fn it_says_what_a_start_would_do() {
    let written = Written::new("start");
    let whole = std::fs::read(written.segment()).expect("the segment reads");
    let json = |written: &Written| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let output = command.args(["log", "verify", "--json"]).arg(&written.0).output();
        let output = output.expect("the binary runs");
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("it is JSON, whatever is wrong");
        (output.status.code(), value["whole"].clone(), value["start"].clone())
    };
    assert_eq!(json(&written), (Some(0), true.into(), "whole".into()));

    let end = whole.iter().rposition(|byte| *byte != 0).expect("it was written to");
    let mut torn = whole.clone();
    torn[end - 3..].fill(0);
    std::fs::write(written.segment(), torn).expect("the segment can be written");
    assert_eq!(json(&written), (Some(0), true.into(), "whole".into()));
    let text = stdout(&written.quorate("inspect"));
    assert!(text.contains("torn by a crash") && text.contains("no damage"), "{text}");

    std::fs::write(written.segment(), &whole).expect("the segment can be written");
    written.damage("set x=1");
    assert_eq!(json(&written), (Some(74), false.into(), "mends".into()));

    let mut bad = whole;
    bad[20] ^= 1;
    std::fs::write(written.segment(), bad).expect("the segment can be written");
    assert_eq!(json(&written), (Some(74), false.into(), "refuses".into()));
    let refused = written.quorate("verify");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("would refuse to start") && text.contains("docs/storage.md"), "{text}");
}

/// What people take for a data directory: each is told what it is, and what to try.
#[test]
fn directories_that_are_none_are_told_apart() {
    let written = Written::new("foreign");
    let dir = written.0.with_extension("others");
    let told = |path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["log", "inspect"])
            .arg(path)
            .output()
            .expect("the binary runs");
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (inside, word) in [
        ("cluster.json", "a whole cluster"),
        ("version-2", "quorate import"),
        ("member/wal", "etcd"),
    ] {
        let one = dir.join(word.replace(' ', "-"));
        std::fs::create_dir_all(one.join(inside)).expect("a directory can be made");
        let text = told(&one);
        assert!(text.contains(word), "{text}");
    }
    assert!(told(&written.0.join("log")).contains("a part of one"));
    assert!(told(Path::new("/nonexistent/quorate")).contains("is the path right?"));
    std::fs::remove_dir_all(dir).expect("it can be removed");
}
