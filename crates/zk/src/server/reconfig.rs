//! ZooKeeper's reconfig (ZK-18). Members belong to the node and not to this service: it checks a request, has the driver
//! carry it out, and answers once `/zookeeper/config` says what has come of it.

use quorate_contracts::{RequestId, ServiceOutput, Time};

use super::{ClientReply, ConnectionId, Outputs, Server};
use crate::command::{ErrorCode, Identity};
use crate::ensemble::{EnsembleEdit, Reconfiguration, ServerLine, config_version};
use crate::tree::{CONFIG, Tree, permits, perms};
use crate::wire::{Reconfig, ReplyHeader, RequestHeader, packet};

/// A reconfig that the driver carries out. Nothing else of its connection goes on meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reconfiguring {
    id: RequestId,
    header: RequestHeader,
    arrived: Time,
    /// The configuration that it made, which is not published yet.
    version: Option<i64>,
}

/// What is to be changed, or why nothing is; the checks come in ZooKeeper's order.
fn judge(
    wanted: &Reconfig<'_>,
    identities: &[Identity],
    tree: &Tree,
) -> Result<Reconfiguration, ErrorCode> {
    let config = tree.znode(CONFIG).ok_or(ErrorCode::NoNode)?;
    let from_version = (wanted.from_version != -1).then_some(wanted.from_version);
    if from_version.is_some_and(|version| version != config_version(config.data())) {
        return Err(ErrorCode::BadVersion);
    }
    let edit = edit(wanted).ok_or(ErrorCode::BadArguments)?;
    if !permits(config.acl(), identities, perms::WRITE) {
        return Err(ErrorCode::NoAuth);
    }
    Ok(Reconfiguration { from_version, edit })
}

fn edit(wanted: &Reconfig<'_>) -> Option<EnsembleEdit> {
    let lines = |text: Option<&str>| -> Option<Vec<ServerLine>> {
        let lines = text.unwrap_or_default().split([',', '\n']).map(str::trim);
        lines.filter(|line| !line.is_empty()).map(ServerLine::parse).collect()
    };
    if let Some(members) = wanted.members {
        // A whole configuration may come with its version, as it was read.
        let members = members.lines().filter(|line| !line.starts_with("version="));
        let members: Vec<&str> = members.collect();
        return lines(Some(&members.join("\n"))).map(EnsembleEdit::Replace);
    }
    let leaving = wanted.leaving.unwrap_or_default().split(',').map(str::trim);
    let leaving = leaving.filter(|id| !id.is_empty()).map(|id| id.parse().ok());
    Some(EnsembleEdit::Merge {
        joining: lines(wanted.joining)?,
        leaving: leaving.collect::<Option<_>>()?,
    })
}

impl Server {
    pub(super) fn reconfigure(
        &mut self,
        connection: ConnectionId,
        (header, arrived): (RequestHeader, Time),
        wanted: &Reconfig<'_>,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let judged = if !self.config.reconfig_enabled {
            Err(ErrorCode::ReconfigDisabled)
        } else if self.voters == 1 {
            // As ZooKeeper does where a server stands alone.
            Err(ErrorCode::Unimplemented)
        } else {
            judge(wanted, self.identities(connection), tree)
        };
        match judged {
            Err(error) => self.reply_error(connection, header, error as i32, tree, out),
            Ok(wanted) => {
                let id = self.next_request;
                self.next_request = id.next();
                self.reconfiguring.insert(id, connection);
                let reconfiguring = Reconfiguring { id, header, arrived, version: None };
                self.with(connection, |c| c.begin_reconfiguring(reconfiguring));
                out.push(ServiceOutput::Reply(ClientReply::Reconfigure { id, wanted }));
            }
        }
    }

    /// The driver has carried out a reconfig, or not.
    pub(super) fn reconfigured(
        &mut self,
        now: Time,
        id: RequestId,
        outcome: Result<i64, ErrorCode>,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        match outcome {
            Ok(version) => {
                let connection = self.reconfiguring.get(&id).copied();
                let known = connection.and_then(|id| self.connections.get_mut(&id));
                if let Some(pending) = known.and_then(|known| known.reconfiguring.as_mut()) {
                    pending.version = Some(version);
                }
                self.answer_reconfigured(now, tree, out);
            }
            Err(error) => self.end_reconfiguring(now, id, error as i32, tree, out),
        }
    }

    /// Answers those whose configuration is published by now.
    pub(super) fn answer_reconfigured(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        if self.reconfiguring.is_empty() {
            return;
        }
        let published = config_version(tree.znode(CONFIG).and_then(|znode| znode.data()));
        let is_done = |connection: &ConnectionId| {
            let pending = self.connections.get(connection).and_then(|c| c.reconfiguring);
            pending.and_then(|pending| pending.version).is_some_and(|made| made <= published)
        };
        let done = self.reconfiguring.iter().filter(|(_, connection)| is_done(connection));
        let done: Vec<RequestId> = done.map(|(id, _)| *id).collect();
        done.into_iter().for_each(|id| self.end_reconfiguring(now, id, 0, tree, out));
    }

    fn end_reconfiguring(
        &mut self,
        now: Time,
        id: RequestId,
        error: i32,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.reconfiguring.remove(&id) else { return };
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let Some(pending) = known.reconfiguring.take_if(|pending| pending.id == id) else { return };
        let header = ReplyHeader { xid: pending.header.xid, zxid: tree.last_zxid(), error };
        let reply = packet(header, |body| {
            if let Some(config) = tree.znode(CONFIG) {
                body.buffer(config.data());
                body.stat(&config.stat());
            }
        });
        self.account(now, connection, pending.header, pending.arrived, tree);
        self.write(connection, reply, out);
        self.answer_waiting_reads(now, connection, tree, out);
        self.let_go_on(connection, out);
    }
}
