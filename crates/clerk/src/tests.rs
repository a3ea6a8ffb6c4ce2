//! The story of a Clerk, message by message.

use super::*;
use quorate_etcd::messages::etcdserverpb as pb;

const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

struct Desk {
    clerk: Clerk,
    now: Time,
    /// Calls that were sent: to whom, in which attempt, under which number.
    sent: Vec<(NodeId, Attempt, Option<Tag>)>,
    told: Vec<Told>,
}

impl Desk {
    fn new() -> Self {
        let clerk = Clerk::new(MEMBERS.to_vec(), ClientId(42));
        Self { clerk, now: Time::from_millis(1), sent: Vec::new(), told: Vec::new() }
    }

    fn step(&mut self, input: Input<Clerk>) {
        let mut out = Vec::new();
        self.clerk.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { to, message: ClerkMessage::Call { attempt, tag, .. }, .. } => {
                    self.sent.push((to, attempt, tag));
                }
                Output::Reply { reply, .. } => self.told.push(reply),
                _ => panic!("a Clerk sends and tells"),
            }
        }
    }

    fn ask(&mut self, id: u64, request: Request) {
        let patience = Duration::from_secs(30);
        self.step(Input::Requested(Ask { id: AskId(id), request, patience }));
    }

    fn answer(&mut self, nth: usize, result: Result<Response, Refusal>) {
        let (from, attempt, _) = self.sent[nth];
        let result = result.map(Box::new);
        self.step(Input::Received { from, message: ClerkMessage::Answer { attempt, result } });
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.step(Input::Wake);
    }

    fn to(&self) -> Vec<u64> {
        self.sent.iter().map(|(to, ..)| to.0).collect()
    }

    fn last_tag(&self) -> (u64, u64) {
        let tag = self.sent.last().and_then(|(.., tag)| *tag).expect("a numbered call");
        (tag.sequence.0, tag.unacknowledged.0)
    }
}

fn put() -> Request {
    Request::Put(pb::PutRequest { key: "k".into(), ..Default::default() })
}

fn done() -> Result<Response, Refusal> {
    Ok(Response::Done(pb::ResponseHeader::default()))
}

/// A desk whose client id is open.
fn open() -> Desk {
    let mut desk = Desk::new();
    desk.ask(1, put());
    desk.answer(0, done());
    desk.answer(1, done());
    assert_eq!(desk.told.len(), 1);
    (desk.sent, desk.told) = (Vec::new(), Vec::new());
    desk
}

/// KV-4: the id is opened before the first write, and only for writes.
#[test]
fn an_id_is_opened_before_the_first_write() {
    let mut desk = Desk::new();
    desk.ask(1, Request::Range(pb::RangeRequest { key: "k".into(), ..Default::default() }));
    desk.ask(2, put());
    assert_eq!(desk.sent.len(), 2, "the read, and the opening; the write waits");
    desk.answer(1, done());
    assert_eq!(desk.last_tag(), (1, 1));
}

/// KV-3: a write is repeated under its number, at another member, after silence, a lost connection, or "unavailable".
#[test]
fn a_write_is_repeated_until_it_is_answered() {
    let mut desk = open();
    desk.ask(2, put());
    desk.pass(SILENCE);
    desk.step(Input::MemberLost { member: NodeId(2) });
    desk.pass(Duration::ZERO);
    desk.answer(2, Err(Refusal::NoLeader));
    desk.pass(PAUSE);
    assert_eq!(desk.to(), [1, 2, 3, 1]);
    assert!(desk.sent.iter().all(|(.., tag)| *tag == desk.sent[0].2), "{:?}", desk.sent);
    desk.answer(1, done());
    assert_eq!(desk.told, [], "an attempt that was given up");
    desk.answer(3, done());
    assert!(matches!(desk.told[..], [Told { answer: Answer::Done(_), .. }]));
}

/// KV-3: the member that answered is asked first from then on.
#[test]
fn the_member_that_answers_is_remembered() {
    let mut desk = open();
    desk.ask(2, put());
    desk.pass(SILENCE);
    desk.answer(1, done());
    desk.ask(3, put());
    assert_eq!(desk.to(), [1, 2, 2]);
}

/// KV-4: the store is told which answers are known.
#[test]
fn answers_that_are_known_are_acknowledged() {
    let mut desk = open();
    desk.ask(2, put());
    desk.ask(3, put());
    assert_eq!(desk.last_tag(), (3, 2));
    desk.answer(1, done());
    desk.ask(4, put());
    assert_eq!(desk.last_tag(), (4, 2), "2 is not answered yet");
    desk.answer(0, done());
    desk.ask(5, put());
    assert_eq!(desk.last_tag(), (5, 4));
}

/// KV-4: when the id has expired, a write that was sent once was not done, and is done under a new id; one that was
/// repeated may have been done.
#[test]
fn an_expired_id_makes_repeated_writes_unknown() {
    let mut desk = open();
    let first = desk.clerk.client();
    desk.ask(2, put());
    desk.pass(SILENCE);
    desk.ask(3, put());
    desk.answer(1, Err(Refusal::ClientUnknown));
    assert_eq!(desk.told, [Told { id: AskId(2), answer: Answer::Unknown }]);
    desk.answer(2, Err(Refusal::ClientUnknown));
    assert_ne!(desk.clerk.client(), first);
    desk.answer(3, done());
    assert_eq!(desk.last_tag(), (1, 1));
    desk.answer(4, done());
    assert_eq!(desk.told.len(), 2);
}

/// KV-9: a refusal is told as it is.
#[test]
fn a_refusal_is_final() {
    let mut desk = open();
    desk.ask(2, put());
    desk.answer(0, Err(Refusal::LeaseNotFound));
    assert_eq!(desk.told, [Told { id: AskId(2), answer: Answer::Refused(Refusal::LeaseNotFound) }]);
}

/// KV-3: patience ends: what was sent is unknown, what was not was not done.
#[test]
fn patience_ends() {
    let mut desk = open();
    (0..=WRITES_MAX).for_each(|n| desk.ask(2 + n, put()));
    assert_eq!(desk.sent.len() as u64, WRITES_MAX);
    desk.pass(Duration::from_secs(31));
    let unknown = desk.told.iter().filter(|told| told.answer == Answer::Unknown).count();
    assert_eq!((unknown as u64, desk.told.len() as u64), (WRITES_MAX, WRITES_MAX + 1));
    assert_eq!(desk.clerk.open_questions(), 0);
}
