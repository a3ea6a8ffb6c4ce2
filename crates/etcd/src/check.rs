//! What is wrong with a request, found before anything is proposed (KV-9). The order of the checks is etcd's, since the
//! first complaint is the one that clients see.

use std::collections::BTreeSet;

use crate::messages::etcdserverpb as pb;
use crate::messages::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::messages::etcdserverpb::request_op::Request;
use crate::{KeyRange, Refusal};

/// Operations, or comparisons, of one transaction.
pub const TXN_OPS_MAX: usize = 128;

type Checked = Result<(), Refusal>;

/// A range has a key and an order that exists.
pub fn range(request: &pb::RangeRequest) -> Checked {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(Refusal::InvalidSortOption) }
}

/// A put has a key, and no value or lease that it says to ignore.
pub fn put(request: &pb::PutRequest) -> Checked {
    if request.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Refusal::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Refusal::LeaseProvided)
    } else {
        Ok(())
    }
}

/// A delete has a key.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Checked {
    if request.key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// A transaction is not too large, each of its operations is right, and no key would be written twice.
pub fn txn(request: &pb::TxnRequest) -> Checked {
    txn_shape(request, TXN_OPS_MAX)?;
    written(&request.success)?;
    written(&request.failure)?;
    Ok(())
}

fn txn_shape(request: &pb::TxnRequest, ops_max: usize) -> Checked {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max {
        return Err(Refusal::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    // What is nested counts against what is left.
    request.success.iter().chain(&request.failure).try_for_each(|op| self::op(op, ops_max - ops))
}

fn op(op: &pb::RequestOp, ops_max: usize) -> Checked {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn_shape(request, ops_max),
        None => Err(Refusal::KeyNotFound),
    }
}

/// What one list of operations writes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<KeyRange<'a>>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a [u8]) -> Checked {
        let deleted = self.deletes.iter().any(|range| range.contains(key));
        if self.puts.insert(key) && !deleted { Ok(()) } else { Err(Refusal::DuplicateKey) }
    }
}

/// No key may be put twice, or put and deleted, by one list of operations and what is nested in it. The two branches of
/// one nested transaction may put the same key, since only one of them is taken.
fn written(ops: &[pb::RequestOp]) -> Result<Written<'_>, Refusal> {
    let mut all = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            all.deletes.push(KeyRange::of(&request.key, &request.range_end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let (success, failure) = (written(&nested.success)?, written(&nested.failure)?);
            let either: BTreeSet<&[u8]> = success.puts.union(&failure.puts).copied().collect();
            either.into_iter().try_for_each(|key| all.put(key))?;
            all.deletes.extend(success.deletes);
            all.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}
