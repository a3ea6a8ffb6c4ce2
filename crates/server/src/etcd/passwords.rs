//! Passwords are hashed and compared on threads of their own: that is slow on purpose.
//!
//! ```text
//! $2a$10$...                             bcrypt, as etcd keeps them: a snapshot carries users from one to the other
//! $pbkdf2-sha256$ROUNDS$SALT$HASH        of passwords longer than bcrypt takes; salt and hash in hexadecimal
//! ```

use std::fmt::Write as _;
use std::num::NonZeroU32;

use quorate_etcd::server::{CallId, ClientRequest};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

use super::front::Arrival;
use crate::data_dir::random_u64;
use crate::inbox::Door;

/// As etcd's: 2^10 rounds, a twentieth of a second or so.
const COST: u32 = 10;
/// What is known of a user may have been hashed more slowly than ours, but within reason: 2^14 rounds take a second.
const COST_MAX: u32 = 14;
/// The longest password that bcrypt takes.
const BCRYPT_BYTES_MAX: usize = 71;
const NAME: &str = "pbkdf2-sha256";
const ROUNDS: u32 = 100_000;
const ROUNDS_MAX: u32 = 10_000_000;
const HASH_BYTES: usize = 32;

/// Hashes a password and tells the group.
pub(super) fn hash(door: Door<Arrival>, call: CallId, password: String) {
    tokio::task::spawn_local(async move {
        let hashed = tokio::task::spawn_blocking(move || hashed(&password, &salt())).await;
        let hash = hashed.unwrap_or_default();
        door.push(Arrival::Asked(ClientRequest::PasswordHashed { call, hash }));
    });
}

/// Compares a password with a hash and tells the group.
pub(super) fn check(door: Door<Arrival>, call: CallId, password: String, hash: String) {
    tokio::task::spawn_local(async move {
        let matches = tokio::task::spawn_blocking(move || matches(&password, &hash)).await;
        let secret = secret();
        let right = matches.unwrap_or(false) && secret.is_some();
        let secret = secret.unwrap_or_default();
        door.push(Arrival::Asked(ClientRequest::PasswordChecked { call, right, secret }));
    });
}

fn secret() -> Option<[u8; 16]> {
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&random_u64().ok()?.to_be_bytes());
    secret[8..].copy_from_slice(&random_u64().ok()?.to_be_bytes());
    Some(secret)
}

fn salt() -> [u8; 16] {
    secret().unwrap_or_default()
}

fn hashed(password: &str, salt: &[u8; 16]) -> String {
    if password.len() <= BCRYPT_BYTES_MAX
        && let Ok(parts) = bcrypt::hash_with_salt(password, COST, *salt)
    {
        return parts.format_for_version(bcrypt::Version::TwoA);
    }
    let mut hash = [0; HASH_BYTES];
    let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut hash);
    format!("${NAME}${ROUNDS}${}${}", hex(salt), hex(&hash))
}

/// A user without a password has an empty hash, which nothing matches.
fn matches(password: &str, hash: &str) -> bool {
    if hash.starts_with("$2") {
        let cost = hash.get(4..6).and_then(|cost| cost.parse().ok());
        let in_reason = cost.is_some_and(|cost: u32| cost <= COST_MAX);
        return in_reason && bcrypt::verify(password, hash).unwrap_or(false);
    }
    let parts: Vec<&str> = hash.split('$').collect();
    let ["", NAME, rounds, salt, hash] = parts[..] else { return false };
    let rounds = rounds.parse().ok().filter(|rounds| *rounds <= ROUNDS_MAX);
    let (Some(rounds), Some(salt), Some(hash)) =
        (rounds.and_then(NonZeroU32::new), unhex(salt), unhex(hash))
    else {
        return false;
    };
    pbkdf2::verify(PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &hash).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-8: users of etcd's keep their passwords; those of clusters of ours from before bcrypt too.
    #[test]
    fn a_password_matches_its_own_hash_and_no_other() {
        let long = "x".repeat(BCRYPT_BYTES_MAX + 1);
        for (password, begins) in [("secret", "$2a$10$"), (&long, "$pbkdf2-sha256$100000$")] {
            let hash = hashed(password, b"salt of 16 bytes");
            assert!(hash.starts_with(begins), "{hash}");
            assert!(matches(password, &hash));
            assert!(!matches("Secret", &hash) && !matches(&format!("{password}x"), &hash));
        }
        // Of John the Ripper's test vectors, which other implementations share.
        let known = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(matches("U*U", known) && !matches("U*V", known));
        for foreign in [
            "",
            "$",
            "$pbkdf2-sha256$0$00$00",
            "$pbkdf2-sha256$99999999999$00$00",
            "$2a$10$x",
            "$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        ] {
            assert!(!matches("", foreign), "{foreign:?}");
        }
    }
}
