//! `quorate kv lock`: the server keeps the queue, this process keeps its lease alive.

use std::time::Duration;

use quorate_client::kv::{Kv as Client, KvError, pb, v3lockpb};
use serde_json::json;

use super::explain;
use super::text::{print, shown};
use crate::failure::{Done, Failure, Kind};

/// Takes the lock, holds it while a command runs or until Ctrl-C, and gives it back.
pub(super) async fn hold(
    client: &Client,
    name: &str,
    ttl: i64,
    command: &[String],
    json: bool,
) -> Result<Done, Failure> {
    let lease = client.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await.map_err(explain)?;
    let held = tokio::select! {
        held = take_and_hold(client, name, lease.id, command, json) => held,
        lost = keep_alive(client, lease.id, lease.ttl) => Err(explain(lost)),
        _ = tokio::signal::ctrl_c() => Ok(Done::Yes),
    };
    // The lock's key goes with the lease; so does a place in the queue.
    client.lease_revoke(lease.id).await.map_err(explain)?;
    held
}

async fn take_and_hold(
    client: &Client,
    name: &str,
    lease: i64,
    command: &[String],
    json: bool,
) -> Result<Done, Failure> {
    let request = v3lockpb::LockRequest { name: name.to_string().into(), lease };
    let locked: v3lockpb::LockResponse =
        client.once("/v3lockpb.Lock/Lock", &request).await.map_err(explain)?;
    let own = pb::RangeRequest { key: locked.key.clone(), ..Default::default() };
    let own = client.range(own).await.map_err(explain)?;
    let revision = own.kvs.first().map_or(0, |kv| kv.create_revision);
    let key = shown(&locked.key);
    if command.is_empty() {
        print(json, &json!({ "key": key, "revision": revision }), &format!("{key} {revision}"));
        return std::future::pending().await;
    }
    run(command, &key, revision).await
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
