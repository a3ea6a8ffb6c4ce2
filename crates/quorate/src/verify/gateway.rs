//! etcd's key/value API through its JSON gateway (`/v3/kv/...`): as much of it as a client needs to be judged.
//!
//! One connection and one call at a time; whoever wants more at once takes more clients. A failure says whether the call may have
//! taken effect. Keys and values are base64 there, 64-bit numbers are texts.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take, and a call.
const CONNECT_MAX: Duration = Duration::from_secs(1);
const CALL_MAX: Duration = Duration::from_secs(5);

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

type Answered<T> = Result<Answer<T>, Unanswered>;

/// A client that stays with one server as long as that answers.
pub(super) struct Gateway {
    servers: Vec<String>,
    at: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Gateway {
    /// A client that begins with the server of this number.
    pub(super) fn new(servers: &[String], first: usize) -> Self {
        Self { servers: servers.to_vec(), at: first % servers.len().max(1), connection: None }
    }

    /// The server that it stays with.
    pub(super) fn server(&self) -> &str {
        &self.servers[self.at]
    }

    pub(super) async fn put(&mut self, key: &str, value: i64) -> Answered<()> {
        let answer = self
            .call("put", &json!({"key": coded(key), "value": coded(&value.to_string())}))
            .await?;
        Ok(Answer { result: (), revision: revision(&answer) })
    }

    /// What is there. A serializable read is answered by the server alone and may be old.
    pub(super) async fn get(&mut self, key: &str, serializable: bool) -> Answered<Option<i64>> {
        let answer =
            self.call("range", &json!({"key": coded(key), "serializable": serializable})).await?;
        Ok(Answer { result: value_in(&answer), revision: revision(&answer) })
    }

    /// The second value instead of the first, if that is there.
    pub(super) async fn swap(&mut self, key: &str, from: Option<i64>, to: i64) -> Answered<bool> {
        let compare = match from {
            Some(from) => {
                json!({"key": coded(key), "result": "EQUAL", "target": "VALUE", "value": coded(&from.to_string())})
            }
            None => {
                json!({"key": coded(key), "result": "EQUAL", "target": "CREATE", "create_revision": "0"})
            }
        };
        let answer =
            self.call("txn", &json!({"compare": [compare], "success": [put_op(key, to)]})).await?;
        let swapped = answer.get("succeeded").and_then(Value::as_bool).unwrap_or(false);
        Ok(Answer { result: swapped, revision: revision(&answer) })
    }

    /// Reads, and then writes, at once. Gives what the reads saw.
    pub(super) async fn transact(
        &mut self,
        reads: &[String],
        writes: &[(String, i64)],
    ) -> Answered<Vec<Option<i64>>> {
        let reading = reads.iter().map(|key| json!({"request_range": {"key": coded(key)}}));
        let writing = writes.iter().map(|(key, value)| put_op(key, *value));
        let operations: Vec<Value> = reading.chain(writing).collect();
        let answer = self.call("txn", &json!({"success": operations})).await?;
        let seen = answer.get("responses").and_then(Value::as_array);
        let seen = seen
            .into_iter()
            .flatten()
            .filter_map(|one| one.get("response_range"))
            .map(value_in)
            .collect();
        Ok(Answer { result: seen, revision: revision(&answer) })
    }

    /// Deletes everything that begins like this.
    pub(super) async fn delete_all(&mut self, prefix: &str) -> Answered<()> {
        // The first key behind all of these: no text of ours has this byte.
        let mut end = prefix.as_bytes().to_vec();
        end.push(0xff);
        let body = json!({"key": coded(prefix), "range_end": BASE64_STANDARD.encode(end)});
        let answer = self.call("deleterange", &body).await?;
        Ok(Answer { result: (), revision: revision(&answer) })
    }

    async fn call(&mut self, what: &str, body: &Value) -> Result<Value, Unanswered> {
        let mut connection = self.connected().await?;
        let request = Request::post(format!("/v3/kv/{what}"))
            .header("host", self.server())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Unanswered::Refused(error.to_string()))?;
        let answer = timeout(CALL_MAX, async {
            let response = connection.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        });
        let lost = |why: String| Unanswered::Unknown(why);
        match answer.await {
            Ok(Ok((status, body))) => {
                let answer = serde_json::from_slice(&body)
                    .map_err(|error| lost(format!("{status}: {error}")));
                if status.is_success() {
                    self.connection = Some(connection);
                    return answer;
                }
                self.move_on();
                Err(answer.map_or_else(|error| error, |answer| refusal(&answer)))
            }
            Ok(Err(error)) => {
                self.move_on();
                Err(lost(error.to_string()))
            }
            Err(_) => {
                self.move_on();
                Err(lost(format!("no answer within {CALL_MAX:?}")))
            }
        }
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

async fn connect(
    server: &str,
) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// gRPC's codes that say that a request was wrong or not allowed, and so did nothing. All others may come after the proposal.
const REFUSALS: [u64; 7] = [3, 5, 7, 8, 9, 11, 16];

fn refusal(answer: &Value) -> Unanswered {
    let code = answer.get("code").and_then(Value::as_u64).unwrap_or_default();
    let why = answer
        .get("message")
        .or(answer.get("error"))
        .and_then(Value::as_str)
        .unwrap_or("no reason given");
    if REFUSALS.contains(&code) {
        Unanswered::Refused(why.to_owned())
    } else {
        Unanswered::Unknown(why.to_owned())
    }
}

fn coded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn put_op(key: &str, value: i64) -> Value {
    json!({"request_put": {"key": coded(key), "value": coded(&value.to_string())}})
}

fn revision(answer: &Value) -> u64 {
    let text = answer.pointer("/header/revision").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The number at the only key of a range; nothing if there is no such key.
fn value_in(range: &Value) -> Option<i64> {
    let coded = range.pointer("/kvs/0/value")?.as_str()?;
    let bytes = BASE64_STANDARD.decode(coded).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_gateway_are_understood() {
        let range = json!({"header": {"revision": "7"}, "kvs": [{"key": "eA==", "value": "MTI="}], "count": "1"});
        assert_eq!((revision(&range), value_in(&range)), (7, Some(12)));
        assert_eq!(value_in(&json!({"header": {"revision": "7"}})), None, "no key, no value");
    }

    /// What may have been proposed is unknown; what was wrong from the start did nothing.
    #[test]
    fn refusals_and_unknown_outcomes_are_told_apart() {
        let told = |code| refusal(&json!({"code": code, "message": "why"}));
        assert_eq!(told(3), Unanswered::Refused("why".to_owned()), "invalid argument");
        assert_eq!(
            told(14),
            Unanswered::Unknown("why".to_owned()),
            "timed out, or the leader changed"
        );
        assert_eq!(refusal(&json!({})), Unanswered::Unknown("no reason given".to_owned()));
    }
}
