//! TLS as configured: PEM files become rustls's configurations, and a client's certificate the name that the ACL
//! scheme `x509` knows it by.

pub(crate) mod inspect;
pub(crate) mod renewal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// TLS for clients (`[client_tls]`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// This server's certificate, with those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Authorities of the clients' certificates (PEM); needed unless `client_certificate` is `none`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Certificates that the authorities took back (PEM or DER), if they publish such lists.
    #[serde(default)]
    pub crl: Option<PathBuf>,
    /// What is asked of clients.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
}

/// Whether clients must show a certificate (ZooKeeper's `ssl.clientAuth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// None is asked for.
    None,
    /// One is asked for; who shows none is let in, who shows a wrong one is not.
    Want,
    /// Who shows none is not let in.
    #[default]
    Need,
}

/// Mutual TLS between members (`[member_tls]`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberTls {
    /// This member's certificate (PEM), valid for the host in its `member` address, as server and as client.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The members' authority (PEM): whoever holds a certificate of it is taken for a member's host.
    pub ca: PathBuf,
}

/// TLS cannot be set up.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TlsError {
    #[error("{path}: {error}")]
    Pem { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate")]
    Empty { path: PathBuf },
    #[error("{path}: {error}")]
    Unusable { path: PathBuf, error: rustls::Error },
    #[error("{path}: {error}")]
    Authority { path: PathBuf, error: String },
    #[error("`ca` is missing: who vouches for the clients' certificates?")]
    NoAuthority,
}

impl ClientTls {
    /// Whether clients could be accepted with it: its files read, its key is its certificate's.
    pub fn check(&self) -> Result<(), TlsError> {
        self.acceptor().map(drop)
    }

    /// What clients are accepted with.
    pub(crate) fn acceptor(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let (certificates, key) = identity(&self.certificate, &self.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.certificate, error))?;
        let builder = match self.client_certificate {
            ClientCertificate::None => builder.with_no_client_auth(),
            mode => {
                let ca = self.ca.as_deref().ok_or(TlsError::NoAuthority)?;
                let optional = mode == ClientCertificate::Want;
                builder.with_client_cert_verifier(verifier(ca, self.crl.as_deref(), optional)?)
            }
        };
        let config = builder.with_single_cert(certificates, key);
        config.map(Arc::new).map_err(|error| unusable(&self.certificate, error))
    }

    /// Paths in a file are meant from where the file is.
    pub(crate) fn resolve(&mut self, directory: &Path) {
        self.certificate = directory.join(&self.certificate);
        self.key = directory.join(&self.key);
        self.ca = self.ca.take().map(|ca| directory.join(ca));
        self.crl = self.crl.take().map(|crl| directory.join(crl));
    }
}

impl MemberTls {
    /// Whether members could be accepted and dialled with it.
    pub fn check(&self) -> Result<(), TlsError> {
        self.acceptor()?;
        self.dialler().map(drop)
    }

    /// What members are accepted with: they must prove who they are.
    pub(crate) fn acceptor(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let tls = ClientTls {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            ca: Some(self.ca.clone()),
            crl: None,
            client_certificate: ClientCertificate::Need,
        };
        tls.acceptor()
    }

    /// What members are dialled with.
    pub(crate) fn dialler(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let (certificates, key) = identity(&self.certificate, &self.key)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.certificate, error))?
            .with_root_certificates(roots(&self.ca)?)
            .with_client_auth_cert(certificates, key);
        config.map(Arc::new).map_err(|error| unusable(&self.certificate, error))
    }

    /// Paths in a file are meant from where the file is.
    pub(crate) fn resolve(&mut self, directory: &Path) {
        for path in [&mut self.certificate, &mut self.key, &mut self.ca] {
            *path = directory.join(&*path);
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(path: &Path, error: rustls::Error) -> TlsError {
    TlsError::Unusable { path: path.to_path_buf(), error }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let path = key.to_path_buf();
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Pem { path, error })?;
    Ok((certificates(certificate)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |error| TlsError::Pem { path: path.to_path_buf(), error };
    let all = CertificateDer::pem_file_iter(path).map_err(pem)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if all.is_empty() { Err(TlsError::Empty { path: path.to_path_buf() }) } else { Ok(all) }
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

fn verifier(
    ca: &Path,
    crl: Option<&Path>,
    optional: bool,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
    let builder = match crl {
        // A list speaks of the certificates that its authority signed itself.
        Some(crl) => builder
            .with_crls(taken_back(crl)?)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status(),
        None => builder,
    };
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder
        .build()
        .map_err(|error| TlsError::Authority { path: ca.to_path_buf(), error: error.to_string() })
}

/// Lists of certificates taken back: PEM, or one in DER as authorities publish them.
fn taken_back(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = |error| TlsError::Pem { path: path.to_path_buf(), error };
    let bytes =
        std::fs::read(path).map_err(|error| pem(rustls::pki_types::pem::Error::Io(error)))?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&bytes);
    let lists = lists.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    // What holds no list would let everybody in; rustls says so of bytes that are none.
    Ok(if lists.is_empty() { vec![bytes.into()] } else { lists })
}

/// The common name in a certificate's subject; `None` if there is none, or the certificate does not read.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_string)
}

/// A certificate's subject as Java writes it (RFC 2253: the most specific part first), which is what ZooKeeper's
/// ACL scheme `x509` compares. `None` if it does not read.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut parts = Vec::new();
    for relative in certificate.subject().iter() {
        let attributes: Option<Vec<String>> = relative
            .iter()
            .map(|attribute| {
                let value = attribute.as_str().ok()?;
                Some(format!(
                    "{}={}",
                    short_name(&attribute.attr_type().to_id_string()),
                    escape(value)
                ))
            })
            .collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The names of RFC 2253; other attributes keep their numbers.
fn short_name(oid: &str) -> &str {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        other => other,
    }
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for (at, letter) in value.char_indices() {
        let at_an_end = at == 0 || at + letter.len_utf8() == value.len();
        let special = matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (letter == ' ' && at_an_end)
            || (letter == '#' && at == 0);
        if special {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    };

    use rustls::pki_types::UnixTime;

    use super::*;

    /// An authority, and files of the certificates that it gave out.
    pub(crate) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        directory: PathBuf,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let directory = std::env::temp_dir()
                .join(format!("quorate-tls-{}", crate::data_dir::random_u64().unwrap()));
            std::fs::create_dir_all(&directory).unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            std::fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
            Self { issuer: Issuer::new(params, key), directory }
        }

        /// A certificate for 127.0.0.1, as server or client.
        pub(crate) fn certify(&self, name: &str) -> MemberTls {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Quorate, tests");
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let file = |suffix: &str| self.directory.join(format!("{name}{suffix}"));
            std::fs::write(file(".pem"), certificate.pem()).unwrap();
            std::fs::write(file(".key"), key.serialize_pem()).unwrap();
            let ca = self.directory.join("ca.pem");
            MemberTls { certificate: file(".pem"), key: file(".key"), ca }
        }
    }

    impl Authority {
        fn take_back(&self, serial: &[u8]) -> rcgen::CertificateRevocationList {
            let taken_back = rcgen::RevokedCertParams {
                serial_number: serial.to_vec().into(),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let params = rcgen::CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2026, 1, 1),
                next_update: rcgen::date_time_ymd(2046, 1, 1),
                crl_number: vec![1].into(),
                issuing_distribution_point: None,
                revoked_certs: vec![taken_back],
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            params.signed_by(&self.issuer).unwrap()
        }
    }

    impl Drop for Authority {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    pub(crate) fn server(authority: &Authority, mode: ClientCertificate) -> Arc<ServerConfig> {
        let MemberTls { certificate, key, ca } = authority.certify("server");
        let tls = ClientTls { certificate, key, ca: Some(ca), crl: None, client_certificate: mode };
        tls.acceptor().unwrap()
    }

    pub(crate) fn client(authority: &Authority) -> Arc<ClientConfig> {
        authority.certify("client").dialler().unwrap()
    }

    pub(crate) fn client_of(authority: &Authority, trusts: &Authority) -> Arc<ClientConfig> {
        let ca = trusts.directory.join("ca.pem");
        MemberTls { ca, ..authority.certify("client") }.dialler().unwrap()
    }

    pub(crate) fn client_without_certificate(trusts: &Authority) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&trusts.directory.join("ca.pem")).unwrap())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// ZK-18: whom the authority took back is not let in, whether its list is PEM or DER; a file without a list is refused, since it
    /// would let everybody in.
    #[test]
    fn who_was_taken_back_is_not_let_in() {
        let authority = Authority::new();
        let MemberTls { certificate, ca, .. } = authority.certify("client");
        let certificate = certificates(&certificate).unwrap().remove(0);
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        let list = authority.take_back(parsed.raw_serial());
        let file = authority.directory.join("list");
        let judge = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            let verifier = verifier(&ca, Some(&file), false)?;
            Ok::<_, TlsError>(verifier.verify_client_cert(&certificate, &[], UnixTime::now()))
        };
        for bytes in [list.der().to_vec(), list.pem().unwrap().into_bytes()] {
            let refused = judge(&bytes).unwrap().unwrap_err();
            assert_eq!(refused, rustls::CertificateError::Revoked.into());
        }
        let none = authority.take_back(&[1]);
        assert!(judge(none.der()).unwrap().is_ok());
        assert!(judge(b"no list").is_err());
    }

    /// ZK-18: TLS that cannot be set up says which file is to blame.
    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let authority = Authority::new();
        let MemberTls { certificate, key, .. } = authority.certify("server");
        let mut tls = ClientTls {
            certificate: certificate.clone(),
            key: key.clone(),
            ca: None,
            crl: None,
            client_certificate: ClientCertificate::Need,
        };
        assert!(matches!(tls.acceptor(), Err(TlsError::NoAuthority)));
        tls.client_certificate = ClientCertificate::None;
        assert!(tls.acceptor().is_ok());
        tls.key = certificate.with_extension("missing");
        assert!(tls.acceptor().unwrap_err().to_string().contains("server.missing"));
        (tls.key, tls.certificate) = (key.clone(), key);
        assert!(matches!(tls.acceptor(), Err(TlsError::Empty { .. })));
    }

    #[test]
    fn names_are_escaped_as_rfc_2253_says() {
        for (plain, escaped) in [
            ("plain", "plain"),
            ("a,b", "a\\,b"),
            (" inner space ", "\\ inner space\\ "),
            ("#1", "\\#1"),
            ("1#", "1#"),
            ("a\\b\"c", "a\\\\b\\\"c"),
        ] {
            assert_eq!(escape(plain), escaped);
        }
    }
}
