//! Quotas (ZK-18): a client writes what a subtree may hold into znodes of its own, and the tree keeps the count beside it.
//!
//! ```text
//! /zookeeper/quota<path>/zookeeper_limits   count=5,bytes=100=;byteHardLimit=200;countHardLimit=10
//! /zookeeper/quota<path>/zookeeper_stats    count=3,bytes=42
//! ```
//!
//! `count` and `bytes` are soft: whoever looks can see that they are exceeded. The hard limits refuse what would
//! exceed them; ZooKeeper enforces those only if a server is told to, here a limit that was set is a limit.
//! -1, or nothing, is no limit. Of limits on several levels the nearest one counts, as in ZooKeeper.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Slot, Tree};
use crate::path;

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// Which subtrees have limits. Follows from the znodes, and so is no part of digest or snapshot.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    limited: BTreeSet<Rc<str>>,
}

/// What a subtree holds, its root included: znodes, and bytes of their data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) count: i64,
    pub(super) bytes: i64,
}

impl Usage {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn parse(data: &[u8]) -> Self {
        Self { count: value(data, "count"), bytes: value(data, "bytes") }
    }
}

impl Quotas {
    /// The nearest path with limits, from `path` up.
    pub(super) fn nearest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.limited.is_empty() || path.starts_with("/zookeeper/") {
            return None;
        }
        std::iter::successors(Some(path), |path| path::parent(path))
            .find(|path| self.limited.contains(*path))
    }

    /// A znode has come: it may be somebody's limits.
    pub(super) fn added(&mut self, path: &str) {
        if let Some(limited) = subject(path, LIMITS) {
            self.limited.insert(limited.into());
        }
    }

    /// A znode has gone.
    pub(super) fn removed(&mut self, path: &str) {
        if let Some(limited) = subject(path, LIMITS) {
            self.limited.remove(limited);
        }
    }
}

/// Whose limits or count a znode holds, if that is what it is for.
fn subject<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let (subject, last) = path.strip_prefix(ROOT)?.rsplit_once('/')?;
    (last == name && !subject.is_empty()).then_some(subject)
}

/// A value of `key=value` pairs; -1 if it is not there.
fn value(data: &[u8], key: &str) -> i64 {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let mut pairs = text.split([',', ';']).map(|pair| pair.split('='));
    let found = pairs.find_map(|mut pair| pair.next().filter(|k| k.trim() == key).and(pair.next()));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or(-1)
}

impl Tree {
    /// Whether a subtree with limits that has grown by `before` may grow by so much more.
    pub(super) fn has_room(&self, limited: &str, before: Usage, growth: Usage) -> bool {
        let read = |name: &str| self.nodes.get(&format!("{ROOT}{limited}/{name}"));
        let limits = read(LIMITS).and_then(|node| node.data()).unwrap_or_default();
        let usage = Usage::parse(read(STATS).and_then(|node| node.data()).unwrap_or_default());
        let after = usage.plus(before).plus(growth);
        let fits = |growth: i64, after: i64, key: &str| {
            let limit = value(limits, key);
            growth <= 0 || limit < 0 || after <= limit
        };
        fits(growth.count, after.count, "countHardLimit")
            && fits(growth.bytes, after.bytes, "byteHardLimit")
    }

    /// A subtree has grown, or shrunk: the count beside its limits follows, without a version or an event.
    pub(super) fn count_quota(&mut self, path: &str, growth: Usage) {
        let Some(limited) = self.quotas.nearest(path) else { return };
        let stats = format!("{ROOT}{limited}/{STATS}");
        let Some(data) = self.nodes.get(&stats).map(|node| node.data().unwrap_or_default()) else {
            return;
        };
        let after = Usage::parse(data).plus(growth);
        self.write_usage(&stats, after);
    }

    /// A znode was created: if it is to hold a count, it gets the present one.
    pub(super) fn begin_count(&mut self, path: &str) {
        if let Some(slot) = subject(path, STATS).and_then(|subject| self.nodes.find(subject)) {
            let usage = self.usage_of(slot);
            self.write_usage(path, usage);
        }
    }

    fn write_usage(&mut self, stats: &str, usage: Usage) {
        let text = format!("count={},bytes={}", usage.count, usage.bytes);
        self.change(stats, |node| node.set_data(Some(text.as_bytes())));
    }

    fn usage_of(&self, top: Slot) -> Usage {
        let mut usage = Usage::default();
        let mut open = vec![self.nodes.node(top)];
        while let Some(node) = open.pop() {
            let bytes = node.data().map_or(0, <[u8]>::len) as i64;
            usage = usage.plus(Usage { count: 1, bytes });
            if node.children > 0 {
                open.extend(self.nodes.children(self.slot(&node.path)));
            }
        }
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_zookeeper_writes_them() {
        let text = b"count=3,bytes=-1=;byteHardLimit=100;countHardLimit=x";
        let keys = ["count", "bytes", "byteHardLimit", "countHardLimit", "none"];
        assert_eq!(keys.map(|key| value(text, key)), [3, -1, 100, -1, -1]);
    }

    #[test]
    fn whose_limits() {
        assert_eq!(subject("/zookeeper/quota/a/b/zookeeper_limits", LIMITS), Some("/a/b"));
        assert_eq!(subject("/zookeeper/quota/zookeeper_limits", LIMITS), None);
        assert_eq!(subject("/a/zookeeper_limits", LIMITS), None);
        let mut quotas = Quotas::default();
        for path in ["/a", "/a/b/c"] {
            quotas.added(&format!("/zookeeper/quota{path}/zookeeper_limits"));
        }
        let nearest = ["/a/x", "/a/b/c/d", "/ab", "/a"].map(|path| quotas.nearest(path));
        assert_eq!(nearest, [Some("/a"), Some("/a/b/c"), None, Some("/a")]);
    }
}
