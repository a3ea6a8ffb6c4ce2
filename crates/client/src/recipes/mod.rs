//! ZooKeeper's recipes (Hunt et al., section 2.4; ZK-14 to ZK-16): what clients agree on by znodes alone.
//!
//! | recipe | module |
//! | --- | --- |
//! | leader choice by create (test-and-set), and the simple lock, whose herd is a warning | `simple` |
//! | lock, shared lock (read/write), leader election: nobody wakes but the next one | `lock` |
//! | barrier, double barrier | `barrier` |
//! | queue | `queue` |
//! | counter | `counter` |
//! | group membership | `group` |
//! | configuration under a ready znode | `ready` |
//!
//! What decides (whose turn it is, whom to wait for, how long to back off) is pure and stands in `turn` and `back_off`.
//!
//! **Lost connections.** A create whose answer was lost may have happened. Every contender's znode carries a name that only it
//! can have made (`turn::Mark`), so it looks for it before it tries again; where a transaction must not happen twice, it
//! changes a witness of the caller's as well, which tells (`witness`).
//!
//! **Fencing.** A session's end is known to the servers before its client hears of it: a holder that was stopped for a while may
//! believe that it still holds. [`Held::token`] grows from holder to holder; a resource that keeps the highest one it has seen can
//! refuse an older holder.

mod back_off;
mod barrier;
mod counter;
mod group;
mod lock;
mod queue;
mod ready;
mod simple;
mod turn;
mod witness;

use std::time::Duration;

use quorate_zk::command::{CreateMode, ErrorCode, Zxid};

pub use barrier::{Barrier, DoubleBarrier};
pub use counter::{Added, Counter, CounterError};
pub use group::{Group, Member, Members};
pub use lock::{Election, Lock, Sharing};
pub use queue::{Queue, QueueItem};
pub use ready::{Configuration, ReadyConfig};
pub use simple::{Choice, SimpleLock};

use crate::call::Acl;
use crate::client::{Client, Pending, SessionState, Watch};
use crate::failure::{Failure, Refusal};
use crate::watches::EventKind;

/// Between two tries of what has an unknown outcome. The session itself waits for a server.
const PAUSE: Duration = Duration::from_millis(20);

/// Something that others wait for: a lock, or the lead. It goes with [`release`](Self::release), when it is dropped, and
/// with the session.
#[derive(Debug)]
pub struct Held {
    place: Place,
    token: Zxid,
}

impl Held {
    /// Grows from holder to holder: the transaction that made this holder's znode. A resource that refuses tokens lower than the
    /// highest it has seen is safe from a holder that does not know yet that it lost its session (ZK-15).
    pub fn token(&self) -> Zxid {
        self.token
    }

    /// The znode that stands for it.
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// Gives it up, and returns once the servers know.
    pub async fn release(self) -> Result<(), Failure> {
        self.place.leave().await
    }

    /// Waits until the session that holds it is over, by expiry or because it was closed.
    pub async fn lost(&self) {
        let mut state = self.place.client.state();
        let over =
            |state: &SessionState| matches!(state, SessionState::Expired | SessionState::Closed);
        let _ = state.wait_for(over).await; // an error means that the client is gone, and the session with it
    }
}

/// A znode of one's own among those of others. It goes when it is dropped, so that a caller who loses interest blocks nobody.
#[derive(Debug)]
struct Place {
    client: Client,
    path: String,
    left: bool,
}

impl Place {
    fn new(client: &Client, path: String) -> Self {
        Self { client: client.clone(), path, left: false }
    }

    async fn leave(mut self) -> Result<(), Failure> {
        self.left = true;
        removed(&self.client, &self.path).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left {
            // It is on its way when this returns; if it is lost, the session's end removes the znode.
            drop(self.client.delete(&self.path, -1));
        }
    }
}

/// Repeats a request that does no harm the second time until its outcome is known.
async fn known<T>(mut ask: impl FnMut() -> Pending<T>) -> Result<T, Failure> {
    loop {
        match ask().await {
            Err(Failure::Unknown(_)) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Deletes a znode that nobody else makes; that it is gone already is as good.
async fn removed(client: &Client, path: &str) -> Result<(), Failure> {
    unless(ErrorCode::NoNode, known(|| client.delete(path, -1)).await)
}

/// Makes a persistent znode and those above it, if they are not there.
async fn made(client: &Client, path: &str) -> Result<(), Failure> {
    for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        let create = || client.create(&path[..end], b"", CreateMode::Persistent, Acl::open());
        unless(ErrorCode::NodeExists, known(create).await.map(drop))?;
    }
    Ok(())
}

/// A refusal with this code is fine.
fn unless(code: ErrorCode, outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if failure.is(code) => Ok(()),
        outcome => outcome,
    }
}

/// Waits for a watch; a session that ended is a failure.
async fn woken(watch: Watch) -> Result<(), Failure> {
    match watch.fired().await.kind {
        EventKind::SessionOver => Err(Failure::Refused(Refusal::SessionExpired)),
        _ => Ok(()),
    }
}

/// Any number that nobody else draws.
fn drawn() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), PAUSE)
}
