//! Carries the Clerk's calls to servers, each in a task of its own, and their answers back to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_clerk::{Answer, Ask, AskId, Clerk, ClerkMessage, Told};
use quorate_contracts::{Input, NodeId, Output, Process, Time};
use quorate_etcd::command::Tag;
use quorate_etcd::grpc::{CLIENT_ID_KEY, SEQUENCE_KEY, Status, sequence_text};
use quorate_etcd::methods::{decode_response, encode_request, method};
use quorate_etcd::server::{Request, Response};
use quorate_etcd::{ClientId, Code, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::channel::{CallError, Channel, Metadata, Responses};
use super::pb;

/// Requests of a stream that wait to be sent.
const REQUESTS_AHEAD: usize = 16;

/// A caller's question.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) patience: Duration,
    pub(super) told: oneshot::Sender<Answer>,
}

/// The servers, in the order in which they are tried.
pub(super) struct Servers {
    channels: Vec<Channel>,
    user: Option<(String, String)>,
    /// What the servers know the user by.
    token: tokio::sync::Mutex<Option<String>>,
    /// What went wrong last, while nothing goes well.
    trouble: Mutex<Option<String>>,
}

impl Servers {
    pub(super) fn new(channels: Vec<Channel>, user: Option<(String, String)>) -> Self {
        Self { channels, user, token: tokio::sync::Mutex::new(None), trouble: Mutex::new(None) }
    }

    /// Why no server is reached, if that is so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn channel(&self, server: NodeId) -> &Channel {
        &self.channels[server.0 as usize - 1]
    }

    /// Every server, as the Clerk numbers them.
    fn ids(&self) -> Vec<NodeId> {
        (1..=self.channels.len() as u64).map(NodeId).collect()
    }

    /// The first server that takes a call.
    pub(super) async fn once(&self, method: &str, message: &[u8]) -> Result<Bytes, CallError> {
        let mut failure = CallError::NotSent("there is no server".to_string());
        for channel in &self.channels {
            let metadata = self.metadata(channel).await?;
            match channel.unary(method, &metadata, message).await {
                Err(error @ CallError::NotSent(_)) => failure = error,
                done => return done.map(|reply| reply.message),
            }
        }
        Err(failure)
    }

    /// A connection for streams: to the first server that takes one.
    pub(super) async fn stream(
        &self,
        method: &str,
        first: &Bytes,
    ) -> Result<(mpsc::Sender<Bytes>, Responses), CallError> {
        let mut failure = CallError::NotSent("there is no server".to_string());
        for channel in &self.channels {
            let metadata = self.metadata(channel).await?;
            let (requests, sent) = mpsc::channel(REQUESTS_AHEAD);
            let _ = requests.try_send(first.clone()); // there is room for one
            match channel.stream(method, &metadata, sent).await {
                Err(error @ (CallError::NotSent(_) | CallError::Lost(_))) => failure = error,
                done => return done.map(|responses| (requests, responses)),
            }
        }
        Err(failure)
    }

    /// What each call says of its caller, who authenticates first.
    async fn metadata(&self, channel: &Channel) -> Result<Metadata, CallError> {
        let Some((name, password)) = &self.user else { return Ok(Metadata::new()) };
        let mut token = self.token.lock().await;
        if token.is_none() {
            let request = Request::Authenticate(pb::AuthenticateRequest {
                name: name.clone(),
                password: password.clone(),
            });
            match call(channel, &Metadata::new(), &request).await? {
                Response::Authenticate(reply) => *token = Some(reply.token),
                _ => return Err(CallError::Lost("the server gave no token".to_string())),
            }
        }
        Ok(token.iter().map(|token| ("token", token.clone())).collect())
    }

    /// One attempt of the Clerk.
    async fn attempt(
        &self,
        to: NodeId,
        tag: Option<Tag>,
        request: &Request,
    ) -> Result<Response, CallError> {
        let channel = self.channel(to);
        for renewed in [false, true] {
            let mut metadata = self.metadata(channel).await?;
            if let Some(tag) = &tag {
                metadata.push((CLIENT_ID_KEY, tag.client.to_string()));
                metadata.push((SEQUENCE_KEY, sequence_text(tag)));
            } else if let Request::OpenClient(id) = request {
                metadata.push((CLIENT_ID_KEY, id.to_string()));
            }
            let done = call(channel, &metadata, request).await;
            let stale = |status: &Status| {
                let refusal = status.refusal();
                matches!(refusal, Some(Refusal::InvalidAuthToken | Refusal::AuthOldRevision))
            };
            match &done {
                // A token is forgotten after a while, or when users change.
                Err(CallError::Refused(status)) if stale(status) && !renewed => {
                    *self.token.lock().await = None;
                }
                _ => return done,
            }
        }
        Err(CallError::Refused(Refusal::InvalidAuthToken.into()))
    }
}

async fn call(
    channel: &Channel,
    metadata: &Metadata,
    request: &Request,
) -> Result<Response, CallError> {
    let method = method(request);
    let reply = channel.unary(method, metadata, &encode_request(request)).await?;
    let response = decode_response(method, reply.message).map_err(CallError::Refused)?;
    Ok(match response {
        response if !reply.done_before => response,
        response => Response::DoneBefore(header(&response)),
    })
}

fn header(response: &Response) -> pb::ResponseHeader {
    match response {
        Response::Put(reply) => reply.header,
        Response::DeleteRange(reply) => reply.header,
        Response::Txn(reply) => reply.header,
        Response::LeaseGrant(reply) => reply.header,
        Response::Done(header) => Some(*header),
        _ => None,
    }
    .unwrap_or_default()
}

/// What an attempt came to.
struct Attempted {
    from: NodeId,
    message: ClerkMessage,
    lost: bool,
}

/// Runs a Clerk until nobody can ask it any more.
pub(super) async fn run(
    servers: Arc<Servers>,
    client: ClientId,
    mut asks: mpsc::UnboundedReceiver<Asked>,
) {
    let start = Instant::now();
    let now = || Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut clerk = Clerk::new(servers.ids(), client);
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut callers: BTreeMap<AskId, oneshot::Sender<Answer>> = BTreeMap::new();
    let mut next = AskId(1);
    let mut out = Vec::new();
    loop {
        let wait = clerk.deadline().map_or(Duration::MAX, |(at, _)| at.since(now()));
        tokio::select! {
            asked = asks.recv() => {
                let Some(Asked { request, patience, told }) = asked else { return };
                callers.insert(next, told);
                clerk.step(now(), Input::Requested(Ask { id: next, request, patience }), &mut out);
                next = AskId(next.0 + 1);
            }
            Some(Attempted { from, message, lost }) = answers.recv() => {
                clerk.step(now(), Input::Received { from, message }, &mut out);
                if lost {
                    clerk.step(now(), Input::MemberLost { member: from }, &mut out);
                }
            }
            () = tokio::time::sleep(wait) => clerk.step(now(), Input::Wake, &mut out),
        }
        for output in out.drain(..) {
            match output {
                Output::Send { to, message, .. } => {
                    let (servers, answered) = (servers.clone(), answered.clone());
                    tokio::spawn(async move {
                        let attempted = attempt(&servers, to, message).await;
                        let _ = answered.send(attempted); // the Clerk may have ended
                    });
                }
                Output::Reply { reply: Told { id, answer }, .. } => {
                    if let Some(caller) = callers.remove(&id) {
                        let _ = caller.send(answer); // the caller may have gone
                    }
                }
                _ => {}
            }
        }
    }
}

async fn attempt(servers: &Servers, to: NodeId, message: ClerkMessage) -> Attempted {
    let ClerkMessage::Call { attempt, tag, request } = message else {
        return Attempted { from: to, message, lost: false };
    };
    let done = servers.attempt(to, tag, &request).await;
    let (result, lost) = match done {
        Ok(response) => {
            servers.note(None);
            (Ok(Box::new(response)), false)
        }
        Err(CallError::Refused(status)) => {
            servers.note(None);
            (Err(meaning(&status)), false)
        }
        // Whether it was done or not, it is sent again under its number.
        Err(CallError::NotSent(cause) | CallError::Lost(cause)) => {
            servers.note(Some(cause));
            (Err(Refusal::Timeout), true)
        }
    };
    Attempted { from: to, message: ClerkMessage::Answer { attempt, result }, lost }
}

/// A status in the service's own terms.
fn meaning(status: &Status) -> Refusal {
    status.refusal().unwrap_or(match status.code {
        Code::ResourceExhausted => Refusal::RequestTooLarge,
        Code::PermissionDenied => Refusal::PermissionDenied,
        Code::Unauthenticated => Refusal::InvalidAuthToken,
        Code::Unimplemented => Refusal::NotSupported,
        // It says nothing of whether it was done.
        _ => Refusal::Timeout,
    })
}
