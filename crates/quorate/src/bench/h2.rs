//! Calls to a server that speaks gRPC, as cheaply as HTTP/2 can be had: the generator shares the processor with the servers.
//!
//! Not here: other servers when this one dies, and what a failed call may have done. The Clerk of the client library has that.

use std::future::poll_fn;
use std::io;

use ::h2::client::{SendRequest, handshake};
use ::h2::{RecvStream, SendStream};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, TE};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{HeaderMap, Request, Uri};
use prost::Message;
use quorate_etcd::grpc::{Unframer, frame};
use tokio::net::TcpStream;

const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// One connection.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    authority: Authority,
}

/// Where calls of one kind go.
#[derive(Clone)]
pub(super) struct Method(Uri);

impl Channel {
    pub(super) async fn connect(server: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(stream).await.map_err(io::Error::other)?;
        // It ends with its last user; an error reaches those whose calls it breaks.
        tokio::spawn(async move { drop(connection.await) });
        let authority = server.parse().map_err(io::Error::other)?;
        Ok(Self { sender, authority })
    }

    /// A method of this server, by its gRPC name.
    pub(super) fn method(&self, path: &'static str) -> io::Result<Method> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_static(path));
        uri.build().map(Method).map_err(io::Error::other)
    }

    /// A call with one answer.
    pub(super) async fn call(
        &mut self,
        method: &Method,
        request: &impl Message,
    ) -> io::Result<Bytes> {
        let (_, mut answers) = self.open(method, request, true).await?;
        let answer = answers.next().await?;
        answers.finish().await?;
        answer.ok_or_else(|| io::Error::other("no answer"))
    }

    /// A stream that begins with one request.
    pub(super) async fn stream(
        &mut self,
        method: &Method,
        first: &impl Message,
    ) -> io::Result<(SendStream<Bytes>, Answers)> {
        self.open(method, first, false).await
    }

    async fn open(
        &mut self,
        method: &Method,
        request: &impl Message,
        last: bool,
    ) -> io::Result<(SendStream<Bytes>, Answers)> {
        poll_fn(|context| self.sender.poll_ready(context)).await.map_err(io::Error::other)?;
        let mut head = Request::post(method.0.clone()).body(()).map_err(io::Error::other)?;
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let (answer, mut out) = self.sender.send_request(head, false).map_err(io::Error::other)?;
        out.send_data(frame(&request.encode_to_vec()), last).map_err(io::Error::other)?;
        let (head, body) = answer.await.map_err(io::Error::other)?.into_parts();
        good(&head.headers)?;
        Ok((out, Answers { body, unframer: Unframer::new(MESSAGE_BYTES_MAX) }))
    }
}

/// What comes back.
pub(super) struct Answers {
    body: RecvStream,
    unframer: Unframer,
}

impl Answers {
    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.unframer.next_message().map_err(io::Error::other)? {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await else { return Ok(None) };
            let data = data.map_err(io::Error::other)?;
            self.body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            self.unframer.push(&data);
        }
    }

    async fn finish(mut self) -> io::Result<()> {
        match self.body.trailers().await.map_err(io::Error::other)? {
            Some(trailers) => good(&trailers),
            None => Ok(()),
        }
    }
}

/// What headers or trailers say, unless it is good.
fn good(headers: &HeaderMap) -> io::Result<()> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(code) => {
            let why = headers.get("grpc-message").map_or(&[][..], HeaderValue::as_bytes);
            let (code, why) = (String::from_utf8_lossy(code), String::from_utf8_lossy(why));
            Err(io::Error::other(format!("refused: {why} (code {code})")))
        }
    }
}
