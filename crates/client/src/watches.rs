//! Which one-shot watches this client has set (ZK-12).
//!
//! ```text
//!   table      set by                          fired by                     missed while away (setWatches)
//!   data       getData; exists that found it   changed, deleted             changed or deleted since
//!   exist      exists that found nothing       created, changed, deleted    created since
//!   children   getChildren                     children changed, deleted    changed or deleted since
//! ```
//!
//! Servers keep watches by connection, so after a reconnect all are set again, with the highest zxid
//! that this client has seen: what changed since fires at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_zk::wire::{JuteWriter, opcode, xid};

use quorate_zk::command::Zxid;

/// Names one watch of this client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WatchId(pub(crate) u64);

/// What a watch is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Table {
    /// The data of a znode that exists.
    Data,
    /// A znode that does not exist.
    Exist,
    /// The names of a znode's children.
    Children,
}

/// What a watch was waiting for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which znode; empty if the session is over.
    pub path: String,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The znode was created.
    Created,
    /// The znode was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
    /// A child was created or deleted.
    ChildrenChanged,
    /// The session expired or was closed: nothing more will be told.
    SessionOver,
}

impl EventKind {
    /// The event with this number in the protocol.
    pub(crate) fn from_i32(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Created),
            2 => Some(Self::Deleted),
            3 => Some(Self::DataChanged),
            4 => Some(Self::ChildrenChanged),
            _ => None,
        }
    }

    fn fires(self) -> &'static [Table] {
        match self {
            Self::Created | Self::DataChanged => &[Table::Data, Table::Exist],
            Self::ChildrenChanged => &[Table::Children],
            Self::Deleted | Self::SessionOver => &[Table::Data, Table::Exist, Table::Children],
        }
    }
}

/// The watches that are set.
#[derive(Default, Debug)]
pub(crate) struct Watches {
    set: BTreeMap<(Table, String), Vec<WatchId>>,
}

/// A setWatches is split so that it stays far below what a packet may have.
const SET_WATCHES_BYTES: usize = 128 * 1024;

impl Watches {
    /// A read that asked for a watch was answered.
    pub(crate) fn add(&mut self, table: Table, path: &str, id: WatchId) {
        self.set.entry((table, path.to_owned())).or_default().push(id);
    }

    /// Takes out what an event fires.
    pub(crate) fn fire(&mut self, event: &Event) -> Vec<WatchId> {
        let tables = event.kind.fires().iter();
        tables
            .filter_map(|table| self.set.remove(&(*table, event.path.clone())))
            .flatten()
            .collect()
    }

    /// Takes out all of them.
    pub(crate) fn drain(&mut self) -> Vec<WatchId> {
        std::mem::take(&mut self.set).into_values().flatten().collect()
    }

    /// The packets that set all of them again on another server.
    pub(crate) fn set_again(&self, seen: Zxid) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let mut some: BTreeMap<Table, Vec<&str>> = BTreeMap::new();
        let mut bytes = 0;
        for (table, path) in self.set.keys() {
            if bytes + path.len() > SET_WATCHES_BYTES {
                packets.push(set_watches(seen, &std::mem::take(&mut some)));
                bytes = 0;
            }
            some.entry(*table).or_default().push(path);
            bytes += path.len() + 4;
        }
        if !some.is_empty() {
            packets.push(set_watches(seen, &some));
        }
        packets
    }
}

fn set_watches(seen: Zxid, paths: &BTreeMap<Table, Vec<&str>>) -> Bytes {
    let mut out = JuteWriter::with_capacity(SET_WATCHES_BYTES.min(4096));
    out.int(xid::SET_WATCHES);
    out.int(opcode::SET_WATCHES);
    out.long(seen.0);
    for table in [Table::Data, Table::Exist, Table::Children] {
        let paths = paths.get(&table).map(Vec::as_slice).unwrap_or_default();
        out.count(paths.len());
        paths.iter().for_each(|path| out.str(path));
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use quorate_zk::wire::{Request, SetWatches};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event { kind, path: path.to_owned() }
    }

    /// ZK-12: one shot, and only the tables that the event is about.
    #[test]
    fn an_event_fires_its_tables_once() {
        let mut watches = Watches::default();
        watches.add(Table::Data, "/a", WatchId(1));
        watches.add(Table::Children, "/a", WatchId(2));
        watches.add(Table::Exist, "/b", WatchId(3));
        assert_eq!(watches.fire(&event(EventKind::DataChanged, "/a")), [WatchId(1)]);
        assert_eq!(watches.fire(&event(EventKind::DataChanged, "/a")), []);
        assert_eq!(watches.fire(&event(EventKind::Created, "/b")), [WatchId(3)]);
        assert_eq!(watches.fire(&event(EventKind::Deleted, "/a")), [WatchId(2)]);
    }

    /// ZK-12: after a reconnect all are set again, each in its table, in packets that servers accept.
    #[test]
    fn watches_are_set_again_in_packets_of_bounded_size() {
        let mut watches = Watches::default();
        for i in 0..3_000 {
            watches.add(Table::Data, &format!("/{}{i:04}", "long-name-".repeat(10)), WatchId(i));
        }
        watches.add(Table::Children, "/c", WatchId(9_000));
        let packets = watches.set_again(Zxid(7));
        assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() < 200_000));
        let mut data = 0;
        for packet in &packets {
            let (header, request) = Request::decode(&packet[4..]).expect("a server reads it");
            assert_eq!((header.xid, header.opcode), (-8, 101));
            let Request::SetWatches(SetWatches { relative_zxid: 7, data: paths, child, .. }) =
                request
            else {
                panic!("not a setWatches: {request:?}")
            };
            data += paths.len();
            assert!(child.is_empty() || child == ["/c"]);
        }
        assert_eq!(data, 3_000);
    }
}
