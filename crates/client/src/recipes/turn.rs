//! Whose turn it is among contenders that stand in line by sequential znodes, and whom the others wait for.
//!
//! ```text
//! write-3f…-0000000004   write-a1…-0000000007   read-77…-0000000008   read-0c…-0000000009   write-e2…-0000000012
//!        holds      ◀────── waits for ◀─────────────┴─── wait for ───────┘  ◀──── waits for ─────┘
//! ```
//!
//! One that waits for its predecessor only is woken once, and wakes nobody else: N waiters cost O(1) notifications a release
//! (ZK-15). Readers wait for the last writer before them.

use std::fmt;

/// What a contender wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// To be there with other readers.
    Read,
    /// To be alone.
    Write,
}

/// What a contender does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It is its turn.
    Own,
    /// It waits until the znode of this name is gone.
    After(String),
    /// Its own znode is not there: the session ended, or somebody deleted it.
    Gone,
}

/// The part of a znode's name that only its maker can have chosen, so that it is found again after a lost answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new(wish: Wish, drawn: u64) -> Self {
        let word = match wish {
            Wish::Read => READ,
            Wish::Write => WRITE,
        };
        Self(format!("{word}{drawn:016x}-"))
    }

    /// The name that this mark has, among others.
    pub(super) fn find<'a>(&self, names: &'a [String]) -> Option<&'a str> {
        names.iter().map(String::as_str).find(|name| name.starts_with(&self.0))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const READ: &str = "read-";
const WRITE: &str = "write-";

/// Whose turn it is, for the contender whose znode has this name. Names that no contender made are left out.
pub(super) fn turn(names: &[String], own: &str) -> Turn {
    let Some(number) = sequence(own).filter(|_| names.iter().any(|name| name == own)) else {
        return Turn::Gone;
    };
    let before = names.iter().filter(|name| is_contender(name) && is_before(name, number));
    let blocking = before.filter(|name| own.starts_with(WRITE) || name.starts_with(WRITE));
    match blocking.max_by_key(|name| sequence(name)) {
        Some(predecessor) => Turn::After(predecessor.clone()),
        None => Turn::Own,
    }
}

/// The contenders, the first in line first.
pub(super) fn in_line(names: &[String]) -> Vec<&str> {
    let mut line: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| is_contender(name)).collect();
    line.sort_by_key(|name| sequence(name));
    line
}

fn is_contender(name: &str) -> bool {
    (name.starts_with(READ) || name.starts_with(WRITE)) && sequence(name).is_some()
}

fn is_before(name: &str, number: u64) -> bool {
    sequence(name).is_some_and(|other| other < number)
}

/// The number at a sequential znode's end. It has ten digits, and more once those do not suffice.
pub(super) fn sequence(name: &str) -> Option<u64> {
    name.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    /// ZK-15, ZK-16: the table of the module's picture, in an order as servers may list it.
    #[test]
    fn each_waits_for_the_one_that_blocks_it() {
        let names = names(&[
            "read-0c-0000000009",
            "write-e2-0000000012",
            "write-3f-0000000004",
            "read-77-0000000008",
            "write-a1-0000000007",
            "something-else",
            "ready",
        ]);
        let after = |name: &str| Turn::After(name.to_owned());
        for (own, expected) in [
            ("write-3f-0000000004", Turn::Own),
            ("write-a1-0000000007", after("write-3f-0000000004")),
            ("read-77-0000000008", after("write-a1-0000000007")),
            ("read-0c-0000000009", after("write-a1-0000000007")),
            ("write-e2-0000000012", after("read-0c-0000000009")),
            ("write-99-0000000003", Turn::Gone),
        ] {
            assert_eq!(turn(&names, own), expected, "{own}");
        }
        assert_eq!(in_line(&names)[0], "write-3f-0000000004");
    }

    /// Without a writer before them, readers are there together.
    #[test]
    fn readers_do_not_wait_for_readers() {
        let names = names(&["read-1-0000000001", "read-2-0000000002", "write-3-0000000003"]);
        assert_eq!(turn(&names, "read-2-0000000002"), Turn::Own);
        assert_eq!(turn(&names, "write-3-0000000003"), Turn::After("read-2-0000000002".to_owned()));
    }

    /// Numbers are compared as numbers: the eleventh digit does not sort before the tenth.
    #[test]
    fn numbers_beyond_ten_digits_come_after_the_others() {
        let names = names(&["write-1-10000000000", "write-2-9999999999"]);
        assert_eq!(
            turn(&names, "write-1-10000000000"),
            Turn::After("write-2-9999999999".to_owned())
        );
    }

    #[test]
    fn a_mark_finds_its_own_znode_only() {
        let mark = Mark::new(Wish::Write, 0xab);
        let own = format!("{mark}0000000003");
        let names = vec!["write-00000000000000ac-0000000001".to_owned(), own.clone()];
        assert_eq!(mark.find(&names), Some(own.as_str()));
        assert_eq!(Mark::new(Wish::Read, 0xab).find(&names), None);
    }
}
