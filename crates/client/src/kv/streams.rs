//! Watches and keep-alives: streams on one server, which end with its connection. Whoever goes on elsewhere begins after the
//! last revision that was received.

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use super::channel::Responses;
use super::{Kv, KvError, pb};

/// A stream of watches.
pub struct Watching(Received<pb::WatchResponse>);

/// A stream of replies, and the way to ask for more.
pub struct Received<M> {
    requests: mpsc::Sender<Bytes>,
    responses: Responses,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M: Message + Default> Received<M> {
    /// The next reply; `None` when the stream has ended in order. May be given up at any time.
    pub async fn next(&mut self) -> Option<Result<M, KvError>> {
        let message = self.responses.next().await?;
        Some(
            message
                .map_err(KvError::from)
                .and_then(|message| quorate_etcd::grpc::decode(message).map_err(KvError::Failed)),
        )
    }

    /// Asks for more.
    pub async fn ask(&self, request: &impl Message) -> Result<(), KvError> {
        let sent = self.requests.send(request.encode_to_vec().into()).await;
        sent.map_err(|_| KvError::Unreachable("the stream has ended".to_string()))
    }
}

impl Watching {
    /// What happened next, or that a watch has ended.
    pub async fn next(&mut self) -> Option<Result<pb::WatchResponse, KvError>> {
        self.0.next().await
    }
}

impl Kv {
    /// Watches a range of keys.
    pub async fn watch(&self, create: pb::WatchCreateRequest) -> Result<Watching, KvError> {
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        let request = pb::WatchRequest { request_union: Some(create) };
        self.begin("/etcdserverpb.Watch/Watch", &request).await.map(Watching)
    }

    /// Keeps a lease alive, once now and then whenever it is asked.
    pub async fn keep_alive(
        &self,
        id: i64,
    ) -> Result<Received<pb::LeaseKeepAliveResponse>, KvError> {
        let request = pb::LeaseKeepAliveRequest { id };
        self.begin("/etcdserverpb.Lease/LeaseKeepAlive", &request).await
    }

    /// Any stream of the API, by its gRPC name, with its first request.
    pub async fn begin<M>(
        &self,
        method: &str,
        first: &impl Message,
    ) -> Result<Received<M>, KvError> {
        let first = Bytes::from(first.encode_to_vec());
        let (requests, responses) = self.servers.stream(method, &first).await?;
        Ok(Received { requests, responses, message: std::marker::PhantomData })
    }
}
