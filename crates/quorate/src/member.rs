//! `quorate member`: who belongs to the cluster. Members are those of the node, for all its services; they are changed through
//! etcd's Cluster API, so this works on etcd's own servers too.

use clap::{Args, Subcommand};
use quorate_client::kv::{Kv as Client, KvError};
use quorate_etcd::Refusal;
use quorate_etcd::messages::etcdserverpb as pb;
use serde_json::{Value, json};

use crate::failure::{Done, Failure, Kind, say, tell};
use crate::kv::Reach;

/// Show and change who belongs to a running cluster
#[derive(Args)]
#[command(after_help = "Examples:
  quorate member list
  quorate member add 10.0.0.4:7400              votes once it has started and caught up
  quorate member add --learner 10.0.0.4:7400    gets everything, and does not vote until it is promoted
  quorate member promote 4
  quorate member move 4 10.0.0.9:7400           it has another address from now on
  quorate member remove 4
  quorate member --servers 10.0.0.1:2379,10.0.0.2:2379 list --json")]
pub(crate) struct Member {
    #[command(flatten)]
    reach: Reach,

    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// All members, and whether they have started
    List,
    /// Add one; what to do on its machine is printed
    #[command(after_help = "Example:\n  quorate member add 10.0.0.4:7400")]
    Add {
        /// Where the other members find it
        #[arg(value_name = "HOST:PORT")]
        address: String,
        /// It does not vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Remove one; refused if the others would have no majority
    #[command(after_help = "Example:\n  quorate member remove 4")]
    Remove {
        /// Its id, as `list` shows it
        id: u64,
    },
    /// Have a learner vote, once it has caught up
    #[command(after_help = "Example:\n  quorate member promote 4")]
    Promote {
        /// Its id, as `list` shows it
        id: u64,
    },
    /// Tell the others where a member is to be found from now on
    #[command(after_help = "Example:\n  quorate member move 4 10.0.0.9:7400")]
    Move {
        /// Its id, as `list` shows it
        id: u64,
        /// Where the other members find it
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
}

impl Member {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let (json, act) = (self.reach.json, self.act);
        self.reach.with_client(async move |client| act.run(&client, json).await)
    }
}

impl Act {
    async fn run(self, client: &Client, json: bool) -> Result<Done, Failure> {
        let what = self.what();
        let members = self.ask(client, json).await.map_err(|error| explain(&what, error))?;
        members.iter().for_each(|member| print(member, json));
        Ok(Done::Yes)
    }

    /// Completes "cannot ...".
    fn what(&self) -> String {
        match self {
            Self::List => "list the members".to_string(),
            Self::Add { address, .. } => format!("add a member at {address}"),
            Self::Remove { id } => format!("remove member {id}"),
            Self::Promote { id } => format!("promote member {id}"),
            Self::Move { id, .. } => format!("move member {id}"),
        }
    }

    /// The members afterwards.
    async fn ask(self, client: &Client, json: bool) -> Result<Vec<pb::Member>, KvError> {
        const METHOD: &str = "/etcdserverpb.Cluster/Member";
        Ok(match self {
            Self::List => {
                let request = pb::MemberListRequest { linearizable: true };
                let reply = client.once(&format!("{METHOD}List"), &request).await?;
                let pb::MemberListResponse { members, .. } = reply;
                members
            }
            Self::Add { address, learner } => {
                let request =
                    pb::MemberAddRequest { peer_ur_ls: vec![url(&address)], is_learner: learner };
                let reply: pb::MemberAddResponse =
                    client.once(&format!("{METHOD}Add"), &request).await?;
                if !json {
                    tell_next_step(&reply);
                }
                reply.members
            }
            Self::Remove { id } => {
                let request = pb::MemberRemoveRequest { id };
                let reply = client.once(&format!("{METHOD}Remove"), &request).await?;
                let pb::MemberRemoveResponse { members, .. } = reply;
                members
            }
            Self::Promote { id } => {
                let request = pb::MemberPromoteRequest { id };
                let reply = client.once(&format!("{METHOD}Promote"), &request).await?;
                let pb::MemberPromoteResponse { members, .. } = reply;
                members
            }
            Self::Move { id, address } => {
                let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![url(&address)] };
                let reply = client.once(&format!("{METHOD}Update"), &request).await?;
                let pb::MemberUpdateResponse { members, .. } = reply;
                members
            }
        })
    }
}

/// The API wants a scheme; whether there is TLS, the members' configuration says.
fn url(address: &str) -> String {
    if address.contains("://") { address.to_string() } else { format!("http://{address}") }
}

fn tell_next_step(reply: &pb::MemberAddResponse) {
    let id = reply.member.as_ref().map_or(0, |member| member.id);
    let cluster = reply.header.as_ref().map_or(0, |header| header.cluster_id);
    say(&format!(
        "added member {id}, which has not started. Next, on its machine:
  quorate format --dir DIR --cluster {cluster:x} --node {id}
  quorate serve --config serve.toml     with `join = true`, the present members, and itself"
    ));
}

fn value(member: &pb::Member) -> Value {
    json!({
        "id": member.id, "name": member.name, "peers": member.peer_ur_ls,
        "clients": member.client_ur_ls, "learner": member.is_learner, "started": !member.name.is_empty(),
    })
}

fn print(member: &pb::Member, json: bool) {
    if json {
        return tell(&value(member).to_string());
    }
    let role = if member.is_learner { "learner" } else { "voter" };
    let state = if member.name.is_empty() { "not started" } else { "started" };
    let (peers, clients) = (member.peer_ur_ls.join(","), member.client_ur_ls.join(","));
    tell(&format!("{:<4} {role:<8} {state:<12} members {peers}  clients {clients}", member.id));
}

fn explain(what: &str, error: KvError) -> Failure {
    let (kind, help) = match &error {
        KvError::Unreachable(_) => (
            Kind::Unreachable,
            "is the cluster running? --servers names it; look with `quorate member list` before trying again",
        ),
        KvError::Unknown | KvError::Refused(Refusal::Timeout) => (
            Kind::Unknown,
            "it may have happened: look with `quorate member list` before trying again",
        ),
        KvError::Refused(Refusal::Unhealthy | Refusal::MemberNotEnoughStarted) => (
            Kind::Refused,
            "nothing was changed: start the members that are down, or remove those that will not come back, first",
        ),
        KvError::Refused(Refusal::LearnerNotReady) => {
            (Kind::Refused, "nothing was changed: start it, and give it time to catch up")
        }
        KvError::Refused(Refusal::MemberNotFound) => {
            (Kind::Refused, "`quorate member list` shows the ids")
        }
        _ => (Kind::Refused, "nothing was changed"),
    };
    Failure::new(kind, what, error, help)
}
