//! Connections of the key/value service's clients: HTTP/2 for gRPC and HTTP/1.1 for the rest, with TLS or without, told apart by
//! their first bytes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::about::About;
use super::authority::Mended;
use super::desk::Desk;
use super::{grpc, pages};
use crate::config::ServeConfig;
use crate::tls::renewal::{Renewal, Renewed};
use crate::tls::{ClientCertificate, TlsError, common_name};

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
/// A client may take so long for its TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// After an error of `accept`, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests that are being worked on, in units of 1 KiB: beyond, clients wait.
const ROOM_KIB: usize = 128 << 10;
/// Large ranges that are sent at a time, each with two pieces in memory: beyond, clients wait.
const LARGE_RANGES_MAX: usize = 64;
/// Snapshots that are made at a time, each with two files of the size of the store: beyond, clients wait.
const SNAPSHOTS_MAX: usize = 2;

/// What handlers have.
pub(crate) struct Api {
    pub(super) desk: Desk,
    pub(super) about: About,
    pub(super) room: Semaphore,
    /// Ranges that are being sent in pieces.
    pub(super) large: Semaphore,
    /// Snapshots that are being made and sent.
    pub(super) snapshots: Semaphore,
}

impl Api {
    pub(crate) fn new(desk: Desk, about: About) -> Rc<Self> {
        Rc::new(Self {
            desk,
            about,
            room: Semaphore::new(ROOM_KIB),
            large: Semaphore::new(LARGE_RANGES_MAX),
            snapshots: Semaphore::new(SNAPSHOTS_MAX),
        })
    }
}

/// TLS on this port, if there is.
#[derive(Clone)]
pub(crate) struct Security {
    server: Renewed<ServerConfig>,
    /// Who comes without is served too.
    also_plain: bool,
    /// Every client has shown a certificate, so its common name tells who it is.
    names_users: bool,
}

impl Security {
    /// What the configuration asks for.
    pub(crate) fn new(
        config: &ServeConfig,
        renewal: &mut Renewal,
    ) -> Result<Option<Self>, TlsError> {
        let Some(tls) = &config.etcd_tls else { return Ok(None) };
        let adapt = |server: &mut ServerConfig| {
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        };
        Ok(Some(Self {
            server: renewal.acceptor("etcd_tls", tls, adapt)?,
            also_plain: config.etcd_also_plain,
            names_users: tls.client_certificate == ClientCertificate::Need,
        }))
    }
}

/// The common name of the certificate that a connection's client owns: the user it is when it brings no token.
#[derive(Clone)]
pub(super) struct CertifiedUser(pub(super) Arc<str>);

/// Takes connections for ever.
pub(crate) async fn accept(api: Rc<Api>, listener: TcpListener, security: Option<Security>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                drop(tokio::task::spawn_local(welcome(api.clone(), socket, security.clone())))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection of an etcd client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn welcome(api: Rc<Api>, socket: TcpStream, security: Option<Security>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "an etcd client's connection");
    }
    let Some(security) = security else { return serve(api, socket, None).await };
    match tokio::time::timeout(HANDSHAKE_PATIENCE, secure(socket, &security)).await {
        Ok(Ok(Channel::Plain(socket))) => serve(api, socket, None).await,
        Ok(Ok(Channel::Tls(stream))) => {
            let user = if security.names_users { certified_user(&stream) } else { None };
            serve(api, stream, user).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "an etcd client's TLS handshake failed"),
        Err(_) => tracing::debug!("an etcd client did not finish its TLS handshake"),
    }
}

enum Channel {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

async fn secure(socket: TcpStream, security: &Security) -> io::Result<Channel> {
    let mut first = [0];
    if security.also_plain && socket.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        return Ok(Channel::Plain(socket));
    }
    Ok(Channel::Tls(Box::new(TlsAcceptor::from(security.server.current()).accept(socket).await?)))
}

fn certified_user(stream: &TlsStream<TcpStream>) -> Option<CertifiedUser> {
    let (_, tls) = stream.get_ref();
    let name = common_name(tls.peer_certificates()?.first()?)?;
    Some(CertifiedUser(name.into()))
}

async fn serve<S>(api: Rc<Api>, stream: S, user: Option<CertifiedUser>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
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
    let service = service_fn(move |mut request: Request<Incoming>| {
        user.clone().map(|user| request.extensions_mut().insert(user));
        answer(api.clone(), request)
    });
    let stream = TokioIo::new(Mended::new(stream));
    if let Err(error) = builder.serve_connection(stream, service).await {
        tracing::debug!(error, "an etcd client's connection ended");
    }
}

/// One request. Its future is made, moved and freed for each of them: what is rarely asked has a box of its own.
async fn answer(
    api: Rc<Api>,
    request: Request<Incoming>,
) -> Result<hyper::Response<super::body::Body>, Infallible> {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    if kind.starts_with(b"application/grpc") {
        Ok(grpc::answer(api, request).await)
    } else {
        Ok(Box::pin(pages::answer(api, request)).await)
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
