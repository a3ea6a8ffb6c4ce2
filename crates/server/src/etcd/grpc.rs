//! gRPC over HTTP/2: the method is the path, a call's metadata are headers, messages are frames, the outcome is in trailers.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate_etcd::grpc::{
    CLIENT_ID_KEY, OPEN_CLIENT, SEQUENCE_KEY, Status, Unframer, parse_client_id, parse_tag,
};
use quorate_etcd::methods::encode_response;
use quorate_etcd::server::{Context, Response};
use quorate_etcd::{Code, Refusal};
use quorate_http2::Fields;

use super::body::Sender;
use super::incoming::RequestBody;
use super::listen::Api;
use super::outgoing::Outgoing;
use super::{ranges, streams};

/// Its answer may be larger than what should be in memory at once.
const RANGE: &str = "/etcdserverpb.KV/Range";
/// What a message may have beyond the largest request.
const OVERHEAD_BYTES: usize = 512 << 10;
/// A client may take so long to send the one message of a call.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);

/// The messages of a request.
pub(super) enum Requests {
    /// As they come.
    Framed { body: RequestBody, unframer: Unframer },
    /// They are here, and no more will come.
    Ready(VecDeque<Bytes>),
}

impl Requests {
    fn new(body: RequestBody, request_bytes_max: usize) -> Self {
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
            match body.next().await {
                Some(Ok(data)) => unframer.push(&data),
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
pub(super) async fn answer(
    api: Rc<Api>,
    context: Result<Context, Refusal>,
    fields: Fields,
    body: RequestBody,
    out: Outgoing,
) {
    let context = match context {
        Ok(context) => context,
        Err(refusal) => return out.reply(Err(refusal.into())),
    };
    let method = fields.text(":path").unwrap_or_default();
    let mut requests = Requests::new(body, api.about.request_bytes_max);
    if let Some(kind) = streams::Kind::of(method) {
        return Box::pin(streams::serve(api, kind, context, requests, Sender::Grpc(out))).await;
    }
    if method == OPEN_CLIENT {
        return out.reply(Box::pin(open_client(&api, &fields, context)).await);
    }
    let message = match requests.only().await {
        Ok(message) => message,
        Err(status) => return out.reply(Err(status)),
    };
    if method == RANGE {
        return Box::pin(ranges::answer(&api, &context, message, out)).await;
    }
    out.reply(api.unary(method, &context, message).await);
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

impl From<&Response> for Reply {
    fn from(response: &Response) -> Self {
        let done_before = matches!(response, Response::DoneBefore(_));
        Self { done_before, ..encode_response(response).into() }
    }
}

async fn open_client(api: &Api, fields: &Fields, context: Context) -> Result<Reply, Status> {
    let id = fields.text(CLIENT_ID_KEY).ok_or(Refusal::BadTag)?;
    let id = parse_client_id(id)?;
    api.open_client(&Context { tag: None, ..context }, id).await
}

/// Who calls, and how, out of the call's metadata: each field is looked at once, for there are few that say something of that.
pub(super) fn context<'a>(
    metadata: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Context, Refusal> {
    let (mut own_token, mut authorization, mut client, mut sequence) = (None, None, None, None);
    let mut requires_leader = false;
    for (name, value) in metadata {
        let first = match name {
            b"token" => &mut own_token,
            b"authorization" => &mut authorization,
            name if name == CLIENT_ID_KEY.as_bytes() => &mut client,
            name if name == SEQUENCE_KEY.as_bytes() => &mut sequence,
            b"hasleader" => {
                requires_leader = value == b"true";
                continue;
            }
            _ => continue,
        };
        *first = first.or(std::str::from_utf8(value).ok());
    }
    let token = own_token.or(authorization);
    let token = token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token).to_string());
    let tag = match sequence {
        // An id alone is about to be opened.
        None => None,
        sequence => parse_tag(client, sequence)?,
    };
    Ok(Context { token, certified: None, tag, requires_leader })
}
