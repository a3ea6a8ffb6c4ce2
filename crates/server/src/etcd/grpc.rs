//! gRPC over HTTP: the method is the path, a call's metadata are headers, messages are frames, the outcome is in trailers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::Extensions;
use hyper::{HeaderMap, Request, Response};
use quorate_etcd::grpc::{
    CLIENT_ID_KEY, DONE_BEFORE_KEY, OPEN_CLIENT, SEQUENCE_KEY, Status, Unframer, escape, frame,
    parse_client_id, parse_tag,
};
use quorate_etcd::server::Context;
use quorate_etcd::{Code, Refusal};

use super::body::{Body, Framed, Messages, Pieces, Skin};
use super::listen::{Api, CertifiedUser};
use super::ranges;
use super::ranges::Ranged;
use super::streams;

/// Its answer may be larger than what should be in memory at once.
const RANGE: &str = "/etcdserverpb.KV/Range";
/// What a message may have beyond the largest request.
const OVERHEAD_BYTES: usize = 512 << 10;
/// A client may take so long to send the one message of a call.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);

/// The messages of a request.
pub(super) enum Requests {
    /// As they come.
    Framed { body: Incoming, unframer: Unframer },
    /// They are here, and no more will come.
    Ready(VecDeque<Bytes>),
}

impl Requests {
    fn new(body: Incoming, request_bytes_max: usize) -> Self {
        Self::Framed { body, unframer: Unframer::new(request_bytes_max + OVERHEAD_BYTES) }
    }

    /// The next one; `None` when the client has said all. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let (body, unframer) = match self {
            Self::Framed { body, unframer } => (body, unframer),
            Self::Ready(messages) => return messages.pop_front().map(Ok),
        };
        loop {
            match unframer.next_message() {
                Ok(None) => {}
                complete => return complete.transpose(),
            }
            match std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        unframer.push(&data);
                    }
                }
                Some(Err(_)) => return None,
                None if unframer.is_empty() => return None,
                None => {
                    let status = Status::new(Code::Internal, "grpc: the request ends in a message");
                    return Some(Err(status));
                }
            }
        }
    }

    /// The only one.
    pub(super) async fn only(&mut self) -> Result<Bytes, Status> {
        let next = tokio::time::timeout(REQUEST_PATIENCE, self.next()).await;
        let late = || Status::new(Code::DeadlineExceeded, "grpc: the request did not come in time");
        let none = || Status::new(Code::Internal, "grpc: the call has no request");
        next.map_err(|_| late())?.ok_or_else(none)?
    }
}

/// Answers one call.
pub(super) async fn answer(api: Rc<Api>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let context = match context(&head.headers) {
        Ok(context) => Context { certified: certified(&head.extensions), ..context },
        Err(refusal) => return whole(Err(refusal.into())),
    };
    let method = head.uri.path();
    let mut requests = Requests::new(body, api.about.request_bytes_max);
    if let Some(kind) = streams::Kind::of(method) {
        return match Box::pin(streams::begin(api, kind, context, requests)).await {
            Ok(messages) => streamed(messages, Box::new(Framed)),
            Err(status) => whole(Err(status)),
        };
    }
    if method == OPEN_CLIENT {
        return whole(Box::pin(open_client(&api, &head.headers, context)).await);
    }
    let message = match requests.only().await {
        Ok(message) => message,
        Err(status) => return whole(Err(status)),
    };
    if method == RANGE {
        return match ranges::answer(&api, &context, message).await {
            Ok(Ranged::Whole(message)) => whole(Ok(message.into())),
            Ok(Ranged::Pieces(pieces)) => streamed(pieces, Box::new(Pieces)),
            Err(status) => whole(Err(status)),
        };
    }
    whole(api.unary(method, &context, message).await)
}

/// What one call came to: the reply's bytes, and whether it is only the word that it was done before.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) message: Bytes,
    pub(super) done_before: bool,
}

impl From<Vec<u8>> for Reply {
    fn from(message: Vec<u8>) -> Self {
        Self { message: message.into(), done_before: false }
    }
}

async fn open_client(api: &Api, headers: &HeaderMap, context: Context) -> Result<Reply, Status> {
    let id = text(headers, CLIENT_ID_KEY).ok_or(Refusal::BadTag)?;
    let id = parse_client_id(id)?;
    api.open_client(&Context { tag: None, ..context }, id).await
}

/// Who calls, and how.
pub(super) fn context(headers: &HeaderMap) -> Result<Context, Refusal> {
    let token = text(headers, "token").or_else(|| text(headers, "authorization"));
    let token = token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token).to_string());
    let (client, sequence) = (text(headers, CLIENT_ID_KEY), text(headers, SEQUENCE_KEY));
    let tag = match sequence {
        // An id alone is about to be opened.
        None => None,
        sequence => parse_tag(client, sequence)?,
    };
    let requires_leader = text(headers, "hasleader") == Some("true");
    Ok(Context { token, certified: None, tag, requires_leader })
}

/// The user that the connection's certificate names.
fn certified(extensions: &Extensions) -> Option<String> {
    extensions.get::<CertifiedUser>().map(|CertifiedUser(name)| name.to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn whole(reply: Result<Reply, Status>) -> Response<Body> {
    let (mut headers, body) = match reply {
        Ok(Reply { message, done_before }) => {
            let mut headers = HeaderMap::new();
            if done_before {
                headers.insert(DONE_BEFORE_KEY, HeaderValue::from_static("1"));
            }
            let body = Body::Whole { data: Some(frame(&message)), trailers: Some(trailers(None)) };
            (headers, body)
        }
        Err(status) => (trailers(Some(&status)), Body::empty()),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

fn streamed(messages: Messages, skin: Box<dyn Skin>) -> Response<Body> {
    let mut response = Response::new(Body::Stream { messages, skin });
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// How a call ended.
pub(super) fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let code = status.map_or(0, |status| status.code as u16);
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Some(text) = status.and_then(|status| escape(&status.message).parse().ok()) {
        trailers.insert("grpc-message", text);
    }
    trailers
}
