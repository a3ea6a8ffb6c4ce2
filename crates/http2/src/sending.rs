//! What is sent, as far as windows allow (RFC 9113, sections 5.2 and 8.1).
//!
//! Heads, and data for which there is a window, become bytes at once. The rest waits in its stream; streams that could send take
//! turns, a frame each. While the peer does not read, no more than [`OUTPUT_BYTES`] of data leave the streams.

use bytes::Bytes;

use crate::fields::Field;
use crate::frame::{ErrorCode, FrameHead, HEAD_BYTES, flag, kind, put};
use crate::stream::{End, Stream};
use crate::{Connection, Event, StreamId};

/// Pending bytes above which data waits in its stream.
const OUTPUT_BYTES: usize = 256 << 10;
/// A buffer that grew beyond is not kept.
const KEPT_BYTES: usize = 64 << 10;

impl Connection {
    /// Bytes to be written.
    pub fn pending(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// So many of them were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.output.len() {
            self.written = 0;
            self.output.clear();
            self.output.shrink_to(KEPT_BYTES);
            self.pump();
        }
    }

    /// Bytes of data that wait for windows, of all streams.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether a stream has nothing that waits; one that is gone has not.
    pub fn has_room(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_none_or(|state| state.queue.is_empty())
    }

    /// Whether a stream is not closed.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// The fields of a response, or those of a request.
    pub fn send_head(&mut self, stream: StreamId, fields: &[Field<'_>], end: bool) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.ours_ended) else {
            return;
        };
        state.ours_ended = end;
        self.put_block(stream, fields, end);
        if end {
            self.close_if_done(stream);
        }
    }

    /// More of the body.
    pub fn send_data(&mut self, stream: StreamId, data: Bytes, end: bool) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.ours_ended) else {
            return;
        };
        self.queued_bytes += data.len();
        state.queue.push_back(data);
        if end {
            state.end = End::Plain;
        }
        self.try_to_send(stream);
    }

    /// The end of the body, and fields behind it.
    pub fn send_trailers(&mut self, stream: StreamId, fields: &[Field<'_>]) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.ours_ended) else {
            return;
        };
        if state.queue.is_empty() {
            return self.send_head(stream, fields, true);
        }
        state.end = End::trailers(fields);
    }

    /// Ends a stream at once.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if self.is_open(stream) {
            self.gone(stream, code);
            self.events.pop_back(); // who says so need not be told
            self.forget(stream, code);
        }
    }

    fn try_to_send(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if !std::mem::replace(&mut state.in_line, true) {
            self.line.push_back(stream);
        }
        self.pump();
        if let Some(state) = self.streams.get_mut(&stream) {
            state.has_waited |= !state.queue.is_empty();
        }
    }

    /// Streams take turns until there is no window or no room.
    pub(crate) fn pump(&mut self) {
        while self.output.len() - self.written < OUTPUT_BYTES
            && let Some(stream) = self.line.pop_front()
        {
            if !self.turn(stream) {
                self.line.push_front(stream);
                return;
            }
        }
    }

    /// One stream's turn. False if no stream can send now.
    fn turn(&mut self, stream: StreamId) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return true };
        let needs_window = state.queue.iter().any(|data| !data.is_empty());
        if needs_window && self.send_window <= 0 {
            return false;
        }
        if needs_window && state.send_window <= 0 {
            // Its turn comes with its window.
            state.in_line = false;
            return true;
        }
        let allowed = state.send_window.min(self.send_window).max(0) as usize;
        let sent = put_data(stream, state, allowed.min(self.peer.payload_max), &mut self.output);
        state.send_window -= sent as i64;
        self.send_window -= sent as i64;
        self.queued_bytes -= sent;
        if !state.queue.is_empty() {
            self.line.push_back(stream);
            return true;
        }
        state.in_line = false;
        self.emptied(stream);
        true
    }

    /// All data of a stream has been sent.
    fn emptied(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if std::mem::take(&mut state.has_waited) {
            self.events.push_back(Event::Room { stream });
        }
        match std::mem::replace(&mut state.end, End::Open) {
            End::Open => {}
            End::Plain => {
                state.ours_ended = true;
                self.close_if_done(stream);
            }
            End::Trailers(fields) => {
                let fields: Vec<Field<'_>> = fields
                    .iter()
                    .map(|(name, value, keep)| Field { name, value, keep: *keep })
                    .collect();
                self.send_head(stream, &fields, true);
            }
        }
    }

    /// A block of headers, in as many frames as it needs.
    fn put_block(&mut self, stream: StreamId, fields: &[Field<'_>], end: bool) {
        let head_at = self.output.len();
        self.output.extend_from_slice(&[0; HEAD_BYTES]);
        self.encoder.encode(fields, &mut self.output);
        let length = self.output.len() - head_at - HEAD_BYTES;
        let end_stream = if end { flag::END_STREAM } else { 0 };
        if length <= self.peer.payload_max {
            let flags = flag::END_HEADERS | end_stream;
            let head = FrameHead { length, kind: kind::HEADERS, flags, stream };
            self.output[head_at..head_at + HEAD_BYTES].copy_from_slice(&head.write());
            return;
        }
        let block = self.output.split_off(head_at + HEAD_BYTES);
        self.output.truncate(head_at);
        let parts = block.chunks(self.peer.payload_max);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            let (kind, first) =
                if number == 0 { (kind::HEADERS, end_stream) } else { (kind::CONTINUATION, 0) };
            let flags = first | if number == last { flag::END_HEADERS } else { 0 };
            put(kind, flags, stream, part, &mut self.output);
        }
    }
}

/// One frame with as much of a stream's data as it may have; how many bytes that was. The stream's end is in it, if that is next.
fn put_data(stream: StreamId, state: &mut Stream, allowed: usize, out: &mut Vec<u8>) -> usize {
    let Some(mut data) = state.queue.pop_front() else { return 0 };
    let now = data.split_to(data.len().min(allowed));
    if !data.is_empty() {
        state.queue.push_front(data);
    }
    let is_last = state.queue.is_empty() && matches!(state.end, End::Plain);
    put(kind::DATA, if is_last { flag::END_STREAM } else { 0 }, stream, &now, out);
    now.len()
}
