//! Calls: what is answered when, and what is known when nothing is.

use std::time::Duration;

use quorate_contracts::{Refusal as NotTaken, ServiceInput};
use quorate_etcd::command::Tag;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{Context, Request, Response};
use quorate_etcd::{ClientId, Refusal, Sequence};

use super::house::{House, ME, put};

fn get(key: &'static str, serializable: bool) -> Request {
    Request::Range(pb::RangeRequest { key: key.into(), serializable, ..Default::default() })
}

fn tagged(sequence: u64) -> Context {
    let sequence = Sequence(sequence);
    let tag = Tag { client: ClientId(9), sequence, unacknowledged: sequence };
    Context { tag: Some(tag), ..Default::default() }
}

/// KV-2: a read waits until the state is as new as its question; a serializable one does not.
#[test]
fn a_linearizable_read_waits_for_its_barrier() {
    let mut house = House::new();
    house.put("a", "1");
    house.barriers = Some(Vec::new());
    let (first, second) = (
        house.ask(Context::default(), get("a", false)),
        house.ask(Context::default(), get("a", false)),
    );
    let local = house.ask(Context::default(), get("a", true));
    assert!(house.answer(local).is_some() && house.answer(first).is_none());
    let third = house.ask(Context::default(), get("a", false));
    let barriers = house.barriers.replace(Vec::new()).expect("they are kept");
    assert_eq!(
        barriers.len(),
        2,
        "reads that come while two barriers are under way share the next"
    );
    house.step(ServiceInput::ReadReady { id: barriers[0] });
    assert!(
        house.answer(first).is_some()
            && house.answer(second).is_none()
            && house.answer(third).is_none()
    );
    house.step(ServiceInput::ReadReady { id: barriers[1] });
    let next = house.barriers.take().expect("they are kept");
    assert!(house.answer(second).is_some() && house.answer(third).is_none() && next.len() == 1);
    house.step(ServiceInput::ReadReady { id: next[0] });
    assert!(house.answer(third).is_some());
}

/// KV-5: a read that no leader vouches for is not answered from old state.
#[test]
fn a_read_without_a_leader_is_never_answered_from_here() {
    let mut house = House::new();
    house.put("a", "1");
    house.barriers = Some(Vec::new());
    let call = house.ask(Context::default(), get("a", false));
    for id in house.barriers.replace(Vec::new()).expect("they are kept") {
        house.step(ServiceInput::ReadRefused { id, reason: NotTaken::NoLeader });
    }
    house.elect(None, 2);
    house.pass(Duration::from_secs(8));
    assert_eq!(house.answer(call), Some(Err(Refusal::Timeout)));
}

/// KV-5: what was in no log is proposed again when there is a leader; nothing is done twice.
#[test]
fn a_refused_proposal_is_made_again() {
    let mut house = House::new();
    house.elect(None, 2);
    house.lost = Some(Vec::new());
    let call = house.ask(Context::default(), Request::Put(put("a", "1")));
    let lost = house.lost.take().expect("it was proposed");
    house.step(ServiceInput::Refused { id: lost[0].id(), reason: NotTaken::NoLeader });
    assert_eq!(house.answer(call), None);
    house.elect(Some(ME), 3);
    assert!(matches!(house.answer(call), Some(Ok(Response::Put(_)))));
    assert_eq!(house.store.revision().0, 2);
}

/// KV-3: a call that may be lost with its leader is told so, unless its client numbers its calls: then it is made again, and
/// done once.
#[test]
fn only_numbered_calls_survive_their_leader() {
    let mut house = House::new();
    house.call(Request::OpenClient(ClientId(9))).expect("it is new");
    house.lost = Some(Vec::new());
    let plain = house.ask(Context::default(), Request::Put(put("plain", "1")));
    let numbered = house.ask(tagged(1), Request::Put(put("numbered", "1")));
    let lost = house.lost.take().expect("they were proposed");
    house.elect(Some(ME), 2);
    assert!(matches!(house.answer(numbered), Some(Ok(_))));
    assert_eq!(house.answer(plain), None);
    // The old leader's entries come after all.
    lost.iter().for_each(|proposal| house.commit(proposal));
    assert!(matches!(house.answer(plain), Some(Ok(_))));
    assert_eq!(house.store.revision().0, 3, "each is done once");
}

#[test]
fn a_call_whose_outcome_is_not_known_is_told_so() {
    let mut house = House::new();
    house.lost = Some(Vec::new());
    let first = house.ask(Context::default(), Request::Put(put("a", "1")));
    house.pass(Duration::from_secs(8));
    let second = house.ask(Context::default(), Request::Put(put("a", "1")));
    house.elect(Some(ME), 2);
    house.pass(Duration::from_secs(8));
    assert_eq!(house.answer(first), Some(Err(Refusal::Timeout)));
    assert_eq!(house.answer(second), Some(Err(Refusal::TimeoutLeaderFailed)));
}

/// KV-4: of a large reply only the revision is kept.
#[test]
fn a_large_reply_is_kept_as_done_at_a_revision() {
    let mut house = House::new();
    house.call(Request::OpenClient(ClientId(9))).expect("it is new");
    house.put("a", &"x".repeat(5_000));
    let request = Request::Put(pb::PutRequest { prev_kv: true, ..put("a", "2") });
    let first = house.ask(tagged(1), request.clone());
    assert!(
        matches!(house.answer(first), Some(Ok(Response::Put(reply))) if reply.prev_kv.is_some())
    );
    house.put("a", "3");
    let again = house.ask(tagged(1), request);
    let Some(Ok(Response::DoneBefore(header))) = house.answer(again) else {
        panic!("{:?}", house.answer(again))
    };
    assert_eq!(header.revision, 3);
}

/// KV-4: an id that was not opened is refused, never taken as new.
#[test]
fn an_unknown_client_is_refused() {
    let mut house = House::new();
    let call = house.ask(tagged(1), Request::Put(put("a", "1")));
    assert_eq!(house.answer(call), Some(Err(Refusal::ClientUnknown)));
    assert_eq!(house.store.revision().0, 1);
}

/// KV-4: clients that are silent for long are expired, and only those.
#[test]
fn silent_clients_expire() {
    let mut house = House::with(|config| config.client_idle_ms = 10_000);
    house.call(Request::OpenClient(ClientId(9))).expect("it is new");
    house.pass(Duration::from_secs(8));
    house.ask(tagged(1), Request::Put(put("a", "1")));
    house.pass(Duration::from_secs(8));
    let call = house.ask(tagged(2), Request::Put(put("a", "2")));
    assert!(matches!(house.answer(call), Some(Ok(_))));
    house.pass(Duration::from_secs(15));
    let call = house.ask(tagged(3), Request::Put(put("a", "3")));
    assert_eq!(house.answer(call), Some(Err(Refusal::ClientUnknown)));
    assert_eq!(house.get("a").as_deref(), Some("2"));
}

/// KV-9: too large a request, and no space: nothing is changed.
#[test]
fn requests_have_limits() {
    let mut house = House::with(|config| config.quota_bytes = 2_000_000);
    let large = "x".repeat(1_600_000);
    assert_eq!(house.call(Request::Put(put("a", &large))), Err(Refusal::RequestTooLarge));
    house.put("a", &large[..1_500_000]);
    assert_eq!(house.call(Request::Put(put("b", &large[..600_000]))), Err(Refusal::NoSpace));
    assert_eq!(
        house.call(Request::Put(put("b", "small"))),
        Err(Refusal::NoSpace),
        "the alarm is raised for all"
    );
    let Ok(Response::Alarm(alarms)) = house.call(Request::Alarm(pb::AlarmRequest::default()))
    else {
        panic!()
    };
    assert_eq!(alarms.alarms.len(), 1);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    house.call(Request::DeleteRange(delete)).expect("deleting goes on");
}

/// KV-2: who would rather be refused than wait is refused.
#[test]
fn without_a_leader_those_who_require_one_are_refused() {
    let mut house = House::new();
    house.elect(None, 2);
    let context = Context { requires_leader: true, ..Default::default() };
    let call = house.ask(context, Request::Put(put("a", "1")));
    assert_eq!(house.answer(call), Some(Err(Refusal::NoLeader)));
}

/// KV-7: the writes of many clients are on their way to the log together, none waits for another's answer, and each gets its own.
#[test]
fn many_calls_are_in_flight_at_once() {
    let mut house = House::new();
    house.lost = Some(Vec::new());
    let write = |n: usize| Request::Put(put(&format!("k{n:03}"), &n.to_string()));
    let calls: Vec<_> = (0..300).map(|n| house.ask(Context::default(), write(n))).collect();
    let proposals = house.lost.take().expect("they are kept");
    assert_eq!(proposals.len(), 300, "proposed before any is answered");
    assert!(calls.iter().all(|call| house.answer(*call).is_none()));
    for (n, proposal) in proposals.iter().enumerate() {
        house.commit(proposal);
        let answer = house.answer(calls[n]);
        let Some(Ok(Response::Put(put))) = answer else { panic!("call {n}: {answer:?}") };
        assert_eq!(put.header.map(|header| header.revision), Some(n as i64 + 2));
    }
}
