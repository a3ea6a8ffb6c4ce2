//! What must come before what, and the circles in it.

use std::collections::VecDeque;

use crate::history::Moment;

/// A directed graph whose edges say why. Nodes are numbers from 0.
#[derive(Clone, Debug)]
pub(super) struct Graph<R> {
    edges: Vec<Vec<(u32, R)>>,
}

impl<R: Copy> Graph<R> {
    pub(super) fn new(nodes: usize) -> Self {
        Self { edges: vec![Vec::new(); nodes] }
    }

    /// One more node.
    pub(super) fn add(&mut self) -> u32 {
        self.edges.push(Vec::new());
        u32::try_from(self.edges.len() - 1).expect("a graph has fewer than 2^32 nodes")
    }

    /// One comes before the other.
    pub(super) fn before(&mut self, one: u32, other: u32, why: R) {
        self.edges[one as usize].push((other, why));
    }

    /// Edges for "one had ended before the other began", without one for each pair: every return leads to a node of its own, these
    /// form a chain, and a call follows the last return before it.
    pub(super) fn real_time(&mut self, spans: &[(u32, Moment, Moment)], why: R) {
        let mut events: Vec<(Moment, bool, u32)> = Vec::new();
        for (node, call, ret) in spans {
            events.push((*call, true, *node));
            if *ret != Moment::NEVER {
                events.push((*ret, false, *node));
            }
        }
        events.sort_unstable();
        let mut last = None;
        for (_, is_call, node) in events {
            if is_call {
                if let Some(last) = last {
                    self.before(last, node, why);
                }
                continue;
            }
            let barrier = self.add();
            self.before(node, barrier, why);
            if let Some(last) = last {
                self.before(last, barrier, why);
            }
            last = Some(barrier);
        }
    }

    /// A shortest circle through some node that is on one, over the edges that count: its nodes, each with the reason why
    /// it comes before the next.
    pub(super) fn circle(&self, counts: impl Fn(R) -> bool) -> Option<Vec<(u32, R)>> {
        let on_circle = self.order(&counts).err()?;
        self.path(on_circle, on_circle, &counts)
    }

    /// A shortest path along edges that count, one edge at least.
    pub(super) fn path(
        &self,
        from: u32,
        to: u32,
        counts: &impl Fn(R) -> bool,
    ) -> Option<Vec<(u32, R)>> {
        let mut came: Vec<Option<(u32, R)>> = vec![None; self.edges.len()];
        let mut next = VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            for (other, why) in self.edges[node as usize].iter().filter(|(_, why)| counts(*why)) {
                if came[*other as usize].is_some() {
                    continue;
                }
                came[*other as usize] = Some((node, *why));
                if *other == to {
                    return Some(walk_back(&came, from, to));
                }
                next.push_back(*other);
            }
        }
        None
    }

    /// All nodes, each before those that it comes before; or a node that is on a circle.
    pub(super) fn order(&self, counts: &impl Fn(R) -> bool) -> Result<Vec<u32>, u32> {
        let mut waiting_for = vec![0_u32; self.edges.len()];
        let counted = |node: u32| self.edges[node as usize].iter().filter(|(_, why)| counts(*why));
        let nodes = 0..u32::try_from(self.edges.len()).expect("nodes are u32");
        nodes.clone().for_each(|n| counted(n).for_each(|(to, _)| waiting_for[*to as usize] += 1));
        let mut order: Vec<_> = nodes.clone().filter(|n| waiting_for[*n as usize] == 0).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            next += 1;
            for (to, _) in counted(node) {
                waiting_for[*to as usize] -= 1;
                if waiting_for[*to as usize] == 0 {
                    order.push(*to);
                }
            }
        }
        if order.len() == self.edges.len() {
            Ok(order)
        } else {
            Err(self.backwards(&waiting_for, counts))
        }
    }

    /// Every node that still waits waits for one that still waits; going back from one to the next ends in a circle.
    fn backwards(&self, waiting_for: &[u32], counts: &impl Fn(R) -> bool) -> u32 {
        let waits = |node: usize| waiting_for[node] > 0;
        let mut before = vec![None; self.edges.len()];
        for (node, edges) in (0_u32..).zip(&self.edges).filter(|(node, _)| waits(*node as usize)) {
            edges
                .iter()
                .filter(|(_, why)| counts(*why))
                .for_each(|(to, _)| before[*to as usize] = Some(node));
        }
        let mut seen = vec![false; self.edges.len()];
        let first = waiting_for.iter().position(|waiting| *waiting > 0).unwrap_or(0);
        let mut node = u32::try_from(first).expect("nodes are u32");
        while !std::mem::replace(&mut seen[node as usize], true) {
            node = before[node as usize].expect("it waits for another one");
        }
        node
    }
}

fn walk_back<R: Copy>(came: &[Option<(u32, R)>], from: u32, to: u32) -> Vec<(u32, R)> {
    let mut path = Vec::new();
    let mut at = to;
    while let Some((before, why)) = came[at as usize] {
        path.push((before, why));
        at = before;
        if at == from {
            break;
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_and_is_short() {
        let mut graph = Graph::new(5);
        for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 1), (2, 1), (0, 4)] {
            graph.before(one, other, ());
        }
        let circle = graph.circle(|()| true).expect("there is one");
        assert!(circle.len() == 2 || circle.len() == 3, "{circle:?}");
        assert!(circle.iter().all(|(node, ())| (1..=3).contains(node)));
    }

    #[test]
    fn real_time_orders_what_ended_before_the_other_began() {
        let mut graph = Graph::new(3);
        let spans = [(0, 1, 2), (1, 3, 6), (2, 5, 8)].map(|(n, c, r)| (n, Moment(c), Moment(r)));
        graph.real_time(&spans, ());
        assert!(graph.path(0, 1, &|()| true).is_some() && graph.path(0, 2, &|()| true).is_some());
        assert!(graph.path(1, 2, &|()| true).is_none(), "they overlap");
    }
}
