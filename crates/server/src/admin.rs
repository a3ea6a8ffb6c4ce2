//! HTTP for administrators: `GET /status` (JSON) and `GET /health`. One request a connection, a few
//! hundred bytes at most; nothing here changes anything.

use std::time::Duration;

use quorate_raft::{RoleName, Status};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::core::{Inbox, Incoming};

const REQUEST_BYTES_MAX: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// How a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// It has caught up with its cluster and takes clients.
    pub serving: bool,
    /// Last transaction applied, in hexadecimal.
    pub zxid: String,
    /// Sessions of the whole cluster.
    pub sessions: usize,
    /// Clients connected to this node.
    pub connections: usize,
    /// Watches set on this node.
    pub watches: usize,
    /// Znodes.
    pub znodes: usize,
    /// Hash of the state: equal on all nodes with the same applied index.
    pub digest: String,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// fdatasyncs of the log since the start.
    pub fdatasyncs: u64,
    /// Entries written to the log since the start.
    pub log_entries: u64,
    /// Bytes written to the log since the start.
    pub log_bytes: u64,
    /// Its Raft groups.
    pub groups: Vec<GroupStatus>,
}

/// How a group of a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Highest index known to be committed.
    pub commit: u64,
    /// Highest index applied.
    pub applied: u64,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// The last index of the log.
    pub last: u64,
}

impl GroupStatus {
    pub(crate) fn new(name: &str, status: &Status) -> Self {
        let role = match status.role {
            RoleName::Leader => "leader",
            RoleName::Follower => "follower",
            RoleName::PreCandidate | RoleName::Candidate => "candidate",
            RoleName::Learner => "learner",
        };
        Self {
            name: name.to_string(),
            role: role.to_string(),
            term: status.term.0,
            commit: status.commit.0,
            applied: status.applied.0,
            leader: status.leader.map(|node| node.0),
            last: status.last.index.0,
        }
    }
}

/// Takes connections of administrators.
pub(crate) async fn accept(listener: TcpListener, inbox: Inbox) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let inbox = inbox.clone();
                tokio::task::spawn_local(async move {
                    // Somebody who does not finish asking is not waited for.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &inbox)).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, inbox: &Inbox) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let (code, body) = respond(&request, inbox).await;
    let response = format!(
        "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

async fn respond(request: &str, inbox: &Inbox) -> (&'static str, String) {
    if !host_is_local(request) {
        return (
            "403 Forbidden",
            "{\"error\":\"the Host header names no loopback address\"}".into(),
        );
    }
    match request.split_whitespace().nth(1) {
        Some("/status") => match ask(inbox).await {
            Some(status) => ("200 OK", serde_json::to_string(&status).unwrap_or_default()),
            None => ("503 Service Unavailable", "{\"error\":\"the node is stopping\"}".into()),
        },
        Some("/health") => match ask(inbox).await {
            Some(status) if status.serving => ("200 OK", "{\"healthy\":true}".into()),
            _ => ("503 Service Unavailable", "{\"healthy\":false}".into()),
        },
        _ => ("404 Not Found", "{\"error\":\"there are /status and /health\"}".into()),
    }
}

/// A page of another site cannot ask in a visitor's name: its Host is not ours.
fn host_is_local(request: &str) -> bool {
    let host = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    let Some(host) = host else { return true };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

async fn ask(inbox: &Inbox) -> Option<NodeStatus> {
    let (sender, receiver) = oneshot::channel();
    inbox.push(Incoming::Status(sender));
    receiver.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        for (host, local) in [
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
        ] {
            assert_eq!(host_is_local(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), local);
        }
    }
}
