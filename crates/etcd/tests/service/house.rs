//! A server that leads a cluster of itself, and a clock that tests turn.

use std::time::Duration;

use quorate_contracts::{
    EntryId, LogIndex, NodeId, Proposal, RequestId, Service, ServiceInput, ServiceOutput,
    StateMachine, Term, Time,
};
use quorate_etcd::Refusal;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd::messages::mvccpb::Event;
use quorate_etcd::server::{
    CallId, ClientReply, ClientRequest, Context, Request, Response, Server, ServerConfig, StreamId,
};
use quorate_etcd::store::Store;

pub(crate) const ME: NodeId = NodeId(1);

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) now: Time,
    index: u64,
    calls: u64,
    /// Proposals go nowhere, but are kept here.
    pub(crate) lost: Option<Vec<Proposal>>,
    /// Barriers that were asked for and are not passed, if they do not pass at once.
    pub(crate) barriers: Option<Vec<RequestId>>,
    pub(crate) replies: Vec<ClientReply>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new(ME, RequestId(1 << 32));
        configure(&mut config);
        let mut house = Self {
            server: Server::new(config, 7),
            store: Store::default(),
            now: Time::from_millis(1_000),
            index: 0,
            calls: 0,
            lost: None,
            barriers: None,
            replies: Vec::new(),
        };
        house.elect(Some(ME), 1);
        house
    }

    pub(crate) fn elect(&mut self, leader: Option<NodeId>, term: u64) {
        self.step(ServiceInput::Leader { leader, term: Term(term) });
    }

    pub(crate) fn step(&mut self, input: ServiceInput<'_, Server>) {
        let mut out = Vec::new();
        self.server.step(self.now, input, &self.store, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<ServiceOutput<Server>>) {
        for output in out {
            match output {
                ServiceOutput::Propose(proposal) => match &mut self.lost {
                    Some(lost) => lost.push(proposal),
                    None => self.commit(&proposal),
                },
                ServiceOutput::ReadBarrier { id } => match &mut self.barriers {
                    Some(barriers) => barriers.push(id),
                    None => self.step(ServiceInput::ReadReady { id }),
                },
                ServiceOutput::Tell { to, message } if to == ME => {
                    self.step(ServiceInput::Received { from: ME, message });
                }
                ServiceOutput::Tell { .. } => {}
                ServiceOutput::Reply(reply) => self.replies.push(reply),
            }
        }
    }

    /// A proposal comes out of the log.
    pub(crate) fn commit(&mut self, proposal: &Proposal) {
        self.index += 1;
        let at = EntryId::new(LogIndex(self.index), Term(1));
        let mut events = Vec::new();
        let outcome = self.store.apply(at.index, proposal.command(), &mut events);
        self.step(ServiceInput::Applied { at, id: Some(proposal.id()), outcome, events: &events });
    }

    /// Time passes, and the server wakes when it wants to.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((at, _)) = self.server.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.step(ServiceInput::Wake);
        }
        self.now = end;
    }

    /// Lets the server do what it can do at once.
    pub(crate) fn settle(&mut self) {
        self.pass(Duration::ZERO);
    }

    pub(crate) fn ask(&mut self, context: Context, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.step(ServiceInput::Requested(ClientRequest::Call {
            call,
            context,
            request: Box::new(request),
        }));
        call
    }

    /// What a call came to, if it was answered.
    pub(crate) fn answer(&self, wanted: CallId) -> Option<Result<Response, Refusal>> {
        let mut answers = self.replies.iter().filter_map(|reply| match reply {
            ClientReply::Answer { call, result } if *call == wanted => {
                Some(result.clone().map(|response| *response))
            }
            _ => None,
        });
        let answer = answers.next();
        assert_eq!(answers.next(), None, "a call is answered once");
        answer
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Response, Refusal> {
        let call = self.ask(Context::default(), request);
        self.answer(call).expect("it is answered at once")
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> i64 {
        match self.call(Request::Put(put(key, value))) {
            Ok(Response::Put(reply)) => reply.header.expect("a header").revision,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<String> {
        let request = pb::RangeRequest { key: key.to_string().into(), ..Default::default() };
        match self.call(Request::Range(request)) {
            Ok(Response::Range(reply)) => {
                reply.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn open_watches(&mut self, stream: u64, context: Context) {
        self.step(ServiceInput::Requested(ClientRequest::WatchOpened {
            stream: StreamId(stream),
            context,
        }));
    }

    pub(crate) fn watch(&mut self, stream: u64, create: pb::WatchCreateRequest) {
        self.ask_watch(stream, RequestUnion::CreateRequest(create));
    }

    pub(crate) fn ask_watch(&mut self, stream: u64, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.step(ServiceInput::Requested(ClientRequest::Watch {
            stream: StreamId(stream),
            request,
        }));
        self.settle();
    }

    /// What a stream of watches was told; the client has read all of it.
    pub(crate) fn told(&mut self, wanted: u64) -> Vec<pb::WatchResponse> {
        let (told, sent) = self.told_unread(wanted);
        self.step(ServiceInput::Requested(ClientRequest::WatchSent {
            stream: StreamId(wanted),
            bytes: sent,
        }));
        told
    }

    /// What a stream of watches was told, in how many bytes; the client has read none of it.
    pub(crate) fn told_unread(&mut self, wanted: u64) -> (Vec<pb::WatchResponse>, usize) {
        let (mut told, mut sent) = (Vec::new(), 0);
        for reply in std::mem::take(&mut self.replies) {
            match reply {
                ClientReply::Watch { stream, response, bytes } if stream == StreamId(wanted) => {
                    told.push(*response);
                    sent += bytes;
                }
                other => self.replies.push(other),
            }
        }
        (told, sent)
    }
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..Default::default()
    }
}

pub(crate) fn prefix(key: &str) -> pb::WatchCreateRequest {
    let range_end = quorate_etcd::prefix_end(key.as_bytes()).into();
    pb::WatchCreateRequest { key: key.to_string().into(), range_end, ..Default::default() }
}

/// `put a=1@2`
pub(crate) fn show(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a key");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let was =
        event.prev_kv.as_ref().map_or(String::new(), |kv| format!(" was {}", text(&kv.value)));
    match event.r#type {
        0 => format!("put {}={}@{}{was}", text(&kv.key), text(&kv.value), kv.mod_revision),
        _ => format!("delete {}@{}{was}", text(&kv.key), kv.mod_revision),
    }
}

/// One line for each response: `0 created@1`, `0 put a=1@2, put b=2@2`
pub(crate) fn lines(responses: &[pb::WatchResponse]) -> Vec<String> {
    responses.iter().map(line).collect()
}

fn line(response: &pb::WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let mut words = vec![response.watch_id.to_string()];
    let mut say = |is: bool, word: String| {
        if is {
            words.push(word)
        }
    };
    say(response.created, "created".to_string());
    say(response.canceled, "canceled".to_string());
    say(response.compact_revision != 0, format!("compacted {}", response.compact_revision));
    say(!response.cancel_reason.is_empty(), response.cancel_reason.clone());
    say(response.fragment, "to be continued".to_string());
    let events: Vec<String> = response.events.iter().map(show).collect();
    say(!events.is_empty(), events.join(", "));
    say(true, format!("at {revision}"));
    words.join(" ")
}
