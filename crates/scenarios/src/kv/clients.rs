//! Clerks, and the way between them and the servers: calls and answers are late or lost, and connections break when a
//! server dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_clerk::{Ask, Attempt, Clerk, ClerkMessage, Told};
use quorate_contracts::{Input, NodeId, Output, Process, Random, Time};
use quorate_etcd::command::Tag;
use quorate_etcd::server::{
    CallId, ClientReply, ClientRequest, Context, Request, Response, Server,
};
use quorate_etcd::{ClientId, Refusal};
use quorate_sim::{Violation, World};

/// A Clerk, by its number.
pub(crate) type Who = usize;

/// What is on its way.
enum Mail {
    Call { from: Who, to: NodeId, attempt: Attempt, tag: Option<Tag>, request: Box<Request> },
    Answer { to: Who, from: NodeId, attempt: Attempt, result: Result<Box<Response>, Refusal> },
    Lost { to: Who, member: NodeId },
}

/// All Clerks of a run.
pub(crate) struct Clients {
    clerks: Vec<Clerk>,
    mail: BTreeMap<(Time, u64), Mail>,
    posted: u64,
    calls: BTreeMap<CallId, (Who, Attempt, NodeId)>,
    random: Random,
    /// Of calls and of answers, in millionths.
    pub(crate) loss_ppm: u32,
    /// The longest way, in microseconds.
    pub(crate) delay_us: u64,
    /// Clerks that cannot reach a server.
    pub(crate) cut: BTreeSet<(Who, NodeId)>,
    /// A planted bug: writes are repeated without their numbers.
    pub(crate) untagged: bool,
    /// A planted bug: reads that may be stale are asked of any server.
    pub(crate) scattered: bool,
    told: Vec<(Who, Told)>,
}

impl Clients {
    pub(crate) fn new(count: usize, members: &[NodeId], mut random: Random, loss_ppm: u32) -> Self {
        let mut clerk = |_| {
            let id = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            Clerk::new(members.to_vec(), ClientId(id))
        };
        let clerks = (0..count).map(&mut clerk).collect();
        let delay_us = random.between(100, 20_000);
        Self {
            clerks,
            mail: BTreeMap::new(),
            posted: 0,
            calls: BTreeMap::new(),
            random,
            loss_ppm,
            delay_us,
            cut: BTreeSet::new(),
            untagged: false,
            scattered: false,
            told: Vec::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.clerks.len()
    }

    pub(crate) fn open_questions(&self) -> usize {
        self.clerks.iter().map(Clerk::open_questions).sum()
    }

    pub(crate) fn ask(&mut self, now: Time, who: Who, ask: Ask) {
        self.step(now, who, Input::Requested(ask));
    }

    /// What Clerks told their callers since the last time.
    pub(crate) fn take_told(&mut self) -> Vec<(Who, Told)> {
        std::mem::take(&mut self.told)
    }

    /// Delivers what is due, and wakes Clerks that want it.
    pub(crate) fn run(&mut self, world: &mut World<Server>) -> Result<(), Violation> {
        let now = world.now();
        while let Some(first) = self.mail.first_entry().filter(|mail| mail.key().0 <= now) {
            let mail = first.remove();
            self.deliver(mail, world)?;
        }
        for who in 0..self.clerks.len() {
            if self.clerks[who].deadline().is_some_and(|(at, _)| at <= now) {
                self.step(now, who, Input::Wake);
            }
        }
        Ok(())
    }

    /// A server tells a client; `false` if it is not about a call.
    pub(crate) fn replied(&mut self, now: Time, from: NodeId, reply: &ClientReply) -> bool {
        let ClientReply::Answer { call, result } = reply else { return false };
        if let Some((to, attempt, _)) = self.calls.remove(call) {
            self.post(now, Mail::Answer { to, from, attempt, result: result.clone() });
        }
        true
    }

    /// A server has died: connections to it break, or stay silent if nobody tells.
    pub(crate) fn crashed(&mut self, now: Time, node: NodeId, noticed: bool) {
        let gone: Vec<CallId> =
            self.calls.iter().filter(|(_, (.., to))| *to == node).map(|(call, _)| *call).collect();
        let mut clerks: Vec<Who> =
            gone.iter().filter_map(|call| self.calls.remove(call)).map(|(who, ..)| who).collect();
        clerks.dedup();
        for to in clerks.into_iter().filter(|_| noticed) {
            self.post(now, Mail::Lost { to, member: node });
        }
    }

    fn step(&mut self, now: Time, who: Who, input: Input<Clerk>) {
        let mut out = Vec::new();
        self.clerks[who].step(now, input, &mut out);
        for output in out {
            match output {
                Output::Send {
                    to, message: ClerkMessage::Call { attempt, tag, request }, ..
                } => {
                    self.post(now, Mail::Call { from: who, to, attempt, tag, request });
                }
                Output::Reply { reply, .. } => self.told.push((who, reply)),
                _ => {}
            }
        }
    }

    fn post(&mut self, now: Time, mail: Mail) {
        let is_lost = self.random.chance_ppm(self.loss_ppm) && !matches!(mail, Mail::Lost { .. });
        let at = now + Duration::from_micros(self.random.below(self.delay_us));
        if !is_lost {
            self.posted += 1;
            self.mail.insert((at, self.posted), mail);
        }
    }

    fn any(&mut self, world: &World<Server>) -> NodeId {
        let ids = world.ids();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    fn deliver(&mut self, mail: Mail, world: &mut World<Server>) -> Result<(), Violation> {
        let now = world.now();
        match mail {
            Mail::Call { from, to, .. } if self.cut.contains(&(from, to)) => {
                self.post(now, Mail::Lost { to: from, member: to });
            }
            Mail::Call { from, to, attempt, tag, request } => {
                let to =
                    if self.scattered && is_serializable(&request) { self.any(world) } else { to };
                self.posted += 1;
                let call = CallId(self.posted);
                self.calls.insert(call, (from, attempt, to));
                let tag = tag.filter(|_| !self.untagged);
                let context = Context { tag, ..Context::default() };
                if !world.request(to, ClientRequest::Call { call, context, request })? {
                    self.calls.remove(&call);
                    self.post(now, Mail::Lost { to: from, member: to });
                }
            }
            Mail::Answer { to, from, attempt, result } => {
                let message = ClerkMessage::Answer { attempt, result };
                self.step(now, to, Input::Received { from, message });
            }
            Mail::Lost { to, member } => self.step(now, to, Input::MemberLost { member }),
        }
        Ok(())
    }
}

fn is_serializable(request: &Request) -> bool {
    matches!(request, Request::Range(range) if range.serializable)
}
