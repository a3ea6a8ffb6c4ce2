//! What is sent back: a text, or a stream of messages, as gRPC or as lines of JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use quorate_etcd::grpc::Status;
use tokio::sync::mpsc;

use super::http2::Gone;
use super::outgoing::Outgoing;

/// Messages that wait in a stream for its client; behind them, whoever makes them waits.
const MESSAGES_AHEAD: usize = 1;

/// One message after the other, or why there are no more.
pub(super) type Messages = mpsc::Receiver<Result<Bytes, Status>>;

/// Where a stream's messages are put. They are sent as fast as its client reads.
pub(super) enum Sender {
    /// To be written as lines.
    Lines(mpsc::Sender<Result<Bytes, Status>>),
    /// As gRPC.
    Grpc(Outgoing),
}

impl Sender {
    /// The next message, or why there are no more.
    pub(super) async fn send(&self, message: Result<Bytes, Status>) -> Result<(), Gone> {
        match (self, message) {
            (Self::Lines(lines), message) => lines.send(message).await.map_err(|_| Gone),
            (Self::Grpc(out), Ok(message)) => out.send(&message).await,
            (Self::Grpc(out), Err(status)) => {
                out.fail(&status);
                Ok(())
            }
        }
    }

    /// Waits until the client has gone.
    pub(super) async fn closed(&self) {
        match self {
            Self::Lines(lines) => lines.closed().await,
            Self::Grpc(out) => out.closed().await,
        }
    }

    /// There will be messages, sooner or later: a client may wait to hear that its call was taken.
    pub(super) fn begin(&self) {
        if let Self::Grpc(out) = self {
            out.begin();
        }
    }
}

/// Lines, and where their messages are put.
pub(super) fn lines() -> (Sender, Messages) {
    let (out, messages) = mpsc::channel(MESSAGES_AHEAD);
    (Sender::Lines(out), messages)
}

/// How messages of a stream are written.
pub(super) trait Skin {
    /// One message.
    fn message(&self, message: Bytes) -> Bytes;
    /// The end.
    fn end(&self, status: Option<&Status>) -> Option<Bytes>;
}

/// A reply's body.
pub(super) enum Body {
    /// All there is.
    Whole(Option<Bytes>),
    /// What comes.
    Stream { messages: Messages, skin: Box<dyn Skin> },
}

impl Body {
    /// A text.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Whole(Some(text.into()))
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
            Self::Whole(data) => data.take(),
            Self::Stream { messages, skin } => match ready!(messages.poll_recv(context)) {
                Some(Ok(message)) => Some(skin.message(message)),
                ended => {
                    let last = skin.end(ended.and_then(Result::err).as_ref());
                    *self = Self::Whole(None);
                    last
                }
            },
        };
        Poll::Ready(next.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(data) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
