//! What each verb of `quorate kv` does.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::kv::pb::response_op::Response;
use quorate_client::kv::{Kv as Client, KvError, Options, mvccpb::KeyValue, pb};
use serde_json::{Value, json};

use super::lock::Wanted;
use super::text::{event, key_value, print, shown};
use super::{Act, Get, Lease, explain, lock, txn};
use crate::failure::{Done, Failure, Kind};

impl Act {
    pub(super) async fn run(
        self,
        client: &Client,
        servers: &[String],
        json: bool,
    ) -> Result<Done, Failure> {
        match self {
            Self::Put { key, value, lease, prev } => {
                let lease = lease.unwrap_or(0);
                let (key, value) = (key.into(), value.into());
                let put = pb::PutRequest { key, value, lease, prev_kv: prev, ..Default::default() };
                client.put(put).await.map(|reply| tell_put(&reply, json)).map_err(explain)?;
            }
            Self::Get(get) => {
                let count_only = get.count_only;
                let reply = client.range(get.request()).await.map_err(explain)?;
                tell_range(&reply, count_only, json);
            }
            Self::Del { key, prefix, prev } => {
                let range_end = range_end(&key, prefix);
                let request = pb::DeleteRangeRequest { key: key_of(key), range_end, prev_kv: prev };
                tell_deleted(&client.delete_range(request).await.map_err(explain)?, json);
            }
            Self::Txn { compare, then, otherwise } => {
                let request = txn::parse(&compare, &then, &otherwise).map_err(|cause| {
                    Failure::new(Kind::Usage, "read the transaction", cause, txn::EXAMPLES)
                })?;
                let reply = client.txn(request).await.map_err(explain)?;
                tell_txn(&reply, json);
                return Ok(if reply.succeeded { Done::Yes } else { Done::No });
            }
            Self::Watch { key, prefix, rev, prev, events } => {
                let range_end = range_end(&key, prefix);
                let create = pb::WatchCreateRequest {
                    key: key_of(key),
                    range_end,
                    start_revision: rev,
                    prev_kv: prev,
                    ..Default::default()
                };
                watch(client, create, events, json).await.map_err(explain)?;
            }
            Self::Lease(lease) => return lease.run(client, json).await,
            Self::Lock { name, ttl, command } => {
                return lock::hold(client, &Wanted::Lock(name), ttl, &command, json).await;
            }
            Self::Elect { election, value, ttl, command } => {
                let wanted = Wanted::Lead { election, value };
                return lock::hold(client, &wanted, ttl, &command, json).await;
            }
            Self::Leader { election, follow } => {
                lock::observe(client, &election, follow, json).await.map_err(explain)?;
            }
            Self::Compact { revision } => {
                let header = client.compact(revision).await.map_err(explain)?;
                let text = format!("revisions before {revision} are forgotten");
                print(json, &json!({ "compacted": revision, "revision": header.revision }), &text);
            }
            Self::Status => return status(servers, json).await,
            Self::Members => members(client, json).await.map_err(explain)?,
        }
        Ok(Done::Yes)
    }
}

impl Get {
    fn request(self) -> pb::RangeRequest {
        pb::RangeRequest {
            range_end: range_end(&self.key, self.prefix),
            key: key_of(self.key),
            limit: self.limit,
            revision: self.rev,
            keys_only: self.keys_only,
            count_only: self.count_only,
            serializable: self.serializable,
            ..Default::default()
        }
    }
}

/// The API's name for the empty key is a zero byte.
fn key_of(key: String) -> Bytes {
    if key.is_empty() { Bytes::from_static(&[0]) } else { key.into() }
}

fn range_end(key: &str, prefix: bool) -> Bytes {
    if prefix { quorate_client::kv::prefix_end(key.as_bytes()).into() } else { Bytes::new() }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn tell_put(reply: &pb::PutResponse, json: bool) {
    let revision = revision(reply.header);
    let before = reply.prev_kv.as_ref();
    let value = json!({ "revision": revision, "prev_kv": before.map(key_value) });
    let was = before.map_or(String::new(), |kv| format!(", was {}", shown(&kv.value)));
    print(json, &value, &format!("revision {revision}{was}"));
}

fn tell_range(reply: &pb::RangeResponse, count_only: bool, json: bool) {
    if json {
        let kvs: Vec<Value> = reply.kvs.iter().map(key_value).collect();
        let value = json!({
            "revision": revision(reply.header), "count": reply.count, "more": reply.more, "kvs": kvs,
        });
        return print(true, &value, "");
    }
    if count_only {
        print(false, &Value::Null, &reply.count.to_string());
    }
    reply.kvs.iter().for_each(|kv| print(false, &Value::Null, &line(kv)));
}

fn line(kv: &KeyValue) -> String {
    match kv.value.is_empty() {
        true => shown(&kv.key),
        false => format!("{} {}", shown(&kv.key), shown(&kv.value)),
    }
}

fn tell_deleted(reply: &pb::DeleteRangeResponse, json: bool) {
    let before: Vec<Value> = reply.prev_kvs.iter().map(key_value).collect();
    let value = json!({
        "revision": revision(reply.header), "deleted": reply.deleted, "prev_kvs": before,
    });
    let lines: String = reply.prev_kvs.iter().map(|kv| format!("\n{}", line(kv))).collect();
    print(json, &value, &format!("{} deleted{lines}", reply.deleted));
}

fn tell_txn(reply: &pb::TxnResponse, json: bool) {
    if json {
        let did: Vec<Value> = reply.responses.iter().map(did).collect();
        let revision = revision(reply.header);
        let value = json!({ "revision": revision, "succeeded": reply.succeeded, "responses": did });
        return print(true, &value, "");
    }
    let outcome = if reply.succeeded { "the comparison holds" } else { "the comparison is false" };
    print(false, &Value::Null, outcome);
    for response in &reply.responses {
        match &response.response {
            Some(Response::ResponseRange(range)) => tell_range(range, false, false),
            Some(Response::ResponsePut(put)) => tell_put(put, false),
            Some(Response::ResponseDeleteRange(deleted)) => tell_deleted(deleted, false),
            _ => {}
        }
    }
}

fn did(response: &pb::ResponseOp) -> Value {
    match &response.response {
        Some(Response::ResponseRange(range)) => {
            json!({ "kvs": range.kvs.iter().map(key_value).collect::<Vec<_>>() })
        }
        Some(Response::ResponseDeleteRange(deleted)) => json!({ "deleted": deleted.deleted }),
        _ => json!({}),
    }
}

/// Goes on elsewhere when a server is lost: after the last revision that was told.
async fn watch(
    client: &Client,
    mut create: pb::WatchCreateRequest,
    events: Option<u64>,
    json: bool,
) -> Result<(), KvError> {
    let mut left = events.unwrap_or(u64::MAX);
    loop {
        let mut watching = client.watch(create.clone()).await?;
        while let Some(Ok(response)) = watching.next().await {
            if response.canceled {
                return Err(ended(&response));
            }
            for happened in &response.events {
                let (value, text) = event(happened);
                print(json, &value, &text);
                left -= 1;
                if left == 0 {
                    return Ok(());
                }
            }
            create.start_revision = revision(response.header) + 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn ended(response: &pb::WatchResponse) -> KvError {
    let cause = match response.compact_revision {
        0 => response.cancel_reason.clone(),
        revision => format!("what comes next was forgotten: revisions begin at {revision}"),
    };
    KvError::Ended(cause)
}

impl Lease {
    async fn run(self, client: &Client, json: bool) -> Result<Done, Failure> {
        match self {
            Self::Grant { ttl } => {
                let request = pb::LeaseGrantRequest { ttl, id: 0 };
                let reply = client.lease_grant(request).await.map_err(explain)?;
                let value = json!({ "lease": format!("{:x}", reply.id), "ttl": reply.ttl });
                print(json, &value, &format!("{:x}", reply.id));
            }
            Self::Revoke { id } => {
                let header = client.lease_revoke(id).await.map_err(explain)?;
                print(json, &json!({ "revision": header.revision }), "revoked");
            }
            Self::KeepAlive { id, once } => return keep_alive(client, id, once, json).await,
            Self::Show { id } => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                let reply = client.lease_time_to_live(request).await.map_err(explain)?;
                let keys: Vec<String> = reply.keys.iter().map(|key| shown(key)).collect();
                let value = json!({
                    "lease": format!("{id:x}"), "ttl": reply.ttl, "granted": reply.granted_ttl, "keys": keys,
                });
                let text = format!("{} s of {} s left", reply.ttl, reply.granted_ttl);
                let lines: String = keys.iter().map(|key| format!("\n{key}")).collect();
                let gone = reply.ttl < 0;
                print(json, &value, &if gone { "gone".to_string() } else { text + &lines });
                return Ok(if gone { Done::No } else { Done::Yes });
            }
            Self::Ls => {
                let reply =
                    client.lease_leases(pb::LeaseLeasesRequest {}).await.map_err(explain)?;
                let leases: Vec<String> =
                    reply.leases.iter().map(|lease| format!("{:x}", lease.id)).collect();
                print(json, &json!({ "leases": leases }), &leases.join("\n"));
            }
        }
        Ok(Done::Yes)
    }
}

async fn keep_alive(client: &Client, id: i64, once: bool, json: bool) -> Result<Done, Failure> {
    let mut stream = client.keep_alive(id).await.map_err(explain)?;
    while let Some(reply) = stream.next().await {
        let ttl = reply.map_err(explain)?.ttl;
        let text = if ttl > 0 { format!("alive for {ttl} s") } else { "gone".to_string() };
        print(json, &json!({ "lease": format!("{id:x}"), "ttl": ttl }), &text);
        if ttl <= 0 {
            return Ok(Done::No);
        }
        if once {
            return Ok(Done::Yes);
        }
        tokio::time::sleep(Duration::from_secs(ttl.unsigned_abs().div_ceil(3))).await;
        stream.ask(&pb::LeaseKeepAliveRequest { id }).await.map_err(explain)?;
    }
    Ok(Done::No)
}

/// Each server is asked for itself; exits with 1 unless a majority answers.
async fn status(servers: &[String], json: bool) -> Result<Done, Failure> {
    let mut told = Vec::new();
    let mut answered = 0;
    for server in servers {
        let reply = status_of(server).await;
        answered += usize::from(reply.is_ok());
        let (value, text) = match &reply {
            Ok(status) => (status_json(server, status), status_text(server, status)),
            Err(error) => {
                let value = json!({ "server": server, "error": error.to_string() });
                (value, format!("{server}  does not answer: {error}"))
            }
        };
        told.push(value);
        if !json {
            print(false, &Value::Null, &text);
        }
    }
    if json {
        print(true, &json!({ "servers": told }), "");
    }
    Ok(if answered > servers.len() / 2 { Done::Yes } else { Done::No })
}

async fn status_of(server: &str) -> Result<pb::StatusResponse, KvError> {
    let client = Client::new(&[server], Options::default());
    let client = client.map_err(|error| KvError::Unreachable(error.to_string()))?;
    client.once("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await
}

fn status_json(server: &str, status: &pb::StatusResponse) -> Value {
    let header = status.header.unwrap_or_default();
    json!({
        "server": server, "member": header.member_id, "leader": status.leader, "term": status.raft_term,
        "revision": header.revision, "applied": status.raft_applied_index, "bytes": status.db_size,
        "errors": status.errors, "version": status.version,
    })
}

fn status_text(server: &str, status: &pb::StatusResponse) -> String {
    let header = status.header.unwrap_or_default();
    let role = if status.leader == header.member_id { "leader" } else { "follower" };
    let errors: String = status.errors.iter().map(|error| format!("  {}", error.trim())).collect();
    format!(
        "{server}  n{} {role}  term {}  revision {}  {} bytes{errors}",
        header.member_id, status.raft_term, header.revision, status.db_size
    )
}

async fn members(client: &Client, json: bool) -> Result<(), KvError> {
    let request = pb::MemberListRequest::default();
    let reply: pb::MemberListResponse =
        client.once("/etcdserverpb.Cluster/MemberList", &request).await?;
    for member in &reply.members {
        let value = json!({
            "id": member.id, "name": member.name, "peers": member.peer_ur_ls,
            "clients": member.client_ur_ls, "learner": member.is_learner,
        });
        let (peers, clients) = (member.peer_ur_ls.join(","), member.client_ur_ls.join(","));
        print(json, &value, &format!("{}  members {peers}  clients {clients}", member.name));
    }
    Ok(())
}
