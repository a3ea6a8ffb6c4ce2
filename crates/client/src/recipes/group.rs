//! Group membership (ZK-16): a member is an ephemeral znode, and goes with its session.

use std::collections::BTreeSet;

use quorate_zk::command::{CreateMode, ErrorCode};

use super::{PAUSE, Place, known, made, woken};
use crate::call::Acl;
use crate::client::{Client, Watch};
use crate::failure::Failure;

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    root: String,
}

/// A membership. It ends with [`leave`](Self::leave), when it is dropped, and with the session.
#[derive(Debug)]
pub struct Member(Place);

/// Who was in a group, and how to hear of the next change.
#[derive(Debug)]
pub struct Members {
    /// Their names.
    pub names: BTreeSet<String>,
    watch: Watch,
}

impl Group {
    /// The group below `root`, which is made if it is not there.
    pub async fn open(client: &Client, root: &str) -> Result<Self, Failure> {
        made(client, root).await?;
        Ok(Self { client: client.clone(), root: root.to_owned() })
    }

    /// Joins under a name; one that another has is refused with `NodeExists`.
    pub async fn join(&self, name: &str, data: &[u8]) -> Result<Member, Failure> {
        let path = format!("{}/{name}", self.root);
        loop {
            match self.client.create(&path, data, CreateMode::Ephemeral, Acl::open()).await {
                Ok((path, _)) => return Ok(Member(Place::new(&self.client, path))),
                Err(Failure::Unknown(_)) => tokio::time::sleep(PAUSE).await,
                Err(failure) if failure.is(ErrorCode::NodeExists) && self.is_own(&path).await? => {
                    return Ok(Member(Place::new(&self.client, path)));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Whether this session made it: the answer to that was lost.
    async fn is_own(&self, path: &str) -> Result<bool, Failure> {
        let stat = known(|| self.client.exists(path)).await?;
        let session = self.client.session().map(|session| session.0);
        Ok(stat.is_some_and(|stat| Some(stat.ephemeral_owner) == session))
    }

    /// Who is in it now.
    pub async fn members(&self) -> Result<Members, Failure> {
        let (names, _, watch) = known(|| self.client.children_and_watch(&self.root)).await?;
        Ok(Members { names: names.into_iter().collect(), watch })
    }
}

impl Member {
    /// Leaves, and returns once the servers know.
    pub async fn leave(self) -> Result<(), Failure> {
        self.0.leave().await
    }
}

impl Members {
    /// Waits until somebody came or went.
    pub async fn changed(self) -> Result<(), Failure> {
        woken(self.watch).await
    }
}
