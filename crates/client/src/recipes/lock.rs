//! Standing in line: locks, shared locks and elections, each by a sequential ephemeral znode below a common one.

use quorate_zk::command::{CreateMode, ErrorCode, Zxid};
use tokio::sync::oneshot;

use super::turn::{Mark, Turn, Wish, in_line, turn};
use super::{Held, PAUSE, Place, drawn, known, made, woken};
use crate::call::Acl;
use crate::client::Client;
use crate::failure::{Failure, Refusal};

/// A lock without a herd (ZK-15), also shared by readers (ZK-16).
///
/// Contenders stand in line below one znode; each waits for the one before it, so a release wakes one client.
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    root: String,
}

/// Whether others may hold a lock at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Nobody else.
    Alone,
    /// Others who share.
    Shared,
}

impl Lock {
    /// The lock that stands for `root`, which is made when it is first wanted.
    pub fn new(client: &Client, root: &str) -> Self {
        Self { client: client.clone(), root: root.to_owned() }
    }

    /// Waits until it is this caller's alone. Dropping the future gives up the place in line.
    pub async fn acquire(&self) -> Result<Held, Failure> {
        self.acquire_as(Sharing::Alone).await
    }

    /// Waits until it is this caller's, alone or with others who share.
    pub async fn acquire_as(&self, sharing: Sharing) -> Result<Held, Failure> {
        let (place, token) = self.stand_in_line(sharing, b"").await?;
        while let Turn::After(predecessor) = self.turn_of(&place).await? {
            self.until_gone(&predecessor).await?;
        }
        Ok(Held { place, token })
    }

    /// Takes it if nobody has to be waited for.
    pub async fn try_acquire(&self) -> Result<Option<Held>, Failure> {
        let (place, token) = self.stand_in_line(Sharing::Alone, b"").await?;
        match self.turn_of(&place).await? {
            Turn::Own => Ok(Some(Held { place, token })),
            _ => place.leave().await.map(|()| None),
        }
    }

    /// How many hold it or wait for it.
    pub async fn contenders(&self) -> Result<usize, Failure> {
        match self.names().await {
            Err(failure) if failure.is(ErrorCode::NoNode) => Ok(0),
            names => Ok(in_line(&names?).len()),
        }
    }

    /// Makes the znode that stands in line, in a task of its own: a caller who goes away meanwhile must not leave it behind.
    async fn stand_in_line(&self, sharing: Sharing, data: &[u8]) -> Result<(Place, Zxid), Failure> {
        let (stands, standing) = oneshot::channel();
        let (lock, data) = (self.clone(), data.to_vec());
        tokio::spawn(async move {
            let _ = stands.send(lock.make_place(sharing, &data).await); // dropped, the place is left
        });
        standing.await.unwrap_or(Err(Failure::Refused(Refusal::Closed)))
    }

    async fn make_place(&self, sharing: Sharing, data: &[u8]) -> Result<(Place, Zxid), Failure> {
        let wish = if sharing == Sharing::Alone { Wish::Write } else { Wish::Read };
        let mark = Mark::new(wish, drawn());
        let prefix = format!("{}/{mark}", self.root);
        loop {
            let mode = CreateMode::EphemeralSequential;
            match self.client.create(&prefix, data, mode, Acl::open()).await {
                Ok((path, stat)) => return Ok((Place::new(&self.client, path), stat.czxid)),
                Err(failure) if failure.is(ErrorCode::NoNode) => {
                    made(&self.client, &self.root).await?
                }
                Err(Failure::Unknown(_)) => {
                    if let Some(found) = self.find(&mark).await? {
                        return Ok(found);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The place under this mark, if the create whose answer was lost did happen. What was sent on the lost connection never
    /// takes effect later: the session is attached anew, and the barrier is behind it.
    async fn find(&self, mark: &Mark) -> Result<Option<(Place, Zxid)>, Failure> {
        known(|| self.client.sync(&self.root)).await?;
        let names = self.names().await?;
        let Some(name) = mark.find(&names) else { return Ok(None) };
        let place = Place::new(&self.client, format!("{}/{name}", self.root));
        let stat = known(|| self.client.exists(&place.path)).await?;
        Ok(stat.map(|stat| (place, stat.czxid)))
    }

    async fn names(&self) -> Result<Vec<String>, Failure> {
        known(|| self.client.children(&self.root)).await.map(|(names, _)| names)
    }

    async fn turn_of(&self, place: &Place) -> Result<Turn, Failure> {
        let own = place.path.rsplit('/').next().unwrap_or_default();
        match turn(&self.names().await?, own) {
            Turn::Gone => Err(Failure::Refused(Refusal::SessionExpired)),
            turn => Ok(turn),
        }
    }

    async fn until_gone(&self, name: &str) -> Result<(), Failure> {
        let path = format!("{}/{name}", self.root);
        match known(|| self.client.exists_and_watch(&path)).await? {
            (Some(_), watch) => woken(watch).await,
            (None, _) => Ok(()),
        }
    }
}

/// A leader election (ZK-16): the first in line leads, and the next one follows when it goes. Who leads is told by the data
/// of its znode.
#[derive(Clone, Debug)]
pub struct Election {
    lock: Lock,
}

impl Election {
    /// The election held below `root`.
    pub fn new(client: &Client, root: &str) -> Self {
        Self { lock: Lock::new(client, root) }
    }

    /// Stands for election under `name`, and waits until it leads.
    pub async fn lead(&self, name: &[u8]) -> Result<Held, Failure> {
        let (place, token) = self.lock.stand_in_line(Sharing::Alone, name).await?;
        while let Turn::After(predecessor) = self.lock.turn_of(&place).await? {
            self.lock.until_gone(&predecessor).await?;
        }
        Ok(Held { place, token })
    }

    /// Who leads, if anybody does, with the token of its lead.
    pub async fn leader(&self) -> Result<Option<(Vec<u8>, Zxid)>, Failure> {
        loop {
            let names = match self.lock.names().await {
                Err(failure) if failure.is(ErrorCode::NoNode) => return Ok(None),
                names => names?,
            };
            let line = in_line(&names);
            let Some(first) = line.first() else { return Ok(None) };
            let path = format!("{}/{first}", self.lock.root);
            match known(|| self.lock.client.get_data(&path)).await {
                // It went since: who is next?
                Err(failure) if failure.is(ErrorCode::NoNode) => {}
                read => return read.map(|(data, stat)| Some((data.to_vec(), stat.czxid))),
            }
        }
    }
}
