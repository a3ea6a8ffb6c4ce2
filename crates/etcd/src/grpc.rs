//! How gRPC puts messages into the bytes of a stream, for servers and clients alike: frames, a status, our metadata.
//!
//! ```text
//! compressed: u8, always 0 here | length: u32 BE | message
//! ```
//!
//! Not here: HTTP/2 and sockets.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::command::Tag;
use crate::{ClientId, Code, Refusal, Sequence};

/// Bytes before each message.
const PREFIX_BYTES: usize = 5;

/// Metadata key of a client's id: 32 hexadecimal digits (KV-3).
pub const CLIENT_ID_KEY: &str = "quorate-client-id";
/// Metadata key of a call's number: `N/U`, where U is the first call whose answer the client does not have; `N` is `N/N` (KV-4).
pub const SEQUENCE_KEY: &str = "quorate-sequence";
/// Metadata key of an answer: the call was done before, and its reply was too large to keep.
pub const DONE_BEFORE_KEY: &str = "quorate-done-before";
/// The method that opens the client id of its metadata.
pub const OPEN_CLIENT: &str = "/quorate.Clients/Open";

/// What became of a call that has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// gRPC's number.
    pub code: Code,
    /// In words.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A status.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The refusal that a server meant, if it is one of etcd's.
    pub fn refusal(&self) -> Option<Refusal> {
        Refusal::ALL.iter().copied().find(|refusal| refusal.text() == self.message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.text())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// One message as a frame.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The message of a stream that is one whole, uncompressed frame; `None` for any other.
pub fn only_message(stream: &Bytes) -> Option<Bytes> {
    let [compressed, length @ ..] = *stream.first_chunk::<PREFIX_BYTES>()?;
    let whole = stream.len() - PREFIX_BYTES == u32::from_be_bytes(length) as usize;
    (compressed == 0 && whole).then(|| stream.slice(PREFIX_BYTES..))
}

/// Reads a message.
pub fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| {
        let text = format!("grpc: error unmarshalling request: {error}");
        Status::new(Code::Internal, text)
    })
}

/// Cuts a stream of bytes into messages. What is not complete yet stays, up to the limit of one message.
#[derive(Debug)]
pub struct Unframer {
    buffer: BytesMut,
    message_bytes_max: usize,
}

impl Unframer {
    /// Messages may have so many bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), message_bytes_max }
    }

    /// More bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing of a message is waiting for its rest.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next message, once it is complete. It is refused by its length alone, before its bytes are here.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            let text = "grpc: Decompressor is not installed for grpc-encoding";
            return Err(Status::new(Code::Unimplemented, text));
        }
        let (length, max) = (u32::from_be_bytes(length) as usize, self.message_bytes_max);
        if length > max {
            let text = format!("grpc: received message larger than max ({length} vs. {max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A status message as a header carries it: what is not printable ASCII, and the per cent sign, in hexadecimal.
pub fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// What was escaped. What is no escape stays as it is.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a client id as metadata has it.
pub fn parse_client_id(text: &str) -> Result<ClientId, Refusal> {
    let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| is_plain);
    id.map(ClientId).ok_or(Refusal::BadTag)
}

/// Reads a client id and a call's number as metadata has them; none without both.
pub fn parse_tag(client: Option<&str>, sequence: Option<&str>) -> Result<Option<Tag>, Refusal> {
    let (client, sequence) = match (client, sequence) {
        (None, None) => return Ok(None),
        (Some(client), Some(sequence)) => (parse_client_id(client)?, sequence),
        _ => return Err(Refusal::BadTag),
    };
    // Who makes one call at a time has the answers to all before.
    let (own, unacknowledged) = sequence.split_once('/').unwrap_or((sequence, sequence));
    let number = |text: &str| {
        text.parse().ok().filter(|number| *number > 0).map(Sequence).ok_or(Refusal::BadTag)
    };
    Ok(Some(Tag { client, sequence: number(own)?, unacknowledged: number(unacknowledged)? }))
}

/// A call's number as metadata has it.
pub fn sequence_text(tag: &Tag) -> String {
    format!("{}/{}", tag.sequence.0, tag.unacknowledged.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream may be cut anywhere.
    #[test]
    fn messages_come_out_as_they_went_in_wherever_the_stream_is_cut() {
        let stream: Vec<u8> = [&b"one"[..], b"", b"three"].map(frame).concat();
        for cut in 0..stream.len() {
            let mut unframer = Unframer::new(5);
            let mut messages = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                unframer.push(part);
                while let Some(message) = unframer.next_message().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [&b"one"[..], b"", b"three"], "cut at {cut}");
            assert!(unframer.is_empty());
        }
    }

    #[test]
    fn one_frame_is_told_from_less_and_from_more() {
        let framed = frame(b"one");
        assert_eq!(only_message(&framed).as_deref(), Some(&b"one"[..]));
        for other in [
            framed.slice(..7),
            [&framed[..], &framed].concat().into(),
            Bytes::from_static(&[1, 0, 0, 0, 0]),
        ] {
            assert_eq!(only_message(&other), None);
        }
    }

    /// KV-9: a message that says that it is too large is refused before it has come.
    #[test]
    fn a_message_beyond_the_limit_is_refused_by_its_prefix() {
        let mut unframer = Unframer::new(2_097_152);
        unframer.push(&[0, 0, 0x20, 0, 1]);
        let status = unframer.next_message().unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: received message larger than max (2097153 vs. 2097152)");
    }

    #[test]
    fn a_status_message_survives_a_header() {
        for text in ["plain", "100 % of \u{fc}ber\n", "", "%41"] {
            assert_eq!(unescape(&escape(text)), text);
        }
        assert_eq!(unescape("5 %zz %"), "5 %zz %");
    }

    /// KV-3: metadata names a client and a call, and nothing half of that is taken.
    #[test]
    fn a_tag_needs_a_whole_client_id_and_a_number() {
        let id = "000102030405060708090a0b0c0d0e0f";
        let tag = |sequence, unacknowledged| Tag {
            client: parse_client_id(id).unwrap(),
            sequence: Sequence(sequence),
            unacknowledged: Sequence(unacknowledged),
        };
        assert_eq!(parse_tag(None, None), Ok(None));
        assert_eq!(parse_tag(Some(id), Some("7")), Ok(Some(tag(7, 7))));
        assert_eq!(parse_tag(Some(id), Some(&sequence_text(&tag(7, 5)))), Ok(Some(tag(7, 5))));
        for (client, sequence) in [
            (Some(id), None),
            (None, Some("7")),
            (Some("12"), Some("7")),
            (Some("+0102030405060708090a0b0c0d0e0f0"), Some("7")),
            (Some(id), Some("0")),
            (Some(id), Some("7/")),
            (Some(id), Some("seven")),
        ] {
            assert_eq!(
                parse_tag(client, sequence),
                Err(Refusal::BadTag),
                "{client:?} {sequence:?}"
            );
        }
    }
}
