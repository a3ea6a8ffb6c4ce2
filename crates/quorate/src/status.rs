//! `quorate status`: how each node is.

mod listed;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Args;
use quorate_server::{NodeStatus, RoomName};
use serde_json::{Value, json};

use crate::cluster::{ClusterFile, ask_cluster, ask_status};
use crate::failure::{Done, Failure, Kind, tell};

/// Show how each node is; exits with 1 unless a majority serves
#[derive(Args)]
#[command(after_help = "Examples:
  quorate status
  quorate status --servers 10.0.0.1:8080,10.0.0.2:8080,10.0.0.3:8080 --json
  quorate status --via 10.0.0.1:8080          as that node sees the cluster")]
pub(crate) struct Status {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "quorate-data", conflicts_with = "servers")]
    dir: PathBuf,

    /// Admin addresses of the nodes, instead of a directory
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    servers: Vec<String>,

    /// Admin address of one node, which asks the others: shows whom it can reach
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["dir", "servers"])]
    via: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A node, and what it says of itself.
struct Row {
    id: Option<u64>,
    admin: Option<SocketAddr>,
    status: Option<NodeStatus>,
    /// It does not belong to the cluster any more.
    removed: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let rows = self.rows()?;
        if self.json {
            tell(&as_json(&rows).to_string());
        } else {
            tell(&as_table(&rows));
        }
        let members = rows.iter().filter(|row| !row.removed);
        let serving =
            members.clone().filter(|row| row.status.as_ref().is_some_and(|s| s.serving)).count();
        Ok(if serving > members.count() / 2 { Done::Yes } else { Done::No })
    }

    fn rows(&self) -> Result<Vec<Row>, Failure> {
        if let Some(via) = &self.via {
            return rows_via(via);
        }
        let addresses: Vec<(Option<u64>, SocketAddr)> = if self.servers.is_empty() {
            let cluster = ClusterFile::read(&self.dir)?;
            cluster.nodes.into_iter().map(|node| (Some(node.id), node.admin)).collect()
        } else {
            self.servers
                .iter()
                .map(|server| Ok((None, resolve(server)?)))
                .collect::<Result<_, _>>()?
        };
        let ask = |(id, admin): (Option<u64>, SocketAddr)| {
            let status = ask_status(admin).ok();
            let id = status.as_ref().map(|s| s.id).or(id);
            Row { id, admin: Some(admin), status, removed: false }
        };
        Ok(listed::complete(addresses.into_iter().map(ask).collect()))
    }
}

/// What one node hears from every member.
fn rows_via(server: &str) -> Result<Vec<Row>, Failure> {
    let cluster = ask_cluster(resolve(server)?).map_err(|error| {
        let help = "is the node running, and is that its admin address?";
        Failure::new(Kind::Unreachable, format!("ask {server}"), error, help)
    })?;
    let silent = cluster.unreachable.into_iter();
    let mut rows: Vec<Row> =
        silent.map(|id| Row { id: Some(id), admin: None, status: None, removed: false }).collect();
    rows.extend(cluster.nodes.into_iter().map(|node| Row {
        id: Some(node.id),
        admin: None,
        removed: !cluster.members.contains_key(&node.id),
        status: Some(node),
    }));
    rows.sort_by_key(|row| row.id);
    Ok(rows)
}

fn resolve(server: &str) -> Result<SocketAddr, Failure> {
    let failed = |cause: String| {
        let what = format!("ask {server}");
        Failure::new(Kind::Usage, what, cause, "--servers takes host:port of admin ports")
    };
    let mut found = server.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("the name has no address".to_string()))
}

fn as_json(rows: &[Row]) -> Value {
    let nodes: Vec<Value> = rows
        .iter()
        .map(|row| match &row.status {
            Some(status) => {
                let mut node = serde_json::to_value(status).unwrap_or_default();
                if let (Some(node), Some(group)) = (node.as_object_mut(), status.groups.first()) {
                    node.insert("role".into(), json!(group.role));
                    node.insert("term".into(), json!(group.term));
                    node.insert("commit".into(), json!(group.commit));
                    node.insert("applied".into(), json!(group.applied));
                    node.insert("leader".into(), json!(group.leader));
                    node.insert("alive".into(), json!(true));
                    node.insert("removed".into(), json!(row.removed));
                }
                node
            }
            None => {
                let admin = row.admin.map(|admin| admin.to_string());
                json!({"id": row.id, "admin": admin, "alive": false})
            }
        })
        .collect();
    json!({ "nodes": nodes })
}

fn as_table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<5}{:<11}{:>6}{:>11}{:>11}  {:<7}{:<14}{:>9}{:>9}{:>9}",
        "node",
        "role",
        "term",
        "commit",
        "applied",
        "leader",
        "zxid",
        "sessions",
        "znodes",
        "memory"
    );
    for row in rows {
        let id = row.id.map_or("?".to_string(), |id| format!("n{id}"));
        let Some(status) = &row.status else {
            let silence = match row.admin {
                Some(admin) => format!("nobody answers at {admin}"),
                None => "does not answer the node that was asked".to_string(),
            };
            text += &format!("\n{id:<5}{:<11} {silence}", "down");
            continue;
        };
        let Some(group) = status.groups.first() else { continue };
        let role = if status.serving { group.role.clone() } else { format!("{}*", group.role) };
        text += &format!(
            "\n{id:<5}{role:<11}{:>6}{:>11}{:>11}  {:<7}{:<14}{:>9}{:>9}{:>8}M",
            group.term,
            group.commit,
            group.applied,
            group.leader.map_or("-".to_string(), |id| format!("n{id}")),
            status.zxid,
            status.sessions,
            status.znodes,
            status.resident_bytes >> 20,
        );
    }
    text.extend(rows.iter().filter_map(|row| row.status.as_ref()).filter_map(room_line));
    if rows.iter().any(|row| row.status.as_ref().is_some_and(|status| !status.serving)) {
        text += "\n* not serving: it has not caught up with a leader since it started";
    }
    text.extend(rows.iter().filter(|row| row.removed).filter_map(|row| {
        Some(format!("\nn{} does not belong to the cluster any more; stop it", row.id?))
    }));
    text + &what_is_missing(rows)
}

/// What the disks of nodes have lost of what was acknowledged, and whether anybody can send it again.
fn what_is_missing(rows: &[Row]) -> String {
    let mut text = String::new();
    let groups = |status: &NodeStatus| status.groups.clone();
    for row in rows {
        let groups = row.status.as_ref().map(groups).unwrap_or_default();
        for group in groups {
            if let Some(missing) = &group.missing {
                let id = row.id.map_or("?".to_string(), |id| format!("n{id}"));
                text += &format!("\n{id} lacks some of the log of group {}: {missing}", group.name);
            }
        }
    }
    let stranded = |status: &NodeStatus| status.groups.iter().any(|group| group.stranded);
    if rows.iter().any(|row| row.status.as_ref().is_some_and(stranded)) {
        text += "\nno majority of the members is up and whole, so that nobody can lead: start those that are down; if the \
                 disks of a majority are damaged for good, begin a new cluster with the newest backup (`quorate restore`)";
    }
    text
}

/// What an operator must know of a node whose disk is full.
fn room_line(status: &NodeStatus) -> Option<String> {
    let what = match status.room {
        RoomName::Enough => return None,
        RoomName::Little => "it takes no new writes",
        RoomName::Reserve => "it takes no entries, and only votes",
    };
    let free = status.disk_free_bytes.map_or(String::new(), |free| format!(", {free} bytes free"));
    Some(format!(
        "\nn{}: the disk is full{free}: {what}; reads go on. Make room: it goes on by itself",
        status.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_under_the_table() {
        let status = |id, room| Row {
            id: Some(id),
            admin: None,
            removed: false,
            status: Some(NodeStatus {
                id,
                room,
                disk_free_bytes: Some(4_096),
                serving: true,
                ..NodeStatus::default()
            }),
        };
        let table = as_table(&[status(1, RoomName::Enough), status(2, RoomName::Little)]);
        let lines: Vec<&str> = table.lines().filter(|line| line.contains("full")).collect();
        let told = "n2: the disk is full, 4096 bytes free: it takes no new writes; reads go on. \
                    Make room: it goes on by itself";
        assert_eq!(lines, [told]);
    }
}
