//! What a client sends for one call over HTTP/2: its body, as far as it has come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use quorate_http2::StreamId;
use tokio::sync::Notify;

use super::http2::{Gone, Wire};

/// Where the connection puts what comes.
#[derive(Default)]
pub(super) struct Arriving {
    state: RefCell<State>,
    bell: Notify,
}

#[derive(Default)]
struct State {
    data: VecDeque<Bytes>,
    has_ended: bool,
    is_gone: bool,
}

impl Arriving {
    pub(super) fn data(&self, data: Bytes) {
        self.state.borrow_mut().data.push_back(data);
        self.bell.notify_one();
    }

    pub(super) fn end(&self) {
        self.state.borrow_mut().has_ended = true;
        self.bell.notify_one();
    }

    pub(super) fn gone(&self) {
        self.state.borrow_mut().is_gone = true;
        self.bell.notify_one();
    }
}

/// Where a handler takes it. The client may send on as its data is taken, so what waits is bounded by the stream's window.
pub(super) struct RequestBody {
    wire: Rc<Wire>,
    stream: StreamId,
    arriving: Rc<Arriving>,
}

impl RequestBody {
    pub(super) fn new(wire: Rc<Wire>, stream: StreamId, arriving: Rc<Arriving>) -> Self {
        Self { wire, stream, arriving }
    }

    /// What came next; `None` when the client has said all. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Gone>> {
        loop {
            {
                let mut state = self.arriving.state.borrow_mut();
                if let Some(data) = state.data.pop_front() {
                    self.wire.say().taken(self.stream, data.len());
                    return Some(Ok(data));
                }
                if state.is_gone {
                    return Some(Err(Gone));
                }
                if state.has_ended {
                    return None;
                }
            }
            self.arriving.bell.notified().await;
        }
    }
}
