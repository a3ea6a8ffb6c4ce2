//! Answers from the local tree, without a word to any other server (ZK-7).

use quorate_contracts::Time;

use super::watches::Table;
use super::{ConnectionId, Outputs, Server};
use crate::command::{ErrorCode, Identity, Stat};
use crate::tree::{Tree, Znode};
use crate::wire::{
    JuteWriter, ReplyHeader, Request, RequestHeader, SetWatches, multi_end, multi_error,
    multi_header, notification, opcode, packet,
};

/// A record to write, or why there is none.
type Answer = Result<Box<dyn FnOnce(&mut JuteWriter)>, ErrorCode>;

fn write_data(znode: &Znode<'_>, out: &mut JuteWriter) {
    out.buffer(znode.data());
    out.stat(&znode.stat());
}

fn write_children(znode: &Znode<'_>, out: &mut JuteWriter) {
    out.count(znode.stat().num_children as usize);
    znode.children().for_each(|name| out.str(name));
}

/// Whom an identity names, without what proves it.
fn user_of<'i>(scheme: &str, id: &'i str) -> &'i str {
    match scheme {
        "digest" => id.split(':').next().unwrap_or_default(),
        _ => id,
    }
}

/// A znode as a client may see it.
enum Shown {
    Now(Stat),
    Hidden,
    Absent,
}

fn body(write: impl FnOnce(&mut JuteWriter) + 'static) -> Answer {
    Ok(Box::new(write))
}

impl Server {
    pub(super) fn answer_read(
        &mut self,
        now: Time,
        connection: ConnectionId,
        packet_bytes: &[u8],
        arrived: Time,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Ok((header, request)) = Request::decode(packet_bytes) else {
            return self.close(connection, out);
        };
        if let Request::Reconfig(wanted) = &request {
            return self.reconfigure(connection, (header, arrived), wanted, tree, out);
        }
        self.account(now, connection, header, arrived, tree);
        // The two that every client sends by the thousand write straight into the packet.
        match request {
            Request::GetData { path, watch } => {
                return self.get_data(connection, header, path, watch, tree, out);
            }
            Request::Exists { path, watch } => {
                return self.exists(connection, header, path, watch, tree, out);
            }
            Request::GetChildren { path, watch, stat } => {
                return self.get_children(connection, header, (path, watch, stat), tree, out);
            }
            Request::MultiRead(ref reads) => {
                return self.multi_read(connection, header, reads, tree, out);
            }
            Request::Unknown => {
                let error = ErrorCode::Unimplemented as i32;
                self.reply_error(connection, header, error, tree, out);
                return self.close(connection, out);
            }
            // A client that would miss events must not believe that it is told of them.
            Request::SetWatches(ref watches)
                if self.set_watches(connection, watches, tree, out).is_err() =>
            {
                return self.close(connection, out);
            }
            _ => {}
        }
        let identities = self.identities(connection).to_vec();
        match self.seldom(connection, &request, &identities, tree) {
            Ok(write) => {
                let ok = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
                let reply = packet(ok, write);
                if self.is_too_long(reply.len()) {
                    let error = ErrorCode::Marshalling as i32;
                    return self.reply_error(connection, header, error, tree, out);
                }
                self.write(connection, reply, out);
            }
            Err(error) => self.reply_error(connection, header, error as i32, tree, out),
        }
    }

    fn get_data(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        path: &str,
        watch: bool,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let found = tree.readable(path, self.identities(connection));
        let watched = found.is_ok() && watch;
        match self.watch(connection, watched, Table::Data, path).and(found) {
            Ok(znode) => {
                let header = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
                let reply = packet(header, |out| {
                    write_data(&znode, out);
                });
                self.write(connection, reply, out);
            }
            Err(error) => self.reply_error(connection, header, error as i32, tree, out),
        }
    }

    /// A watch is set also on a znode that is not there.
    fn exists(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        path: &str,
        watch: bool,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let found = if path.contains('\0') {
            Err(ErrorCode::BadArguments)
        } else {
            tree.readable(path, self.identities(connection))
        };
        let watched = watch && matches!(found, Ok(_) | Err(ErrorCode::NoNode));
        match self.watch(connection, watched, Table::Data, path).and(found) {
            Ok(znode) => {
                let header = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
                let reply = packet(header, |out| out.stat(&znode.stat()));
                self.write(connection, reply, out);
            }
            Err(error) => self.reply_error(connection, header, error as i32, tree, out),
        }
    }

    fn get_children(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        (path, watch, stat): (&str, bool, bool),
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let ok = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
        let listing = tree.readable(path, self.identities(connection)).and_then(|znode| {
            let reply = packet(ok, |out| {
                write_children(&znode, out);
                if stat {
                    out.stat(&znode.stat());
                }
            });
            if self.is_too_long(reply.len()) { Err(ErrorCode::Marshalling) } else { Ok(reply) }
        });
        let watched = listing.is_ok() && watch;
        match self.watch(connection, watched, Table::Child, path).and(listing) {
            Ok(reply) => self.write(connection, reply, out),
            Err(error) => self.reply_error(connection, header, error as i32, tree, out),
        }
    }

    /// Whether an answer of so many bytes is more than clients take.
    fn is_too_long(&self, bytes: usize) -> bool {
        let most = self.config.listing_bytes_max;
        most > 0 && bytes >= most
    }

    /// Names for one packet; the client goes on from the last one.
    fn piece_of_listing(&self, znode: Znode<'_>, after: &str) -> Answer {
        // The header, and the count before the names.
        let mut bytes = 64;
        let fits = |name: &&str| {
            bytes += 4 + name.len();
            !self.is_too_long(bytes)
        };
        let names: Vec<String> = if after.is_empty() {
            znode.children().take_while(fits).map(str::to_string).collect()
        } else {
            let older = znode.children_after(after).ok_or(ErrorCode::NoNode)?;
            older.take_while(fits).map(str::to_string).collect()
        };
        body(move |out| {
            out.count(names.len());
            names.iter().for_each(|name| out.str(name));
        })
    }

    /// Several reads of one state; each has its own result or error.
    fn multi_read(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        reads: &[(i32, &str)],
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let ok = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
        let identities = self.identities(connection);
        let mut reply = JuteWriter::with_capacity(112);
        ok.encode(&mut reply);
        for (opcode, path) in reads {
            match tree.readable(path, identities) {
                Ok(znode) if *opcode == opcode::GET_DATA => {
                    multi_header(&mut reply, *opcode, 0);
                    write_data(&znode, &mut reply);
                }
                Ok(znode) => {
                    multi_header(&mut reply, *opcode, 0);
                    write_children(&znode, &mut reply);
                }
                Err(error) => multi_error(error as i32, &mut reply),
            }
            if reply.len() > self.config.unread_bytes_max || self.is_too_long(reply.len()) {
                let error = ErrorCode::Marshalling as i32;
                return self.reply_error(connection, header, error, tree, out);
            }
        }
        multi_end(&mut reply);
        self.write(connection, reply.finish(), out);
    }

    /// Everything that is asked less often.
    fn seldom(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        identities: &[Identity],
        tree: &Tree,
    ) -> Answer {
        match request {
            Request::GetAcl { path } => {
                let znode = tree.znode(path).ok_or(ErrorCode::NoNode)?;
                let (acl, stat) = (znode.acl_for(identities)?, znode.stat());
                body(move |out| {
                    out.acl(&acl);
                    out.stat(&stat);
                })
            }
            Request::ListAfter { path, name } => {
                self.piece_of_listing(tree.readable(path, identities)?, name)
            }
            Request::GetEphemerals { prefix } => {
                let session = self.connections.get(&connection).and_then(|c| c.session());
                let paths = session.map_or(Vec::new(), |id| tree.ephemerals_of(id, prefix));
                let paths: Vec<String> = paths.into_iter().map(str::to_string).collect();
                body(move |out| {
                    out.count(paths.len());
                    paths.iter().for_each(|path| out.str(path));
                })
            }
            Request::GetAllChildrenNumber { path } => {
                let count = tree.readable(path, identities)?.descendants();
                body(move |out| out.count(count))
            }
            Request::WhoAmI => {
                let identities = identities.to_vec();
                body(move |out| {
                    out.count(identities.len());
                    for Identity { scheme, id } in &identities {
                        out.str(scheme);
                        out.str(user_of(scheme, id));
                    }
                })
            }
            Request::AddWatch { path, mode } => {
                let table = match mode {
                    0 => Table::Persistent,
                    1 => Table::Recursive,
                    _ => return Err(ErrorCode::Marshalling),
                };
                self.watch(connection, true, table, path)?;
                body(|out| out.int(0))
            }
            Request::CheckWatches { kind, .. } | Request::RemoveWatches { kind, .. }
                if !(1..=5).contains(kind) =>
            {
                Err(ErrorCode::Marshalling)
            }
            Request::CheckWatches { path, kind } => {
                let there = self.watches.has(connection, path, *kind);
                if there { body(|_| {}) } else { Err(ErrorCode::NoWatcher) }
            }
            Request::RemoveWatches { path, kind } => {
                let removed = self.watches.remove(connection, path, *kind);
                if removed { body(|_| {}) } else { Err(ErrorCode::NoWatcher) }
            }
            Request::SetWatches(_) => body(|_| {}),
            Request::BadMulti | Request::Malformed => Err(ErrorCode::Marshalling),
            _ => Err(ErrorCode::BadArguments),
        }
    }

    /// A client comes back with the watches that it had elsewhere: what happened since is told at once,
    /// the others are set (ZK-12).
    fn set_watches(
        &mut self,
        connection: ConnectionId,
        watches: &SetWatches<'_>,
        tree: &Tree,
        out: &mut Outputs,
    ) -> Result<(), ErrorCode> {
        let since = watches.relative_zxid;
        // What is hidden counts as unchanged: the watch is set, and tells nothing either.
        let identities = self.identities(connection).to_vec();
        let shown = |path: &str| match tree.readable(path, &identities) {
            Ok(znode) => Shown::Now(znode.stat()),
            Err(ErrorCode::NoAuth) => Shown::Hidden,
            Err(_) => Shown::Absent,
        };
        for path in &watches.data {
            match shown(path) {
                Shown::Absent => self.write(connection, notification(2, path), out),
                Shown::Now(stat) if stat.mzxid.0 > since => {
                    self.write(connection, notification(3, path), out);
                }
                _ => self.watch(connection, true, Table::Data, path)?,
            }
        }
        for path in &watches.exist {
            match shown(path) {
                Shown::Now(_) => self.write(connection, notification(1, path), out),
                _ => self.watch(connection, true, Table::Data, path)?,
            }
        }
        for path in &watches.child {
            match shown(path) {
                Shown::Absent => self.write(connection, notification(2, path), out),
                Shown::Now(stat) if stat.pzxid.0 > since => {
                    self.write(connection, notification(4, path), out);
                }
                _ => self.watch(connection, true, Table::Child, path)?,
            }
        }
        for (paths, table) in
            [(&watches.persistent, Table::Persistent), (&watches.recursive, Table::Recursive)]
        {
            for path in paths {
                self.watch(connection, true, table, path)?;
            }
        }
        Ok(())
    }

    /// Sets a watch; a connection may have only so many (ZK-20).
    fn watch(
        &mut self,
        connection: ConnectionId,
        wanted: bool,
        table: Table,
        path: &str,
    ) -> Result<(), ErrorCode> {
        if !wanted || !self.connections.contains_key(&connection) {
            return Ok(());
        }
        if self.watches.bytes_of(connection) + path.len() > self.config.watch_bytes_max {
            return Err(ErrorCode::QuotaExceeded);
        }
        self.watches.add(connection, table, path);
        Ok(())
    }

    pub(super) fn identities(&self, connection: ConnectionId) -> &[Identity] {
        self.connections.get(&connection).map_or(&[], |known| &known.identities)
    }
}
