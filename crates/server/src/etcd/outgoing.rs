//! What is sent for one call of gRPC over HTTP/2.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use quorate_etcd::grpc::{DONE_BEFORE_KEY, Status, escape, frame};
use quorate_http2::{Field, StreamId};
use tokio::sync::Notify;

use super::grpc::Reply;
use super::http2::{Gone, Wire};

const OK: Field<'static> = Field::new(":status", b"200");
const GRPC: Field<'static> = Field::new("content-type", b"application/grpc");
const GOOD: Field<'static> = Field::new("grpc-status", b"0");

/// Answers a call that has one reply.
pub(super) fn reply(wire: &Wire, stream: StreamId, reply: Result<Reply, Status>) {
    match reply {
        Ok(Reply { message, done_before }) => {
            let head = [OK, GRPC, Field::new(DONE_BEFORE_KEY, b"1")];
            let fields = if done_before { 3 } else { 2 };
            let mut http = wire.say();
            http.send_head(stream, &head[..fields], false);
            http.send_data(stream, frame(&message), false);
            http.send_trailers(stream, &[GOOD]);
        }
        Err(status) => refuse(wire, stream, &status),
    }
}

/// A refusal is a head that is the end as well.
fn refuse(wire: &Wire, stream: StreamId, status: &Status) {
    with_status(status, |code, text| wire.say().send_head(stream, &[OK, GRPC, code, text], true));
}

fn with_status(status: &Status, send: impl FnOnce(Field<'_>, Field<'_>)) {
    let mut code = String::new();
    let _ = write!(code, "{}", status.code as u16);
    let text = escape(&status.message);
    send(Field::new("grpc-status", code.as_bytes()), Field::once("grpc-message", text.as_bytes()));
}

/// The stream of replies to one call. Dropped, it ends well.
pub(super) struct Outgoing {
    wire: Rc<Wire>,
    stream: StreamId,
    bell: Rc<Notify>,
    begun: Cell<bool>,
}

impl Outgoing {
    pub(super) fn new(wire: Rc<Wire>, stream: StreamId) -> Self {
        Self { bell: wire.listen(stream), wire, stream, begun: Cell::new(false) }
    }

    /// There will be replies: their head can go.
    pub(super) fn begin(&self) {
        if !self.begun.replace(true) {
            self.wire.say().send_head(self.stream, &[OK, GRPC], false);
        }
    }

    /// Answers with one reply.
    pub(super) fn reply(self, with: Result<Reply, Status>) {
        self.begun.set(false);
        reply(&self.wire, self.stream, with);
    }

    /// A message. Waits while the client does not read.
    pub(super) async fn send(&self, message: &[u8]) -> Result<(), Gone> {
        self.send_piece(frame(message)).await
    }

    /// A message, which waits itself while the client does not read. Whether it has left.
    pub(super) fn put(&self, message: &[u8]) -> bool {
        self.begin();
        let mut http = self.wire.say();
        http.send_data(self.stream, frame(message), false);
        http.has_room(self.stream)
    }

    /// Whether nothing waits.
    pub(super) fn has_room(&self) -> bool {
        self.wire.ask().has_room(self.stream)
    }

    /// Whether the client is still there.
    pub(super) fn is_open(&self) -> bool {
        self.wire.ask().is_open(self.stream)
    }

    /// Waits until there is room after there was none, or until the client has gone.
    pub(super) async fn change(&self) {
        self.bell.notified().await;
    }

    /// A piece of a message that is framed already.
    pub(super) async fn send_piece(&self, piece: Bytes) -> Result<(), Gone> {
        self.begin();
        self.wire.say().send_data(self.stream, piece, false);
        self.wire.left(self.stream, &self.bell).await
    }

    /// The end, which is not good.
    pub(super) fn fail(&self, status: &Status) {
        if self.begun.replace(false) {
            with_status(status, |code, text| {
                self.wire.say().send_trailers(self.stream, &[code, text])
            });
        } else {
            refuse(&self.wire, self.stream, status);
        }
        self.wire.ring(self.stream);
    }

    /// Waits until the client has gone.
    pub(super) async fn closed(&self) {
        self.wire.gone(self.stream, &self.bell).await;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.begun.get() {
            self.wire.say().send_trailers(self.stream, &[GOOD]);
        }
        self.wire.listen_no_more(self.stream);
    }
}
