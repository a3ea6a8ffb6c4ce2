//! Barriers (ZK-16): one znode that many wait on, and the double barrier, through which a number of clients go together, in and out.

use quorate_zk::command::{CreateMode, ErrorCode};

use super::{Place, drawn, known, made, removed, unless, woken};
use crate::call::Acl;
use crate::client::Client;
use crate::failure::Failure;

/// A barrier is closed while its znode is there.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    path: String,
}

impl Barrier {
    /// The barrier at `path`.
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned() }
    }

    /// Closes it, if it is open.
    pub async fn close(&self) -> Result<(), Failure> {
        made(&self.client, &self.path).await
    }

    /// Opens it: all who wait go on.
    pub async fn open(&self) -> Result<(), Failure> {
        removed(&self.client, &self.path).await
    }

    /// Waits until it is open.
    pub async fn wait(&self) -> Result<(), Failure> {
        while let (Some(_), watch) = known(|| self.client.exists_and_watch(&self.path)).await? {
            woken(watch).await?;
        }
        Ok(())
    }
}

const READY: &str = "ready";
const MEMBER: &str = "member-";

/// A double barrier: nobody is in before as many as agreed are there, and nobody is out before all have left.
#[derive(Debug)]
pub struct DoubleBarrier {
    client: Client,
    root: String,
    size: usize,
    own: String,
    place: Option<Place>,
}

/// What one that leaves does next.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Leaving {
    /// All have left.
    Done,
    /// It waits until this one has left, and stays itself.
    After(String),
    /// It deletes its own znode, then waits until this one has left.
    OwnThenAfter(String),
    /// It is the last: it deletes its own.
    Own,
}

/// The first in the order of names leaves last, and waits for the last; all others wait for it. So each waits for one other.
fn leaving(names: &[String], own: &str) -> Leaving {
    let members = || names.iter().filter(|name| name.starts_with(MEMBER));
    let (Some(first), Some(last)) = (members().min(), members().max()) else {
        return Leaving::Done;
    };
    let is_in = members().any(|name| name == own);
    match (first == own, is_in) {
        (true, _) if last == own => Leaving::Own,
        (true, _) => Leaving::After(last.clone()),
        (false, true) => Leaving::OwnThenAfter(first.clone()),
        (false, false) => Leaving::After(first.clone()),
    }
}

impl DoubleBarrier {
    /// A barrier of `size` clients below `root`; each has one of these.
    pub fn new(client: &Client, root: &str, size: usize) -> Self {
        let own = format!("{MEMBER}{:016x}", drawn());
        Self { client: client.clone(), root: root.to_owned(), size, own, place: None }
    }

    /// Goes in, once all are there.
    pub async fn enter(&mut self) -> Result<(), Failure> {
        made(&self.client, &self.root).await?;
        let ready = self.path(READY);
        let own = self.path(&self.own);
        let mut there = self.client.exists_and_watch(&ready).await;
        while let Err(Failure::Unknown(_)) = there {
            there = self.client.exists_and_watch(&ready).await;
        }
        let (mut stat, mut watch) = there?;
        let create = || self.client.create(&own, b"", CreateMode::Ephemeral, Acl::open());
        // Only this one has its name: it is there because of a try whose answer was lost.
        unless(ErrorCode::NodeExists, known(create).await.map(drop))?;
        self.place = Some(Place::new(&self.client, own));
        let names = self.names().await?;
        if names.iter().filter(|name| name.starts_with(MEMBER)).count() >= self.size {
            return made(&self.client, &ready).await;
        }
        while stat.is_none() {
            woken(watch).await?;
            (stat, watch) = known(|| self.client.exists_and_watch(&ready)).await?;
        }
        Ok(())
    }

    /// Goes out, once all want to.
    pub async fn leave(&mut self) -> Result<(), Failure> {
        loop {
            let names = self.names().await?;
            let awaited = match leaving(&names, &self.own) {
                Leaving::Done => return Ok(()),
                Leaving::Own => {
                    // The next round begins with a closed barrier.
                    removed(&self.client, &self.path(READY)).await?;
                    self.leave_own().await?;
                    continue;
                }
                Leaving::OwnThenAfter(name) => {
                    self.leave_own().await?;
                    name
                }
                Leaving::After(name) => name,
            };
            let path = self.path(&awaited);
            if let (Some(_), watch) = known(|| self.client.exists_and_watch(&path)).await? {
                woken(watch).await?;
            }
        }
    }

    async fn leave_own(&mut self) -> Result<(), Failure> {
        match self.place.take() {
            Some(place) => place.leave().await,
            None => Ok(()),
        }
    }

    async fn names(&self) -> Result<Vec<String>, Failure> {
        known(|| self.client.children(&self.root)).await.map(|(names, _)| names)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-16: whoever leaves waits for one other, and the first by name is the last to go.
    #[test]
    fn who_waits_for_whom_on_the_way_out() {
        let names =
            |list: &[&str]| -> Vec<String> { list.iter().map(|n| (*n).to_owned()).collect() };
        let all = names(&["ready", "member-2", "member-1", "member-3"]);
        assert_eq!(leaving(&all, "member-1"), Leaving::After("member-3".to_owned()));
        assert_eq!(leaving(&all, "member-2"), Leaving::OwnThenAfter("member-1".to_owned()));
        assert_eq!(leaving(&all, "member-0"), Leaving::After("member-1".to_owned()));
        assert_eq!(leaving(&names(&["ready", "member-1"]), "member-1"), Leaving::Own);
        assert_eq!(leaving(&names(&["ready"]), "member-1"), Leaving::Done);
    }
}
