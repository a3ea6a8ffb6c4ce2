//! Transactions that happen once, also when an answer is lost: each changes an ephemeral znode of the caller's as well, whose
//! version tells afterwards whether it happened.

use quorate_zk::command::{CreateMode, ErrorCode};

use super::{PAUSE, Place, drawn, known, made};
use crate::call::{Acl, Multi};
use crate::client::Client;
use crate::failure::Failure;
use crate::reply::MultiRefused;

/// A caller's witness.
#[derive(Debug)]
pub(super) struct Witness {
    place: Place,
    version: i32,
}

/// The name that all witnesses begin with: listings leave them out.
pub(super) const NAME: &str = "witness-";

impl Witness {
    /// A new witness below `root`, which is made if it is not there.
    pub(super) async fn new(client: &Client, root: &str) -> Result<Self, Failure> {
        made(client, root).await?;
        let path = format!("{root}/{NAME}{:016x}", drawn());
        loop {
            match client.create(&path, b"", CreateMode::Ephemeral, Acl::open()).await {
                Ok(_) => break,
                // Nobody else draws this name: the create before this one happened.
                Err(failure) if failure.is(ErrorCode::NodeExists) => break,
                Err(Failure::Unknown(_)) => tokio::time::sleep(PAUSE).await,
                Err(failure) => return Err(failure),
            }
        }
        Ok(Self { place: Place::new(client, path), version: 0 })
    }

    /// Carries out a transaction once: `multi` is asked for again if it is known not to have happened.
    pub(super) async fn carry_out(
        &mut self,
        multi: impl Fn() -> Multi,
    ) -> Result<Result<(), MultiRefused>, Failure> {
        let Place { client, path, .. } = &self.place;
        loop {
            let outcome = client.multi(multi().set_data(path, b"", self.version)).await;
            let happened = match outcome {
                Ok(Ok(_)) => true,
                Ok(Err(refused)) => return Ok(Err(refused)),
                Err(Failure::Unknown(_)) => {
                    known(|| client.sync(path)).await?;
                    known(|| client.get_data(path)).await?.1.version > self.version
                }
                Err(failure) => return Err(failure),
            };
            if happened {
                self.version += 1;
                return Ok(Ok(()));
            }
        }
    }
}
