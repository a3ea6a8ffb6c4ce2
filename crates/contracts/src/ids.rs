//! Who and what: newtypes for identities, with one terse display used everywhere alike.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A server of the cluster. Ids start at 1 and are never given to another machine.
    NodeId, "n"
);
id!(
    /// One Raft group. All groups of a node share its disk log and its connections.
    GroupId, "g"
);
id!(
    /// What a cluster is told apart by; drawn once, when its first data directory is made.
    ClusterId, "cluster-"
);
id!(
    /// Which life of a data directory this is; drawn when the directory is made. A node that comes
    /// back with another incarnation has lost its log and must not vote.
    Incarnation, "life-"
);
id!(
    /// Names one proposal of one server, so that the outcome finds the client that waits for it.
    /// The upper 32 bits are drawn at each start: an entry of an earlier life matches nothing.
    RequestId, "r"
);

impl GroupId {
    /// The cluster's own group: who its members are.
    pub const SYSTEM: Self = Self(0);
    /// The coordination service (ZooKeeper).
    pub const COORDINATION: Self = Self(1);
    /// The key/value service (etcd).
    pub const KEY_VALUE: Self = Self(2);
}

impl RequestId {
    /// The id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
