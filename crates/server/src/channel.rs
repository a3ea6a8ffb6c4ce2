//! The bytes of a connection, plain or through TLS, tried and never waited for: a caller waits with
//! [`Channel::readable`] and [`Channel::writable`].
//!
//! TLS is rustls's state machine over the same socket: what it has to say beside data (handshake, key
//! updates) leaves with the next write or read.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

/// Plain bytes that TLS may hold as ciphertext while the socket takes nothing.
const TLS_BUFFER_BYTES: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: TcpStream,
    tls: Option<RefCell<Connection>>,
}

impl Channel {
    /// Without TLS.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// The side that was dialled; returns once the handshake is done.
    pub(crate) async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Self::shake_hands(stream, tls.into()).await
    }

    /// The side that dials; returns once the handshake is done.
    pub(crate) async fn connect(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Self::shake_hands(stream, tls.into()).await
    }

    async fn shake_hands(stream: TcpStream, mut tls: Connection) -> io::Result<Self> {
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let channel = Self { stream, tls: Some(RefCell::new(tls)) };
        loop {
            while !channel.try_flush()? {
                channel.stream.writable().await?;
            }
            if !channel.tls.as_ref().is_some_and(|tls| tls.borrow().is_handshaking()) {
                return Ok(channel);
            }
            channel.stream.readable().await?;
            match channel.take_ciphertext() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    // The other side learns why, if it still listens.
                    let _ = channel.try_flush();
                    return Err(error);
                }
            }
        }
    }

    /// Whether there may be something to read that the socket does not tell of.
    pub(crate) fn may_hold_more(&self) -> bool {
        self.tls.is_some()
    }

    /// The certificate that the other side proved to own.
    pub(crate) fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        let tls = self.tls.as_ref()?.borrow();
        tls.peer_certificates()?.first().map(|certificate| certificate.clone().into_owned())
    }

    /// Waits until something may be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until something may be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Appends what can be read now, as far as the buffer has room for it; 0 at the end, `WouldBlock` if there is
    /// nothing. Only after `WouldBlock` does [`readable`](Self::readable) tell of all that is new: TLS may hold
    /// more than the buffer had room for.
    pub(crate) fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.try_read_buf(buffer) };
        loop {
            let mut plain = [0; 8 << 10];
            let room = plain.len().min(buffer.capacity() - buffer.len());
            match tls.borrow_mut().reader().read(&mut plain[..room]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    let count = read?;
                    buffer.extend_from_slice(&plain[..count]);
                    return Ok(count);
                }
            }
            if self.take_ciphertext()? == 0 {
                return Ok(0);
            }
            self.try_flush()?;
        }
    }

    /// Writes what can be written now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.try_write(bytes) };
        if !self.try_flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = tls.borrow_mut().writer().write(bytes)?;
        self.try_flush()?;
        Ok(written)
    }

    /// Writes what TLS still holds; returns whether everything is out.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        let Some(tls) = &self.tls else { return Ok(true) };
        let mut tls = tls.borrow_mut();
        while tls.wants_write() {
            match tls.write_tls(&mut Tried(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads until the buffer is full.
    pub(crate) async fn read_exact(&self, out: &mut [u8]) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(out.len());
        while buffer.len() < out.len() {
            let mut rest = BytesMut::with_capacity(out.len() - buffer.len());
            match self.try_read(&mut rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => buffer.unsplit(rest),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable().await?,
                Err(error) => return Err(error),
            }
        }
        out.copy_from_slice(&buffer);
        Ok(())
    }

    /// Writes everything.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if bytes.is_empty() && self.try_flush()? {
                return Ok(());
            }
            self.writable().await?;
        }
    }

    /// Says that nothing more follows; it leaves with the next flush.
    pub(crate) fn say_goodbye(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().send_close_notify();
            let _ = self.try_flush();
        }
    }

    fn take_ciphertext(&self) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return Ok(0) };
        let mut tls = tls.borrow_mut();
        let count = tls.read_tls(&mut Tried(&self.stream))?;
        tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(count)
    }
}

/// The socket as rustls wants to see it.
struct Tried<'a>(&'a TcpStream);

impl Read for Tried<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Tried<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::tls::tests::{Authority, client, server};
    use crate::tls::{ClientCertificate, subject};

    /// Runs both sides on one thread; what they come to.
    pub(crate) fn both<A, B>(
        dialled: impl AsyncFnOnce(TcpStream) -> A,
        dials: impl AsyncFnOnce(TcpStream) -> B,
    ) -> (A, B) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::join!(async { dialled(listener.accept().await.unwrap().0).await }, async {
                dials(TcpStream::connect(address).await.unwrap()).await
            },)
        })
    }

    fn name() -> ServerName<'static> {
        "127.0.0.1".try_into().unwrap()
    }

    async fn read_all(channel: &Channel) -> Vec<u8> {
        let mut all = BytesMut::new();
        loop {
            all.reserve(8 << 10);
            match channel.try_read(&mut all) {
                Ok(0) => return all.to_vec(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    channel.readable().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// RPC-8: what goes in comes out, more of it than any buffer holds, and the other side is known.
    #[test]
    fn megabytes_pass_through_tls_and_the_peer_is_known() {
        let authority = Authority::new();
        let server = server(&authority, ClientCertificate::Need);
        let client = client(&authority);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (received, _) = both(
            async |stream| {
                let channel = Channel::accept(stream, server).await.unwrap();
                assert_eq!(
                    subject(&channel.peer_certificate().unwrap()).as_deref(),
                    Some("CN=client,O=Quorate\\, tests")
                );
                read_all(&channel).await
            },
            async |stream| {
                let channel = Channel::connect(stream, client, name()).await.unwrap();
                let channel = Rc::new(channel);
                let outbox = crate::outbox::Outbox::start_alone(channel.clone(), usize::MAX);
                outbox.push(&sent);
                outbox.close();
                outbox.flush();
                outbox.write_late().await;
                // A socket closed with tickets of the server unread would take back what is on its way.
                channel
            },
        );
        assert_eq!(received.len(), sent.len());
        assert!(received == sent);
    }

    /// RPC-8: who has no certificate, or one of another authority, gets nowhere; a plain client neither.
    #[test]
    fn strangers_are_refused_in_the_handshake() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        for (need, dials, taken) in [
            (ClientCertificate::Need, client(&ours), true),
            (ClientCertificate::Need, crate::tls::tests::client_without_certificate(&ours), false),
            (ClientCertificate::Want, crate::tls::tests::client_without_certificate(&ours), true),
            (ClientCertificate::None, crate::tls::tests::client_without_certificate(&ours), true),
            (ClientCertificate::Need, crate::tls::tests::client_of(&theirs, &ours), false),
        ] {
            let server = server(&ours, need);
            let (accepted, _) = both(
                async |stream| Channel::accept(stream, server).await.is_ok(),
                async |stream| Channel::connect(stream, dials, name()).await.is_ok(),
            );
            assert_eq!(accepted, taken, "{need:?}");
        }
        let server = server(&ours, ClientCertificate::None);
        let (accepted, _) = both(
            async |stream| Channel::accept(stream, server).await.map(drop),
            async |stream| {
                stream.writable().await.unwrap();
                let _ = stream.try_write(b"ruok and more than a record's head");
                stream
            },
        );
        assert_eq!(accepted.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
