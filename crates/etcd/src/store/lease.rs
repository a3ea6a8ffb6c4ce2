//! Leases: which there are, for how long they are granted, and which keys are attached.
//!
//! When a lease has expired is a leader's word (`server::lease`); the store knows no time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::mix;
use crate::{LeaseId, Refusal};

/// The shortest time a lease is granted for, in seconds: one and a half election timeouts.
pub const LEASE_TTL_MIN: i64 = 2;
/// The longest.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    digest: u64,
}

/// A lease.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// For how long it is granted, in seconds.
    pub(crate) ttl: i64,
    /// The keys that go with it.
    pub(crate) keys: BTreeSet<Bytes>,
}

impl Leases {
    /// Makes a lease; gives the time it was granted for, in seconds.
    pub(super) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<i64, Refusal> {
        if ttl > LEASE_TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if id == LeaseId::NONE {
            return Err(Refusal::LeaseNotFound);
        }
        if self.by_id.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(LEASE_TTL_MIN);
        self.restore(id, ttl);
        Ok(ttl)
    }

    pub(super) fn restore(&mut self, id: LeaseId, ttl: i64) {
        self.digest = self.digest.wrapping_add(digest(id, ttl));
        self.by_id.insert(id, Lease { ttl, ..Lease::default() });
    }

    /// Ends a lease; gives its keys, which are to be deleted.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, Refusal> {
        let lease = self.by_id.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        self.digest = self.digest.wrapping_sub(digest(id, lease.ttl));
        Ok(lease.keys)
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// A key is written: it leaves the lease it had, and joins the one it gets.
    pub(super) fn move_key(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest(id: LeaseId, ttl: i64) -> u64 {
    mix(id.0 as u64 ^ mix(ttl as u64))
}
