//! `Maintenance/Snapshot`: the key/value state as it is now, as etcd's database file, in pieces.
//!
//! ```text
//! the database, whole pages of 4096 bytes | SHA-256 of all that
//! ```
//!
//! The node takes a snapshot of its own, as it does once its log is long; a thread makes a database of it, in a file that has no name any
//! more, so that nothing stays behind whatever happens; that is sent. In memory there is never more than a few pieces.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use prost::Message;
use quorate_contracts::{EntryId, GroupId};
use quorate_etcd::db::{self, Origin};
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::Context;
use quorate_etcd::{Code, Refusal};
use quorate_storage::{SnapshotContent, finished_name};
use ring::digest;
use serde::Serialize;
use tokio::sync::oneshot;

use super::ETCD_VERSION;
use super::body::Sender;
use super::listen::Api;
use crate::inbox::Incoming;

const PIECE_BYTES: u64 = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;

/// Takes a snapshot and sends it.
pub(super) async fn send(api: Rc<Api>, context: Context, out: Sender) {
    if let Err(status) = send_until(&api, &context, &out).await {
        let _ = out.send(Err(status)).await; // the client may have gone
    }
}

async fn send_until(api: &Api, context: &Context, out: &Sender) -> Result<(), Status> {
    api.check_admin(context).await?;
    let _place = api.snapshots.acquire().await;
    let (taken, last) = take(api).await?;
    let origin = Origin { applied: last, members: members(&api.members().await?) };
    let log = api.about.log.clone();
    let made = tokio::task::spawn_blocking(move || make(taken, &origin, &log));
    let made = made.await.map_err(io::Error::other).and_then(|made| made);
    let (mut file, bytes) = made.map_err(|error| failed(&error))?;
    let mut left = bytes + digest::SHA256_OUTPUT_LEN as u64;
    let mut sum = digest::Context::new(&digest::SHA256);
    for at in (0..bytes).step_by(PIECE_BYTES as usize) {
        let wanted = PIECE_BYTES.min(bytes - at) as usize;
        let piece;
        (file, piece) = read(file, wanted).await.map_err(|error| failed(&error))?;
        sum.update(&piece);
        left -= piece.len() as u64;
        if !give(out, piece.into(), left).await {
            return Ok(());
        }
    }
    give(out, Bytes::copy_from_slice(sum.finish().as_ref()), 0).await;
    Ok(())
}

/// Once it is open it stays readable, also if the next one takes its place.
async fn take(api: &Api) -> Result<(File, EntryId), Status> {
    let (taken, last) = oneshot::channel();
    api.about.inbox.push(Incoming::TakeSnapshot(GroupId::KEY_VALUE, taken));
    let last = last.await.map_err(|_| Refusal::Stopped)?;
    let path = api.about.log.join(finished_name(GroupId::KEY_VALUE, last));
    Ok((File::open(path).map_err(|error| failed(&error))?, last))
}

/// Makes a database of a snapshot file; gives it, to be read from its beginning, and its size.
fn make(taken: File, origin: &Origin, log: &Path) -> io::Result<(File, u64)> {
    let (_, _, content) = SnapshotContent::open(BufReader::with_capacity(BUFFER_BYTES, taken))?;
    let mut file = nameless(log)?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, &mut file);
    let made = db::export(content, origin, nameless(log)?, out).map_err(io::Error::other)?;
    file.rewind()?;
    Ok((file, made.bytes))
}

/// A file beside the log that is gone when it is closed, also by a crash. Its name is one that the next start removes, should the
/// process end between making it and removing it.
fn nameless(log: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("etcd-{}.unfinished", NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = log.join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// The members as etcd keeps them.
fn members(members: &[pb::Member]) -> Vec<(u64, Vec<u8>)> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Kept<'a> {
        id: u64,
        #[serde(rename = "peerURLs")]
        peer_urls: &'a [String],
        name: &'a str,
        #[serde(rename = "clientURLs")]
        client_urls: &'a [String],
    }
    let kept = |member: &pb::Member| {
        let (peer_urls, client_urls) = (&member.peer_ur_ls, &member.client_ur_ls);
        let kept = Kept { id: member.id, peer_urls, name: &member.name, client_urls };
        (member.id, serde_json::to_vec(&kept).unwrap_or_default())
    };
    members.iter().map(kept).collect()
}

/// The next bytes of a file, on a thread of their own.
async fn read(mut file: File, wanted: usize) -> io::Result<(File, Vec<u8>)> {
    let read = move || {
        let mut piece = vec![0; wanted];
        file.read_exact(&mut piece)?;
        Ok((file, piece))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn give(out: &Sender, blob: Bytes, remaining_bytes: u64) -> bool {
    let version = ETCD_VERSION.to_string();
    let response = pb::SnapshotResponse { blob, remaining_bytes, version, ..Default::default() };
    out.send(Ok(response.encode_to_vec().into())).await.is_ok()
}

fn failed(error: &io::Error) -> Status {
    Status::new(Code::Internal, format!("cannot make the snapshot: {error}"))
}
