//! Files as the storage sees them, on a real file system.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, Incarnation, LogIndex, NodeId, Record, Term,
    Time, WriteMark,
};
use quorate_server::RealDisk;
use quorate_storage::{
    Completion, Disk, Identity, Operation, Storage, StorageEvent, StorageOptions, Ticket,
};

/// A directory of this test's own, and a disk in it.
fn disk(test: &str) -> (PathBuf, RealDisk, Receiver<Completion>) {
    let directory = std::env::temp_dir().join(format!("quorate-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
    let (sender, completions) = channel();
    let disk = RealDisk::new(&directory, move |completion| {
        let _ = sender.send(completion);
    });
    (directory, disk.expect("threads can be started"), completions)
}

/// A segment for which there is no space is not left behind half reserved: it would be written to, and the disk
/// would be found full in the midst of a write.
#[test]
fn a_file_that_does_not_fit_is_not_left_behind() {
    let (directory, mut disk, completions) = disk("full");
    let name = "000001.prepared".to_string();
    disk.submit(Ticket(1), Operation::Create { name, bytes: 1 << 55 });
    let completion = completions.recv().expect("the disk answers");
    assert!(completion.result.is_err(), "no file system here holds 32 PiB");
    assert_eq!(disk.list().expect("the directory reads"), []);
    std::fs::remove_dir_all(directory).expect("it can be removed");
}

/// What was written comes back by either way of reading, from the middle too.
#[test]
fn what_was_written_is_read() {
    let (directory, mut disk, completions) = disk("read");
    let name = || "000001.log".to_string();
    disk.submit(Ticket(1), Operation::Create { name: name(), bytes: 4_096 });
    completions.recv().expect("the disk answers").result.expect("it can be made");
    let (offset, data) = (100, "durable".into());
    disk.submit(Ticket(2), Operation::Write { name: name(), offset, data, sync: true });
    completions.recv().expect("the disk answers").result.expect("it can be written to");
    assert_eq!(disk.read_at(&name(), 103, 4).expect("it reads"), b"able");
    let mut rest = Vec::new();
    let mut reader = disk.open_at(&name(), 100).expect("it opens");
    reader.read_to_end(&mut rest).expect("it reads");
    assert_eq!((rest.len(), &rest[..7]), (3_996, &b"durable"[..]));
    std::fs::remove_dir_all(directory).expect("it can be removed");
}

const GROUP: GroupId = GroupId(1);

/// The storage on real files, and the entries that it finds.
fn open(directory: &Path) -> (Storage<RealDisk>, Receiver<Completion>, u64, bool) {
    let identity = Identity { cluster: ClusterId(1), node: NodeId(2), incarnation: Incarnation(3) };
    let (sender, completions) = channel();
    let disk = RealDisk::new(directory, move |completion| {
        let _ = sender.send(completion);
    });
    let options = StorageOptions { segment_bytes: 1 << 16, ..StorageOptions::default() };
    let disk = disk.expect("threads can be started");
    let (storage, found) = Storage::open(disk, identity, options).expect("it opens");
    let last = found.get(&GROUP).map_or(0, |group| group.last.index.0);
    let whole = found.values().all(|group| group.is_whole());
    (storage, completions, last, whole)
}

/// Writes an entry of its own record, durably.
fn write(storage: &mut Storage<RealDisk>, completions: &Receiver<Completion>, index: u64) {
    let id = EntryId::new(LogIndex(index), Term(1));
    let entries = vec![Entry::new(id, EntryKind::Command, format!("entry {index}").into())];
    storage.persist(GROUP, WriteMark(index), Record { entries, ..Record::default() });
    let mut news = Vec::new();
    storage.flush(Time::ZERO, &mut news);
    let durable = |event: &StorageEvent| matches!(event, StorageEvent::Persisted { mark, .. } if mark.0 == index);
    while !news.iter().any(durable) {
        storage.complete(completions.recv().expect("the disk answers"), &mut news);
    }
}

/// RAFT-16, on real files: wherever the last write was cut, everything before it is found and the log goes on; a bit that
/// rots before it is known for what it is.
#[test]
fn cuts_and_rot_of_real_files_are_told_apart() {
    let (directory, disk, _completions) = disk("cuts");
    drop(disk);
    let (mut storage, completions, ..) = open(&directory);
    (1..=3).for_each(|index| write(&mut storage, &completions, index));
    drop(storage);
    let log = directory.join("000001.log");
    let good = std::fs::read(&log).expect("the segment reads");
    let position = |text: &str| {
        let found = good.windows(text.len()).position(|window| window == text.as_bytes());
        found.expect("the entry is in the log")
    };
    let (second, end) = (position("entry 2") + 7, position("entry 3") + 7);
    for cut in (second..=end).step_by(7).chain([end]) {
        let mut torn = good.clone();
        torn[cut..].fill(0);
        std::fs::write(&log, torn).expect("the segment can be written");
        let expected = if cut == end { 3 } else { 2 };
        let (_storage, _completions, last, whole) = open(&directory);
        assert_eq!((last, whole), (expected, true), "cut at {cut} of {end}");
    }
    let mut rotten = good.clone();
    rotten[position("entry 2")] ^= 1;
    std::fs::write(&log, rotten).expect("the segment can be written");
    let (_storage, _completions, last, whole) = open(&directory);
    assert_eq!((last, whole), (3, false));
    // The next segment may just be being made ready in there.
    let _ = std::fs::remove_dir_all(directory);
}
