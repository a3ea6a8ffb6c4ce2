//! Brings versions into the order of their revisions, however many they are, in little memory: what fits is sorted and set aside as
//! a run; at the end the runs are merged.
//!
//! ```text
//! run   (revision 8 | sub 4 | bytes of the key 4 | bytes 4 | data) ...      data: a version as `store::versions` keeps it
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::Revision;
use crate::store::Position;

/// Bytes that are sorted in memory.
pub(super) const RUN_BYTES: usize = 16 << 20;
/// Bytes read ahead of each run, at least the next version.
const AHEAD_BYTES: u64 = 64 << 10;
const HEAD_BYTES: usize = 20;

/// A version as a snapshot has it.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Item {
    pub(super) at: Position,
    pub(super) key_bytes: u32,
    pub(super) data: Box<[u8]>,
}

/// Takes items in any order; runs are in `scratch`, which is empty at first.
pub(super) struct Sorter<S> {
    scratch: S,
    run_bytes: usize,
    items: Vec<Item>,
    bytes: usize,
    /// Where each run begins and ends.
    runs: Vec<(u64, u64)>,
    written: u64,
}

impl<S: Read + Write + Seek> Sorter<S> {
    pub(super) fn new(scratch: S, run_bytes: usize) -> Self {
        Self { scratch, run_bytes, items: Vec::new(), bytes: 0, runs: Vec::new(), written: 0 }
    }

    pub(super) fn add(&mut self, item: Item) -> io::Result<()> {
        self.bytes += item.data.len() + size_of::<Item>();
        self.items.push(item);
        if self.bytes >= self.run_bytes { self.set_aside() } else { Ok(()) }
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.items.sort_unstable();
        let begin = self.written;
        let mut out = io::BufWriter::with_capacity(AHEAD_BYTES as usize, &mut self.scratch);
        for item in self.items.drain(..) {
            out.write_all(&item.head())?;
            out.write_all(&item.data)?;
            self.written += (HEAD_BYTES + item.data.len()) as u64;
        }
        out.flush()?;
        drop(out);
        self.runs.push((begin, self.written));
        self.bytes = 0;
        Ok(())
    }

    /// Gives all items in order.
    pub(super) fn finish(
        mut self,
        visit: &mut dyn FnMut(Item) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.runs.is_empty() {
            self.items.sort_unstable();
            return self.items.into_iter().try_for_each(visit);
        }
        self.set_aside()?;
        let mut runs: Vec<Run> = self.runs.iter().map(|(at, end)| Run::new(*at, *end)).collect();
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next(&mut self.scratch)?.map(|item| Reverse((item, number))));
        }
        while let Some(Reverse((item, number))) = heads.pop() {
            visit(item)?;
            let next = runs[number].next(&mut self.scratch)?;
            heads.extend(next.map(|item| Reverse((item, number))));
        }
        Ok(())
    }
}

impl Item {
    fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&self.at.revision.0.to_be_bytes());
        head[8..12].copy_from_slice(&self.at.sub.to_be_bytes());
        head[12..16].copy_from_slice(&self.key_bytes.to_be_bytes());
        head[16..].copy_from_slice(&(self.data.len() as u32).to_be_bytes());
        head
    }
}

/// A run being read.
struct Run {
    /// What is not read ahead yet.
    at: u64,
    end: u64,
    ahead: Vec<u8>,
    /// What was given of `ahead`.
    given: usize,
}

impl Run {
    fn new(at: u64, end: u64) -> Self {
        Self { at, end, ahead: Vec::new(), given: 0 }
    }

    fn next(&mut self, file: &mut (impl Read + Seek)) -> io::Result<Option<Item>> {
        if self.at == self.end && self.given == self.ahead.len() {
            return Ok(None);
        }
        let head: [u8; HEAD_BYTES] = self.take(file, HEAD_BYTES)?.try_into().unwrap_or_default();
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let revision = i64::from(number(0)) << 32 | i64::from(number(4));
        let at = Position { revision: Revision(revision), sub: number(8) };
        let data = self.take(file, number(16) as usize)?.into();
        Ok(Some(Item { at, key_bytes: number(12), data }))
    }

    fn take(&mut self, file: &mut (impl Read + Seek), bytes: usize) -> io::Result<&[u8]> {
        if self.ahead.len() - self.given < bytes {
            self.ahead.drain(..self.given);
            self.given = 0;
            let wanted = AHEAD_BYTES.max(bytes as u64).min(self.end - self.at);
            file.seek(SeekFrom::Start(self.at))?;
            self.at += file.take(wanted).read_to_end(&mut self.ahead)? as u64;
        }
        self.given += bytes;
        let taken = self.ahead.get(self.given - bytes..self.given);
        taken.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// However little is sorted in memory, the order is that of the revisions.
    #[test]
    fn runs_come_together_in_order() {
        for run_bytes in [1, 500, 20_000, 1 << 30] {
            let mut sorter = Sorter::new(Cursor::new(Vec::new()), run_bytes);
            let mut wanted = Vec::new();
            for n in 0..600_u64 {
                let revision = Revision((n * 7919 % 600) as i64 / 3);
                let at = Position { revision, sub: (n % 5) as u32 };
                let data = vec![n as u8; n as usize * 37 % 300].into_boxed_slice();
                let item = || Item { at, key_bytes: n as u32, data: data.clone() };
                wanted.push(item());
                sorter.add(item()).unwrap();
            }
            wanted.sort();
            let mut found = Vec::new();
            sorter
                .finish(&mut |item| {
                    found.push(item);
                    Ok(())
                })
                .unwrap();
            assert!(found == wanted, "runs of {run_bytes} bytes");
        }
    }
}
