//! Adler-32 (RFC 1950), with which ZooKeeper checks its files.

const MODULUS: u32 = 65_521;
/// So many bytes cannot overflow the sums between two reductions.
const RUN: usize = 5_552;

/// The checksum of what was seen so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adler {
    low: u32,
    high: u32,
}

impl Adler {
    pub(super) fn new() -> Self {
        Self { low: 1, high: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(RUN) {
            for byte in run {
                self.low += u32::from(*byte);
                self.high += self.low;
            }
            self.low %= MODULUS;
            self.high %= MODULUS;
        }
    }

    /// As ZooKeeper writes it: a long.
    pub(super) fn value(self) -> i64 {
        i64::from(self.high << 16 | self.low)
    }
}

/// The checksum of some bytes.
pub(super) fn adler(bytes: &[u8]) -> i64 {
    let mut adler = Adler::new();
    adler.update(bytes);
    adler.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that RFC 1950's own example gives, and one long enough to need a reduction.
    #[test]
    fn it_is_adler_32() {
        assert_eq!(adler(b"Wikipedia"), 0x11e6_0398);
        let mut by_parts = Adler::new();
        let bytes = vec![0xff; 3 * RUN + 7];
        bytes.chunks(1_000).for_each(|part| by_parts.update(part));
        assert_eq!(by_parts.value(), adler(&bytes));
        let (mut low, mut high) = (1u64, 0u64);
        for byte in &bytes {
            low = (low + u64::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        assert_eq!(adler(&bytes) as u64, high << 16 | low);
    }
}
