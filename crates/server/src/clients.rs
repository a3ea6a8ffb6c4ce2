//! Connections of ZooKeeper clients.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_zk::server::{ClientRequest, ConnectionId};
use quorate_zk::wire::framing::{Frame, Framer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::inbox::Door;
use crate::outbox::Outbox;
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

/// Takes connections of clients.
pub(crate) async fn accept(listener: TcpListener, limits: ClientLimits, door: Door<Arrival>) {
    let mut next = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                next += 1;
                tokio::task::spawn_local(attend(stream, ConnectionId(next), limits, door.clone()));
            }
            Err(error) => {
                // Most likely no more files may be open: others will be closed.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn attend(
    stream: TcpStream,
    connection: ConnectionId,
    limits: ClientLimits,
    door: Door<Arrival>,
) {
    let (Ok(peer), Ok(()), Ok(secret)) = (stream.peer_addr(), stream.set_nodelay(true), secret())
    else {
        return;
    };
    let stream = Rc::new(stream);
    let outbox = Outbox::start(stream.clone(), limits.backlog_bytes_max);
    let tap = Rc::new(Tap::default());
    let client = Client { outbox: outbox.clone(), tap: tap.clone() };
    door.push(Arrival::Connected { connection, client });
    let (peer, port) = (peer.ip(), peer.port());
    door.push(Arrival::Request(ClientRequest::Opened { connection, peer, port, secret }));
    tokio::select! {
        () = read(&stream, connection, limits.packet_bytes_max, &tap, &door) => {}
        () = outbox.ended() => {}
    }
    door.push(Arrival::Request(ClientRequest::Closed { connection }));
}

/// Sixteen bytes of the system's random source.
fn secret() -> Result<[u8; 16], getrandom::Error> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

/// Reads packets until the client closes or sends what does not make sense.
async fn read(
    stream: &TcpStream,
    connection: ConnectionId,
    packet_bytes_max: usize,
    tap: &Tap,
    door: &Door<Arrival>,
) {
    let mut framer = Framer::new(packet_bytes_max);
    let mut buffer = BytesMut::new();
    loop {
        while tap.closed.get() {
            tap.changed.notified().await;
        }
        if stream.readable().await.is_err() {
            return;
        }
        buffer.reserve(READ_BYTES);
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(Frame::Packet(packet))) => {
                    door.push(Arrival::Request(ClientRequest::Packet { connection, packet }));
                }
                Ok(Some(Frame::FourLetterWord(word))) => {
                    let request = ClientRequest::FourLetterWord { connection, word };
                    door.push(Arrival::Request(request));
                }
                Ok(None) => break,
                Err(reason) => {
                    tracing::info!(connection = connection.0, %reason, "a client's connection is closed");
                    return;
                }
            }
        }
    }
}
