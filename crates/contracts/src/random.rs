//! A seeded generator for everything that may look random but must replay.

/// xoshiro256++ (Blackman and Vigna, 2019), seeded through splitmix64. The same seed gives the
/// same numbers on every machine and in every build. Not for secrets: those come from the
/// system's source, as inputs.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// A generator that this seed fully determines.
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        Self { state: std::array::from_fn(|_| splitmix64(&mut x)) }
    }

    /// A stream of its own for the part named `label`: drawing from it does not move this one, so
    /// that adding a part to a simulation does not reshuffle the others.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self::new(hash ^ self.state[0].rotate_left(17) ^ self.state[3])
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `[0, bound)`; 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift (Lemire, 2019), without the rejection step: the bias is below 2^-32 for
        // the small bounds drawn here.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[low, high)`; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// True with this probability, in millionths: exact on every machine, unlike a float.
    pub fn chance_ppm(&mut self, millionths: u32) -> bool {
        self.below(1_000_000) < u64::from(millionths)
    }
}

fn splitmix64(x: &mut u64) -> u64 {
    *x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *x;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_of_seed_0_are_those_of_the_published_generator() {
        let mut random = Random::new(0);
        assert_eq!(random.next_u64(), 0x5317_5d61_490b_23df);
        assert_eq!(random.next_u64(), 0x61da_6f3d_c380_d507);
    }

    #[test]
    fn a_derived_stream_does_not_move_its_parent() {
        let mut a = Random::new(7);
        let mut b = a.clone();
        let mut derived = a.derive("network");
        derived.next_u64();
        assert_eq!(a.next_u64(), b.next_u64());
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(3);
        for _ in 0..1_000 {
            assert!((5..8).contains(&random.between(5, 8)));
        }
        assert_eq!(random.between(5, 5), 5);
        assert_eq!(random.below(0), 0);
    }
}
