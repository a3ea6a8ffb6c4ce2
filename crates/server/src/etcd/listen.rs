//! Connections of the key/value service's clients: HTTP/2 for gRPC and HTTP/1.1 for the rest, with TLS or without, told apart by
//! their first bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_http2::PREFACE;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::about::About;
use super::calls::Calls;
use super::desk::Desk;
use super::{gateway, http2, pages};
use crate::config::ServeConfig;
use crate::tls::renewal::{Renewal, Renewed};
use crate::tls::{ClientCertificate, TlsError, common_name};

/// What tells HTTP/2 from HTTP/1.1, whose methods it cannot be mistaken for.
const METHOD_BYTES: usize = 3;
/// Room for what a client says at once.
const FIRST_BYTES: usize = 4096;
/// A client may take so long until it says something.
const FIRST_PATIENCE: Duration = Duration::from_secs(60);
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

/// The place that a request of so many bytes takes.
pub(super) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1)
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

/// HTTP/2 begins with a word of its own; everything else is HTTP/1.1.
async fn serve<S>(api: Rc<Api>, mut stream: S, user: Option<CertifiedUser>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut first = BytesMut::with_capacity(FIRST_BYTES);
    let came = tokio::time::timeout(FIRST_PATIENCE, first_bytes(&mut stream, &mut first)).await;
    match came {
        Ok(Ok(())) if PREFACE.starts_with(&first[..METHOD_BYTES]) => {
            http2::serve(stream, &first, |wire| Calls::new(api, wire, user)).await;
        }
        Ok(Ok(())) => http1(api, Replayed { first: first.freeze(), stream }).await,
        Ok(Err(_)) | Err(_) => {
            tracing::debug!("an etcd client's connection ended before it asked anything")
        }
    }
}

async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S, first: &mut BytesMut) -> io::Result<()> {
    while first.len() < METHOD_BYTES {
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn http1<S>(api: Rc<Api>, stream: Replayed<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| answer(api.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "an etcd client's connection ended");
    }
}

async fn answer(
    api: Rc<Api>,
    request: Request<Incoming>,
) -> Result<hyper::Response<super::body::Body>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let mut whole = pages::Whole::new(&api);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if let Err(status) = whole.push(&data) {
            return Ok(gateway::refused(&status));
        }
    }
    Ok(pages::answer(api, Request::from_parts(head, whole.into())).await)
}

/// A stream of which something was read already.
struct Replayed<S> {
    first: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let now = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(now));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
