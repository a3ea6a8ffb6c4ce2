//! Nested transactions, and those that are refused.

use quorate_etcd::Refusal;
use quorate_etcd::check;
use quorate_etcd::command::{Body, Command, Reply};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::request_op::Request;

use super::script::Player;

fn put(key: &'static str) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value: "x".into(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

fn delete(key: &'static str, range_end: &'static str) -> pb::RequestOp {
    let delete =
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

fn get_at(key: &'static str, revision: i64) -> pb::RequestOp {
    let range = pb::RangeRequest { key: key.into(), revision, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestRange(range)) }
}

fn txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { compare: Vec::new(), success, failure }
}

fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    pb::RequestOp { request: Some(Request::RequestTxn(txn(success, failure))) }
}

/// KV-9: which transactions would write a key twice.
#[test]
fn a_key_may_be_written_once() {
    let duplicate = Err(Refusal::DuplicateKey);
    let table = [
        (txn(vec![put("a"), put("b")], vec![put("a")]), Ok(())),
        (txn(vec![put("a"), put("a")], vec![]), duplicate),
        (txn(vec![], vec![put("a"), put("a")]), duplicate),
        (txn(vec![put("b"), delete("a", "c")], vec![]), duplicate),
        (txn(vec![put("c"), delete("a", "c")], vec![]), Ok(())),
        (txn(vec![delete("a", "c"), delete("b", "d")], vec![]), Ok(())),
        // The branches of a nested transaction exclude each other.
        (txn(vec![nested(vec![put("a")], vec![put("a")])], vec![]), Ok(())),
        (txn(vec![put("a"), nested(vec![], vec![put("a")])], vec![]), duplicate),
        (
            txn(vec![nested(vec![put("a")], vec![]), nested(vec![put("a")], vec![])], vec![]),
            duplicate,
        ),
        (txn(vec![nested(vec![delete("a", "")], vec![]), put("a")], vec![]), duplicate),
    ];
    for (request, expected) in table {
        assert_eq!(check::txn(&request), expected, "{request:?}");
    }
}

/// KV-9: how much may be in one transaction; what is nested counts against what is left.
#[test]
fn a_transaction_has_at_most_128_operations() {
    let gets = |count| vec![get_at("k", 0); count];
    assert_eq!(check::txn(&txn(gets(128), gets(128))), Ok(()));
    assert_eq!(check::txn(&txn(gets(129), vec![])), Err(Refusal::TooManyOps));
    assert_eq!(check::txn(&txn(vec![nested(gets(127), vec![])], vec![])), Ok(()));
    assert_eq!(check::txn(&txn(vec![nested(gets(128), vec![])], vec![])), Err(Refusal::TooManyOps));
    assert_eq!(
        check::txn(&txn(vec![pb::RequestOp { request: None }], vec![])),
        Err(Refusal::KeyNotFound)
    );
}

/// KV-9: an inner read of a revision that is not there is found before an earlier operation has written anything.
#[test]
fn a_transaction_is_checked_whole_before_it_writes() {
    let mut player = Player::default();
    let request = txn(vec![put("a"), nested(vec![put("b"), get_at("a", 99)], vec![])], vec![]);
    let (outcome, events) = player.apply(Command::of_server(Body::Txn(request)));
    assert_eq!(outcome.result, Err(Refusal::FutureRevision));
    assert_eq!((outcome.revision.0, events.len()), (1, 0));
}

/// KV-1: operations of a transaction see those before them, and all share one revision.
#[test]
fn later_operations_see_earlier_ones() {
    let mut player = Player::default();
    let request =
        txn(vec![put("a"), nested(vec![get_at("a", 0), put("b")], vec![]), get_at("b", 0)], vec![]);
    let (outcome, _) = player.apply(Command::of_server(Body::Txn(request)));
    let Ok(Reply::Txn(reply)) = outcome.result else { panic!("{outcome:?}") };
    let Some(pb::response_op::Response::ResponseTxn(inner)) = &reply.responses[1].response else {
        panic!()
    };
    let Some(pb::response_op::Response::ResponseRange(a)) = &inner.responses[0].response else {
        panic!()
    };
    let Some(pb::response_op::Response::ResponseRange(b)) = &reply.responses[2].response else {
        panic!()
    };
    assert_eq!((a.kvs[0].mod_revision, b.kvs[0].mod_revision, outcome.revision.0), (2, 2, 2));
    assert_eq!(a.header.as_ref().map(|header| header.revision), Some(2));
}
