//! A store made of what another one kept.

use super::auth::Auth;
use super::lease::LEASE_TTL_MIN;
use super::versions::Version;
use super::{Alarm, Store};
use crate::{LeaseId, Revision};

/// Takes in what was kept, in any order.
#[derive(Debug, Default)]
pub(crate) struct StoreBuilder {
    store: Store,
}

impl StoreBuilder {
    /// Revisions below cannot be read any more; of several words the last revision counts.
    pub(crate) fn compacted(&mut self, revision: Revision) {
        let mvcc = &mut self.store.mvcc;
        mvcc.compacted = mvcc.compacted.max(revision);
        mvcc.current = mvcc.current.max(revision);
    }

    pub(crate) fn lease(&mut self, id: LeaseId, ttl: i64) {
        self.store.leases.restore(id, ttl.max(LEASE_TTL_MIN));
    }

    pub(crate) fn alarm(&mut self, member: u64, alarm: Alarm) {
        self.store.alarms.insert((member, alarm));
    }

    pub(crate) fn auth(&mut self, auth: Auth) {
        self.store.auth = auth;
    }

    pub(crate) fn version(&mut self, version: &Version<'_>) {
        let mvcc = &mut self.store.mvcc;
        mvcc.current = mvcc.current.max(version.at.revision);
        mvcc.take_in(version);
    }

    pub(crate) fn finish(mut self) -> Store {
        self.store.rebuild();
        self.store
    }
}
