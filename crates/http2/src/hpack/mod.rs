//! Headers as HTTP/2 packs them (RFC 7541): by index where both ends know a field, literally where not.
//!
//! | file | what it is |
//! | --- | --- |
//! | `table` | the static table, and the one that fills |
//! | `huffman` | the code of strings |
//! | `decoder`, `encoder` | blocks to fields, and back |
//!
//! Not here: what fields mean. We write strings as they are, never in Huffman's code: a field that comes again is an index anyway.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
use thiserror::Error;

/// Bytes of a dynamic table unless the two ends agree on another size (section 6.5.2 of RFC 9113).
pub(crate) const TABLE_BYTES: usize = 4096;

/// Why a block of headers cannot be read; what follows on its connection cannot be either, for the tables differ from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum HpackError {
    #[error("a block of headers ends within a field")]
    Cut,
    #[error("a number in a block of headers is too large")]
    Number,
    #[error("an index of no field")]
    Index,
    #[error("a string is not in Huffman's code")]
    Huffman,
    #[error("a change of the table's size that was not agreed on")]
    TableSize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Fields;
    use crate::fields::Field;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
        let mut fields = Fields::default();
        decoder.decode(block, &mut fields)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    /// RFC 7541, C.4: three requests on one connection, in Huffman's code.
    #[test]
    fn the_requests_of_the_standard() {
        let mut decoder = Decoder::new();
        #[rustfmt::skip]
        let blocks: [&[u8]; 3] = [
            &[0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
            &[0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b,
              0xb8, 0xe8, 0xb4, 0xbf],
        ];
        let first = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        assert_eq!(decoded(&mut decoder, blocks[0]), Ok(pairs(&first)));
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(decoded(&mut decoder, blocks[1]), Ok(pairs(&second)));
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(decoded(&mut decoder, blocks[2]), Ok(pairs(&third)));
    }

    /// A field that was said once is one byte from then on; one that must not be kept is spelt out each time.
    #[test]
    fn what_comes_again_is_an_index() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let fields =
            [Field::new("content-type", b"application/grpc"), Field::once("token", b"secret")];
        let (mut first, mut second) = (Vec::new(), Vec::new());
        encoder.encode(&fields, &mut first);
        encoder.encode(&fields, &mut second);
        let said = pairs(&[("content-type", "application/grpc"), ("token", "secret")]);
        assert_eq!(decoded(&mut decoder, &first), Ok(said.clone()));
        assert_eq!(decoded(&mut decoder, &second), Ok(said));
        assert_eq!(second[0], 0x80 | 62);
        assert_eq!(second[1..], [&[0x10, 5][..], b"token", &[6], b"secret"].concat());
    }

    /// Section 4.2: a peer that wants a smaller table is told that we obey, at the head of the next block.
    #[test]
    fn a_smaller_table_is_announced() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        encoder.table_bytes_max(0);
        let mut block = Vec::new();
        encoder.encode(&[Field::new("a", b"b")], &mut block);
        assert_eq!(block[0], 0x20);
        assert_eq!(decoded(&mut decoder, &block), Ok(pairs(&[("a", "b")])));
        let mut again = Vec::new();
        encoder.encode(&[Field::new("a", b"b")], &mut again);
        assert_eq!(again, block[1..], "nothing was kept");
    }

    /// Sections 2.3.3, 5.1, 6.3.
    #[test]
    fn what_cannot_be_read_is_refused() {
        for (block, error) in [
            (&[0x80][..], HpackError::Index),
            (&[0xbe], HpackError::Index),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], HpackError::Number),
            (&[0x40, 5, b'a'], HpackError::Cut),
            (&[0x82, 0x20], HpackError::TableSize),
            (&[0x3f, 0xe2, 0x1f], HpackError::TableSize),
        ] {
            assert_eq!(decoded(&mut Decoder::new(), block), Err(error), "{block:x?}");
        }
    }

    proptest! {
        /// What one end packs, the other unpacks, also when fields come again and again.
        #[test]
        fn blocks_come_out_as_they_went_in(
            blocks in prop::collection::vec(prop::collection::vec(("[a-c]{1,3}", "[ -~]{0,2}|[ -~]{200}", any::<bool>()), 0..6), 1..40)
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for block in blocks {
                let fields: Vec<Field<'_>> = block.iter().map(|(name, value, keep)| {
                    if *keep { Field::new(name, value.as_bytes()) } else { Field::once(name, value.as_bytes()) }
                }).collect();
                let mut packed = Vec::new();
                encoder.encode(&fields, &mut packed);
                let said: Vec<(String, String)> = block.into_iter().map(|(name, value, _)| (name, value)).collect();
                prop_assert_eq!(decoded(&mut decoder, &packed), Ok(said));
            }
        }

        /// Whatever a block holds, reading it ends, and takes no more memory than it may.
        #[test]
        fn no_block_harms(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut fields = Fields::default();
            let _ = Decoder::new().decode(&block, &mut fields);
        }
    }
}
