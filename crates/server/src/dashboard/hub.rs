//! The stream behind the open pages: one task asks the cluster how it is, about every second while somebody looks and
//! never else, and every page is sent the same bytes. A page that reads slowly misses some; none of them waits for another.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

use crate::admin::{Administrators, ClusterStatus};

/// Between one look at the cluster and the next.
const INTERVAL: Duration = Duration::from_millis(800);
/// Pages open at once.
const PAGES_MAX: usize = 64;
/// Browsers connect again after so many milliseconds.
const HELLO: &str = "retry: 1000\n\n";

/// What a page is told.
#[derive(Serialize)]
struct News<'a> {
    #[serde(flatten)]
    cluster: &'a ClusterStatus,
    /// The node that tells it.
    by: u64,
}

/// Where the open pages get their news.
pub(super) struct Hub {
    latest: watch::Sender<Bytes>,
    by: u64,
    opened: Notify,
}

impl Hub {
    /// A hub, and its task, which ends with the node.
    pub(super) fn start(administrators: Administrators, by: u64) -> Arc<Self> {
        let (latest, opened) = (watch::Sender::new(Bytes::new()), Notify::new());
        let hub = Arc::new(Self { latest, by, opened });
        tokio::spawn(hub.clone().run(administrators));
        hub
    }

    async fn run(self: Arc<Self>, administrators: Administrators) {
        loop {
            while self.latest.receiver_count() == 0 {
                self.opened.notified().await;
            }
            let next = tokio::time::Instant::now() + INTERVAL;
            if let Ok(cluster) = administrators.cluster().await {
                let news = News { cluster: &cluster, by: self.by };
                let json = serde_json::to_string(&news).unwrap_or_default();
                self.latest.send_replace(format!("data: {json}\n\n").into());
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// A stream for one more page; `None` if there are too many.
    pub(super) fn subscribe(&self) -> Option<Stream> {
        if self.latest.receiver_count() >= PAGES_MAX {
            return None;
        }
        // What was told last may be old: the first thing that a page is sent is what comes next.
        let latest = self.latest.subscribe();
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(pass_on(latest, sender));
        self.opened.notify_one();
        Some(Stream(pieces))
    }
}

/// Passes on what is newest whenever the page has taken what it was sent, until it goes away.
async fn pass_on(mut latest: watch::Receiver<Bytes>, page: mpsc::Sender<Bytes>) {
    let mut piece = Bytes::from_static(HELLO.as_bytes());
    while page.send(piece).await.is_ok() {
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            () = page.closed() => return,
        }
        piece = latest.borrow_and_update().clone();
    }
}

/// What one page is sent.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl IntoResponse for Stream {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (headers, Body::new(self)).into_response()
    }
}
