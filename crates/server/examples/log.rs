//! How fast the log is: 64 KiB records, one after the other, against the same blocks written to a plain file that was
//! reserved in the same way, in turn; and how long 1 GiB takes to open, and how much memory.
//!
//! `cargo run --release -p quorate-server --example log -- DIR [SECONDS [ROUNDS]]`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, Incarnation, LogIndex, NodeId, Record, Term,
    Time, WriteMark,
};
use quorate_server::RealDisk;
use quorate_storage::{Completion, Identity, Storage, StorageEvent, StorageOptions};

const BLOCK_BYTES: usize = 64 << 10;
const GROUP: GroupId = GroupId(1);
const IDENTITY: Identity =
    Identity { cluster: ClusterId(1), node: NodeId(1), incarnation: Incarnation(1) };

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("give a directory to write to")?;
    if directory == "--open" {
        return open_once(Path::new(&arguments.next().ok_or("give a directory to open")?));
    }
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let directory = Path::new(&directory).join(format!("log-bench-{}", std::process::id()));
    let (mut raw, mut log) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        raw.push(raw_rate(&directory.join("raw"), Duration::from_secs(seconds))?);
        log.push(log_rate(&directory.join("log"), Duration::from_secs(seconds))?);
    }
    for (round, (raw, log)) in raw.iter().zip(&log).enumerate() {
        println!("round {round}: raw {raw:.0}/s, log {log:.0}/s, {:.1} %", 100.0 * log / raw);
    }
    let ratio = log.iter().sum::<f64>() / raw.iter().sum::<f64>();
    println!("log / raw, 64 KiB write + fdatasync: {:.1} %", 100.0 * ratio);
    open_time(&directory.join("open"))?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// A new directory.
fn fresh(directory: &Path) -> Outcome<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(std::fs::create_dir_all(directory)?)
}

fn raw_rate(directory: &Path, duration: Duration) -> Outcome<f64> {
    fresh(directory)?;
    let segment_bytes = StorageOptions::default().segment_bytes;
    let block = vec![7; BLOCK_BYTES];
    let (start, mut blocks, mut segment) = (Instant::now(), 0_u32, 0);
    while start.elapsed() < duration {
        segment += 1;
        let path = directory.join(segment.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, segment_bytes)?;
        file.sync_all()?;
        for offset in (0..segment_bytes).step_by(BLOCK_BYTES) {
            file.write_all_at(&block, offset)?;
            file.sync_data()?;
            blocks += 1;
            if start.elapsed() >= duration {
                break;
            }
        }
    }
    Ok(f64::from(blocks) / start.elapsed().as_secs_f64())
}

/// The log, and who writes to it.
struct Writer {
    storage: Storage<RealDisk>,
    completions: Receiver<Completion>,
    news: Vec<StorageEvent>,
    index: u64,
}

impl Writer {
    fn open(directory: &Path) -> Outcome<Self> {
        let (sender, completions) = channel();
        let disk = RealDisk::new(directory, move |completion| {
            let _ = sender.send(completion);
        })?;
        let (storage, found) = Storage::open(disk, IDENTITY, StorageOptions::default())?;
        let index = found.get(&GROUP).map_or(0, |group| group.last.index.0);
        Ok(Self { storage, completions, news: Vec::new(), index })
    }

    /// Writes a record of equal entries and waits until it is durable.
    fn write_many(&mut self, data: &Bytes, count: u64) -> Outcome<()> {
        let entry = |index| {
            let id = EntryId::new(LogIndex(index), Term(1));
            Entry::new(id, EntryKind::Command, data.clone())
        };
        let entries: Vec<Entry> = (self.index + 1..=self.index + count).map(entry).collect();
        self.index += count;
        let mark = WriteMark(self.index);
        self.storage.persist(GROUP, mark, Record { entries, ..Record::default() });
        self.storage.flush(Time::ZERO, &mut self.news);
        loop {
            for event in self.news.drain(..) {
                match event {
                    StorageEvent::Persisted { mark: durable, .. } if durable == mark => {
                        return Ok(());
                    }
                    StorageEvent::Failed { reason } => return Err(reason.into()),
                    _ => {}
                }
            }
            let completion = self.completions.recv()?;
            self.storage.complete(completion, &mut self.news);
        }
    }
}

fn log_rate(directory: &Path, duration: Duration) -> Outcome<f64> {
    fresh(directory)?;
    let mut writer = Writer::open(directory)?;
    let block = Bytes::from(vec![7; BLOCK_BYTES]);
    let (start, mut blocks) = (Instant::now(), 0_u32);
    while start.elapsed() < duration {
        writer.write_many(&block, 1)?;
        blocks += 1;
    }
    Ok(f64::from(blocks) / start.elapsed().as_secs_f64())
}

fn open_time(directory: &Path) -> Outcome<()> {
    fresh(directory)?;
    let mut writer = Writer::open(directory)?;
    for _ in 0..1_024 {
        writer.write_many(&Bytes::from_static(&[7; 256]), 3_800)?;
    }
    drop(writer);
    // Each in a process of its own, whose memory is this alone.
    for _ in 0..3 {
        let mut once = Command::new(std::env::current_exe()?);
        if !once.arg("--open").arg(directory).status()?.success() {
            return Err("the log does not open".into());
        }
    }
    Ok(())
}

fn open_once(directory: &Path) -> Outcome<()> {
    let start = Instant::now();
    let writer = Writer::open(directory)?;
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown");
    println!("1 GiB of 256 B entries opened in {seconds:.3} s, peak memory {}", peak.trim());
    drop(writer);
    Ok(())
}
