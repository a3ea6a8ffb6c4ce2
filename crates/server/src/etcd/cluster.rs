//! The Cluster calls: members are those of the node, for all its services, and change through [`Enrolment`]; here is what
//! etcd asks for before it changes any, and in which words it refuses.
//!
//! A member that was added is listed without a name until it has started. It votes once it has caught up: until then the
//! others decide alone, where etcd would count it at once.
//!
//! Ids are small numbers, as operators write them into configurations: one that is added gets the next above all listed.
//!
//! [`Enrolment`]: crate::registry::Enrolment

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::NodeId;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{Context, Request};
use quorate_etcd::{Code, Refusal};
use quorate_roster::{Change, Edit, List, Member, NotChanged, Roster};

use super::about::probe;
use super::listen::Api;
use crate::registry::{Goal, Progress};
use crate::zookeeper;

/// What a member publishes for etcd's clients stands under this name: where it listens, or nothing if it does not. One that
/// publishes nothing has not started yet.
pub(crate) const PUBLISHED: &str = "etcd";

/// Members that learn at a time, as etcd allows.
const LEARNERS_MAX: usize = 1;
/// Somebody else's change may take so many looks until it is over.
const LOOKS: usize = 50;
const LOOK: Duration = Duration::from_millis(100);

/// How addresses are written.
pub(super) struct Schemes {
    /// Of members for each other.
    pub(super) peer: &'static str,
    /// Of members for clients.
    pub(super) client: &'static str,
}

/// What a caller wants of the members.
enum Wish {
    Add { address: String, learner: bool },
    Remove(NodeId),
    Update { id: NodeId, address: String },
    Promote(NodeId),
}

/// What decides whether a wish may come true.
struct Facts<'a> {
    members: &'a List,
    /// Those that are there, this node among them.
    alive: BTreeSet<NodeId>,
}

impl Facts<'_> {
    fn voters(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter().filter(|(_, member)| member.votes)
    }

    fn member(&self, id: NodeId) -> Result<&Member, Refusal> {
        self.members.get(&id).ok_or(Refusal::MemberNotFound)
    }

    fn next_id(&self) -> NodeId {
        NodeId(self.members.keys().next_back().map_or(0, |id| id.0) + 1)
    }

    /// Nobody else may be at that address.
    fn is_free(&self, address: &str, but: Option<NodeId>) -> Result<(), Refusal> {
        let mut others = self.members.iter().filter(|(id, _)| Some(**id) != but);
        let taken = others.any(|(_, member)| member.address == address);
        if taken { Err(Refusal::PeerUrlExists) } else { Ok(()) }
    }

    /// As etcd's strict check of reconfigurations, for one more voter.
    fn may_grow(&self) -> Result<(), Refusal> {
        let started = self.voters().filter(|(_, member)| has_started(member)).count();
        let voters = self.voters().count() + 1;
        let is_first = started == 1 && voters == 2;
        if !is_first && started < voters / 2 + 1 {
            return Err(Refusal::MemberNotEnoughStarted);
        }
        let all_are_there = self.voters().all(|(id, _)| self.alive.contains(id));
        if all_are_there { Ok(()) } else { Err(Refusal::Unhealthy) }
    }

    /// The same for one voter less.
    fn may_shrink(&self, leaving: NodeId) -> Result<(), Refusal> {
        let rest = || self.voters().filter(|(id, _)| **id != leaving);
        let quorum = rest().count() / 2 + 1;
        if rest().filter(|(_, member)| has_started(member)).count() < quorum {
            return Err(Refusal::MemberNotEnoughStarted);
        }
        let there = rest().filter(|(id, _)| self.alive.contains(id)).count();
        // Who is away takes nothing from those who are there.
        if self.alive.contains(&leaving) && there < quorum {
            return Err(Refusal::Unhealthy);
        }
        Ok(())
    }

    /// What is to be changed, and when that is done.
    fn judge(&self, wish: &Wish) -> Result<(Edit, Goal), Refusal> {
        match wish {
            Wish::Add { address, learner } => {
                self.is_free(address, None)?;
                let learners = self.members.len() - self.voters().count();
                if *learner && learners >= LEARNERS_MAX {
                    return Err(Refusal::TooManyLearners);
                }
                if !learner {
                    self.may_grow()?;
                }
                let address = address.clone();
                let member = Member { votes: !learner, address, ..Member::default() };
                Ok((joins(self.next_id(), member), Goal::Listed))
            }
            Wish::Remove(id) => {
                if self.member(*id)?.votes {
                    self.may_shrink(*id)?;
                }
                let leaving = [*id].into();
                Ok((Edit::Merge { joining: List::new(), leaving }, Goal::Listed))
            }
            Wish::Update { id, address } => {
                let member = self.member(*id)?;
                self.is_free(address, Some(*id))?;
                Ok((joins(*id, moved(member, address)), Goal::Listed))
            }
            Wish::Promote(id) => {
                let member = self.member(*id)?;
                if member.votes {
                    return Err(Refusal::MemberNotLearner);
                }
                if !has_started(member) || !self.alive.contains(id) {
                    return Err(Refusal::LearnerNotReady);
                }
                Ok((joins(*id, Member { votes: true, ..member.clone() }), Goal::Complete))
            }
        }
    }
}

fn joins(id: NodeId, member: Member) -> Edit {
    Edit::Merge { joining: List::from([(id, member)]), leaving: BTreeSet::new() }
}

/// The member at another address; what ZooKeeper's clients read of it follows.
fn moved(member: &Member, address: &str) -> Member {
    let mut moved = Member { address: address.to_string(), ..member.clone() };
    if let Some(line) = moved.published.get_mut(zookeeper::PUBLISHED)
        && let Some(rest) = line.strip_prefix(&format!("{}:", member.address))
    {
        *line = format!("{address}:{rest}");
    }
    moved
}

fn has_started(member: &Member) -> bool {
    member.published.contains_key(PUBLISHED)
}

/// `host:port` of the one URL under which a member is to be found.
fn address(urls: &[String]) -> Result<String, Refusal> {
    let [url] = urls else { return Err(Refusal::MemberBadUrls) };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let address = rest.ok_or(Refusal::MemberBadUrls)?.trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').ok_or(Refusal::MemberBadUrls)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    if is_port && is_host { Ok(address.to_string()) } else { Err(Refusal::MemberBadUrls) }
}

/// A refusal as etcd's Cluster calls send it: of this one etcd sends the words, and no code of its own.
fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::MemberNotEnoughStarted => Status::new(Code::Unknown, refusal.text()),
        _ => refusal.into(),
    }
}

fn not_changed(reason: NotChanged, goal: Goal) -> Status {
    match reason {
        NotChanged::NoQuorum if goal == Goal::Complete => Refusal::LearnerNotReady.into(),
        NotChanged::NoQuorum => Refusal::Unhealthy.into(),
        NotChanged::Meaningless => Status::new(Code::FailedPrecondition, reason.to_string()),
        NotChanged::OtherVersion | NotChanged::InProgress | NotChanged::Unknown => {
            Refusal::Timeout.into()
        }
    }
}

impl Schemes {
    fn member(&self, id: NodeId, member: &Member) -> pb::Member {
        let clients = member.published.get(PUBLISHED);
        let url = |address: &String| format!("{}://{address}", self.client);
        pb::Member {
            id: id.0,
            name: clients.map_or(String::new(), |_| id.to_string()),
            peer_ur_ls: vec![format!("{}://{}", self.peer, member.address)],
            client_ur_ls: clients.filter(|at| !at.is_empty()).map(url).into_iter().collect(),
            is_learner: !member.votes,
        }
    }

    fn members(&self, roster: &Roster) -> Vec<pb::Member> {
        roster.members.iter().map(|(id, member)| self.member(*id, member)).collect()
    }
}

impl Api {
    pub(super) async fn member_list(
        &self,
        context: &Context,
        request: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, Status> {
        if request.linearizable {
            // Whoever asks for that wants to know that this member is not cut off.
            self.desk.call(context, Request::Range(probe())).await?;
        }
        let header = self.cluster_header().await?;
        Ok(pb::MemberListResponse { header, members: self.members().await? })
    }

    /// The members as this one knows them.
    pub(super) async fn members(&self) -> Result<Vec<pb::Member>, Status> {
        let now = self.about.enrolment.now().await.map_err(|_| Refusal::Stopped)?;
        Ok(self.about.schemes.members(&now.roster))
    }

    pub(super) async fn member_add(
        &self,
        context: &Context,
        request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Status> {
        let address = address(&request.peer_ur_ls)?;
        let wish = Wish::Add { address: address.clone(), learner: request.is_learner };
        let roster = self.change_members(context, &wish).await?;
        let member = roster.members.iter().find(|(_, member)| member.address == address);
        let member = member.map(|(id, member)| self.about.schemes.member(*id, member));
        let (header, members) = (self.cluster_header().await?, self.about.schemes.members(&roster));
        Ok(pb::MemberAddResponse { header, member, members })
    }

    pub(super) async fn member_remove(
        &self,
        context: &Context,
        request: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, Status> {
        let roster = self.change_members(context, &Wish::Remove(NodeId(request.id))).await?;
        let members = self.about.schemes.members(&roster);
        Ok(pb::MemberRemoveResponse { header: self.cluster_header().await?, members })
    }

    pub(super) async fn member_update(
        &self,
        context: &Context,
        request: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        let address = address(&request.peer_ur_ls)?;
        let wish = Wish::Update { id: NodeId(request.id), address };
        let roster = self.change_members(context, &wish).await?;
        let members = self.about.schemes.members(&roster);
        Ok(pb::MemberUpdateResponse { header: self.cluster_header().await?, members })
    }

    pub(super) async fn member_promote(
        &self,
        context: &Context,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, Status> {
        let roster = self.change_members(context, &Wish::Promote(NodeId(request.id))).await?;
        let members = self.about.schemes.members(&roster);
        Ok(pb::MemberPromoteResponse { header: self.cluster_header().await?, members })
    }

    /// Replies about the cluster carry no revision.
    async fn cluster_header(&self) -> Result<Option<pb::ResponseHeader>, Status> {
        let (_, group) = self.node_status().await?;
        Ok(self.about.header(group.term, 0))
    }

    /// Makes a wish come true, after other changes that are under way.
    async fn change_members(&self, context: &Context, wish: &Wish) -> Result<Roster, Status> {
        self.check_admin(context).await?;
        for _ in 0..LOOKS {
            let now = self.about.enrolment.now().await.map_err(|_| Refusal::Stopped)?;
            let Progress { roster, connected: mut alive, .. } = now;
            alive.insert(self.about.node);
            let facts = Facts { members: &roster.members, alive };
            let (edit, goal) = facts.judge(wish).map_err(refused)?;
            let change = Change { from: Some(roster.version), edit };
            match self.about.enrolment.change(change, goal).await {
                Ok(roster) => return Ok(roster),
                Err(NotChanged::OtherVersion | NotChanged::InProgress) => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(reason) => return Err(not_changed(reason, goal)),
            }
        }
        Err(Refusal::Timeout.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by what they are: `v` votes and `l` learns; `-` has not started.
    fn members(text: &str) -> List {
        let member = |(i, word): (usize, &str)| {
            let (id, address) = (NodeId(i as u64 + 1), format!("h{}:1", i + 1));
            let mut member = Member { votes: word.starts_with('v'), address, ..Member::default() };
            if !word.ends_with('-') {
                member.published.insert(PUBLISHED.to_string(), format!("c{}:2", id.0));
            }
            (id, member)
        };
        text.split_whitespace().enumerate().map(member).collect()
    }

    fn judge(text: &str, alive: &[u64], wish: &Wish) -> Result<Edit, Refusal> {
        let members = members(text);
        let alive = alive.iter().copied().map(NodeId).collect();
        Facts { members: &members, alive }.judge(wish).map(|(edit, _)| edit)
    }

    fn add(host: u64, learner: bool) -> Wish {
        Wish::Add { address: format!("h{host}:1"), learner }
    }

    /// KV-9: what would lose the quorum, and what makes no sense, is refused as etcd's strict check does.
    #[test]
    fn changes_are_refused_as_etcd_refuses_them() {
        let move_to = |id, host| Wish::Update { id: NodeId(id), address: format!("h{host}:1") };
        let remove = |id| Wish::Remove(NodeId(id));
        let promote = |id| Wish::Promote(NodeId(id));
        for (text, alive, wish, expected) in [
            ("v", &[1][..], add(9, false), None),
            ("v", &[1], add(9, true), None),
            ("v v v", &[1, 2, 3], add(9, false), None),
            ("v v v", &[1, 2, 3], add(2, false), Some(Refusal::PeerUrlExists)),
            ("v v v", &[1, 2], add(9, false), Some(Refusal::Unhealthy)),
            ("v v-", &[1], add(9, false), Some(Refusal::MemberNotEnoughStarted)),
            ("v v v l-", &[1, 2, 3], add(9, true), Some(Refusal::TooManyLearners)),
            ("v v v l-", &[1, 2], add(9, false), Some(Refusal::Unhealthy)),
            ("v v v", &[1, 2, 3], remove(3), None),
            ("v v v", &[1, 2], remove(3), None),
            ("v v v", &[1, 2], remove(2), Some(Refusal::Unhealthy)),
            ("v v v", &[1, 2, 3], remove(9), Some(Refusal::MemberNotFound)),
            ("v", &[1], remove(1), Some(Refusal::MemberNotEnoughStarted)),
            ("v v-", &[1], remove(1), Some(Refusal::MemberNotEnoughStarted)),
            ("v v-", &[1], remove(2), None),
            ("v l-", &[1], remove(2), None),
            ("v v", &[1, 2], move_to(2, 9), None),
            ("v v", &[1, 2], move_to(2, 2), None),
            ("v v", &[1, 2], move_to(2, 1), Some(Refusal::PeerUrlExists)),
            ("v v", &[1, 2], move_to(3, 9), Some(Refusal::MemberNotFound)),
            ("v l", &[1, 2], promote(2), None),
            ("v l", &[1, 2], promote(1), Some(Refusal::MemberNotLearner)),
            ("v l", &[1], promote(2), Some(Refusal::LearnerNotReady)),
            ("v l-", &[1], promote(2), Some(Refusal::LearnerNotReady)),
        ] {
            assert_eq!(judge(text, alive, &wish).err(), expected, "{text} {alive:?}");
        }
        let status = refused(Refusal::MemberNotEnoughStarted);
        assert_eq!(
            (status.code, refused(Refusal::Unhealthy).code),
            (Code::Unknown, Code::Unavailable)
        );
    }

    /// KV-9: one that was added has an id of its own, and no name before it has started.
    #[test]
    fn an_added_member_is_listed_without_a_name() {
        let edit = judge("v v", &[1, 2], &add(9, true));
        let joining =
            List::from([(NodeId(3), Member { address: "h9:1".into(), ..Member::default() })]);
        assert_eq!(edit, Ok(Edit::Merge { joining: joining.clone(), leaving: BTreeSet::new() }));
        let mut all = members("v");
        all.extend(joining);
        let schemes = Schemes { peer: "https", client: "http" };
        let listed = schemes.members(&Roster { members: all, ..Roster::default() });
        let member = |id, name: &str, peer: &str, client: &[&str], is_learner| pb::Member {
            id,
            name: name.into(),
            peer_ur_ls: vec![peer.into()],
            client_ur_ls: client.iter().map(|url| url.to_string()).collect(),
            is_learner,
        };
        let expected = [
            member(1, "n1", "https://h1:1", &["http://c1:2"], false),
            member(3, "", "https://h9:1", &[], true),
        ];
        assert_eq!(listed, expected);
    }

    /// KV-9: a member is found under one URL, with a scheme and a port.
    #[test]
    fn urls_of_members() {
        let good = [("http://h:1", "h:1"), ("https://[::1]:7400/", "[::1]:7400")];
        for (url, expected) in good {
            assert_eq!(address(&[url.to_string()]), Ok(expected.to_string()));
        }
        for url in ["h:1", "http://h", "http://h:0", "http://:1", "http://h:1/x", "ftp://h:1", ""] {
            assert_eq!(address(&[url.to_string()]), Err(Refusal::MemberBadUrls), "{url}");
        }
        assert_eq!(address(&[]), Err(Refusal::MemberBadUrls));
        let two = ["http://h:1", "http://h:2"].map(str::to_string);
        assert_eq!(address(&two), Err(Refusal::MemberBadUrls));
    }

    /// ZK-18: ZooKeeper's clients read the new address, whoever changed it.
    #[test]
    fn a_member_moves_for_all_services() {
        let line = "h1:1:2:participant;c1:3".to_string();
        let published = [(zookeeper::PUBLISHED.to_string(), line)].into();
        let member = Member { address: "h1:1".into(), votes: true, published };
        let moved = moved(&member, "new:7");
        assert_eq!(moved.published[zookeeper::PUBLISHED], "new:7:2:participant;c1:3");
        assert_eq!(moved.address, "new:7");
    }
}
