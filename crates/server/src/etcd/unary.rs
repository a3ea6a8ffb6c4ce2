//! Calls with one reply, by their gRPC names: bytes in, bytes out, for gRPC and JSON alike.

use bytes::Bytes;
use prost::Message;
use quorate_etcd::grpc::{Status, decode};
use quorate_etcd::messages::health;
use quorate_etcd::methods::decode_request;
use quorate_etcd::server::{Context, Request};
use quorate_etcd::{ClientId, Code};
use tokio::sync::SemaphorePermit;

use super::grpc::Reply;
use super::listen::{Api, kib};
use super::locks;

impl Api {
    /// One call.
    pub(super) async fn unary(
        &self,
        method: &str,
        context: &Context,
        message: Bytes,
    ) -> Result<Reply, Status> {
        if locks::is_theirs(method) {
            let answer = Box::pin(locks::answer(self, method, context, message));
            return Ok(answer.await?.into());
        }
        let _place = self.place(message.len()).await;
        match decode_request(method, message.clone()) {
            Some(request) => self.call(context, request?).await,
            None => Box::pin(self.about_members(method, context, message)).await,
        }
    }

    /// A client id is opened (KV-4).
    pub(super) async fn open_client(
        &self,
        context: &Context,
        id: ClientId,
    ) -> Result<Reply, Status> {
        let _place = self.place(0).await;
        self.call(context, Request::OpenClient(id)).await
    }

    async fn call(&self, context: &Context, request: Request) -> Result<Reply, Status> {
        Ok(Reply::from(&*self.desk.call(context, request).await?))
    }

    /// Waits until there is room for a request of so many bytes.
    async fn place(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.room.acquire_many(kib(bytes)).await.ok()
    }

    /// Calls that are about this member and its cluster, not about keys.
    async fn about_members(
        &self,
        method: &str,
        context: &Context,
        message: Bytes,
    ) -> Result<Reply, Status> {
        let reply = match method {
            "/etcdserverpb.Maintenance/Status" => self.status().await?.encode_to_vec(),
            "/etcdserverpb.Maintenance/Defragment" => {
                self.defragment(context).await?.encode_to_vec()
            }
            "/etcdserverpb.Maintenance/MoveLeader" => {
                self.move_leader(context, decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberList" => {
                self.member_list(context, decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberAdd" => {
                self.member_add(context, decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberRemove" => {
                self.member_remove(context, decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberUpdate" => {
                self.member_update(context, decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberPromote" => {
                self.member_promote(context, decode(message)?).await?.encode_to_vec()
            }
            "/grpc.health.v1.Health/Check" => {
                let health::HealthCheckRequest { service } = decode(message)?;
                self.health(&service)?.encode_to_vec()
            }
            _ => return Err(unknown(method)),
        };
        Ok(reply.into())
    }
}

/// As gRPC servers word it.
pub(super) fn unknown(method: &str) -> Status {
    let (service, method) = method.trim_start_matches('/').split_once('/').unwrap_or(("", method));
    let is_ours = service.starts_with("etcdserverpb.");
    let text = if is_ours {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    Status::new(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-9: an unknown method is told apart from an unknown service, in gRPC's words.
    #[test]
    fn what_is_not_offered_is_named() {
        let text = |method| unknown(method).message.into_owned();
        let method = "unknown method Migrate for service etcdserverpb.KV";
        assert_eq!(text("/etcdserverpb.KV/Migrate"), method);
        assert_eq!(text("/other.Service/Call"), "unknown service other.Service");
    }
}
