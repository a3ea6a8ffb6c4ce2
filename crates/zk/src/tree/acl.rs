//! Access control: the table of distinct lists, and what they allow.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::command::{AclEntry, AclList, ErrorCode, Identity};

/// Permission bits.
pub mod perms {
    /// Read data, children and the list itself.
    pub const READ: i32 = 1;
    /// Set data.
    pub const WRITE: i32 = 2;
    /// Create children.
    pub const CREATE: i32 = 4;
    /// Delete children.
    pub const DELETE: i32 = 8;
    /// Set the list.
    pub const ADMIN: i32 = 16;
    /// All of them.
    pub const ALL: i32 = 31;
}

/// Everybody, by the scheme `world`.
pub fn anyone() -> Identity {
    Identity { scheme: "world".into(), id: "anyone".into() }
}

/// A distinct list's number. The lowest free one is given first, so that numbers, which the digest covers, depend on
/// the lists in use alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct AclId(pub(crate) u32);

/// Lists that znodes share: most znodes of a tree have one of a few.
///
/// Invariants: `ids` and the taken places of `lists` hold the same; `free` holds the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclTable {
    lists: Vec<Option<Shared>>,
    free: BTreeSet<AclId>,
    /// Looked up only, never iterated over.
    ids: hashbrown::HashMap<AclList, AclId>,
    digest: u64,
}

#[derive(Clone, Debug)]
struct Shared {
    list: AclList,
    users: u64,
}

impl AclTable {
    /// The list with this number, which must be in use.
    pub(crate) fn list(&self, id: AclId) -> &AclList {
        let shared = self.lists.get(id.0 as usize).and_then(Option::as_ref);
        &shared.unwrap_or_else(|| panic!("{id:?} is not in use")).list
    }

    /// The number of a list, used once more.
    pub(crate) fn intern(&mut self, list: &AclList) -> AclId {
        let id = self.ids.get(list).copied().unwrap_or_else(|| {
            let id = self.free.first().copied().unwrap_or(AclId(self.lists.len() as u32));
            self.put(id, list.clone());
            id
        });
        self.use_again(id);
        id
    }

    /// A list is used once less.
    pub(crate) fn release(&mut self, id: AclId) {
        let place = &mut self.lists[id.0 as usize];
        if let Some(shared) = place {
            shared.users -= 1;
            if shared.users == 0 {
                self.digest = self.digest.wrapping_sub(digest_of(id, &shared.list));
                self.ids.remove(&shared.list);
                self.free.insert(id);
                *place = None;
            }
        }
    }

    /// Puts a list under its number, used by nobody yet.
    pub(crate) fn put(&mut self, id: AclId, list: AclList) {
        let end = self.lists.len() as u32;
        if id.0 >= end {
            self.lists.resize(id.0 as usize + 1, None);
            self.free.extend((end..id.0).map(AclId));
        }
        self.free.remove(&id);
        self.digest = self.digest.wrapping_add(digest_of(id, &list));
        self.ids.insert(list.clone(), id);
        self.lists[id.0 as usize] = Some(Shared { list, users: 0 });
    }

    /// One more znode has it; false if there is no such list.
    pub(crate) fn use_again(&mut self, id: AclId) -> bool {
        let shared = self.lists.get_mut(id.0 as usize).and_then(Option::as_mut);
        shared.map(|shared| shared.users += 1).is_some()
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All lists, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AclId, &AclList)> {
        let places = (0..).map(AclId).zip(&self.lists);
        places.filter_map(|(id, place)| Some((id, &place.as_ref()?.list)))
    }

    /// The sum of the lists' hashes.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest_of(id: AclId, list: &[AclEntry]) -> u64 {
    list.iter().fold(u64::from(id.0) + 1, |hash, entry| {
        let text = crc32c::crc32c(entry.identity.scheme.as_bytes());
        let text = crc32c::crc32c_append(text, entry.identity.id.as_bytes());
        let word = u64::from(entry.perms as u32) << 32 | u64::from(text);
        (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

/// Whether somebody with these identities may do what `perm` stands for. A superuser may everything.
pub fn permits(list: &[AclEntry], identities: &[Identity], perm: i32) -> bool {
    identities.iter().any(|identity| identity.scheme == "super")
        || list.iter().any(|entry| entry.perms & perm != 0 && names(&entry.identity, identities))
}

fn names(wanted: &Identity, identities: &[Identity]) -> bool {
    match wanted.scheme.as_str() {
        "world" => wanted.id == "anyone",
        "ip" => identities.iter().any(|i| i.scheme == "ip" && ip_matches(&wanted.id, &i.id)),
        _ => identities.contains(wanted),
    }
}

/// Whether `address` lies in `range`: an address, or one with a number of leading bits that count.
fn ip_matches(range: &str, address: &str) -> bool {
    let Some((network, bits)) = parse_range(range) else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let shared = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    shared >= bits
}

fn parse_range(range: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = range.split_once('/').map_or((range, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
    (bits <= all).then_some((address, bits))
}

/// Entries that a list may have. ZooKeeper has no limit but the packet's; every access reads the whole list.
const ENTRIES_MAX: usize = 1_000;

/// The list as it is stored: entries that are there twice go, and `auth` stands for everything that the caller
/// has proven. A list that is empty or too long, or names a scheme that is not known, is refused.
pub(crate) fn fix_up(list: &[AclEntry], identities: &[Identity]) -> Result<AclList, ErrorCode> {
    let mut seen = hashbrown::HashSet::new();
    let mut fixed: Vec<AclEntry> = Vec::new();
    for entry in list.iter().filter(|entry| seen.insert(*entry)) {
        let meant = meant_by(&entry.identity, identities);
        if meant.is_empty() || fixed.len() + meant.len() > ENTRIES_MAX {
            return Err(ErrorCode::InvalidAcl);
        }
        fixed.extend(meant.into_iter().map(|identity| AclEntry { perms: entry.perms, identity }));
    }
    if fixed.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(fixed.into()) }
}

/// Whom an entry names; nobody if it makes no sense.
fn meant_by(wanted: &Identity, identities: &[Identity]) -> Vec<Identity> {
    let itself = |valid: bool| if valid { vec![wanted.clone()] } else { Vec::new() };
    match wanted.scheme.as_str() {
        "world" => itself(wanted.id == "anyone"),
        "auth" => {
            let proven = |i: &&Identity| ["digest", "sasl", "x509"].contains(&i.scheme.as_str());
            identities.iter().filter(proven).cloned().collect()
        }
        // As Java splits: empty parts at the end do not count.
        "digest" => itself(wanted.id.trim_end_matches(':').split(':').count() == 2),
        "ip" => itself(parse_range(&wanted.id).is_some()),
        "x509" | "sasl" => itself(!wanted.id.is_empty()),
        _ => Vec::new(),
    }
}

/// The list as somebody without ADMIN sees it: password hashes are masked.
pub(crate) fn masked(list: &[AclEntry]) -> Vec<AclEntry> {
    let mask = |entry: &AclEntry| {
        let mut entry = entry.clone();
        if let ("digest", Some((user, _))) =
            (entry.identity.scheme.as_str(), entry.identity.id.split_once(':'))
        {
            entry.identity.id = format!("{user}:x");
        }
        entry
    };
    list.iter().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }

    fn entry(perms: i32, scheme: &str, who: &str) -> AclEntry {
        AclEntry { perms, identity: id(scheme, who) }
    }

    #[test]
    fn who_may_what() {
        let bob = [id("digest", "bob:h"), id("ip", "10.1.2.3")];
        let cases = [
            (entry(1, "world", "anyone"), 1, true),
            (entry(1, "world", "anyone"), 2, false),
            (entry(31, "digest", "bob:h"), 16, true),
            (entry(31, "digest", "eve:h"), 1, false),
            (entry(1, "ip", "10.1.2.3"), 1, true),
            (entry(1, "ip", "10.1.0.0/16"), 1, true),
            (entry(1, "ip", "10.2.0.0/16"), 1, false),
            (entry(1, "ip", "::/0"), 1, false),
        ];
        for (entry, perm, allowed) in cases {
            assert_eq!(permits(std::slice::from_ref(&entry), &bob, perm), allowed, "{entry:?}");
        }
        assert!(permits(&[entry(0, "digest", "x:y")], &[id("super", "")], 31));
    }

    /// Nobody but a superuser gets past a list without entries.
    #[test]
    fn an_empty_list_lets_nobody_in() {
        assert!(!permits(&[], &[id("digest", "bob:h")], perms::READ));
        assert!(permits(&[], &[id("super", "")], perms::READ));
    }

    #[test]
    fn auth_stands_for_what_was_proven_and_duplicates_go() {
        let bob = [id("super", ""), id("digest", "bob:h"), id("ip", "10.1.2.3")];
        let twice = [entry(31, "auth", ""), entry(1, "ip", "10.0.0.0/8"), entry(31, "auth", "")];
        let fixed = fix_up(&twice, &bob).expect("it is valid");
        assert_eq!(&fixed[..], [entry(31, "digest", "bob:h"), entry(1, "ip", "10.0.0.0/8")]);
        for bad in [
            entry(1, "auth", ""),
            entry(1, "nosuch", "x"),
            entry(1, "ip", "10.0.0.0/99"),
            entry(1, "digest", "bob:"),
        ] {
            assert_eq!(fix_up(&[bad], &[id("super", "")]), Err(ErrorCode::InvalidAcl));
        }
        assert!(fix_up(&[entry(1, "digest", "bob:h:")], &[]).is_ok());
        assert_eq!(fix_up(&[], &bob), Err(ErrorCode::InvalidAcl));
    }

    /// ZK-20: a list that fills a packet is not compared entry by entry with itself, and is refused.
    #[test]
    fn a_list_has_a_limit() {
        let list = |n: usize| (0..n).map(|i| entry(1, "digest", &format!("u{i}:h"))).collect();
        let (most, more): (Vec<_>, Vec<_>) = (list(ENTRIES_MAX), list(ENTRIES_MAX + 1));
        assert!(fix_up(&most, &[]).is_ok());
        assert_eq!(fix_up(&more, &[]), Err(ErrorCode::InvalidAcl));
    }

    /// A list's number is the lowest that is free, however the table came to be what it is; a list is found
    /// without comparing it with the others (with 100,000 of them that would take minutes).
    #[test]
    fn distinct_lists_are_numbered_by_what_is_in_use() {
        let list = |i: usize| -> AclList { [entry(1, "digest", &format!("u{i}:h"))].into() };
        let mut table = AclTable::default();
        let ids: Vec<AclId> = (0..100_000).map(|i| table.intern(&list(i))).collect();
        assert_eq!((table.intern(&list(77)), table.len()), (ids[77], 100_000));
        [5, 3, 77, 77].iter().for_each(|i| table.release(ids[*i]));
        let mut restored = AclTable::default();
        table.iter().for_each(|(id, list)| {
            restored.put(id, list.clone());
            restored.use_again(id);
        });
        assert_eq!(restored.digest(), table.digest());
        for (new, expected) in [(200_000, 3), (200_001, 5), (200_002, 77), (200_003, 100_000)] {
            assert_eq!(table.intern(&list(new)), AclId(expected));
            assert_eq!(restored.intern(&list(new)), AclId(expected));
        }
        assert_eq!(restored.digest(), table.digest());
    }
}
