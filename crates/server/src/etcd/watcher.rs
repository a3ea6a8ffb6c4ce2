//! A client that watches over gRPC: what it is told goes straight into its connection, for thousands may be told the same at once.

use std::cell::Cell;

use prost::Message;
use quorate_etcd::Refusal;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{ClientRequest, StreamId};

use super::front::Arrival;
use super::outgoing::Outgoing;
use crate::inbox::Door;

/// The service hears that bytes have left when there are so many; it lets sixteen times as many be on their way.
const REPORTED_BYTES: usize = 64 << 10;

/// One stream of watches.
pub(crate) struct Watcher {
    out: Outgoing,
    stream: StreamId,
    door: Door<Arrival>,
    /// Bytes that have left, of which the service has not heard.
    left: Cell<usize>,
    /// Bytes that wait for the client to read.
    waiting: Cell<usize>,
}

impl Watcher {
    pub(super) fn new(out: Outgoing, stream: StreamId, door: Door<Arrival>) -> Self {
        out.begin();
        Self { out, stream, door, left: Cell::new(0), waiting: Cell::new(0) }
    }

    /// What the client is told, and what that comes to for the service.
    pub(super) fn hear(&self, response: &pb::WatchResponse, bytes: usize) {
        self.waiting.set(self.waiting.get() + bytes);
        if self.out.put(&response.encode_to_vec()) {
            self.has_left();
        }
    }

    /// The service ends it.
    pub(super) fn end(&self, refusal: Refusal) {
        self.fail(&refusal.into());
    }

    pub(super) fn fail(&self, status: &Status) {
        self.out.fail(status);
    }

    fn has_left(&self) {
        let left = self.left.get() + self.waiting.take();
        if left < REPORTED_BYTES {
            return self.left.set(left);
        }
        self.left.set(0);
        let (stream, bytes) = (self.stream, left);
        self.door.push(Arrival::Asked(ClientRequest::WatchSent { stream, bytes }));
    }

    /// Lets the service know as the client reads, until that has gone. May be given up at any time.
    pub(super) async fn reads(&self) {
        while self.out.is_open() {
            if self.waiting.get() > 0 && self.out.has_room() {
                self.has_left();
            }
            self.out.change().await;
        }
    }
}
