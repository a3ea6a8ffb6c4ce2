//! A cluster with the certificates of `quorate certs`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::cluster::{Cluster, Directory};

const SETTINGS: &str = r#"
[member_tls]
certificate = "n1-member.pem"
key = "n1-member.key"
ca = "members-ca.pem"

[client_tls]
certificate = "n1.pem"
key = "n1.key"
ca = "ca.pem"
"#;

/// ZK-18: three members find each other through mutual TLS, and a client with a certificate is served; a client without one, or
/// with a member's, is not, and a client that trusts the members' authority does not take the server for one.
#[test]
fn nodes_serve_with_the_certificates_of_certs() {
    let certs = Directory::new();
    let made = certs.run(&["certs", "--dir", &certs.path.display().to_string()]);
    assert_eq!(made.code, 0, "{made:?}");
    let config = certs.path.join("serve.toml");
    std::fs::write(&config, SETTINGS).unwrap();
    let cluster = Cluster::start_with(3, &["--config", &config.display().to_string()]);
    let address = format!("127.0.0.1:{}", 2281 + cluster.offset);

    let ask = |ca, name: Option<&str>| ask(&certs.path, &address, ca, name);
    let answer = ask("ca.pem", Some("client")).unwrap();
    assert!(answer.contains("Zookeeper version"), "{answer}");
    for (ca, name) in
        [("ca.pem", None), ("ca.pem", Some("n1-member")), ("members-ca.pem", Some("client"))]
    {
        let refused = ask(ca, name);
        assert!(refused.is_err(), "{ca}, {name:?}: {refused:?}");
    }
}

/// Sends the word `srvr` through TLS.
fn ask(certs: &Path, address: &str, ca: &str, name: Option<&str>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join(ca)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match name {
        Some(name) => {
            let file = |end: &str| certs.join(format!("{name}.{end}"));
            let certificate = CertificateDer::from_pem_file(file("pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let host = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), host).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"srvr")?;
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}
