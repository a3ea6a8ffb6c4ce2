//! Requests whose `:authority` is a whole URL, as Go's etcd clients send it when their endpoint is written `http://host:2379`.
//!
//! RFC 9113 wants a bare `host:port` there, and the HTTP/2 library refuses the stream for anything else, so such a client
//! could not even ask for the status. Between the socket and the library, [`Mender`] reads the first block of headers of a
//! connection. If its authority is a proper one, all bytes pass untouched from then on, at no cost; a client writes
//! the same on all its requests. If not, this and every later block is decoded and written again, literally, with the authority cut to
//! what it means.
//!
//! Not here: anything else that HTTP/2 asks of a client; what is odd in another way reaches the library as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::http::uri::Authority;
use loona_hpack::Decoder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peek::may_be_odd;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that a peer may send unasked (RFC 9113, 6.5.2).
const FRAME_BYTES_MAX: usize = 16_384;
/// A block of headers beyond this passes as it is, for the library to refuse.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;

/// Bytes from a client on their way to the HTTP/2 library.
pub(super) struct Mender {
    stage: Stage,
    /// What came and is not decided yet.
    held: Vec<u8>,
    decoder: Decoder<'static>,
}

enum Stage {
    /// The connection's first bytes.
    Preface,
    /// A frame begins; no block of headers was seen yet.
    First,
    /// A frame begins; blocks of headers are written again.
    Mending,
    /// So many bytes of a frame that is none of ours.
    Skipping { bytes: usize, then_mending: bool },
    /// Everything passes.
    Passing,
}

impl Mender {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Preface, held: Vec::new(), decoder: Decoder::new() }
    }

    /// Takes what came; what may go on is appended to `out`.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if matches!(self.stage, Stage::Passing) {
            return out.extend_from_slice(bytes);
        }
        self.held.extend_from_slice(bytes);
        while self.advance(out) {}
    }

    /// Decides on what is held; whether there may be more to decide.
    fn advance(&mut self, out: &mut Vec<u8>) -> bool {
        match self.stage {
            Stage::Preface => self.preface(out),
            Stage::First => self.frame(false, out),
            Stage::Mending => self.frame(true, out),
            Stage::Skipping { bytes, then_mending } => self.skip(bytes, then_mending, out),
            Stage::Passing => self.pass(out),
        }
    }

    fn preface(&mut self, out: &mut Vec<u8>) -> bool {
        let seen = self.held.len().min(PREFACE.len());
        if self.held[..seen] != PREFACE[..seen] {
            return self.pass(out);
        }
        if seen < PREFACE.len() {
            return false;
        }
        self.release(PREFACE.len(), out);
        self.stage = Stage::First;
        true
    }

    fn pass(&mut self, out: &mut Vec<u8>) -> bool {
        self.release(self.held.len(), out);
        self.held = Vec::new();
        self.stage = Stage::Passing;
        false
    }

    fn release(&mut self, bytes: usize, out: &mut Vec<u8>) {
        out.extend(self.held.drain(..bytes));
    }

    fn skip(&mut self, bytes: usize, then_mending: bool, out: &mut Vec<u8>) -> bool {
        let now = bytes.min(self.held.len());
        self.release(now, out);
        self.stage = match bytes - now {
            0 if then_mending => Stage::Mending,
            0 => Stage::First,
            bytes => Stage::Skipping { bytes, then_mending },
        };
        bytes == now
    }

    fn frame(&mut self, mending: bool, out: &mut Vec<u8>) -> bool {
        let Some(head) = FrameHead::read(&self.held) else { return false };
        if head.kind != HEADERS {
            let bytes = FRAME_HEAD_BYTES + head.bytes;
            self.stage = Stage::Skipping { bytes, then_mending: mending };
            return true;
        }
        match Block::read(&self.held) {
            Found::Unfinished => false,
            Found::Odd => self.pass(out),
            Found::Whole(block) => self.block(block, mending, out),
        }
    }

    fn block(&mut self, block: Block, mending: bool, out: &mut Vec<u8>) -> bool {
        if !mending && !may_be_odd(&block.fragment) {
            return self.pass(out);
        }
        let Ok(fields) = self.decoder.decode(&block.fragment) else { return self.pass(out) };
        let is_odd = |(name, value): &(Vec<u8>, Vec<u8>)| {
            name == b":authority" && Authority::try_from(value.as_slice()).is_err()
        };
        if !mending && !fields.iter().any(is_odd) {
            return self.pass(out);
        }
        self.held.drain(..block.bytes);
        write_block(block.stream, block.ends_stream, fields, out);
        self.stage = Stage::Mending;
        true
    }
}

struct FrameHead {
    bytes: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<FRAME_HEAD_BYTES>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        Some(Self {
            bytes: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.bytes as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream);
    }
}

/// A HEADERS frame and the CONTINUATION frames after it.
struct Block {
    stream: [u8; 4],
    ends_stream: bool,
    fragment: Vec<u8>,
    /// What it takes on the wire.
    bytes: usize,
}

enum Found {
    Unfinished,
    Odd,
    Whole(Block),
}

impl Block {
    fn read(bytes: &[u8]) -> Found {
        let mut fragment = Vec::new();
        let mut at = 0;
        let mut first: Option<FrameHead> = None;
        loop {
            let Some(head) = FrameHead::read(&bytes[at..]) else { return Found::Unfinished };
            if at + head.bytes > BLOCK_BYTES_MAX || (at > 0 && head.kind != CONTINUATION) {
                return Found::Odd;
            }
            let begins = at + FRAME_HEAD_BYTES;
            let Some(payload) = bytes.get(begins..begins + head.bytes) else {
                return Found::Unfinished;
            };
            let part = if at == 0 { unpad(payload, head.flags) } else { Some(payload) };
            let Some(part) = part else { return Found::Odd };
            fragment.extend_from_slice(part);
            at = begins + head.bytes;
            let ends = head.flags & END_HEADERS != 0;
            let first = &*first.get_or_insert(head);
            if ends {
                let (stream, ends_stream) = (first.stream, first.flags & END_STREAM != 0);
                return Found::Whole(Self { stream, ends_stream, fragment, bytes: at });
            }
        }
    }
}

/// The fragment in a HEADERS frame (RFC 9113, 6.2).
fn unpad(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, payload) = match flags & PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
    };
    let payload = if flags & PRIORITY == 0 { payload } else { payload.get(5..)? };
    payload.get(..payload.len().checked_sub(padding)?)
}

/// `http://host:2379/` means `host:2379`.
fn authority(value: &[u8]) -> &[u8] {
    let begin = value.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    let rest = &value[begin..];
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    &rest[..end]
}

fn write_block(
    stream: [u8; 4],
    ends_stream: bool,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    out: &mut Vec<u8>,
) {
    let mut block = Vec::new();
    for (name, value) in &fields {
        // A literal that goes into no table, with a new name (RFC 7541, 6.2.2).
        block.push(0);
        write_text(name, &mut block);
        write_text(if name == b":authority" { authority(value) } else { value }, &mut block);
    }
    let frames = block.len().div_ceil(FRAME_BYTES_MAX).max(1);
    for (number, part) in block.chunks(FRAME_BYTES_MAX).enumerate() {
        let (is_first, is_last) = (number == 0, number + 1 == frames);
        let kind = if is_first { HEADERS } else { CONTINUATION };
        let mut flags = if is_last { END_HEADERS } else { 0 };
        if is_first && ends_stream {
            flags |= END_STREAM;
        }
        FrameHead { bytes: part.len(), kind, flags, stream }.write(out);
        out.extend_from_slice(part);
    }
}

/// A length of seven bits or more, and the bytes as they are (RFC 7541, 5.1 and 5.2).
fn write_text(text: &[u8], block: &mut Vec<u8>) {
    match text.len() {
        short @ 0..127 => block.push(short as u8),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text);
}

/// A connection whose reading side goes through a [`Mender`].
pub(super) struct Mended<S> {
    inner: S,
    mender: Mender,
    /// What may be read, from `at` on.
    ready: Vec<u8>,
    at: usize,
}

impl<S> Mended<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, mender: Mender::new(), ready: Vec::new(), at: 0 }
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.ready.len() - self.at);
        buffer.put_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        if self.at == self.ready.len() {
            self.ready.clear();
            self.at = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.at < this.ready.len() {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if matches!(this.mender.stage, Stage::Passing) {
                return Pin::new(&mut this.inner).poll_read(context, buffer);
            }
            let mut room = [0; READ_BYTES];
            let mut came = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut came))?;
            if came.filled().is_empty() {
                // The end; what is held is half a frame, of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            this.mender.take(came.filled(), &mut this.ready);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(stream: u8, flags: u8, fragment: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let head =
            FrameHead { bytes: fragment.len(), kind: HEADERS, flags, stream: [0, 0, 0, stream] };
        head.write(&mut frame);
        frame.extend_from_slice(fragment);
        frame
    }

    /// A first request with this authority, put into the table, and a second that finds it there.
    fn connection(authority: &str) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let mut fragment = vec![0x83, 0x86, 0x41, authority.len() as u8];
        fragment.extend_from_slice(authority.as_bytes());
        bytes.extend(headers(1, END_HEADERS, &fragment));
        bytes.extend_from_slice(&[0, 0, 3, 0, END_STREAM, 0, 0, 0, 1, 7, 8, 9]);
        bytes.extend(headers(3, END_HEADERS | END_STREAM, &[0x83, 0x86, 0xbe]));
        bytes
    }

    /// What goes on when the bytes come in pieces of this size.
    fn mend(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut mender, mut out) = (Mender::new(), Vec::new());
        bytes.chunks(piece).for_each(|piece| mender.take(piece, &mut out));
        out
    }

    fn authorities(bytes: &[u8]) -> Vec<String> {
        let (mut at, mut decoder, mut found) = (PREFACE.len(), Decoder::new(), Vec::new());
        while let Some(head) = FrameHead::read(&bytes[at..]) {
            let payload = &bytes[at + FRAME_HEAD_BYTES..][..head.bytes];
            if head.kind == HEADERS {
                let fields = decoder.decode(payload).unwrap();
                let fields = fields.into_iter().filter(|(name, _)| name == b":authority");
                found.extend(fields.map(|(_, value)| String::from_utf8(value).unwrap()));
            }
            at += FRAME_HEAD_BYTES + head.bytes;
        }
        assert_eq!(at, bytes.len());
        found
    }

    #[test]
    fn proper_authorities_pass_byte_for_byte() {
        let bytes = connection("localhost:2379");
        for piece in 1..bytes.len() {
            assert_eq!(mend(&bytes, piece), bytes, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_url_becomes_what_it_means_on_every_request() {
        for (sent, meant) in [
            ("http://localhost:2379", "localhost:2379"),
            ("https://a.example:2379/", "a.example:2379"),
            ("http://[::1]:2379", "[::1]:2379"),
        ] {
            let bytes = connection(sent);
            for piece in 1..bytes.len() {
                assert_eq!(
                    authorities(&mend(&bytes, piece)),
                    [meant, meant],
                    "{sent} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn headers_in_several_frames_and_padded_are_one_block() {
        let mut fragment = vec![0x83, 0x41, 15];
        fragment.extend_from_slice(b"http://far:2379");
        let mut padded = vec![4];
        padded.extend_from_slice(&fragment[..7]);
        padded.extend_from_slice(&[0; 4]);
        let mut bytes = PREFACE.to_vec();
        bytes.extend(headers(1, PADDED, &padded));
        let rest = &fragment[7..];
        let head = FrameHead {
            bytes: rest.len(),
            kind: CONTINUATION,
            flags: END_HEADERS,
            stream: [0, 0, 0, 1],
        };
        head.write(&mut bytes);
        bytes.extend_from_slice(rest);
        assert_eq!(authorities(&mend(&bytes, 3)), ["far:2379"]);
    }

    #[test]
    fn what_is_not_http2_passes() {
        let bytes = b"GET /health HTTP/1.1\r\n\r\n";
        assert_eq!(mend(bytes, 5), bytes);
    }

    #[test]
    fn headers_without_end_are_not_gathered_for_ever() {
        let (mut mender, mut out) = (Mender::new(), Vec::new());
        mender.take(PREFACE, &mut out);
        mender.take(&headers(1, 0, &[0; FRAME_BYTES_MAX]), &mut out);
        let more = FrameHead {
            bytes: FRAME_BYTES_MAX,
            kind: CONTINUATION,
            flags: 0,
            stream: [0, 0, 0, 1],
        };
        let mut frame = Vec::new();
        more.write(&mut frame);
        frame.resize(frame.len() + FRAME_BYTES_MAX, 0);
        (0..8).for_each(|_| mender.take(&frame, &mut out));
        assert!(mender.held.len() <= BLOCK_BYTES_MAX && out.len() > 8 * FRAME_BYTES_MAX);
    }

    #[test]
    fn long_texts_keep_their_length() {
        for length in [0, 126, 127, 128, 254, 255, 300, 20_000] {
            let mut block = vec![0];
            write_text(b"x", &mut block);
            write_text(&vec![b'y'; length], &mut block);
            let fields = Decoder::new().decode(&block).unwrap();
            assert_eq!(fields[0].1.len(), length);
        }
    }
}
