//! A snapshot of ours becomes a database of etcd's: of one revision, in one pass over the snapshot and one over what was sorted.

use std::io::{Read, Seek, SeekFrom, Write};

use prost::Message;
use quorate_contracts::{BadSnapshot, EntryId};

use super::pages::{Pages, Tree};
use super::sorting::{Item, RUN_BYTES, Sorter};
use super::{bucket, name, revision_name};
use crate::messages::etcdserverpb::AlarmMember;
use crate::messages::leasepb::Lease;
use crate::messages::mvccpb::KeyValue;
use crate::store::{Position, Store, Version, VersionReader, decode_version};
use crate::{LeaseId, Revision};

/// What a snapshot does not say itself.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The last entry that it covers.
    pub applied: EntryId,
    /// The members: their ids, and how etcd keeps each, in JSON.
    pub members: Vec<(u64, Vec<u8>)>,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exported {
    /// Its revision.
    pub revision: Revision,
    /// Versions of keys.
    pub versions: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the database that holds what a snapshot holds. `scratch` and `out` are empty at first; the memory it takes does not grow
/// with the snapshot, but for what is not a key: leases, users, roles.
pub fn export(
    snapshot: impl Read,
    origin: &Origin,
    scratch: impl Read + Write + Seek,
    mut out: impl Write + Seek,
) -> Result<Exported, BadSnapshot> {
    let (store, mut versions) = VersionReader::begin(snapshot)?;
    let mut sorter = Sorter::new(scratch, RUN_BYTES);
    let mut count = 0;
    while let Some((key_bytes, data)) = versions.next()? {
        let version = decode_version(&data, key_bytes as usize);
        let at =
            version.ok_or(BadSnapshot::Malformed("a version of a key that cannot be read"))?.at;
        sorter.add(Item { at, key_bytes, data })?;
        count += 1;
    }
    let mut writer = Writer { pages: Pages::begin(&mut out)?, roots: Vec::new() };
    writer.small(bucket::ALARM, &alarms(&store))?;
    writer.small(bucket::AUTH, &auth(&store))?;
    writer.small(bucket::ROLES, &roles(&store))?;
    writer.small(bucket::USERS, &users(&store))?;
    writer.small(bucket::CLUSTER, &[])?;
    writer.keys(sorter)?;
    writer.small(bucket::LEASE, &leases(&store))?;
    writer.small(bucket::MEMBERS, &members(origin))?;
    writer.small(bucket::REMOVED, &[])?;
    writer.small(bucket::META, &meta(&store, origin))?;
    let first = writer.finish()?;
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&first.bytes)?;
    out.flush()?;
    Ok(Exported { revision: store.revision(), versions: count, bytes: first.file_bytes })
}

type Entry = (Vec<u8>, Vec<u8>);
type Entries = Vec<Entry>;

/// The file, tree by tree.
struct Writer<W> {
    pages: Pages<W>,
    /// The trees' names and roots.
    roots: Vec<(&'static [u8], u64)>,
}

impl<W: Write> Writer<W> {
    fn small(&mut self, bucket: &'static [u8], entries: &[Entry]) -> std::io::Result<()> {
        let mut tree = Tree::new();
        for (key, value) in entries {
            tree.add(&mut self.pages, key, value)?;
        }
        self.end(bucket, tree)
    }

    fn keys(&mut self, sorter: Sorter<impl Read + Write + Seek>) -> std::io::Result<()> {
        let mut tree = Tree::new();
        sorter.finish(&mut |Item { key_bytes, data, .. }| {
            let Some(version) = decode_version(&data, key_bytes as usize) else { return Ok(()) };
            tree.add(&mut self.pages, &version_name(&version), &key_value(&version))
        })?;
        self.end(bucket::KEY, tree)
    }

    fn end(&mut self, bucket: &'static [u8], tree: Tree) -> std::io::Result<()> {
        let root = tree.finish(&mut self.pages)?;
        self.roots.push((bucket, root));
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<super::pages::FirstPages> {
        let mut tree = Tree::new();
        for (name, root) in &self.roots {
            tree.add_tree(&mut self.pages, name, *root)?;
        }
        let root = tree.finish(&mut self.pages)?;
        self.pages.finish(root)
    }
}

fn version_name(version: &Version<'_>) -> Vec<u8> {
    let mut name = revision_name(version.at).to_vec();
    if version.version == 0 {
        name.push(b't');
    }
    name
}

fn key_value(version: &Version<'_>) -> Vec<u8> {
    let key = version.key.to_vec().into();
    if version.version == 0 {
        return KeyValue { key, ..Default::default() }.encode_to_vec();
    }
    let Revision(create_revision) = version.created;
    let Revision(mod_revision) = version.at.revision;
    let (LeaseId(lease), value) = (version.lease, version.value.to_vec().into());
    let version = version.version as i64;
    KeyValue { key, create_revision, mod_revision, version, value, lease }.encode_to_vec()
}

fn alarms(store: &Store) -> Entries {
    let entry = |(member_id, alarm)| {
        (AlarmMember { member_id, alarm: i32::from(alarm) }.encode_to_vec(), Vec::new())
    };
    sorted(store.alarms().map(entry).collect())
}

fn auth(store: &Store) -> Entries {
    let auth = store.auth();
    vec![
        (name::ENABLED.to_vec(), vec![auth.is_enabled().into()]),
        (name::REVISION.to_vec(), auth.revision().to_be_bytes().to_vec()),
    ]
}

fn users(store: &Store) -> Entries {
    let users = store.auth().user_records();
    users.map(|user| (user.name.to_vec(), user.encode_to_vec())).collect()
}

fn roles(store: &Store) -> Entries {
    let roles = store.auth().role_records();
    roles.map(|role| (role.name.to_vec(), role.encode_to_vec())).collect()
}

fn leases(store: &Store) -> Entries {
    let entry = |(id, ttl): (LeaseId, i64)| {
        let lease = Lease { id: id.0, ttl, remaining_ttl: 0 };
        (id.0.to_be_bytes().to_vec(), lease.encode_to_vec())
    };
    sorted(store.leases().map(entry).collect())
}

fn members(origin: &Origin) -> Entries {
    let entry = |(id, json): &(u64, Vec<u8>)| (format!("{id:x}").into_bytes(), json.clone());
    sorted(origin.members.iter().map(entry).collect())
}

/// That a compaction is scheduled has etcd do it when it opens the file: it drops what we may not have dropped yet.
fn meta(store: &Store, origin: &Origin) -> Entries {
    let EntryId { index, term } = origin.applied;
    let voters: Vec<String> = origin.members.iter().map(|(id, _)| id.to_string()).collect();
    let voters = format!("{{\"voters\":[{}],\"auto_leave\":false}}", voters.join(","));
    let mut entries = vec![
        (name::APPLIED.to_vec(), index.0.to_be_bytes().to_vec()),
        (name::TERM.to_vec(), term.0.to_be_bytes().to_vec()),
        (name::VOTERS.to_vec(), voters.into_bytes()),
    ];
    if store.compacted() > Revision(0) {
        let at = Position { revision: store.compacted(), sub: 0 };
        entries.push((name::COMPACTING.to_vec(), revision_name(at).to_vec()));
    }
    sorted(entries)
}

fn sorted(mut entries: Entries) -> Entries {
    entries.sort();
    entries
}
