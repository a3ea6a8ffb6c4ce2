//! ZooKeeper's snapshot files, version 2.
//!
//! ```text
//! ZKSN 4 | version 4 | db id 8
//! sessions 4 | (id 8 | timeout 4) ...
//! lists 4    | (number 8 | list) ...
//! (path | data | list's number 8 | czxid mzxid ctime mtime 8 each | version cversion aversion 4 each | owner 8 | pzxid 8)
//!            ... until the path is "/"
//! Adler-32 of all before, 8 | "/"       then, since 3.6 and 3.9, blocks with a seal of their own, which are not read
//! ```
//!
//! The root's path is empty. `cversion` is the number of children ever created here, not what clients see.

use std::collections::BTreeMap;

use super::adler::adler;
use super::{BadFile, ImportedTree, ImportedZnode, Owner};
use crate::command::{AclList, SessionId, Stat, Zxid};
use crate::tree::{anyone, perms};
use crate::wire::{BadPacket, JuteReader};

const MAGIC: i32 = i32::from_be_bytes(*b"ZKSN");
const VERSION: i32 = 2;
/// The list that everybody may do everything; it is in no table.
const OPEN: i64 = -1;

/// Reads a snapshot that was taken after transaction `zxid` (the number in its name). A damaged one gives nothing.
pub fn read_snapshot(zxid: Zxid, bytes: &[u8]) -> Result<ImportedTree, BadFile> {
    let mut input = JuteReader::new(bytes);
    let mut tree = ImportedTree { last_zxid: zxid, ..ImportedTree::default() };
    let read = read_content(&mut input, &mut tree).and_then(|()| {
        let content = bytes.len() - input.left();
        let seal = input.long()?;
        if seal == adler(&bytes[..content]) && input.str()? == "/" {
            Ok(())
        } else {
            Err(BadPacket("the checksum does not fit"))
        }
    });
    let at = (bytes.len() - input.left()) as u64;
    read.map(|()| tree).map_err(|BadPacket(what)| BadFile { at, what: what.to_owned() })
}

fn read_content(input: &mut JuteReader<'_>, tree: &mut ImportedTree) -> Result<(), BadPacket> {
    if (input.int()?, input.int()?) != (MAGIC, VERSION) {
        return Err(BadPacket("no snapshot of ZooKeeper's format 2 begins here"));
    }
    input.long()?;
    for _ in 0..input.count(12)? {
        let session = SessionId(input.long()?);
        tree.sessions.insert(session, input.int()?);
    }
    let lists = read_lists(input)?;
    loop {
        let path = input.str()?;
        if path == "/" {
            return Ok(());
        }
        let znode = read_znode(input, &lists)?;
        tree.insert(if path.is_empty() { "/" } else { path }.to_owned(), znode);
    }
}

fn read_lists(input: &mut JuteReader<'_>) -> Result<BTreeMap<i64, AclList>, BadPacket> {
    let open = [crate::command::AclEntry { perms: perms::ALL, identity: anyone() }];
    let mut lists = BTreeMap::from([(OPEN, AclList::from(open))]);
    for _ in 0..input.count(12)? {
        let number = input.long()?;
        lists.insert(number, input.acl()?.into());
    }
    Ok(lists)
}

fn read_znode(
    input: &mut JuteReader<'_>,
    lists: &BTreeMap<i64, AclList>,
) -> Result<ImportedZnode, BadPacket> {
    let data = input.buffer()?.map(<[u8]>::to_vec);
    let acl = lists.get(&input.long()?).cloned();
    let mut stat = Stat {
        czxid: Zxid(input.long()?),
        mzxid: Zxid(input.long()?),
        ctime: input.long()?,
        mtime: input.long()?,
        version: input.int()?,
        ..Stat::default()
    };
    let created = u64::from(input.int()? as u32);
    stat.aversion = input.int()?;
    let owner = Owner::from_number(input.long()?);
    stat.pzxid = Zxid(input.long()?);
    Ok(ImportedZnode { data, acl, owner, stat, created })
}
