//! One request, encoded once; its xid is filled in when it is sent.

use bytes::{Bytes, BytesMut};
use quorate_zk::command::{AclEntry, CreateMode, Identity, Op};
use quorate_zk::wire::{JuteWriter, opcode, xid};

use crate::watches::WatchId;

/// A request, and what is to be known about it while it is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    packet: Bytes,
    /// Whether doing it twice is the same as doing it once, so that it may be sent again on another connection.
    pub(crate) repeatable: bool,
    /// The watch that the answer sets.
    pub(crate) watch: Option<WatchRequest>,
    /// Credentials are sent again on each connection.
    pub(crate) is_auth: bool,
}

/// A watch that is set once the read it came with was answered.
#[derive(Clone, Debug)]
pub(crate) struct WatchRequest {
    /// Its name.
    pub(crate) id: WatchId,
    /// The znode.
    pub(crate) path: String,
    /// Whether it is about children; else about data or existence.
    pub(crate) children: bool,
    /// Whether it is also set on a znode that does not exist.
    pub(crate) on_absence: bool,
}

const XID_AT: std::ops::Range<usize> = 4..8;

impl Call {
    fn new(opcode: i32, bytes: usize, encode: impl FnOnce(&mut JuteWriter)) -> Self {
        let mut out = JuteWriter::with_capacity(8 + bytes);
        out.int(0);
        out.int(opcode);
        encode(&mut out);
        Self { packet: out.finish(), repeatable: false, watch: None, is_auth: false }
    }

    fn read(opcode: i32, path: &str, watch: Option<WatchId>) -> Self {
        let call = Self::new(opcode, path.len() + 5, |out| {
            out.str(path);
            out.bool(watch.is_some());
        });
        let watch = watch.map(|id| WatchRequest {
            id,
            path: path.to_owned(),
            children: opcode == opcode::GET_CHILDREN2,
            on_absence: opcode == opcode::EXISTS,
        });
        Self { repeatable: true, watch, ..call }
    }

    pub(crate) fn exists(path: &str, watch: Option<WatchId>) -> Self {
        Self::read(opcode::EXISTS, path, watch)
    }

    pub(crate) fn get_data(path: &str, watch: Option<WatchId>) -> Self {
        Self::read(opcode::GET_DATA, path, watch)
    }

    pub(crate) fn children(path: &str, watch: Option<WatchId>) -> Self {
        Self::read(opcode::GET_CHILDREN2, path, watch)
    }

    pub(crate) fn get_acl(path: &str) -> Self {
        Self { repeatable: true, ..Self::new(opcode::GET_ACL, path.len() + 4, |out| out.str(path)) }
    }

    pub(crate) fn sync(path: &str) -> Self {
        Self { repeatable: true, ..Self::write(opcode::SYNC, &Op::Sync { path }) }
    }

    pub(crate) fn write(opcode: i32, op: &Op<'_>) -> Self {
        Self::new(opcode, 64, |out| op.encode_request(out))
    }

    pub(crate) fn auth(scheme: &str, data: &[u8]) -> Self {
        let call = Self::new(opcode::AUTH, scheme.len() + data.len() + 12, |out| {
            out.int(0);
            out.str(scheme);
            out.buffer(Some(data));
        });
        Self { packet: call.packet_with(xid::AUTH), is_auth: true, ..call }
    }

    pub(crate) fn close_session() -> Self {
        Self::new(opcode::CLOSE_SESSION, 0, |_| {})
    }

    /// Size of the packet, without its length.
    pub(crate) fn len(&self) -> usize {
        self.packet.len() - 4
    }

    /// The packet under an xid.
    pub(crate) fn packet_with(&self, xid: i32) -> Bytes {
        let mut packet = BytesMut::from(&self.packet[..]);
        packet[XID_AT].copy_from_slice(&xid.to_be_bytes());
        packet.freeze()
    }
}

/// A transaction: all of it happens, or nothing (ZK-3).
#[derive(Debug)]
pub struct Multi {
    out: JuteWriter,
    operations: usize,
}

impl Default for Multi {
    fn default() -> Self {
        Self::new()
    }
}

impl Multi {
    /// An empty transaction.
    pub fn new() -> Self {
        let mut out = JuteWriter::with_capacity(256);
        out.int(0);
        out.int(opcode::MULTI);
        Self { out, operations: 0 }
    }

    /// Creates a znode.
    #[must_use]
    pub fn create(self, path: &str, data: &[u8], mode: CreateMode, acl: Acl) -> Self {
        let op = Op::Create { path, data: Some(data), acl: acl.0, mode };
        self.push(create_opcode(mode, opcode::CREATE), &op)
    }

    /// Deletes a znode; -1 is any version.
    #[must_use]
    pub fn delete(self, path: &str, version: i32) -> Self {
        self.push(opcode::DELETE, &Op::Delete { path, version })
    }

    /// Sets a znode's data; -1 is any version.
    #[must_use]
    pub fn set_data(self, path: &str, data: &[u8], version: i32) -> Self {
        self.push(opcode::SET_DATA, &Op::SetData { path, data: Some(data), version })
    }

    /// Fails the transaction unless the znode exists in this version; -1 is any.
    #[must_use]
    pub fn check(self, path: &str, version: i32) -> Self {
        self.push(opcode::CHECK, &Op::Check { path, version })
    }

    fn push(mut self, opcode: i32, op: &Op<'_>) -> Self {
        self.header(opcode, false);
        op.encode_request(&mut self.out);
        self.operations += 1;
        self
    }

    fn header(&mut self, opcode: i32, done: bool) {
        self.out.int(opcode);
        self.out.bool(done);
        self.out.int(-1);
    }

    pub(crate) fn into_call(mut self) -> Call {
        self.header(-1, true);
        Call { packet: self.out.finish(), repeatable: false, watch: None, is_auth: false }
    }
}

/// The opcode that creates a znode of this kind; `plain` for those that have no opcode of their own.
pub(crate) fn create_opcode(mode: CreateMode, plain: i32) -> i32 {
    match mode {
        CreateMode::Container => opcode::CREATE_CONTAINER,
        CreateMode::Ttl(_) | CreateMode::SequentialTtl(_) => opcode::CREATE_TTL,
        _ => plain,
    }
}

/// Who may do what with a znode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl(pub Vec<AclEntry>);

impl Acl {
    /// Sum of READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16.
    pub const ALL: i32 = 31;

    /// Everybody may do everything.
    pub fn open() -> Self {
        Self::one(Self::ALL, "world", "anyone")
    }

    /// Everybody may read.
    pub fn read_only() -> Self {
        Self::one(1, "world", "anyone")
    }

    /// Who created it may do everything; needs credentials.
    pub fn creator() -> Self {
        Self::one(Self::ALL, "auth", "")
    }

    fn one(perms: i32, scheme: &str, id: &str) -> Self {
        let identity = Identity { scheme: scheme.to_owned(), id: id.to_owned() };
        Self(vec![AclEntry { perms, identity }])
    }
}

#[cfg(test)]
mod tests {
    use quorate_zk::wire::Request;

    use super::*;

    fn served(call: &Call) -> (i32, i32, Request<'static>) {
        let packet: &'static [u8] = Box::leak(call.packet_with(9).to_vec().into_boxed_slice());
        let (header, request) = Request::decode(&packet[4..]).expect("a server reads it");
        (header.xid, header.opcode, request)
    }

    /// What this client sends is what our server reads.
    #[test]
    fn requests_read_as_they_were_meant() {
        let id = Some(WatchId(1));
        assert_eq!(
            served(&Call::exists("/a", id)),
            (9, 3, Request::Exists { path: "/a", watch: true })
        );
        assert_eq!(
            served(&Call::get_data("/a", None)),
            (9, 4, Request::GetData { path: "/a", watch: false })
        );
        let children = Request::GetChildren { path: "/a", watch: false, stat: true };
        assert_eq!(served(&Call::children("/a", None)), (9, 12, children));
        assert_eq!(served(&Call::get_acl("/a")), (9, 6, Request::GetAcl { path: "/a" }));
        assert_eq!(served(&Call::sync("/a")), (9, 9, Request::Write(Op::Sync { path: "/a" })));
        let auth = Request::Auth { scheme: "digest", data: b"bob:pw" };
        assert_eq!(served(&Call::auth("digest", b"bob:pw")), (9, 100, auth));
        assert_eq!(served(&Call::close_session()), (9, -11, Request::Write(Op::CloseSession)));
    }

    #[test]
    fn a_transaction_reads_as_it_was_meant() {
        let multi = Multi::new()
            .create("/a", b"x", CreateMode::Ephemeral, Acl::open())
            .set_data("/a", b"y", 0)
            .check("/b", 3)
            .delete("/c", -1);
        let (_, _, request) = served(&multi.into_call());
        let acl = Acl::open().0;
        let create = Op::Create { path: "/a", data: Some(b"x"), acl, mode: CreateMode::Ephemeral };
        let set = Op::SetData { path: "/a", data: Some(b"y"), version: 0 };
        let (check, delete) =
            (Op::Check { path: "/b", version: 3 }, Op::Delete { path: "/c", version: -1 });
        assert_eq!(request, Request::Multi(vec![(1, create), (5, set), (13, check), (2, delete)]));
    }
}
