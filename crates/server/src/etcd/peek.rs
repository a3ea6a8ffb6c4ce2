//! A look at a block of headers without decoding it (HPACK, RFC 7541): may its `:authority` be a URL?
//!
//! Decoding needs a table for Huffman's code, which takes longer to make than hundreds of calls; nearly every connection's authority
//! is a proper one, which this sees by its first letters.

use hyper::http::uri::Authority;

/// `http` in Huffman's code (RFC 7541, appendix B): 22 bits, so that the last two bits of the third byte belong to what follows.
const HTTP: [u8; 3] = [0x9d, 0x29, 0xac];
const HTTP_MASK: u8 = 0xfc;
/// `:authority` in the static table (appendix A).
const AUTHORITY: usize = 1;

/// Whether the authority in the first block of a connection may be anything else than `host:port`; also if that cannot be seen.
pub(super) fn may_be_odd(mut block: &[u8]) -> bool {
    while let Some(first) = block.first().copied() {
        let Some(field) = Field::read(first, &mut block) else { return true };
        match field {
            Field::Literal { name: AUTHORITY, value } => return value.may_be_odd(),
            // It may be spelt out.
            Field::Literal { name: 0, .. } => return true,
            Field::Literal { .. } | Field::NoValue => {}
        }
    }
    false
}

enum Field<'a> {
    /// A field of a table, or a change of the table's size.
    NoValue,
    /// Its name's place in the table, 0 for a new one.
    Literal { name: usize, value: Text<'a> },
}

impl<'a> Field<'a> {
    /// Section 6: the first bits tell the form.
    fn read(first: u8, block: &mut &'a [u8]) -> Option<Self> {
        let index_bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let name = integer(index_bits, block)?;
        if matches!(first, 0x80.. | 0x20..0x40) {
            return Some(Self::NoValue);
        }
        if name == 0 {
            Text::read(block)?;
        }
        Some(Self::Literal { name, value: Text::read(block)? })
    }
}

struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    /// Section 5.2.
    fn read(block: &mut &'a [u8]) -> Option<Self> {
        let is_huffman = block.first()? & 0x80 != 0;
        let length = integer(7, block)?;
        let (bytes, rest) = block.split_at_checked(length)?;
        *block = rest;
        Some(Self { is_huffman, bytes })
    }

    fn may_be_odd(&self) -> bool {
        match self.bytes {
            [a, b, c, ..] if self.is_huffman => [*a, *b, c & HTTP_MASK] == HTTP,
            bytes => !self.is_huffman && Authority::try_from(bytes).is_err(),
        }
    }
}

/// Section 5.1: an integer in the last `bits` of a byte and, if it is too large for them, in what follows.
fn integer(bits: u32, block: &mut &[u8]) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        for shift in (0..28).step_by(7) {
            let (next, after) = rest.split_first()?;
            rest = after;
            value += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, appendix C: the authority is `www.example.com` in all of them, plain and in Huffman's code.
    #[test]
    fn a_proper_authority_is_seen() {
        let plain = b"\x82\x86\x84\x41\x0fwww.example.com";
        assert!(!may_be_odd(plain));
        let huffman = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert!(!may_be_odd(huffman));
        let after_a_path = b"\x83\x04\x02/x\x41\x0fwww.example.com";
        assert!(!may_be_odd(after_a_path));
        let after_a_size = b"\x3f\xe1\x1f\x41\x0fwww.example.com";
        assert!(!may_be_odd(after_a_size), "the table's size was changed first");
        assert!(!may_be_odd(b"\x82\x86\x84"), "there is none");
    }

    /// The location of appendix C.5, `https://www.example.com`, as an authority.
    #[test]
    fn an_url_is_seen() {
        let huffman =
            b"\x82\x41\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        assert!(may_be_odd(huffman));
        assert!(may_be_odd(b"\x82\x41\x08http://x"));
    }

    #[test]
    fn what_cannot_be_seen_is_looked_at_closer() {
        for block in [
            &b"\x41"[..],
            b"\x41\x0fwww",
            b"\x40\x0a:authority\x01x",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x41\x7f\xff\xff\xff\xff\xff",
        ] {
            assert!(may_be_odd(block), "{block:?}");
        }
    }
}
