//! `quorate import etcd`: a new cluster that begins with a snapshot in etcd's format (KV-8), of etcd's or of ours.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_contracts::GroupId;
use quorate_etcd::db::{self, Database, DbError};
use quorate_etcd::store::Store;
use ring::digest;
use serde_json::json;

use super::found_group;
use crate::failure::{Done, Failure, Kind, tell};

/// Read a snapshot of etcd, or of a cluster of ours, into new data directories
#[derive(Args)]
#[command(after_help = "Example:
  etcdctl snapshot save etcd.db
  quorate import etcd --from etcd.db --to quorate-data/n1 quorate-data/n2 quorate-data/n3
  quorate up --dir quorate-data

Keys keep their revisions and leases, users their passwords. Members stay behind: the new cluster has its own. Without --to nothing
is written, and the report tells what would be.")]
pub(crate) struct Etcd {
    /// A file that `etcdctl snapshot save` wrote, or member/snap/db of a member that has stopped
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    /// The new nodes' data directories, one a node: the first is node 1's
    #[arg(long, value_name = "DATA_DIR", num_args = 1..)]
    to: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A file with a checksum behind it is a multiple of this and 32 bytes more; a member's own has none.
const BLOCK_BYTES: u64 = 512;

impl Etcd {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let mut store = read(&self.from).map_err(|error| {
            let help = "give a file that `etcdctl snapshot save` wrote; nothing was changed";
            let what = format!("import {}", self.from.display());
            Failure::new(Kind::BadInput, &what, error, help)
        })?;
        let founded = match &self.to[..] {
            [] => None,
            directories => Some(found_group(directories, GroupId::KEY_VALUE, &mut store)?),
        };
        let cluster = founded.map(|cluster| format!("{:x}", cluster.0));
        let (revision, compacted) = (store.revision().0, store.compacted().0.max(0));
        let (keys, leases, users) =
            (store.keys(), store.leases().len(), store.auth().users().len());
        if self.json {
            tell(
                &json!({"revision": revision, "compacted": compacted, "keys": keys, "leases": leases,
                    "users": users, "cluster": cluster, "directories": self.to})
                .to_string(),
            );
            return Ok(Done::Yes);
        }
        tell(&format!(
            "found     {keys} keys at revision {revision}, compacted at {compacted}, {leases} leases, {users} users"
        ));
        if let Some(cluster) = cluster {
            let directories: Vec<_> =
                self.to.iter().map(|path| path.display().to_string()).collect();
            tell(&format!("founded   cluster {cluster} in {}", directories.join(", ")));
        }
        Ok(Done::Yes)
    }
}

fn read(path: &Path) -> Result<Store, DbError> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    check_sum(&mut file)?;
    db::import(&mut Database::open(file)?)
}

/// The checksum behind a snapshot, if there is one.
fn check_sum(file: &mut (impl Read + Seek)) -> io::Result<()> {
    let bytes = file.seek(io::SeekFrom::End(0))?;
    file.rewind()?;
    let sum_bytes = digest::SHA256_OUTPUT_LEN as u64;
    if bytes % BLOCK_BYTES == 0 {
        return Ok(());
    }
    if bytes % BLOCK_BYTES != sum_bytes {
        return Err(io::Error::other(format!(
            "its {bytes} bytes are no whole pages and a checksum: it is cut"
        )));
    }
    let mut sum = digest::Context::new(&digest::SHA256);
    let mut left = bytes - sum_bytes;
    let mut piece = vec![0; 1 << 16];
    while left > 0 {
        let wanted = left.min(piece.len() as u64) as usize;
        file.read_exact(&mut piece[..wanted])?;
        sum.update(&piece[..wanted]);
        left -= wanted as u64;
    }
    let mut told = Vec::new();
    file.read_to_end(&mut told)?;
    file.rewind()?;
    if sum.finish().as_ref() == told {
        Ok(())
    } else {
        Err(io::Error::other("its checksum does not fit: it is damaged"))
    }
}
