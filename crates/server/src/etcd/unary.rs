//! Calls with one reply, by their gRPC names: bytes in, bytes out, for gRPC and JSON alike.

use bytes::Bytes;
use prost::Message;
use quorate_etcd::command::AuthChange;
use quorate_etcd::grpc::{Status, decode};
use quorate_etcd::messages::{etcdserverpb as pb, health};
use quorate_etcd::server::{Context, Request, Response};
use quorate_etcd::{ClientId, Code};
use tokio::sync::SemaphorePermit;

use super::grpc::Reply;
use super::listen::Api;

macro_rules! requests {
    ($($method:literal => $make:expr;)*) => {
        /// The service's request that a method and its message mean.
        fn request(method: &str, message: &Bytes) -> Option<Result<Request, Status>> {
            match method {
                $($method => Some(decode(message.clone()).map($make)),)*
                _ => None,
            }
        }
    };
}

requests! {
    "/etcdserverpb.KV/Range" => Request::Range;
    "/etcdserverpb.KV/Put" => Request::Put;
    "/etcdserverpb.KV/DeleteRange" => Request::DeleteRange;
    "/etcdserverpb.KV/Txn" => Request::Txn;
    "/etcdserverpb.KV/Compact" => Request::Compact;
    "/etcdserverpb.Lease/LeaseGrant" => Request::LeaseGrant;
    "/etcdserverpb.Lease/LeaseRevoke" => Request::LeaseRevoke;
    "/etcdserverpb.Lease/LeaseTimeToLive" => Request::LeaseTimeToLive;
    "/etcdserverpb.Lease/LeaseLeases" => Request::LeaseLeases;
    "/etcdserverpb.Maintenance/Alarm" => Request::Alarm;
    "/etcdserverpb.Maintenance/Hash" => Request::Hash;
    "/etcdserverpb.Maintenance/HashKV" => Request::HashKv;
    "/etcdserverpb.Auth/AuthEnable" => |r| Request::AuthChange(AuthChange::Enable(r));
    "/etcdserverpb.Auth/AuthDisable" => |r| Request::AuthChange(AuthChange::Disable(r));
    "/etcdserverpb.Auth/AuthStatus" => Request::AuthStatus;
    "/etcdserverpb.Auth/Authenticate" => Request::Authenticate;
    "/etcdserverpb.Auth/UserAdd" => |r| Request::AuthChange(AuthChange::UserAdd(r));
    "/etcdserverpb.Auth/UserGet" => Request::UserGet;
    "/etcdserverpb.Auth/UserList" => Request::UserList;
    "/etcdserverpb.Auth/UserDelete" => |r| Request::AuthChange(AuthChange::UserDelete(r));
    "/etcdserverpb.Auth/UserChangePassword" => |r| Request::AuthChange(AuthChange::UserChangePassword(r));
    "/etcdserverpb.Auth/UserGrantRole" => |r| Request::AuthChange(AuthChange::UserGrantRole(r));
    "/etcdserverpb.Auth/UserRevokeRole" => |r| Request::AuthChange(AuthChange::UserRevokeRole(r));
    "/etcdserverpb.Auth/RoleAdd" => |r| Request::AuthChange(AuthChange::RoleAdd(r));
    "/etcdserverpb.Auth/RoleGet" => Request::RoleGet;
    "/etcdserverpb.Auth/RoleList" => Request::RoleList;
    "/etcdserverpb.Auth/RoleDelete" => |r| Request::AuthChange(AuthChange::RoleDelete(r));
    "/etcdserverpb.Auth/RoleGrantPermission" => |r| Request::AuthChange(AuthChange::RoleGrantPermission(r));
    "/etcdserverpb.Auth/RoleRevokePermission" => |r| Request::AuthChange(AuthChange::RoleRevokePermission(r));
}

impl Api {
    /// One call.
    pub(super) async fn unary(
        &self,
        method: &str,
        context: &Context,
        message: Bytes,
    ) -> Result<Reply, Status> {
        let _place = self.place(message.len()).await;
        match request(method, &message) {
            Some(request) => self.call(context, request?).await,
            None => self.about_members(method, context, message).await,
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
        let response = self.desk.call(context, request).await?;
        let done_before = matches!(*response, Response::DoneBefore(_));
        Ok(Reply { done_before, ..encode(&response).into() })
    }

    /// Waits until there is room for a request of so many bytes.
    async fn place(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1);
        self.room.acquire_many(kib).await.ok()
    }

    /// Calls that are about this member and its cluster, not about keys.
    async fn about_members(
        &self,
        method: &str,
        context: &Context,
        message: Bytes,
    ) -> Result<Reply, Status> {
        let reply = match method {
            "/etcdserverpb.Maintenance/Status" => self.status(context).await?.encode_to_vec(),
            "/etcdserverpb.Maintenance/Defragment" => self.defragment().await?.encode_to_vec(),
            "/etcdserverpb.Maintenance/MoveLeader" => {
                self.move_leader(decode(message)?).await?.encode_to_vec()
            }
            "/etcdserverpb.Cluster/MemberList" => {
                self.member_list(context, decode(message)?).await?.encode_to_vec()
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

/// A reply as bytes. Those that are nothing but a header are all encoded alike.
fn encode(response: &Response) -> Vec<u8> {
    match response {
        Response::Range(reply) => reply.encode_to_vec(),
        Response::Put(reply) => reply.encode_to_vec(),
        Response::DeleteRange(reply) => reply.encode_to_vec(),
        Response::Txn(reply) => reply.encode_to_vec(),
        Response::LeaseGrant(reply) => reply.encode_to_vec(),
        Response::LeaseTimeToLive(reply) => reply.encode_to_vec(),
        Response::LeaseLeases(reply) => reply.encode_to_vec(),
        Response::Alarm(reply) => reply.encode_to_vec(),
        Response::Hash(reply) => reply.encode_to_vec(),
        Response::HashKv(reply) => reply.encode_to_vec(),
        Response::AuthStatus(reply) => reply.encode_to_vec(),
        Response::Authenticate(reply) => reply.encode_to_vec(),
        Response::UserGet(reply) => reply.encode_to_vec(),
        Response::UserList(reply) => reply.encode_to_vec(),
        Response::RoleGet(reply) => reply.encode_to_vec(),
        Response::RoleList(reply) => reply.encode_to_vec(),
        Response::DoneBefore(header) | Response::Done(header) => {
            pb::CompactionResponse { header: Some(*header) }.encode_to_vec()
        }
    }
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
