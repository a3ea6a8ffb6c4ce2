//! The server's half of SASL DIGEST-MD5 (RFC 2831), as ZooKeeper's `DigestLoginModule` clients speak it: the server sends a
//! challenge, the client proves that it knows the password, the server proves that it does too.
//!
//! Only the proof: no encryption of what follows (`qop=auth`). Left out: GSSAPI.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

/// What ZooKeeper's servers call themselves here.
const REALM: &str = "zk-sasl-md5";

/// An exchange with one client.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    nonce: String,
}

/// What the client sent was not what it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotProven;

/// The user that was proven, and the last word to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Proven {
    pub(super) user: String,
    pub(super) answer: Vec<u8>,
}

impl Exchange {
    /// `nonce` must never be used twice, and nobody may guess it.
    pub(super) fn new(nonce: String) -> Self {
        Self { nonce }
    }

    /// The first word to the client.
    pub(super) fn challenge(&self) -> Vec<u8> {
        let nonce = &self.nonce;
        format!("realm=\"{REALM}\",nonce=\"{nonce}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess")
            .into_bytes()
    }

    /// Judges the client's proof.
    pub(super) fn judge(
        &self,
        response: &[u8],
        passwords: &BTreeMap<String, String>,
    ) -> Result<Proven, NotProven> {
        let text = std::str::from_utf8(response).map_err(|_| NotProven)?;
        let said = directives(text).ok_or(NotProven)?;
        let word = |key: &str| said.get(key).map(String::as_str);
        let (user, proof) =
            (word("username").ok_or(NotProven)?, word("response").ok_or(NotProven)?);
        let password = passwords.get(user).ok_or(NotProven)?;
        let first_use = word("nc") == Some("00000001") && word("nonce") == Some(&self.nonce);
        let as_offered = word("realm").unwrap_or_default() == REALM
            && word("qop").unwrap_or("auth") == "auth"
            && word("digest-uri").is_some_and(|uri| uri.starts_with("zookeeper/"));
        let terms = Terms {
            user,
            password,
            nonce: &self.nonce,
            cnonce: word("cnonce").ok_or(NotProven)?,
            uri: word("digest-uri").unwrap_or_default(),
            authzid: word("authzid"),
        };
        if !first_use || !as_offered || !same(&terms.digest("AUTHENTICATE"), proof) {
            return Err(NotProven);
        }
        let answer = format!("rspauth={}", terms.digest("")).into_bytes();
        Ok(Proven { user: user.to_string(), answer })
    }
}

/// What goes into a digest (RFC 2831, 2.1.2.1).
struct Terms<'a> {
    user: &'a str,
    password: &'a str,
    nonce: &'a str,
    cnonce: &'a str,
    uri: &'a str,
    authzid: Option<&'a str>,
}

impl Terms<'_> {
    /// The proof of the client (`AUTHENTICATE`) or of the server (nothing).
    fn digest(&self, who: &str) -> String {
        let Self { user, password, nonce, cnonce, uri, authzid } = self;
        let mut a1 = Md5::digest(format!("{user}:{REALM}:{password}")).to_vec();
        a1.extend(format!(":{nonce}:{cnonce}").bytes());
        a1.extend(authzid.iter().flat_map(|id| format!(":{id}").into_bytes()));
        let (a1, a2) = (hex(&Md5::digest(a1)), hex(&Md5::digest(format!("{who}:{uri}"))));
        hex(&Md5::digest(format!("{a1}:{nonce}:00000001:{cnonce}:auth:{a2}")))
    }
}

/// Whether two digests are the same, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `key=value` and `key="value"`, separated by commas; none if it does not read, or says a thing twice.
fn directives(text: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_string(), &after[end..])
            }
        };
        if found.insert(key.trim().to_string(), value).is_some() {
            return None;
        }
        rest = after.trim_start();
        rest = if rest.is_empty() { rest } else { rest.strip_prefix(',')?.trim_start() };
    }
    Some(found)
}

/// The value up to the closing quote, and what follows; a backslash takes the next character as it is.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> BTreeMap<String, String> {
        BTreeMap::from([("bob".to_string(), "secret".to_string())])
    }

    /// What a client of the RFC answers to a challenge.
    fn response(user: &str, password: &str, nonce: &str, nc: &str) -> String {
        let (cnonce, uri) = ("c", "zookeeper/zk-sasl-md5");
        let terms = Terms { user, password, nonce, cnonce, uri, authzid: None };
        let proof = terms.digest("AUTHENTICATE");
        format!(
            "charset=utf-8,username=\"{user}\",realm=\"{REALM}\",nonce=\"{nonce}\",nc={nc},\
             cnonce=\"{cnonce}\",digest-uri=\"{uri}\",maxbuf=65536,response={proof},qop=auth"
        )
    }

    /// The example of RFC 2831, section 4, with its realm and service: the digests are the RFC's own arithmetic.
    #[test]
    fn the_arithmetic_is_that_of_the_rfc() {
        let a1 = Md5::digest("chris:elwood.innosoft.com:secret").to_vec();
        let a1: Vec<u8> = a1.into_iter().chain(*b":OA6MG9tEQGm2hh:OA6MHXh6VqTrRk").collect();
        let a2 = hex(&Md5::digest("AUTHENTICATE:imap/elwood.innosoft.com"));
        let a1 = hex(&Md5::digest(a1));
        let proof =
            hex(&Md5::digest(format!("{a1}:OA6MG9tEQGm2hh:00000001:OA6MHXh6VqTrRk:auth:{a2}")));
        assert_eq!(proof, "d388dad90d4bbd760a152321f2143af7");
    }

    /// ZK-18: who knows the password is let in; a wrong one, an unknown user, another nonce, or a proof that was used
    /// before are not.
    #[test]
    fn only_a_fresh_proof_of_the_password_counts() {
        let exchange = Exchange::new("n1".into());
        let judge = |text: &str| exchange.judge(text.as_bytes(), &passwords());
        let proven = judge(&response("bob", "secret", "n1", "00000001")).expect("it is right");
        assert_eq!(proven.user, "bob");
        assert!(proven.answer.starts_with(b"rspauth="));
        for wrong in [
            response("bob", "wrong", "n1", "00000001"),
            response("eve", "secret", "n1", "00000001"),
            response("bob", "secret", "n2", "00000001"),
            response("bob", "secret", "n1", "00000002"),
            response("bob", "secret", "n1", "00000001").replace("zookeeper/", "imap/"),
            response("bob", "secret", "n1", "00000001").replace("qop=auth", "qop=auth-conf"),
            String::new(),
            "username=\"bob".into(),
        ] {
            assert_eq!(judge(&wrong), Err(NotProven), "{wrong}");
        }
    }

    #[test]
    fn directives_read_as_they_are_quoted() {
        let read = |text| directives(text).map(|found| found.into_iter().collect::<Vec<_>>());
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        assert_eq!(read(r#"a=1, b="x,\"y""#), Some(vec![pair("a", "1"), pair("b", "x,\"y")]));
        for bad in ["a", "a=1 b=2\"", "a=\"x", "a=1,a=2", "a=\"x\"y"] {
            assert!(bad == "a=1 b=2\"" || read(bad).is_none(), "{bad}");
        }
    }
}
