//! Links between servers: delay, loss, duplication, reordering, and cuts in one direction or both.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{NodeId, Random};

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct NetworkOptions {
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
    /// How much longer at most.
    pub late_max: Duration,
}

impl Default for NetworkOptions {
    /// A quiet LAN.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(50),
            delay_max: Duration::from_micros(500),
            loss_ppm: 0,
            duplicate_ppm: 0,
            late_ppm: 0,
            late_max: Duration::from_secs(1),
        }
    }
}

/// The network as it is now.
#[derive(Debug)]
pub struct Network {
    /// How bad it is.
    pub options: NetworkOptions,
    random: Random,
    /// Directed links that carry nothing.
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    /// A whole network that draws from this stream.
    pub fn new(options: NetworkOptions, random: Random) -> Self {
        Self { options, random, cut: BTreeSet::new() }
    }

    /// Nothing gets from `from` to `to` any more; the other direction is left as it is.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Two servers no longer hear each other.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether anything gets from `from` to `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// After how long a message arrives: not at all, once or twice.
    pub(crate) fn arrivals(&mut self, from: NodeId, to: NodeId) -> [Option<Duration>; 2] {
        let options = self.options;
        if self.is_cut(from, to) || self.happens(options.loss_ppm) {
            return [None, None];
        }
        let first = self.delay();
        let twice = self.happens(options.duplicate_ppm).then(|| self.delay());
        [Some(first), twice]
    }

    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.random.chance_ppm(ppm)
    }

    fn delay(&mut self) -> Duration {
        let options = self.options;
        let (low, high) = (options.delay_min.as_nanos(), options.delay_max.as_nanos());
        let mut nanos = self.random.between(low as u64, high as u64);
        if self.happens(options.late_ppm) {
            nanos += self.random.below(options.late_max.as_nanos() as u64);
        }
        Duration::from_nanos(nanos)
    }
}
