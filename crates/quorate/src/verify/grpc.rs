//! etcd's key/value API by gRPC: as much of it as a client needs to be judged.
//!
//! One connection and one call at a time; whoever wants more at once takes more clients. A failure says whether the call may have
//! taken effect. A gRPC call is one HTTP/2 request: the message with its length in front, and the status in the trailers.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd::messages::etcdserverpb::{request_op, response_op};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take, and a call.
const CONNECT_MAX: Duration = Duration::from_secs(1);
const CALL_MAX: Duration = Duration::from_secs(5);
/// Whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// Nothing happened.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// A result, and the revision at which it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer<T> {
    pub(super) result: T,
    pub(super) revision: u64,
}

impl<T> Answer<T> {
    fn new(header: Option<pb::ResponseHeader>, result: T) -> Self {
        let revision = header.map_or(0, |header| header.revision);
        Self { result, revision: u64::try_from(revision).unwrap_or_default() }
    }
}

type Answered<T> = Result<Answer<T>, Unanswered>;

/// A client that stays with one server as long as that answers.
pub(super) struct KvClient {
    servers: Vec<String>,
    at: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl KvClient {
    /// A client that begins with the server of this number.
    pub(super) fn new(servers: &[String], first: usize) -> Self {
        Self { servers: servers.to_vec(), at: first % servers.len().max(1), connection: None }
    }

    /// The server that it stays with.
    pub(super) fn server(&self) -> &str {
        &self.servers[self.at]
    }

    pub(super) async fn put(&mut self, key: &str, value: i64) -> Answered<()> {
        let answer: pb::PutResponse = self.call("Put", &put(key, value)).await?;
        Ok(Answer::new(answer.header, ()))
    }

    /// What is there. A serializable read is answered by the server alone and may be old.
    pub(super) async fn get(&mut self, key: &str, serializable: bool) -> Answered<Option<i64>> {
        let request = pb::RangeRequest { serializable, ..range(key) };
        let answer: pb::RangeResponse = self.call("Range", &request).await?;
        Ok(Answer::new(answer.header, value_in(&answer)))
    }

    /// The second value instead of the first, if that is there.
    pub(super) async fn swap(&mut self, key: &str, from: Option<i64>, to: i64) -> Answered<bool> {
        let (target, expected) = match from {
            Some(from) => (CompareTarget::Value, TargetUnion::Value(from.to_string().into())),
            None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        };
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: key.to_owned().into(),
            target_union: Some(expected),
            ..Default::default()
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![operation(request_op::Request::RequestPut(put(key, to)))],
            failure: Vec::new(),
        };
        let answer: pb::TxnResponse = self.call("Txn", &request).await?;
        Ok(Answer::new(answer.header, answer.succeeded))
    }

    /// Reads, and then writes, at once. Gives what the reads saw.
    pub(super) async fn transact(
        &mut self,
        reads: &[String],
        writes: &[(String, i64)],
    ) -> Answered<Vec<Option<i64>>> {
        let reading = reads.iter().map(|key| request_op::Request::RequestRange(range(key)));
        let writing =
            writes.iter().map(|(key, value)| request_op::Request::RequestPut(put(key, *value)));
        let success = reading.chain(writing).map(operation).collect();
        let request = pb::TxnRequest { success, ..Default::default() };
        let answer: pb::TxnResponse = self.call("Txn", &request).await?;
        let seen = answer.responses.iter().filter_map(|one| match &one.response {
            Some(response_op::Response::ResponseRange(range)) => Some(value_in(range)),
            _ => None,
        });
        Ok(Answer::new(answer.header, seen.collect()))
    }

    /// Deletes everything that begins like this.
    pub(super) async fn delete_all(&mut self, prefix: &str) -> Answered<()> {
        let range_end = quorate_etcd::prefix_end(prefix.as_bytes()).into();
        let request = pb::DeleteRangeRequest {
            key: prefix.to_owned().into(),
            range_end,
            ..Default::default()
        };
        let answer: pb::DeleteRangeResponse = self.call("DeleteRange", &request).await?;
        Ok(Answer::new(answer.header, ()))
    }

    async fn call<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Unanswered> {
        let mut connection = self.connected().await?;
        let request = Request::post(format!("http://{}/etcdserverpb.KV/{method}", self.server()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(framed(request)))
            .map_err(|error| Unanswered::Refused(error.to_string()))?;
        let answer = timeout(CALL_MAX, async {
            let (head, body) = connection.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head.headers, body.collect().await?))
        });
        let answer = match answer.await {
            Ok(Ok((headers, body))) => {
                // A call that is refused at once has its status in front.
                let status = body.trailers().cloned().unwrap_or(headers);
                understood(&status, &body.to_bytes())
            }
            Ok(Err(error)) => Err(Unanswered::Unknown(error.to_string())),
            Err(_) => Err(Unanswered::Unknown(format!("no answer within {CALL_MAX:?}"))),
        };
        match &answer {
            Ok(_) => self.connection = Some(connection),
            Err(_) => self.move_on(),
        }
        answer
    }

    /// The connection, made anew if need be, to the first server that takes one.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, Unanswered> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let mut why = "there is no server".to_owned();
        for _ in 0..self.servers.len() {
            match timeout(CONNECT_MAX, connect(self.server())).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => why = format!("{}: {error}", self.server()),
                Err(_) => why = format!("{}: no connection within {CONNECT_MAX:?}", self.server()),
            }
            self.move_on();
        }
        Err(Unanswered::Refused(why))
    }

    fn move_on(&mut self) {
        self.connection = None;
        self.at = (self.at + 1) % self.servers.len().max(1);
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn connect(server: &str) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("requests of ours are small"));
    message.encode(&mut out).expect("there is room");
    out.freeze()
}

/// gRPC's codes that say that a request was wrong or not allowed, and so did nothing. All others may come after the proposal.
const REFUSALS: [u32; 7] = [3, 5, 7, 8, 9, 11, 16];

/// The message of an answer, if its status is a good one.
fn understood<A: Message + Default>(status: &HeaderMap, body: &[u8]) -> Result<A, Unanswered> {
    let text = |name: &'static str| status.get(name).and_then(|value| value.to_str().ok());
    let code: Option<u32> = text("grpc-status").and_then(|code| code.parse().ok());
    match code {
        Some(0) => {}
        Some(code) => {
            let why =
                format!("{} (code {code})", text("grpc-message").unwrap_or("no reason given"));
            let refused = REFUSALS.contains(&code);
            return Err(if refused { Unanswered::Refused(why) } else { Unanswered::Unknown(why) });
        }
        None => return Err(Unanswered::Unknown("the answer ended without a status".to_owned())),
    }
    let message = body.get(PREFIX_BYTES..).unwrap_or_default();
    A::decode(message).map_err(|error| Unanswered::Unknown(error.to_string()))
}

fn operation(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: &str, value: i64) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_string().into());
    pb::PutRequest { key, value, ..Default::default() }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// The number at the only key of a range; nothing if there is no such key.
fn value_in(range: &pb::RangeResponse) -> Option<i64> {
    std::str::from_utf8(&range.kvs.first()?.value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use quorate_etcd::messages::mvccpb::KeyValue;

    use super::*;

    fn status(code: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", code.parse().expect("a header"));
        headers.insert("grpc-message", "why".parse().expect("a header"));
        headers
    }

    #[test]
    fn an_answer_is_understood() {
        let kv = KeyValue { key: "x".into(), value: "12".into(), ..Default::default() };
        let header = Some(pb::ResponseHeader { revision: 7, ..Default::default() });
        let sent = pb::RangeResponse { header, kvs: vec![kv], ..Default::default() };
        let got: pb::RangeResponse = understood(&status("0"), &framed(&sent)).expect("it is good");
        assert_eq!((Answer::new(got.header, ()).revision, value_in(&got)), (7, Some(12)));
        assert_eq!(value_in(&pb::RangeResponse::default()), None, "no key, no value");
    }

    /// What may have been proposed is unknown; what was wrong from the start did nothing.
    #[test]
    fn refusals_and_unknown_outcomes_are_told_apart() {
        let told =
            |headers: &HeaderMap| understood::<pb::PutResponse>(headers, &[]).expect_err("no");
        assert_eq!(told(&status("3")), Unanswered::Refused("why (code 3)".to_owned()));
        assert_eq!(told(&status("14")), Unanswered::Unknown("why (code 14)".to_owned()));
        assert!(matches!(told(&HeaderMap::new()), Unanswered::Unknown(_)), "cut off");
    }
}
