//! The simulated world: virtual time, a lossy network, disks that forget what was not synced, and
//! servers that crash, pause and keep bad clocks.
//!
//! One seed makes all choices; each part draws from a stream of its own, so that adding a fault
//! does not reshuffle the rest. The servers are `raft::Replica`s, exactly as they ship; [`World`] is
//! their driver, and keeps the rules of `contracts::Process` as `server` does. After each step
//! [`Safety`] checks Raft's five properties (Figure 3).
//!
//! Not here: workloads, models and the choice of faults. Those are in `scenarios`.

mod clock;
mod disk;
mod disk_store;
mod drive;
mod harm;
mod json;
mod lines;
mod network;
mod queue;
mod safety;
mod situations;
mod store;
mod trace;
mod traffic;
mod world;

pub use clock::Clock;
pub use disk::{DiskFaults, Lane, SECTOR_BYTES, SimDisk};
pub use disk_store::DiskOptions;
pub use network::{MessageFault, Mishap, Network, NetworkOptions, Passage};
pub use safety::{Safety, Violation};
pub use situations::{Situation, Situations};
pub use store::{MemoryStore, StoreOptions};
pub use trace::{Happening, NodeState, TraceEvent, TraceHash};
pub use traffic::Traffic;
pub use world::{World, WorldOptions};
