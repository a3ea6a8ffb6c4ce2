//! What an administrator asks of one node about the whole cluster: it asks the others in turn.

use std::time::Duration;

use quorate_contracts::{GroupId, NodeId};
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
    pub round_trips_us: std::collections::BTreeMap<u64, u64>,
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
        let began = std::time::Instant::now();
        let asked: Vec<_> = self
            .members
            .all()
            .into_iter()
            .filter(|member| *member != self.own)
            .map(|member| (member, self.ask(member, Ask::Status, STATUS_PATIENCE)))
            .collect();
        let mut cluster = ClusterStatus::default();
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
