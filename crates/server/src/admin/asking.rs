//! What an administrator asks of one node about the whole cluster: it asks the others in turn.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_contracts::{GroupId, NodeId};
use quorate_roster::Member;
use quorate_rpc::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::NodeStatus;
use crate::calls::{self, Answered, Ask};
use crate::inbox::{Door, Inbox};
use crate::members::Known;

/// How long another member may take.
/// A page must show within two seconds that a member is gone.
const STATUS_PATIENCE: Duration = Duration::from_millis(700);
const LEAD_PATIENCE: Duration = Duration::from_secs(4);

/// How a cluster is, as one of its nodes finds out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The nodes that answer.
    pub nodes: Vec<NodeStatus>,
    /// The others.
    pub unreachable: Vec<u64>,
    /// How long the questions and their answers took, in microseconds, by member.
    #[serde(default)]
    pub round_trips_us: BTreeMap<u64, u64>,
    /// Who belongs to the cluster, as the node knows that was asked: this list is what changes of members change.
    #[serde(default)]
    pub members: BTreeMap<u64, MemberListed>,
}

/// A member, as the list has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberListed {
    /// Where the other members find it: `host:port`.
    pub address: String,
    /// Whether it is to vote.
    pub votes: bool,
    /// Where it answers administrators; `None` until it has started once.
    pub admin: Option<String>,
}

impl From<&Member> for MemberListed {
    fn from(member: &Member) -> Self {
        let admin = member.published.get(super::PUBLISHED);
        Self {
            address: member.address.clone(),
            votes: member.votes,
            admin: admin.map(|admin| reachable(admin, &member.address)),
        }
    }
}

/// Where others find what a member listens at: one that listens everywhere is found at the host that the members know.
fn reachable(listens: &str, member: &str) -> String {
    let everywhere = listens.parse().ok().filter(|at: &SocketAddr| at.ip().is_unspecified());
    match (everywhere, member.rsplit_once(':')) {
        (Some(at), Some((host, _))) => format!("{host}:{}", at.port()),
        _ => listens.to_string(),
    }
}

/// This node's way to the others.
#[derive(Clone)]
pub(crate) struct Others {
    pub(crate) own: NodeId,
    pub(crate) members: Known,
    pub(crate) inbox: Inbox,
    pub(crate) calls: Door<calls::Arrival>,
}

impl Others {
    /// Asks every member how it is, all at once.
    pub(super) async fn cluster(&self) -> ClusterStatus {
        let (began, roster) = (std::time::Instant::now(), self.members.roster());
        let asked: Vec<_> = roster
            .members
            .keys()
            .filter(|member| **member != self.own)
            .map(|member| (*member, self.ask(*member, Ask::Status, STATUS_PATIENCE)))
            .collect();
        let listed = roster.members.iter().map(|(id, member)| (id.0, member.into()));
        let mut cluster = ClusterStatus { members: listed.collect(), ..ClusterStatus::default() };
        cluster.nodes.extend(calls::status(&self.inbox).await);
        for (member, answer) in asked {
            let status = answer.await.ok().and_then(Result::ok);
            match status.and_then(|json| serde_json::from_slice(&json).ok()) {
                Some(status) => {
                    cluster.nodes.push(status);
                    // What waited behind a member that is gone took no such time.
                    if cluster.unreachable.is_empty() {
                        let took = began.elapsed().as_micros() as u64;
                        cluster.round_trips_us.insert(member.0, took);
                    }
                }
                None => cluster.unreachable.push(member.0),
            }
        }
        cluster.nodes.sort_by_key(|node| node.id);
        cluster
    }

    /// Has the coordination group's leader hand over to that member. Says what came of it.
    pub(super) async fn lead(&self, to: NodeId) -> Result<String, String> {
        let status = calls::status(&self.inbox).await.ok_or("the node is stopping")?;
        let leader = status.groups.iter().find_map(|group| group.leader).map(NodeId);
        let leader = leader.ok_or("no leader is known; try again in a moment")?;
        let ask = Ask::Lead { group: GroupId::COORDINATION, to };
        if leader == self.own {
            return match ask.run(&self.inbox).await {
                Outcome::Done(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
                Outcome::Failed(error) => Err(error),
            };
        }
        let answered = self.ask(leader, ask, LEAD_PATIENCE).await;
        match answered.unwrap_or(Err(Failure::NotReached)) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(failure) => Err(explain(leader, failure)),
        }
    }

    fn ask(&self, to: NodeId, ask: Ask, patience: Duration) -> oneshot::Receiver<Answered> {
        let (answer, answered) = oneshot::channel();
        self.calls.push(calls::Arrival::Ask { to, ask, patience, answer });
        answered
    }
}

fn explain(member: NodeId, failure: Failure) -> String {
    match failure {
        Failure::Refused(reason) => format!("not asked: {reason}"),
        Failure::NotReached => {
            format!("{member}, which leads, cannot be reached: nothing happened")
        }
        Failure::TimedOut => format!("{member} did not answer in time: it may have happened"),
        Failure::Restarted => format!("{member} restarted meanwhile: it may have happened"),
        Failure::Failed(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a member is what the list of members says, and leads there from another host.
    #[test]
    fn a_member_is_shown_as_the_list_has_it() {
        for (published, shown) in [
            (None, None),
            (Some("127.0.0.1:8080"), Some("127.0.0.1:8080")),
            (Some("0.0.0.0:8080"), Some("n4.example:8080")),
            (Some("[::]:8080"), Some("n4.example:8080")),
        ] {
            let published = published.map(|at| (super::super::PUBLISHED.into(), at.to_string()));
            let member = Member {
                votes: false,
                address: "n4.example:7400".to_string(),
                published: published.into_iter().collect(),
            };
            let listed = MemberListed {
                address: "n4.example:7400".to_string(),
                votes: false,
                admin: shown.map(str::to_string),
            };
            assert_eq!(MemberListed::from(&member), listed);
        }
    }
}
