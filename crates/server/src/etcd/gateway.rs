//! The same calls as JSON over HTTP, for those who have no gRPC: protobuf's own JSON, with bytes in base64 and 64-bit numbers
//! as strings. A stream's reply is one line of JSON for each message.
//!
//! ```text
//! POST /v3/kv/put {"key":"Zm9v","value":"YmFy"}   is   /etcdserverpb.KV/Put
//! ```

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use quorate_etcd::Code;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::DESCRIPTORS;
use serde_json::json;

use super::body::{Body, Messages, Skin, lines};
use super::grpc::{Requests, context};
use super::listen::Api;
use super::streams;

/// Descriptions of all messages; made when the first client needs them.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("compiled from our own files"));

/// Paths behind the API's version, and the methods that they are.
const ROUTES: [(&str, &str); 50] = [
    ("kv/range", "/etcdserverpb.KV/Range"),
    ("kv/put", "/etcdserverpb.KV/Put"),
    ("kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "/etcdserverpb.KV/Txn"),
    ("kv/compaction", "/etcdserverpb.KV/Compact"),
    ("watch", "/etcdserverpb.Watch/Watch"),
    ("lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "/etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "/v3lockpb.Lock/Lock"),
    ("lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("election/campaign", "/v3electionpb.Election/Campaign"),
    ("election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("election/leader", "/v3electionpb.Election/Leader"),
    ("election/observe", "/v3electionpb.Election/Observe"),
    ("election/resign", "/v3electionpb.Election/Resign"),
];

/// The method that a path is, if it is one.
pub(super) fn method(path: &str) -> Option<&'static str> {
    let versions = ["/v3/", "/v3beta/", "/v3alpha/"];
    let rest = versions.iter().find_map(|version| path.strip_prefix(version))?;
    ROUTES.iter().find(|(path, _)| *path == rest).map(|(_, method)| *method)
}

/// Answers one call.
pub(super) async fn answer(
    api: Rc<Api>,
    method: &'static str,
    request: Request<Bytes>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    match call(api, method, &head.headers, body).await {
        Ok(response) => response,
        Err(status) => refused(&status),
    }
}

/// A refusal as the gateway words it.
pub(super) fn refused(status: &Status) -> Response<Body> {
    let code = status.code as u8;
    let text = json!({ "error": status.message, "code": code, "message": status.message });
    reply(http_code(status.code), Body::text(text.to_string()))
}

async fn call(
    api: Rc<Api>,
    method: &'static str,
    headers: &HeaderMap,
    text: Bytes,
) -> Result<Response<Body>, Status> {
    let metadata = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let context = context(metadata)?;
    let described = describe(method)?;
    let mut messages = parse(&text, &described.input())?;
    if let Some(kind) = streams::Kind::of(method) {
        let requests = Requests::Ready(messages);
        let (out, messages) = lines();
        tokio::task::spawn_local(streams::serve(api, kind, context, requests, out));
        return Ok(streamed(messages, described.output()));
    }
    let message = messages.pop_front().unwrap_or_default();
    let done = api.unary(method, &context, message).await?;
    let text = to_json(&described.output(), done.message)?;
    Ok(reply(StatusCode::OK, Body::text(text)))
}

fn reply(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn streamed(messages: Messages, message: MessageDescriptor) -> Response<Body> {
    reply(StatusCode::OK, Body::Stream { messages, skin: Box::new(Lines(message)) })
}

fn describe(method: &str) -> Result<MethodDescriptor, Status> {
    let (service, name) = method.trim_start_matches('/').split_once('/').unwrap_or_default();
    let service = POOL.get_service_by_name(service);
    let found = service.and_then(|service| service.methods().find(|method| method.name() == name));
    found.ok_or_else(|| super::unary::unknown(method))
}

/// The messages of a body: values of JSON one after the other. None at all is an empty message.
fn parse(text: &[u8], message: &MessageDescriptor) -> Result<VecDeque<Bytes>, Status> {
    let mut values = serde_json::Deserializer::from_slice(text);
    let mut messages = VecDeque::new();
    loop {
        match DynamicMessage::deserialize(message.clone(), &mut values) {
            Ok(message) => messages.push_back(message.encode_to_vec().into()),
            Err(error) if error.is_eof() && text.trim_ascii().is_empty() => {
                messages.push_back(Bytes::new());
                return Ok(messages);
            }
            Err(error) if error.is_eof() && !messages.is_empty() => return Ok(messages),
            Err(error) => return Err(Status::new(Code::InvalidArgument, error.to_string())),
        }
        if values.end().is_ok() {
            return Ok(messages);
        }
    }
}

/// Fields have their own names, and those that say nothing are left out.
fn to_json(message: &MessageDescriptor, bytes: Bytes) -> Result<String, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::new(Code::Internal, error.to_string());
    let message =
        DynamicMessage::decode(message.clone(), bytes).map_err(|error| internal(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut text = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut text, &options).map_err(|error| internal(&error))?;
    String::from_utf8(text.into_inner()).map_err(|error| internal(&error))
}

/// A stream as lines.
struct Lines(MessageDescriptor);

impl Skin for Lines {
    fn message(&self, message: Bytes) -> Bytes {
        match to_json(&self.0, message) {
            Ok(result) => format!("{{\"result\":{result}}}\n").into(),
            Err(status) => error(&status),
        }
    }

    fn end(&self, status: Option<&Status>) -> Option<Bytes> {
        status.map(error)
    }
}

fn error(status: &Status) -> Bytes {
    let code = http_code(status.code);
    let line = json!({ "error": {
        "grpc_code": status.code as u8,
        "http_code": code.as_u16(),
        "message": status.message,
        "http_status": code.canonical_reason(),
    }});
    (line.to_string() + "\n").into()
}

/// The code that gRPC's own mapping gives a status.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Canceled | Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-8: every route leads to a method whose messages are known.
    #[test]
    fn every_route_is_a_method_of_the_api() {
        for (path, name) in ROUTES {
            assert_eq!(method(&format!("/v3/{path}")), Some(name));
            assert!(describe(name).is_ok(), "{name}");
        }
        assert_eq!(method("/v3/kv/nothing"), None);
        assert_eq!(method("/v2/keys"), None);
    }

    /// KV-8: bytes are base64, 64-bit numbers strings, enumerations names, and what says nothing is left out.
    #[test]
    fn a_message_is_written_as_protobufs_json() {
        let range = describe("/etcdserverpb.KV/Range").unwrap();
        let text = r#"{"key":"Zm9v","limit":"3","sort_order":"DESCEND","serializable":true}"#;
        let messages = parse(text.as_bytes(), &range.input()).unwrap();
        let written = to_json(&range.input(), messages[0].clone()).unwrap();
        assert_eq!(written, text);
    }

    #[test]
    fn a_body_may_hold_several_messages_or_none() {
        let watch = describe("/etcdserverpb.Watch/Watch").unwrap().input();
        let several = br#"{"create_request":{"key":"YQ=="}} {"progress_request":{}}"#;
        assert_eq!(parse(several, &watch).unwrap().len(), 2);
        assert_eq!(parse(b" ", &watch).unwrap(), [Bytes::new()]);
        for malformed in [&b"{"[..], b"{\"nothing\":1}", b"[]", b"{} x"] {
            assert!(parse(malformed, &watch).is_err(), "{malformed:?}");
        }
    }
}
