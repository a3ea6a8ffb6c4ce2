//! Calls whose replies are streams: watches, keep-alives, snapshots, observers of an election.
//!
//! Each stream is one task. While its client does not read, the task reads no further requests of it either, and the
//! service sends it no more events than it has room for.

use std::rc::Rc;

use prost::Message;
use quorate_etcd::grpc::{Status, decode};
use quorate_etcd::messages::{etcdserverpb as pb, health};
use quorate_etcd::server::Context;

use super::body::Sender;
use super::desk::Stream;
use super::front::Told;
use super::grpc::Requests;
use super::listen::Api;
use super::outgoing::Outgoing;
use super::{locks, snapshots};

/// Keep-alives of one stream that wait for their answers.
const KEEP_ALIVES_MAX: usize = 64;

/// The methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Watch,
    KeepAlive,
    Snapshot,
    Observe,
    Health,
}

impl Kind {
    /// The stream that a method is.
    pub(super) fn of(method: &str) -> Option<Self> {
        Some(match method {
            "/etcdserverpb.Watch/Watch" => Self::Watch,
            "/etcdserverpb.Lease/LeaseKeepAlive" => Self::KeepAlive,
            "/etcdserverpb.Maintenance/Snapshot" => Self::Snapshot,
            "/v3electionpb.Election/Observe" => Self::Observe,
            "/grpc.health.v1.Health/Watch" => Self::Health,
            _ => return None,
        })
    }
}

/// Serves a stream until one side has had enough.
pub(super) async fn serve(
    api: Rc<Api>,
    kind: Kind,
    context: Context,
    mut requests: Requests,
    out: Sender,
) {
    match kind {
        Kind::Watch => match out {
            Sender::Grpc(out) => watch_straight(&api, &context, requests, out).await,
            lines => watch(api.desk.watches(&context), requests, lines).await,
        },
        Kind::KeepAlive => {
            out.begin();
            keep_alive(api.desk.keep_alives(), requests, out).await;
        }
        Kind::Snapshot => snapshots::send(api, context, out).await,
        Kind::Observe => match requests.only().await.and_then(decode) {
            Ok(request) => locks::observe(api, context, request, out).await,
            Err(status) => end(&out, status).await,
        },
        Kind::Health => match health(&api, &mut requests).await {
            Ok(health) => {
                let _ = out.send(Ok(health.into())).await; // the client may have gone
                // A node that serves goes on serving; the stream ends with it.
                out.closed().await;
            }
            Err(status) => end(&out, status).await,
        },
    }
}

async fn health(api: &Api, requests: &mut Requests) -> Result<Vec<u8>, Status> {
    let health::HealthCheckRequest { service } = decode(requests.only().await?)?;
    Ok(api.health(&service)?.encode_to_vec())
}

/// Requests go in; what comes of them needs nobody in between.
async fn watch_straight(api: &Api, context: &Context, mut requests: Requests, out: Outgoing) {
    let (asking, watcher) = api.desk.watches_straight(context, out);
    loop {
        let request = tokio::select! {
            biased;
            request = requests.next() => request,
            () = watcher.reads() => return,
        };
        match request.map(|request| request.and_then(decode::<pb::WatchRequest>)) {
            Some(Ok(request)) => asking.watch(request),
            Some(Err(status)) => return watcher.fail(&status),
            // A client that only stops asking still watches.
            None => return watcher.reads().await,
        }
    }
}

/// Requests go in, responses come out, until one side has had enough. A client that only stops asking still watches.
async fn watch(mut stream: Stream, mut requests: Requests, out: Sender) {
    let mut asking = true;
    loop {
        let told = tokio::select! {
            biased;
            told = stream.told() => told,
            request = requests.next(), if asking => {
                match request.map(|request| request.and_then(decode::<pb::WatchRequest>)) {
                    Some(Ok(request)) => stream.watch(request),
                    Some(Err(status)) => return end(&out, status).await,
                    None => asking = false,
                }
                continue;
            }
            () = out.closed() => return,
        };
        match told {
            Some(Told::Watch(response, bytes)) => {
                if out.send(Ok(response.encode_to_vec().into())).await.is_err() {
                    return;
                }
                stream.sent(bytes);
            }
            Some(Told::End(refusal)) => return end(&out, refusal.into()).await,
            _ => return,
        }
    }
}

/// One answer for each request. A client that has said all gets the answers that are outstanding, and the end.
async fn keep_alive(mut stream: Stream, mut requests: Requests, out: Sender) {
    let (mut asking, mut outstanding) = (true, 0);
    while asking || outstanding > 0 {
        let told = tokio::select! {
            biased;
            told = stream.told(), if outstanding > 0 => told,
            request = requests.next(), if asking && outstanding < KEEP_ALIVES_MAX => {
                match request.map(|request| request.and_then(decode::<pb::LeaseKeepAliveRequest>)) {
                    Some(Ok(request)) => {
                        stream.keep_alive(request);
                        outstanding += 1;
                    }
                    Some(Err(status)) => return end(&out, status).await,
                    None => asking = false,
                }
                continue;
            }
            () = out.closed() => return,
        };
        outstanding -= 1;
        match told {
            Some(Told::KeepAlive(response)) => {
                if out.send(Ok(response.encode_to_vec().into())).await.is_err() {
                    return;
                }
            }
            Some(Told::End(refusal)) => return end(&out, refusal.into()).await,
            _ => return,
        }
    }
}

async fn end(out: &Sender, status: Status) {
    let _ = out.send(Err(status)).await; // the client may have gone
}
