//! The jute encoding.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::command::{AclEntry, Identity, Stat};

/// A packet that does not read; its connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed packet: {0}")]
pub struct BadPacket(pub &'static str);

/// Takes values from the front of a packet.
#[derive(Clone, Debug)]
pub struct JuteReader<'a> {
    input: &'a [u8],
}

impl<'a> JuteReader<'a> {
    /// Reads a packet from its start.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BadPacket> {
        let (taken, rest) = self.input.split_at_checked(bytes).ok_or(BadPacket("it ends early"))?;
        self.input = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPacket> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte; anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, BadPacket> {
        Ok(self.array::<1>()?[0] != 0)
    }

    /// Four bytes.
    pub fn int(&mut self) -> Result<i32, BadPacket> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn long(&mut self) -> Result<i64, BadPacket> {
        self.array().map(i64::from_be_bytes)
    }

    /// A byte string, or null.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, BadPacket> {
        match self.int()? {
            -1 => Ok(None),
            length => {
                let bytes = usize::try_from(length).map_err(|_| BadPacket("a negative length"))?;
                self.take(bytes).map(Some)
            }
        }
    }

    /// Text, or null.
    pub fn nullable_str(&mut self) -> Result<Option<&'a str>, BadPacket> {
        self.buffer()?
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| BadPacket("text that is not UTF-8"))
    }

    /// Text; null is read as empty.
    pub fn str(&mut self) -> Result<&'a str, BadPacket> {
        Ok(self.nullable_str()?.unwrap_or_default())
    }

    /// How many items follow; -1 (null) is none. Each takes at least `item_bytes_min` bytes, so that a
    /// hostile count reserves nothing that the packet does not pay for.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, BadPacket> {
        let count = usize::try_from(self.int()?.max(0)).unwrap_or(0);
        if count.saturating_mul(item_bytes_min) > self.input.len() {
            return Err(BadPacket("more items announced than bytes left"));
        }
        Ok(count)
    }

    /// A list of texts.
    pub fn strs(&mut self) -> Result<Vec<&'a str>, BadPacket> {
        (0..self.count(4)?).map(|_| self.str()).collect()
    }

    /// An access control list.
    pub fn acl(&mut self) -> Result<Vec<AclEntry>, BadPacket> {
        let entry = |input: &mut Self| {
            let perms = input.int()?;
            let (scheme, id) = (input.str()?.to_string(), input.str()?.to_string());
            Ok(AclEntry { perms, identity: Identity { scheme, id } })
        };
        (0..self.count(12)?).map(|_| entry(self)).collect()
    }

    /// A Stat.
    pub fn stat(&mut self) -> Result<Stat, BadPacket> {
        use crate::command::Zxid;
        Ok(Stat {
            czxid: Zxid(self.long()?),
            mzxid: Zxid(self.long()?),
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: Zxid(self.long()?),
        })
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.input.len()
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }
}

/// Builds a packet; the length goes in front when it is finished.
#[derive(Debug)]
pub struct JuteWriter {
    out: BytesMut,
}

impl JuteWriter {
    /// An empty packet with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(bytes + 4);
        out.put_i32(0);
        Self { out }
    }

    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(u8::from(value));
    }

    /// Four bytes.
    pub fn int(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    /// Eight bytes.
    pub fn long(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    /// A byte string, or null.
    pub fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self.int(i32::try_from(bytes.len()).expect("a packet is far below 2 GiB"));
                self.out.put_slice(bytes);
            }
        }
    }

    /// Text.
    pub fn str(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    /// How many items follow.
    pub fn count(&mut self, count: usize) {
        self.int(i32::try_from(count).expect("a packet holds far fewer items"));
    }

    /// An access control list.
    pub fn acl(&mut self, acl: &[AclEntry]) {
        self.count(acl.len());
        for entry in acl {
            self.int(entry.perms);
            self.str(&entry.identity.scheme);
            self.str(&entry.identity.id);
        }
    }

    /// A Stat.
    pub fn stat(&mut self, stat: &Stat) {
        self.long(stat.czxid.0);
        self.long(stat.mzxid.0);
        self.long(stat.ctime);
        self.long(stat.mtime);
        self.int(stat.version);
        self.int(stat.cversion);
        self.int(stat.aversion);
        self.long(stat.ephemeral_owner);
        self.int(stat.data_length);
        self.int(stat.num_children);
        self.long(stat.pzxid.0);
    }

    /// Bytes so far, the length in front included.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// The packet with its length in front.
    pub fn finish(mut self) -> Bytes {
        let length = i32::try_from(self.out.len() - 4).expect("a packet is far below 2 GiB");
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        self.out.freeze()
    }
}
