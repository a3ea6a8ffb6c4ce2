//! What probes and people ask by plain HTTP; `gateway` has the calls.

use std::rc::Rc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use quorate_etcd::Refusal;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{Context, Request as Call};

use super::ETCD_VERSION;
use super::about::probe;
use super::body::Body;
use super::gateway;
use super::listen::Api;
use crate::admin;

/// The body of a request, as it comes.
pub(super) struct Whole {
    body: Vec<u8>,
    /// Base64 is a third longer than what it says, and names come on top.
    bytes_max: usize,
}

impl Whole {
    pub(super) fn new(api: &Api) -> Self {
        Self { body: Vec::new(), bytes_max: 2 * api.about.request_bytes_max }
    }

    /// More of it; an error, if that is too much.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Status> {
        self.body.extend_from_slice(data);
        if self.body.len() <= self.bytes_max {
            return Ok(());
        }
        Err(Refusal::RequestTooLarge.into())
    }
}

impl From<Whole> for Bytes {
    fn from(whole: Whole) -> Self {
        whole.body.into()
    }
}

/// What cannot be read as a request.
pub(super) fn bad_request(error: &dyn std::fmt::Display) -> Response<Body> {
    plain(StatusCode::BAD_REQUEST, format!("{error}\n"))
}

/// Answers one request that is not gRPC.
pub(super) async fn answer(api: Rc<Api>, request: Request<Bytes>) -> Response<Body> {
    if let Some(cause) = admin::other_site(request.headers(), &api.about.names) {
        return plain(StatusCode::FORBIDDEN, cause);
    }
    if let Some(method) = gateway::method(request.uri().path()) {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        return gateway::answer(api, method, request).await;
    }
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => health(&api, query).await,
        (&Method::GET, "/version") => version(),
        (&Method::GET, "/livez") => probed(&api, query, true).await,
        (&Method::GET, "/readyz") => probed(&api, query, false).await,
        (&Method::GET, "/metrics") => metrics(&api).await,
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

pub(super) fn plain(code: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json(code: StatusCode, text: String) -> Response<Body> {
    let mut response = plain(code, text);
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn version() -> Response<Body> {
    let text = serde_json::json!({
        "etcdserver": ETCD_VERSION, "etcdcluster": "3.6.0", "storage": "3.6.0",
    });
    json(StatusCode::OK, text.to_string())
}

/// Healthy: no alarm, a leader, and a read that succeeds.
async fn health(api: &Api, query: &str) -> Response<Body> {
    let reason = match unhealthy(api, query).await {
        None => return plain(StatusCode::OK, "{\"health\":\"true\",\"reason\":\"\"}"),
        Some(reason) => reason,
    };
    let text = serde_json::json!({ "health": "false", "reason": reason });
    plain(StatusCode::SERVICE_UNAVAILABLE, text.to_string())
}

async fn unhealthy(api: &Api, query: &str) -> Option<String> {
    let has = |name: &str, value: &str| {
        query.split('&').any(|pair| pair.split_once('=') == Some((name, value)))
    };
    let Ok((status, group)) = api.node_status().await else { return Some("STOPPING".to_string()) };
    for (_, alarm) in &status.kv.alarms {
        let kind = pb::AlarmType::try_from(*alarm).unwrap_or(pb::AlarmType::None);
        if !has("exclude", kind.as_str_name()) {
            return Some(format!("ALARM {}", kind.as_str_name()));
        }
    }
    let serializable = has("serializable", "true");
    if group.leader.is_none() && !serializable {
        return Some("RAFT NO LEADER".to_string());
    }
    read_error(api, serializable).await
}

/// Why a key cannot be read; users are not asked who they are.
async fn read_error(api: &Api, serializable: bool) -> Option<String> {
    let request = Call::Range(pb::RangeRequest { serializable, ..probe() });
    match api.desk.call(&Context::default(), request).await {
        Ok(_) => None,
        Err(refusal) if refusal.code() == quorate_etcd::Code::Unavailable => {
            Some(format!("RANGE ERROR:{refusal}"))
        }
        // A user would be told more.
        Err(_) => None,
    }
}

/// `/livez`: this server answers; `/readyz`: it could answer a client now.
async fn probed(api: &Api, query: &str, live: bool) -> Response<Body> {
    let mut checks = vec![("serializable_read", read_error(api, true).await)];
    if !live {
        checks.push(("linearizable_read", read_error(api, false).await));
        checks.push(("data_corruption", corruption(api).await));
    }
    let failed = checks.iter().any(|(_, error)| error.is_some());
    let line = |(name, error): &(&str, Option<String>)| match error {
        None => format!("[+]{name} ok\n"),
        Some(error) => format!("[-]{name} failed: {error}\n"),
    };
    let lines: String = checks.iter().map(line).collect();
    match (failed, query.contains("verbose")) {
        (true, _) => plain(StatusCode::SERVICE_UNAVAILABLE, lines),
        (false, true) => plain(StatusCode::OK, lines + "ok\n"),
        (false, false) => plain(StatusCode::OK, "ok\n"),
    }
}

async fn corruption(api: &Api) -> Option<String> {
    let (status, _) = api.node_status().await.ok()?;
    let corrupt = pb::AlarmType::Corrupt as i32;
    let raised = status.kv.alarms.iter().any(|(_, alarm)| *alarm == corrupt);
    raised.then(|| "alarm activated: CORRUPT".to_string())
}

/// Names that etcd's dashboards and alerts use.
async fn metrics(api: &Api) -> Response<Body> {
    let Ok((status, group)) = api.node_status().await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    };
    let numbers: [(&str, &str, u64); 12] = [
        ("etcd_server_has_leader", "gauge", u64::from(group.leader.is_some())),
        ("etcd_server_is_leader", "gauge", u64::from(group.role == "leader")),
        ("etcd_server_is_learner", "gauge", u64::from(group.role == "learner")),
        ("etcd_server_proposals_committed_total", "gauge", group.commit),
        ("etcd_server_proposals_applied_total", "gauge", group.applied),
        ("etcd_server_quota_backend_bytes", "gauge", api.about.quota_bytes),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", status.kv.bytes),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", status.kv.bytes),
        ("etcd_debugging_mvcc_keys_total", "gauge", status.kv.keys),
        ("etcd_debugging_mvcc_watcher_total", "gauge", status.kv.watches as u64),
        ("etcd_debugging_mvcc_current_revision", "gauge", status.kv.revision as u64),
        ("process_resident_memory_bytes", "gauge", status.resident_bytes),
    ];
    let line =
        |(name, kind, value): &(&str, &str, u64)| format!("# TYPE {name} {kind}\n{name} {value}\n");
    plain(StatusCode::OK, numbers.iter().map(line).collect::<String>())
}
