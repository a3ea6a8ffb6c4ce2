//! Who writes keys while servers die: one call at a time, to another server when one does not answer in time.
//!
//! Every key is written once, so an attempt of unknown outcome is simply followed by the next key.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quorate_etcd::messages::etcdserverpb as pb;
use tokio::time::timeout;

use super::channel::Channel;

/// How long a call may take; less than any election, so that a server without a leader is left soon.
const CALL_MAX: Duration = Duration::from_millis(250);
const CONNECT_MAX: Duration = Duration::from_millis(250);
/// Reading everything back may take longer.
const READ_MAX: Duration = Duration::from_secs(60);

/// A writer.
pub(super) struct KvWriter {
    servers: Vec<String>,
    at: usize,
    channel: Option<Channel>,
    prefix: String,
}

impl KvWriter {
    pub(super) fn new(servers: Vec<String>) -> Self {
        let prefix = format!("quorate-failover-{}/", std::process::id());
        Self { servers, at: 0, channel: None, prefix }
    }

    /// Puts the key of this number. After an error it may be there or not.
    pub(super) async fn put(&mut self, number: u64) -> io::Result<()> {
        let key = format!("{}{number}", self.prefix).into();
        let put = pb::PutRequest { key, value: "x".into(), ..Default::default() };
        self.call("/etcdserverpb.KV/Put", &put, CALL_MAX).await.map(drop)
    }

    /// The numbers of all keys that are there.
    pub(super) async fn written(&mut self) -> io::Result<BTreeSet<u64>> {
        let request = pb::RangeRequest {
            key: self.prefix.clone().into(),
            range_end: quorate_etcd::prefix_end(self.prefix.as_bytes()).into(),
            keys_only: true,
            ..Default::default()
        };
        let answer = self.insist("/etcdserverpb.KV/Range", &request).await?;
        let answer = pb::RangeResponse::decode(answer).map_err(io::Error::other)?;
        let number =
            |key: &[u8]| std::str::from_utf8(key.get(self.prefix.len()..)?).ok()?.parse().ok();
        Ok(answer.kvs.iter().filter_map(|kv| number(&kv.key)).collect())
    }

    /// Deletes what was written.
    pub(super) async fn remove(&mut self) -> io::Result<()> {
        let request = pb::DeleteRangeRequest {
            key: self.prefix.clone().into(),
            range_end: quorate_etcd::prefix_end(self.prefix.as_bytes()).into(),
            ..Default::default()
        };
        self.insist("/etcdserverpb.KV/DeleteRange", &request).await.map(drop)
    }

    /// Asks one server after another, each twice.
    async fn insist(&mut self, method: &'static str, request: &impl Message) -> io::Result<Bytes> {
        let mut answer = self.call(method, request, READ_MAX).await;
        for _ in 1..2 * self.servers.len() {
            if answer.is_ok() {
                break;
            }
            answer = self.call(method, request, READ_MAX).await;
        }
        answer
    }

    async fn call(
        &mut self,
        method: &'static str,
        request: &impl Message,
        patience: Duration,
    ) -> io::Result<Bytes> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let attempt = async {
            let mut channel = match self.channel.take() {
                Some(channel) => channel,
                None => {
                    let connect = Channel::connect(&self.servers[self.at]);
                    timeout(CONNECT_MAX, connect).await.map_err(late).flatten()?
                }
            };
            let answer = channel.call(method, request);
            let answer = timeout(patience, answer).await.map_err(late).flatten()?;
            Ok((answer, channel))
        };
        match attempt.await {
            Ok((answer, channel)) => {
                self.channel = Some(channel);
                Ok(answer)
            }
            Err(error) => {
                self.at = (self.at + 1) % self.servers.len();
                Err(error)
            }
        }
    }
}
