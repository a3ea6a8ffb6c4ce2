//! Snapshots: the small things at once, the versions in slices.
//!
//! ```text
//! version 4 | bytes of the head 4
//! head:  revision 8 | compacted 8 | floor 8 + 4 | reign 8 | alarms | leases | users and roles | clients
//! versions: (bytes of the key 4 | bytes 4 | data) ... | 0 (4)
//! ```
//!
//! Index, history, and which keys a lease has follow from the versions.

use std::io::Read;

use quorate_contracts::{BadSnapshot, Malformed, Progress, Term, WireReader, WireWriter};

use super::auth::Auth;
use super::clients::Clients;
use super::mvcc::Mvcc;
use super::versions::Position;
use super::{Alarm, Store};
use crate::{LeaseId, Revision};

const VERSION: u32 = 1;
/// No head is larger: a damaged length must not take memory.
const HEAD_BYTES_MAX: u32 = 1 << 30;
/// No version is larger.
const VERSION_BYTES_MAX: u32 = 1 << 30;

impl Store {
    /// Makes of the versions what follows from them.
    pub(super) fn rebuild(&mut self) {
        self.mvcc.rebuild();
        let leases = &mut self.leases;
        self.mvcc.leased(|lease, key| leases.move_key(key, LeaseId::NONE, lease));
    }

    pub(super) fn begin_snapshotting(&mut self) {
        self.head = Some(encode_head(self));
        self.mvcc.versions.begin_snapshot();
    }

    pub(super) fn next_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        if let Some(head) = self.head.take() {
            out.extend_from_slice(&VERSION.to_be_bytes());
            out.extend_from_slice(&(head.len() as u32).to_be_bytes());
            out.extend_from_slice(&head);
        }
        let progress = self.mvcc.versions.snapshot_slice(bytes, |data, key_bytes| {
            out.extend_from_slice(&key_bytes.to_be_bytes());
            out.extend_from_slice(&(data.len() as u32).to_be_bytes());
            out.extend_from_slice(data);
        });
        if progress == Progress::Done {
            out.extend_from_slice(&0_u32.to_be_bytes());
        }
        progress
    }
}

fn encode_head(store: &Store) -> Vec<u8> {
    let mut out = WireWriter::default();
    let Mvcc { current, compacted, floor, .. } = &store.mvcc;
    out.u64(current.0 as u64);
    out.u64(compacted.0 as u64);
    out.u64(floor.revision.0 as u64);
    out.u32(floor.sub);
    out.u64(store.reign.0);
    out.u32(store.alarms.len() as u32);
    for (member, alarm) in &store.alarms {
        out.u64(*member);
        out.u32(*alarm as u32);
    }
    out.u32(store.leases.iter().len() as u32);
    for (id, lease) in store.leases.iter() {
        out.u64(id.0 as u64);
        out.u64(lease.ttl as u64);
    }
    store.auth.encode(&mut out);
    store.clients.encode(&mut out);
    out.finish().to_vec()
}

/// A version as `versions` keeps it, behind the length of its key.
type Kept = (u32, Box<[u8]>);

/// The versions in a snapshot, one after the other.
pub(crate) struct VersionReader<R> {
    reader: std::io::BufReader<R>,
}

impl<R: Read> VersionReader<R> {
    /// Reads what precedes them: a store with everything but keys.
    pub(crate) fn begin(reader: R) -> Result<(Store, Self), BadSnapshot> {
        let mut reader = std::io::BufReader::with_capacity(1 << 16, reader);
        let version = read_u32(&mut reader)?;
        if version != VERSION {
            return Err(BadSnapshot::Version { found: version, known: VERSION });
        }
        let head_bytes = read_u32(&mut reader)?;
        let head = read_bytes(&mut reader, head_bytes, HEAD_BYTES_MAX)?;
        let store = decode_head(&head).map_err(|Malformed(what)| BadSnapshot::Malformed(what))?;
        Ok((store, Self { reader }))
    }

    /// The next one; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Kept>, BadSnapshot> {
        let key_bytes = read_u32(&mut self.reader)?;
        if key_bytes == 0 {
            return Ok(None);
        }
        let bytes = read_u32(&mut self.reader)?;
        let data = read_bytes(&mut self.reader, bytes, VERSION_BYTES_MAX)?;
        Ok(Some((key_bytes, data.into_boxed_slice())))
    }
}

pub(super) fn restore(reader: &mut dyn Read) -> Result<Store, BadSnapshot> {
    let (mut store, mut versions) = VersionReader::begin(reader)?;
    while let Some((key_bytes, data)) = versions.next()? {
        if !store.mvcc.restore(data, key_bytes) {
            return Err(BadSnapshot::Malformed("a version of a key that cannot be read"));
        }
    }
    store.rebuild();
    Ok(store)
}

fn read_u32(reader: &mut impl Read) -> Result<u32, BadSnapshot> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_bytes(reader: &mut impl Read, bytes: u32, max: u32) -> Result<Vec<u8>, BadSnapshot> {
    if bytes > max {
        return Err(BadSnapshot::Malformed("an impossible length"));
    }
    // Taken as it comes, so that a wrong length costs no more memory than there are bytes.
    let mut data = Vec::with_capacity(bytes.min(1 << 16) as usize);
    let read = reader.take(bytes.into()).read_to_end(&mut data)?;
    if read < bytes as usize { Err(BadSnapshot::Malformed("ends early")) } else { Ok(data) }
}

fn decode_head(head: &[u8]) -> Result<Store, Malformed> {
    let mut input = WireReader::from_slice(head);
    let mut store = Store::default();
    store.mvcc.current = Revision(input.u64()? as i64);
    store.mvcc.compacted = Revision(input.u64()? as i64);
    store.mvcc.floor = Position { revision: Revision(input.u64()? as i64), sub: input.u32()? };
    store.reign = Term(input.u64()?);
    for _ in 0..input.count(12)? {
        let member = input.u64()?;
        let alarm =
            Alarm::try_from(input.u32()? as i32).map_err(|_| Malformed("an unknown alarm"))?;
        store.alarms.insert((member, alarm));
    }
    for _ in 0..input.count(16)? {
        store.leases.restore(LeaseId(input.u64()? as i64), input.u64()? as i64);
    }
    store.auth = Auth::decode(&mut input)?;
    store.clients = Clients::decode(&mut input)?;
    if input.is_empty() { Ok(store) } else { Err(Malformed("bytes left over")) }
}
