//! What the dashboard shows of what the services hold: a znode, the sessions, the clients of this node; keys are in `keys`. As everybody
//! sees it: who asks the admin port has proven nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_contracts::GroupId;
use quorate_etcd::store::Store;
use quorate_zk::command::{AclEntry, SessionId, Stat};
use quorate_zk::server::{ClientView, Server, WatchView};
use quorate_zk::tree::{Tree, Znode, anyone};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::keys;

/// Children, sessions, clients and watches that are told of; the page says how many there are.
const LISTED_MAX: usize = 500;
/// Bytes of a znode's data that are shown.
const DATA_BYTES_MAX: usize = 64 << 10;

/// What somebody wants to see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// The znode at this path.
    Znode(String),
    /// Sessions, and the clients of this node.
    Clients,
    /// The keys that begin like this, as they were at a revision; 0 is the newest.
    Keys { prefix: String, revision: i64 },
    /// One of them, with its value.
    Key { key: String, revision: i64 },
}

impl Look {
    /// Who can show it.
    pub(super) fn group(&self) -> GroupId {
        match self {
            Self::Znode(_) | Self::Clients => GroupId::COORDINATION,
            Self::Keys { .. } | Self::Key { .. } => GroupId::KEY_VALUE,
        }
    }
}

/// Somebody who waits to be shown something; told nothing if there is no such thing.
pub(crate) struct Looking {
    look: Look,
    shown: oneshot::Sender<Value>,
}

impl Looking {
    /// And where it will be shown.
    pub(crate) fn at(look: Look) -> (Self, oneshot::Receiver<Value>) {
        let (shown, answer) = oneshot::channel();
        (Self { look, shown }, answer)
    }

    /// Shows it, as this node has it, if it is of the coordination service.
    pub(crate) fn show(self, tree: &Tree, server: &Server) {
        let value = match &self.look {
            Look::Znode(path) => znode(path, tree, server),
            Look::Clients => Some(clients(tree, server)),
            _ => None,
        };
        self.answer(value);
    }

    /// The same, if it is of the key/value service.
    pub(crate) fn show_store(self, store: &Store) {
        let value = match &self.look {
            Look::Keys { prefix, revision } => Some(keys::list(prefix, *revision, store)),
            Look::Key { key, revision } => Some(keys::one(key, *revision, store)),
            _ => None,
        };
        self.answer(value);
    }

    fn answer(self, value: Option<Value>) {
        if let Some(value) = value {
            let _ = self.shown.send(value); // who asked may have gone
        }
    }
}

fn znode(path: &str, tree: &Tree, server: &Server) -> Option<Value> {
    let znode = tree.znode(path)?;
    let Ok(readable) = tree.readable(path, &[anyone()]) else {
        return Some(json!({ "path": path, "hidden": true }));
    };
    let data = readable.data();
    let shown = data.map(|data| BASE64.encode(&data[..data.len().min(DATA_BYTES_MAX)]));
    let acl = readable.acl_for(&[anyone()]).unwrap_or_default();
    let watches: Vec<Value> = server.watches_at(path).take(LISTED_MAX).map(watch).collect();
    Some(json!({
        "path": path,
        "data": shown,
        "data_bytes": data.map_or(0, <[u8]>::len),
        "stat": stat(&znode.stat()),
        "holder": holder(&znode, tree),
        "acl": acl.iter().map(acl_entry).collect::<Vec<_>>(),
        "watches": watches,
        "children": children(path, &readable, tree),
        "descendants": readable.descendants(),
    }))
}

/// The newest ones, in the order of their names.
fn children(path: &str, znode: &Znode<'_>, tree: &Tree) -> Vec<Value> {
    let mut names: Vec<&str> = znode.children().take(LISTED_MAX).collect();
    names.sort_unstable();
    let base = if path == "/" { "" } else { path };
    let child = |name: &&str| {
        let stat = tree.znode(&format!("{base}/{name}")).map(|child| child.stat());
        let (children, ephemeral) =
            stat.map_or((0, false), |stat| (stat.num_children, stat.ephemeral_owner > 0));
        json!({ "name": name, "children": children, "ephemeral": ephemeral })
    };
    names.iter().map(child).collect()
}

/// The server to which the session of an ephemeral znode is attached.
fn holder(znode: &Znode<'_>, tree: &Tree) -> Option<Value> {
    let id = SessionId(znode.stat().ephemeral_owner);
    let session = tree.session(id)?;
    Some(json!({ "session": hex(id.0), "server": session.server.0 }))
}

fn stat(stat: &Stat) -> Value {
    json!({
        "czxid": hex(stat.czxid.0), "mzxid": hex(stat.mzxid.0), "pzxid": hex(stat.pzxid.0),
        "ctime": stat.ctime, "mtime": stat.mtime, "version": stat.version,
        "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeral_owner": hex(stat.ephemeral_owner), "data_length": stat.data_length,
        "num_children": stat.num_children,
    })
}

fn acl_entry(entry: &AclEntry) -> Value {
    let letters = ["r", "w", "c", "d", "a"];
    let perms: String =
        (0..5).filter(|bit| entry.perms & 1 << bit != 0).map(|bit| letters[bit]).collect();
    json!({ "perms": perms, "scheme": entry.identity.scheme, "id": entry.identity.id })
}

fn watch(watch: WatchView) -> Value {
    json!({ "kind": watch.kind, "session": watch.session.map(|session| hex(session.0)) })
}

fn clients(tree: &Tree, server: &Server) -> Value {
    let sessions = tree.sessions().take(LISTED_MAX).map(|(id, session)| {
        json!({
            "session": hex(id.0), "server": session.server.0, "timeout_ms": session.timeout_ms,
            "ephemerals": session.ephemerals(),
        })
    });
    json!({
        "sessions": sessions.collect::<Vec<_>>(),
        "sessions_total": tree.sessions().len(),
        "clients": server.clients_view().take(LISTED_MAX).map(client).collect::<Vec<_>>(),
        "clients_total": server.connections(),
    })
}

fn client(client: ClientView) -> Value {
    json!({
        "peer": client.peer.to_string(), "port": client.port,
        "session": client.session.map(|session| hex(session.0)),
        "timeout_ms": client.timeout_ms, "idle_ms": client.idle.as_millis() as u64,
        "outstanding": client.outstanding, "received": client.received, "sent": client.sent,
        "watches": client.watches, "last": client.last_operation,
        "mean_ms": client.mean_latency_ms,
    })
}

/// As ZooKeeper's own tools print ids; a number of 64 bits would lose its last digits in JavaScript.
fn hex(id: i64) -> String {
    format!("0x{id:x}")
}
