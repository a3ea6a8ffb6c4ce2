//! Links between servers: delay, loss, duplication, reordering, and cuts in one direction or both.
//!
//! Each directed link draws from a stream of its own, a fixed number of times for each message. So a message
//! more or less on one link moves no other link's luck, and a fault that was drawn can be left out
//! ([`Network::only`]) without changing what is drawn after it: that is what shrinking needs.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{NodeId, Random};

/// What happens to messages of one kind on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// Shortest way from one server to another.
    pub delay_min: Duration,
    /// Longest ordinary way; the delay of each message is drawn anew, so messages overtake each
    /// other.
    pub delay_max: Duration,
    /// Messages that never arrive, in millionths.
    pub loss_ppm: u32,
    /// Messages that arrive twice, in millionths.
    pub duplicate_ppm: u32,
    /// Messages that take much longer, in millionths.
    pub late_ppm: u32,
    /// How much longer at least.
    pub late_min: Duration,
    /// How much longer at most. Shorter delays are more likely: a bound is drawn first, then the delay below it.
    pub late_max: Duration,
}

impl Default for Passage {
    /// A quiet LAN.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(50),
            delay_max: Duration::from_micros(500),
            late_max: Duration::from_secs(1),
            ..Self::INSTANT
        }
    }
}

impl Passage {
    /// No delay, no loss.
    pub const INSTANT: Self = Self {
        delay_min: Duration::ZERO,
        delay_max: Duration::ZERO,
        loss_ppm: 0,
        duplicate_ppm: 0,
        late_ppm: 0,
        late_min: Duration::ZERO,
        late_max: Duration::ZERO,
    };
}

/// How bad the network is: the paper's RPCs are pairs of messages here, and each half has its own troubles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkOptions {
    /// Messages that ask for something.
    pub requests: Passage,
    /// Messages that answer.
    pub replies: Passage,
}

impl NetworkOptions {
    /// Requests and answers fare alike.
    pub const fn both(passage: Passage) -> Self {
        Self { requests: passage, replies: passage }
    }

    /// The labs' network (`labrpc`) when it is reliable: no delay, no loss.
    pub const LABRPC: Self = Self::both(Passage::INSTANT);

    /// The labs' network when it is unreliable: a request takes up to 26 ms, one in ten is lost, and so is one in ten
    /// of the answers.
    pub const LABRPC_UNRELIABLE: Self = Self {
        requests: Passage {
            delay_max: Duration::from_millis(26),
            loss_ppm: 100_000,
            ..Passage::INSTANT
        },
        replies: Passage { loss_ppm: 100_000, ..Passage::INSTANT },
    };

    /// The labs' unreliable network with long reordering: two of three answers take 200 to 2,200 ms longer.
    pub const LABRPC_LONG_REORDERING: Self = Self {
        replies: Passage {
            late_ppm: 666_667,
            late_min: Duration::from_millis(200),
            late_max: Duration::from_millis(2_000),
            ..Self::LABRPC_UNRELIABLE.replies
        },
        ..Self::LABRPC_UNRELIABLE
    };
}

/// What can befall a message besides its ordinary delay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mishap {
    /// It never arrives.
    Lost,
    /// It arrives twice.
    Doubled,
    /// It takes much longer.
    Late,
}

/// A mishap that befell one message: the `nth` that was sent from one server to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageFault {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// Which of the messages on this link, counted from 1.
    pub nth: u64,
    /// What befell it.
    pub mishap: Mishap,
}

/// One direction between two servers.
#[derive(Debug)]
struct Link {
    random: Random,
    sent: u64,
    /// It carries nothing.
    cut: bool,
}

/// The network as it is now.
#[derive(Debug)]
pub struct Network {
    /// How bad it is.
    pub options: NetworkOptions,
    nodes: u64,
    /// By sender, then by receiver.
    links: Vec<Link>,
    /// If set, only these mishaps happen.
    only: Option<BTreeSet<MessageFault>>,
    /// The mishaps so far, if they are recorded.
    recorded: Option<Vec<MessageFault>>,
}

impl Network {
    /// A whole network between servers 1 to `nodes`; every link draws from a stream derived from this one.
    pub fn new(options: NetworkOptions, nodes: u64, random: &Random) -> Self {
        let link = |from: u64, to: u64| Link {
            random: random.derive(&format!("{from} to {to}")),
            sent: 0,
            cut: false,
        };
        let links = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| link(from, to)));
        Self { options, nodes, links: links.collect(), only: None, recorded: None }
    }

    /// From here on only these mishaps happen, of those that are drawn.
    pub fn only(&mut self, faults: BTreeSet<MessageFault>) {
        self.only = Some(faults);
    }

    /// From here on mishaps are recorded.
    pub fn record(&mut self) {
        self.recorded.get_or_insert_default();
    }

    /// The mishaps that were recorded.
    pub fn recorded(&self) -> &[MessageFault] {
        self.recorded.as_deref().unwrap_or_default()
    }

    /// Nothing gets from `from` to `to` any more; the other direction is left as it is.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.link(from, to).cut = true;
    }

    /// Two servers no longer hear each other.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Two servers hear each other again.
    pub fn join(&mut self, a: NodeId, b: NodeId) {
        self.link(a, b).cut = false;
        self.link(b, a).cut = false;
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.links.iter_mut().for_each(|link| link.cut = false);
    }

    /// Whether anything gets from `from` to `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.links[self.place(from, to)].cut
    }

    fn place(&self, from: NodeId, to: NodeId) -> usize {
        let (from, to) = (from.0 - 1, to.0 - 1);
        assert!(from < self.nodes && to < self.nodes, "there are {} servers", self.nodes);
        (from * self.nodes + to) as usize
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let place = self.place(from, to);
        &mut self.links[place]
    }

    /// After how long a message arrives: not at all, once or twice.
    pub(crate) fn arrivals(
        &mut self,
        from: NodeId,
        to: NodeId,
        is_request: bool,
    ) -> [Option<Duration>; 2] {
        let passage = if is_request { self.options.requests } else { self.options.replies };
        let link = self.link(from, to);
        link.sent += 1;
        let (cut, nth) = (link.cut, link.sent);
        let random = &mut link.random;
        let first = ordinary(&passage, random);
        let (lost, doubled, late) = (
            happens(passage.loss_ppm, random),
            happens(passage.duplicate_ppm, random).then(|| ordinary(&passage, random)),
            happens(passage.late_ppm, random).then(|| lateness(&passage, random)),
        );
        if cut {
            return [None, None];
        }
        let fault = |mishap| MessageFault { from, to, nth, mishap };
        if lost && self.befalls(fault(Mishap::Lost)) {
            return [None, None];
        }
        let late = late.filter(|_| self.befalls(fault(Mishap::Late)));
        let doubled = doubled.filter(|_| self.befalls(fault(Mishap::Doubled)));
        [Some(first + late.unwrap_or_default()), doubled]
    }

    /// Whether a mishap that was drawn happens.
    fn befalls(&mut self, fault: MessageFault) -> bool {
        let befalls = self.only.as_ref().is_none_or(|only| only.contains(&fault));
        if befalls && let Some(recorded) = &mut self.recorded {
            recorded.push(fault);
        }
        befalls
    }
}

fn happens(ppm: u32, random: &mut Random) -> bool {
    ppm > 0 && random.chance_ppm(ppm)
}

fn ordinary(passage: &Passage, random: &mut Random) -> Duration {
    let (low, high) = (passage.delay_min.as_nanos(), passage.delay_max.as_nanos());
    Duration::from_nanos(random.between(low as u64, high as u64))
}

fn lateness(passage: &Passage, random: &mut Random) -> Duration {
    let bound = 1 + random.below(passage.late_max.as_nanos() as u64);
    passage.late_min + Duration::from_nanos(random.below(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn network(options: NetworkOptions) -> Network {
        Network::new(options, 3, &Random::new(5))
    }

    fn arrivals(network: &mut Network, count: usize) -> Vec<[Option<Duration>; 2]> {
        (0..count).map(|_| network.arrivals(A, B, true)).collect()
    }

    /// Adding a fault must not reshuffle the rest (EXEMPLARS, topic 11).
    #[test]
    fn a_mishap_left_out_changes_nothing_else() {
        let passage = Passage { loss_ppm: 300_000, duplicate_ppm: 300_000, ..Default::default() };
        let mut all = network(NetworkOptions::both(passage));
        all.record();
        let with = arrivals(&mut all, 50);
        let mut kept: BTreeSet<MessageFault> = all.recorded().iter().copied().collect();
        let left_out = *kept.iter().find(|f| f.mishap == Mishap::Lost).expect("300 in a thousand");
        kept.remove(&left_out);
        let mut some = network(NetworkOptions::both(passage));
        some.only(kept);
        some.network_noise();
        let without = arrivals(&mut some, 50);
        for (nth, (a, b)) in with.iter().zip(&without).enumerate() {
            assert_eq!(a == b, nth as u64 + 1 != left_out.nth, "message {}", nth + 1);
        }
    }

    /// The labs' numbers: 0.9 x 0.9 of the calls succeed; answers are late by 200 to 2,200 ms.
    #[test]
    fn labrpc_loses_and_delays_as_the_labs_do() {
        let mut network = network(NetworkOptions::LABRPC_LONG_REORDERING);
        let (mut ok, mut late, mut total) = (0, 0, Duration::ZERO);
        for _ in 0..10_000 {
            let [request, _] = network.arrivals(A, B, true);
            let [reply, _] = network.arrivals(B, A, false);
            let (Some(request), Some(reply)) = (request, reply) else { continue };
            assert!(request < Duration::from_millis(26) && reply <= Duration::from_millis(2_200));
            ok += 1;
            late += u32::from(reply >= Duration::from_millis(200));
            total += reply;
        }
        assert!((7_900..8_300).contains(&ok), "{ok} of 10000 calls succeed");
        assert!((5_200..5_600).contains(&late), "{late} answers are late");
        let mean = total / late;
        assert!((650..750).contains(&mean.as_millis()), "late by {mean:?} on average");
    }

    impl Network {
        /// Messages on other links, which must not matter.
        fn network_noise(&mut self) {
            for _ in 0..7 {
                self.arrivals(B, A, true);
                self.arrivals(NodeId(3), B, false);
            }
        }
    }
}
