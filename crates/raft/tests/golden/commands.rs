//! The commands of a script. `nI` is a server; what is in brackets may be left out.
//!
//! ```text
//! set NAME=NUMBER ...         before `cluster`: bounds (append_bytes, window_messages, trailing_entries, ...)
//! given nI term=T log=1,1,4*3 before `cluster`: what is on a server's disk (here: terms 1 1 4 4 4)
//! cluster nI ... [spare nJ ...]  a new cluster of these voters; spare servers know of them and do not vote
//! reset                       the same cluster from the beginning
//! campaign nI                 nI's election timeout ends; the others have not heard a leader for the shortest one
//! elect nI                    campaign, settle, and nI must lead
//! timeout nI                  nI's next timer fires, whatever the others think
//! propose nI WORD ...         a client of nI proposes commands
//! read nI NUMBER ...          clients of nI read, under these numbers
//! transfer nI [nJ]            nI is asked to hand leadership over (to nJ)
//! change nI nJ ... [learners nK ...]  nI is asked to make these the voters (and learners)
//! settle                      until nothing is on its way; no time passes
//! deliver [N]                 one trip (or N) of everything on its way
//! wait MILLIS [nI ...]        time passes for all (or for those only); timers fire, messages arrive
//! partition nI ... | nJ ...   nothing passes between the sides
//! cut nI nJ                   nothing from nI reaches nJ
//! heal                        everything passes again
//! drop [nI nJ]                what is on its way (from nI to nJ) is lost
//! delay nI nJ                 ... is held back; `arrive` lets it come
//! double                      everything on its way arrives twice
//! lose nI nJ                  nI sees its connection to nJ close
//! hold nI / release nI        nI's disk makes nothing durable / does again
//! room nI enough|little|reserve  what room nI's disk has for the log
//! crash nI / restart nI       the process dies (nobody notices) / starts from its disk
//! rot nI FIRST [LAST]         the data of these entries rots on the disk of nI, which is down
//! forget nI FIRST             ... or all from this one on is lost, with all that was known of it
//! revert nI FIRST             ... and nobody knows it
//! wipe nI                     ... or its disk is a new one, and nobody tells it so
//! snapshot nI [bytes=N] [at=I]  nI takes a snapshot of this size, up to what is committed or to index I
//! status                      one line a server
//! count                       messages delivered since the last count
//! messages on / off           every message is told when it arrives
//! quietly COMMAND             carries it out, and tells nothing of it
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{HardState, Input, LogIndex, NodeId, Process, RequestId, Room, Term, Time};
use quorate_raft::{Lease, Members, Request, RoleName};

use crate::cluster::{Cluster, Given, InFlight, Setting};
use crate::disk::Disk;
use crate::event::{self, View};

/// Carries out a script.
#[derive(Default)]
pub(crate) struct Runner {
    setting: Setting,
    servers: Vec<NodeId>,
    cluster: Cluster,
}

type Done = Result<(), String>;

impl Runner {
    /// What was told since the last time.
    pub(crate) fn take_output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cluster.output)
    }

    /// Carries out one command.
    pub(crate) fn run(&mut self, command: &str) -> Done {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = words.split_first().ok_or("an empty command")?;
        match *verb {
            "set" => rest.iter().try_for_each(|word| self.set(word)),
            "given" => self.given(rest),
            "cluster" => self.start(rest),
            "reset" => self.reset(),
            "status" => self.status(),
            "campaign" => self.campaign(node(rest, 0)?),
            "elect" => self.elect(node(rest, 0)?),
            "quietly" => {
                let told = self.take_output();
                self.run(&rest.join(" "))?;
                self.cluster.output = told;
                Ok(())
            }
            "messages" => {
                self.cluster.setting.show_messages = rest == ["on"];
                Ok(())
            }
            _ => self.run_on_cluster(verb, rest),
        }
    }

    fn run_on_cluster(&mut self, verb: &str, rest: &[&str]) -> Done {
        let cluster = &mut self.cluster;
        match verb {
            "timeout" => time_out(cluster, node(rest, 0)?),
            "propose" => propose(cluster, node(rest, 0)?, &rest[1..]),
            "read" => read(cluster, node(rest, 0)?, &rest[1..]),
            "transfer" => {
                let to = rest.get(1).map(|word| parse_node(word)).transpose()?;
                cluster.request(node(rest, 0)?, Request::Transfer(to))
            }
            "change" => change(cluster, node(rest, 0)?, &rest[1..]),
            "settle" => cluster.settle(),
            "deliver" => deliver(cluster, rest),
            "wait" => {
                let whose = if rest.len() > 1 { nodes(&rest[1..])? } else { cluster.up() };
                cluster.wait(Duration::from_millis(number(rest, 0)?), &whose)
            }
            "partition" => partition(cluster, rest),
            "cut" => cut(cluster, node(rest, 0)?, node(rest, 1)?),
            "heal" => heal(cluster),
            "drop" => drop_messages(cluster, rest),
            "delay" => delay(cluster, node(rest, 0)?, node(rest, 1)?),
            "arrive" => arrive(cluster),
            "double" => double(cluster),
            "lose" => lose(cluster, node(rest, 0)?, node(rest, 1)?),
            "hold" | "release" => hold(cluster, node(rest, 0)?, verb == "hold"),
            "room" => room(cluster, node(rest, 0)?, rest.get(1).copied()),
            "crash" => cluster.crash(node(rest, 0)?),
            "restart" => restart(cluster, node(rest, 0)?),
            "rot" | "forget" | "revert" | "wipe" => spoil(cluster, verb, rest),
            "snapshot" => snapshot(cluster, rest),
            "count" => count(cluster),
            _ => Err("there is no such command".to_string()),
        }
    }

    fn set(&mut self, word: &str) -> Done {
        let (name, value) = word.split_once('=').ok_or("expected NAME=NUMBER")?;
        let value: usize = value.parse().map_err(|_| "expected a number")?;
        let limits = &mut self.setting.limits;
        match name {
            "append_bytes" => limits.append_bytes = value,
            "promotion_lag" => limits.promotion_lag = value as u64,
            "window_messages" => limits.window_messages = value,
            "window_bytes" => limits.window_bytes = value,
            "memory_bytes" => limits.memory_bytes = value,
            "uncommitted_bytes" => limits.uncommitted_bytes = value,
            "trailing_entries" => limits.trailing_entries = value as u64,
            "snapshot_piece_bytes" => limits.snapshot_piece_bytes = value,
            "hibernate_ms" => {
                self.setting.timing.hibernate_after = Some(Duration::from_millis(value as u64));
            }
            "reads" => limits.reads = value,
            "lease_drift_ppm" => self.setting.lease = Some(Lease { drift_ppm: value as u32 }),
            "tail_entries" => self.setting.tail_entries = value,
            _ => return Err(format!("there is no setting {name}")),
        }
        Ok(())
    }

    fn given(&mut self, rest: &[&str]) -> Done {
        let mut given = Given::default();
        for word in &rest[1..] {
            let (name, value) = word.split_once('=').ok_or("expected NAME=VALUE")?;
            match name {
                "term" => given.hard_state.term = Term(parse(value)?),
                "vote" => given.hard_state.voted_for = Some(parse_node(value)?),
                "log" => given.terms = parse_terms(value)?,
                _ => return Err(format!("nothing is given by {name}")),
            }
        }
        // A log implies at least the term of its last entry.
        let HardState { term, .. } = &mut given.hard_state;
        *term = (*term).max(Term(given.terms.last().copied().unwrap_or(0)));
        self.setting.given.insert(node(rest, 0)?, given);
        Ok(())
    }

    fn start(&mut self, rest: &[&str]) -> Done {
        let mut sides = rest.split(|word| *word == "spare");
        self.setting.voters = nodes(sides.next().unwrap_or_default())?;
        self.servers = self.setting.voters.clone();
        self.servers.extend(nodes(sides.next().unwrap_or_default())?);
        self.reset()
    }

    fn reset(&mut self) -> Done {
        let output = self.take_output();
        self.cluster = Cluster::start(self.setting.clone(), &self.servers);
        // What was told before stays told; a start tells nothing.
        self.cluster.output = output;
        Ok(())
    }

    fn status(&mut self) -> Done {
        let ids: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        for id in ids {
            let line = match self.cluster.raft(id) {
                Ok(raft) => {
                    let (view, log) = (View::of(raft).to_string(), event::log(raft));
                    let missing = raft.missing().map_or(String::new(), |missing| {
                        let stranded = if raft.is_stranded() { ", stranded" } else { "" };
                        format!("  ({missing}{stranded})")
                    });
                    format!("{view:16}  commit {}  log {log}{missing}", raft.commit())
                }
                Err(_) => "down".to_string(),
            };
            self.cluster.tell(id, line);
        }
        Ok(())
    }

    /// The others have heard no leader for the shortest election timeout, so that they protect none;
    /// their own timers do not end.
    fn campaign(&mut self, id: NodeId) -> Done {
        let patience = self.cluster.setting.timing.election_min;
        for (other, node) in &mut self.cluster.nodes {
            let Some(raft) = node.raft.as_ref().filter(|raft| *other != id && !raft.is_leader())
            else {
                continue;
            };
            let end = raft.deadline().map(|(at, _)| Time::from_nanos(at.as_nanos() - 1));
            let later = node.clock + patience;
            node.clock = end.map_or(later, |end| later.min(end)).max(node.clock);
        }
        time_out(&mut self.cluster, id)
    }

    fn elect(&mut self, id: NodeId) -> Done {
        self.campaign(id)?;
        self.cluster.settle()?;
        match self.cluster.raft(id)?.role() {
            RoleName::Leader => Ok(()),
            role => Err(format!("{id} is {role:?}")),
        }
    }
}

fn time_out(cluster: &mut Cluster, id: NodeId) -> Done {
    let (at, _) = cluster.raft(id)?.deadline().ok_or("it has no timer")?;
    let node = cluster.node_mut(id)?;
    node.clock = node.clock.max(at);
    cluster.step(id, Input::Wake);
    cluster.work_locally();
    Ok(())
}

fn propose(cluster: &mut Cluster, id: NodeId, commands: &[&str]) -> Done {
    let commands = commands.iter().map(|word| Bytes::from((*word).to_string())).collect();
    cluster.request(id, Request::Propose(commands))
}

fn change(cluster: &mut Cluster, id: NodeId, rest: &[&str]) -> Done {
    let mut sides = rest.split(|word| *word == "learners");
    let voters = nodes(sides.next().unwrap_or_default())?.into_iter().collect();
    let learners = nodes(sides.next().unwrap_or_default())?.into_iter().collect();
    cluster.request(id, Request::ChangeMembers(Members { voters, learners }))
}

/// They arrive together: one batch.
fn read(cluster: &mut Cluster, id: NodeId, numbers: &[&str]) -> Done {
    cluster.raft(id)?;
    for number in numbers {
        cluster.step(id, Input::Requested(Request::Read(RequestId(parse(number)?))));
    }
    cluster.work_locally();
    Ok(())
}

fn deliver(cluster: &mut Cluster, rest: &[&str]) -> Done {
    let trips = if rest.is_empty() { 1 } else { number(rest, 0)? };
    (0..trips).for_each(|_| {
        cluster.deliver();
    });
    Ok(())
}

fn partition(cluster: &mut Cluster, rest: &[&str]) -> Done {
    let sides: Vec<Vec<NodeId>> =
        rest.split(|word| *word == "|").map(nodes).collect::<Result<_, _>>()?;
    for (number, side) in sides.iter().enumerate() {
        for others in sides.iter().skip(number + 1) {
            for (a, b) in side.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))) {
                cluster.cut.extend([(a, b), (b, a)]);
            }
        }
    }
    Ok(())
}

fn cut(cluster: &mut Cluster, from: NodeId, to: NodeId) -> Done {
    cluster.cut.insert((from, to));
    Ok(())
}

fn heal(cluster: &mut Cluster) -> Done {
    cluster.cut = BTreeSet::new();
    Ok(())
}

fn drop_messages(cluster: &mut Cluster, rest: &[&str]) -> Done {
    if rest.is_empty() {
        cluster.in_flight.clear();
        return Ok(());
    }
    let (from, to) = (node(rest, 0)?, node(rest, 1)?);
    cluster.in_flight.retain(|m| (m.from, m.to) != (from, to));
    Ok(())
}

fn delay(cluster: &mut Cluster, from: NodeId, to: NodeId) -> Done {
    let all = std::mem::take(&mut cluster.in_flight);
    let (late, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|m| (m.from, m.to) == (from, to));
    if late.is_empty() {
        return Err("nothing is on that way".to_string());
    }
    cluster.delayed.extend(late);
    cluster.in_flight = rest.into();
    Ok(())
}

fn arrive(cluster: &mut Cluster) -> Done {
    for message in std::mem::take(&mut cluster.delayed) {
        cluster.arrive(message);
    }
    cluster.work_locally();
    Ok(())
}

fn double(cluster: &mut Cluster) -> Done {
    let again: Vec<_> = cluster
        .in_flight
        .iter()
        .map(|m| InFlight { from: m.from, to: m.to, message: m.message.clone() })
        .collect();
    cluster.in_flight.extend(again);
    Ok(())
}

fn lose(cluster: &mut Cluster, id: NodeId, member: NodeId) -> Done {
    cluster.raft(id)?;
    cluster.step(id, Input::MemberLost { member });
    Ok(())
}

fn hold(cluster: &mut Cluster, id: NodeId, held: bool) -> Done {
    cluster.node_mut(id)?.disk.held = held;
    cluster.work_locally();
    Ok(())
}

fn room(cluster: &mut Cluster, id: NodeId, room: Option<&str>) -> Done {
    let room = match room {
        Some("enough") => Room::Enough,
        Some("little") => Room::Little,
        Some("reserve") => Room::Reserve,
        _ => return Err("expected enough, little or reserve".to_string()),
    };
    cluster.raft(id)?;
    cluster.step(id, Input::Room(room));
    cluster.work_locally();
    Ok(())
}

fn restart(cluster: &mut Cluster, id: NodeId) -> Done {
    if cluster.raft(id).is_ok() {
        return Err("it is up".to_string());
    }
    cluster.restart(id);
    Ok(())
}

/// What was durable does not read any more.
fn spoil(cluster: &mut Cluster, verb: &str, rest: &[&str]) -> Done {
    let id = node(rest, 0)?;
    if cluster.raft(id).is_ok() {
        return Err("it is up".to_string());
    }
    let disk = &mut cluster.node_mut(id)?.disk;
    match verb {
        "rot" => {
            let first = number(rest, 1)?;
            disk.rot(
                LogIndex(first),
                LogIndex(if rest.len() > 2 { number(rest, 2)? } else { first }),
            );
        }
        "forget" => disk.forget(LogIndex(number(rest, 1)?)),
        "revert" => disk.revert(LogIndex(number(rest, 1)?)),
        _ => *disk = Disk::default(),
    }
    Ok(())
}

fn snapshot(cluster: &mut Cluster, rest: &[&str]) -> Done {
    let id = node(rest, 0)?;
    let (mut bytes, mut at) = (10, cluster.raft(id)?.commit().0);
    for word in &rest[1..] {
        match word.split_once('=') {
            Some(("bytes", value)) => bytes = parse(value)?,
            Some(("at", value)) => at = parse(value)?,
            _ => return Err("expected bytes=N or at=I".to_string()),
        }
    }
    cluster.take_snapshot(id, LogIndex(at), &"s".repeat(bytes as usize))
}

fn count(cluster: &mut Cluster) -> Done {
    let counts = std::mem::take(&mut cluster.delivered);
    let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    cluster.output.push(if parts.is_empty() { "no messages".into() } else { parts.join(", ") });
    Ok(())
}

fn nodes(words: &[&str]) -> Result<Vec<NodeId>, String> {
    words.iter().map(|word| parse_node(word)).collect()
}

fn node(rest: &[&str], at: usize) -> Result<NodeId, String> {
    parse_node(rest.get(at).ok_or("which server?")?)
}

fn parse_node(word: &str) -> Result<NodeId, String> {
    word.strip_prefix('n')
        .and_then(|id| id.parse().ok())
        .map(NodeId)
        .ok_or(format!("{word}: no server"))
}

fn number(rest: &[&str], at: usize) -> Result<u64, String> {
    parse(rest.get(at).ok_or("how many?")?)
}

fn parse(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word}: not a number"))
}

/// `1,1,4*3` is 1 1 4 4 4.
fn parse_terms(word: &str) -> Result<Vec<u64>, String> {
    let mut terms = Vec::new();
    for part in word.split(',').filter(|part| !part.is_empty()) {
        let (term, times) = part.split_once('*').unwrap_or((part, "1"));
        terms.extend(std::iter::repeat_n(parse(term)?, parse(times)? as usize));
    }
    Ok(terms)
}
