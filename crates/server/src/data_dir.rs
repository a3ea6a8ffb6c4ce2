//! A data directory: made once, for one node of one cluster, and used by one process at a time.
//!
//! ```text
//! DIR/identity.json   cluster, node, incarnation, format
//! DIR/lock            held while a process uses the directory; holds its pid
//! DIR/peers.json      the incarnations of the other members, as first met
//! DIR/members.json    the list of members, once it was changed: where to find them at the next start
//! DIR/log/            segments and snapshots (docs/storage.md)
//! ```
//!
//! After `quorate recover` the last three are in `DIR/recovered-INCARNATION/`, which `identity.json` then names: so that the old
//! life and the new one are told apart by one file that is replaced at once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_contracts::{ClusterId, Incarnation, NodeId};
use quorate_roster::{Member, Roster, RosterVersion};
use quorate_storage::Identity;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const FORMAT: u32 = 1;
/// So often, and so far apart, a lock is tried that another process holds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// A directory that this process has for itself.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Where all but the identity and the lock is.
    home: PathBuf,
    identity: Identity,
    _lock: File,
}

/// Begins the names of directories inside this one that hold another life of it.
const LIFE: &str = "recovered-";

/// Another life of a data directory, which is being made.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) identity: Identity,
    name: String,
    home: PathBuf,
}

impl Life {
    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("log")
    }
}

/// Why a data directory cannot be used. Nothing was changed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DataDirError {
    #[error("{path} was never made a data directory")]
    NotFormatted { path: PathBuf },
    #[error("{path} is in use by process {pid}")]
    InUse { path: PathBuf, pid: String },
    #[error("{path} belongs to {found}, not to {wanted}")]
    Foreign { path: PathBuf, found: String, wanted: String },
    #[error("{path} is a data directory already")]
    Exists { path: PathBuf },
    #[error("{path} has format {found}; this build reads {FORMAT}")]
    Version { path: PathBuf, found: u32 },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} does not read: {error}")]
    Unreadable { path: PathBuf, error: serde_json::Error },
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    cluster: u64,
    node: u64,
    incarnation: u64,
    /// The directory inside this one where this life keeps its files; empty: this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    home: String,
}

#[derive(Serialize, Deserialize)]
struct RosterFile {
    version: u64,
    members: BTreeMap<u64, MemberFile>,
}

#[derive(Serialize, Deserialize)]
struct MemberFile {
    votes: bool,
    address: String,
    published: BTreeMap<String, String>,
}

impl From<&Roster> for RosterFile {
    fn from(roster: &Roster) -> Self {
        let file = |member: Member| {
            let Member { votes, address, published } = member;
            MemberFile { votes, address, published }
        };
        let members = roster.members.iter().map(|(id, member)| (id.0, file(member.clone())));
        Self { version: roster.version.0, members: members.collect() }
    }
}

impl From<RosterFile> for Roster {
    fn from(file: RosterFile) -> Self {
        let member = |file: MemberFile| {
            let MemberFile { votes, address, published } = file;
            Member { votes, address, published }
        };
        let members = file.members.into_iter().map(|(id, file)| (NodeId(id), member(file)));
        Self { version: RosterVersion(file.version), members: members.collect() }
    }
}

impl DataDir {
    /// Makes a directory a data directory, for this node of this cluster.
    pub fn format(path: &Path, cluster: ClusterId, node: NodeId) -> Result<(), DataDirError> {
        Self::seal(path, Self::prepare(path, cluster, node)?)
    }

    /// Draws the identity of a directory that is to become a data directory; it is none before it is sealed.
    pub(crate) fn prepare(
        path: &Path,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Identity, DataDirError> {
        let io = |error| DataDirError::Io { path: path.to_path_buf(), error };
        if Self::is_formatted(path) {
            return Err(DataDirError::Exists { path: path.to_path_buf() });
        }
        fs::create_dir_all(path.join("log")).map_err(io)?;
        let incarnation = Incarnation(random_u64().map_err(io)?);
        Ok(Identity { cluster, node, incarnation })
    }

    /// Makes a prepared directory a data directory.
    pub(crate) fn seal(path: &Path, identity: Identity) -> Result<(), DataDirError> {
        Self::identify(path, identity, String::new())
    }

    /// From here on it is that node's, with its files in that directory inside it.
    fn identify(path: &Path, identity: Identity, home: String) -> Result<(), DataDirError> {
        let Identity { cluster, node, incarnation } = identity;
        let (cluster, node, incarnation) = (cluster.0, node.0, incarnation.0);
        let identity = IdentityFile { format: FORMAT, cluster, node, incarnation, home };
        let text = serde_json::to_vec_pretty(&identity).unwrap_or_default();
        write_aside(&path.join("identity.json"), &text)
            .map_err(|error| DataDirError::Io { path: path.to_path_buf(), error })
    }

    /// Whether a directory was made a data directory.
    pub fn is_formatted(path: &Path) -> bool {
        path.join("identity.json").exists()
    }

    /// Opens a directory for this process alone.
    pub fn open(path: &Path, node: NodeId) -> Result<Self, DataDirError> {
        if !Self::is_formatted(path) {
            return Err(DataDirError::NotFormatted { path: path.to_path_buf() });
        }
        let lock = Self::lock(path)?;
        let (identity, home) = Self::identity_and_home(path)?;
        if identity.node != node {
            let (found, wanted) = (identity.node.to_string(), node.to_string());
            return Err(DataDirError::Foreign { path: path.to_path_buf(), found, wanted });
        }
        Ok(Self { path: path.to_path_buf(), home, identity, _lock: lock })
    }

    /// Whose data a directory holds. Looks only, whether a process uses it or not.
    pub fn identity_of(path: &Path) -> Result<Identity, DataDirError> {
        Self::identity_and_home(path).map(|(identity, _)| identity)
    }

    fn identity_and_home(path: &Path) -> Result<(Identity, PathBuf), DataDirError> {
        if !Self::is_formatted(path) {
            return Err(DataDirError::NotFormatted { path: path.to_path_buf() });
        }
        let file = path.join("identity.json");
        let text = fs::read(&file)
            .map_err(|error| DataDirError::Io { path: path.to_path_buf(), error })?;
        let found: IdentityFile = serde_json::from_slice(&text)
            .map_err(|error| DataDirError::Unreadable { path: file, error })?;
        if found.format != FORMAT {
            return Err(DataDirError::Version { path: path.to_path_buf(), found: found.format });
        }
        let identity = Identity {
            cluster: ClusterId(found.cluster),
            node: NodeId(found.node),
            incarnation: Incarnation(found.incarnation),
        };
        let home = if found.home.is_empty() { path.to_path_buf() } else { path.join(found.home) };
        Ok((identity, home))
    }

    /// Where the log of a data directory is.
    pub fn log_of(path: &Path) -> PathBuf {
        Self::identity_and_home(path).map_or(path.to_path_buf(), |(_, home)| home).join("log")
    }

    fn lock(path: &Path) -> Result<File, DataDirError> {
        let mut tries = LOCK_TRIES;
        loop {
            tries -= 1;
            match lock_file(&path.join("lock")) {
                Ok(lock) => return Ok(lock),
                // A process with much memory that was killed a moment ago takes a while to be gone.
                Err(LockError::Held(_)) if tries > 0 => std::thread::sleep(LOCK_PAUSE),
                Err(LockError::Held(pid)) => {
                    return Err(DataDirError::InUse { path: path.to_path_buf(), pid });
                }
                Err(LockError::Io(error)) => {
                    return Err(DataDirError::Io { path: path.to_path_buf(), error });
                }
            }
        }
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Begins another life of it, in another cluster, beside the one that goes on until the new one is [sealed](Self::turn_to).
    /// What an attempt left behind that was cut off is removed.
    pub(crate) fn another_life(&self, cluster: ClusterId) -> io::Result<Life> {
        for entry in fs::read_dir(&self.path)?.flatten() {
            let left = entry.file_name().to_string_lossy().starts_with(LIFE);
            if left && entry.path() != self.home {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let incarnation = Incarnation(random_u64()?);
        let name = format!("{LIFE}{:016x}", incarnation.0);
        let home = self.path.join(&name);
        fs::create_dir_all(home.join("log"))?;
        let identity = Identity { cluster, node: self.identity.node, incarnation };
        Ok(Life { identity, name, home })
    }

    /// The other life is durable and takes over, at once. The files of the one before stay where they are.
    pub(crate) fn turn_to(self, life: &Life, roster: &Roster) -> Result<(), DataDirError> {
        let io = |error| DataDirError::Io { path: self.path.clone(), error };
        write_roster(&life.home, roster).map_err(io)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(io)?;
        Self::identify(&self.path, life.identity, life.name.clone())
    }

    /// The files that the life before this one left, if there is one: kept for whoever wants to look.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let names = ["log", "peers.json", "members.json"].map(|name| self.home.join(name));
        let of_its_own = self.home != self.path;
        let files = if of_its_own { vec![self.home.clone()] } else { names.to_vec() };
        files.into_iter().filter(|file| file.exists()).collect()
    }

    /// Whether this is the life of that member's data directory that this node has always known. The first
    /// one met is remembered.
    pub fn knows_peer(&self, node: NodeId, incarnation: Incarnation) -> io::Result<bool> {
        let file = self.home.join("peers.json");
        let mut peers: BTreeMap<u64, u64> = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        if let Some(known) = peers.get(&node.0) {
            return Ok(*known == incarnation.0);
        }
        peers.insert(node.0, incarnation.0);
        write_aside(&file, &serde_json::to_vec_pretty(&peers).unwrap_or_default())?;
        Ok(true)
    }

    /// Forgets which life of those members was met: they left, and may come back with another one.
    pub(crate) fn forget_peers(&self, gone: &[NodeId]) -> io::Result<()> {
        let file = self.home.join("peers.json");
        let mut peers: BTreeMap<u64, u64> = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let before = peers.len();
        peers.retain(|peer, _| !gone.contains(&NodeId(*peer)));
        if peers.len() == before {
            return Ok(());
        }
        write_aside(&file, &serde_json::to_vec_pretty(&peers).unwrap_or_default())
    }

    /// Keeps the list of members for the next start.
    pub(crate) fn remember_roster(&self, roster: &Roster) -> io::Result<()> {
        write_roster(&self.home, roster)
    }

    /// The list that was kept, if it was ever changed.
    pub(crate) fn roster(&self) -> Result<Option<Roster>, DataDirError> {
        let path = self.home.join("members.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice::<RosterFile>(&text)
                .map(|file| Some(file.into()))
                .map_err(|error| DataDirError::Unreadable { path, error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataDirError::Io { path, error }),
        }
    }
}

fn write_roster(home: &Path, roster: &Roster) -> io::Result<()> {
    let file = RosterFile::from(roster);
    let text = serde_json::to_vec_pretty(&file).unwrap_or_default();
    write_aside(&home.join("members.json"), &text)
}

/// Why a lock was not got.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it: its pid, if it wrote one.
    Held(String),
    /// The file cannot be opened or locked.
    Io(io::Error),
}

/// Locks a file for as long as it stays open, and writes this process's pid into it.
pub fn lock_file(path: &Path) -> Result<File, LockError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(LockError::Io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(LockError::Held(pid.trim().to_string()));
        }
        Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    match write(&mut file) {
        // The pid is for people: on a full disk the file is locked all the same.
        Err(error) if is_full(&error) => Ok(file),
        other => other.map(|()| file).map_err(LockError::Io),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Replaces a file at once: whoever reads it sees the old one or the new one.
pub fn write_aside(path: &Path, text: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("{}.aside", std::process::id()));
    let mut file = File::create(&aside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Sixty-four bits of the system's random source.
pub fn random_u64() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}
