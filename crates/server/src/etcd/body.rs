//! What is sent back: one message, or a stream of them, framed as gRPC or written as lines of JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::HeaderMap;
use quorate_etcd::grpc::{Status, frame};
use tokio::sync::mpsc;

use super::grpc::trailers;

/// Messages that wait in a stream for its client; behind them, whoever makes them waits.
const MESSAGES_AHEAD: usize = 1;

/// One message after the other, or why there are no more.
pub(super) type Messages = mpsc::Receiver<Result<Bytes, Status>>;

/// Where a stream's messages are put.
pub(super) type Sender = mpsc::Sender<Result<Bytes, Status>>;

/// A stream that is sent as fast as its client reads it.
pub(super) fn stream() -> (Sender, Messages) {
    mpsc::channel(MESSAGES_AHEAD)
}

/// How messages of a stream are written.
pub(super) trait Skin {
    /// One message.
    fn message(&self, message: Bytes) -> Bytes;
    /// The end, as bytes ...
    fn end(&self, status: Option<&Status>) -> Option<Bytes>;
    /// ... and as trailers.
    fn trailers(&self, status: Option<&Status>) -> Option<HeaderMap>;
}

/// gRPC's.
pub(super) struct Framed;

impl Skin for Framed {
    fn message(&self, message: Bytes) -> Bytes {
        frame(&message)
    }

    fn end(&self, _: Option<&Status>) -> Option<Bytes> {
        None
    }

    fn trailers(&self, status: Option<&Status>) -> Option<HeaderMap> {
        Some(trailers(status))
    }
}

/// Pieces of one gRPC message, which are framed already.
pub(super) struct Pieces;

impl Skin for Pieces {
    fn message(&self, piece: Bytes) -> Bytes {
        piece
    }

    fn end(&self, _: Option<&Status>) -> Option<Bytes> {
        None
    }

    fn trailers(&self, status: Option<&Status>) -> Option<HeaderMap> {
        Some(trailers(status))
    }
}

/// A reply's body.
pub(super) enum Body {
    /// All there is, and what follows it.
    Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
    /// What comes.
    Stream { messages: Messages, skin: Box<dyn Skin> },
}

impl Body {
    /// A text.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Whole { data: Some(text.into()), trailers: None }
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self::Whole { data: None, trailers: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole { data, trailers } => {
                data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers))
            }
            Self::Stream { messages, skin } => match ready!(messages.poll_recv(context)) {
                Some(Ok(message)) => Some(Frame::data(skin.message(message))),
                ended => {
                    let status = ended.and_then(Result::err);
                    let (data, trailers) =
                        (skin.end(status.as_ref()), skin.trailers(status.as_ref()));
                    *self = Self::Whole { data, trailers };
                    return self.poll_frame(context);
                }
            },
        };
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole { data: None, trailers: None })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { data, trailers: None } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}
