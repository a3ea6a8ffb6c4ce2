//! Where in time the operations of an order may be drawn: each within its bar, all in their order, not on top of each other.

use super::AnyHistory;
use crate::history::OpId;

/// A time for each operation of the order.
pub(super) fn spread(history: &impl AnyHistory, order: &[OpId]) -> Vec<f64> {
    let end = order.iter().map(|id| history.span(*id)).map(|(from, to)| to.unwrap_or(from)).max();
    let (earliest, latest) = bounds(history, order, end.unwrap_or(0) as f64);
    let mut points: Vec<f64> = Vec::with_capacity(order.len());
    let mut i = 0;
    while i < order.len() {
        let same = (i..order.len())
            .take_while(|j| (earliest[*j], latest[*j]) == (earliest[i], latest[i]))
            .count();
        for j in 0..same {
            let share = (j + 1) as f64 / (same + 1) as f64;
            let point = earliest[i] + (latest[i] - earliest[i]).max(0.0) * share;
            points.push(points.last().map_or(point, |last: &f64| last.max(point)));
        }
        i += same;
    }
    points
}

/// Not before the calls of those in front of it, not after the returns of those behind it.
fn bounds(history: &impl AnyHistory, order: &[OpId], end: f64) -> (Vec<f64>, Vec<f64>) {
    let mut earliest = Vec::with_capacity(order.len());
    let mut bound = 0.0_f64;
    for id in order {
        bound = bound.max(history.span(*id).0 as f64);
        earliest.push(bound);
    }
    let mut latest = vec![end; order.len()];
    let mut bound = f64::INFINITY;
    for (i, id) in order.iter().enumerate().rev() {
        bound = bound.min(history.span(*id).1.map_or(end.max(earliest[i]), |to| to as f64));
        latest[i] = bound;
    }
    (earliest, latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientId, History, Nanos};

    #[test]
    fn points_are_in_order_and_within_their_bars() {
        let mut history: History<(), ()> = History::new();
        let a = history.invoke(ClientId(1), Nanos(0), ());
        let b = history.invoke(ClientId(2), Nanos(10), ());
        history.returned(a, Nanos(100), ());
        history.returned(b, Nanos(50), ());
        assert_eq!(spread(&history, &[b, a]), [30.0, 55.0]);
        let [first, second] = spread(&history, &[a, b])[..] else { panic!("two") };
        assert!(first < second && second < 50.0 && first > 0.0);
    }
}
