//! Who and what in the key/value store: newtypes, and the range of keys a request means.

use std::fmt;

/// Counts the changes of the store: an empty one is at 1, and each transaction that writes adds one (KV-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub i64);

/// A lease: keys attached to it go when it ends. 0 is no lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaseId(pub i64);

/// A client whose calls are done exactly once (KV-3): random and unguessable, drawn by the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u128);

/// Numbers the calls of one client, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl Revision {
    /// The revision of an empty store.
    pub const FIRST: Self = Self(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);
}

macro_rules! plain {
    ($($name:ident $format:literal)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
plain!(Revision "{}" LeaseId "{:x}" ClientId "{:032x}" Sequence "#{}");

/// The keys from `start`, inclusive, to `end`, exclusive; to the last key of all if `end` is `None`.
///
/// In the API, no `range_end` means the one key, and `\0` means no end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyRange<'a> {
    /// The first key.
    pub start: &'a [u8],
    /// Where it ends.
    pub end: RangeEnd<'a>,
}

/// Where a range of keys ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RangeEnd<'a> {
    /// The range is the key `start` alone.
    Single,
    /// Before this key.
    Before(&'a [u8]),
    /// Behind the last key.
    Unbounded,
}

impl<'a> KeyRange<'a> {
    /// All keys.
    pub const ALL: KeyRange<'static> = KeyRange { start: &[], end: RangeEnd::Unbounded };

    /// The range that a request's `key` and `range_end` mean.
    pub fn of(key: &'a [u8], range_end: &'a [u8]) -> Self {
        let end = match range_end {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            end => RangeEnd::Before(end),
        };
        Self { start: key, end }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            RangeEnd::Single => key == self.start,
            _ => key >= self.start && !self.ends_before(key),
        }
    }

    /// Whether it ends before a key that is not before its start.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match self.end {
            RangeEnd::Single => key > self.start,
            RangeEnd::Before(end) => key >= end,
            RangeEnd::Unbounded => false,
        }
    }

    /// Whether every key of `other` is in it.
    pub fn covers(&self, other: &KeyRange<'_>) -> bool {
        match (self.end, other.end) {
            (_, RangeEnd::Single) => self.contains(other.start),
            (RangeEnd::Single, _) => false,
            (_, _) if other.start < self.start => false,
            (RangeEnd::Unbounded, _) => true,
            (RangeEnd::Before(_), RangeEnd::Unbounded) => false,
            (RangeEnd::Before(mine), RangeEnd::Before(theirs)) => theirs <= mine,
        }
    }
}

/// The `range_end` that makes a range of all keys beginning with `prefix`: `\0` if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-1: what `key` and `range_end` mean, as etcd's API has it.
    #[test]
    fn a_range_end_means_one_key_all_keys_or_an_end() {
        let table = [
            ("a", "", "a", true),
            ("a", "", "aa", false),
            ("a", "b", "aa", true),
            ("a", "b", "b", false),
            ("a", "\0", "zz", true),
            ("b", "\0", "a", false),
            ("\0", "\0", "anything", true),
            ("b", "a", "b", false),
            ("b", "a", "a", false),
        ];
        for (key, range_end, asked, contained) in table {
            assert_eq!(
                KeyRange::of(key.as_bytes(), range_end.as_bytes()).contains(asked.as_bytes()),
                contained,
                "{key:?} {range_end:?} {asked:?}"
            );
        }
    }

    #[test]
    fn a_prefix_ends_after_its_last_byte_that_can_grow() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), [0]);
    }

    #[test]
    fn a_range_covers_what_lies_in_it() {
        let range = |a, b| KeyRange::of(a, b);
        assert!(range(b"a", b"c").covers(&range(b"a", b"b")));
        assert!(range(b"a", b"c").covers(&range(b"b", b"")));
        assert!(!range(b"a", b"c").covers(&range(b"b", b"\0")));
        assert!(range(b"a", b"\0").covers(&range(b"b", b"\0")));
        assert!(!range(b"b", b"").covers(&range(b"b", b"c")));
    }
}
