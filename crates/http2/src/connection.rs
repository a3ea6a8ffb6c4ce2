//! What came, frame by frame (RFC 9113, sections 3.4, 5 and 6).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::StreamId;
use crate::fields::{Field, Fields, LIST_BYTES_MAX};
use crate::frame::{
    ErrorCode, FrameHead, HEAD_BYTES, PAYLOAD_BYTES_MAX, PREFACE, WINDOW_BYTES, WINDOW_BYTES_MAX,
    flag, kind, put, setting,
};
use crate::head;
use crate::hpack::{Decoder, Encoder};
use crate::stream::{Stream, Theirs, Window};

/// Streams that we ended and whose last frames may still come.
const FORGOTTEN_MAX: usize = 128;
/// Packed bytes of one block of headers.
const BLOCK_BYTES_MAX: usize = LIST_BYTES_MAX;
const CONNECTION: StreamId = StreamId(0);

/// What the peer may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams of its own at a time.
    pub streams: u32,
    /// Bytes that one stream may send ahead of what was [taken](Connection::taken).
    pub stream_window_bytes: u32,
    /// Bytes that all streams together may have on the way to us.
    pub connection_window_bytes: u32,
}

/// What came, or came of what was to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request's fields at a server, a response's at a client.
    Head {
        /// The stream, which a request begins.
        stream: StreamId,
        /// With `:method`, `:path` and `:scheme`, or `:status`.
        fields: Fields,
        /// Nothing follows.
        end: bool,
    },
    /// More of the body. The peer may send so many bytes again once they are [taken](Connection::taken).
    Data {
        /// Whose.
        stream: StreamId,
        /// The bytes.
        data: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// Fields behind the body: its end.
    Trailers {
        /// Whose.
        stream: StreamId,
        /// What they say.
        fields: Fields,
    },
    /// The stream is gone, with what waited to be sent.
    Reset {
        /// Which.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// All data of the stream that had to wait has been put into the pending bytes, and its end too, if that was behind it.
    Room {
        /// Which.
        stream: StreamId,
    },
    /// The peer takes no new streams.
    GoAway {
        /// Why.
        code: ErrorCode,
    },
}

/// Why the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fatal(pub(crate) ErrorCode, pub(crate) &'static str);

type Taken = Result<(), Fatal>;

/// A block of headers that goes on in another frame.
struct Block {
    stream: StreamId,
    end: bool,
    /// It is a stream of its own fault, told once the block is read for the table's sake.
    depends_on_itself: bool,
    packed: Vec<u8>,
}

/// One end of a connection.
pub struct Connection {
    pub(crate) is_client: bool,
    limits: Limits,
    /// Of the client's preface, as much as has not come.
    preface: &'static [u8],
    /// The peer's settings have come.
    is_settled: bool,
    /// The part of a frame that has come.
    held: Vec<u8>,
    block: Option<Block>,
    decoder: Decoder,
    pub(crate) encoder: Encoder,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    /// The peer's newest stream, and our next one.
    last_theirs: StreamId,
    pub(crate) next_ours: StreamId,
    pub(crate) forgotten: VecDeque<StreamId>,
    receiving: Window,
    pub(crate) send_window: i64,
    pub(crate) peer: PeerSettings,
    pub(crate) is_leaving: bool,
    over: Option<Fatal>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) output: Vec<u8>,
    pub(crate) written: usize,
    /// Streams with something to send, each once.
    pub(crate) line: VecDeque<StreamId>,
    pub(crate) queued_bytes: usize,
}

/// What the peer allows.
pub(crate) struct PeerSettings {
    pub(crate) window: u32,
    pub(crate) payload_max: usize,
    pub(crate) streams: u32,
}

impl Connection {
    /// A server's end.
    pub fn server(limits: Limits) -> Self {
        Self::new(false, limits)
    }

    /// A client's end.
    pub fn client(limits: Limits) -> Self {
        let mut connection = Self::new(true, limits);
        connection.output.splice(0..0, *PREFACE);
        connection
    }

    fn new(is_client: bool, limits: Limits) -> Self {
        let mut output = Vec::new();
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::MAX_CONCURRENT_STREAMS, limits.streams),
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, LIST_BYTES_MAX as u32),
        ];
        // A server does not speak of pushes.
        let settings = &settings[usize::from(!is_client)..];
        let pair = |(number, value): &(u16, u32)| {
            [&number.to_be_bytes()[..], &value.to_be_bytes()].concat()
        };
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        put(kind::SETTINGS, 0, CONNECTION, &payload, &mut output);
        let more = limits.connection_window_bytes.saturating_sub(WINDOW_BYTES);
        put(kind::WINDOW_UPDATE, 0, CONNECTION, &more.max(1).to_be_bytes(), &mut output);
        Self {
            is_client,
            limits,
            preface: if is_client { b"" } else { PREFACE },
            is_settled: false,
            held: Vec::new(),
            block: None,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            streams: BTreeMap::new(),
            last_theirs: CONNECTION,
            next_ours: StreamId(1),
            forgotten: VecDeque::new(),
            receiving: Window::new(WINDOW_BYTES + more.max(1)),
            send_window: i64::from(WINDOW_BYTES),
            peer: PeerSettings {
                window: WINDOW_BYTES,
                payload_max: PAYLOAD_BYTES_MAX,
                streams: u32::MAX,
            },
            is_leaving: false,
            over: None,
            events: VecDeque::new(),
            output,
            written: 0,
            line: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// Bytes that came. Whatever they are, what is kept of them is bounded.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.over.is_none()
            && let Err(fatal) = self.take(bytes)
        {
            self.fail(fatal);
        }
        self.pump();
    }

    /// What came, in its order.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Why the connection is over, once it is: what is pending is written, and no more is read.
    pub fn is_over(&self) -> Option<&'static str> {
        self.over.map(|Fatal(_, why)| why)
    }

    /// No more will come, and nothing can be sent: all streams are gone.
    pub fn receive_end(&mut self) {
        if self.over.is_none() {
            self.fail(Fatal(ErrorCode::NO_ERROR, "the peer has gone"));
        }
    }

    /// Streams that are not closed.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// So many bytes of a stream's data were taken: the peer may send more.
    pub fn taken(&mut self, stream: StreamId, bytes: usize) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.theirs != Theirs::Ended
            && let Some(more) = state.receiving.taken(bytes)
        {
            put(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), &mut self.output);
        }
    }

    fn fail(&mut self, fatal: Fatal) {
        let Fatal(code, why) = fatal;
        self.over = Some(fatal);
        let gone: Vec<StreamId> = self.streams.keys().copied().collect();
        gone.into_iter().for_each(|stream| self.gone(stream, code));
        self.say_goodbye(code, why);
    }

    /// Takes no new streams, and tells the peer; those that are open go on.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) && self.over.is_none() {
            self.say_goodbye(ErrorCode::NO_ERROR, "");
        }
    }

    fn say_goodbye(&mut self, ErrorCode(code): ErrorCode, why: &str) {
        let last = self.last_theirs.0.to_be_bytes();
        let payload = [&last[..], &code.to_be_bytes(), why.as_bytes()].concat();
        put(kind::GOAWAY, 0, CONNECTION, &payload, &mut self.output);
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self) {
        put(kind::PING, 0, CONNECTION, b"quorate?", &mut self.output);
    }

    fn take(&mut self, bytes: &[u8]) -> Taken {
        let mut held = std::mem::take(&mut self.held);
        let mut rest = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            &held
        };
        rest = self.past_preface(rest)?;
        while let Some(head) = FrameHead::read(rest) {
            if head.length > PAYLOAD_BYTES_MAX {
                return Err(Fatal(ErrorCode::FRAME_SIZE_ERROR, "a frame is too large"));
            }
            let Some(payload) = rest.get(HEAD_BYTES..HEAD_BYTES + head.length) else { break };
            rest = &rest[HEAD_BYTES + head.length..];
            self.frame(head, payload)?;
        }
        self.held = rest.to_vec();
        Ok(())
    }

    fn past_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fatal> {
        let (now, rest) = bytes.split_at(bytes.len().min(self.preface.len()));
        let (expected, later) = self.preface.split_at(now.len());
        if now != expected {
            return Err(Fatal(ErrorCode::PROTOCOL_ERROR, "not the preface of HTTP/2"));
        }
        self.preface = later;
        Ok(rest)
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if self.block.is_some() != (head.kind == kind::CONTINUATION) {
            return Err(protocol("a block of headers does not go on as it must"));
        }
        if !self.is_settled && head.kind != kind::SETTINGS {
            return Err(protocol("the first frame is not of settings"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.pinged(head, payload),
            kind::GOAWAY => self.go_away(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PUSH_PROMISE => Err(protocol("a push, which was not allowed")),
            // Section 4.1: what is not known is passed over.
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        self.existing(head.stream)?;
        if !self.receiving.came(payload.len()) {
            return Err(Fatal(ErrorCode::FLOW_CONTROL_ERROR, "more data than was allowed"));
        }
        // What bounds memory is each stream's window; the connection's is given back at once.
        if let Some(more) = self.receiving.taken(payload.len()) {
            put(kind::WINDOW_UPDATE, 0, CONNECTION, &more.to_be_bytes(), &mut self.output);
        }
        let data = unpadded(head, payload)?;
        let (stream, end) = (head.stream, head.has(flag::END_STREAM));
        let Some(state) = self.streams.get_mut(&stream) else {
            return self.unexpected(stream);
        };
        if state.theirs != Theirs::Begun {
            return self.refuse(stream, ErrorCode::STREAM_CLOSED);
        }
        if !state.receiving.came(payload.len()) {
            return self.refuse(stream, ErrorCode::FLOW_CONTROL_ERROR);
        }
        if !state.body(data.len(), end) {
            return self.refuse(stream, ErrorCode::PROTOCOL_ERROR);
        }
        if end {
            state.theirs = Theirs::Ended;
        }
        let (padding, data) = (payload.len() - data.len(), Bytes::copy_from_slice(data));
        self.taken(stream, padding);
        self.events.push_back(Event::Data { stream, data, end });
        self.close_if_done(stream);
        Ok(())
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream == CONNECTION || (!self.is_client && head.stream.0.is_multiple_of(2)) {
            return Err(protocol("headers of a stream that cannot be"));
        }
        if self.is_client {
            self.existing(head.stream)?;
        }
        let (mut packed, mut depends_on_itself) = (unpadded(head, payload)?, false);
        if head.has(flag::PRIORITY) {
            let cut = packed.split_first_chunk::<5>();
            let (priority, rest) = cut.ok_or(protocol("headers without their priority"))?;
            depends_on_itself = depends_on(priority, head.stream);
            packed = rest;
        }
        let (stream, end) = (head.stream, head.has(flag::END_STREAM));
        if head.has(flag::END_HEADERS) {
            return self.block(stream, end, depends_on_itself, packed);
        }
        self.block = Some(Block { stream, end, depends_on_itself, packed: packed.to_vec() });
        Ok(())
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        let Some(mut block) = self.block.take().filter(|block| block.stream == head.stream) else {
            return Err(protocol("headers of another stream between"));
        };
        if block.packed.len() + payload.len() > BLOCK_BYTES_MAX
            || (payload.is_empty() && !head.has(flag::END_HEADERS))
        {
            return Err(Fatal(ErrorCode::ENHANCE_YOUR_CALM, "a block of headers without end"));
        }
        block.packed.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.block(block.stream, block.end, block.depends_on_itself, &block.packed);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A block is complete. It is unpacked whatever its stream is, for the table's sake.
    fn block(
        &mut self,
        stream: StreamId,
        end: bool,
        depends_on_itself: bool,
        packed: &[u8],
    ) -> Taken {
        let mut fields = Fields::with_room();
        let unpacked = self.decoder.decode(packed, &mut fields);
        unpacked.map_err(|_| {
            Fatal(ErrorCode::COMPRESSION_ERROR, "a block of headers cannot be unpacked")
        })?;
        if self.streams.contains_key(&stream) {
            return self.second_block(stream, end, fields);
        }
        if self.is_client || stream <= self.last_theirs {
            let expected = self.is_client || self.forgotten.contains(&stream);
            return if expected {
                Ok(())
            } else {
                Err(Fatal(ErrorCode::STREAM_CLOSED, "headers of a closed stream"))
            };
        }
        self.last_theirs = stream;
        if self.is_leaving {
            return Ok(());
        }
        if self.streams.len() >= self.limits.streams as usize {
            return self.refuse(stream, ErrorCode::REFUSED_STREAM);
        }
        let length = head::content_length(&fields);
        let wrong_length = end && length != Ok(None) && length != Ok(Some(0));
        if fields.is_overflown() {
            return self.refuse(stream, ErrorCode::ENHANCE_YOUR_CALM);
        }
        if depends_on_itself || wrong_length || length.is_err() || !head::is_request(&fields) {
            return self.refuse(stream, ErrorCode::PROTOCOL_ERROR);
        }
        let theirs = if end { Theirs::Ended } else { Theirs::Begun };
        let mut state =
            Stream::new(theirs, self.limits.stream_window_bytes, i64::from(self.peer.window));
        state.length_left = length.unwrap_or_default();
        self.streams.insert(stream, state);
        self.events.push_back(Event::Head { stream, fields, end });
        Ok(())
    }

    /// A response's head, or trailers.
    fn second_block(&mut self, stream: StreamId, end: bool, fields: Fields) -> Taken {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        let good = match state.theirs {
            Theirs::Ended => return self.refuse(stream, ErrorCode::STREAM_CLOSED),
            Theirs::Awaited => head::is_response(&fields),
            Theirs::Begun => end && head::are_trailers(&fields) && state.body(0, true),
        };
        if !good || fields.is_overflown() {
            return self.refuse(stream, ErrorCode::PROTOCOL_ERROR);
        }
        let is_informational = fields.get(":status").is_some_and(|status| status.starts_with(b"1"));
        let event = match state.theirs {
            Theirs::Awaited if is_informational => return Ok(()),
            Theirs::Awaited => {
                state.theirs = Theirs::Begun;
                Event::Head { stream, fields, end }
            }
            _ => Event::Trailers { stream, fields },
        };
        if end {
            state.theirs = Theirs::Ended;
        }
        self.events.push_back(event);
        self.close_if_done(stream);
        Ok(())
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream == CONNECTION {
            return Err(protocol("a priority of no stream"));
        }
        match payload.first_chunk::<5>().filter(|_| payload.len() == 5) {
            None => self.refuse(head.stream, ErrorCode::FRAME_SIZE_ERROR),
            Some(priority) if depends_on(priority, head.stream) => {
                self.refuse(head.stream, ErrorCode::PROTOCOL_ERROR)
            }
            Some(_) => Ok(()),
        }
    }

    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        self.existing(head.stream)?;
        let code = u32_of(payload)?;
        self.gone(head.stream, ErrorCode(code));
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != CONNECTION {
            return Err(protocol("settings of a stream"));
        }
        let is_acknowledgement = head.has(flag::ACK);
        if !payload.len().is_multiple_of(6) || (is_acknowledgement && !payload.is_empty()) {
            return Err(Fatal(ErrorCode::FRAME_SIZE_ERROR, "settings of a wrong length"));
        }
        self.is_settled = true;
        if is_acknowledgement {
            return Ok(());
        }
        for pair in payload.chunks_exact(6) {
            let [n0, n1, value @ ..] = pair else { continue };
            let value = value.first_chunk().map_or(0, |value| u32::from_be_bytes(*value));
            self.set(u16::from_be_bytes([*n0, *n1]), value)?;
        }
        put(kind::SETTINGS, flag::ACK, CONNECTION, &[], &mut self.output);
        Ok(())
    }

    fn set(&mut self, number: u16, value: u32) -> Taken {
        match number {
            setting::HEADER_TABLE_SIZE => self.encoder.table_bytes_max(value as usize),
            setting::ENABLE_PUSH if value > 1 => return Err(protocol("pushes neither on nor off")),
            setting::MAX_CONCURRENT_STREAMS => self.peer.streams = value,
            setting::INITIAL_WINDOW_SIZE => return self.set_window(value),
            setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                return Err(protocol("frames of a size that cannot be"));
            }
            setting::MAX_FRAME_SIZE => self.peer.payload_max = value as usize,
            _ => {}
        }
        Ok(())
    }

    /// Section 6.9.2: streams that are open change with it.
    fn set_window(&mut self, value: u32) -> Taken {
        let by = i64::from(value) - i64::from(self.peer.window);
        let too_large = || Fatal(ErrorCode::FLOW_CONTROL_ERROR, "a window that is too large");
        if i64::from(value) > WINDOW_BYTES_MAX {
            return Err(too_large());
        }
        self.peer.window = value;
        for (stream, state) in &mut self.streams {
            state.send_window += by;
            if state.send_window > WINDOW_BYTES_MAX {
                return Err(too_large());
            }
            if by > 0 && state.is_waiting() && !std::mem::replace(&mut state.in_line, true) {
                self.line.push_back(*stream);
            }
        }
        Ok(())
    }

    fn pinged(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != CONNECTION {
            return Err(protocol("a ping of a stream"));
        }
        if payload.len() != 8 {
            return Err(Fatal(ErrorCode::FRAME_SIZE_ERROR, "a ping of a wrong length"));
        }
        if !head.has(flag::ACK) {
            put(kind::PING, flag::ACK, CONNECTION, payload, &mut self.output);
        }
        Ok(())
    }

    fn go_away(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != CONNECTION {
            return Err(protocol("the end of a connection, of a stream"));
        }
        let Some((last, rest)) = payload.split_first_chunk::<4>() else {
            return Err(Fatal(ErrorCode::FRAME_SIZE_ERROR, "the end of a connection cut short"));
        };
        let last = StreamId(u32::from_be_bytes(*last) & 0x7fff_ffff);
        let code = ErrorCode(u32_of(rest.get(..4).unwrap_or(rest))?);
        if self.is_client {
            self.is_leaving = true;
            let unseen: Vec<StreamId> =
                self.streams.keys().copied().filter(|stream| *stream > last).collect();
            unseen.into_iter().for_each(|stream| self.gone(stream, ErrorCode::REFUSED_STREAM));
        }
        self.events.push_back(Event::GoAway { code });
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        self.existing_or_connection(head.stream)?;
        let more = i64::from(u32_of(payload)? & 0x7fff_ffff);
        if head.stream == CONNECTION {
            self.send_window += more;
            if more == 0 {
                return Err(protocol("a window that does not grow"));
            }
            if self.send_window > WINDOW_BYTES_MAX {
                return Err(Fatal(ErrorCode::FLOW_CONTROL_ERROR, "a window that is too large"));
            }
            return Ok(());
        }
        let Some(state) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        state.send_window += more;
        if more == 0 {
            return self.refuse(head.stream, ErrorCode::PROTOCOL_ERROR);
        }
        if state.send_window > WINDOW_BYTES_MAX {
            return self.refuse(head.stream, ErrorCode::FLOW_CONTROL_ERROR);
        }
        if state.is_waiting() && !std::mem::replace(&mut state.in_line, true) {
            self.line.push_back(head.stream);
        }
        Ok(())
    }

    /// Frames of a stream that was never begun are an error of the connection (section 5.1).
    fn existing(&self, stream: StreamId) -> Taken {
        let begun = if self.is_client {
            stream < self.next_ours && !stream.0.is_multiple_of(2)
        } else {
            stream <= self.last_theirs && !stream.0.is_multiple_of(2)
        };
        if begun { Ok(()) } else { Err(protocol("a frame of a stream that was never begun")) }
    }

    fn existing_or_connection(&self, stream: StreamId) -> Taken {
        if stream == CONNECTION { Ok(()) } else { self.existing(stream) }
    }

    /// A frame of a stream that is closed: on its way when we closed it, or wrong.
    fn unexpected(&mut self, stream: StreamId) -> Taken {
        if self.forgotten.contains(&stream) {
            return Ok(());
        }
        self.refuse(stream, ErrorCode::STREAM_CLOSED)
    }

    /// Ends a stream for a fault of the peer.
    fn refuse(&mut self, stream: StreamId, code: ErrorCode) -> Taken {
        self.gone(stream, code);
        self.forget(stream, code);
        Ok(())
    }

    /// A stream is no more; who knows of it is told.
    pub(crate) fn gone(&mut self, stream: StreamId, code: ErrorCode) {
        if let Some(state) = self.streams.remove(&stream) {
            self.queued_bytes -= state.queue.iter().map(Bytes::len).sum::<usize>();
            self.events.push_back(Event::Reset { stream, code });
        }
    }

    /// Tells the peer that a stream has ended, and that what may still come of it is not wanted.
    pub(crate) fn forget(&mut self, stream: StreamId, ErrorCode(code): ErrorCode) {
        put(kind::RST_STREAM, 0, stream, &code.to_be_bytes(), &mut self.output);
        if self.forgotten.len() == FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(stream);
    }

    /// A stream whose two ends have said all is closed. So is one whose client goes on although it has its answer, and one
    /// whose server has answered before it heard all: the other end is told.
    pub(crate) fn close_if_done(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get(&stream) else { return };
        let (ours, theirs) = (state.ours_ended, state.theirs == Theirs::Ended);
        let answered = if self.is_client { theirs } else { ours };
        if answered {
            if let Some(state) = self.streams.remove(&stream) {
                self.queued_bytes -= state.queue.iter().map(Bytes::len).sum::<usize>();
            }
            if !(ours && theirs) {
                self.forget(stream, ErrorCode::NO_ERROR);
            }
        }
    }

    /// Begins a stream of ours; `None` when the peer takes no more now.
    pub fn open(&mut self, fields: &[Field<'_>], end: bool) -> Option<StreamId> {
        let full =
            self.streams.len() >= self.peer.streams as usize || self.next_ours.0 > (1 << 31) - 1;
        if full || self.is_leaving || self.over.is_some() || !self.is_client {
            return None;
        }
        let stream = self.next_ours;
        self.next_ours.0 += 2;
        let window = self.limits.stream_window_bytes;
        self.streams
            .insert(stream, Stream::new(Theirs::Awaited, window, i64::from(self.peer.window)));
        self.send_head(stream, fields, end);
        Some(stream)
    }
}

fn protocol(why: &'static str) -> Fatal {
    Fatal(ErrorCode::PROTOCOL_ERROR, why)
}

fn u32_of(payload: &[u8]) -> Result<u32, Fatal> {
    let bytes = payload
        .try_into()
        .map_err(|_| Fatal(ErrorCode::FRAME_SIZE_ERROR, "a frame of a wrong length"))?;
    Ok(u32::from_be_bytes(bytes))
}

fn depends_on(priority: &[u8; 5], stream: StreamId) -> bool {
    let [s0, s1, s2, s3, _] = *priority;
    u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) == stream.0
}

/// What is between a frame's padding (section 6.1).
fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fatal> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(protocol("padding without its length"))?;
    let data = rest.len().checked_sub(usize::from(*padding)).and_then(|bytes| rest.get(..bytes));
    data.ok_or(protocol("more padding than there is"))
}
