//! `quorate backup` and `quorate restore`: the state at one zxid, in a file; and a new cluster that begins with it (ZK-19).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use quorate_contracts::{GroupId, StateMachine};
use quorate_server::SnapshotFile;
use quorate_zk::command::Zxid;
use quorate_zk::tree::{Founding, Tree};
use serde_json::json;

use crate::failure::{Done, Failure, Kind, tell};
use crate::import::found_cluster;

/// Save the state of a running cluster, as it is at one zxid
#[derive(Args)]
#[command(after_help = "Example:
  quorate backup --admin 127.0.0.1:8080 --to quorate.backup

Writes go on meanwhile. The file is whole or not there: it is checked before it gets its name. It holds everything,
whatever the access control lists say, so nodes give it on loopback only.")]
pub(crate) struct Backup {
    /// The admin address of any node that serves
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    admin: SocketAddr,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Begin a new cluster with a backup
#[derive(Args)]
#[command(after_help = "Example:
  quorate restore --from quorate.backup --to quorate-data/n1 quorate-data/n2 quorate-data/n3
  quorate up --dir quorate-data

Sessions and their ephemerals stay behind. New zxids begin 2^32 above the backup's, so that no client of the old cluster has
seen a later one.")]
pub(crate) struct Restore {
    /// A file that `quorate backup` wrote
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    /// The new nodes' data directories, one a node: the first is node 1's
    #[arg(long, value_name = "DATA_DIR", num_args = 1.., required = true)]
    to: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A node takes its snapshot before it sends anything.
const PATIENCE: Duration = Duration::from_secs(620);

impl Backup {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let what = format!("back up {}", self.admin);
        let aside = self.to.with_extension("unfinished");
        let written = fetch(self.admin, &aside);
        written.map_err(|error| {
            let _ = std::fs::remove_file(&aside);
            let help = "is it a node that serves? `quorate status` tells admin addresses; nothing was written";
            Failure::new(Kind::Unreachable, &what, error, help)
        })?;
        let (tree, bytes) = read(&aside)?;
        std::fs::rename(&aside, &self.to).map_err(|error| {
            Failure::new(Kind::Data, &what, error, "is the directory writable?")
        })?;
        let (zxid, znodes) = (tree.last_zxid().0, tree.znodes());
        if self.json {
            tell(
                &json!({"zxid": format!("0x{zxid:x}"), "znodes": znodes, "bytes": bytes})
                    .to_string(),
            );
        } else {
            tell(&format!(
                "{}: {znodes} znodes at zxid 0x{zxid:x}, {bytes} bytes",
                self.to.display()
            ));
        }
        Ok(Done::Yes)
    }
}

/// Asks a node for a backup, and writes it to a file, durably.
fn fetch(admin: SocketAddr, path: &Path) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /backup HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.read_line(&mut status)?;
    let mut length = None;
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(("content-length", text)) = line.to_ascii_lowercase().trim().split_once(": ") {
            length = text.parse::<u64>().ok();
        }
    }
    if status.split(' ').nth(1) != Some("200") {
        let mut text = String::new();
        answer.take(4096).read_to_string(&mut text)?;
        return Err(io::Error::other(format!("{} {text}", status.trim())));
    }
    let mut file = File::create(path)?;
    let copied = io::copy(&mut answer, &mut file)?;
    if length.is_some_and(|length| length != copied) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.sync_all()
}

/// A backup's state, every byte of it checked, and its size.
fn read(path: &Path) -> Result<(Tree, u64), Failure> {
    let what = format!("read the backup {}", path.display());
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(Kind::Data, &what, error, "give a file that `quorate backup` wrote")
    })?;
    let size = bytes.len() as u64;
    let refused = |cause: String| {
        let help =
            "it is cut or damaged, or no backup of a coordination service; nothing was changed";
        Failure::new(Kind::BadInput, &what, cause, help)
    };
    let file = SnapshotFile::read(&Bytes::from(bytes))
        .map_err(|(at, what)| refused(format!("byte {at}: {what}")))?;
    if file.group != GroupId::COORDINATION {
        return Err(refused(format!("it is of group {}", file.group)));
    }
    let tree = Tree::restore(&mut &file.content[..]).map_err(|error| refused(error.to_string()))?;
    Ok((tree, size))
}

impl Restore {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let (mut tree, _) = read(&self.from)?;
        let Zxid(backed_up) = tree.last_zxid();
        let (sessions, ephemerals) = (tree.sessions().len(), tree.ephemerals());
        let founding = Founding::above(Zxid(backed_up));
        tree.begin_anew(founding);
        let founded = found_cluster(&self.to, &mut tree, founding)?;
        if self.json {
            let dropped = json!({"sessions": sessions, "ephemerals": ephemerals});
            let backup = format!("0x{backed_up:x}");
            tell(
                &json!({"backup_zxid": backup, "dropped": dropped, "founded": founded.json()})
                    .to_string(),
            );
        } else {
            tell(&format!(
                "read      {}, of zxid 0x{backed_up:x}\n\
                 dropped   {ephemerals} ephemerals, with {sessions} sessions\n{}",
                self.from.display(),
                founded.text()
            ));
        }
        Ok(Done::Yes)
    }
}
