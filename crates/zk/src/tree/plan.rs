//! Checks a write against the tree, in ZooKeeper's order, before anything is changed.
//!
//! A multi is checked op by op, each seeing what the ones before it would do; those effects are kept
//! in an overlay of the few facts that checks look at. So a multi that fails has changed nothing.

use std::collections::BTreeMap;

use super::acl::{fix_up, permits, perms};
use super::node::Kind;
use super::quota::Usage;
use crate::command::{AclEntry, AclList, CreateMode, ErrorCode, Identity, Op, SessionId};
use crate::path;
use crate::tree::Tree;

/// A write that will succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Planned<'a> {
    Create { path: String, data: Option<&'a [u8]>, acl: AclList, kind: Kind },
    Delete { path: &'a str },
    SetData { path: &'a str, data: Option<&'a [u8]> },
    SetAcl { path: &'a str, acl: AclList },
    Check,
}

/// What checks need to know of a znode.
#[derive(Clone, Debug)]
struct Facts {
    version: i32,
    aversion: i32,
    ephemeral: bool,
    children: u32,
    created: u64,
    data_length: i64,
    acl: AclList,
}

/// Who asks, and what the checks so far would have changed.
pub(crate) struct Planner<'t> {
    tree: &'t Tree,
    session: SessionId,
    identities: &'t [Identity],
    /// Znodes touched by earlier ops of the same multi; `None` is deleted.
    overlay: BTreeMap<String, Option<Facts>>,
    /// By how much they would make subtrees with limits grow.
    growth: BTreeMap<String, Usage>,
    /// There are later ops that must see the effects.
    keep: bool,
}

/// Whether a version that a client expects is there; -1 expects any.
fn version_fits(expected: i32, found: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == found { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

/// A time to live is less than this, in milliseconds: ZooKeeper has 40 bits for it.
const TTL_END_MS: i64 = 1 << 40;

fn length(data: Option<&[u8]>) -> i64 {
    data.map_or(0, <[u8]>::len) as i64
}

fn validate(path: &str) -> Result<(), ErrorCode> {
    if path::is_valid(path) { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

/// What stands before the last slash. Whether that makes sense shows when it is looked up: a path that is
/// malformed further up has no parent.
fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    let nul = path.contains('\0');
    let parent = path.rsplit_once('/').filter(|_| !nul).map(|(parent, _)| parent);
    parent.map(|p| if p.is_empty() { "/" } else { p }).ok_or(ErrorCode::BadArguments)
}

/// After the highest version comes 0: -1 means "any" (ZOOKEEPER-4743).
pub(crate) fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

impl<'t> Planner<'t> {
    pub(crate) fn new(
        tree: &'t Tree,
        session: SessionId,
        identities: &'t [Identity],
        keep: bool,
    ) -> Self {
        Self { tree, session, identities, overlay: BTreeMap::new(), growth: BTreeMap::new(), keep }
    }

    pub(crate) fn plan<'a>(&mut self, op: &Op<'a>) -> Result<Planned<'a>, ErrorCode> {
        match op {
            Op::Create { path, data, acl, mode } => self.create(path, *data, acl, *mode),
            Op::Delete { path, version } => self.delete(path, *version),
            Op::SetData { path, data, version } => self.set_data(path, *data, *version),
            Op::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Op::Check { path, version } => self.check(path, *version),
            Op::BadFlags | Op::Multi(_) | Op::Sync { .. } | Op::CloseSession => {
                Err(ErrorCode::BadArguments)
            }
        }
    }

    fn create<'a>(
        &mut self,
        path: &str,
        data: Option<&'a [u8]>,
        acl: &[AclEntry],
        mode: CreateMode,
    ) -> Result<Planned<'a>, ErrorCode> {
        use CreateMode::{EphemeralSequential, PersistentSequential, SequentialTtl, Ttl};
        if let Ttl(ttl) | SequentialTtl(ttl) = mode
            && !(1..TTL_END_MS).contains(&ttl)
        {
            return Err(ErrorCode::BadArguments);
        }
        let parent = parent_of(path)?;
        let acl = fix_up(acl, self.identities)?;
        let up = self.facts(parent).ok_or(ErrorCode::NoNode)?;
        self.allowed(&up, perms::CREATE)?;
        let sequential =
            matches!(mode, PersistentSequential | EphemeralSequential | SequentialTtl(_));
        let path = if sequential { format!("{path}{:010}", up.created) } else { path.to_string() };
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.facts(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if up.ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        self.fits_quota(&path, Usage { count: 1, bytes: length(data) })?;
        let kind = Kind::of(mode, self.session);
        let facts = Facts {
            version: 0,
            aversion: 0,
            ephemeral: matches!(kind, Kind::Ephemeral(_)),
            children: 0,
            created: 0,
            data_length: length(data),
            acl: acl.clone(),
        };
        let up = Facts { children: up.children + 1, created: up.created + 1, ..up };
        self.remember(parent, Some(up));
        self.remember(&path, Some(facts));
        Ok(Planned::Create { path, data, acl, kind })
    }

    fn delete<'a>(&mut self, path: &'a str, version: i32) -> Result<Planned<'a>, ErrorCode> {
        let parent = parent_of(path)?;
        if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let up = self.facts(parent).ok_or(ErrorCode::NoNode)?;
        self.allowed(&up, perms::DELETE)?;
        let facts = self.facts(path).ok_or(ErrorCode::NoNode)?;
        version_fits(version, facts.version)?;
        if facts.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let bytes = facts.data_length;
        self.fits_quota(path, Usage { count: -1, bytes: -bytes })?;
        self.remember(parent, Some(Facts { children: up.children - 1, ..up }));
        self.remember(path, None);
        Ok(Planned::Delete { path })
    }

    fn set_data<'a>(
        &mut self,
        path: &'a str,
        data: Option<&'a [u8]>,
        version: i32,
    ) -> Result<Planned<'a>, ErrorCode> {
        let facts = self.facts_of_valid(path)?;
        self.allowed(&facts, perms::WRITE)?;
        let data_length = length(data);
        self.fits_quota(path, Usage { count: 0, bytes: data_length - facts.data_length })?;
        version_fits(version, facts.version)?;
        let version = next_version(facts.version);
        self.remember(path, Some(Facts { version, data_length, ..facts }));
        Ok(Planned::SetData { path, data })
    }

    fn set_acl<'a>(
        &mut self,
        path: &'a str,
        acl: &[AclEntry],
        version: i32,
    ) -> Result<Planned<'a>, ErrorCode> {
        validate(path)?;
        let acl = fix_up(acl, self.identities)?;
        let facts = self.facts_of_valid(path)?;
        self.allowed(&facts, perms::ADMIN)?;
        version_fits(version, facts.aversion)?;
        let changed = Facts { aversion: next_version(facts.aversion), acl: acl.clone(), ..facts };
        self.remember(path, Some(changed));
        Ok(Planned::SetAcl { path, acl })
    }

    fn check<'a>(&mut self, path: &'a str, version: i32) -> Result<Planned<'a>, ErrorCode> {
        let facts = self.facts_of_valid(path)?;
        self.allowed(&facts, perms::READ)?;
        version_fits(version, facts.version)?;
        Ok(Planned::Check)
    }

    fn allowed(&self, facts: &Facts, perm: i32) -> Result<(), ErrorCode> {
        if permits(&facts.acl, self.identities, perm) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// Whether a subtree with limits may grow so; if it may, later operations of a multi see it grown.
    fn fits_quota(&mut self, path: &str, growth: Usage) -> Result<(), ErrorCode> {
        let Some(limited) = self.tree.quotas.nearest(path) else { return Ok(()) };
        let before = self.growth.get(limited).copied().unwrap_or_default();
        if !self.tree.has_room(limited, before, growth) {
            return Err(ErrorCode::QuotaExceeded);
        }
        self.growth.insert(limited.to_string(), before.plus(growth));
        Ok(())
    }

    fn facts_of_valid(&self, path: &str) -> Result<Facts, ErrorCode> {
        validate(path)?;
        self.facts(path).ok_or(ErrorCode::NoNode)
    }

    fn facts(&self, path: &str) -> Option<Facts> {
        if let Some(known) = self.overlay.get(path) {
            return known.clone();
        }
        let node = self.tree.nodes.get(path)?;
        Some(Facts {
            version: node.version,
            aversion: node.aversion,
            ephemeral: matches!(node.kind, Kind::Ephemeral(_)),
            children: node.children,
            created: node.created,
            data_length: length(node.data()),
            acl: self.tree.acl(node.acl).clone(),
        })
    }

    fn remember(&mut self, path: &str, facts: Option<Facts>) {
        if self.keep {
            self.overlay.insert(path.to_string(), facts);
        }
    }
}
