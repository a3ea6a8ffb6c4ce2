//! A running ensemble's tree, read over the client protocol. Znodes that go meanwhile are left out; what comes meanwhile
//! may be missing: for an exact copy nobody may write.
//!
//! Clients do not see which znodes are containers or have a time to live: those become persistent ones.

use quorate_client::{Client, ErrorCode, Options, Stat};
use quorate_zk::command::{AclEntry, AclList, SessionId};
use quorate_zk::import::{ImportedTree, ImportedZnode, Owner};

use crate::failure::{Failure, Kind};

/// Requests that are on their way at once.
const IN_FLIGHT: usize = 500;

/// Reads the whole tree, as the callers named by `auth` (`SCHEME:CREDENTIALS`).
pub(super) fn read(servers: &[String], auth: &[String]) -> Result<ImportedTree, Failure> {
    let what = format!("read the tree of {}", servers.join(","));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Kind::Data, &what, error, "look at the limits of open files")
    })?;
    runtime.block_on(async {
        let client = Client::connect(servers, Options::default()).await.map_err(|error| {
            Failure::new(Kind::Unreachable, &what, error, "is the ensemble running?")
        })?;
        for text in auth {
            let Some((scheme, credentials)) = text.split_once(':') else {
                let cause = format!("--auth {text} has no scheme");
                return Err(Failure::new(
                    Kind::Usage,
                    &what,
                    cause,
                    "write it like digest:user:password",
                ));
            };
            let proven = client.authenticate(scheme, credentials.as_bytes()).await;
            proven.map_err(|failure| unread(&what, "/", failure))?;
        }
        let tree =
            Walk { client: &client, what: &what, tree: ImportedTree::default() }.run().await?;
        let _ = client.close().await; // it would end by itself
        Ok(tree)
    })
}

struct Walk<'a> {
    client: &'a Client,
    what: &'a str,
    tree: ImportedTree,
}

impl Walk<'_> {
    async fn run(mut self) -> Result<ImportedTree, Failure> {
        let synced = self.client.sync("/").await;
        synced.map_err(|failure| unread(self.what, "/", failure))?;
        let mut open = vec!["/".to_owned()];
        while !open.is_empty() {
            let batch = open.split_off(open.len().saturating_sub(IN_FLIGHT));
            let parents = self.take(batch).await?;
            open.extend(self.children_of(parents).await?);
        }
        Ok(self.tree)
    }

    /// Takes these znodes; those that have children come back.
    async fn take(&mut self, paths: Vec<String>) -> Result<Vec<String>, Failure> {
        let asked: Vec<_> = paths
            .into_iter()
            .map(|path| (self.client.data_or_null(&path), self.client.acl(&path), path))
            .collect();
        let mut parents = Vec::new();
        for (data, acl, path) in asked {
            let Some((data, stat)) = self.there(&path, data.await)? else { continue };
            let Some((acl, _)) = self.there(&path, acl.await)? else { continue };
            if let Some(masked) = acl.iter().find(|entry| is_masked(entry)) {
                let cause = format!("the list of {path} shows {} masked", masked.identity.id);
                let help = "only who may change a list sees it whole: give --auth of the superuser";
                return Err(Failure::new(Kind::Refused, self.what, cause, help));
            }
            let data = data.map(|data| data.to_vec());
            let znode = znode(data, acl.into(), stat);
            if stat.num_children > 0 {
                parents.push(path.clone());
            }
            self.tree.insert(path, znode);
        }
        Ok(parents)
    }

    async fn children_of(&self, parents: Vec<String>) -> Result<Vec<String>, Failure> {
        let asked: Vec<_> =
            parents.into_iter().map(|path| (self.client.children(&path), path)).collect();
        let mut children = Vec::new();
        for (names, path) in asked {
            let Some((names, _)) = self.there(&path, names.await)? else { continue };
            let prefix = path.trim_end_matches('/');
            children.extend(names.into_iter().map(|name| format!("{prefix}/{name}")));
        }
        Ok(children)
    }

    /// An answer, unless the znode went meanwhile.
    fn there<T>(
        &self,
        path: &str,
        answer: Result<T, quorate_client::Failure>,
    ) -> Result<Option<T>, Failure> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is(ErrorCode::NoNode) => Ok(None),
            Err(failure) => Err(unread(self.what, path, failure)),
        }
    }
}

fn unread(what: &str, path: &str, failure: quorate_client::Failure) -> Failure {
    let help = if failure.is(ErrorCode::NoAuth) {
        "give --auth of somebody who may read it, such as the superuser"
    } else {
        "nothing was written; try again"
    };
    Failure::new(Kind::Refused, what, format!("{path}: {failure}"), help)
}

/// What a server shows in place of a digest to those who may not change the list.
fn is_masked(entry: &AclEntry) -> bool {
    entry.identity.scheme == "digest" && entry.identity.id.ends_with(":x")
}

fn znode(data: Option<Vec<u8>>, acl: AclList, seen: Stat) -> ImportedZnode {
    let owner = match seen.ephemeral_owner {
        0 => Owner::Nobody,
        session => Owner::Session(SessionId(session)),
    };
    // Clients see creations twice, less the children there are.
    let created = (i64::from(seen.cversion) + i64::from(seen.num_children)) / 2;
    let created = u64::try_from(created).unwrap_or_default();
    let stat = Stat { cversion: 0, data_length: 0, num_children: 0, ephemeral_owner: 0, ..seen };
    ImportedZnode { data, acl: Some(acl), owner, stat, created }
}
