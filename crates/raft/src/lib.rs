//! Raft.
mod candidate;
mod config;
mod durability;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod replica;
mod taking;
mod wire;
pub use config::{Config, Limits, Timing};
pub use membership::Membership;
pub use message::{Body, Message};
pub use node::{Raft, Reply, Request, RoleName};
pub use replica::{Replica, ReplicaMessage, Status};
