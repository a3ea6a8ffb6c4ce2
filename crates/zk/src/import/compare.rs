//! In what two trees differ, for a check after an import.
//!
//! Left out of it, since an import leaves them behind or makes them anew: ephemerals (and what their going changes of
//! their parents), the ensemble's configuration, and the usage that ZooKeeper counts below its quotas.

use std::collections::BTreeSet;
use std::fmt;

use super::{ImportedTree, ImportedZnode, Owner};
use crate::command::{AclEntry, Zxid};
use crate::path;
use crate::tree::{anyone, perms};

/// A znode that is not the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The znode.
    pub path: String,
    /// What differs, in words: the source's first.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Whether everybody may do everything.
pub(super) fn is_open(acl: &[AclEntry]) -> bool {
    acl == [AclEntry { perms: perms::ALL, identity: anyone() }]
}

/// Everything in which `found` differs from `source`, by path.
pub fn compare(source: &ImportedTree, found: &ImportedTree) -> Vec<Difference> {
    let paths: BTreeSet<&String> = source.znodes.keys().chain(found.znodes.keys()).collect();
    let disturbed = disturbed_parents(source);
    let mut differences = Vec::new();
    for path in paths.into_iter().filter(|path| is_compared(path)) {
        let disturbed = disturbed.contains(path.as_str());
        let what = match (source.znodes.get(path), found.znodes.get(path)) {
            (Some(source), _) if is_ephemeral(source) => continue,
            (_, Some(found)) if is_ephemeral(found) => continue,
            (Some(source), Some(found)) => differing(source, found, disturbed),
            (Some(_), None) => Some("is missing".to_owned()),
            (None, Some(_)) => Some("is not in the source".to_owned()),
            (None, None) => None,
        };
        differences.extend(what.map(|what| Difference { path: path.clone(), what }));
    }
    differences
}

fn is_ephemeral(znode: &ImportedZnode) -> bool {
    matches!(znode.owner, Owner::Session(_))
}

fn is_compared(path: &str) -> bool {
    path != "/zookeeper/config"
        && !(path.starts_with("/zookeeper/quota/") && path.ends_with("/zookeeper_stats"))
}

/// Parents that lose children when the ephemerals go.
fn disturbed_parents(tree: &ImportedTree) -> BTreeSet<&str> {
    let ephemerals = tree.znodes.iter().filter(|(_, znode)| is_ephemeral(znode));
    ephemerals.filter_map(|(path, _)| path::parent(path)).collect()
}

fn differing(source: &ImportedZnode, found: &ImportedZnode, disturbed: bool) -> Option<String> {
    let (s, f) = (&source.stat, &found.stat);
    let pzxid = if disturbed { (Zxid(0), Zxid(0)) } else { (s.pzxid, f.pzxid) };
    let numbers = [
        ("czxid", s.czxid.0, f.czxid.0),
        ("mzxid", s.mzxid.0, f.mzxid.0),
        ("pzxid", pzxid.0.0, pzxid.1.0),
        ("ctime", s.ctime, f.ctime),
        ("mtime", s.mtime, f.mtime),
        ("version", s.version.into(), f.version.into()),
        ("aversion", s.aversion.into(), f.aversion.into()),
        ("children created", source.created as i64, found.created as i64),
    ];
    if source.data != found.data {
        let bytes = |data: &Option<Vec<u8>>| match data {
            Some(data) => format!("{} bytes", data.len()),
            None => "null".to_owned(),
        };
        let (source, found) = (bytes(&source.data), bytes(&found.data));
        return Some(format!("data differ ({source}, {found})"));
    }
    if source.acl != found.acl {
        return Some("access control lists differ".to_owned());
    }
    let (name, source, found) = numbers.into_iter().find(|(_, source, found)| source != found)?;
    Some(format!("{name} {source}, {found}"))
}
