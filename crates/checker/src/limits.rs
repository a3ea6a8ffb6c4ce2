//! When to give up: histories exist that no checker decides in reasonable time (the problem is NP-complete).

/// How much a check may take. At the limit the answer is "unknown", never a guess.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Steps of the model that the searches of all parts may look at together; ten million or so are a second.
    pub steps_max: u64,
    /// Bytes that the searches of all parts may hold together, about.
    pub bytes_max: usize,
    /// Asked every now and then; `true` ends the check. The caller has the clock.
    pub expired: &'a dyn Fn() -> bool,
}

impl Default for Limits<'_> {
    /// No limit in time, 2 GiB of memory.
    fn default() -> Self {
        Self { steps_max: u64::MAX, bytes_max: 2 << 30, expired: &|| false }
    }
}

impl Limits<'_> {
    /// At most so many steps; nothing else is limited more than by default.
    pub fn steps(steps_max: u64) -> Self {
        Self { steps_max, ..Self::default() }
    }
}
