//! Calls to a server that speaks gRPC, as cheaply as HTTP/2 can be had: the generator shares the processor with the servers.
//!
//! A channel is one connection with one owner, who begins calls and takes what comes of them; it has no tasks and no queues of its own.
//!
//! Not here: other servers when this one dies, and what a failed call may have done. The Clerk of the client library has that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message;
use quorate_etcd::grpc::{Unframer, frame, only_message, unescape};
use quorate_http2::{Connection, Event, Field, Fields, Limits, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const MESSAGE_BYTES_MAX: usize = 64 << 20;
const LIMITS: Limits =
    Limits { streams: 0, stream_window_bytes: 1 << 20, connection_window_bytes: 16 << 20 };
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Came {
    /// A message.
    Message(StreamId, Bytes),
    /// The end; why, if it is not a good one.
    End(StreamId, Result<(), String>),
}

/// One connection.
pub(super) struct Channel {
    stream: TcpStream,
    http: Connection,
    authority: String,
    /// Messages of which only a part has come.
    partial: BTreeMap<StreamId, Unframer>,
}

impl Channel {
    pub(super) async fn connect(server: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (http, authority) = (Connection::client(LIMITS), server.to_string());
        let mut channel = Self { stream, http, authority, partial: BTreeMap::new() };
        // The server's settings say how much it takes.
        poll_fn(|context| channel.exchange(context)).await?;
        Ok(channel)
    }

    /// Begins a call, with its only message or with its first; `None` while the server takes no more.
    pub(super) fn begin(
        &mut self,
        method: &str,
        message: &impl Message,
        last: bool,
    ) -> Option<StreamId> {
        let fields = [
            Field::new(":method", b"POST"),
            Field::new(":scheme", b"http"),
            Field::new(":path", method.as_bytes()),
            Field::new(":authority", self.authority.as_bytes()),
            Field::new("content-type", b"application/grpc"),
            Field::new("te", b"trailers"),
        ];
        let stream = self.http.open(&fields, false)?;
        self.http.send_data(stream, frame(&message.encode_to_vec()), last);
        Some(stream)
    }

    /// What comes next, once what was begun has left. May be given up at any time.
    pub(super) async fn next(&mut self) -> io::Result<Came> {
        loop {
            if let Some(came) = self.at_hand()? {
                return Ok(came);
            }
            poll_fn(|context| self.exchange(context)).await?;
        }
    }

    /// What has come already.
    pub(super) fn at_hand(&mut self) -> io::Result<Option<Came>> {
        while let Some(event) = self.http.next_event() {
            let came = match event {
                Event::Head { stream, fields, end } => {
                    end.then(|| Came::End(stream, outcome(&fields)))
                }
                Event::Trailers { stream, fields } => Some(Came::End(stream, outcome(&fields))),
                Event::Reset { stream, code } => Some(Came::End(
                    stream,
                    Err(format!("the server ended the call (code {})", code.0)),
                )),
                Event::Data { stream, data, .. } => {
                    self.data(stream, &data)?.map(|message| Came::Message(stream, message))
                }
                Event::Room { .. } | Event::GoAway { .. } => None,
            };
            if let Some(Came::End(stream, _)) = &came {
                self.partial.remove(stream);
            }
            if came.is_some() {
                return Ok(came);
            }
        }
        Ok(None)
    }

    /// One message at most: a server that has more to say says it in another frame.
    fn data(&mut self, stream: StreamId, data: &Bytes) -> io::Result<Option<Bytes>> {
        self.http.taken(stream, data.len());
        if self.partial.is_empty()
            && let Some(message) = only_message(data)
        {
            return Ok(Some(message));
        }
        let partial =
            self.partial.entry(stream).or_insert_with(|| Unframer::new(MESSAGE_BYTES_MAX));
        partial.push(data);
        let message = partial.next_message().map_err(io::Error::other)?;
        if partial.is_empty() {
            self.partial.remove(&stream);
        }
        Ok(message)
    }

    /// A call with one answer, and nothing else on this channel meanwhile.
    pub(super) async fn call(&mut self, method: &str, request: &impl Message) -> io::Result<Bytes> {
        let full = || io::Error::other("the server takes no calls");
        let own = self.begin(method, request, true).ok_or_else(full)?;
        let mut answer = None;
        loop {
            match self.next().await? {
                Came::Message(stream, message) if stream == own => answer = Some(message),
                Came::End(stream, outcome) if stream == own => {
                    outcome.map_err(io::Error::other)?;
                    return answer.ok_or_else(|| io::Error::other("no answer"));
                }
                _ => {} // of a call that was given up
            }
        }
    }

    /// Writes what is pending, and reads; ready when something came.
    fn exchange(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.http.pending().is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.http.pending())? {
                Poll::Ready(bytes) => self.http.wrote(bytes),
                Poll::Pending => break,
            }
        }
        if let Some(why) = self.http.is_over() {
            return Poll::Ready(Err(io::Error::other(why)));
        }
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.http.receive(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }
}

/// What a call's last fields say of it.
fn outcome(fields: &Fields) -> Result<(), String> {
    match fields.text("grpc-status") {
        Some("0") => Ok(()),
        Some(code) => {
            let why = unescape(fields.text("grpc-message").unwrap_or_default());
            Err(format!("refused: {why} (code {code})"))
        }
        None => Err("the call ended without a status".to_string()),
    }
}
