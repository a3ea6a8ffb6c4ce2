//! Segment files: their names, and the header that says whose they are.

use bytes::Bytes;

use crate::{FileInfo, Identity};

/// The header's size; batches begin after it.
pub(crate) const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"QRTELOG2";
const CHECKSUM_AT: usize = HEADER_BYTES as usize - 4;

/// `000012.log`
pub(crate) fn name(number: u64) -> String {
    format!("{number:06}.log")
}

/// `000013.prepared`: the name under which that segment is made ready. It is there only if the one before it
/// was begun, so that a lost newest segment is noticed.
pub(crate) fn prepared_name(number: u64) -> String {
    format!("{number:06}.prepared")
}

/// The numbers of the files whose name this function gives them.
pub(crate) fn numbers(files: &[FileInfo], name: impl Fn(u64) -> String) -> Vec<u64> {
    let number = |file: &FileInfo| {
        let number = file.name.split('.').next()?.parse().ok()?;
        (name(number) == file.name).then_some(number)
    };
    let mut numbers: Vec<u64> = files.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Seeds the checksums of everything in a segment: bytes that another segment or another life of the
/// directory left behind never look valid.
pub(crate) fn seed(identity: &Identity, number: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&identity.incarnation.0.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    crc32c::crc32c(&bytes)
}

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// The segment's number.
    pub(crate) number: u64,
    /// Number of its first batch.
    pub(crate) first_batch: u64,
    /// The oldest segment that was still needed when this one was begun.
    pub(crate) oldest: u64,
}

impl Header {
    /// ```text
    /// magic 8 | cluster 8 | node 8 | incarnation 8 | number 8 | first batch 8 | oldest 8 | zeros 4 | CRC-32C 4
    /// ```
    pub(crate) fn encode(&self, identity: &Identity) -> Bytes {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(MAGIC);
        for word in [
            identity.cluster.0,
            identity.node.0,
            identity.incarnation.0,
            self.number,
            self.first_batch,
            self.oldest,
        ] {
            header.extend_from_slice(&word.to_be_bytes());
        }
        header.resize(CHECKSUM_AT, 0);
        let checksum = crc32c::crc32c(&header);
        header.extend_from_slice(&checksum.to_be_bytes());
        header.into()
    }

    /// Reads the header of the segment with this number, or says what is wrong with it.
    pub(crate) fn read(
        header: &[u8],
        identity: &Identity,
        number: u64,
    ) -> Result<Self, &'static str> {
        let whole = header.len() == HEADER_BYTES as usize;
        if !whole || header.iter().all(|byte| *byte == 0) {
            return Err("the header was never written");
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        if header[CHECKSUM_AT..] != crc32c::crc32c(&header[..CHECKSUM_AT]).to_be_bytes() {
            return Err("the header fails its checksum");
        }
        if &header[..8] != MAGIC {
            return Err("the header is of another format than this build reads");
        }
        if [word(8), word(16), word(24)]
            != [identity.cluster.0, identity.node.0, identity.incarnation.0]
        {
            return Err("the segment is of another cluster, node or life of the directory");
        }
        if word(32) != number {
            return Err("the header has another number than the name");
        }
        Ok(Self { number, first_batch: word(40), oldest: word(48) })
    }
}
