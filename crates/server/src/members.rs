//! Connections between members.
//!
//! Each member dials every other one and only writes on that connection; it reads from those that it
//! accepted. So there is nothing to agree on when two dial each other at once, and a dead process is
//! noticed by the close of what it had dialled.
//!
//! ```text
//! hello    "QRTM" | version 4 | cluster 8 | node 8 | incarnation 8 | to node 8
//! frame    bytes 4 | CRC-32C 4 | group 8 | message
//! ```
//!
//! Not here yet: a shared secret or mutual TLS for members that are not on loopback.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quorate_contracts::{
    GroupId, Incarnation, Malformed, NodeId, Random, Wire, WireReader, WireWriter,
};
use quorate_storage::Identity;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::data_dir::DataDir;
use crate::inbox::{Inbox, Incoming};
use crate::outbox::Outbox;

const MAGIC: &[u8; 4] = b"QRTM";
const VERSION: u32 = 1;
const HELLO_BYTES: usize = 40;
const FRAME_HEADER_BYTES: usize = 16;
/// More than the largest append with the largest entry.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// What may wait for a member that does not read; beyond, messages are lost, as they may be.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// The other members, and the ways to them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    ways: BTreeMap<NodeId, Rc<Way>>,
    packets_sent: Cell<u64>,
}

/// The way to one member.
#[derive(Debug)]
struct Way {
    outbox: std::cell::RefCell<Option<Rc<Outbox>>>,
}

impl Members {
    /// Dials all other members, and goes on dialling.
    pub(crate) fn dial(
        identity: Identity,
        addresses: impl IntoIterator<Item = (NodeId, String)>,
        seed: u64,
    ) -> Self {
        let mut members = Self::default();
        for (node, address) in addresses {
            let way = Rc::new(Way { outbox: std::cell::RefCell::new(None) });
            let random = Random::new(seed ^ node.0);
            tokio::task::spawn_local(keep_dialling(identity, node, address, way.clone(), random));
            members.ways.insert(node, way);
        }
        members
    }

    /// Adds a message to the batch for a member; it is lost if there is no connection.
    pub(crate) fn push(&self, to: NodeId, group: GroupId, message: &impl Wire) {
        let Some(way) = self.ways.get(&to) else { return };
        if let Some(outbox) = &*way.outbox.borrow() {
            outbox.push(&frame(group, message));
        }
    }

    /// The batch leaves.
    pub(crate) fn flush(&self) {
        for way in self.ways.values() {
            if let Some(outbox) = &*way.outbox.borrow()
                && outbox.backlog() > 0
            {
                self.packets_sent.set(self.packets_sent.get() + 1);
                outbox.flush();
            }
        }
    }

    /// Packets that left since the start: a batch for one member is one.
    pub(crate) fn packets_sent(&self) -> u64 {
        self.packets_sent.get()
    }
}

fn frame(group: GroupId, message: &impl Wire) -> Bytes {
    let mut out = WireWriter::with_capacity(256);
    out.u64(group.0);
    message.encode(&mut out);
    let body = out.finish();
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// Dials a member whenever there is no connection. Its name is looked up anew each time.
async fn keep_dialling(
    identity: Identity,
    to: NodeId,
    address: String,
    way: Rc<Way>,
    mut random: Random,
) {
    loop {
        if let Ok(stream) = dial(identity, to, &address).await {
            let stream = Rc::new(stream);
            let outbox = Outbox::start(stream.clone(), BACKLOG_BYTES_MAX);
            *way.outbox.borrow_mut() = Some(outbox.clone());
            tokio::select! {
                () = outbox.ended() => {}
                () = closed(&stream) => {}
            }
            outbox.give_up();
            *way.outbox.borrow_mut() = None;
        }
        tokio::time::sleep(Duration::from_millis(random.between(20, 100))).await;
    }
}

async fn dial(identity: Identity, to: NodeId, address: &str) -> io::Result<TcpStream> {
    let connect = TcpStream::connect(address);
    let stream =
        tokio::time::timeout(HELLO_PATIENCE, connect).await.map_err(io::Error::other)??;
    stream.set_nodelay(true)?;
    let mut hello = BytesMut::with_capacity(HELLO_BYTES);
    hello.extend_from_slice(MAGIC);
    hello.extend_from_slice(&VERSION.to_be_bytes());
    for word in [identity.cluster.0, identity.node.0, identity.incarnation.0, to.0] {
        hello.extend_from_slice(&word.to_be_bytes());
    }
    while !hello.is_empty() {
        stream.writable().await?;
        match stream.try_write(&hello) {
            Ok(written) => hello.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stream)
}

/// Returns when the other end has closed; it never says anything.
async fn closed(stream: &TcpStream) {
    let mut byte = [0; 1];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// A connection that a member dialled, as the loop sees it.
#[derive(Debug)]
pub(crate) struct Line {
    member: NodeId,
    refused: Cell<Option<Malformed>>,
    over: Notify,
}

impl Line {
    /// Who is at the other end.
    pub(crate) fn member(&self) -> NodeId {
        self.member
    }

    /// It said what does not read: the connection ends, and nothing else (RPC-7).
    pub(crate) fn refuse(&self, reason: Malformed) {
        self.refused.set(Some(reason));
        self.over.notify_one();
    }
}

/// Takes connections of other members.
pub(crate) async fn accept(
    listener: TcpListener,
    data_dir: Rc<DataDir>,
    members: Rc<Vec<NodeId>>,
    inbox: Inbox,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (data_dir, members, inbox) = (data_dir.clone(), members.clone(), inbox.clone());
                tokio::task::spawn_local(async move {
                    if let Err(reason) = listen_to(stream, &data_dir, &members, &inbox).await {
                        tracing::warn!(%peer, %reason, "a member's connection is closed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a member");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Why a member's connection is closed.
#[derive(Debug, Error)]
enum Refused {
    #[error("it did not say hello: {0}")]
    Silent(io::Error),
    #[error("it does not speak our protocol")]
    Stranger,
    #[error("it speaks version {0} of the protocol; this build speaks {VERSION}")]
    Version(u32),
    #[error("it is of another cluster ({0:x})")]
    OtherCluster(u64),
    #[error("it is {0}, which is no other member, or it looks for another one than this")]
    NotAMember(NodeId),
    #[error(
        "{0} has come back with an empty or foreign data directory ({1}); it must be removed and added again"
    )]
    Reborn(NodeId, Incarnation),
    #[error("its message is damaged: {0}")]
    Malformed(&'static str),
    #[error("cannot remember it: {0}")]
    Io(io::Error),
}

async fn listen_to(
    mut stream: TcpStream,
    data_dir: &DataDir,
    members: &[NodeId],
    inbox: &Inbox,
) -> Result<(), Refused> {
    let mut hello = [0; HELLO_BYTES];
    let read = tokio::time::timeout(HELLO_PATIENCE, stream.read_exact(&mut hello)).await;
    read.map_err(io::Error::other).and_then(|read| read).map_err(Refused::Silent)?;
    let member = check_hello(&hello, data_dir, members)?;
    let line = Rc::new(Line { member, refused: Cell::new(None), over: Notify::new() });
    let result = tokio::select! {
        result = read_frames(stream, &line, inbox) => result,
        () = line.over.notified() => Ok(()),
    };
    inbox.push(Incoming::MemberLost(member));
    match line.refused.get() {
        Some(Malformed(reason)) => Err(Refused::Malformed(reason)),
        None => result,
    }
}

/// Takes what a member says until it closes, or says what does not make sense.
async fn read_frames(mut stream: TcpStream, line: &Rc<Line>, inbox: &Inbox) -> Result<(), Refused> {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => take_frames(&mut buffer, line, inbox)?,
        }
    }
}

fn check_hello(
    hello: &[u8; HELLO_BYTES],
    data_dir: &DataDir,
    members: &[NodeId],
) -> Result<NodeId, Refused> {
    if &hello[..4] != MAGIC {
        return Err(Refused::Stranger);
    }
    let version = u32::from_be_bytes([hello[4], hello[5], hello[6], hello[7]]);
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let mut input = WireReader::from_slice(&hello[8..]);
    let mut word = || input.u64().unwrap_or_default();
    let (cluster, from) = (word(), NodeId(word()));
    let (incarnation, to) = (Incarnation(word()), NodeId(word()));
    let own = data_dir.identity();
    if cluster != own.cluster.0 {
        return Err(Refused::OtherCluster(cluster));
    }
    if to != own.node || from == own.node || !members.contains(&from) {
        return Err(Refused::NotAMember(from));
    }
    match data_dir.knows_peer(from, incarnation) {
        Ok(true) => Ok(from),
        Ok(false) => Err(Refused::Reborn(from, incarnation)),
        Err(error) => Err(Refused::Io(error)),
    }
}

fn take_frames(buffer: &mut BytesMut, line: &Rc<Line>, inbox: &Inbox) -> Result<(), Refused> {
    while let Some(head) = buffer.first_chunk::<FRAME_HEADER_BYTES>() {
        let mut input = WireReader::from_slice(head);
        let (Ok(length), Ok(checksum)) = (input.u32(), input.u32()) else { return Ok(()) };
        let length = length as usize;
        if !(8..=FRAME_BYTES_MAX).contains(&length) {
            return Err(Refused::Malformed("its length is out of range"));
        }
        if buffer.len() < 8 + length {
            buffer.reserve(8 + length - buffer.len());
            return Ok(());
        }
        buffer.advance(8);
        let mut body = buffer.split_to(length).freeze();
        if crc32c::crc32c(&body) != checksum {
            return Err(Refused::Malformed("it fails its checksum"));
        }
        let group = GroupId(body.get_u64());
        inbox.push(Incoming::Message { line: line.clone(), group, body });
    }
    Ok(())
}
