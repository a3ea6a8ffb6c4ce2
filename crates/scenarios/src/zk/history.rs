//! What clients were told, and what it must add up to: ZooKeeper's promises as checks that cost little.
//!
//! Each value is written once, so that a value names its write. The order of writes is that of their zxids, which are
//! told with every answer; what no client was told is not known here and proves nothing.

use std::collections::BTreeMap;

use super::seen::Seen;
use crate::Failure;

/// A client of the scenario.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ClientId(pub(super) usize);

/// A read of data: what it found, and up to which transaction its server was.
#[derive(Clone, Debug)]
struct Read {
    client: ClientId,
    path: String,
    mzxid: i64,
    zxid: i64,
}

/// A watch: what was read when it was set, and the newest transaction that its client saw before it was told.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) set_at: i64,
    pub(super) seen: i64,
}

/// Everything that clients were told.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Highest zxid of a write that a client was told of.
    acknowledged: i64,
    /// By path and mzxid: the value.
    values: BTreeMap<(String, i64), String>,
    /// Writes that were told of, by path.
    writes: BTreeMap<String, Vec<i64>>,
    reads: Vec<Read>,
    watches: Vec<(ClientId, String, Watch)>,
    /// Numbers of sequential znodes, with the transactions that made them.
    numbers: BTreeMap<u64, i64>,
    /// Increments of the counter that were told of, and those of which nobody knows.
    pub(super) incremented: i32,
    pub(super) perhaps_incremented: i32,
    /// Answers of all kinds.
    pub(super) answers: u64,
    /// Events that clients were told of.
    pub(super) events: u64,
    /// Configurations that were read whole, without a word that they changed meanwhile.
    pub(super) configurations: u64,
    /// Sessions that clients were told are over.
    pub(super) expired: u64,
    /// For the checker.
    pub(super) seen: Seen,
}

fn broken<T>(property: &str, what: String) -> Result<T, Failure> {
    Err(Failure::safety(property, what))
}

impl History {
    /// What has been acknowledged to anybody so far: a request that begins now comes after it.
    pub(super) fn floor(&self) -> i64 {
        self.acknowledged
    }

    /// ZK-5: a write is told of with a zxid above all that were told of before it began.
    pub(super) fn wrote(
        &mut self,
        client: ClientId,
        path: &str,
        zxid: i64,
        floor: i64,
        value: Option<&str>,
    ) -> Result<(), Failure> {
        if zxid <= floor {
            let what = format!(
                "{client:?} wrote {path} in {zxid:#x}, though {floor:#x} was told of before it began"
            );
            return broken("ZK-5: writes are linearizable", what);
        }
        self.acknowledged = self.acknowledged.max(zxid);
        if let Some(value) = value {
            self.writes.entry(path.to_string()).or_default().push(zxid);
            self.holds(path, zxid, value)?;
        }
        Ok(())
    }

    /// A path holds the same value after the same write, whoever looks.
    fn holds(&mut self, path: &str, mzxid: i64, value: &str) -> Result<(), Failure> {
        let key = (path.to_string(), mzxid);
        let known = self.values.entry(key).or_insert_with(|| value.to_string());
        if known == value {
            return Ok(());
        }
        let what = format!("{path} of {mzxid:#x} is {value:?} here and {known:?} there");
        broken("ZK-5: one order of writes", what)
    }

    /// Data was read, as of `mzxid`, on a server that was at `zxid`.
    pub(super) fn read(
        &mut self,
        client: ClientId,
        path: &str,
        (mzxid, zxid): (i64, i64),
        value: &str,
    ) -> Result<(), Failure> {
        if mzxid > zxid {
            let what = format!("{client:?} read {path} of {mzxid:#x} from a server at {zxid:#x}");
            return broken("ZK-7: an answer says how new it is", what);
        }
        self.reads.push(Read { client, path: path.to_string(), mzxid, zxid });
        self.holds(path, mzxid, value)
    }

    /// ZK-2: numbers of sequential znodes are never used again and grow with the order of writes.
    pub(super) fn numbered(&mut self, number: u64, zxid: i64) -> Result<(), Failure> {
        let before = self.numbers.range(..number).next_back().map(|(n, z)| (*n, *z));
        let after = self.numbers.range(number..).next().map(|(n, z)| (*n, *z));
        let early = before.is_some_and(|(_, z)| z >= zxid);
        let late = after.is_some_and(|(n, z)| n == number || z <= zxid);
        if early || late {
            let what = format!("{number} in {zxid:#x}, between {before:?} and {after:?}");
            return broken("ZK-2: sequence numbers are unique and grow", what);
        }
        self.numbers.insert(number, zxid);
        Ok(())
    }

    /// A watch ends: its event came, or its session is over, or the run is.
    pub(super) fn watch_ended(&mut self, client: ClientId, path: &str, watch: Watch) {
        self.watches.push((client, path.to_string(), watch));
    }

    /// Whether a path was written between two transactions, as far as clients were told.
    pub(super) fn written_between(&self, path: &str, after: i64, up_to: i64) -> Option<i64> {
        let writes = self.writes.get(path)?;
        writes.iter().copied().find(|zxid| (after + 1..=up_to).contains(zxid))
    }

    /// What can only be told once all is known.
    pub(super) fn adds_up(&self) -> Result<(), Failure> {
        for Read { client, path, mzxid, zxid } in &self.reads {
            if let Some(missed) = self.written_between(path, *mzxid, *zxid) {
                let what = format!(
                    "{client:?} read {path} of {mzxid:#x} from a server at {zxid:#x}, which had {missed:#x}"
                );
                return broken("ZK-7: a read shows the state that it claims", what);
            }
        }
        for (client, path, Watch { set_at, seen }) in &self.watches {
            if let Some(change) = self.written_between(path, *set_at, *seen) {
                let what = format!(
                    "{client:?} watched {path} from {set_at:#x} on and saw {seen:#x} before it was told of {change:#x}"
                );
                return broken("ZK-12: the event before its effect", what);
            }
        }
        self.seen.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(0);

    fn property(result: Result<(), Failure>) -> String {
        result.expect_err("a broken promise").property
    }

    #[test]
    fn a_write_that_goes_back_in_time_is_seen() {
        let mut history = History::default();
        history.wrote(A, "/a", 5, 0, Some("x")).expect("the first write");
        assert!(property(history.wrote(A, "/a", 4, history.floor(), None)).starts_with("ZK-5"));
        assert!(property(history.read(A, "/a", (5, 6), "y")).starts_with("ZK-5"));
    }

    #[test]
    fn a_read_older_than_its_own_zxid_is_seen_at_the_end() {
        let mut history = History::default();
        history.read(A, "/a", (3, 9), "old").expect("nothing is known yet");
        history.wrote(A, "/a", 7, 0, Some("new")).expect("a write");
        assert!(property(history.adds_up()).starts_with("ZK-7"));
    }

    #[test]
    fn an_event_after_its_effect_is_seen() {
        let mut history = History::default();
        history.wrote(A, "/a", 7, 0, Some("new")).expect("a write");
        history.watch_ended(A, "/a", Watch { set_at: 3, seen: 6 });
        history.adds_up().expect("told before anything newer was seen");
        history.watch_ended(A, "/a", Watch { set_at: 3, seen: 7 });
        assert!(property(history.adds_up()).starts_with("ZK-12"));
    }

    #[test]
    fn a_number_given_twice_or_out_of_order_is_seen() {
        let mut history = History::default();
        history.numbered(1, 10).expect("the first");
        history.numbered(3, 30).expect("the third");
        assert!(property(history.numbered(3, 31)).starts_with("ZK-2"));
        assert!(property(history.numbered(2, 31)).starts_with("ZK-2"));
    }
}
