//! Files as the storage sees them, on a real file system.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use quorate_server::RealDisk;
use quorate_storage::{Completion, Disk, Operation, Ticket};

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
