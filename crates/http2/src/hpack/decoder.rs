//! Blocks to fields (RFC 7541, section 6).

use super::table::Table;
use super::{HpackError, TABLE_BYTES, huffman};
use crate::fields::Fields;

/// Continued bytes of a number: enough for 32 bits.
const CONTINUED_MAX: u32 = 5;

/// One direction of a connection.
pub(crate) struct Decoder {
    table: Table,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES) }
    }

    /// Appends the fields of a block. Fields beyond what `fields` may hold are read, for the table's sake, and left out.
    pub(crate) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), HpackError> {
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => self.indexed(number(7, &mut rest)?, fields)?,
                0x40.. => self.literal(number(6, &mut rest)?, true, &mut rest, fields)?,
                0x20.. if fields.is_untouched() => self.resize(number(5, &mut rest)?)?,
                0x20.. => return Err(HpackError::TableSize),
                _ => self.literal(number(4, &mut rest)?, false, &mut rest, fields)?,
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, fields: &mut Fields) -> Result<(), HpackError> {
        let (name, value) = self.table.get(index).ok_or(HpackError::Index)?;
        fields.push(name, value);
        Ok(())
    }

    fn literal(
        &mut self,
        index: usize,
        keep: bool,
        rest: &mut &[u8],
        fields: &mut Fields,
    ) -> Result<(), HpackError> {
        let mut field = fields.begin();
        match index {
            0 => string(rest, field.bytes())?,
            index => {
                let (name, _) = self.table.get(index).ok_or(HpackError::Index)?;
                field.bytes().extend_from_slice(name);
            }
        }
        field.name_ends();
        string(rest, field.bytes())?;
        if keep {
            let (name, value) = field.parts();
            self.table.insert(name, value);
        }
        field.end();
        Ok(())
    }

    fn resize(&mut self, bytes: usize) -> Result<(), HpackError> {
        if bytes > TABLE_BYTES {
            return Err(HpackError::TableSize);
        }
        self.table.resize(bytes);
        Ok(())
    }
}

/// Section 5.1: a number that begins in the low bits of a byte.
fn number(bits: u32, rest: &mut &[u8]) -> Result<usize, HpackError> {
    let (first, after) = rest.split_first().ok_or(HpackError::Cut)?;
    *rest = after;
    let mask = (1u64 << bits) - 1;
    let mut number = u64::from(*first) & mask;
    if number < mask {
        return Ok(number as usize);
    }
    for place in 0..CONTINUED_MAX {
        let (byte, after) = rest.split_first().ok_or(HpackError::Cut)?;
        *rest = after;
        number += u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(number)
                .map(|number| number as usize)
                .map_err(|_| HpackError::Number);
        }
    }
    Err(HpackError::Number)
}

/// Section 5.2.
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let is_huffman = rest.first().ok_or(HpackError::Cut)? & 0x80 != 0;
    let length = number(7, rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(HpackError::Cut)?;
    *rest = after;
    if is_huffman {
        return huffman::decode(text, out);
    }
    out.extend_from_slice(text);
    Ok(())
}
