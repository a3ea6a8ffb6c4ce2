//! `quorate kv lock` and `quorate kv elect`: the server keeps the queue, this process keeps its lease alive.

use std::time::Duration;

use prost::Message;
use quorate_client::kv::{Code, Kv as Client, KvError, pb, v3electionpb, v3lockpb};
use serde_json::json;

use super::explain;
use super::text::{key_value, print, shown};
use crate::failure::{Done, Failure, Kind};

/// A lost server is followed by the next one after so long.
const PAUSE: Duration = Duration::from_millis(200);

/// What is waited for.
pub(super) enum Wanted {
    /// A lock.
    Lock(String),
    /// To lead, and what the others are told then.
    Lead { election: String, value: String },
}

/// Waits for its turn, holds it while a command runs or until Ctrl-C, and gives it back.
pub(super) async fn hold(
    client: &Client,
    wanted: &Wanted,
    ttl: i64,
    command: &[String],
    json: bool,
) -> Result<Done, Failure> {
    let lease = client.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await.map_err(explain)?;
    let held = tokio::select! {
        held = take_and_hold(client, wanted, lease.id, command, json) => held,
        lost = keep_alive(client, lease.id, lease.ttl) => Err(explain(lost)),
        _ = tokio::signal::ctrl_c() => Ok(Done::Yes),
    };
    // The lock's key goes with the lease; so does a place in the queue.
    client.lease_revoke(lease.id).await.map_err(explain)?;
    held
}

async fn take_and_hold(
    client: &Client,
    wanted: &Wanted,
    lease: i64,
    command: &[String],
    json: bool,
) -> Result<Done, Failure> {
    let (key, revision) = take(client, wanted, lease).await.map_err(explain)?;
    if command.is_empty() {
        print(json, &json!({ "key": key, "revision": revision }), &format!("{key} {revision}"));
        return std::future::pending().await;
    }
    run(command, &key, revision).await
}

/// The key that stands for what is held, and its create revision.
async fn take(client: &Client, wanted: &Wanted, lease: i64) -> Result<(String, i64), KvError> {
    match wanted {
        Wanted::Lock(name) => {
            let request = v3lockpb::LockRequest { name: name.clone().into(), lease };
            let locked: v3lockpb::LockResponse =
                patiently(client, "/v3lockpb.Lock/Lock", &request).await?;
            let own = pb::RangeRequest { key: locked.key.clone(), ..Default::default() };
            let own = client.range(own).await?;
            let revision = own.kvs.first().map_or(0, |kv| kv.create_revision);
            Ok((shown(&locked.key), revision))
        }
        Wanted::Lead { election, value } => {
            let (name, value) = (election.clone().into(), value.clone().into());
            let request = v3electionpb::CampaignRequest { name, lease, value };
            let elected: v3electionpb::CampaignResponse =
                patiently(client, "/v3electionpb.Election/Campaign", &request).await?;
            let own = elected.leader.unwrap_or_default();
            Ok((shown(&own.key), own.rev))
        }
    }
}

/// Asks again when the server that was asked is lost: the place in the queue is the lease's, and stays.
async fn patiently<M: Message + Default>(
    client: &Client,
    method: &str,
    request: &impl Message,
) -> Result<M, KvError> {
    loop {
        match client.once(method, request).await {
            Err(error) if may_pass(&error) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

fn may_pass(error: &KvError) -> bool {
    match error {
        KvError::Unreachable(_) => true,
        KvError::Refused(refusal) => refusal.code() == Code::Unavailable,
        _ => false,
    }
}

/// Tells who leads, now and whenever that changes.
pub(super) async fn observe(
    client: &Client,
    election: &str,
    follow: bool,
    json: bool,
) -> Result<(), KvError> {
    let request = v3electionpb::LeaderRequest { name: election.to_string().into() };
    if !follow {
        let told = client.once("/v3electionpb.Election/Leader", &request).await?;
        tell_leader(&told, json);
        return Ok(());
    }
    loop {
        let method = "/v3electionpb.Election/Observe";
        let mut leaders = client.begin::<v3electionpb::LeaderResponse>(method, &request).await?;
        while let Some(Ok(told)) = leaders.next().await {
            tell_leader(&told, json);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn tell_leader(told: &v3electionpb::LeaderResponse, json: bool) {
    let kv = told.kv.clone().unwrap_or_default();
    print(json, &key_value(&kv), &format!("{} {}", shown(&kv.key), shown(&kv.value)));
}

async fn run(command: &[String], key: &str, revision: i64) -> Result<Done, Failure> {
    let (program, arguments) = command.split_first().map_or(("", command), |(p, rest)| (p, rest));
    let mut child = std::process::Command::new(program);
    child.args(arguments);
    child.env("QUORATE_LOCK_KEY", key).env("QUORATE_LOCK_REVISION", revision.to_string());
    let what = format!("run {program}");
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Usage, &what, error, "is that a program that exists?")
    };
    let mut child = child.spawn().map_err(failed)?;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(Done::Yes),
            Some(_) => return Ok(Done::No),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Comes back when the lease cannot be kept.
async fn keep_alive(client: &Client, lease: i64, ttl: i64) -> KvError {
    let pause = Duration::from_secs(ttl.unsigned_abs().div_ceil(3));
    let mut alive_at = tokio::time::Instant::now();
    loop {
        if let Ok(mut stream) = client.keep_alive(lease).await
            && let Some(Ok(reply)) = stream.next().await
        {
            if reply.ttl <= 0 {
                return KvError::Ended("the lock's lease has ended".to_string());
            }
            alive_at = tokio::time::Instant::now();
        } else if alive_at.elapsed() > pause * 3 {
            return KvError::Ended("the lock's lease cannot be kept alive".to_string());
        }
        tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
    }
}
