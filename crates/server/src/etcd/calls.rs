//! The requests of one HTTP/2 connection, each led to who answers it.
//!
//! Most are calls on keys, small and complete when they are seen: they are handed to the group at once, and their answers go straight
//! into the connection (`Straight`). Everything else, streams and large requests among it, has a task of its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use hyper::header::HOST;
use hyper::{Request as HttpRequest, Response as HttpResponse};
use quorate_etcd::Refusal;
use quorate_etcd::grpc::{Status, only_message};
use quorate_etcd::methods::decode_request;
use quorate_etcd::server::{Context, Request};
use quorate_http2::{ErrorCode, Event, Field, Fields, StreamId};

use super::body::Body;
use super::front::{Answer, Caller};
use super::grpc::{self, Reply};
use super::http2::{Gone, Wire};
use super::incoming::{Arriving, RequestBody};
use super::listen::{Api, CertifiedUser};
use super::outgoing::{Outgoing, reply};
use super::{gateway, pages};

/// Methods that are calls on keys.
const KEYS: &str = "/etcdserverpb.KV/";
/// Bytes of replies that may wait for windows of one connection; beyond, new requests are sent back, which clients repeat by themselves.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// The requests of a connection.
pub(super) struct Calls {
    api: Rc<Api>,
    wire: Rc<Wire>,
    user: Option<CertifiedUser>,
    /// Bodies that have not come whole.
    arriving: BTreeMap<StreamId, Rc<Arriving>>,
    /// A call whose body has not begun: most are small enough to come with it.
    begun: Option<(StreamId, Fields)>,
}

impl Calls {
    pub(super) fn new(api: Rc<Api>, wire: Rc<Wire>, user: Option<CertifiedUser>) -> Self {
        Self { api, wire, user, arriving: BTreeMap::new(), begun: None }
    }

    /// What came next.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Head { stream, fields, end } => self.head(stream, fields, end),
            Event::Data { stream, data, end } => self.data(stream, data, end),
            Event::Trailers { stream, .. } => self.ended(stream),
            Event::Reset { stream, .. } => self.reset(stream),
            Event::Room { .. } | Event::GoAway { .. } => {}
        }
    }

    /// Nothing more has come for now.
    pub(super) fn batch_ends(&mut self) {
        if let Some((stream, fields)) = self.begun.take() {
            self.task(stream, fields, false);
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self) {
        std::mem::take(&mut self.arriving).values().for_each(|body| body.gone());
        self.wire.close();
    }

    fn head(&mut self, stream: StreamId, fields: Fields, end: bool) {
        self.batch_ends();
        if self.wire.ask().queued_bytes() > QUEUED_BYTES_MAX {
            return self.wire.say().reset(stream, ErrorCode::REFUSED_STREAM);
        }
        if end {
            self.task(stream, fields, true);
        } else {
            self.begun = Some((stream, fields));
        }
    }

    fn data(&mut self, stream: StreamId, data: Bytes, end: bool) {
        if let Some((_, fields)) = self.begun.take_if(|(begun, _)| *begun == stream) {
            if end && self.is_quick(stream, &fields, &data) {
                return;
            }
            self.task(stream, fields, false);
        }
        if let Some(body) = self.arriving.get(&stream) {
            body.data(data);
        }
        if end {
            self.ended(stream);
        }
    }

    fn ended(&mut self, stream: StreamId) {
        if let Some((_, fields)) = self.begun.take_if(|(begun, _)| *begun == stream) {
            self.task(stream, fields, false);
        }
        if let Some(body) = self.arriving.remove(&stream) {
            body.end();
        }
    }

    fn reset(&mut self, stream: StreamId) {
        self.begun.take_if(|(begun, _)| *begun == stream);
        if let Some(body) = self.arriving.remove(&stream) {
            body.gone();
        }
    }

    /// Hands a call on keys in, if it is one that needs nothing else. Its answer may take as long as it likes.
    fn is_quick(&self, stream: StreamId, fields: &Fields, data: &Bytes) -> bool {
        let Some(method) = fields.text(":path").filter(|path| path.starts_with(KEYS)) else {
            return false;
        };
        let (true, Some(message)) = (is_grpc(fields), only_message(data)) else { return false };
        let (kib, context) = (super::listen::kib(message.len()), self.context(fields));
        let request = match (decode_request(method, message), &context) {
            // A large range goes in pieces.
            (Some(Ok(Request::Range(range))), _) if !range.range_end.is_empty() => return false,
            (Some(Ok(request)), Ok(_)) => request,
            _ => return false, // a task finds the same, and says it
        };
        let (Ok(place), Ok(context)) = (self.api.room.try_acquire_many(kib), context) else {
            return false;
        };
        place.forget();
        let (api, wire) = (self.api.clone(), self.wire.clone());
        let caller = Caller::Straight(Straight { api, wire, stream, kib, is_answered: false });
        self.api.desk.hand_in(context, request, caller);
        true
    }

    fn context(&self, fields: &Fields) -> Result<Context, Refusal> {
        let certified = self.user.as_ref().map(|CertifiedUser(name)| name.to_string());
        grpc::context(fields.iter()).map(|context| Context { certified, ..context })
    }

    /// Gives a request a task of its own.
    fn task(&mut self, stream: StreamId, fields: Fields, ended: bool) {
        let arriving = Rc::<Arriving>::default();
        if ended {
            arriving.end();
        } else {
            self.arriving.insert(stream, arriving.clone());
        }
        let body = RequestBody::new(self.wire.clone(), stream, arriving);
        if is_grpc(&fields) {
            let out = Outgoing::new(self.wire.clone(), stream);
            let (context, api) = (self.context(&fields), self.api.clone());
            tokio::task::spawn_local(grpc::answer(api, context, fields, body, out));
        } else {
            tokio::task::spawn_local(page(
                self.api.clone(),
                self.wire.clone(),
                stream,
                fields,
                body,
            ));
        }
    }
}

fn is_grpc(fields: &Fields) -> bool {
    fields.get("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// A call whose answer goes straight into its connection.
pub(crate) struct Straight {
    api: Rc<Api>,
    wire: Rc<Wire>,
    stream: StreamId,
    /// Its place among the requests that are being worked on.
    kib: u32,
    is_answered: bool,
}

impl Straight {
    /// What came of it.
    pub(crate) fn answer(mut self, answer: Answer) {
        self.say(answer);
    }

    fn say(&mut self, answer: Answer) {
        self.is_answered = true;
        let answer = answer.map(|response| Reply::from(&*response)).map_err(Status::from);
        reply(&self.wire, self.stream, answer);
    }
}

impl Drop for Straight {
    fn drop(&mut self) {
        if !self.is_answered {
            self.say(Err(Refusal::Stopped));
        }
        self.api.room.add_permits(self.kib as usize);
    }
}

/// Answers what is not gRPC.
async fn page(api: Rc<Api>, wire: Rc<Wire>, stream: StreamId, fields: Fields, body: RequestBody) {
    let response = match request(&api, &fields, body).await {
        Asked::Request(request) => pages::answer(api, request).await,
        Asked::Refused(response) => response,
        Asked::Gone => return,
    };
    // An error is a client that has gone.
    let _ = send(&wire, stream, response).await;
}

/// A request as `pages` reads them.
enum Asked {
    Request(HttpRequest<Bytes>),
    Refused(HttpResponse<Body>),
    /// Its client has gone.
    Gone,
}

async fn request(api: &Api, fields: &Fields, mut body: RequestBody) -> Asked {
    let mut whole = pages::Whole::new(api);
    while let Some(data) = body.next().await {
        let Ok(data) = data else { return Asked::Gone };
        if let Err(status) = whole.push(&data) {
            return Asked::Refused(gateway::refused(&status));
        }
    }
    let text = |name| fields.text(name).unwrap_or_default();
    let mut request = HttpRequest::builder().method(text(":method")).uri(text(":path"));
    // Section 8.3.1 of RFC 9113: what HTTP/1.1 calls the host.
    if fields.get("host").is_none() {
        request = request.header(HOST, text(":authority"));
    }
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        request = request.header(name, value);
    }
    match request.body(whole.into()) {
        Ok(request) => Asked::Request(request),
        Err(error) => Asked::Refused(pages::bad_request(&error)),
    }
}

async fn send(wire: &Rc<Wire>, stream: StreamId, response: HttpResponse<Body>) -> Result<(), Gone> {
    let (head, body) = response.into_parts();
    let status = head.status.as_str().to_string();
    let mut fields = vec![Field::new(":status", status.as_bytes())];
    fields.extend(
        head.headers.iter().map(|(name, value)| Field::new(name.as_str(), value.as_bytes())),
    );
    wire.say().send_head(stream, &fields, false);
    let (mut messages, skin) = match body {
        Body::Whole(data) => {
            wire.say().send_data(stream, data.unwrap_or_default(), true);
            return Ok(());
        }
        Body::Stream { messages, skin } => (messages, skin),
    };
    let bell = wire.listen(stream);
    let ended = loop {
        let next = tokio::select! {
            next = messages.recv() => next,
            () = wire.gone(stream, &bell) => break None,
        };
        match next {
            Some(Ok(message)) => {
                wire.say().send_data(stream, skin.message(message), false);
                wire.left(stream, &bell).await?;
            }
            ended => break ended.and_then(Result::err),
        }
    };
    wire.say().send_data(stream, skin.end(ended.as_ref()).unwrap_or_default(), true);
    wire.listen_no_more(stream);
    Ok(())
}
