//! Real files, on two threads: one for the log, one for what the log need not wait for (snapshots, and making
//! the next segment ready). Operations on one file are carried out in order.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_contracts::Histogram;
use quorate_storage::{Completion, Disk, FileInfo, Operation, Ticket};

/// A directory of real files.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    log: Sender<(Ticket, Operation)>,
    aside: Sender<(Ticket, Operation)>,
    gauge: DiskGauge,
}

/// What people want to know of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskGauge {
    directory: PathBuf,
    syncs: Arc<Mutex<Histogram>>,
}

/// Files of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Files {
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

impl DiskGauge {
    /// How long syncs of data took.
    pub(crate) fn syncs(&self) -> Histogram {
        *self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files whose names end like this, as far as they can be read.
    pub(crate) fn files(&self, end: &str) -> Files {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(end));
        ours.filter_map(|entry| entry.metadata().ok()).fold(Files::default(), |sum, file| Files {
            count: sum.count + 1,
            bytes: sum.bytes + file.len(),
        })
    }

    fn synced(&self, took: Duration) {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner).add(took);
    }
}

impl RealDisk {
    /// A disk that keeps its files in `directory`. `completed` is called on the disk's threads.
    pub fn new(
        directory: &Path,
        completed: impl Fn(Completion) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        Self::delayed(directory, None, completed)
    }

    /// The same; each sync takes longer by as many milliseconds as stand in a file at that time, if there is one.
    pub(crate) fn delayed(
        directory: &Path,
        delay: Option<&Path>,
        completed: impl Fn(Completion) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let gauge = DiskGauge { directory: directory.to_path_buf(), syncs: Arc::default() };
        let spawn = |name: &str| {
            let (sender, receiver) = channel();
            let mut worker = Worker {
                directory: directory.to_path_buf(),
                open: HashMap::new(),
                gauge: gauge.clone(),
                delay: delay.map(Path::to_path_buf),
            };
            let completed = completed.clone();
            thread::Builder::new()
                .name(name.to_string())
                .spawn(move || worker.run(&receiver, &completed))?;
            Ok::<_, io::Error>(sender)
        };
        Ok(Self {
            directory: directory.to_path_buf(),
            log: spawn("log")?,
            aside: spawn("beside the log")?,
            gauge,
        })
    }

    /// What people want to know of it.
    pub(crate) fn gauge(&self) -> DiskGauge {
        self.gauge.clone()
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let (Ok(name), true) =
                (entry.file_name().into_string(), entry.file_type()?.is_file())
            {
                files.push(FileInfo { name, bytes: entry.metadata()?.len() });
            }
        }
        Ok(files)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read(&File::open(self.directory.join(name))?, offset, length)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(self.directory.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) {
        let worker = if operation.is_aside() { &self.aside } else { &self.log };
        // The thread ends only when this sender does.
        let _ = worker.send((ticket, operation));
    }
}

fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// One thread's files.
struct Worker {
    directory: PathBuf,
    open: HashMap<String, File>,
    gauge: DiskGauge,
    /// See `RealDisk::delayed`.
    delay: Option<PathBuf>,
}

impl Worker {
    fn run(&mut self, operations: &Receiver<(Ticket, Operation)>, completed: &impl Fn(Completion)) {
        while let Ok((ticket, operation)) = operations.recv() {
            let result = self.carry_out(operation);
            completed(Completion { ticket, result });
        }
    }

    fn carry_out(&mut self, operation: Operation) -> io::Result<Bytes> {
        match operation {
            Operation::Create { name, bytes } => {
                self.open.remove(&name);
                self.create(&name, bytes)?;
            }
            Operation::Write { name, offset, data, sync } => {
                let file = self.file(&name)?;
                file.write_all_at(&data, offset)?;
                if sync {
                    let began = Instant::now();
                    file.sync_data()?;
                    self.delay();
                    self.gauge.synced(began.elapsed());
                }
            }
            Operation::Read { name, offset, length } => {
                return read(self.file(&name)?, offset, length).map(Bytes::from);
            }
            Operation::Rename { from, to } => {
                fs::rename(self.directory.join(&from), self.directory.join(&to))?;
                File::open(&self.directory)?.sync_all()?;
                if let Some(file) = self.open.remove(&from) {
                    self.open.insert(to, file);
                }
            }
            Operation::Trim { name, bytes } => {
                // Where that needs space itself, there may be none; nothing depends on it.
                let _ = self.file(&name)?.set_len(bytes);
            }
            Operation::Remove { name } => {
                self.open.remove(&name);
                fs::remove_file(self.directory.join(&name)).or_else(ignore_missing)?;
            }
        }
        Ok(Bytes::new())
    }

    fn delay(&self) {
        let Some(file) = &self.delay else { return };
        let text = fs::read_to_string(file).unwrap_or_default();
        thread::sleep(Duration::from_millis(text.trim().parse().unwrap_or(0)));
    }

    /// Space is reserved before anything is written, so that a full disk is met here; what was begun then
    /// is no file to be used. The size is durable too: later syncs of data need not touch it.
    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
        let path = self.directory.join(name);
        let reserved = reserve(&path, bytes);
        if reserved.is_err() {
            fs::remove_file(&path).or_else(ignore_missing)?;
        } else if bytes > 0 {
            File::open(&self.directory)?.sync_all()?;
        }
        reserved
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let path = self.directory.join(name);
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            self.open.insert(name.to_string(), file);
        }
        Ok(&self.open[name])
    }
}

/// A new file of this size. One whose space is reserved is not written to before it has another name: what is there of
/// it already is zeros, and kept, since on a full disk it could not be had again.
fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(bytes == 0).open(path)?;
    if bytes > 0 {
        if file.metadata()?.len() > bytes {
            file.set_len(bytes)?;
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
