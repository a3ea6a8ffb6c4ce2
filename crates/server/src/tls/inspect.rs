//! Certificates looked at before a handshake fails because of them (`quorate doctor`): do they read, does the key belong to
//! them, who vouches for them, for which host, and for how long.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, certificates, identity, provider, roots, unusable, verifier};
use crate::config::ServeConfig;

/// What a configuration uses one certificate for.
#[derive(Clone, Debug)]
pub struct CertificateUse {
    /// The table that names it: `member_tls`, `client_tls` or `etcd_tls`.
    pub table: &'static str,
    /// The certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Who vouches for those at the other end.
    pub ca: Option<PathBuf>,
    /// The host that members dial this one under: only between members is the authority known that vouches for this very
    /// certificate, so only there it can be verified as the other end will.
    pub dialled_as: Option<String>,
}

/// How long a certificate holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl ServeConfig {
    /// The certificates that it names.
    pub fn certificates(&self) -> Vec<CertificateUse> {
        let host = self.own_address().map(|own| {
            let host = own.member.rsplit_once(':').map_or("", |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']').to_string()
        });
        let members = self.member_tls.iter().map(|tls| CertificateUse {
            table: "member_tls",
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            ca: Some(tls.ca.clone()),
            dialled_as: host.clone(),
        });
        let clients = [("client_tls", &self.client_tls), ("etcd_tls", &self.etcd_tls)];
        let clients = clients.into_iter().filter_map(|(table, tls)| {
            let tls = tls.as_ref()?;
            let (certificate, key, ca) = (tls.certificate.clone(), tls.key.clone(), tls.ca.clone());
            Some(CertificateUse { table, certificate, key, ca, dialled_as: None })
        });
        members.chain(clients).collect()
    }
}

impl CertificateUse {
    /// How long the certificate, and each that it came with, holds. Errors say which file does not read.
    pub fn validity(&self) -> Result<Validity, TlsError> {
        let all = certificates(&self.certificate)?;
        let spans =
            all.iter().map(|one| span(&self.certificate, one)).collect::<Result<Vec<_>, _>>()?;
        let from = spans.iter().map(|span| span.from).max();
        let until = spans.iter().map(|span| span.until).min();
        let (from, until) =
            (from.unwrap_or(SystemTime::UNIX_EPOCH), until.unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(Validity { from, until })
    }

    /// Whether the key belongs to the certificate, and whoever is asked would trust it at this time.
    pub fn verify(&self, at: SystemTime) -> Result<(), TlsError> {
        let (chain, key) = identity(&self.certificate, &self.key)?;
        rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider())
            .map_err(|error| unusable(&self.key, error))?;
        let (Some(ca), Some((own, between))) = (&self.ca, chain.split_first()) else {
            return Ok(());
        };
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        // The clients' authority is read too: it may be the one file that is wrong.
        let clients = verifier(ca, None, false)?;
        let Some(host) = &self.dialled_as else { return Ok(()) };
        let wrong = |error| unusable(&self.certificate, error);
        clients.verify_client_cert(own, between, now).map_err(wrong)?;
        let name = ServerName::try_from(host.clone()).map_err(|error| TlsError::Authority {
            path: self.certificate.clone(),
            error: format!("{host}: {error}"),
        })?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider()).build().map_err(
                |error| TlsError::Authority { path: ca.clone(), error: error.to_string() },
            )?;
        servers.verify_server_cert(own, between, &name, &[], now).map_err(wrong).map(|_| ())
    }
}

fn span(path: &Path, certificate: &[u8]) -> Result<Validity, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
        TlsError::Authority { path: path.to_path_buf(), error: error.to_string() }
    })?;
    let time = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let validity = parsed.validity();
    Ok(Validity {
        from: time(validity.not_before.timestamp()),
        until: time(validity.not_after.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Authority;
    use super::*;
    use crate::tls::MemberTls;

    fn used(tls: MemberTls, dialled_as: &str) -> CertificateUse {
        let MemberTls { certificate, key, ca } = tls;
        let (ca, dialled_as) = (Some(ca), Some(dialled_as.to_string()));
        CertificateUse { table: "member_tls", certificate, key, ca, dialled_as }
    }

    #[test]
    fn a_member_is_verified_as_the_others_will() {
        let (authority, other) = (Authority::new(), Authority::new());
        let now = SystemTime::now();
        let good = used(authority.certify("n1"), "127.0.0.1");
        good.verify(now).unwrap();
        assert!(good.validity().unwrap().until > now);

        let elsewhere = used(authority.certify("n2"), "10.9.9.9").verify(now).unwrap_err();
        assert!(elsewhere.to_string().contains("not valid for name"), "{elsewhere}");
        let mut strange = used(authority.certify("n3"), "127.0.0.1");
        strange.ca = Some(other.certify("x").ca);
        let strange = strange.verify(now).unwrap_err();
        let told = strange.to_string();
        // Both authorities of this test have the same name.
        assert!(told.contains("UnknownIssuer") || told.contains("BadSignature"), "{told}");
        let mut mixed = used(authority.certify("n4"), "127.0.0.1");
        mixed.key = authority.certify("n5").key;
        assert!(mixed.verify(now).unwrap_err().to_string().contains("n5.key"));
        let late = good.validity().unwrap().until + Duration::from_secs(1);
        assert!(good.verify(late).unwrap_err().to_string().contains("xpired"));
    }
}
