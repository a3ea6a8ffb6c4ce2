//! Connections of the key/value service's clients: HTTP/2 for gRPC and HTTP/1.1 for the rest, told apart by their first bytes.

use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::about::About;
use super::desk::Desk;
use super::{grpc, pages};

/// Calls and streams of one connection at a time: clients put thousands of watches on one.
const STREAMS_MAX: u32 = 10_000;
/// Bytes that one stream, and one connection, may send ahead of what was read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of replies that wait in one stream for its client.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// A silent connection is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(60);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// After an error of `accept`, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests that are being worked on, in units of 1 KiB: beyond, clients wait.
const ROOM_KIB: usize = 128 << 10;

/// What handlers have.
pub(crate) struct Api {
    pub(super) desk: Desk,
    pub(super) about: About,
    pub(super) room: Semaphore,
}

impl Api {
    pub(crate) fn new(desk: Desk, about: About) -> Rc<Self> {
        Rc::new(Self { desk, about, room: Semaphore::new(ROOM_KIB) })
    }
}

/// Takes connections for ever.
pub(crate) async fn accept(api: Rc<Api>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tokio::task::spawn_local(serve(api.clone(), socket))),
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection of an etcd client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(api: Rc<Api>, socket: TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "an etcd client's connection");
    }
    let mut builder = Builder::new(OwnThread);
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_PATIENCE);
    let service = service_fn(move |request| answer(api.clone(), request));
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(error, "an etcd client's connection ended");
    }
}

async fn answer(
    api: Rc<Api>,
    request: Request<Incoming>,
) -> Result<hyper::Response<super::body::Body>, Infallible> {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    if kind.starts_with(b"application/grpc") {
        Ok(grpc::answer(api, request).await)
    } else {
        Ok(pages::answer(api, request).await)
    }
}

/// Handlers run on the node's own thread.
#[derive(Clone)]
struct OwnThread;

impl<F: Future<Output: 'static> + 'static> Executor<F> for OwnThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
