//! What will be done to the servers, drawn before the run: a list that does not depend on what the run comes to, so that
//! a deed left out changes nothing about the others.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_contracts::{NodeId, Random, Service, Time};
use quorate_raft::Members;
use quorate_sim::{Violation, World};

use super::aimed::Aim;
use super::weather::Weather;

/// How often the nemesis and the writers act.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// Something done to the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// A client of this server writes a value that nobody wrote before.
    Write { node: NodeId, value: u64 },
    /// A client of this server reads; the number tells the reads apart.
    Read { node: NodeId, read: u64 },
    /// Whoever leads is asked to hand over, to this server or to the best one.
    Transfer { to: Option<NodeId> },
    /// Whoever leads is asked for these members.
    Members { voters: Vec<NodeId>, learners: Vec<NodeId> },
    /// A server dies; the others see its connections close, or do not.
    Crash { node: NodeId, noticed: bool },
    /// A server dies in the middle of its next write, silently.
    CrashInWrite { node: NodeId },
    /// It starts again, if it is down.
    Restart { node: NodeId },
    /// SIGSTOP, for a while.
    Stop { node: NodeId, duration: Duration },
    /// These servers no longer hear the others, nor the others them.
    Split { side: Vec<NodeId> },
    /// As `Split`, but one server hears both sides.
    Bridge { side: Vec<NodeId>, bridge: NodeId },
    /// One direction of one link.
    CutOneWay { from: NodeId, to: NodeId },
    /// A server hears nobody, but is heard.
    Deafen { node: NodeId },
    /// A server is heard by nobody, but hears.
    Mute { node: NodeId },
    /// All links work again.
    Heal,
    /// A disk becomes slow, or fast again.
    Disk { node: NodeId, slow: bool },
    /// A server dies, and a bit of its log rots before it starts again.
    Rot { node: NodeId, pick: u64 },
    /// A server dies, and its newest snapshot is gone before it starts again.
    LoseSnapshot { node: NodeId },
    /// Whoever leads dies.
    CrashLeader { noticed: bool },
    /// Whoever leads and the next few servers no longer hear the others; their connections are reset, or fall silent.
    CutOff { with: u64, noticed: bool },
    /// Whoever leads is asked to keep only itself and the next few as voters, the others as learners or not at all.
    Shrink { with: u64, learners: bool },
}

impl Deed {
    /// Does what clients have no part in; writes and reads are the scenario's own.
    pub(crate) fn harm<S: Service>(
        &self,
        world: &mut World<S>,
        weather: &Weather,
    ) -> Result<(), Violation>
    where
        S::Message: Clone,
    {
        match self {
            Self::Write { .. } | Self::Read { .. } => {}
            Self::Transfer { to } => {
                if let Some(leader) = world.leader() {
                    world.transfer(leader, *to)?;
                }
            }
            Self::Members { voters, learners } => {
                let wanted = Members {
                    voters: voters.iter().copied().collect(),
                    learners: learners.iter().copied().collect(),
                };
                if let Some(leader) = who_may_change(world) {
                    world.change_members(leader, wanted)?;
                }
            }
            Self::Crash { node, noticed } => world.crash(*node, *noticed),
            Self::CrashInWrite { node } => world.crash_in_write(*node),
            Self::Restart { node } => world.restart(*node),
            Self::Stop { node, duration } => world.pause(*node, *duration),
            Self::Split { side } => split(world, side, None),
            Self::Bridge { side, bridge } => split(world, side, Some(*bridge)),
            Self::CutOneWay { from, to } => world.cut_one_way(*from, *to),
            Self::Deafen { node } => {
                world.ids().into_iter().for_each(|from| world.cut_one_way(from, *node));
            }
            Self::Mute { node } => {
                world.ids().into_iter().for_each(|to| world.cut_one_way(*node, to));
            }
            Self::Heal => world.heal(),
            Self::Disk { node, slow } => world.make_disk(*node, weather.disk(*slow)),
            Self::Rot { node, pick } => {
                harm_disk(world, weather, *node, |world| world.rot_log(*node, *pick));
            }
            Self::LoseSnapshot { node } => {
                harm_disk(world, weather, *node, |world| world.lose_snapshot(*node));
            }
            Self::CrashLeader { noticed } => {
                if let Some(leader) = world.leader() {
                    world.crash(leader, *noticed);
                }
            }
            Self::CutOff { with, noticed } => cut_off(world, *with, *noticed),
            Self::Shrink { with, learners } => shrink(world, *with, *learners)?,
        }
        Ok(())
    }
}

/// Asks for all servers as voters, step by step: those that are none learn first. Returns whether they are.
pub(crate) fn everybody_votes<S: Service>(world: &mut World<S>) -> Result<bool, Violation>
where
    S::Message: Clone,
{
    let all: BTreeSet<NodeId> = world.ids().into_iter().collect();
    let Some(leader) = world.leader() else { return Ok(false) };
    let Some(replica) = world.replica(leader) else { return Ok(false) };
    let current = replica.raft().membership().clone();
    if current.voters == all && !current.is_joint() {
        return Ok(true);
    }
    let missing: BTreeSet<NodeId> = all.difference(&current.voters).copied().collect();
    let wanted = if current.learners.is_superset(&missing) {
        Members::voters(all)
    } else {
        Members { voters: current.voters, learners: missing }
    };
    world.change_members(leader, wanted)?;
    Ok(false)
}

/// A server dies, and something happens to its files, if the others can mend that. Where members change, one of them may be
/// the only one that counts.
fn harm_disk<S: Service>(
    world: &mut World<S>,
    weather: &Weather,
    node: NodeId,
    harm: impl FnOnce(&mut World<S>) -> bool,
) where
    S::Message: Clone,
{
    let may = !weather.members_change() || world.does_without(node);
    world.crash(node, false);
    if may {
        harm(world);
    }
}

/// Whom to ask for a change of members: nobody, as long as a server lacks what its disk lost. Whoever changes members looks at
/// them first.
fn who_may_change<S: Service>(world: &World<S>) -> Option<NodeId>
where
    S::Message: Clone,
{
    world.leader().filter(|_| !world.lacks_something())
}

fn split<S: Service>(world: &mut World<S>, side: &[NodeId], bridge: Option<NodeId>)
where
    S::Message: Clone,
{
    let ids = world.ids().into_iter().filter(|id| Some(*id) != bridge);
    let (here, there): (Vec<_>, Vec<_>) = ids.partition(|id| side.contains(id));
    for a in &here {
        there.iter().for_each(|b| world.cut(*a, *b));
    }
}

/// Whoever leads and the next servers around the circle; nobody if nobody leads.
fn leading_side<S: Service>(world: &World<S>, with: u64) -> Vec<NodeId>
where
    S::Message: Clone,
{
    let nodes = world.ids().len() as u64;
    let after = |leader: NodeId, by| NodeId((leader.0 - 1 + by) % nodes + 1);
    let side =
        world.leader().map(|leader| (0..=with.min(nodes - 1)).map(move |by| after(leader, by)));
    side.into_iter().flatten().collect()
}

fn cut_off<S: Service>(world: &mut World<S>, with: u64, noticed: bool)
where
    S::Message: Clone,
{
    let side = leading_side(world, with);
    split(world, &side, None);
    if noticed {
        let others = world.ids().into_iter().filter(|id| !side.contains(id));
        others.for_each(|there| side.iter().for_each(|here| world.hang_up(*here, there)));
    }
}

fn shrink<S: Service>(world: &mut World<S>, with: u64, learners: bool) -> Result<(), Violation>
where
    S::Message: Clone,
{
    let Some(leader) = who_may_change(world) else { return Ok(()) };
    let voters: BTreeSet<NodeId> = leading_side(world, with).into_iter().collect();
    let others = world.ids().into_iter().filter(|id| learners && !voters.contains(id)).collect();
    world.change_members(leader, Members { voters, learners: others })
}

/// A deed with its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Time,
    pub(crate) deed: Deed,
}

/// Draws everything that will be done until `end`. Values count up from 1.
pub(crate) fn draw(weather: &Weather, random: &Random, end: Time) -> Vec<Planned> {
    let mut nemesis = Nemesis { random: random.derive("nemesis"), weather };
    let mut aim = Aim::new(weather, random);
    let [mut rot, mut files] = ["rot", "files"].map(|part| random.derive(part));
    let mut writers = random.derive("writers");
    let mut plan = Vec::new();
    let (mut value, mut read) = (1, 1);
    let mut at = Time::ZERO;
    while at < end {
        nemesis.act(|deed| plan.push(Planned { at, deed }));
        aim.act(at, &mut plan);
        if rot.chance_ppm(weather.rot_ppm()) {
            let node = NodeId(1 + rot.below(weather.nodes));
            plan.push(Planned { at, deed: Deed::Rot { node, pick: rot.next_u64() } });
        }
        if files.chance_ppm(weather.loss_of_file_ppm()) {
            let node = NodeId(1 + files.below(weather.nodes));
            plan.push(Planned { at, deed: Deed::LoseSnapshot { node } });
        }
        while writers.chance_ppm(weather.write_ppm) {
            let node = NodeId(1 + writers.below(weather.nodes));
            plan.push(Planned { at, deed: Deed::Write { node, value } });
            value += 1;
        }
        if writers.chance_ppm(weather.read_ppm) {
            let node = NodeId(1 + writers.below(weather.nodes));
            plan.push(Planned { at, deed: Deed::Read { node, read } });
            read += 1;
        }
        at += TICK;
    }
    // What belongs to an aimed deed comes later than what was drawn after it.
    plan.sort_by_key(|planned| planned.at);
    plan
}

struct Nemesis<'a> {
    random: Random,
    weather: &'a Weather,
}

impl Nemesis<'_> {
    /// The harm of one tick.
    fn act(&mut self, mut does: impl FnMut(Deed)) {
        let Weather { crash_ppm, stop_ppm, partition_ppm, heal_ppm, restart_ppm, .. } =
            *self.weather;
        if self.random.chance_ppm(crash_ppm) {
            let node = self.node();
            does(match self.random.below(3) {
                0 => Deed::CrashInWrite { node },
                kind => Deed::Crash { node, noticed: kind == 1 },
            });
        }
        if self.random.chance_ppm(restart_ppm) {
            does(Deed::Restart { node: self.node() });
        }
        if self.random.chance_ppm(stop_ppm) {
            let (node, millis) = (self.node(), self.random.between(10, 4_000));
            does(Deed::Stop { node, duration: Duration::from_millis(millis) });
        }
        if self.random.chance_ppm(partition_ppm) {
            does(self.partition());
        }
        if self.random.chance_ppm(heal_ppm) {
            does(Deed::Heal);
        }
        if self.random.chance_ppm(self.weather.transfer_ppm) {
            let to = self.random.chance_ppm(500_000).then(|| self.node());
            does(Deed::Transfer { to });
        }
        if self.random.chance_ppm(self.weather.members_ppm) {
            does(self.members());
        }
        if self.random.chance_ppm(self.weather.slow_disk_ppm) {
            does(Deed::Disk { node: self.node(), slow: self.random.chance_ppm(500_000) });
        }
    }

    fn partition(&mut self) -> Deed {
        match self.random.below(6) {
            0 | 1 => Deed::Split { side: self.side() },
            2 => Deed::Bridge { side: self.side(), bridge: self.node() },
            3 => Deed::CutOneWay { from: self.node(), to: self.node() },
            4 => Deed::Deafen { node: self.node() },
            _ => Deed::Mute { node: self.node() },
        }
    }

    /// Any voters, and learners that may become some.
    fn members(&mut self) -> Deed {
        let first = self.node();
        let (mut voters, mut learners) = (vec![first], Vec::new());
        for node in (1..=self.weather.nodes).map(NodeId).filter(|node| *node != first) {
            match self.random.below(10) {
                0..=5 => voters.push(node),
                6..=8 => learners.push(node),
                _ => {}
            }
        }
        Deed::Members { voters, learners }
    }

    fn side(&mut self) -> Vec<NodeId> {
        let nodes = (1..=self.weather.nodes).map(NodeId);
        nodes.filter(|_| self.random.chance_ppm(500_000)).collect()
    }

    fn node(&mut self) -> NodeId {
        NodeId(1 + self.random.below(self.weather.nodes))
    }
}

/// `n1 n2`
struct Nodes<'a>(&'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(if names.is_empty() { "nobody" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { node, value } => write!(f, "write {value} at {node}"),
            Self::Read { node, read } => write!(f, "read {read} at {node}"),
            Self::Transfer { to: Some(to) } => write!(f, "transfer to {to}"),
            Self::Members { voters, learners } => {
                write!(f, "members {}, learners {}", Nodes(voters), Nodes(learners))
            }
            Self::Transfer { to: None } => f.write_str("transfer to the best"),
            Self::Crash { node, noticed: true } => write!(f, "crash {node}, noticed"),
            Self::Crash { node, noticed: false } => write!(f, "crash {node}, silently"),
            Self::CrashInWrite { node } => write!(f, "crash {node} in its next write"),
            Self::Restart { node } => write!(f, "restart {node}"),
            Self::Stop { node, duration } => write!(f, "stop {node} for {duration:?}"),
            Self::Split { side } => write!(f, "split {} from the others", Nodes(side)),
            Self::Bridge { side, bridge } => {
                write!(f, "split {} from the others, {bridge} hears both", Nodes(side))
            }
            Self::CutOneWay { from, to } => write!(f, "cut {from} to {to}"),
            Self::Deafen { node } => write!(f, "{node} hears nobody"),
            Self::Mute { node } => write!(f, "nobody hears {node}"),
            Self::Heal => f.write_str("heal"),
            Self::Disk { node, slow } => {
                write!(f, "disk of {node} {}", if *slow { "slow" } else { "fast" })
            }
            Self::Rot { node, .. } => write!(f, "crash {node}, and a bit of its log rots"),
            Self::LoseSnapshot { node } => {
                write!(f, "crash {node}, and its newest snapshot is lost")
            }
            Self::CrashLeader { noticed: true } => f.write_str("crash the leader, noticed"),
            Self::CrashLeader { noticed: false } => f.write_str("crash the leader, silently"),
            Self::CutOff { with, noticed } => {
                let how = if *noticed { ", noticed" } else { "" };
                write!(f, "cut off the leader and the next {with}{how}")
            }
            Self::Shrink { with, learners } => {
                let rest = if *learners { ", the others learn" } else { "" };
                write!(f, "members: the leader and the next {with}{rest}")
            }
        }
    }
}

/// `12.418003 crash n2, noticed`
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} {}", self.at.to_string(), self.deed)
    }
}
