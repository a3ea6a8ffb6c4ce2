//! etcd's server-side locks and elections, out of `turns`. Without a fencing token a lock protects nothing: whoever holds
//! one puts its key's create revision into its transactions.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use quorate_etcd::grpc::{Status, decode};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::request_op::Request as Op;
use quorate_etcd::messages::mvccpb::KeyValue;
use quorate_etcd::messages::{v3electionpb as election, v3lockpb as lock};
use quorate_etcd::server::{Context, Request, Response};
use quorate_etcd::{Code, prefix_end};

use super::body::Sender;
use super::listen::Api;
use super::turns;
use super::unary::unknown;

/// Answers a call of one of the two services. It may wait for long.
pub(super) async fn answer(
    api: &Api,
    method: &str,
    context: &Context,
    message: Bytes,
) -> Result<Vec<u8>, Status> {
    // A call's number names one write, and these are made of several.
    let context = &Context { tag: None, ..context.clone() };
    Ok(match method {
        "/v3lockpb.Lock/Lock" => take_lock(api, context, decode(message)?).await?.encode_to_vec(),
        "/v3lockpb.Lock/Unlock" => unlock(api, context, decode(message)?).await?.encode_to_vec(),
        "/v3electionpb.Election/Campaign" => {
            campaign(api, context, decode(message)?).await?.encode_to_vec()
        }
        "/v3electionpb.Election/Proclaim" => {
            proclaim(api, context, decode(message)?).await?.encode_to_vec()
        }
        "/v3electionpb.Election/Leader" => {
            leader(api, context, decode(message)?).await?.encode_to_vec()
        }
        "/v3electionpb.Election/Resign" => {
            resign(api, context, decode(message)?).await?.encode_to_vec()
        }
        _ => return Err(unknown(method)),
    })
}

async fn take_lock(
    api: &Api,
    context: &Context,
    request: lock::LockRequest,
) -> Result<lock::LockResponse, Status> {
    let taken =
        turns::take(&api.desk, context, &request.name, request.lease, &Bytes::new()).await?;
    Ok(lock::LockResponse { header: Some(taken.1), key: taken.0.key.clone() })
}

async fn unlock(
    api: &Api,
    context: &Context,
    request: lock::UnlockRequest,
) -> Result<lock::UnlockResponse, Status> {
    let delete = Request::DeleteRange(turns::delete(&request.key));
    let header = match *api.desk.call(context, delete).await? {
        Response::DeleteRange(reply) => reply.header,
        _ => None,
    };
    Ok(lock::UnlockResponse { header })
}

async fn campaign(
    api: &Api,
    context: &Context,
    request: election::CampaignRequest,
) -> Result<election::CampaignResponse, Status> {
    let election::CampaignRequest { name, lease, value } = request;
    let (place, header) = turns::take(&api.desk, context, &name, lease, &value).await?;
    let (key, rev, lease) = (place.key.clone(), place.created, place.lease);
    let leader = election::LeaderKey { name, key, rev, lease };
    if place.found.as_ref().is_some_and(|found| *found != value) {
        let proclaimed =
            election::ProclaimRequest { leader: Some(leader.clone()), value: value.clone() };
        proclaim(api, context, proclaimed).await?;
    }
    Ok(election::CampaignResponse { header: Some(header), leader: Some(leader) })
}

async fn proclaim(
    api: &Api,
    context: &Context,
    request: election::ProclaimRequest,
) -> Result<election::ProclaimResponse, Status> {
    let election::LeaderKey { key, rev, lease, .. } = named(request.leader)?;
    let put =
        pb::PutRequest { key: key.clone(), value: request.value, lease, ..Default::default() };
    let put = Op::RequestPut(put);
    let (done, header) = turns::if_still(&api.desk, context, &key, rev, put).await?;
    if !done {
        return Err(Status::new(Code::Unknown, "election: not leader"));
    }
    Ok(election::ProclaimResponse { header: Some(header) })
}

async fn leader(
    api: &Api,
    context: &Context,
    request: election::LeaderRequest,
) -> Result<election::LeaderResponse, Status> {
    let (first, header) = turns::first(&api.desk, context, &request.name).await?;
    let first = first.ok_or_else(|| Status::new(Code::Unknown, "election: no leader"))?;
    Ok(election::LeaderResponse { header: Some(header), kv: Some(first) })
}

async fn resign(
    api: &Api,
    context: &Context,
    request: election::ResignRequest,
) -> Result<election::ResignResponse, Status> {
    let election::LeaderKey { key, rev, .. } = named(request.leader)?;
    let delete = Op::RequestDeleteRange(turns::delete(&key));
    let (_, header) = turns::if_still(&api.desk, context, &key, rev, delete).await?;
    Ok(election::ResignResponse { header: Some(header) })
}

fn named(leader: Option<election::LeaderKey>) -> Result<election::LeaderKey, Status> {
    leader.ok_or_else(|| Status::new(Code::InvalidArgument, "\"leader\" field must be provided"))
}

/// Tells who leads, and what the leader proclaims, one after the other.
pub(super) async fn observe(
    api: Rc<Api>,
    context: Context,
    request: election::LeaderRequest,
    out: Sender,
) {
    let observing = observe_until(&api, &context, &request.name, &out);
    let status = tokio::select! {
        ended = observing => ended.err(),
        () = out.closed() => return,
    };
    if let Some(status) = status {
        let _ = out.send(Err(status)).await; // the client may have gone
    }
}

async fn observe_until(
    api: &Api,
    context: &Context,
    name: &Bytes,
    out: &Sender,
) -> Result<(), Status> {
    let prefix = Bytes::from(turns::prefix(name));
    let mut told: Option<KeyValue> = None;
    loop {
        let (first, header) = turns::first(&api.desk, context, name).await?;
        if first.is_some() && first != told {
            let response = election::LeaderResponse { header: Some(header), kv: first.clone() };
            if out.send(Ok(response.encode_to_vec().into())).await.is_err() {
                return Ok(());
            }
            told = first;
        }
        let end = Bytes::from(prefix_end(&prefix));
        let from = header.revision + 1;
        let mut watch = turns::watch(&api.desk, context, prefix.clone(), end, from, false);
        // Anything under the prefix may change who is first, or what the first one says.
        while turns::next_events(&mut watch).await?.is_some_and(|events| events.is_empty()) {}
    }
}

/// Whether a method is of these services.
pub(super) fn is_theirs(method: &str) -> bool {
    method.starts_with("/v3lockpb.") || method.starts_with("/v3electionpb.")
}
