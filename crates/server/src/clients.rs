//! Connections of ZooKeeper clients.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_zk::server::{ClientRequest, ConnectionId};
use quorate_zk::wire::framing::{Frame, Framer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::channel::Channel;
use crate::inbox::Door;
use crate::outbox::Outbox;
use crate::tls::renewal::Renewed;
use crate::tls::subject;
use crate::zookeeper::Arrival;

/// How much is read at once, and how much may wait to be cut beyond one packet.
const READ_BYTES: usize = 16 << 10;
/// A client whose connection ends gets this long to take what was written.
const LINGER: Duration = Duration::from_secs(5);

/// The core's handle on one client.
#[derive(Debug)]
pub(crate) struct Client {
    outbox: Rc<Outbox>,
    tap: Rc<Tap>,
}

/// Whether the connection is read from.
#[derive(Debug, Default)]
struct Tap {
    closed: Cell<bool>,
    changed: Notify,
}

impl Client {
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.outbox.push(bytes);
    }

    pub(crate) fn flush(&self) {
        self.outbox.flush();
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.tap.closed.set(paused);
        self.tap.changed.notify_one();
    }

    /// Calls once everything that was pushed so far is out.
    pub(crate) fn when_out(&self, call: impl FnOnce() + 'static) {
        self.outbox.when_out(call);
    }

    /// Whether something that was written has not left yet.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.outbox.backlog() > 0
    }

    /// The connection ends, after what was written; a client that does not take it is not waited for.
    pub(crate) fn end(self) {
        self.outbox.flush();
        self.outbox.close();
        if !self.outbox.is_broken() {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LINGER).await;
                self.outbox.give_up();
            });
        }
    }
}

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    pub(crate) packet_bytes_max: usize,
    pub(crate) backlog_bytes_max: usize,
}

/// Where clients come in. All doors of a node number their connections together, and share the limit of how many
/// there may be.
#[derive(Clone)]
pub(crate) struct Reception {
    limits: ClientLimits,
    door: Door<Arrival>,
    numbered: Rc<Cell<u64>>,
    places: Arc<Semaphore>,
}

/// How long a client may take for its TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

impl Reception {
    /// Takes as many clients at once as `connections_max`; 0 is no limit.
    pub(crate) fn new(limits: ClientLimits, connections_max: usize, door: Door<Arrival>) -> Self {
        let places = match connections_max {
            0 => Semaphore::MAX_PERMITS,
            limit => limit.min(Semaphore::MAX_PERMITS),
        };
        Self { limits, door, numbered: Rc::default(), places: Arc::new(Semaphore::new(places)) }
    }

    /// Takes connections, through TLS where it is given. At the limit nobody new is attended to: who
    /// knocks waits, most of them in the kernel's queue, until somebody leaves.
    pub(crate) async fn accept(self, listener: TcpListener, tls: Option<Renewed<ServerConfig>>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(place) = self.places.clone().acquire_owned().await else { return };
                    let (reception, tls) = (self.clone(), tls.clone());
                    tokio::task::spawn_local(async move {
                        reception.welcome(stream, tls).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Most likely no more files may be open: others will be closed.
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, tls: Option<Renewed<ServerConfig>>) {
        let (Ok(peer), Ok(())) = (stream.peer_addr(), stream.set_nodelay(true)) else { return };
        let channel = match tls {
            None => Ok(Channel::plain(stream)),
            Some(tls) => {
                let shaken = Channel::accept(stream, tls.current());
                let shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, shaken).await;
                shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            }
        };
        match channel {
            Ok(channel) => self.attend(channel, peer).await,
            Err(reason) => tracing::info!(%peer, %reason, "no TLS with a client"),
        }
    }

    async fn attend(&self, channel: Channel, peer: SocketAddr) {
        let Ok(secret) = secret() else { return };
        let certificate = channel.peer_certificate().and_then(|shown| subject(&shown));
        let connection = ConnectionId(self.numbered.get() + 1);
        self.numbered.set(connection.0);
        let channel = Rc::new(channel);
        let outbox = Outbox::start(channel.clone(), self.limits.backlog_bytes_max);
        let tap = Rc::new(Tap::default());
        let client = Client { outbox: outbox.clone(), tap: tap.clone() };
        self.door.push(Arrival::Connected { connection, client });
        let (peer, port) = (peer.ip(), peer.port());
        let opened = ClientRequest::Opened { connection, peer, port, secret, certificate };
        self.door.push(Arrival::Request(opened));
        let reader = Reader { channel: &channel, connection, tap: &tap, door: &self.door };
        tokio::select! {
            () = reader.read(self.limits.packet_bytes_max) => {}
            () = outbox.ended() => {}
        }
        self.door.push(Arrival::Request(ClientRequest::Closed { connection }));
    }
}

/// Sixteen bytes of the system's random source.
fn secret() -> Result<[u8; 16], getrandom::Error> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

/// One client's way in.
struct Reader<'a> {
    channel: &'a Channel,
    connection: ConnectionId,
    tap: &'a Tap,
    door: &'a Door<Arrival>,
}

impl Reader<'_> {
    /// Reads packets until the client closes or sends what does not make sense.
    async fn read(&self, packet_bytes_max: usize) {
        let mut framer = Framer::new(packet_bytes_max);
        let mut buffer = BytesMut::new();
        let mut more = false;
        loop {
            // Nothing is read from a client that the service told to wait.
            while self.tap.closed.get() {
                self.tap.changed.notified().await;
            }
            if more {
                tokio::task::coop::consume_budget().await;
            } else if self.channel.readable().await.is_err() {
                return;
            }
            buffer.reserve(READ_BYTES);
            match self.channel.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => more = self.channel.may_hold_more(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    // Who is silent holds no memory for it.
                    if buffer.is_empty() {
                        buffer = BytesMut::new();
                    }
                    continue;
                }
                Err(_) => return,
            }
            if !self.take_packets(&mut framer, &mut buffer) {
                return;
            }
        }
    }

    /// Returns whether the client makes sense so far.
    fn take_packets(&self, framer: &mut Framer, buffer: &mut BytesMut) -> bool {
        let connection = self.connection;
        loop {
            let request = match framer.next(buffer) {
                Ok(Some(Frame::Packet(packet))) => ClientRequest::Packet { connection, packet },
                Ok(Some(Frame::FourLetterWord(word))) => {
                    ClientRequest::FourLetterWord { connection, word, by_administrator: false }
                }
                Ok(None) => return true,
                Err(reason) => {
                    tracing::info!(connection = connection.0, %reason, "a client's connection is closed");
                    return false;
                }
            };
            self.door.push(Arrival::Request(request));
        }
    }
}
