//! Raft's five properties (Figure 3), checked after every step, and what follows from "durable before
//! acknowledged". The checks look at what one step changed, so that they cost little.

use std::collections::BTreeMap;
use std::fmt;

use quorate_contracts::{EntryId, LogIndex, NodeId, Record, Service, StateMachine, Term};
use quorate_raft::{Body, Message, Replica};

/// A property does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The property, by the paper's name where it has one.
    pub property: &'static str,
    /// What was seen, with the values.
    pub what: String,
}

/// `Election Safety: n1 and n3 both lead term 4`
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// Everything that the properties speak of, as a bystander who sees all servers knows it.
#[derive(Debug, Default)]
pub struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that any log ever held: the checksum of its data, and the entry before it.
    entries: BTreeMap<EntryId, (u32, EntryId)>,
    /// The committed entry at each index, and the term in which it was found committed.
    committed: Vec<(EntryId, Term)>,
    /// The digest of the state after each index that anyone stopped at.
    digests: BTreeMap<LogIndex, u64>,
    views: BTreeMap<NodeId, View>,
    /// Whom each server told in each term that it votes for it.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Terms in which somebody was elected.
    pub elections: u64,
}

/// What a server looked like after its last step.
#[derive(Clone, Copy, Debug, Default)]
struct View {
    term: Term,
    voted_for: Option<NodeId>,
    leads: bool,
    commit: LogIndex,
    applied: LogIndex,
    last: EntryId,
}

impl View {
    fn of<S: Service>(replica: &Replica<S>) -> Self {
        let raft = replica.raft();
        Self {
            term: raft.term(),
            voted_for: raft.hard_state().voted_for,
            leads: raft.is_leader(),
            commit: raft.commit(),
            applied: replica.applied().index,
            last: raft.last(),
        }
    }
}

type Checked = Result<(), Violation>;

fn violated(property: &'static str, what: String) -> Checked {
    Err(Violation { property, what })
}

impl Safety {
    /// Highest index known to be committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    /// A server started anew: it remembers what its disk does. **Log Matching**, of what it found there: each entry stands
    /// behind the one that it was written behind.
    pub fn started<S: Service>(&mut self, replica: &Replica<S>) -> Checked {
        let raft = replica.raft();
        // The term may go back to the durable one; nothing that depended on more has left it.
        self.views.insert(raft.node(), View::of(replica));
        let mut previous = raft.base();
        for index in (previous.index.0 + 1..=raft.last().index.0).map(LogIndex) {
            let id = EntryId::new(index, raft.term_at(index).unwrap_or(Term(0)));
            if self.entries.get(&id).is_some_and(|(_, known)| *known != previous) {
                let what = format!("{} starts with {id} behind {previous}", raft.node());
                return violated("Log Matching", what);
            }
            previous = id;
        }
        Ok(())
    }

    /// **One vote a term** (section 5.2): what a server told one candidate, it tells no other, whether
    /// it crashed in between or not. Asking for votes is voting for itself.
    pub(crate) fn leaves(&mut self, from: NodeId, to: NodeId, message: &Message) -> Checked {
        let candidate = match message.body {
            Body::Vote { pre_vote: false, granted: true } => to,
            Body::RequestVote { pre_vote: false, .. } => from,
            _ => return Ok(()),
        };
        let first = *self.votes.entry((from, message.term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        let what = format!("{from} votes for {candidate} in term {} after {first}", message.term);
        violated("One vote a term", what)
    }

    /// **Log Matching**: an entry is the same wherever it stands, and so is the one before it;
    /// hence, by induction, are all before it. **Leader Completeness**, seen from below: nobody removes a
    /// committed entry. Returns the terms of the first and the last entry that are removed, if any are.
    pub fn writes<S: Service>(
        &mut self,
        replica: &Replica<S>,
        record: &Record,
    ) -> Result<Option<(Term, Term)>, Violation> {
        let removed = match record.truncate_from {
            Some(from) => self.removes(replica.raft().node(), from)?,
            None => None,
        };
        let Some(first) = record.entries.first() else { return Ok(removed) };
        let before = LogIndex(first.id.index.0 - 1);
        let mut previous = EntryId::new(before, replica.raft().term_at(before).unwrap_or(Term(0)));
        for entry in &record.entries {
            let known = *self.entries.entry(entry.id).or_insert((entry.checksum, previous));
            if known != (entry.checksum, previous) {
                let node = replica.raft().node();
                let what = format!("{node} has another entry {} after {previous}", entry.id);
                return Err(Violation { property: "Log Matching", what });
            }
            previous = entry.id;
        }
        Ok(removed)
    }

    /// Walks back over what a server is about to remove.
    fn removes(&self, node: NodeId, from: LogIndex) -> Result<Option<(Term, Term)>, Violation> {
        let end = self.views.get(&node).map_or(EntryId::ZERO, |view| view.last);
        let mut first = None;
        let mut id = end;
        while id.index >= from && id.index > LogIndex::ZERO {
            if self.committed.get(id.index.0 as usize - 1).is_some_and(|(known, _)| *known == id) {
                let what = format!("{node} removes the committed {id}");
                return Err(Violation { property: "Leader Completeness", what });
            }
            first = Some(id.term);
            let Some((_, previous)) = self.entries.get(&id) else { break };
            id = *previous;
        }
        Ok(first.map(|first| (first, end.term)))
    }

    /// Looks at a server after its step. `durable_on_majority` is asked of each newly committed
    /// entry.
    pub fn stepped<S: Service>(
        &mut self,
        replica: &Replica<S>,
        durable_on_majority: impl Fn(EntryId) -> bool,
    ) -> Checked {
        let raft = replica.raft();
        let node = raft.node();
        let before = self.views.get(&node).copied().unwrap_or_default();
        let view = View::of(replica);
        nothing_goes_back(node, &before, &view)?;
        if view.leads {
            self.leads(replica, &before, &view)?;
        }
        if view.commit > before.commit {
            self.commits(replica, view.commit, durable_on_majority)?;
        }
        if view.applied > before.applied {
            self.applies(node, view.applied, replica.machine().digest())?;
        }
        self.views.insert(node, view);
        Ok(())
    }

    fn leads<S: Service>(&mut self, replica: &Replica<S>, before: &View, view: &View) -> Checked {
        let raft = replica.raft();
        let node = raft.node();
        if before.leads && before.term == view.term {
            return leader_append_only(replica, before, view);
        }
        let leader = *self.leaders.entry(view.term).or_insert(node);
        if leader != node {
            let what = format!("{leader} and {node} both lead term {}", view.term);
            return violated("Election Safety", what);
        }
        self.elections += 1;
        // A server that was stopped while its votes came may win a term that is long over: it needs only
        // what was committed in terms before its own.
        let earlier = self.committed.iter().rev().find(|(_, in_term)| *in_term < view.term);
        let Some((newest, _)) = earlier else { return Ok(()) };
        if raft.base().index >= newest.index || raft.term_at(newest.index) == Some(newest.term) {
            return Ok(());
        }
        let what = format!("{node} leads term {} without the committed {newest}", view.term);
        violated("Leader Completeness", what)
    }

    /// **State Machine Safety**, for what is committed: no index is committed twice differently. The first
    /// to know must know it of a durable majority.
    fn commits<S: Service>(
        &mut self,
        replica: &Replica<S>,
        commit: LogIndex,
        durable_on_majority: impl Fn(EntryId) -> bool,
    ) -> Checked {
        let raft = replica.raft();
        let node = raft.node();
        let known = self.committed.len() as u64;
        // An older part was compared when it was committed; only a server's own news need looking at,
        // and its last entry stands for all before it (Log Matching).
        for index in (known + 1..=commit.0).map(LogIndex) {
            let Some(term) = raft.term_at(index) else {
                let what = format!("{node} commits {index}, which it does not have");
                return violated("State Machine Safety", what);
            };
            let id = EntryId::new(index, term);
            self.committed.push((id, raft.term()));
            if index == commit && !durable_on_majority(id) {
                let what = format!("{node} commits {id}, which is not durable on a majority");
                return violated("Durable before committed", what);
            }
        }
        let (id, _) = self.committed[commit.0 as usize - 1];
        if raft.base().index < commit && raft.term_at(commit) != Some(id.term) {
            let what = format!("{node} commits {commit}@{:?}, others {id}", raft.term_at(commit));
            return violated("State Machine Safety", what);
        }
        Ok(())
    }

    /// **State Machine Safety**: whoever applied the same entries has the same state.
    fn applies(&mut self, node: NodeId, applied: LogIndex, digest: u64) -> Checked {
        if applied > self.committed() {
            return violated(
                "State Machine Safety",
                format!("{node} applied {applied} uncommitted"),
            );
        }
        let known = *self.digests.entry(applied).or_insert(digest);
        if known != digest {
            let what = format!("{node} has digest {digest:x} after {applied}, another {known:x}");
            return violated("State Machine Safety", what);
        }
        Ok(())
    }
}

/// **Leader Append-Only**: a leader never removes or replaces an entry of its log.
fn leader_append_only<S: Service>(replica: &Replica<S>, before: &View, view: &View) -> Checked {
    let raft = replica.raft();
    let kept = raft.base().index >= before.last.index
        || raft.term_at(before.last.index) == Some(before.last.term);
    if view.last.index >= before.last.index && kept {
        return Ok(());
    }
    let what = format!("{} leads and replaced {} by {}", raft.node(), before.last, view.last);
    violated("Leader Append-Only", what)
}

/// Term, commit and applied index never go back while a server lives.
fn nothing_goes_back(node: NodeId, before: &View, view: &View) -> Checked {
    for (name, was, is) in [
        ("term", before.term.0, view.term.0),
        ("commit index", before.commit.0, view.commit.0),
        ("applied index", before.applied.0, view.applied.0),
    ] {
        if is < was {
            return violated("Monotony", format!("{node}: {name} went back from {was} to {is}"));
        }
    }
    match (before.voted_for, view.voted_for) {
        (Some(was), is) if before.term == view.term && is != Some(was) => {
            let what = format!("{node}: its vote in term {} went from {was} to {is:?}", view.term);
            violated("Monotony", what)
        }
        _ => Ok(()),
    }
}
