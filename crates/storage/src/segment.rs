//! Segment files: their names, and the header that says whose they are.

use bytes::Bytes;

use crate::Identity;

/// The header's size; batches begin after it.
pub(crate) const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"QRTELOG1";

/// The name under which the next segment is made ready.
pub(crate) const PREPARED_NAME: &str = "next.prepared";

/// `000012.log`
pub(crate) fn name(number: u64) -> String {
    format!("{number:06}.log")
}

/// The number in a segment's name.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

/// Seeds the checksums of everything in a segment: bytes that another segment or another life of the
/// directory left behind never look valid.
pub(crate) fn seed(identity: &Identity, number: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&identity.incarnation.0.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    crc32c::crc32c(&bytes)
}

/// The header of segment `number`, whose first batch has the number `first_batch`.
///
/// ```text
/// magic 8 | cluster 8 | node 8 | incarnation 8 | number 8 | first batch 8 | zeros 12 | CRC-32C 4
/// ```
pub(crate) fn header(identity: &Identity, number: u64, first_batch: u64) -> Bytes {
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend_from_slice(MAGIC);
    for word in
        [identity.cluster.0, identity.node.0, identity.incarnation.0, number, first_batch, 0]
    {
        header.extend_from_slice(&word.to_be_bytes());
    }
    header.extend_from_slice(&[0; 4]);
    let checksum = crc32c::crc32c(&header);
    header.extend_from_slice(&checksum.to_be_bytes());
    header.into()
}

/// What is wrong with a header, or the number of the segment's first batch.
pub(crate) fn read_header(
    header: &[u8],
    identity: &Identity,
    number: u64,
) -> Result<u64, &'static str> {
    let whole = header.len() == HEADER_BYTES as usize;
    if !whole || header.iter().all(|byte| *byte == 0) {
        return Err("the header was never written");
    }
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    if header[60..] != crc32c::crc32c(&header[..60]).to_be_bytes() {
        return Err("the header fails its checksum");
    }
    if &header[..8] != MAGIC {
        return Err("the header is of another format");
    }
    if [word(8), word(16), word(24)]
        != [identity.cluster.0, identity.node.0, identity.incarnation.0]
    {
        return Err("the segment is of another cluster, node or life of the directory");
    }
    if word(32) != number {
        return Err("the header has another number than the name");
    }
    Ok(word(40))
}
