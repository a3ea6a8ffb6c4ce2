//! One transaction of ZooKeeper's log, carried out as ZooKeeper replays it over a snapshot that may hold it already.
//!
//! Transactions carry results. What they meet otherwise than they expect (a create of what is there, a delete of what
//! is not) was in the snapshot already, and only what they say of the parent is taken over.

use super::log::Header;
use super::{ImportedTree, ImportedZnode, Owner};
use crate::command::{AclList, Stat};
use crate::path;
use crate::wire::{BadPacket, JuteReader, opcode};

/// Types of transactions that are no requests of clients.
mod kind {
    pub(super) const ERROR: i32 = -1;
    pub(super) const CREATE_SESSION: i32 = -10;
    pub(super) const CLOSE_SESSION: i32 = -11;
    pub(super) const RECONFIG: i32 = 16;
    pub(super) const DELETE_CONTAINER: i32 = 20;
}

impl ImportedTree {
    /// Carries out a transaction whose body `input` begins with.
    pub(super) fn replay(
        &mut self,
        header: Header,
        input: &mut JuteReader<'_>,
    ) -> Result<(), BadPacket> {
        match header.kind {
            opcode::MULTI => self.replay_multi(header, input),
            _ => self.replay_one(header, input),
        }
    }

    fn replay_one(&mut self, header: Header, input: &mut JuteReader<'_>) -> Result<(), BadPacket> {
        match header.kind {
            opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
                self.replay_create(header, input)?
            }
            opcode::DELETE | kind::DELETE_CONTAINER => {
                let path = input.str()?.to_owned();
                self.replay_delete(header, &path);
            }
            opcode::SET_DATA | kind::RECONFIG => self.replay_set_data(header, input)?,
            opcode::SET_ACL => self.replay_set_acl(input)?,
            kind::CREATE_SESSION => {
                self.sessions.insert(header.session, input.int()?);
            }
            kind::CLOSE_SESSION => self.replay_close(header),
            kind::ERROR | opcode::CHECK => {}
            _ => return Err(BadPacket("a transaction of an unknown type")),
        }
        Ok(())
    }

    /// A transaction that failed was logged with the error of each part: nothing of it happened.
    fn replay_multi(
        &mut self,
        header: Header,
        input: &mut JuteReader<'_>,
    ) -> Result<(), BadPacket> {
        let mut parts = Vec::new();
        for _ in 0..input.count(8)? {
            parts.push((input.int()?, input.buffer()?.unwrap_or_default()));
        }
        if parts.iter().any(|(part, _)| *part == kind::ERROR) {
            return Ok(());
        }
        for (part, body) in parts {
            self.replay_one(Header { kind: part, ..header }, &mut JuteReader::new(body))?;
        }
        Ok(())
    }

    fn replay_create(
        &mut self,
        header: Header,
        input: &mut JuteReader<'_>,
    ) -> Result<(), BadPacket> {
        let path = input.str()?.to_owned();
        let data = input.buffer()?.map(<[u8]>::to_vec);
        let acl = AclList::from(input.acl()?);
        let mut owner = match header.kind {
            opcode::CREATE_CONTAINER => Owner::Container,
            opcode::CREATE_TTL => Owner::Ttl(0),
            _ if input.bool()? => Owner::Session(header.session),
            _ => Owner::Nobody,
        };
        // Logs of before 3.4 end here.
        let parent_created = if input.is_empty() { -1 } else { input.int()? };
        if let Owner::Ttl(ttl) = &mut owner {
            *ttl = input.long()?;
        }
        self.parent_gained(header, &path, parent_created);
        match self.znodes.get_mut(&path) {
            // The snapshot's table of lists may be older than its znodes.
            Some(there) => {
                there.acl.get_or_insert(acl);
            }
            None => {
                let Header { zxid, time, .. } = header;
                let (czxid, mzxid, pzxid) = (zxid, zxid, zxid);
                let stat =
                    Stat { czxid, mzxid, pzxid, ctime: time, mtime: time, ..Stat::default() };
                let znode = ImportedZnode { data, acl: Some(acl), owner, stat, created: 0 };
                self.insert(path, znode);
            }
        }
        Ok(())
    }

    /// A child was created: the parent's count after it, or -1 for one more.
    fn parent_gained(&mut self, header: Header, path: &str, created: i32) {
        let parent = path::parent(path).and_then(|parent| self.znodes.get_mut(parent));
        let Some(parent) = parent else { return };
        let created = u64::try_from(created).unwrap_or(parent.created + 1);
        if created > parent.created {
            parent.created = created;
            parent.stat.pzxid = parent.stat.pzxid.max(header.zxid);
        }
    }

    fn replay_delete(&mut self, header: Header, path: &str) {
        self.remove(path);
        if let Some(parent) = path::parent(path).and_then(|parent| self.znodes.get_mut(parent)) {
            parent.stat.pzxid = parent.stat.pzxid.max(header.zxid);
        }
    }

    fn replay_set_data(
        &mut self,
        header: Header,
        input: &mut JuteReader<'_>,
    ) -> Result<(), BadPacket> {
        let (path, data, version) = (input.str()?, input.buffer()?, input.int()?);
        if let Some(znode) = self.znodes.get_mut(path) {
            znode.data = data.map(<[u8]>::to_vec);
            (znode.stat.version, znode.stat.mzxid) = (version, header.zxid);
            znode.stat.mtime = header.time;
        }
        Ok(())
    }

    fn replay_set_acl(&mut self, input: &mut JuteReader<'_>) -> Result<(), BadPacket> {
        let (path, acl, version) = (input.str()?, AclList::from(input.acl()?), input.int()?);
        if let Some(znode) = self.znodes.get_mut(path) {
            znode.acl = Some(acl);
            znode.stat.aversion = version;
        }
        Ok(())
    }

    fn replay_close(&mut self, header: Header) {
        self.sessions.remove(&header.session);
        for path in self.ephemerals.remove(&header.session).unwrap_or_default() {
            self.replay_delete(header, &path);
        }
    }
}
