//! Fields to blocks (RFC 7541, section 6).

use super::TABLE_BYTES;
use super::table::Table;
use crate::fields::Field;

/// One direction of a connection.
pub(crate) struct Encoder {
    table: Table,
    /// The table has another size from the next block on.
    resized: bool,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES), resized: false }
    }

    /// The peer keeps at most so many bytes. We never keep more than we would unasked.
    pub(crate) fn table_bytes_max(&mut self, bytes: usize) {
        let bytes = bytes.min(TABLE_BYTES);
        self.resized |= bytes != self.table.cost_max();
        self.table.resize(bytes);
    }

    /// Appends a block of these fields.
    pub(crate) fn encode(&mut self, fields: &[Field<'_>], out: &mut Vec<u8>) {
        if std::mem::take(&mut self.resized) {
            number(5, 0x20, self.table.cost_max(), out);
        }
        for field in fields {
            self.field(field, out);
        }
    }

    fn field(&mut self, field: &Field<'_>, out: &mut Vec<u8>) {
        let (name, value) = (field.name.as_bytes(), field.value);
        if field.keep
            && let Some(index) = self.table.find(name, value)
        {
            return number(7, 0x80, index, out);
        }
        let index = self.table.find_name(name).unwrap_or(0);
        // Never indexed: nobody on the way may keep it either.
        let (bits, form) = if field.keep { (6, 0x40) } else { (4, 0x10) };
        number(bits, form, index, out);
        if index == 0 {
            string(name, out);
        }
        string(value, out);
        if field.keep {
            self.table.insert(name, value);
        }
    }
}

/// Section 5.1.
fn number(bits: u32, form: u8, number: usize, out: &mut Vec<u8>) {
    let mask = (1usize << bits) - 1;
    if number < mask {
        return out.push(form | number as u8);
    }
    out.push(form | mask as u8);
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    number(7, 0, text.len(), out);
    out.extend_from_slice(text);
}
