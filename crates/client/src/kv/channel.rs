//! One server, spoken to by gRPC: a connection that is made when it is needed, and made again when it is lost.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quorate_etcd::Code;
use quorate_etcd::grpc::{DONE_BEFORE_KEY, Status, Unframer, frame, unescape};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

/// A server that does not take a connection for this long is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// The largest message taken from a server.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Metadata of a call: names, in lower case, and values.
pub type Metadata = Vec<(&'static str, String)>;

/// Why a call has no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// There is no connection: it was not sent.
    NotSent(String),
    /// The connection was lost: it may have been done.
    Lost(String),
    /// The server says so.
    Refused(Status),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(cause) | Self::Lost(cause) => f.write_str(cause),
            Self::Refused(status) => status.fmt(f),
        }
    }
}

/// One server.
pub struct Channel {
    address: String,
    connection: Mutex<Option<SendRequest<Requests>>>,
}

/// The reply to a call.
#[derive(Debug)]
pub struct Reply {
    /// The message, in protobuf.
    pub message: Bytes,
    /// It was done before, and the reply is only the header.
    pub done_before: bool,
}

impl Channel {
    /// A server at `HOST:PORT`, or a URL of it. It is dialled when it is called.
    pub fn new(address: &str) -> Self {
        let address = address.trim_start_matches("http://").trim_end_matches('/').to_string();
        Self { address, connection: Mutex::new(None) }
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A call with one reply.
    pub async fn unary(
        &self,
        method: &str,
        metadata: &Metadata,
        message: &[u8],
    ) -> Result<Reply, CallError> {
        let requests = Requests::Once(Some(frame(message)));
        let mut responses = self.begin(method, metadata, requests).await?;
        let done_before = responses.done_before;
        let message = responses.next().await.ok_or_else(nothing)??;
        // The status comes behind the message.
        match responses.next().await {
            None => Ok(Reply { message, done_before }),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Err(CallError::Lost("the server sent two replies".to_string())),
        }
    }

    /// A call whose requests and replies are streams.
    pub(super) async fn stream(
        &self,
        method: &str,
        metadata: &Metadata,
        requests: mpsc::Receiver<Bytes>,
    ) -> Result<Responses, CallError> {
        self.begin(method, metadata, Requests::Stream(requests)).await
    }

    async fn begin(
        &self,
        method: &str,
        metadata: &Metadata,
        requests: Requests,
    ) -> Result<Responses, CallError> {
        let mut connection = self.connection().await.map_err(CallError::NotSent)?;
        let request = self.request(method, metadata, requests).map_err(CallError::NotSent)?;
        let lost = |error: hyper::Error| CallError::Lost(error.to_string());
        let response = connection.send_request(request).await.map_err(lost)?;
        Responses::new(response)
    }

    fn request(
        &self,
        method: &str,
        metadata: &Metadata,
        requests: Requests,
    ) -> Result<Request<Requests>, String> {
        let failed = |error: &dyn fmt::Display| format!("{}{method}: {error}", self.address);
        let uri = format!("http://{}{method}", self.address);
        let uri: Uri = uri.parse().map_err(|error| failed(&error))?;
        let mut request = Request::post(uri).body(requests).map_err(|error| failed(&error))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        for (name, value) in metadata {
            let value = HeaderValue::from_str(value).map_err(|error| failed(&error))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }

    async fn connection(&self) -> Result<SendRequest<Requests>, String> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let open = tokio::time::timeout(CONNECT_PATIENCE, connect(&self.address));
        let open = open.await.map_err(|_| "it does not answer in time".to_string()).flatten();
        let open = open.map_err(|cause| format!("{}: {cause}", self.address))?;
        Ok(connection.insert(open).clone())
    }
}

async fn connect(address: &str) -> Result<SendRequest<Requests>, String> {
    let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let shaken = handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    // It ends with its last user; an error reaches those whose calls it breaks.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn nothing() -> CallError {
    CallError::Lost("the server ended the call without a reply".to_string())
}

/// What is sent with a call.
pub(super) enum Requests {
    Once(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Once(message) => Poll::Ready(message.take()),
            Self::Stream(messages) => {
                messages.poll_recv(context).map(|message| message.map(|message| frame(&message)))
            }
        };
        next.map(|message| message.map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Once(None))
    }
}

/// What comes back.
pub(super) struct Responses {
    body: Incoming,
    unframer: Unframer,
    ended: bool,
    done_before: bool,
}

impl Responses {
    fn new(response: Response<Incoming>) -> Result<Self, CallError> {
        let (head, body) = response.into_parts();
        if let Some(status) = status(&head.headers) {
            return Err(CallError::Refused(status));
        }
        if !head.status.is_success() {
            return Err(CallError::Lost(format!("the server answers {}", head.status)));
        }
        let done_before = head.headers.contains_key(DONE_BEFORE_KEY);
        Ok(Self { body, unframer: Unframer::new(MESSAGE_BYTES_MAX), ended: false, done_before })
    }

    /// The next message; `None` at the end. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        loop {
            match self.unframer.next_message() {
                Ok(None) if self.ended => return None,
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(status) => return Some(Err(CallError::Refused(status))),
            }
            let body = &mut self.body;
            match std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
                None => {
                    self.ended = true;
                    return Some(Err(CallError::Lost("the stream ended without a status".into())));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(CallError::Lost(error.to_string())));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.unframer.push(&data),
                    Err(frame) => {
                        self.ended = true;
                        let status = frame.trailers_ref().and_then(status);
                        if let Some(status) = status {
                            return Some(Err(CallError::Refused(status)));
                        }
                    }
                },
            }
        }
    }
}

/// What headers or trailers say of a call's end, unless it is good.
fn status(headers: &HeaderMap) -> Option<Status> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code: u8 = text("grpc-status")?.parse().unwrap_or(Code::Unknown as u8);
    let message = unescape(text("grpc-message").unwrap_or_default());
    (code != 0).then(|| Status::new(Code::from_number(code), message))
}
