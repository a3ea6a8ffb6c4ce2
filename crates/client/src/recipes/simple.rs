//! One znode that one of many makes: leader choice by create (ZK-14), and the lock that follows from it.
//!
//! The lock has a herd: all who wait watch the same znode, a release wakes every one of them, and one wins. It is here to show what
//! [`Lock`](super::Lock) spares; `crates/quorate/tests/recipes.rs` counts both.

use quorate_zk::command::{CreateMode, ErrorCode};

use super::{Held, PAUSE, Place, drawn, known, woken};
use crate::call::Acl;
use crate::client::Client;
use crate::failure::Failure;

/// What came of a test-and-set.
#[derive(Debug)]
pub enum Choice {
    /// This caller was the first: exactly one is.
    Won(Held),
    /// Somebody else was; this is what it calls itself.
    Lost(Vec<u8>),
}

/// A lock that is one ephemeral znode.
#[derive(Clone, Debug)]
pub struct SimpleLock {
    client: Client,
    path: String,
}

impl SimpleLock {
    /// The lock that is the znode at `path`.
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned() }
    }

    /// Test-and-set (ZK-14): makes the znode under `name`, or tells who did.
    pub async fn choose(&self, name: &[u8]) -> Result<Choice, Failure> {
        let data = [name, &drawn().to_be_bytes()[..]].concat();
        loop {
            match self.client.create(&self.path, &data, CreateMode::Ephemeral, Acl::open()).await {
                Ok((path, stat)) => {
                    let place = Place::new(&self.client, path);
                    return Ok(Choice::Won(Held { place, token: stat.czxid }));
                }
                // The answer was lost, or it was lost the time before: whose is the one that is there?
                Err(failure) if failure.is(ErrorCode::NodeExists) => {
                    if let Some(choice) = self.whose(&data).await? {
                        return Ok(choice);
                    }
                }
                Err(Failure::Unknown(_)) => tokio::time::sleep(PAUSE).await,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits until it is this caller's.
    pub async fn acquire(&self) -> Result<Held, Failure> {
        loop {
            if let Choice::Won(held) = self.choose(b"").await? {
                return Ok(held);
            }
            if let (Some(_), watch) = known(|| self.client.exists_and_watch(&self.path)).await? {
                woken(watch).await?;
            }
        }
    }

    /// `None` if the znode went meanwhile.
    async fn whose(&self, own: &[u8]) -> Result<Option<Choice>, Failure> {
        match known(|| self.client.get_data(&self.path)).await {
            Ok((data, stat)) if data == own => {
                let place = Place::new(&self.client, self.path.clone());
                Ok(Some(Choice::Won(Held { place, token: stat.czxid })))
            }
            Ok((data, _)) => {
                let name = data.len().saturating_sub(8);
                Ok(Some(Choice::Lost(data[..name].to_vec())))
            }
            Err(failure) if failure.is(ErrorCode::NoNode) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
