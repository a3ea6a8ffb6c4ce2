//! Delta debugging (Zeller and Hildebrandt, 2002): the smallest part of a list that still fails.

/// Leaves out as much of `items` as it can while `fails` says yes of the rest. `fails` answers `None` when it may
/// not be asked any more.
///
/// The whole list is taken to fail. The result is 1-minimal, unless the asking ended early: leaving out any single
/// item makes it pass.
pub(crate) fn ddmin<T: Clone>(
    mut items: Vec<T>,
    mut fails: impl FnMut(&[T]) -> Option<bool>,
) -> Vec<T> {
    let mut chunks = 1;
    while !items.is_empty() {
        let size = items.len().div_ceil(chunks);
        match smaller(&items, size, &mut fails) {
            None => break,
            Some(Some(rest)) => {
                items = rest;
                chunks = (chunks - 1).max(1);
            }
            Some(None) if size == 1 => break,
            Some(None) => chunks = (2 * chunks).min(items.len()),
        }
    }
    items
}

/// The first complement of a chunk that still fails.
fn smaller<T: Clone>(
    items: &[T],
    size: usize,
    fails: &mut impl FnMut(&[T]) -> Option<bool>,
) -> Option<Option<Vec<T>>> {
    for start in (0..items.len()).step_by(size) {
        let end = (start + size).min(items.len());
        let rest = [&items[..start], &items[end..]].concat();
        if fails(&rest)? {
            return Some(Some(rest));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_that_matter_among_a_thousand() {
        let mut asked = 0;
        let found = ddmin((0..1_000).collect(), |some: &[u32]| {
            asked += 1;
            Some(some.contains(&17) && some.contains(&900))
        });
        assert_eq!(found, [17, 900]);
        assert!(asked < 100, "{asked} questions");
    }

    #[test]
    fn needs_nothing_of_what_always_fails_and_stops_when_told_to() {
        assert_eq!(ddmin(vec![1, 2, 3], |_| Some(true)), Vec::<i32>::new());
        assert_eq!(ddmin(vec![1, 2, 3], |_| None), [1, 2, 3]);
    }
}
