//! Reading and writing our own binary formats: big-endian numbers, lengths checked before memory
//! is taken, byte strings borrowed from the buffer they arrived in.
//!
//! Not for ZooKeeper's jute encoding, which lives in `zk`.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::{EntryId, LogIndex, Term};

/// A value with one binary form.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut WireWriter);
    /// Reads a value; the bytes behind it are left in the reader.
    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed>;

    /// The value alone in a buffer of its own.
    fn to_bytes(&self) -> Bytes {
        let mut out = WireWriter::default();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads a buffer that holds exactly one value.
    fn from_bytes(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut input = WireReader::new(bytes);
        let value = Self::decode(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(Malformed("bytes left over")) }
    }
}

/// The messages of services that say nothing to each other.
impl Wire for Infallible {
    fn encode(&self, _: &mut WireWriter) {
        match *self {}
    }

    fn decode(_: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Err(Malformed("this service says nothing"))
    }
}

/// Bytes that do not mean what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Appends values to a buffer.
#[derive(Default, Debug)]
pub struct WireWriter {
    out: BytesMut,
}

impl WireWriter {
    /// An empty buffer with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes) }
    }
    /// A byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.out.put_u64(value);
    }
    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(u8::from(value));
    }
    /// A length of four bytes, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("a byte string is shorter than 4 GiB");
        self.out.put_u32(length);
        self.out.put_slice(value);
    }
    /// Bytes as they are, without a length.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.put_slice(value);
    }
    /// Index, then term.
    pub fn entry_id(&mut self, id: EntryId) {
        self.u64(id.index.0);
        self.u64(id.term.0);
    }
    /// What was written.
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }
    /// What was written, for long keeping: a large buffer that is far from full is copied to one that fits.
    pub fn finish_tight(self) -> Bytes {
        const LARGE: usize = 4 << 10;
        let spare = self.out.capacity() - self.out.len();
        if self.out.len() >= LARGE && spare > self.out.len() / 8 {
            return Bytes::copy_from_slice(&self.out);
        }
        self.finish()
    }
    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }
    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
}

/// Takes values from the front of a buffer.
#[derive(Clone, Debug)]
pub struct WireReader<'a> {
    input: &'a [u8],
    /// The reference-counted buffer around `input`, where there is one.
    whole: Option<&'a Bytes>,
}

impl<'a> WireReader<'a> {
    /// Reads a reference-counted buffer: [`shared`](Self::shared) gives parts of it without copying.
    pub fn new(whole: &'a Bytes) -> Self {
        Self { input: whole, whole: Some(whole) }
    }
    /// Reads borrowed bytes.
    pub fn from_slice(input: &'a [u8]) -> Self {
        Self { input, whole: None }
    }
    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a truth value is 0 or 1")),
        }
    }
    /// A byte string, borrowed.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }
    /// A byte string that shares the buffer, or a copy where the buffer is only borrowed.
    pub fn shared(&mut self) -> Result<Bytes, Malformed> {
        let bytes = self.bytes()?;
        Ok(self.whole.map_or_else(|| Bytes::copy_from_slice(bytes), |whole| whole.slice_ref(bytes)))
    }
    /// Text.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))
    }
    /// A fixed number of bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    /// A count of items that take at least `item_bytes_min` each, so that a hostile count cannot
    /// make anybody reserve memory that the message does not pay for.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(item_bytes_min.max(1)) > self.input.len() {
            return Err(Malformed("more items announced than bytes left"));
        }
        Ok(count)
    }
    /// Index, then term.
    pub fn entry_id(&mut self) -> Result<EntryId, Malformed> {
        let index = LogIndex(self.u64()?);
        Ok(EntryId::new(index, Term(self.u64()?)))
    }
    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.input)
    }
    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.input.split_at_checked(bytes).ok_or(Malformed("ends early"))?;
        self.input = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_buffer_is_refused_before_memory_is_taken() {
        let mut reader = WireReader::from_slice(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(reader.bytes(), Err(Malformed("ends early")));
        let mut reader = WireReader::from_slice(&[0, 0, 0, 9, 1, 2]);
        assert_eq!(reader.count(4), Err(Malformed("more items announced than bytes left")));
    }

    #[test]
    fn values_come_back_as_they_went() {
        let mut out = WireWriter::default();
        out.u8(7);
        out.bool(true);
        out.entry_id(EntryId::new(LogIndex(17), Term(3)));
        out.bytes(b"abc");
        let bytes = out.finish();
        let mut input = WireReader::new(&bytes);
        assert_eq!(input.u8(), Ok(7));
        assert_eq!(input.bool(), Ok(true));
        assert_eq!(input.entry_id().unwrap().to_string(), "17@3");
        assert_eq!(input.shared().unwrap(), Bytes::from_static(b"abc"));
        assert!(input.is_empty());
    }
}
