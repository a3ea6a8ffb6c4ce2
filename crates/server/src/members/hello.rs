//! The first words between members: whose data directories they have, and whether they know the cluster's secret.
//!
//! ```text
//! dialled ◀── hello ─── dials        "QRTM" | version 4 | cluster 8 | node 8 | incarnation 8 | to node 8
//! only with a secret (version 2):
//!         ◀── nonce 32 ──
//!         ─── nonce 32 | proof 32 ──▶
//!         ◀── proof 32 ──
//! proof    HMAC-SHA-256(secret, who proves 1 | hello | nonce of the dialler | nonce of the dialled)
//! ```
//!
//! The secret keeps strangers out. It hides nothing, and does not protect what follows from somebody who sits on the
//! wire: that is what TLS is for.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quorate_contracts::{Incarnation, NodeId, WireReader};
use quorate_storage::Identity;
use ring::hmac;
use thiserror::Error;

use super::Known;
use crate::channel::Channel;
use crate::data_dir::DataDir;

const MAGIC: &[u8; 4] = b"QRTM";
/// Of the protocol: the hello alone, or with the secret.
const PLAIN: u32 = 1;
const WITH_SECRET: u32 = 2;
const HELLO_BYTES: usize = 40;
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;

type Hello = [u8; HELLO_BYTES];
type Nonce = [u8; NONCE_BYTES];

/// What all members know.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// Who proves that it knows the secret: neither's proof can be sent back as the other's.
#[derive(Clone, Copy)]
enum Prover {
    Dials = 1,
    Dialled = 2,
}

impl Secret {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn said(prover: Prover, hello: &Hello, dials: &Nonce, dialled: &Nonce) -> Vec<u8> {
        [&[prover as u8][..], hello, dials, dialled].concat()
    }

    fn prove(&self, prover: Prover, hello: &Hello, dials: &Nonce, dialled: &Nonce) -> Vec<u8> {
        hmac::sign(&self.0, &Self::said(prover, hello, dials, dialled)).as_ref().to_vec()
    }

    fn is_proven(
        &self,
        proof: &[u8; PROOF_BYTES],
        prover: Prover,
        hello: &Hello,
        nonces: (&Nonce, &Nonce),
    ) -> bool {
        let said = Self::said(prover, hello, nonces.0, nonces.1);
        hmac::verify(&self.0, &said, proof).is_ok()
    }
}

/// Why a member's connection is closed.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("it did not say hello: {0}")]
    Silent(io::Error),
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("it does not speak our protocol")]
    Stranger,
    #[error("it speaks version {0} of the protocol; this build speaks {PLAIN} and {WITH_SECRET}")]
    Version(u32),
    #[error("it was not given `member_secret_file`, which this member has")]
    NoSecret,
    #[error("it has a `member_secret_file`, which this member was not given")]
    UnknownSecret,
    #[error("it does not know the members' secret")]
    WrongSecret,
    #[error("it is of another cluster ({0:x})")]
    OtherCluster(u64),
    #[error("it is {0}, which is no other member, or it looks for another one than this")]
    NotAMember(NodeId),
    #[error(
        "{0} has come back with an empty or foreign data directory ({1}); it must be removed and added again"
    )]
    Reborn(NodeId, Incarnation),
    #[error("its message is damaged: {0}")]
    Malformed(&'static str),
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Mute(Duration),
    #[error("cannot remember it: {0}")]
    Io(io::Error),
}

/// Introduces this member to the one that it dialled.
pub(super) async fn say(
    channel: &Channel,
    identity: Identity,
    to: NodeId,
    secret: Option<&Secret>,
) -> io::Result<()> {
    let hello = hello(identity, to, secret.is_some());
    channel.write_all(&hello).await?;
    let Some(secret) = secret else { return Ok(()) };
    let own = nonce()?;
    channel.write_all(&own).await?;
    let (mut theirs, mut proof) = ([0; NONCE_BYTES], [0; PROOF_BYTES]);
    channel.read_exact(&mut theirs).await?;
    channel.read_exact(&mut proof).await?;
    if !secret.is_proven(&proof, Prover::Dialled, &hello, (&own, &theirs)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not know the members' secret",
        ));
    }
    channel.write_all(&secret.prove(Prover::Dials, &hello, &own, &theirs)).await
}

/// Hears who dialled, and lets in members only.
pub(super) async fn hear(
    channel: &Channel,
    data_dir: &DataDir,
    members: &Known,
    secret: Option<&Secret>,
) -> Result<NodeId, Refused> {
    let mut hello = [0; HELLO_BYTES];
    channel.read_exact(&mut hello).await.map_err(Refused::Silent)?;
    match (version(&hello)?, secret) {
        (PLAIN, None) => {}
        (PLAIN, Some(_)) => return Err(Refused::NoSecret),
        (WITH_SECRET, None) => return Err(Refused::UnknownSecret),
        (WITH_SECRET, Some(secret)) => exchange_proofs(channel, &hello, secret).await?,
        (other, _) => return Err(Refused::Version(other)),
    }
    check_identity(&hello, data_dir, members)
}

async fn exchange_proofs(channel: &Channel, hello: &Hello, secret: &Secret) -> Result<(), Refused> {
    let mut theirs = [0; NONCE_BYTES];
    channel.read_exact(&mut theirs).await.map_err(Refused::Silent)?;
    let own = nonce().map_err(Refused::Io)?;
    let answer = [&own[..], &secret.prove(Prover::Dialled, hello, &theirs, &own)].concat();
    channel.write_all(&answer).await.map_err(Refused::Silent)?;
    let mut proof = [0; PROOF_BYTES];
    // Who finds our proof wrong hangs up here: it has another secret.
    channel.read_exact(&mut proof).await.map_err(|_| Refused::WrongSecret)?;
    if secret.is_proven(&proof, Prover::Dials, hello, (&theirs, &own)) {
        Ok(())
    } else {
        Err(Refused::WrongSecret)
    }
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

fn hello(identity: Identity, to: NodeId, with_secret: bool) -> Hello {
    let version = if with_secret { WITH_SECRET } else { PLAIN };
    let mut out = BytesMut::with_capacity(HELLO_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&version.to_be_bytes());
    for word in [identity.cluster.0, identity.node.0, identity.incarnation.0, to.0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let mut hello = [0; HELLO_BYTES];
    hello.copy_from_slice(&out);
    hello
}

fn version(hello: &Hello) -> Result<u32, Refused> {
    if &hello[..4] != MAGIC {
        return Err(Refused::Stranger);
    }
    Ok(u32::from_be_bytes([hello[4], hello[5], hello[6], hello[7]]))
}

fn check_identity(hello: &Hello, data_dir: &DataDir, members: &Known) -> Result<NodeId, Refused> {
    let mut input = WireReader::from_slice(&hello[8..]);
    let mut word = || input.u64().unwrap_or_default();
    let (cluster, from) = (word(), NodeId(word()));
    let (incarnation, to) = (Incarnation(word()), NodeId(word()));
    let own = data_dir.identity();
    if cluster != own.cluster.0 {
        return Err(Refused::OtherCluster(cluster));
    }
    if to != own.node || from == own.node || !members.contains(from) {
        return Err(Refused::NotAMember(from));
    }
    match data_dir.knows_peer(from, incarnation) {
        Ok(true) => Ok(from),
        Ok(false) => Err(Refused::Reborn(from, incarnation)),
        Err(error) => Err(Refused::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quorate_contracts::ClusterId;

    use super::*;
    use crate::channel::tests::both;
    use crate::data_dir::random_u64;

    /// A member's data directory, in a place of its own.
    struct Own {
        path: PathBuf,
        data_dir: DataDir,
    }

    impl Own {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("quorate-hello-{}", random_u64().unwrap()));
            DataDir::format(&path, ClusterId(7), NodeId(1)).unwrap();
            let data_dir = DataDir::open(&path, NodeId(1)).unwrap();
            Self { path, data_dir }
        }

        /// What this member makes of one that introduces itself like that, and what that one makes of it.
        fn meets(
            &self,
            identity: Identity,
            theirs: Option<&str>,
            own: Option<&str>,
        ) -> (Result<NodeId, String>, bool) {
            let secret = |text: &str| Secret::new(text.as_bytes());
            let (theirs, own) = (theirs.map(secret), own.map(secret));
            let (heard, said) = both(
                async |stream| {
                    let channel = Channel::plain(stream);
                    let known = Known::default();
                    known.let_in([NodeId(1), NodeId(2)]);
                    hear(&channel, &self.data_dir, &known, own.as_ref()).await
                },
                async |stream| {
                    say(&Channel::plain(stream), identity, NodeId(1), theirs.as_ref()).await
                },
            );
            (heard.map_err(|refused| refused.to_string()), said.is_ok())
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn member() -> Identity {
        Identity { cluster: ClusterId(7), node: NodeId(2), incarnation: Incarnation(20) }
    }

    /// RPC-8: where members have a secret, only who knows it is let in, and who does not know it is not believed either.
    #[test]
    fn the_secret_keeps_strangers_out() {
        let own = Own::new();
        assert_eq!(own.meets(member(), None, None).0, Ok(NodeId(2)));
        assert_eq!(own.meets(member(), Some("alike"), Some("alike")), (Ok(NodeId(2)), true));
        for (theirs, ours, reason) in [
            (None, Some("alike"), "was not given"),
            (Some("alike"), None, "this member was not given"),
            (Some("other"), Some("alike"), "does not know the members' secret"),
        ] {
            let (heard, _) = own.meets(member(), theirs, ours);
            assert!(heard.as_ref().is_err_and(|refused| refused.contains(reason)), "{heard:?}");
        }
        assert!(!own.meets(member(), Some("other"), Some("alike")).1, "the dialler is not fooled");
    }

    /// RPC-8: identities decide, with a secret or without.
    #[test]
    fn only_members_of_this_cluster_in_their_first_life_are_let_in() {
        let own = Own::new();
        assert_eq!(own.meets(member(), None, None).0, Ok(NodeId(2)));
        for (identity, reason) in [
            (Identity { cluster: ClusterId(8), ..member() }, "another cluster (8)"),
            (Identity { node: NodeId(3), ..member() }, "n3, which is no other member"),
            (Identity { node: NodeId(1), ..member() }, "n1, which is no other member"),
            (Identity { incarnation: Incarnation(21), ..member() }, "n2 has come back"),
        ] {
            let (heard, _) = own.meets(identity, None, None);
            assert!(heard.as_ref().is_err_and(|refused| refused.contains(reason)), "{heard:?}");
        }
    }

    /// A proof is good for one side and one conversation.
    #[test]
    fn a_proof_cannot_be_used_again() {
        let secret = Secret::new(b"a secret of sixteen bytes");
        let (hello, dials, dialled) = ([1; HELLO_BYTES], [2; NONCE_BYTES], [3; NONCE_BYTES]);
        let proof = secret.prove(Prover::Dials, &hello, &dials, &dialled);
        let proof: [u8; PROOF_BYTES] = proof.try_into().unwrap();
        let good = |prover, nonces| secret.is_proven(&proof, prover, &hello, nonces);
        assert!(good(Prover::Dials, (&dials, &dialled)));
        assert!(!good(Prover::Dialled, (&dials, &dialled)));
        assert!(!good(Prover::Dials, (&dials, &dials)));
    }
}
