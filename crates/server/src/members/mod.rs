//! Connections between members.
//!
//! Each member dials every other one and only writes on that connection; it reads from those that it
//! accepted. So there is nothing to agree on when two dial each other at once, and a dead process is
//! noticed by the close of what it had dialled.
//!
//! ```text
//! hello    "QRTM" | version 4 | cluster 8 | node 8 | incarnation 8 | to node 8        (`hello`, with the secret)
//! frame    bytes 4 | CRC-32C 4 | group 8 | message
//! ```
//!
//! A connection on which nothing needs to be said says a little now and then, and one on which nothing is heard for
//! an election timeout is taken for lost: so a member whose host vanished is noticed by groups that sleep, at the cost
//! of one packet for all of them (RAFT-23).
//!
//! | file | what it does |
//! | --- | --- |
//! | here | the ways to other members, and what waits on them |
//! | `hello` | who is let in: identity, shared secret |
//! | `line` | what other members say |

mod hello;
mod line;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quorate_contracts::{GroupId, NodeId, Random, Wire, WireWriter};
use quorate_roster::Roster;
use quorate_storage::Identity;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::outbox::Outbox;
use crate::tls::renewal::Renewed;
pub(crate) use hello::Secret;
pub(crate) use line::{Acceptor, Line};

/// What may wait for a member that does not read; beyond, messages are lost, as they may be.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// A frame for this number says that the sender is there, and nothing else.
const SIGN_OF_LIFE: GroupId = GroupId(u64::MAX - 1);
/// Signs of life in the time after which silence is a loss.
const SIGNS_OF_LIFE: u32 = 4;
/// How long the other end may take to say hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that ends so soon was refused ...
const REFUSED_WITHIN: Duration = Duration::from_millis(200);
/// ... and so often the wait until the next one doubles.
const REFUSALS_MAX: u32 = 3;

/// How members make sure of each other, besides the identities of their data directories (RPC-8).
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// A secret that all members know.
    pub(crate) secret: Option<Secret>,
    /// Mutual TLS: what to accept with, and what to dial with.
    pub(crate) tls: Option<(Renewed<ServerConfig>, Renewed<ClientConfig>)>,
}

impl Trust {
    /// Whether anybody is believed who knows the identities.
    pub(crate) fn is_blind(&self) -> bool {
        self.secret.is_none() && self.tls.is_none()
    }
}

/// The members, as this node knows them by now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    let_in: Rc<RefCell<BTreeSet<NodeId>>>,
    roster: Rc<RefCell<Roster>>,
}

impl Known {
    /// These are let in, and nobody else: the members, and for a while those who left.
    pub(crate) fn let_in(&self, members: impl IntoIterator<Item = NodeId>) {
        *self.let_in.borrow_mut() = members.into_iter().collect();
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.let_in.borrow().contains(&node)
    }

    /// This is the list of them.
    pub(crate) fn list(&self, roster: &Roster) {
        self.roster.borrow_mut().clone_from(roster);
    }

    /// The list of them.
    pub(crate) fn roster(&self) -> Roster {
        self.roster.borrow().clone()
    }
}

/// The other members, and the ways to them.
pub(crate) struct Members {
    identity: Identity,
    trust: Trust,
    seed: u64,
    ways: Ways,
    packets_sent: Rc<Cell<u64>>,
}

type Ways = Rc<RefCell<BTreeMap<NodeId, Rc<Way>>>>;

/// The way to one member.
#[derive(Debug)]
struct Way {
    address: String,
    outbox: RefCell<Option<Rc<Outbox>>>,
    /// Something was said since the last look.
    used: Cell<bool>,
    /// Nobody is to be found there any more.
    closed: Notify,
}

impl Members {
    /// Nobody yet. After so much silence others would take this node for lost.
    pub(crate) fn new(identity: Identity, trust: Trust, silence: Duration, seed: u64) -> Self {
        let (ways, packets_sent) = (Ways::default(), Rc::new(Cell::new(0)));
        let every = silence / SIGNS_OF_LIFE;
        tokio::task::spawn_local(give_signs_of_life(ways.clone(), every, packets_sent.clone()));
        Self { identity, trust, seed, ways, packets_sent }
    }

    /// Dials these from now on, and nobody else; this node itself is left out.
    pub(crate) fn dial(&self, mut addresses: BTreeMap<NodeId, String>) {
        addresses.remove(&self.identity.node);
        self.ways.borrow_mut().retain(|to, way| {
            let stays = addresses.get(to) == Some(&way.address);
            if !stays {
                way.closed.notify_one();
            }
            stays
        });
        for (to, address) in addresses {
            self.ways.borrow_mut().entry(to).or_insert_with(|| self.way(to, address));
        }
    }

    fn way(&self, to: NodeId, address: String) -> Rc<Way> {
        let way = Rc::new(Way {
            address: address.clone(),
            outbox: RefCell::default(),
            used: Cell::default(),
            closed: Notify::new(),
        });
        let (identity, trust) = (self.identity, self.trust.clone());
        let dialler = Dialler { identity, to, address, trust };
        let (random, dialled) = (Random::new(self.seed ^ to.0), way.clone());
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = dialler.keep_dialling(&dialled, random) => {}
                () = dialled.closed.notified() => {}
            }
            if let Some(outbox) = dialled.outbox.borrow_mut().take() {
                outbox.give_up();
            }
        });
        way
    }

    /// Who is dialled, and where.
    pub(crate) fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.ways.borrow().iter().map(|(to, way)| (*to, way.address.clone())).collect()
    }

    /// Those to whom there is a connection.
    pub(crate) fn connected(&self) -> BTreeSet<NodeId> {
        let ways = self.ways.borrow();
        let open = ways.iter().filter(|(_, way)| way.outbox.borrow().is_some());
        open.map(|(to, _)| *to).collect()
    }

    /// Adds a message to the batch for a member; it is lost if there is no connection.
    pub(crate) fn push(&self, to: NodeId, group: GroupId, message: &impl Wire) {
        let ways = self.ways.borrow();
        let Some(way) = ways.get(&to) else { return };
        if let Some(outbox) = &*way.outbox.borrow() {
            outbox.push(&frame(group, message));
        }
    }

    /// The batch leaves.
    pub(crate) fn flush(&self) {
        for way in self.ways.borrow().values() {
            if let Some(outbox) = &*way.outbox.borrow()
                && outbox.backlog() > 0
            {
                self.packets_sent.set(self.packets_sent.get() + 1);
                way.used.set(true);
                outbox.flush();
            }
        }
    }

    /// Packets that left since the start: a batch for one member is one.
    pub(crate) fn packets_sent(&self) -> u64 {
        self.packets_sent.get()
    }
}

/// Says on each way that has been silent that this member is there.
async fn give_signs_of_life(ways: Ways, every: Duration, packets_sent: Rc<Cell<u64>>) {
    let sign = framed(&SIGN_OF_LIFE.0.to_be_bytes());
    loop {
        tokio::time::sleep(every).await;
        for way in ways.borrow().values().filter(|way| !way.used.replace(false)) {
            if let Some(outbox) = &*way.outbox.borrow() {
                packets_sent.set(packets_sent.get() + 1);
                outbox.push(&sign);
                outbox.flush();
            }
        }
    }
}

fn frame(group: GroupId, message: &impl Wire) -> Bytes {
    let mut out = WireWriter::with_capacity(256);
    out.u64(group.0);
    message.encode(&mut out);
    framed(&out.finish())
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    frame.extend_from_slice(body);
    frame.freeze()
}

/// Who dials one member.
struct Dialler {
    identity: Identity,
    to: NodeId,
    address: String,
    trust: Trust,
}

impl Dialler {
    /// Dials the member whenever there is no connection. Its name is looked up anew each time.
    async fn keep_dialling(self, way: &Way, mut random: Random) {
        let mut said = None;
        let mut refused = 0;
        loop {
            let dialled = tokio::time::timeout(HELLO_PATIENCE, self.dial()).await;
            match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(channel) => {
                    said = None;
                    let begun = Instant::now();
                    use_until_closed(Rc::new(channel), way).await;
                    let at_once = begun.elapsed() < REFUSED_WITHIN;
                    refused = if at_once { refused + 1 } else { 0 };
                }
                // A member that is down is no news; one that is there and cannot be trusted is, once.
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData && said != Some(error.kind()) {
                        tracing::warn!(member = %self.to, address = self.address, %error, "no trust in a member");
                    }
                    said = Some(error.kind());
                }
            }
            // Who does not let this node in is asked more and more seldom.
            let patience = 1 << refused.min(REFUSALS_MAX);
            tokio::time::sleep(Duration::from_millis(patience * random.between(20, 100))).await;
        }
    }

    async fn dial(&self) -> io::Result<Channel> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let channel = match &self.trust.tls {
            None => Channel::plain(stream),
            Some((_, config)) => {
                let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
                let name = host.trim_start_matches('[').trim_end_matches(']').to_string();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                Channel::connect(stream, config.current(), name).await?
            }
        };
        hello::say(&channel, self.identity, self.to, self.trust.secret.as_ref()).await?;
        Ok(channel)
    }
}

async fn use_until_closed(channel: Rc<Channel>, way: &Way) {
    let outbox = Outbox::start(channel.clone(), BACKLOG_BYTES_MAX);
    *way.outbox.borrow_mut() = Some(outbox.clone());
    tokio::select! {
        () = outbox.ended() => {}
        () = closed(&channel) => {}
    }
    outbox.give_up();
    *way.outbox.borrow_mut() = None;
}

/// Returns when the other end has closed; it says nothing after the hello.
async fn closed(channel: &Channel) {
    loop {
        let mut nothing = BytesMut::with_capacity(1);
        match channel.try_read(&mut nothing) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if channel.readable().await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
