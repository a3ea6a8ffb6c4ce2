//! Access control: the table of distinct lists, and what they allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::command::{AclEntry, AclId, ErrorCode, Identity};

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

/// Lists that znodes share: most znodes of a tree have one of a few.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclTable {
    lists: BTreeMap<AclId, (Vec<AclEntry>, u64)>,
}

impl AclTable {
    pub(crate) fn list(&self, id: AclId) -> &[AclEntry] {
        self.lists.get(&id).map_or(&[], |(list, _)| list)
    }

    /// The id of a list, used once more. Which id a new list gets depends on the table alone.
    pub(crate) fn intern(&mut self, list: &[AclEntry]) -> AclId {
        if let Some((id, (_, users))) = self.lists.iter_mut().find(|(_, (known, _))| known == list)
        {
            *users += 1;
            return *id;
        }
        let id = (0..).map(AclId).find(|id| !self.lists.contains_key(id)).unwrap_or_default();
        self.lists.insert(id, (list.to_vec(), 1));
        id
    }

    /// A list is used once less.
    pub(crate) fn release(&mut self, id: AclId) {
        if let Some((_, users)) = self.lists.get_mut(&id) {
            *users -= 1;
            if *users == 0 {
                self.lists.remove(&id);
            }
        }
    }

    /// Puts a list back under its id, for a snapshot.
    pub(crate) fn restore(&mut self, id: AclId, list: Vec<AclEntry>) {
        self.lists.insert(id, (list, 0));
    }

    /// A restored znode uses it; false if there is no such list.
    pub(crate) fn use_again(&mut self, id: AclId) -> bool {
        self.lists.get_mut(&id).map(|(_, users)| *users += 1).is_some()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (AclId, &[AclEntry])> {
        self.lists.iter().map(|(id, (list, _))| (*id, &list[..]))
    }
}

/// Whether somebody with these identities may do what `perm` stands for. A superuser may everything; an
/// empty list keeps nobody out.
pub fn permits(list: &[AclEntry], identities: &[Identity], perm: i32) -> bool {
    list.is_empty()
        || identities.iter().any(|identity| identity.scheme == "super")
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

/// The list as it is stored: `auth` stands for everything that the caller has proven, duplicates go.
/// A list that is empty, or names a scheme that is not known, is refused.
pub(crate) fn fix_up(
    list: &[AclEntry],
    identities: &[Identity],
) -> Result<Vec<AclEntry>, ErrorCode> {
    let mut fixed: Vec<AclEntry> = Vec::new();
    for entry in list {
        let meant = meant_by(&entry.identity, identities);
        if meant.is_empty() {
            return Err(ErrorCode::InvalidAcl);
        }
        for identity in meant {
            let entry = AclEntry { perms: entry.perms, identity };
            if !fixed.contains(&entry) {
                fixed.push(entry);
            }
        }
    }
    if fixed.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(fixed) }
}

/// Whom an entry names; nobody if it makes no sense.
fn meant_by(wanted: &Identity, identities: &[Identity]) -> Vec<Identity> {
    let itself = |valid: bool| if valid { vec![wanted.clone()] } else { Vec::new() };
    match wanted.scheme.as_str() {
        "world" => itself(wanted.id == "anyone"),
        "auth" => {
            let proven =
                |i: &&Identity| ["digest", "sasl", "x509", "super"].contains(&i.scheme.as_str());
            identities.iter().filter(proven).cloned().collect()
        }
        "digest" => itself(wanted.id.split(':').count() == 2),
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

    #[test]
    fn auth_stands_for_what_was_proven_and_duplicates_go() {
        let bob = [id("digest", "bob:h"), id("ip", "10.1.2.3")];
        let fixed = fix_up(&[entry(31, "auth", ""), entry(31, "digest", "bob:h")], &bob);
        assert_eq!(fixed, Ok(vec![entry(31, "digest", "bob:h")]));
        for bad in [entry(1, "auth", ""), entry(1, "nosuch", "x"), entry(1, "ip", "10.0.0.0/99")] {
            assert_eq!(fix_up(&[bad], &[]), Err(ErrorCode::InvalidAcl));
        }
        assert_eq!(fix_up(&[], &bob), Err(ErrorCode::InvalidAcl));
    }
}
