//! Large ranges: one message of gRPC, made and sent piece by piece, all of one revision.
//!
//! A message begins with its length, so the range is measured first, a slice at a time; then each piece is read when the
//! client has taken the one before. In memory there is never more than a piece or two, whatever the range holds. If
//! compaction overtakes the revision before the first byte is out, the range begins anew; after that the call fails.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use quorate_etcd::grpc::{Status, decode};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{Context, Request, Response};
use quorate_etcd::store::is_in_order;
use quorate_etcd::{Code, Refusal};

use super::listen::Api;
use super::outgoing::Outgoing;

/// Bytes of a piece; a range that is not larger is answered as a whole.
const PIECE_BYTES: usize = 1 << 20;
/// Keys that are measured in one step of the service: a few milliseconds.
const KEYS_PER_STEP: u64 = 20_000;
/// How often a range begins anew.
const TRIES: usize = 3;

/// The answer to a range.
enum Ranged {
    /// A message.
    Whole(Vec<u8>),
    /// The first piece of a frame with a message in it, and what is left of the range.
    Pieces(Bytes, Rest),
}

/// What is left of a range.
struct Rest {
    request: pb::RangeRequest,
    next: Bytes,
    /// How many keys may follow; `None` is all.
    limit: Option<i64>,
}

impl Rest {
    /// Asks for what comes next, at the revision at which the range began, of this server.
    fn request(&self) -> pb::RangeRequest {
        let (key, limit) = (self.next.clone(), self.limit.unwrap_or(0));
        pb::RangeRequest { key, limit, serializable: true, ..self.request.clone() }
    }

    /// So many keys were read. Whether there is more.
    fn advance(&mut self, keys: usize, next: Option<Bytes>) -> bool {
        self.limit = self.limit.map(|limit| limit - keys as i64);
        match next {
            Some(next) if self.limit != Some(0) => {
                self.next = next;
                true
            }
            _ => false,
        }
    }
}

/// Answers `KV/Range`.
pub(super) async fn answer(api: &Api, context: &Context, message: Bytes, out: Outgoing) {
    match ranged(api, context, message).await {
        Ok(Ranged::Whole(message)) => out.reply(Ok(message.into())),
        Ok(Ranged::Pieces(head, rest)) => send(api, context, rest, head, out).await,
        Err(status) => out.reply(Err(status)),
    }
}

async fn ranged(api: &Api, context: &Context, message: Bytes) -> Result<Ranged, Status> {
    let request: pb::RangeRequest = decode(message)?;
    if !is_in_order(&request) {
        let response = api.desk.call(context, Request::Range(request)).await?;
        return Ok(Ranged::Whole(quorate_etcd::methods::encode_response(&response)));
    }
    let mut tries = 1;
    loop {
        match begin(api, context, request.clone()).await {
            Err(status) if tries < TRIES && request.revision <= 0 && is_compacted(&status) => {
                tries += 1;
            }
            answered => return answered,
        }
    }
}

fn is_compacted(status: &Status) -> bool {
    status.refusal() == Some(Refusal::Compacted)
}

async fn begin(api: &Api, context: &Context, request: pb::RangeRequest) -> Result<Ranged, Status> {
    let (first, next) = piece(api, context, request.clone()).await?;
    match next {
        None => Ok(Ranged::Whole(first.encode_to_vec())),
        Some(next) => Box::pin(in_pieces(api, context, request, first, next)).await,
    }
}

/// There is more than the first piece.
async fn in_pieces(
    api: &Api,
    context: &Context,
    request: pb::RangeRequest,
    first: pb::RangeResponse,
    next: Bytes,
) -> Result<Ranged, Status> {
    let seen = first.header.map_or(0, |header| header.revision);
    let revision = if request.revision > 0 { request.revision } else { seen };
    let limit = (request.limit > 0).then(|| request.limit - first.kvs.len() as i64);
    let rest = Rest { request: pb::RangeRequest { revision, ..request }, next, limit };
    let first = first.encode_to_vec();
    let bytes = measure(api, context, &rest).await? + first.len() as u64;
    Ok(Ranged::Pieces(head(bytes, &first)?, rest))
}

/// The frame's prefix and the first piece. Fields of a message may come in any order, and those that repeat in several
/// places: so a message is its pieces one after the other.
fn head(bytes: u64, first: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(bytes).map_err(|_| {
        Status::new(Code::ResourceExhausted, "a reply has at most 4 GiB: set a limit")
    })?;
    let mut head = BytesMut::with_capacity(5 + first.len());
    head.put_u8(0);
    head.put_u32(length);
    head.put_slice(first);
    Ok(head.freeze())
}

async fn measure(api: &Api, context: &Context, rest: &Rest) -> Result<u64, Status> {
    let (Rest { request, next, limit }, mut bytes) = (rest, 0);
    let mut rest = Rest { request: request.clone(), next: next.clone(), limit: *limit };
    loop {
        let request = Request::RangeBytes(rest.request(), KEYS_PER_STEP);
        let Response::RangeBytes(more, keys, next) = *api.desk.call(context, request).await? else {
            return Err(Status::new(Code::Internal, "a measurement has no measure"));
        };
        bytes += more;
        if !rest.advance(keys as usize, next) {
            return Ok(bytes);
        }
    }
}

async fn send(api: &Api, context: &Context, mut rest: Rest, head: Bytes, out: Outgoing) {
    let _place = api.large.acquire().await;
    let mut ready = head;
    while out.send_piece(ready).await.is_ok() {
        let (read, next) = match piece(api, context, rest.request()).await {
            Ok(piece) => piece,
            Err(status) => return out.fail(&status),
        };
        let keys = read.kvs.len();
        // The header and the count were told with the first piece.
        let kvs = pb::RangeResponse { kvs: read.kvs, ..Default::default() };
        ready = kvs.encode_to_vec().into();
        if !rest.advance(keys, next) {
            let _ = out.send_piece(ready).await; // the client may have gone
            return;
        }
    }
}

async fn piece(
    api: &Api,
    context: &Context,
    request: pb::RangeRequest,
) -> Result<(pb::RangeResponse, Option<Bytes>), Status> {
    match *api.desk.call(context, Request::RangePiece(request, PIECE_BYTES)).await? {
        Response::RangePiece(response, next) => Ok((response, next)),
        _ => Err(Status::new(Code::Internal, "a range was answered with something else")),
    }
}
