//! Cuts a stream of bytes into packets, or finds that it is a four-letter word.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// ZooKeeper's own default for `jute.maxbuffer`.
pub const PACKET_BYTES_MAX: usize = 0xf_ffff;

/// What a stream of bytes holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// One packet, without its length.
    Packet(Bytes),
    /// An administrator's command: the first four bytes of a connection.
    FourLetterWord([u8; 4]),
}

/// The stream cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadFrame {
    /// A packet announces a negative length.
    #[error("a packet of {0} bytes was announced")]
    Negative(i32),
    /// A packet announces more than is allowed.
    #[error("a packet of {length} bytes was announced; {limit} are allowed (jute.maxbuffer)")]
    TooLong {
        /// As announced.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// Cuts one connection's bytes into frames.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    /// Nothing was cut yet: a four-letter word may come.
    fresh: bool,
}

impl Framer {
    /// A framer that refuses packets above `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, fresh: true }
    }

    /// Takes the next frame from the front of `input`, if it is whole. A length is refused before anything
    /// waits for that many bytes.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
        let Some(head) = input.first_chunk::<4>().copied() else { return Ok(None) };
        if self.fresh && head.iter().all(u8::is_ascii_lowercase) {
            input.advance(4);
            return Ok(Some(Frame::FourLetterWord(head)));
        }
        let length = i32::from_be_bytes(head);
        let bytes = usize::try_from(length).map_err(|_| BadFrame::Negative(length))?;
        if bytes > self.limit {
            return Err(BadFrame::TooLong { length: bytes, limit: self.limit });
        }
        if input.len() < 4 + bytes {
            return Ok(None);
        }
        self.fresh = false;
        input.advance(4);
        Ok(Some(Frame::Packet(input.split_to(bytes).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Result<Vec<Frame>, BadFrame> {
        let mut framer = Framer::new(100);
        let mut input = BytesMut::from(bytes);
        let mut out = Vec::new();
        while let Some(frame) = framer.next(&mut input)? {
            out.push(frame);
        }
        Ok(out)
    }

    #[test]
    fn packets_come_one_by_one_and_halves_wait() {
        let packet = |text: &'static str| Frame::Packet(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            frames(b"\0\0\0\x02ab\0\0\0\x01c\0\0\0\x05xy"),
            Ok(vec![packet("ab"), packet("c")])
        );
        assert_eq!(frames(b"\0\0"), Ok(vec![]));
        assert_eq!(frames(b"ruok"), Ok(vec![Frame::FourLetterWord(*b"ruok")]));
    }

    /// ZK-4, ZK-20: an oversized or negative length ends the connection before memory is taken.
    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        assert_eq!(frames(b"\0\0\0\x65"), Err(BadFrame::TooLong { length: 101, limit: 100 }));
        assert_eq!(frames(b"\xff\xff\xff\xff"), Err(BadFrame::Negative(-1)));
        assert!(frames(b"GET / HTTP/1.1").is_err(), "HTTP is no ZooKeeper packet");
    }
}
