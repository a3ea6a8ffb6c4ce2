//! Calls with one reply by their gRPC names: requests and replies as messages, for servers and clients alike.

use bytes::Bytes;
use prost::Message;

use crate::command::AuthChange;
use crate::grpc::{OPEN_CLIENT, Status, decode};
use crate::messages::etcdserverpb as pb;
use crate::server::{Request, Response};

macro_rules! calls {
    ($($method:literal $($request:ident)::+ => $response:ident;)*) => {
        /// The method that a request is.
        pub fn method(request: &Request) -> &'static str {
            match request {
                $(calls!(@pattern _message $($request)::+) => $method,)*
                Request::OpenClient(_) => OPEN_CLIENT,
                // What only a driver asks of its own service is no method.
                Request::RangePiece(..) | Request::RangeBytes(..) | Request::Admin => "",
            }
        }

        /// A request as a message.
        pub fn encode_request(request: &Request) -> Vec<u8> {
            match request {
                $(calls!(@pattern message $($request)::+) => message.encode_to_vec(),)*
                _ => Vec::new(),
            }
        }

        /// The request that a method and its message mean; `None` if the method is none of these.
        pub fn decode_request(method: &str, message: Bytes) -> Option<Result<Request, Status>> {
            match method {
                $($method => Some(decode(message).map(|message| calls!(@pattern message $($request)::+))),)*
                _ => None,
            }
        }

        /// The reply to a method.
        pub fn decode_response(method: &str, message: Bytes) -> Result<Response, Status> {
            match method {
                $($method => calls!(@response message $response),)*
                _ => calls!(@response message Done),
            }
        }
    };
    (@pattern $message:ident Auth::$change:ident) => { Request::AuthChange(AuthChange::$change($message)) };
    (@pattern $message:ident $request:ident) => { Request::$request($message) };
    // Replies that are nothing but a header are all encoded alike.
    (@response $message:ident Done) => {
        decode($message).map(|pb::CompactionResponse { header }| Response::Done(header.unwrap_or_default()))
    };
    (@response $message:ident $response:ident) => { decode($message).map(Response::$response) };
}

calls! {
    "/etcdserverpb.KV/Range" Range => Range;
    "/etcdserverpb.KV/Put" Put => Put;
    "/etcdserverpb.KV/DeleteRange" DeleteRange => DeleteRange;
    "/etcdserverpb.KV/Txn" Txn => Txn;
    "/etcdserverpb.KV/Compact" Compact => Done;
    "/etcdserverpb.Lease/LeaseGrant" LeaseGrant => LeaseGrant;
    "/etcdserverpb.Lease/LeaseRevoke" LeaseRevoke => Done;
    "/etcdserverpb.Lease/LeaseTimeToLive" LeaseTimeToLive => LeaseTimeToLive;
    "/etcdserverpb.Lease/LeaseLeases" LeaseLeases => LeaseLeases;
    "/etcdserverpb.Maintenance/Alarm" Alarm => Alarm;
    "/etcdserverpb.Maintenance/Hash" Hash => Hash;
    "/etcdserverpb.Maintenance/HashKV" HashKv => HashKv;
    "/etcdserverpb.Auth/AuthEnable" Auth::Enable => Done;
    "/etcdserverpb.Auth/AuthDisable" Auth::Disable => Done;
    "/etcdserverpb.Auth/AuthStatus" AuthStatus => AuthStatus;
    "/etcdserverpb.Auth/Authenticate" Authenticate => Authenticate;
    "/etcdserverpb.Auth/UserAdd" Auth::UserAdd => Done;
    "/etcdserverpb.Auth/UserGet" UserGet => UserGet;
    "/etcdserverpb.Auth/UserList" UserList => UserList;
    "/etcdserverpb.Auth/UserDelete" Auth::UserDelete => Done;
    "/etcdserverpb.Auth/UserChangePassword" Auth::UserChangePassword => Done;
    "/etcdserverpb.Auth/UserGrantRole" Auth::UserGrantRole => Done;
    "/etcdserverpb.Auth/UserRevokeRole" Auth::UserRevokeRole => Done;
    "/etcdserverpb.Auth/RoleAdd" Auth::RoleAdd => Done;
    "/etcdserverpb.Auth/RoleGet" RoleGet => RoleGet;
    "/etcdserverpb.Auth/RoleList" RoleList => RoleList;
    "/etcdserverpb.Auth/RoleDelete" Auth::RoleDelete => Done;
    "/etcdserverpb.Auth/RoleGrantPermission" Auth::RoleGrantPermission => Done;
    "/etcdserverpb.Auth/RoleRevokePermission" Auth::RoleRevokePermission => Done;
}

/// A reply as a message.
pub fn encode_response(response: &Response) -> Vec<u8> {
    match response {
        Response::Range(reply) | Response::RangePiece(reply, _) => reply.encode_to_vec(),
        Response::RangeBytes(..) => Vec::new(),
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

    /// KV-8: what a client encodes, a server reads, and back.
    #[test]
    fn requests_and_replies_come_back_as_they_went() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let user = pb::AuthUserAddRequest { name: "bob".into(), ..Default::default() };
        for request in [Request::Put(put), Request::AuthChange(AuthChange::UserAdd(user))] {
            let bytes = encode_request(&request).into();
            assert_eq!(decode_request(method(&request), bytes), Some(Ok(request)));
        }
        let header = pb::ResponseHeader { revision: 7, ..Default::default() };
        let grant = pb::LeaseGrantResponse { header: Some(header), id: 5, ..Default::default() };
        for (method, response) in [
            ("/etcdserverpb.KV/Compact", Response::Done(header)),
            ("/etcdserverpb.Lease/LeaseGrant", Response::LeaseGrant(grant)),
        ] {
            let bytes = encode_response(&response).into();
            assert_eq!(decode_response(method, bytes), Ok(response));
        }
        assert_eq!(decode_request("/etcdserverpb.KV/Nothing", Bytes::new()), None);
    }
}
