//! etcd's key/value API by gRPC: as much of it as a client needs to be judged.
//!
//! One call at a time; whoever wants more at once takes more clients. A failure says whether the call may have taken effect.

use std::fmt;
use std::time::Duration;

use prost::Message;
use quorate_client::kv::{CallError, Channel, Metadata};
use quorate_etcd::Code;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd::messages::etcdserverpb::{request_op, response_op};
use tokio::time::timeout;

/// How long a call may take, where nobody says.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unanswered {
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
pub(crate) struct Answer<T> {
    pub(crate) result: T,
    pub(crate) revision: u64,
}

impl<T> Answer<T> {
    fn new(header: Option<pb::ResponseHeader>, result: T) -> Self {
        let revision = header.map_or(0, |header| header.revision);
        Self { result, revision: u64::try_from(revision).unwrap_or_default() }
    }
}

type Answered<T> = Result<Answer<T>, Unanswered>;

/// A client that stays with one server as long as that answers.
pub(crate) struct KvClient {
    servers: Vec<Channel>,
    at: usize,
    patience: Duration,
}

impl KvClient {
    /// A client that begins with the server of this number.
    pub(crate) fn new(servers: &[String], first: usize) -> Self {
        let servers: Vec<Channel> = servers.iter().map(|server| Channel::new(server)).collect();
        Self { at: first % servers.len().max(1), servers, patience: CALL_MAX }
    }

    /// The same; its calls may take no longer than this.
    pub(crate) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The server that it stays with.
    pub(crate) fn server(&self) -> &str {
        self.servers[self.at].address()
    }

    pub(crate) async fn put(&mut self, key: &str, value: i64) -> Answered<()> {
        let answer: pb::PutResponse = self.call("Put", &put(key, value)).await?;
        Ok(Answer::new(answer.header, ()))
    }

    /// What is there. A serializable read is answered by the server alone and may be old.
    pub(crate) async fn get(&mut self, key: &str, serializable: bool) -> Answered<Option<i64>> {
        let request = pb::RangeRequest { serializable, ..range(key) };
        let answer: pb::RangeResponse = self.call("Range", &request).await?;
        Ok(Answer::new(answer.header, value_in(&answer)))
    }

    /// The second value instead of the first, if that is there.
    pub(crate) async fn swap(&mut self, key: &str, from: Option<i64>, to: i64) -> Answered<bool> {
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
    pub(crate) async fn transact(
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
    pub(crate) async fn delete_all(&mut self, prefix: &str) -> Answered<()> {
        self.delete(prefix, quorate_etcd::prefix_end(prefix.as_bytes())).await
    }

    /// Deletes everything from the first key on, up to the second one and without it.
    pub(crate) async fn delete_range(&mut self, from: &str, to: &str) -> Answered<()> {
        self.delete(from, to.as_bytes().to_vec()).await
    }

    async fn delete(&mut self, key: &str, end: Vec<u8>) -> Answered<()> {
        let (key, range_end) = (key.to_owned().into(), end.into());
        let request = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
        let answer: pb::DeleteRangeResponse = self.call("DeleteRange", &request).await?;
        Ok(Answer::new(answer.header, ()))
    }

    /// Forgets what was before a revision.
    pub(crate) async fn compact(&mut self, revision: u64) -> Answered<()> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let request = pb::CompactionRequest { revision, ..Default::default() };
        let answer: pb::CompactionResponse = self.call("Compact", &request).await?;
        Ok(Answer::new(answer.header, ()))
    }

    /// Asks the first server that takes the call; another one only if nothing was sent.
    async fn call<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Unanswered> {
        let (method, message) = (format!("/etcdserverpb.KV/{method}"), request.encode_to_vec());
        let (metadata, mut why) = (Metadata::new(), "there is no server".to_owned());
        for _ in 0..self.servers.len() {
            let call = self.servers[self.at].unary(&method, &metadata, &message);
            let Ok(answer) = timeout(self.patience, call).await else {
                self.move_on();
                let why = format!("no answer within {:?}", self.patience);
                return Err(Unanswered::Unknown(why));
            };
            match answer {
                Ok(reply) => return understood(&reply.message),
                Err(CallError::NotSent(cause)) => why = cause,
                Err(error) => {
                    self.move_on();
                    return Err(failed(&error));
                }
            }
            self.move_on();
        }
        Err(Unanswered::Refused(why))
    }

    fn move_on(&mut self) {
        self.at = (self.at + 1) % self.servers.len().max(1);
    }
}

fn understood<A: Message + Default>(message: &[u8]) -> Result<A, Unanswered> {
    A::decode(message).map_err(|error| Unanswered::Unknown(error.to_string()))
}

/// gRPC's codes that say that a request was wrong or not allowed, and so did nothing. All others may come after the proposal.
const REFUSALS: [Code; 7] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unauthenticated,
];

/// What a failure says of what happened.
fn failed(error: &CallError) -> Unanswered {
    match error {
        CallError::Refused(status) if REFUSALS.contains(&status.code) => {
            Unanswered::Refused(error.to_string())
        }
        CallError::NotSent(cause) => Unanswered::Refused(cause.clone()),
        CallError::Refused(_) | CallError::Lost(_) => Unanswered::Unknown(error.to_string()),
    }
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
    use quorate_etcd::grpc::Status;
    use quorate_etcd::messages::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn an_answer_is_understood() {
        let kv = KeyValue { key: "x".into(), value: "12".into(), ..Default::default() };
        let header = Some(pb::ResponseHeader { revision: 7, ..Default::default() });
        let sent = pb::RangeResponse { header, kvs: vec![kv], ..Default::default() };
        let got: pb::RangeResponse = understood(&sent.encode_to_vec()).expect("it is good");
        assert_eq!((Answer::new(got.header, ()).revision, value_in(&got)), (7, Some(12)));
        assert_eq!(value_in(&pb::RangeResponse::default()), None, "no key, no value");
    }

    /// What may have been proposed is unknown; what was wrong from the start, or never left, did nothing.
    #[test]
    fn refusals_and_unknown_outcomes_are_told_apart() {
        let told = |code| failed(&CallError::Refused(Status::new(code, "why".to_owned())));
        assert!(matches!(told(Code::InvalidArgument), Unanswered::Refused(_)));
        assert!(matches!(told(Code::Unavailable), Unanswered::Unknown(_)));
        assert!(matches!(failed(&CallError::Lost(String::new())), Unanswered::Unknown(_)));
        assert!(matches!(failed(&CallError::NotSent(String::new())), Unanswered::Refused(_)));
    }
}
