//! Transactions: every write is one.
//!
//! All comparisons are made first, those of nested transactions too; then every operation that will be done is checked;
//! only then is anything written, so that a refusal leaves no trace.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::index::Order;
use super::lease::Leases;
use super::mvcc::Mvcc;
use super::range::{range, readable_revision};
use super::versions::{Position, Version};
use crate::messages::etcdserverpb as pb;
use crate::messages::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::messages::etcdserverpb::request_op::Request;
use crate::messages::etcdserverpb::response_op::Response;
use crate::{KeyRange, LeaseId, Refusal, Revision};

/// Which way each comparison went: of the transaction, then of those nested in the branch taken, in order.
type Path = Vec<bool>;

/// A transaction that writes.
pub(super) struct Transaction<'a> {
    mvcc: &'a mut Mvcc,
    leases: &'a mut Leases,
    /// The revision of its writes.
    revision: Revision,
    /// Writes so far.
    written: u32,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(mvcc: &'a mut Mvcc, leases: &'a mut Leases) -> Self {
        let revision = mvcc.current.next();
        Self { mvcc, leases, revision, written: 0 }
    }

    /// The store's revision is the transaction's, if it wrote anything.
    pub(super) fn commit(self) {
        self.mvcc.current = self.seen();
    }

    /// The revision as the transaction sees it.
    fn seen(&self) -> Revision {
        if self.written > 0 { self.revision } else { self.mvcc.current }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.seen().0, ..Default::default() })
    }

    pub(super) fn txn(&mut self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        let mut path = Path::new();
        choose(self.mvcc, txn, &mut path);
        self.check(txn, &mut path.iter().copied())?;
        Ok(self.perform(txn, &mut path.iter().copied()))
    }

    pub(super) fn put(&mut self, put: &pb::PutRequest) -> Result<pb::PutResponse, Refusal> {
        self.check_put(put)?;
        Ok(self.perform_put(put))
    }

    pub(super) fn delete_range(
        &mut self,
        request: &pb::DeleteRangeRequest,
    ) -> pb::DeleteRangeResponse {
        let keys = KeyRange::of(&request.key, &request.range_end);
        let mut found = Vec::new();
        self.mvcc.walk(keys, None, Order::Ascending, |id| {
            found.push(id);
            ControlFlow::Continue(())
        });
        let kept = if request.prev_kv { &found[..] } else { &[] };
        let prev_kvs = kept.iter().map(|id| self.mvcc.key_value(*id)).collect();
        let keys = found.iter().map(|id| Bytes::copy_from_slice(self.mvcc.get(*id).key));
        keys.collect::<Vec<_>>().iter().for_each(|key| self.delete(key));
        pb::DeleteRangeResponse { header: self.header(), deleted: found.len() as i64, prev_kvs }
    }

    /// Deletes a key that is there.
    pub(super) fn delete(&mut self, key: &[u8]) {
        let lease = self.mvcc.newest(key).map_or(LeaseId::NONE, |id| self.mvcc.get(id).lease);
        self.leases.move_key(key, lease, LeaseId::NONE);
        let at = self.next_position();
        self.mvcc.delete(at, key);
    }

    fn next_position(&mut self) -> Position {
        self.written += 1;
        Position { revision: self.revision, sub: self.written - 1 }
    }

    fn check(
        &self,
        txn: &pb::TxnRequest,
        path: &mut impl Iterator<Item = bool>,
    ) -> Result<(), Refusal> {
        let (_, branch) = branch(txn, path);
        for op in branch {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    self.mvcc.check_readable(readable_revision(range))?
                }
                Some(Request::RequestPut(put)) => self.check_put(put)?,
                Some(Request::RequestTxn(nested)) => self.check(nested, path)?,
                Some(Request::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &pb::PutRequest) -> Result<(), Refusal> {
        let lease = LeaseId(put.lease);
        if lease != LeaseId::NONE && self.leases.get(lease).is_none() {
            return Err(Refusal::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.mvcc.newest(&put.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    fn perform(
        &mut self,
        txn: &pb::TxnRequest,
        path: &mut impl Iterator<Item = bool>,
    ) -> pb::TxnResponse {
        let (succeeded, branch) = branch(txn, path);
        let responses = branch
            .iter()
            .map(|op| pb::ResponseOp { response: self.perform_op(op, path) })
            .collect();
        pb::TxnResponse { header: self.header(), succeeded, responses }
    }

    fn perform_op(
        &mut self,
        op: &pb::RequestOp,
        path: &mut impl Iterator<Item = bool>,
    ) -> Option<Response> {
        Some(match op.request.as_ref()? {
            Request::RequestRange(request) => {
                Response::ResponseRange(range(self.mvcc, request, self.seen()))
            }
            Request::RequestPut(put) => Response::ResponsePut(self.perform_put(put)),
            Request::RequestDeleteRange(request) => {
                Response::ResponseDeleteRange(self.delete_range(request))
            }
            Request::RequestTxn(nested) => {
                // Boxed: the recursion goes through a type that must have a size.
                let path: &mut dyn Iterator<Item = bool> = path;
                Response::ResponseTxn(self.perform_nested(nested, path))
            }
        })
    }

    fn perform_nested(
        &mut self,
        txn: &pb::TxnRequest,
        mut path: &mut dyn Iterator<Item = bool>,
    ) -> pb::TxnResponse {
        self.perform(txn, &mut path)
    }

    fn perform_put(&mut self, put: &pb::PutRequest) -> pb::PutResponse {
        let before = self.mvcc.newest(&put.key);
        let prev_kv = before.filter(|_| put.prev_kv).map(|id| self.mvcc.key_value(id));
        let old = before.map(|id| self.mvcc.get(id));
        let old_lease = old.map_or(LeaseId::NONE, |old| old.lease);
        let old_value =
            old.filter(|_| put.ignore_value).map(|old| Bytes::copy_from_slice(old.value));
        let value = old_value.as_ref().unwrap_or(&put.value);
        let lease = if put.ignore_lease { old_lease } else { LeaseId(put.lease) };
        self.leases.move_key(&put.key, old_lease, lease);
        let at = self.next_position();
        self.mvcc.put(at, &put.key, value, lease);
        pb::PutResponse { header: self.header(), prev_kv }
    }
}

/// A transaction that only reads.
pub(crate) fn read_only(mvcc: &Mvcc, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
    let mut path = Path::new();
    choose(mvcc, txn, &mut path);
    read_chosen(mvcc, txn, &mut path.into_iter())
}

fn read_chosen(
    mvcc: &Mvcc,
    txn: &pb::TxnRequest,
    path: &mut std::vec::IntoIter<bool>,
) -> Result<pb::TxnResponse, Refusal> {
    let (succeeded, branch) = branch(txn, path);
    let responses = branch.iter().map(|op| read_op(mvcc, op, path)).collect::<Result<_, _>>()?;
    let header = Some(pb::ResponseHeader { revision: mvcc.current.0, ..Default::default() });
    Ok(pb::TxnResponse { header, succeeded, responses })
}

fn read_op(
    mvcc: &Mvcc,
    op: &pb::RequestOp,
    path: &mut std::vec::IntoIter<bool>,
) -> Result<pb::ResponseOp, Refusal> {
    let response = match &op.request {
        Some(Request::RequestRange(request)) => {
            mvcc.check_readable(readable_revision(request))?;
            Some(Response::ResponseRange(range(mvcc, request, mvcc.current)))
        }
        Some(Request::RequestTxn(nested)) => {
            Some(Response::ResponseTxn(read_chosen(mvcc, nested, path)?))
        }
        _ => None,
    };
    Ok(pb::ResponseOp { response })
}

/// Whether a transaction writes nothing, whichever way its comparisons go.
pub(crate) fn is_read_only(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Request::RequestRange(_)) => true,
        Some(Request::RequestTxn(nested)) => is_read_only(nested),
        _ => false,
    })
}

/// Whether every read of a transaction may be stale.
pub(crate) fn is_serializable(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestTxn(nested)) => is_serializable(nested),
        _ => false,
    })
}

/// Decides every comparison that matters, against the state before the transaction.
fn choose(mvcc: &Mvcc, txn: &pb::TxnRequest, path: &mut Path) {
    let succeeded = txn.compare.iter().all(|compare| holds(mvcc, compare));
    path.push(succeeded);
    for op in if succeeded { &txn.success } else { &txn.failure } {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(mvcc, nested, path);
        }
    }
}

fn branch<'t>(
    txn: &'t pb::TxnRequest,
    path: &mut impl Iterator<Item = bool>,
) -> (bool, &'t [pb::RequestOp]) {
    let succeeded = path.next().expect("every comparison was decided");
    (succeeded, if succeeded { &txn.success } else { &txn.failure })
}

/// Whether all keys of a comparison's range satisfy it. A missing key compares as all zeros, but never by value.
fn holds(mvcc: &Mvcc, compare: &pb::Compare) -> bool {
    let keys = KeyRange::of(&compare.key, &compare.range_end);
    let (mut all, mut any) = (true, false);
    mvcc.walk(keys, None, Order::Ascending, |id| {
        any = true;
        all = satisfies(compare, &mvcc.get(id));
        if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if any { all } else { compare.target() != CompareTarget::Value && satisfies(compare, &MISSING) }
}

const MISSING: Version<'static> = Version {
    key: &[],
    value: &[],
    at: Position { revision: Revision(0), sub: 0 },
    created: Revision(0),
    version: 0,
    lease: LeaseId::NONE,
};

fn satisfies(compare: &pb::Compare, version: &Version<'_>) -> bool {
    let number = |found: i64| found.cmp(&wanted_number(compare));
    let ordering = match compare.target() {
        CompareTarget::Value => version.value.cmp(wanted_value(compare)),
        CompareTarget::Version => number(version.version as i64),
        CompareTarget::Create => number(version.created.0),
        CompareTarget::Mod => number(version.at.revision.0),
        CompareTarget::Lease => number(version.lease.0),
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

/// What the comparison wants, if it is given for the same target.
fn wanted_number(compare: &pb::Compare) -> i64 {
    match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    }
}

fn wanted_value(compare: &pb::Compare) -> &[u8] {
    match &compare.target_union {
        Some(TargetUnion::Value(value)) => value,
        _ => &[],
    }
}
