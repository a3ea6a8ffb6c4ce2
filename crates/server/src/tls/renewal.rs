//! Certificates change while a node runs: what is read from their files is read again when they change, or when the process is told
//! to (SIGHUP). New connections go by the new ones; those that are open stay as they are.
//!
//! A change is taken once the files have stopped changing: a certificate and its key are two files, and between the
//! two writes they do not fit. What does not read, or does not fit, changes nothing: the node goes on with what it has, and says so in its
//! log, its status and its metrics.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::inspect::CertificateUse;
use super::{ClientTls, MemberTls, TlsError};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Something that was read from files, as it is by now.
#[derive(Debug)]
pub(crate) struct Renewed<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Renewed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Renewed<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    /// As it is by now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// How a certificate of a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateStatus {
    /// The table that names it: `member_tls`, `client_tls` or `etcd_tls`.
    pub table: String,
    /// Until when the one in use holds, in seconds since 1970.
    pub until_unix_s: u64,
    /// How often a new one was taken.
    pub renewed: u64,
    /// Why the files as they are now are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// All certificates of a node.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    statuses: Arc<Mutex<Vec<CertificateStatus>>>,
}

/// One table's files, and what is made of them.
struct Source {
    used: CertificateUse,
    files: Vec<PathBuf>,
    renew: Box<dyn Fn() -> Result<(), TlsError>>,
    /// The files as they were taken or refused, and as they were at the last look.
    taken: Stamps,
    seen: Stamps,
}

type Stamps = Vec<Option<(SystemTime, u64)>>;

/// Files are told apart by when they changed, and their size.
fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.iter().map(stamp).collect()
}

/// Looks after the certificates of a node.
#[derive(Default)]
pub(crate) struct Renewal {
    sources: Vec<Source>,
    certificates: Certificates,
}

impl Renewal {
    /// What clients are accepted with, as it is by now. `adapt` sets what the port needs besides.
    pub(crate) fn acceptor(
        &mut self,
        table: &'static str,
        tls: &ClientTls,
        adapt: impl Fn(&mut ServerConfig) + 'static,
    ) -> Result<Renewed<ServerConfig>, TlsError> {
        let read = {
            let tls = tls.clone();
            move || {
                let mut server = Arc::unwrap_or_clone(tls.acceptor()?);
                adapt(&mut server);
                Ok::<_, TlsError>(Arc::new(server))
            }
        };
        let server = Renewed::new(read()?);
        let used = CertificateUse {
            table,
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            ca: tls.ca.clone(),
            dialled_as: None,
        };
        let further = tls.ca.iter().chain(&tls.crl).cloned().collect();
        let renewed = server.clone();
        self.add(used, further, Box::new(move || read().map(|new| renewed.set(new))));
        Ok(server)
    }

    /// What members are accepted and dialled with, as it is by now.
    pub(crate) fn members(
        &mut self,
        tls: &MemberTls,
    ) -> Result<(Renewed<ServerConfig>, Renewed<ClientConfig>), TlsError> {
        let (server, client) = (Renewed::new(tls.acceptor()?), Renewed::new(tls.dialler()?));
        let used = CertificateUse {
            table: "member_tls",
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            ca: Some(tls.ca.clone()),
            dialled_as: None,
        };
        let (renewed, tls) = ((server.clone(), client.clone()), tls.clone());
        let further = vec![tls.ca.clone()];
        let renew = move || {
            let new = (tls.acceptor()?, tls.dialler()?);
            renewed.0.set(new.0);
            renewed.1.set(new.1);
            Ok(())
        };
        self.add(used, further, Box::new(renew));
        Ok((server, client))
    }

    fn add(
        &mut self,
        used: CertificateUse,
        further: Vec<PathBuf>,
        renew: Box<dyn Fn() -> Result<(), TlsError>>,
    ) {
        let own = [used.certificate.clone(), used.key.clone()];
        let files: Vec<PathBuf> = own.into_iter().chain(further).collect();
        let status = CertificateStatus {
            table: used.table.to_owned(),
            until_unix_s: until(&used),
            ..CertificateStatus::default()
        };
        self.certificates.lock().push(status);
        let taken = stamps(&files);
        self.sources.push(Source { used, files, renew, seen: taken.clone(), taken });
    }

    /// How they are, for whoever asks.
    pub(crate) fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Looks at the files now and then, for ever; at once when the process is told to.
    pub(crate) async fn watch(mut self) {
        let Ok(mut told) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                _ = tokio::time::sleep(LOOK) => self.look(),
                _ = told.recv() => {
                    tracing::info!("told to read the certificates again");
                    self.read_again();
                }
            }
        }
    }

    /// Takes what has changed and is not changing any more.
    fn look(&mut self) {
        for (at, source) in self.sources.iter_mut().enumerate() {
            let now = stamps(&source.files);
            let settled = now == source.seen;
            source.seen = now;
            if settled && source.seen != source.taken {
                source.take(&mut self.certificates.lock()[at]);
            }
        }
    }

    fn read_again(&mut self) {
        for (at, source) in self.sources.iter_mut().enumerate() {
            source.seen = stamps(&source.files);
            source.take(&mut self.certificates.lock()[at]);
        }
    }
}

impl Source {
    fn take(&mut self, status: &mut CertificateStatus) {
        self.taken = self.seen.clone();
        let table = self.used.table;
        match (self.renew)() {
            Ok(()) => {
                status.until_unix_s = until(&self.used);
                status.renewed += 1;
                status.refused = None;
                tracing::info!(
                    table,
                    until_unix_s = status.until_unix_s,
                    "certificates were read again"
                );
            }
            Err(error) => {
                tracing::error!(table, %error, "the changed certificates are not used; the node goes on with those before");
                status.refused = Some(error.to_string());
            }
        }
    }
}

impl Certificates {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<CertificateStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How each of them is.
    pub(crate) fn status(&self) -> Vec<CertificateStatus> {
        self.lock().clone()
    }
}

/// Until when a certificate holds, in seconds since 1970; 0 if it does not read.
fn until(used: &CertificateUse) -> u64 {
    let until = used.validity().map(|validity| validity.until);
    until
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ClientCertificate;
    use super::super::tests::Authority;
    use super::*;

    fn copy(from: &Path, to: &Path) {
        let was = fs::metadata(to).and_then(|file| file.modified()).ok();
        fs::copy(from, to).unwrap();
        // File systems may tell time in steps longer than a test takes.
        let later = was.unwrap_or(SystemTime::now()) + Duration::from_secs(1);
        fs::File::options().write(true).open(to).unwrap().set_modified(later).unwrap();
    }

    /// A certificate and its key are two files: between the two writes, and when what comes is damaged, the node
    /// goes on with what it has.
    #[test]
    fn new_files_are_taken_when_they_fit_and_have_settled() {
        let authority = Authority::new();
        let (old, new) = (authority.certify("renewal-old"), authority.certify("renewal-new"));
        let tls = ClientTls {
            certificate: old.certificate.clone(),
            key: old.key.clone(),
            ca: Some(old.ca.clone()),
            crl: None,
            client_certificate: ClientCertificate::Need,
        };
        let mut renewal = Renewal::default();
        let server = renewal.acceptor("client_tls", &tls, |_| ()).unwrap();
        let certificates = renewal.certificates();
        let first = server.current();
        let told = |wanted: (u64, bool)| {
            let status = certificates.status().remove(0);
            assert_eq!((status.renewed, status.refused.is_some()), wanted, "{status:?}");
        };
        renewal.look();
        renewal.look();
        told((0, false));
        copy(&new.certificate, &old.certificate);
        renewal.look();
        told((0, false)); // it may still be changing
        renewal.look();
        told((0, true)); // the key is another one's
        assert!(Arc::ptr_eq(&first, &server.current()));
        copy(&new.key, &old.key);
        renewal.look();
        renewal.look();
        told((1, false));
        let second = server.current();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&old.certificate, "no certificate").unwrap();
        renewal.read_again();
        told((1, true));
        fs::remove_file(&old.key).unwrap();
        renewal.look();
        renewal.look();
        told((1, true));
        assert!(Arc::ptr_eq(&second, &server.current()));
        let until = certificates.status()[0].until_unix_s;
        assert!(until > 0, "that of the one in use");
    }
}
