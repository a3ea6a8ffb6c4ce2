//! A database of etcd's becomes a store: every version that it keeps, at its revision; leases, users and roles, alarms.
//!
//! What stays behind: members, and what its Raft had done; both are of the cluster that it comes from.

use std::io::{Read, Seek};

use prost::Message;

use super::{Database, DbError, REVISION_BYTES, bucket, name};
use crate::messages::authpb::{Role, User};
use crate::messages::etcdserverpb::AlarmMember;
use crate::messages::leasepb::Lease;
use crate::messages::mvccpb::KeyValue;
use crate::store::{Auth, Position, Store, StoreBuilder, Version};
use crate::{LeaseId, Revision};

/// Reads a whole database.
pub fn import<R: Read + Seek>(database: &mut Database<R>) -> Result<Store, DbError> {
    let mut builder = StoreBuilder::default();
    database.visit(bucket::META, &mut |key, value| {
        if [name::COMPACTED, name::COMPACTING].contains(&key) {
            builder.compacted(position(value)?.revision);
        }
        Ok(())
    })?;
    database.visit(bucket::LEASE, &mut |_, value| {
        let Lease { id, ttl, .. } = Lease::decode(value).map_err(|_| odd("a lease"))?;
        builder.lease(LeaseId(id), ttl);
        Ok(())
    })?;
    database.visit(bucket::ALARM, &mut |key, _| {
        let alarm = AlarmMember::decode(key).map_err(|_| odd("an alarm"))?;
        builder.alarm(alarm.member_id, alarm.alarm());
        Ok(())
    })?;
    builder.auth(auth(database)?);
    let found = database.visit(bucket::KEY, &mut |key, value| version(&mut builder, key, value))?;
    if found { Ok(builder.finish()) } else { Err(odd("a database without keys: etcd's API v2?")) }
}

fn odd(what: &str) -> DbError {
    DbError::Content(what.to_string())
}

fn position(name: &[u8]) -> Result<Position, DbError> {
    let number =
        |at: usize| name.get(at..)?.first_chunk().map(|number| i64::from_be_bytes(*number));
    let (Some(revision), Some(sub)) = (number(0), number(9)) else { return Err(odd("a revision")) };
    let sub = u32::try_from(sub).map_err(|_| odd("a revision with more than 2^32 changes"))?;
    Ok(Position { revision: Revision(revision), sub })
}

fn version(builder: &mut StoreBuilder, name: &[u8], value: &[u8]) -> Result<(), DbError> {
    let at = position(name)?;
    let kv = KeyValue::decode(value).map_err(|_| odd("a key and its value"))?;
    let deleted = name.get(REVISION_BYTES) == Some(&b't');
    let wrong = at.revision < Revision::FIRST || (!deleted && kv.version < 1);
    if kv.key.is_empty() || wrong || kv.create_revision > at.revision.0 {
        return Err(odd(&format!("the version at revision {}", at.revision)));
    }
    builder.version(&match deleted {
        true => Version::tombstone(&kv.key, at),
        false => Version {
            key: &kv.key,
            value: &kv.value,
            at,
            created: Revision(kv.create_revision),
            version: kv.version as u64,
            lease: LeaseId(kv.lease),
        },
    });
    Ok(())
}

fn auth<R: Read + Seek>(database: &mut Database<R>) -> Result<Auth, DbError> {
    let (mut enabled, mut revision) = (false, 1);
    database.visit(bucket::AUTH, &mut |key, value| {
        match key {
            name::ENABLED => enabled = value == [1],
            name::REVISION => revision = value.first_chunk().map_or(1, |n| u64::from_be_bytes(*n)),
            _ => {}
        }
        Ok(())
    })?;
    let (mut users, mut roles) = (Vec::new(), Vec::new());
    database.visit(bucket::USERS, &mut |_, value| {
        users.push(User::decode(value).map_err(|_| odd("a user"))?);
        Ok(())
    })?;
    database.visit(bucket::ROLES, &mut |_, value| {
        roles.push(Role::decode(value).map_err(|_| odd("a role"))?);
        Ok(())
    })?;
    Auth::from_records(enabled, revision, users, roles)
        .ok_or_else(|| odd("a name that is not UTF-8"))
}
