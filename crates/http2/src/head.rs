//! Which fields make a request, a response or trailers (RFC 9113, section 8).

use crate::fields::Fields;

/// What fields may not be here: they are about one connection of HTTP/1.1 (section 8.2.2).
const CONNECTION_FIELDS: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// How many of each pseudo-header there are.
#[derive(Default)]
struct Pseudo {
    method: u32,
    scheme: u32,
    path: u32,
    authority: u32,
    status: u32,
}

/// Whether these are the fields of a request.
pub(crate) fn is_request(fields: &Fields) -> bool {
    let Some(pseudo) = checked(fields) else { return false };
    let once = pseudo.method == 1 && pseudo.scheme == 1 && pseudo.path == 1;
    once && pseudo.authority <= 1 && pseudo.status == 0 && fields.get(":path") != Some(b"")
}

/// Whether these are the fields of a response.
pub(crate) fn is_response(fields: &Fields) -> bool {
    let Some(pseudo) = checked(fields) else { return false };
    let requests = pseudo.method + pseudo.scheme + pseudo.path + pseudo.authority;
    pseudo.status == 1 && requests == 0
}

/// Whether these may come behind a body.
pub(crate) fn are_trailers(fields: &Fields) -> bool {
    checked(fields).is_some() && fields.iter().all(|(name, _)| name.first() != Some(&b':'))
}

/// The length that a body must have; an error if it is no number.
pub(crate) fn content_length(fields: &Fields) -> Result<Option<u64>, ()> {
    let Some(text) = fields.get("content-length") else { return Ok(None) };
    let digits = text.iter().all(u8::is_ascii_digit);
    let number =
        std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.map(Some).ok_or(())
}

/// The rules of section 8.2 and 8.3 for every block.
fn checked(fields: &Fields) -> Option<Pseudo> {
    let mut pseudo = Pseudo::default();
    let mut regular = false;
    for (name, value) in fields.iter() {
        if let Some((b':', _)) = name.split_first() {
            if regular {
                return None;
            }
            *pseudo.count(name)? += 1;
        } else {
            regular = true;
            if !is_regular(name, value) {
                return None;
            }
        }
    }
    Some(pseudo)
}

impl Pseudo {
    fn count(&mut self, name: &[u8]) -> Option<&mut u32> {
        Some(match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":status" => &mut self.status,
            _ => return None,
        })
    }
}

/// Section 8.2.1: what would be another field to somebody who writes it as HTTP/1.1.
fn is_regular(name: &[u8], value: &[u8]) -> bool {
    let good_name = !name.is_empty()
        && name
            .iter()
            .all(|byte| matches!(byte, 0x21..=0x7e) && !byte.is_ascii_uppercase() && *byte != b':');
    let good_value = !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    let te = name != b"te" || value == b"trailers";
    good_name && good_value && te && !CONNECTION_FIELDS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        pairs.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    const REQUEST: [(&str, &str); 3] =
        [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C")];

    /// Sections 8.2 and 8.3, one rule a row.
    #[test]
    fn what_makes_a_request() {
        assert!(is_request(&fields(&REQUEST)));
        let odd_authority = [&REQUEST[..], &[(":authority", "http://127.0.0.1:2379")]].concat();
        assert!(is_request(&fields(&odd_authority)), "as Go's etcd clients write it");
        for more in [
            (":status", "200"),
            (":method", "GET"),
            (":other", ""),
            ("Upper", ""),
            ("", ""),
            ("connection", "close"),
            ("te", "gzip"),
            ("a", "line\nbreak"),
        ] {
            assert!(!is_request(&fields(&[&REQUEST[..], &[more]].concat())), "{more:?}");
        }
        assert!(!is_request(&fields(&REQUEST[1..])), "no method");
        let late = [&REQUEST[..2], &[("a", "b")], &REQUEST[2..]].concat();
        assert!(!is_request(&fields(&late)), "a pseudo-header behind a field");
    }

    #[test]
    fn what_makes_a_response_and_trailers() {
        assert!(is_response(&fields(&[(":status", "200"), ("content-type", "text/plain")])));
        assert!(!is_response(&fields(&REQUEST)));
        assert!(!is_response(&fields(&[])));
        assert!(are_trailers(&fields(&[("grpc-status", "0")])));
        assert!(!are_trailers(&fields(&[(":status", "200")])));
    }

    #[test]
    fn a_length_is_a_number() {
        assert_eq!(content_length(&fields(&[])), Ok(None));
        assert_eq!(content_length(&fields(&[("content-length", "12")])), Ok(Some(12)));
        assert_eq!(content_length(&fields(&[("content-length", "+12")])), Err(()));
    }
}
