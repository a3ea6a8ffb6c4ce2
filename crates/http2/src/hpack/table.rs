//! The tables of names and values that indexes mean: a static one, and one that the two ends fill in step (RFC 7541, section 2.3).

use std::collections::VecDeque;

/// Appendix A, but for index 0, which means none.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];
/// Static entries whose values are worth comparing.
const WITH_VALUES: usize = 16;
/// What an entry costs besides its bytes (section 4.1).
const OVERHEAD_BYTES: usize = 32;

struct Entry {
    /// Name and value, one behind the other.
    bytes: Box<[u8]>,
    name_bytes: usize,
}

impl Entry {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.name_bytes)
    }
}

/// The dynamic table, newest entry first, with the static one in front.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    cost: usize,
    cost_max: usize,
}

impl Table {
    pub(super) fn new(cost_max: usize) -> Self {
        Self { entries: VecDeque::new(), cost: 0, cost_max }
    }

    /// Bytes that it may hold.
    pub(super) fn cost_max(&self) -> usize {
        self.cost_max
    }

    /// Name and value of an index.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => self.entries.get(index - STATIC.len()).map(Entry::parts),
        }
    }

    /// The index of a name with this value.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let ours = self.entries.iter().position(|entry| entry.parts() == (name, value));
        ours.map(|at| STATIC.len() + 1 + at).or_else(|| {
            let same = |(n, v): &(&str, &str)| (n.as_bytes(), v.as_bytes()) == (name, value);
            STATIC[..WITH_VALUES].iter().position(same).map(|at| at + 1)
        })
    }

    /// An index of a name.
    pub(super) fn find_name(&self, name: &[u8]) -> Option<usize> {
        let fixed = STATIC.iter().position(|(n, _)| n.as_bytes() == name).map(|at| at + 1);
        fixed.or_else(|| {
            let ours = self.entries.iter().position(|entry| entry.parts().0 == name);
            ours.map(|at| STATIC.len() + 1 + at)
        })
    }

    /// Adds an entry; older ones make room. One that is larger than the table empties it (section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry { bytes: [name, value].concat().into(), name_bytes: name.len() };
        let cost = entry.cost();
        self.evict(self.cost_max.saturating_sub(cost));
        if cost <= self.cost_max {
            self.cost += cost;
            self.entries.push_front(entry);
        }
    }

    /// Its size changes.
    pub(super) fn resize(&mut self, cost_max: usize) {
        self.cost_max = cost_max;
        self.evict(cost_max);
    }

    fn evict(&mut self, cost_max: usize) {
        while self.cost > cost_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.cost -= oldest.cost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 4: an entry costs 32 bytes more than it has, and the oldest go first.
    #[test]
    fn older_entries_make_room() {
        let mut table = Table::new(2 * (2 + OVERHEAD_BYTES));
        table.insert(b"a", b"1");
        table.insert(b"b", b"2");
        assert_eq!(table.get(62), Some((&b"b"[..], &b"2"[..])));
        assert_eq!(table.get(63), Some((&b"a"[..], &b"1"[..])));
        table.insert(b"c", b"3");
        assert_eq!(table.find(b"a", b"1"), None);
        assert_eq!(table.find(b"b", b"2"), Some(63));
        table.insert(&[b'd'; 50], b"");
        assert_eq!(table.get(62), None, "too large for the table: it is empty now");
    }

    #[test]
    fn the_static_table_is_where_the_standard_has_it() {
        let table = Table::new(0);
        assert_eq!(table.get(0), None);
        assert_eq!(table.get(8), Some((&b":status"[..], &b"200"[..])));
        assert_eq!(table.get(61), Some((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(table.get(62), None);
        assert_eq!(table.find(b":method", b"POST"), Some(3));
        assert_eq!(table.find_name(b"content-type"), Some(31));
    }
}
