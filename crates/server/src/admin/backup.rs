//! Backups (ZK-19): a snapshot of the coordination state at one zxid, taken while writes go on, and sent as the file that it is
//! on the disk, with its checksums.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use quorate_contracts::{EntryId, GroupId, LogIndex, SnapshotInput};
use quorate_storage::finished_name;
use tokio::sync::{mpsc, oneshot};

use super::{Administrators, Question, Silent, json_type};

/// How long a snapshot may take: it is written slowly, so that it leaves the disk to the log.
const PATIENCE: Duration = Duration::from_secs(600);
const PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of a reader that is slower than the disk.
const PIECES_AHEAD: usize = 4;

/// Those who wait for a snapshot of a group.
#[derive(Debug, Default)]
pub(crate) struct Backups(Vec<(LogIndex, oneshot::Sender<EntryId>)>);

impl Backups {
    /// Somebody waits for one that stands for everything up to here.
    pub(crate) fn wait(&mut self, from: LogIndex, taken: oneshot::Sender<EntryId>) {
        self.0.push((from, taken));
    }

    /// There are news: a finished one is told, one that was given up is given up for all.
    pub(crate) fn hear(&mut self, news: &SnapshotInput) {
        match news {
            SnapshotInput::Finished { meta, .. } => {
                for (_, taken) in self.0.extract_if(.., |(from, _)| *from <= meta.last.index) {
                    let _ = taken.send(meta.last); // the caller may have gone
                }
            }
            SnapshotInput::Cancelled { .. } => self.0.clear(),
            _ => {}
        }
    }
}

/// Takes a snapshot and sends it.
pub(super) async fn give(State(administrators): State<Administrators>) -> Result<Response, Silent> {
    let last = administrators.ask_patiently(PATIENCE, Question::Snapshot).await?;
    // Once it is open it stays readable, also if the next one takes its place.
    let path = administrators.log.join(finished_name(GroupId::COORDINATION, last));
    let Ok(body) = File::open(path).and_then(Sending::begin) else { return Err(Silent) };
    Ok(Body::new(body).into_response())
}

/// Takes a snapshot and leaves it on the disk: the AdminServer's `snapshot` without streaming.
pub(super) async fn take(State(administrators): State<Administrators>) -> Result<Response, Silent> {
    let last = administrators.ask_patiently(PATIENCE, Question::Snapshot).await?;
    let path = administrators.log.join(finished_name(GroupId::COORDINATION, last));
    let bytes = path.metadata().map_or(0, |file| file.len());
    let zxid = administrators.status().await?.snapshot_zxid;
    let text = serde_json::json!({ "command": "snapshot", "error": null, "last_zxid": zxid, "snapshot_size": bytes });
    Ok((json_type(), text.to_string()).into_response())
}

/// Where anybody could ask.
pub(super) async fn refuse() -> Response {
    let text = "{\"error\":\"a backup holds everything, whatever the access control lists say: it is given on loopback only\"}";
    (StatusCode::FORBIDDEN, json_type(), text).into_response()
}

/// A file on its way, read on a thread of its own.
struct Sending {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Sending {
    fn begin(mut file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let read = move || {
            loop {
                let mut piece = Vec::new();
                let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
                let ended = matches!(read, Ok(0) | Err(_));
                let piece = read.map(|_| Bytes::from(piece));
                if matches!(&piece, Ok(piece) if piece.is_empty())
                    || sender.blocking_send(piece).is_err()
                    || ended
                {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("backup".to_owned()).spawn(read)?;
        Ok(Self { pieces, left })
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| {
            let piece = piece?;
            let read = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            self.left = self.left.saturating_sub(read);
            Some(piece.map(Frame::data))
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
