//! Bytes on their way out of a socket. The core writes at the end of each batch, at once; what the
//! socket does not take is written by a task when it can, and there is a limit to how much may wait.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// One connection's way out.
#[derive(Debug)]
pub(crate) struct Outbox {
    stream: Rc<TcpStream>,
    buffer: RefCell<BytesMut>,
    /// Beyond this many waiting bytes the other end is given up.
    limit: usize,
    /// Close once everything is out.
    closing: Cell<bool>,
    broken: Cell<bool>,
    more: Notify,
    ended: Notify,
}

impl Outbox {
    /// A way out, and the task that writes what has to wait.
    pub(crate) fn start(stream: Rc<TcpStream>, limit: usize) -> Rc<Self> {
        let outbox = Rc::new(Self {
            stream,
            buffer: RefCell::new(BytesMut::new()),
            limit,
            closing: Cell::new(false),
            broken: Cell::new(false),
            more: Notify::new(),
            ended: Notify::new(),
        });
        tokio::task::spawn_local(Self::write_late(outbox.clone()));
        outbox
    }

    /// Adds bytes to the batch. Beyond the limit, the connection is given up.
    pub(crate) fn push(&self, bytes: &[u8]) {
        if self.broken.get() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() + bytes.len() > self.limit {
            drop(buffer);
            return self.give_up();
        }
        buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    pub(crate) fn backlog(&self) -> usize {
        self.buffer.borrow().len()
    }

    /// Writes what the socket takes now; the rest follows when it can.
    pub(crate) fn flush(&self) {
        if !self.broken.get() && !self.write_some() {
            self.more.notify_one();
        }
        self.end_if_done();
    }

    /// Closes the connection once everything is out.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.end_if_done();
    }

    /// Gives up the connection at once.
    pub(crate) fn give_up(&self) {
        self.broken.set(true);
        self.buffer.borrow_mut().clear();
        self.more.notify_one();
        self.ended.notify_waiters();
        self.ended.notify_one();
    }

    /// Whether the connection was given up.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Returns when the connection is over from this side.
    pub(crate) async fn ended(&self) {
        if !self.broken.get() {
            self.ended.notified().await;
        }
    }

    fn end_if_done(&self) {
        if self.closing.get() && self.buffer.borrow().is_empty() {
            self.give_up();
        }
    }

    /// Returns whether everything is out.
    fn write_some(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        while !buffer.is_empty() {
            match self.stream.try_write(&buffer) {
                Ok(written) => buffer.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    drop(buffer);
                    self.give_up();
                    return true;
                }
            }
        }
        true
    }

    async fn write_late(outbox: Rc<Self>) {
        while !outbox.broken.get() {
            outbox.more.notified().await;
            while !outbox.broken.get() && outbox.backlog() > 0 {
                if outbox.stream.writable().await.is_err() {
                    outbox.give_up();
                } else if outbox.write_some() {
                    outbox.end_if_done();
                }
            }
        }
    }
}
