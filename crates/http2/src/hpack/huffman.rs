//! Huffman's code of header strings (RFC 7541, appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and each length goes on where
//! the one before it ended. So the lengths alone say everything, and a code is decoded by finding its length.

use super::HpackError;

/// The symbol that no string may hold.
const END_OF_STRING: usize = 256;
const LENGTH_MAX: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    bits: u8,
    /// The first code, and the first code that is longer, both moved to the left of 32 bits.
    first: u64,
    end: u64,
    /// Where its symbols begin in `SYMBOLS`.
    symbols: usize,
}

/// Symbols by length, then by number, and the lengths that occur.
struct Code {
    symbols: [u16; 257],
    groups: [Group; LENGTH_MAX],
    lengths: usize,
}

const CODE: Code = code();

const fn code() -> Code {
    let empty = Group { bits: 0, first: 0, end: 0, symbols: 0 };
    let mut code = Code { symbols: [0; 257], groups: [empty; LENGTH_MAX], lengths: 0 };
    let (mut bits, mut next, mut at) = (1, 0u64, 0);
    while bits <= LENGTH_MAX {
        let (first, symbols, mut symbol) = (next, at, 0);
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                code.symbols[at] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        if at > symbols {
            let left = 32 - bits;
            let group =
                Group { bits: bits as u8, first: first << left, end: next << left, symbols };
            code.groups[code.lengths] = group;
            code.lengths += 1;
        }
        next <<= 1;
        bits += 1;
    }
    code
}

/// Appends what a string says.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    static TABLE: Code = CODE;
    let (mut window, mut held, mut rest) = (0u64, 0u32, coded.iter());
    loop {
        while held <= 32 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let code = window >> 32;
        let group = TABLE.groups[..TABLE.lengths].iter().find(|group| code < group.end);
        let Some(group) = group.filter(|group| u32::from(group.bits) <= held) else {
            return padding(window, held);
        };
        let at = group.symbols + ((code - group.first) >> (32 - group.bits)) as usize;
        let symbol = TABLE.symbols[at];
        let Ok(byte) = u8::try_from(symbol) else { return Err(HpackError::Huffman) };
        out.push(byte);
        window <<= group.bits;
        held -= u32::from(group.bits);
    }
}

/// What is left must be the beginning of the code for the end of the string: fewer than eight bits, all ones.
fn padding(window: u64, held: u32) -> Result<(), HpackError> {
    let ones = held == 0 || window >> (64 - held) == (1 << held) - 1;
    if held < 8 && ones { Ok(()) } else { Err(HpackError::Huffman) }
}

const _: () =
    assert!(CODE.symbols[256] as usize == END_OF_STRING, "the longest code, and the last");

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<String, HpackError> {
        let mut out = Vec::new();
        decode(coded, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn the_examples_of_the_standard() {
        for (coded, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ] {
            assert_eq!(decoded(coded).as_deref(), Ok(text));
        }
    }

    /// Section 5.2: padding of eight bits or more, padding that is not all ones, and the end of the string are errors.
    #[test]
    fn what_is_no_code_is_refused() {
        assert_eq!(decoded(&[]).as_deref(), Ok(""));
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Ok("a"), "five bits and three of padding");
        for coded in [&[0b0001_1000][..], &[0b0001_1111, 0xff], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decoded(coded), Err(HpackError::Huffman), "{coded:?}");
        }
    }
}
