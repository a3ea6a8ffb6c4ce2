//! Whether a caller may do what a request asks: every key it reads or writes, in both branches and in nested
//! transactions.

use super::Store;
use super::auth::Access::{Read, Write};
use crate::command::{Body, Caller};
use crate::messages::etcdserverpb as pb;
use crate::messages::etcdserverpb::request_op::Request;
use crate::{KeyRange, LeaseId, Refusal};

type Permitted = Result<(), Refusal>;

impl Store {
    /// Whether a caller may have a command done. Changes of users and roles check it themselves.
    pub(super) fn check_permitted(&self, caller: Option<&Caller>, body: &Body) -> Permitted {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        match body {
            Body::Put(put) => self.may_put(caller, put),
            Body::DeleteRange(request) => self.may_delete(caller, request),
            Body::Txn(txn) => self.may_txn(caller, txn),
            Body::LeaseRevoke(request) => self.may_write_leased(caller, LeaseId(request.id)),
            Body::Alarm(_) => self.auth.check_admin(caller),
            _ => Ok(()),
        }
    }

    /// Whether a caller may read a range.
    pub(crate) fn may_range(
        &self,
        caller: Option<&Caller>,
        request: &pb::RangeRequest,
    ) -> Permitted {
        self.auth.check(caller, KeyRange::of(&request.key, &request.range_end), Read)
    }

    /// Whether a caller may have a transaction done.
    pub(crate) fn may_txn(&self, caller: Option<&Caller>, txn: &pb::TxnRequest) -> Permitted {
        for compare in &txn.compare {
            self.auth.check(caller, KeyRange::of(&compare.key, &compare.range_end), Read)?;
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match &op.request {
            Some(Request::RequestRange(request)) => self.may_range(caller, request),
            Some(Request::RequestPut(put)) => self.may_put(caller, put),
            Some(Request::RequestDeleteRange(request)) => self.may_delete(caller, request),
            Some(Request::RequestTxn(nested)) => self.may_txn(caller, nested),
            None => Ok(()),
        })
    }

    fn may_put(&self, caller: Option<&Caller>, put: &pb::PutRequest) -> Permitted {
        let key = KeyRange::of(&put.key, &[]);
        self.auth.check(caller, key, Write)?;
        if put.prev_kv {
            self.auth.check(caller, key, Read)?;
        }
        // Attaching a key to a lease is a say over the keys that are attached already.
        self.may_write_leased(caller, LeaseId(put.lease))
    }

    fn may_delete(&self, caller: Option<&Caller>, request: &pb::DeleteRangeRequest) -> Permitted {
        let keys = KeyRange::of(&request.key, &request.range_end);
        self.auth.check(caller, keys, Write)?;
        if request.prev_kv { self.auth.check(caller, keys, Read) } else { Ok(()) }
    }

    fn may_write_leased(&self, caller: Option<&Caller>, lease: LeaseId) -> Permitted {
        let keys = self.leases.get(lease).into_iter().flat_map(|lease| &lease.keys);
        keys.into_iter().try_for_each(|key| self.auth.check(caller, KeyRange::of(key, &[]), Write))
    }

    /// Whether a caller may see which keys are attached to a lease.
    pub(crate) fn may_read_leased(&self, caller: Option<&Caller>, lease: LeaseId) -> Permitted {
        let keys = self.leases.get(lease).into_iter().flat_map(|lease| &lease.keys);
        keys.into_iter().try_for_each(|key| self.auth.check(caller, KeyRange::of(key, &[]), Read))
    }
}
