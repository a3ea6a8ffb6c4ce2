//! Header fields: those that came, in one buffer, and those to be sent.

/// Bytes of all fields of a block, with 32 for each, as `SETTINGS_MAX_HEADER_LIST_SIZE` counts them (RFC 9113, 6.5.2).
pub(crate) const LIST_BYTES_MAX: usize = 64 << 10;
const OVERHEAD_BYTES: usize = 32;

/// The fields of a block, in their order; names are in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// Names and values, one behind the other.
    bytes: Vec<u8>,
    /// Where each name ends, and each value.
    ends: Vec<(u32, u32)>,
    /// There were more than may be kept.
    overflown: bool,
}

impl Fields {
    pub(crate) fn with_room() -> Self {
        Self { bytes: Vec::with_capacity(256), ends: Vec::with_capacity(12), overflown: false }
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name.as_bytes()).map(|(_, value)| value)
    }

    /// The value of the first field of this name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut from = 0;
        self.ends.iter().map(move |(name, value)| {
            let (name_at, name, value) = (from, *name as usize, *value as usize);
            from = value;
            (&self.bytes[name_at..name], &self.bytes[name..value])
        })
    }

    /// More came than may be kept.
    pub(crate) fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// Nothing came yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.ends.is_empty() && !self.overflown
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let mut field = self.begin();
        field.bytes().extend_from_slice(name);
        field.name_ends();
        field.bytes().extend_from_slice(value);
        field.end();
    }

    /// A field that is written into the buffer as it is read.
    pub(crate) fn begin(&mut self) -> Unfinished<'_> {
        let from = self.bytes.len();
        Unfinished { fields: self, from, name_end: from }
    }
}

/// A field whose end is not known yet; forgotten, it leaves bytes that belong to no field, and the whole block is thrown away.
pub(crate) struct Unfinished<'a> {
    fields: &'a mut Fields,
    from: usize,
    name_end: usize,
}

impl Unfinished<'_> {
    /// Where its bytes go.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.fields.bytes
    }

    pub(crate) fn name_ends(&mut self) {
        self.name_end = self.fields.bytes.len();
    }

    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        self.fields.bytes[self.from..].split_at(self.name_end - self.from)
    }

    pub(crate) fn end(self) {
        let Fields { bytes, ends, overflown } = self.fields;
        if bytes.len() + OVERHEAD_BYTES * (ends.len() + 1) > LIST_BYTES_MAX {
            bytes.truncate(self.from);
            *overflown = true;
        } else {
            ends.push((self.name_end as u32, bytes.len() as u32));
        }
    }
}

/// A field to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
    /// It will come again, so both ends keep it.
    pub(crate) keep: bool,
}

impl<'a> Field<'a> {
    /// A field that will come again on this connection: from then on it is a byte or two. The name is in lower case.
    pub const fn new(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, keep: true }
    }

    /// A field that is spelt out and kept by nobody: a secret, or what is never the same.
    pub const fn once(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, keep: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_the_first_of_several() {
        let mut fields = Fields::default();
        for (name, value) in [("a", "1"), ("b", ""), ("a", "2")] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(fields.text("a"), Some("1"));
        assert_eq!(fields.text("b"), Some(""));
        assert_eq!(fields.text("c"), None);
        assert_eq!(fields.iter().count(), 3);
    }

    /// A list of headers is bounded whatever the table lets a few bytes say.
    #[test]
    fn what_is_too_much_is_left_out_and_told() {
        let mut fields = Fields::default();
        for _ in 0..100 {
            fields.push(b"name", &[b'x'; 1000]);
        }
        assert!(fields.is_overflown());
        assert!(fields.bytes.len() <= LIST_BYTES_MAX);
    }
}
