//! `Maintenance/Snapshot`: the key/value state as it is now, as the file that a snapshot is on the disk, in pieces.
//!
//! ```text
//! the file | zeros up to a multiple of 512 bytes | SHA-256 of all that
//! ```
//!
//! That is the frame by which etcd's own tools know that a snapshot is whole; what is in it is ours.

use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use quorate_contracts::GroupId;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::Context;
use quorate_etcd::{Code, Refusal};
use quorate_storage::finished_name;
use ring::digest;
use tokio::sync::oneshot;

use super::ETCD_VERSION;
use super::body::Sender;
use super::listen::Api;
use crate::inbox::Incoming;

const PIECE_BYTES: u64 = 64 << 10;
const BLOCK_BYTES: u64 = 512;

/// Takes a snapshot and sends it.
pub(super) async fn send(api: Rc<Api>, context: Context, out: Sender) {
    if let Err(status) = send_until(&api, &context, &out).await {
        let _ = out.send(Err(status)).await; // the client may have gone
    }
}

async fn send_until(api: &Api, context: &Context, out: &Sender) -> Result<(), Status> {
    api.check_admin(context).await?;
    let mut file = take(api).await?;
    let bytes = file.metadata().map_err(|error| damaged(&error))?.len();
    let bytes = bytes.next_multiple_of(BLOCK_BYTES);
    let mut left = bytes + digest::SHA256_OUTPUT_LEN as u64;
    let mut sum = digest::Context::new(&digest::SHA256);
    for at in (0..bytes).step_by(PIECE_BYTES as usize) {
        let wanted = PIECE_BYTES.min(bytes - at) as usize;
        let piece;
        (file, piece) = read(file, wanted).await.map_err(|error| damaged(&error))?;
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
async fn take(api: &Api) -> Result<File, Status> {
    let (taken, last) = oneshot::channel();
    api.about.inbox.push(Incoming::TakeSnapshot(GroupId::KEY_VALUE, taken));
    let last = last.await.map_err(|_| Refusal::Stopped)?;
    let path = api.about.log.join(finished_name(GroupId::KEY_VALUE, last));
    File::open(path).map_err(|error| damaged(&error))
}

/// The next bytes of a file, on a thread of their own; zeros behind its end.
async fn read(mut file: File, wanted: usize) -> io::Result<(File, Vec<u8>)> {
    let read = move || {
        let mut piece = Vec::with_capacity(wanted);
        file.by_ref().take(wanted as u64).read_to_end(&mut piece)?;
        piece.resize(wanted, 0);
        Ok((file, piece))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn give(out: &Sender, blob: Bytes, remaining_bytes: u64) -> bool {
    let version = ETCD_VERSION.to_string();
    let response = pb::SnapshotResponse { blob, remaining_bytes, version, ..Default::default() };
    out.send(Ok(response.encode_to_vec().into())).await.is_ok()
}

fn damaged(error: &io::Error) -> Status {
    Status::new(Code::Internal, format!("cannot read the snapshot: {error}"))
}
