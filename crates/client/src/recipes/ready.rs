//! A configuration in several znodes under a ready znode (Hunt et al., section 2.3; ZK-12): who reads it gets one version whole, or
//! is told.
//!
//! ```text
//! writer   delete ready; write f1, f2, ..., all in flight at once; create ready
//! reader   exists(ready, watch), read f1, f2, ...                if the watch fired before the last answer, again
//! ```
//!
//! A server tells of a change before it answers anything that reflects it: a reader that saw `ready` and has not been told
//! when the last file was answered has read no file of a newer version.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_zk::command::{CreateMode, ErrorCode};

use super::{known, made, removed, unless, woken};
use crate::call::Acl;
use crate::client::{Client, Watch};
use crate::failure::Failure;

const READY: &str = "ready";

/// A configuration, for its one writer and its readers.
#[derive(Clone, Debug)]
pub struct ReadyConfig {
    client: Client,
    root: String,
}

/// One version of it, whole.
#[derive(Debug)]
pub struct Configuration {
    /// The files by name.
    pub files: BTreeMap<String, Bytes>,
    watch: Watch,
}

impl ReadyConfig {
    /// The configuration below `root`, which is made if it is not there.
    pub async fn open(client: &Client, root: &str) -> Result<Self, Failure> {
        made(client, root).await?;
        Ok(Self { client: client.clone(), root: root.to_owned() })
    }

    /// Puts this in the place of the version before it. At a failure readers find no version until it is published again.
    pub async fn publish(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let (there, _) = known(|| self.client.children(&self.root)).await?;
        // Known before anything follows: after a lost connection what was not sent yet goes on without what was.
        removed(&self.client, &self.path(READY)).await?;
        let mut sets = Vec::new();
        let mut deletes = Vec::new();
        for (name, data) in files {
            let path = self.path(name);
            if there.contains(name) {
                sets.push(self.client.set_data(&path, data, -1));
            } else {
                drop(self.client.create(&path, b"", CreateMode::Persistent, Acl::open()));
                sets.push(self.client.set_data(&path, data, -1));
            }
        }
        for name in there.iter().filter(|name| *name != READY && !files.contains_key(*name)) {
            deletes.push(self.client.delete(&self.path(name), -1));
        }
        // A write that failed must not be followed by the word that all is there.
        for set in sets {
            set.await?;
        }
        for delete in deletes {
            unless(ErrorCode::NoNode, delete.await)?;
        }
        let create =
            || self.client.create(&self.path(READY), b"", CreateMode::Persistent, Acl::open());
        unless(ErrorCode::NodeExists, known(create).await.map(drop))
    }

    /// Waits until there is a version, and reads it.
    pub async fn read(&self) -> Result<Configuration, Failure> {
        loop {
            let (there, watch) = known(|| self.client.exists_and_watch(&self.path(READY))).await?;
            if there.is_none() {
                woken(watch).await?;
                continue;
            }
            let mut version = Configuration { files: BTreeMap::new(), watch };
            if self.read_files(&mut version.files).await? && !version.watch.has_fired() {
                return Ok(version);
            }
        }
    }

    /// Whether all files that were listed were there.
    async fn read_files(&self, files: &mut BTreeMap<String, Bytes>) -> Result<bool, Failure> {
        let (names, _) = known(|| self.client.children(&self.root)).await?;
        let names = names.into_iter().filter(|name| name != READY);
        let reads: Vec<_> =
            names.map(|name| (self.client.get_data(&self.path(&name)), name)).collect();
        for (read, name) in reads {
            match read.await {
                Ok((data, _)) => files.insert(name, data),
                Err(failure) if failure.is(ErrorCode::NoNode) => return Ok(false),
                Err(Failure::Unknown(_)) => return Ok(false),
                Err(failure) => return Err(failure),
            };
        }
        Ok(true)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }
}

impl Configuration {
    /// Waits until it is about to be replaced.
    pub async fn changed(self) -> Result<(), Failure> {
        woken(self.watch).await
    }
}
