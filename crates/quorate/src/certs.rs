//! `quorate certs`: an authority for development and small clusters, and what it certifies. Absent: taking certificates back, and
//! keys kept elsewhere than in files; who needs these has an authority already.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::failure::{Done, Failure, Kind, tell};

/// Make an authority for development, and certificates for nodes and clients
#[derive(Args)]
#[command(after_help = "Examples:
  quorate certs --dir certs                                  three nodes on this machine, and one client
  quorate certs --dir certs --hosts zk1.example,zk2.example,zk3.example
  quorate certs --dir certs --clients app,backup             more clients, of the authority that is there

Members have an authority of their own: whoever holds a certificate of it is taken for a member. Files that are there stay as
they are; to renew one, remove it and run this again. Keep the authorities' keys (ca.key, members-ca.key) off the nodes.")]
pub(crate) struct Certs {
    /// Where the files go; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,

    /// Host names or addresses of the nodes, node 1's first; every certificate is good for this machine's loopback too
    #[arg(long, value_name = "HOST", value_delimiter = ',', default_values = ["localhost", "localhost", "localhost"])]
    hosts: Vec<String>,

    /// Names of clients, which become the CN of their certificates
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "client", value_parser = client)]
    clients: Vec<String>,

    /// How long certificates are good for; the authorities ten times as long
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The name becomes a file's, beside others.
fn client(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let taken = text == "ca"
        || text == "members-ca"
        || text.strip_prefix('n').is_some_and(|number| number.parse::<u64>().is_ok());
    match text {
        "" => Err("a client needs a name".to_string()),
        _ if taken => Err("that name is an authority's or a node's".to_string()),
        _ if text.chars().all(plain) => Ok(text.to_string()),
        _ => Err("a client's name has letters, digits, - and _".to_string()),
    }
}

/// Clocks differ: what was made now is good on a machine that is an hour behind.
const SLACK: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Certs {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let made = self.make().map_err(|error| {
            let what = format!("make certificates in {}", self.dir.display());
            let help = "name a directory that can be written to; remove a damaged file to have it made anew";
            Failure::new(Kind::Data, what, error, help)
        })?;
        if self.json {
            tell(&json!({ "made": made }).to_string());
        } else {
            tell(&self.explain(&made));
        }
        Ok(Done::Yes)
    }

    /// Makes what is not there, and says which files these are.
    fn make(&self) -> io::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(&self.dir)?;
        let mut files = Files { directory: &self.dir, days: self.days, made: Vec::new() };
        let clients = files.authority("ca", "Quorate development CA")?;
        let members = files.authority("members-ca", "Quorate development members' CA")?;
        for (at, host) in self.hosts.iter().enumerate() {
            let node = format!("n{}", at + 1);
            let mut hosts = LOOPBACK.map(str::to_string).to_vec();
            if !hosts.contains(host) {
                hosts.insert(0, host.clone());
            }
            files.certify(&clients, &node, &node, &hosts, &[SERVER])?;
            files.certify(&members, &format!("{node}-member"), &node, &hosts, &[SERVER, CLIENT])?;
        }
        for name in &self.clients {
            files.certify(&clients, name, name, &[], &[CLIENT])?;
        }
        Ok(files.made)
    }

    fn explain(&self, made: &[PathBuf]) -> String {
        if made.is_empty() {
            return format!("everything is in {} already", self.dir.display());
        }
        let names: Vec<String> = made.iter().map(|path| format!("  {}", path.display())).collect();
        format!(
            "{}\nNode 1 is to have, in its configuration:\n\
             [member_tls]\ncertificate = \"n1-member.pem\"\nkey = \"n1-member.key\"\nca = \"members-ca.pem\"\n\
             [client_tls]\ncertificate = \"n1.pem\"\nkey = \"n1.key\"\nca = \"ca.pem\"\n\
             [etcd_tls]\ncertificate = \"n1.pem\"\nkey = \"n1.key\"\nca = \"ca.pem\"",
            names.join("\n")
        )
    }
}

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

type Authority = Issuer<'static, KeyPair>;

/// The directory, and what was written into it.
struct Files<'a> {
    directory: &'a Path,
    days: u32,
    made: Vec<PathBuf>,
}

impl Files<'_> {
    /// The authority of that name: the one that is there, or a new one.
    fn authority(&mut self, name: &str, common_name: &str) -> io::Result<Authority> {
        let (certificate, key) = (self.path(name, "pem"), self.path(name, "key"));
        if certificate.exists() {
            let key = KeyPair::from_pem(&std::fs::read_to_string(&key).map_err(name_it(&key))?)
                .map_err(name_it(&key))?;
            let pem = std::fs::read_to_string(&certificate)?;
            return Issuer::from_ca_cert_pem(&pem, key).map_err(name_it(&certificate));
        }
        let mut params = self.params(common_name, &[], 10 * self.days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.self_signed(&pair).map_err(io::Error::other)?;
        self.write(&key, &pair.serialize_pem(), SECRET)?;
        self.write(&certificate, &signed.pem(), PUBLIC)?;
        Ok(Issuer::new(params, pair))
    }

    /// A certificate and its key, unless they are there.
    fn certify(
        &mut self,
        authority: &Authority,
        name: &str,
        common_name: &str,
        hosts: &[String],
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> io::Result<()> {
        let (certificate, key) = (self.path(name, "pem"), self.path(name, "key"));
        if certificate.exists() {
            return Ok(());
        }
        let mut params = self.params(common_name, hosts, self.days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.signed_by(&pair, authority).map_err(io::Error::other)?;
        self.write(&key, &pair.serialize_pem(), SECRET)?;
        self.write(&certificate, &signed.pem(), PUBLIC)
    }

    fn params(&self, name: &str, hosts: &[String], days: u32) -> io::Result<CertificateParams> {
        let mut params = CertificateParams::new(hosts.to_vec()).map_err(io::Error::other)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Quorate");
        params.distinguished_name.push(DnType::CommonName, name);
        let now = SystemTime::now();
        params.not_before = (now - SLACK).into();
        params.not_after = (now + days * DAY).into();
        Ok(params)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{name}.{extension}"))
    }

    /// The key goes first: a certificate that is there has its key. One that was left without a certificate is replaced.
    fn write(&mut self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        let _ = std::fs::remove_file(path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .map_err(name_it(path))?;
        file.write_all(text.as_bytes())?;
        self.made.push(path.to_path_buf());
        Ok(())
    }
}

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn name_it<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> io::Error {
    move |error| io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use quorate_server::{ClientCertificate, ClientTls, MemberTls};

    use super::*;

    fn certs(directory: &Path, clients: &[&str]) -> Certs {
        Certs {
            dir: directory.to_path_buf(),
            hosts: vec!["zk1.example".to_string(), "10.0.0.2".to_string()],
            clients: clients.iter().map(|name| name.to_string()).collect(),
            days: 30,
            json: false,
        }
    }

    /// Every pair is one that a server takes; keys are their owner's alone; a second run adds what is new and leaves the rest.
    #[test]
    fn what_is_made_is_usable_secret_and_stays() {
        let directory =
            std::env::temp_dir().join(format!("quorate-certs-test-{}", std::process::id()));
        let made = certs(&directory, &["app"]).make().unwrap();
        assert_eq!(made.len(), 2 * (2 + 4 + 1), "{made:?}");
        let file = |name: &str| directory.join(name);
        for node in ["n1", "n2"] {
            let tls = ClientTls {
                certificate: file(&format!("{node}.pem")),
                key: file(&format!("{node}.key")),
                ca: Some(file("ca.pem")),
                crl: None,
                client_certificate: ClientCertificate::Need,
            };
            tls.check().unwrap();
            let tls = MemberTls {
                certificate: file(&format!("{node}-member.pem")),
                key: file(&format!("{node}-member.key")),
                ca: file("members-ca.pem"),
            };
            tls.check().unwrap();
        }
        for path in made.iter().filter(|path| path.extension().is_some_and(|end| end == "key")) {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        let before = std::fs::read(file("n1.pem")).unwrap();
        let more = certs(&directory, &["app", "backup"]).make().unwrap();
        assert_eq!(more, [file("backup.key"), file("backup.pem")]);
        assert_eq!(std::fs::read(file("n1.pem")).unwrap(), before);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_clients_name_cannot_be_a_path_or_a_nodes() {
        for name in ["", "../x", "a/b", "ca", "members-ca", "n1"] {
            assert!(client(name).is_err(), "{name}");
        }
        assert!(client("nightly-backup_2").is_ok());
    }
}
