//! Bytes on their way out of a socket. The core writes at the end of each batch, at once; what the
//! socket does not take is written by a task when it can, and there is a limit to how much may wait.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use tokio::sync::Notify;

use crate::channel::Channel;

/// One connection's way out.
#[derive(Debug)]
pub(crate) struct Outbox {
    channel: Rc<Channel>,
    buffer: RefCell<BytesMut>,
    /// Beyond this many waiting bytes the other end is given up.
    limit: usize,
    /// Close once everything is out.
    closing: Cell<bool>,
    broken: Cell<bool>,
    more: Notify,
    ended: Notify,
    when_out: RefCell<Option<WhenOut>>,
}

/// Who is to be told when what was pushed until then is out.
struct WhenOut {
    /// Bytes that are still to leave.
    left: usize,
    call: Box<dyn FnOnce()>,
}

impl std::fmt::Debug for WhenOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhenOut").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Outbox {
    /// A way out, and the task that writes what has to wait.
    pub(crate) fn start(channel: Rc<Channel>, limit: usize) -> Rc<Self> {
        let outbox = Self::start_alone(channel, limit);
        let late = outbox.clone();
        tokio::task::spawn_local(async move { late.write_late().await });
        outbox
    }

    /// A way out; somebody else sees to [`write_late`](Self::write_late).
    pub(crate) fn start_alone(channel: Rc<Channel>, limit: usize) -> Rc<Self> {
        Rc::new(Self {
            channel,
            buffer: RefCell::new(BytesMut::new()),
            limit,
            closing: Cell::new(false),
            broken: Cell::new(false),
            more: Notify::new(),
            ended: Notify::new(),
            when_out: RefCell::new(None),
        })
    }

    /// Adds bytes to the batch. If more than the limit waits already, the connection is given up.
    pub(crate) fn push(&self, bytes: &[u8]) {
        if self.broken.get() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() > self.limit {
            drop(buffer);
            return self.give_up();
        }
        buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    pub(crate) fn backlog(&self) -> usize {
        self.buffer.borrow().len()
    }

    /// Calls once everything that was pushed so far is out, never if the connection is given up before.
    pub(crate) fn when_out(&self, call: impl FnOnce() + 'static) {
        *self.when_out.borrow_mut() = Some(WhenOut { left: self.backlog(), call: Box::new(call) });
        self.left(0);
    }

    /// So many bytes have left.
    fn left(&self, bytes: usize) {
        let mut when_out = self.when_out.borrow_mut();
        if let Some(waiting) = when_out.as_mut() {
            waiting.left = waiting.left.saturating_sub(bytes);
        }
        if let Some(done) = when_out.take_if(|waiting| waiting.left == 0) {
            (done.call)();
        }
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
        self.when_out.borrow_mut().take();
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
        if self.closing.get() && !self.broken.get() && self.is_out() {
            self.channel.say_goodbye();
            self.give_up();
        }
    }

    fn is_out(&self) -> bool {
        self.buffer.borrow().is_empty() && self.channel.try_flush().unwrap_or(true)
    }

    /// Returns whether everything is out.
    fn write_some(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        let written = loop {
            if buffer.is_empty() {
                break self.channel.try_flush();
            }
            match self.channel.try_write(&buffer) {
                Ok(written) => {
                    buffer.advance(written);
                    self.left(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        drop(buffer);
        written.unwrap_or_else(|_| {
            self.give_up();
            true
        })
    }

    /// Writes what had to wait, until the connection is over.
    pub(crate) async fn write_late(&self) {
        while !self.broken.get() {
            self.more.notified().await;
            while !self.broken.get() && !self.write_some() {
                if self.channel.writable().await.is_err() {
                    self.give_up();
                }
            }
            self.end_if_done();
        }
    }
}
