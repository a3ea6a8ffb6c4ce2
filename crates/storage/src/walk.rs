//! Reads a log from its oldest segment to its end, batch by batch, and tells what there is, what a crash tore,
//! and what is damaged (RAFT-16). Recovery and `quorate log` both listen to it.
//!
//! A batch is begun only after the one before it is durable. So a batch that does not read was torn by a
//! crash unless something that was written later says that it was durable: a header or a mark behind it, or
//! the number with which the next segment begins. Then it is damage, and may have been acknowledged.
//!
//! Reads a few MiB at a time, however large a segment is.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use crate::batch::{self, Decoded, Kind};
use crate::held::Footprint;
use crate::index::Location;
use crate::segment;
use crate::space::RESERVE;
use crate::{Disk, FileInfo, Identity, OpenError};

const READ_BYTES: usize = 4 << 20;

/// What is met on the way.
pub(crate) enum Step {
    /// A segment begins.
    Segment(segment::Header),
    /// A segment has its name, and nothing was ever in it.
    Unborn { number: u64 },
    /// A batch whose headers are good; if bodies are not, a [`Step::Damage`] follows.
    Batch { location: Location, decoded: Decoded },
    /// The log was durable up to here, and idle.
    Mark { durable: u64, location: Location, decoded: Decoded },
    /// Something that once was durable does not read.
    Damage(Damage),
    /// Something at the end of the segment that a crash cut short: nobody was told of it.
    Torn { offset: u64, what: String },
}

/// Something that once was durable and does not read any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment, or the snapshot.
    pub file: String,
    /// Where the damaged batch, or piece, begins.
    pub byte: u64,
    /// What is wrong with it.
    pub what: String,
    /// Whether what was in it is unknown, rather than only the data of some entries.
    pub headers_lost: bool,
}

/// Where a log begins and ends.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) oldest: u64,
    /// The newest segment that something was written to; 0 if there is none.
    pub(crate) newest: u64,
    /// What each of the segments from `oldest` to `newest` takes.
    pub(crate) footprints: BTreeMap<u64, Footprint>,
    /// Number of the batch that comes next.
    pub(crate) next_batch: u64,
    /// Size of the reserve, if it is there.
    pub(crate) reserve_bytes: Option<u64>,
    /// Files that are no longer needed, or never were.
    pub(crate) leftovers: Vec<String>,
}

/// Walks over the whole log.
pub(crate) fn walk<D: Disk>(
    disk: &D,
    identity: &Identity,
    files: &[FileInfo],
    emit: &mut dyn FnMut(Step),
) -> Result<Extent, OpenError> {
    let (headers, mut extent) = headers(disk, identity, files, emit)?;
    let mut walk = Walk { disk, identity, emit, next_batch: None, suspect: None };
    for header in &headers {
        let footprint = walk.segment(header)?;
        extent.footprints.insert(header.number, footprint);
    }
    walk.forgive();
    extent.next_batch = walk.next_batch.unwrap_or(1);
    Ok(extent)
}

/// The headers of the segments that are needed, without a gap.
fn headers<D: Disk>(
    disk: &D,
    identity: &Identity,
    files: &[FileInfo],
    emit: &mut dyn FnMut(Step),
) -> Result<(Vec<segment::Header>, Extent), OpenError> {
    let mut numbers = segment::numbers(files, segment::name);
    let prepared = segment::numbers(files, segment::prepared_name);
    let leftovers = prepared.iter().map(|number| segment::prepared_name(*number)).collect();
    let reserve_bytes = files.iter().find(|file| file.name == RESERVE).map(|file| file.bytes);
    let footprints = BTreeMap::new();
    let mut extent =
        Extent { oldest: 1, newest: 0, footprints, next_batch: 1, reserve_bytes, leftovers };
    let begun = prepared.last().map_or(0, |number| number - 1);
    if begun > numbers.last().copied().unwrap_or(0) {
        return Err(OpenError::MissingSegment { file: segment::name(begun) });
    }
    if let Some(newest) = numbers.last().copied()
        && is_unborn(disk, identity, newest)?
    {
        // It got its name, and the crash came before anything was in it: the next one takes its place.
        emit(Step::Unborn { number: newest });
        numbers.pop();
    }
    let Some(newest) = numbers.last().copied() else { return Ok((Vec::new(), extent)) };
    (extent.oldest, extent.newest) = (read_header(disk, identity, newest)?.oldest, newest);
    for number in numbers.iter().filter(|number| **number < extent.oldest) {
        extent.leftovers.push(segment::name(*number));
    }
    let read = |number| {
        if numbers.binary_search(&number).is_err() {
            return Err(OpenError::MissingSegment { file: segment::name(number) });
        }
        read_header(disk, identity, number)
    };
    Ok(((extent.oldest..=newest).map(read).collect::<Result<_, _>>()?, extent))
}

fn read_header<D: Disk>(
    disk: &D,
    identity: &Identity,
    number: u64,
) -> Result<segment::Header, OpenError> {
    let file = segment::name(number);
    let head = disk.read_at(&file, 0, segment::HEADER_BYTES as usize).map_err(OpenError::Io)?;
    segment::Header::read(&head, identity, number)
        .map_err(|what| OpenError::BadSegment { file, what })
}

/// Whether nothing was ever durable in a segment: header and first batch are one write, and nothing says that it
/// was completed.
fn is_unborn<D: Disk>(disk: &D, identity: &Identity, number: u64) -> Result<bool, OpenError> {
    let mut pages = Pages::new(disk, number);
    let head = pages.read(0, segment::HEADER_BYTES)?;
    if segment::Header::read(&head, identity, number).is_ok() {
        return Ok(false);
    }
    let seed = segment::seed(identity, number);
    let start = segment::HEADER_BYTES;
    let head = pages.read(start, batch::HEADER_BYTES as u64)?;
    let first = batch::Header::read(&head, seed).filter(|header| header.kind == Kind::Batch);
    let (from, durable) = match first {
        Some(first) => (start + first.batch_bytes(), first.number),
        None => (start, 0),
    };
    Ok(pages.proof(from, durable, seed)?.is_none())
}

/// A batch that did not read, of which nothing in its own segment says that it was durable.
struct Suspect {
    location: Location,
    /// What is wrong with it; nothing if there is only empty space.
    what: Option<String>,
    /// What is in it, if its headers are good.
    decoded: Option<Decoded>,
}

struct Walk<'a, D> {
    disk: &'a D,
    identity: &'a Identity,
    emit: &'a mut dyn FnMut(Step),
    next_batch: Option<u64>,
    suspect: Option<Suspect>,
}

impl<D: Disk> Walk<'_, D> {
    fn segment(&mut self, header: &segment::Header) -> Result<Footprint, OpenError> {
        match self.next_batch {
            Some(next) if header.first_batch < next => {
                let file = segment::name(header.number);
                let what = "it does not continue the segment before it";
                return Err(OpenError::BadSegment { file, what });
            }
            Some(next) if header.first_batch > next => self.accuse(header),
            _ => self.forgive(),
        }
        (self.emit)(Step::Segment(*header));
        self.next_batch = Some(header.first_batch);
        self.batches(header.number)
    }

    /// The suspect was being written when the node died: nobody was told of it.
    fn forgive(&mut self) {
        let Some(Suspect { location, what: Some(what), .. }) = self.suspect.take() else { return };
        (self.emit)(Step::Torn { offset: location.offset, what });
    }

    /// The next segment begins with a later batch: the suspect was durable, and so was what is missing
    /// behind it.
    fn accuse(&mut self, next: &segment::Header) {
        let mut number = self.next_batch.unwrap_or(1);
        let nowhere = Location { segment: next.number - 1, offset: 0, bytes: 0 };
        let mut suspect =
            self.suspect.take().unwrap_or(Suspect { location: nowhere, what: None, decoded: None });
        if let Some(decoded) = suspect.decoded.take() {
            self.damaged(number, suspect.location, suspect.what.take(), Some(decoded));
            number += 1;
        }
        if number < next.first_batch {
            self.damaged(number, suspect.location, suspect.what, None);
        }
    }

    fn damaged(
        &mut self,
        number: u64,
        location: Location,
        what: Option<String>,
        decoded: Option<Decoded>,
    ) {
        let headers_lost = decoded.is_none();
        if let Some(decoded) = decoded {
            (self.emit)(Step::Batch { location, decoded });
        }
        (self.emit)(Step::Damage(Damage {
            file: segment::name(location.segment),
            byte: location.offset,
            what: what.unwrap_or_else(|| format!("batch {number} is not there")),
            headers_lost,
        }));
    }

    /// Reads a segment to its end; returns what it takes.
    fn batches(&mut self, segment: u64) -> Result<Footprint, OpenError> {
        let seed = segment::seed(self.identity, segment);
        let mut pages = Pages::new(self.disk, segment);
        let mut at = segment::HEADER_BYTES;
        // What is written may end with zeros, as data or as padding.
        let mut written = at;
        while at < pages.end {
            let number = self.next_batch.unwrap_or(1);
            let found = pages.look(at, number, seed)?;
            let location = Location { segment, offset: at, bytes: found.bytes };
            let after = at + found.bytes;
            if found.what.is_some() || found.decoded.is_some() {
                written = after;
            }
            match found.decoded {
                Some((Kind::Batch, decoded)) if found.what.is_none() => {
                    (self.emit)(Step::Batch { location, decoded });
                    self.next_batch = Some(number + 1);
                    at = after;
                    continue;
                }
                Some((Kind::Mark, decoded)) if found.what.is_none() => {
                    // Nothing follows a mark, unless the batch that was written over it is lost.
                    (self.emit)(Step::Mark { durable: number - 1, location, decoded });
                    self.suspect = Some(Suspect { location, what: None, decoded: None });
                }
                decoded => {
                    let (what, decoded) = (found.what, decoded.map(|(_, decoded)| decoded));
                    self.suspect = Some(Suspect { location, what, decoded });
                }
            }
            let Some((proof, next)) = pages.proof(after, number, seed)? else { break };
            let Some(Suspect { what, decoded, .. }) = self.suspect.take() else { break };
            // With good headers, its end is known: what follows it is looked at for itself.
            (self.next_batch, at) =
                if decoded.is_some() { (Some(number + 1), after) } else { (Some(next), proof) };
            self.damaged(number, location, what, decoded);
        }
        Ok(Footprint { written: written.max(pages.written).min(pages.end), bytes: pages.end })
    }
}

/// What stands at some place where a batch is due.
struct Found {
    /// What is wrong with it; nothing if it is whole, or if there is only empty space.
    what: Option<String>,
    /// How far to go on behind it.
    bytes: u64,
    /// What is in it, if its headers are good.
    decoded: Option<(Kind, Decoded)>,
}

/// A segment, read a few MiB at a time.
struct Pages<'a, D> {
    disk: &'a D,
    name: String,
    /// What was read last, and where it begins.
    buffer: Bytes,
    start: u64,
    /// Size of the file, as far as is known: what lies behind is not there.
    end: u64,
    /// From here on there are only zeros in what was read so far.
    written: u64,
}

impl<'a, D: Disk> Pages<'a, D> {
    fn new(disk: &'a D, number: u64) -> Self {
        let name = segment::name(number);
        Self { disk, name, buffer: Bytes::new(), start: 0, end: u64::MAX, written: 0 }
    }

    /// `length` bytes at an offset; fewer only at the end of the file.
    fn read(&mut self, at: u64, length: u64) -> Result<Bytes, OpenError> {
        let buffered = self.start + self.buffer.len() as u64;
        let inside = at >= self.start && at.saturating_add(length) <= buffered;
        if !inside && at < self.end {
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).max(READ_BYTES);
            self.buffer = self.disk.read_at(&self.name, at, wanted).map_err(OpenError::Io)?.into();
            self.start = at;
            if self.buffer.len() < wanted {
                self.end = at + self.buffer.len() as u64;
            }
            if let Some(written) = written(&self.buffer) {
                self.written = self.written.max(at + written);
            }
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let from = from.min(self.buffer.len());
        let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(self.buffer.slice(from..to.min(self.buffer.len())))
    }

    /// What stands where batch `number` is due.
    fn look(&mut self, at: u64, number: u64, seed: u32) -> Result<Found, OpenError> {
        const HEADER: u64 = batch::HEADER_BYTES as u64;
        let head = self.read(at, HEADER)?;
        let Some(header) = batch::Header::read(&head, seed) else {
            let empty = head.iter().all(|byte| *byte == 0) && self.is_empty_from(at)?;
            let what = (!empty).then(|| format!("no header where batch {number} is due"));
            return Ok(Found { what, bytes: HEADER, decoded: None });
        };
        let bytes = header.batch_bytes();
        if header.number != number {
            let what = Some(format!("batch {} where {number} is due", header.number));
            return Ok(Found { what, bytes: 0, decoded: None });
        }
        if bytes > self.end.saturating_sub(at) && self.end != u64::MAX {
            let what = Some(format!("batch {number}: it is cut short"));
            return Ok(Found { what, bytes: HEADER, decoded: None });
        }
        let whole = self.read(at, bytes)?;
        Ok(match batch::decode(&whole, &header, seed) {
            Ok(decoded) => {
                let what = decoded.bad_bodies.first().map(|(group, id)| {
                    format!("batch {number}: entry {id} of group {group} fails its checksum")
                });
                Found { what, bytes, decoded: Some((header.kind, decoded)) }
            }
            Err(what) => {
                let what = Some(format!("batch {number}: {}", what.0));
                // A good header tells where the next one is; but not behind the end of the file.
                let bytes = if (whole.len() as u64) < bytes { HEADER } else { bytes };
                Found { what, bytes, decoded: None }
            }
        })
    }

    fn is_empty_from(&mut self, from: u64) -> Result<bool, OpenError> {
        let mut at = from;
        loop {
            let bytes = self.read(at, READ_BYTES as u64)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if bytes.is_empty() {
                return Ok(true);
            }
            at += bytes.len() as u64;
        }
    }

    /// The first header at or behind `from` that proves batch `number` to have been durable, and the number of
    /// the batch that comes next there.
    fn proof(
        &mut self,
        from: u64,
        number: u64,
        seed: u32,
    ) -> Result<Option<(u64, u64)>, OpenError> {
        const STEP: u64 = batch::HEADER_BYTES as u64;
        let mut at = batch::padded(from);
        loop {
            let bytes = self.read(at, READ_BYTES as u64)?;
            if bytes.len() < batch::HEADER_BYTES {
                return Ok(None);
            }
            let heads = bytes.chunks_exact(batch::HEADER_BYTES);
            for (head, offset) in heads.zip((at..).step_by(batch::HEADER_BYTES)) {
                if !batch::begins_like_one(head) {
                    continue;
                }
                if let Some(header) = batch::Header::read(head, seed)
                    && header.durable >= number
                {
                    return Ok(Some((offset, header.number)));
                }
            }
            at += bytes.len() as u64 / STEP * STEP;
        }
    }
}

/// Where what is not zero ends, in whole blocks, if there is anything.
fn written(bytes: &[u8]) -> Option<u64> {
    const BLOCK: usize = batch::HEADER_BYTES;
    let last = bytes.chunks(BLOCK).rposition(|block| *block != [0; BLOCK][..block.len()]);
    last.map(|block| ((block + 1) * BLOCK) as u64)
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
