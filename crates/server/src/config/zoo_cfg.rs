//! ZooKeeper's own configuration, `zoo.cfg`, read as it is: the keys that mean something here take effect, those
//! that have no counterpart are accepted, and the rest is warned about.
//!
//! Where ZooKeeper listens on every interface unless told otherwise, so does a node that is configured by its file;
//! but for the admin port, which stays on loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use quorate_zk::server::OpenWords;

use super::{ConfigError, MemberAddress, ServeConfig, directory_of};
use crate::tls::{ClientCertificate, ClientTls, MemberTls};

/// What a `zoo.cfg` says.
#[derive(Debug)]
pub struct ZooCfg {
    /// The same in our words.
    pub config: ServeConfig,
    /// What is not as it was in ZooKeeper.
    pub warnings: Vec<String>,
}

/// Keys that are accepted and change nothing: what they tune is not there, or tunes itself.
const WITHOUT_EFFECT: [&str; 24] = [
    "admin.commandURL",
    "authProvider.*",
    "autopurge.*",
    "clientPortListenBacklog",
    "electionAlg",
    "enableServer",
    "extendedTypesEnabled",
    "globalOutstandingLimit",
    "initLimit",
    "metricsProvider.className",
    "metricsProvider.exportJvmInfo",
    "observerMasterPort",
    "preAllocSize",
    "quorum.*",
    "serverCnxnFactory",
    "snapCount",
    "snapSizeLimitInKb",
    "ssl.hostnameVerification",
    "standaloneEnabled",
    "syncLimit",
    "syncEnabled",
    "tcpKeepAlive",
    "connectToLearnerMasterLimit",
    "maxResponseCacheSize",
];

const TICK_MS_DEFAULT: u32 = 3_000;
const CLIENTS_PER_ADDRESS_DEFAULT: usize = 60;
const CLIENT_PORT_DEFAULT: u16 = 2_181;
const MEMBER_PORT_DEFAULT: u16 = 2_888;
const ADMIN_PORT_DEFAULT: u16 = 8_080;
const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl ZooCfg {
    /// Reads a file, its `dynamicConfigFile` and the `myid` of its `dataDir`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut keys = Keys::read(path)?;
        if let Some(dynamic) = keys.take("dynamicConfigFile") {
            let dynamic = Keys::read(&directory_of(path).join(&dynamic.text))?;
            keys.values.extend(dynamic.values);
        }
        let data_dir = PathBuf::from(keys.need("dataDir")?.text);
        let node = my_id(&data_dir, keys.values.keys().any(|key| key.starts_with("server.")))?;
        let mut reader = Reader { keys, warnings: Vec::new(), node, data_dir };
        let mut config = reader.config()?;
        config.resolve(&directory_of(path));
        Ok(Self { config, warnings: reader.warnings })
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
struct Setting {
    text: String,
    line: usize,
    path: PathBuf,
}

impl Setting {
    fn wrong(&self, cause: impl Into<String>) -> ConfigError {
        ConfigError::ZooCfg { path: self.path.clone(), line: self.line, cause: cause.into() }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, ConfigError> {
        self.text.parse().map_err(|_| self.wrong(format!("{key}={} is not a number", self.text)))
    }
}

/// The lines of a file.
#[derive(Debug)]
struct Keys {
    path: PathBuf,
    values: BTreeMap<String, Setting>,
}

impl Keys {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_path_buf(), error })?;
        let mut values = BTreeMap::new();
        for (number, text) in text.lines().enumerate() {
            let (text, line) = (text.trim(), number + 1);
            if text.is_empty() || text.starts_with(['#', '!']) {
                continue;
            }
            let path = path.to_path_buf();
            let Some((key, value)) = text.split_once('=') else {
                let cause = format!("`{text}` is not of the form key=value");
                return Err(ConfigError::ZooCfg { path, line, cause });
            };
            let setting = Setting { text: value.trim().to_string(), line, path };
            // Java's properties: `zookeeper.X` in a file is the same as X for nearly every key.
            let key = key.trim();
            values.insert(key.strip_prefix("zookeeper.").unwrap_or(key).to_string(), setting);
        }
        Ok(Self { path: path.to_path_buf(), values })
    }

    fn take(&mut self, key: &str) -> Option<Setting> {
        self.values.remove(key)
    }

    fn need(&mut self, key: &str) -> Result<Setting, ConfigError> {
        let path = &self.path;
        self.values
            .remove(key)
            .ok_or_else(|| ConfigError::Invalid(format!("{}: `{key}` is missing", path.display())))
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, ConfigError> {
        self.take(key).map(|setting| setting.number(key)).transpose()
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key).is_some_and(|setting| ["true", "yes"].contains(&setting.text.as_str()))
    }

    fn address(&mut self, key: &str, otherwise: IpAddr) -> Result<IpAddr, ConfigError> {
        let Some(setting) = self.take(key) else { return Ok(otherwise) };
        ip(&setting.text).ok_or_else(|| {
            setting.wrong(format!("{key}={}: an IP address is needed here", setting.text))
        })
    }
}

/// An address as numbers, or `localhost`.
fn ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(LOOPBACK),
        text => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

/// The number in `myid`; a server that stands alone may have none.
fn my_id(data_dir: &Path, needed: bool) -> Result<u64, ConfigError> {
    let path = data_dir.join("myid");
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| ConfigError::Invalid(format!("{} holds no number", path.display()))),
        Err(error) if needed => Err(ConfigError::Unreadable { path, error }),
        Err(_) => Ok(1),
    }
}

struct Reader {
    keys: Keys,
    warnings: Vec<String>,
    node: u64,
    data_dir: PathBuf,
}

impl Reader {
    fn config(&mut self) -> Result<ServeConfig, ConfigError> {
        let mut config = ServeConfig {
            node: self.node,
            data_dir: self.data_dir.clone(),
            ..ServeConfig::default()
        };
        self.timeouts(&mut config)?;
        self.limits(&mut config)?;
        config.super_digest =
            self.keys.take("DigestAuthenticationProvider.superDigest").map(|setting| setting.text);
        config.sasl_super_user = self.keys.take("superUser").map(|setting| setting.text);
        config.x509_super_user =
            self.keys.take("X509AuthenticationProvider.superUser").map(|setting| setting.text);
        if let Some(list) = self.keys.take("4lw.commands.whitelist") {
            config.four_letter_words = self.words(&list.text);
        }
        config.reconfig_enabled = self.keys.flag("reconfigEnabled");
        config.read_only_mode = self.keys.flag("readonlymode.enabled");
        if let Some(ms) = self.keys.number("znode.container.checkIntervalMs")? {
            config.container_check_ms = ms;
        }
        config.client_tls = self.client_tls()?;
        config.member_tls = self.member_tls()?;
        config.members = self.members(config.client_tls.is_some())?;
        if let Some(port) = self.keys.number("metricsProvider.httpPort")? {
            let host = self.keys.address("metricsProvider.httpHost", EVERYWHERE)?;
            config.metrics = Some(SocketAddr::new(host, port));
        }
        self.differences();
        Ok(config)
    }

    /// The words of a whitelist; those that are not here are said.
    fn words(&mut self, list: &str) -> Vec<String> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            names.partition(|name| OpenWords::named([*name]).is_ok());
        let warn = |name: &str| format!("4lw.commands.whitelist: there is no word {name} here");
        self.warnings.extend(unknown.into_iter().map(warn));
        known.into_iter().map(String::from).collect()
    }

    fn timeouts(&mut self, config: &mut ServeConfig) -> Result<(), ConfigError> {
        let tick: u32 = self.keys.number("tickTime")?.unwrap_or(TICK_MS_DEFAULT);
        let min = self.keys.number("minSessionTimeout")?;
        let max = self.keys.number("maxSessionTimeout")?;
        config.session_timeout_min_ms = min.unwrap_or(tick.saturating_mul(2));
        config.session_timeout_max_ms = max.unwrap_or(tick.saturating_mul(20));
        Ok(())
    }

    fn limits(&mut self, config: &mut ServeConfig) -> Result<(), ConfigError> {
        config.connections_per_address_max =
            self.keys.number("maxClientCnxns")?.unwrap_or(CLIENTS_PER_ADDRESS_DEFAULT);
        config.connections_max = self.keys.number("maxCnxns")?.unwrap_or(0);
        if let Some(setting) = self.keys.take("jute.maxbuffer") {
            // Java reads 0x... as well.
            let hexadecimal = setting.text.strip_prefix("0x");
            config.packet_bytes_max = match hexadecimal {
                Some(digits) => usize::from_str_radix(digits, 16)
                    .map_err(|_| setting.wrong("jute.maxbuffer is not a number"))?,
                None => setting.number("jute.maxbuffer")?,
            };
            // The same key sizes the clients' buffers.
            config.listing_bytes_max = config.packet_bytes_max;
        }
        Ok(())
    }

    fn client_tls(&mut self) -> Result<Option<ClientTls>, ConfigError> {
        let key_store = self.store("ssl.keyStore")?;
        let trust_store = self.store("ssl.trustStore")?;
        let client_certificate = match self.keys.take("ssl.clientAuth") {
            None => ClientCertificate::Need,
            Some(setting) => match setting.text.to_ascii_lowercase().as_str() {
                "none" => ClientCertificate::None,
                "want" => ClientCertificate::Want,
                "need" => ClientCertificate::Need,
                _ => return Err(setting.wrong("ssl.clientAuth is none, want or need")),
            },
        };
        if !self.keys.values.contains_key("secureClientPort") {
            return Ok(None);
        }
        let Some(store) = key_store else {
            let cause = "`secureClientPort` needs `ssl.keyStore.location`";
            return Err(ConfigError::Invalid(cause.to_string()));
        };
        Ok(Some(ClientTls {
            certificate: store.clone(),
            key: store,
            ca: trust_store,
            crl: None,
            client_certificate,
        }))
    }

    fn member_tls(&mut self) -> Result<Option<MemberTls>, ConfigError> {
        let key_store = self.store("ssl.quorum.keyStore")?;
        let trust_store = self.store("ssl.quorum.trustStore")?;
        self.keys.take("ssl.quorum.clientAuth");
        if !self.keys.flag("sslQuorum") {
            return Ok(None);
        }
        match (key_store, trust_store) {
            (Some(store), Some(ca)) => {
                Ok(Some(MemberTls { certificate: store.clone(), key: store, ca }))
            }
            _ => {
                let cause = "`sslQuorum=true` needs `ssl.quorum.keyStore.location` and \
                             `ssl.quorum.trustStore.location`";
                Err(ConfigError::Invalid(cause.to_string()))
            }
        }
    }

    /// A key or trust store: a PEM file, which holds the certificates and, for a key store, the key.
    fn store(&mut self, prefix: &str) -> Result<Option<PathBuf>, ConfigError> {
        self.keys.take(&format!("{prefix}.password"));
        self.keys.take(&format!("{prefix}.passwordPath"));
        let kind = self.keys.take(&format!("{prefix}.type"));
        let Some(location) = self.keys.take(&format!("{prefix}.location")) else { return Ok(None) };
        let is_pem = kind.map_or(location.text.ends_with(".pem"), |kind| kind.text == "PEM");
        if !is_pem {
            let cause = format!(
                "{prefix}.location={}: only PEM stores are read; convert it (keytool -importkeystore to PKCS12, then \
                 openssl pkcs12 -nodes) and name the .pem file",
                location.text
            );
            return Err(location.wrong(cause));
        }
        Ok(Some(PathBuf::from(location.text)))
    }

    fn members(&mut self, with_tls: bool) -> Result<Vec<MemberAddress>, ConfigError> {
        let host = self.keys.address("clientPortAddress", EVERYWHERE)?;
        let port = self.keys.number("clientPort")?;
        let client = port.map(|port| SocketAddr::new(host, port));
        let tls_host = self.keys.address("secureClientPortAddress", EVERYWHERE)?;
        let tls_port = self.keys.number("secureClientPort")?.filter(|_| with_tls);
        let admin_host = self.keys.address("admin.serverAddress", LOOPBACK)?;
        let admin_port = self.keys.number("admin.serverPort")?.unwrap_or(ADMIN_PORT_DEFAULT);
        let everywhere = self.keys.flag("quorumListenOnAllIPs");
        let peer_type = self.keys.take("peerType").map(|setting| setting.text);
        let mut members = self.server_lines()?;
        if members.is_empty() {
            members.push(Server::alone(self.node));
        }
        let node = self.node;
        let address = |server: Server| {
            let own = server.id == node;
            let client = if own { client.or(server.client) } else { server.client.or(client) };
            MemberAddress {
                id: server.id,
                member_listen: (own && everywhere).then(|| format!("{EVERYWHERE}:{}", server.port)),
                member: format!("{}:{}", server.host, server.port),
                zookeeper: client.unwrap_or(SocketAddr::new(host, CLIENT_PORT_DEFAULT)),
                etcd: None,
                zookeeper_tls: tls_port.map(|port| SocketAddr::new(tls_host, port)),
                admin: SocketAddr::new(admin_host, admin_port),
                observer: server.observer || own && peer_type.as_deref() == Some("observer"),
            }
        };
        Ok(members.into_iter().map(address).collect())
    }

    fn server_lines(&mut self) -> Result<Vec<Server>, ConfigError> {
        let names: Vec<String> =
            self.keys.values.keys().filter(|key| key.starts_with("server.")).cloned().collect();
        let mut servers = Vec::new();
        for name in names {
            let Some(setting) = self.keys.take(&name) else { continue };
            let id = name["server.".len()..].parse();
            let id = id.map_err(|_| setting.wrong(format!("`{name}` has no number")))?;
            let server = Server::parse(id, &setting)?;
            if setting.text.contains('|') {
                self.warnings.push(format!("{name} has several addresses: the first one is used"));
            }
            servers.push(server);
        }
        servers.sort_by_key(|server| server.id);
        Ok(servers)
    }

    /// Says what does not do what it did.
    fn differences(&mut self) {
        let mut warn = |text: String| self.warnings.push(text);
        for (key, setting) in &self.keys.values {
            let value = &setting.text;
            match key.as_str() {
                "dataLogDir" => {
                    warn(format!("dataLogDir={value} has no effect: the log is in dataDir"))
                }
                "forceSync" if value == "no" => {
                    warn("forceSync=no has no effect: what is acknowledged is on disk".into());
                }
                "forceSync" => {}
                "admin.enableServer" if value == "false" => {
                    warn("admin.enableServer=false has no effect: the admin port is there".into());
                }
                "admin.enableServer" => {}
                "skipACL" if value == "yes" => {
                    warn("skipACL=yes has no effect: access lists are enforced".into());
                }
                "skipACL" => {}
                "enforceQuota" if value == "false" => {
                    warn("enforceQuota=false has no effect: hard limits are enforced".into());
                }
                "enforceQuota" => {}
                "localSessionsEnabled" | "localSessionsUpgradingEnabled" => {
                    warn(format!("{key}={value} has no effect: every session is replicated"));
                }
                _ if is_without_effect(key) => {}
                _ => warn(format!("{key}={value} is not known here, and has no effect")),
            }
        }
        if self.data_dir.join("version-2").exists() {
            let text =
                "holds a ZooKeeper's data (version-2), which is not read: this node has its own";
            self.warnings.push(format!("{} {text}", self.data_dir.display()));
        }
    }
}

fn is_without_effect(key: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => key.starts_with(prefix),
        None => *known == key,
    })
}

/// A line `server.N=host:port:election[:role][;[address:]clientPort]`.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    id: u64,
    host: String,
    port: u16,
    observer: bool,
    client: Option<SocketAddr>,
}

impl Server {
    /// A server without `server.N` lines.
    fn alone(id: u64) -> Self {
        let (host, port) = (LOOPBACK.to_string(), MEMBER_PORT_DEFAULT);
        Self { id, host, port, observer: false, client: None }
    }

    fn parse(id: u64, setting: &Setting) -> Result<Self, ConfigError> {
        let wrong = |cause: &str| setting.wrong(format!("server.{id}={}: {cause}", setting.text));
        let (peer, client) = match setting.text.split_once(';') {
            Some((peer, client)) => (peer, Some(client)),
            None => (setting.text.as_str(), None),
        };
        let (first, role) = (peer.split('|').next().unwrap_or_default(), peer.rsplit(':').next());
        let observer = role == Some("observer");
        let (host, ports) = split_host(first).ok_or_else(|| wrong("host:port:port is needed"))?;
        let port = ports.split(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| wrong("the first port is not a number"))?;
        let client = client
            .map(|text| {
                client_address(text).ok_or_else(|| wrong("the client's port does not read"))
            })
            .transpose()?;
        Ok(Self { id, host, port, observer, client })
    }
}

/// `host:rest`, where the host may be an IPv6 address in brackets; it keeps them.
fn split_host(text: &str) -> Option<(String, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once("]:")?;
            (format!("[{host}]"), rest)
        }
        None => {
            let (host, rest) = text.split_once(':')?;
            (host.to_string(), rest)
        }
    };
    (!host.is_empty()).then_some((host, rest))
}

/// `[address:]port`; without an address, or with a name, on every interface.
fn client_address(text: &str) -> Option<SocketAddr> {
    match text.rsplit_once(':') {
        Some((host, port)) => {
            Some(SocketAddr::new(ip(host).unwrap_or(EVERYWHERE), port.parse().ok()?))
        }
        None => Some(SocketAddr::new(EVERYWHERE, text.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files.
    struct Files(PathBuf);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            let name = format!("quorate-zoo-cfg-{}", crate::data_dir::random_u64().unwrap());
            let directory = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&directory).unwrap();
            for (name, text) in files {
                let text = text.replace("HERE", &directory.display().to_string());
                std::fs::write(directory.join(name), text).unwrap();
            }
            Self(directory)
        }

        fn read(&self) -> Result<ZooCfg, ConfigError> {
            ZooCfg::read(&self.0.join("zoo.cfg"))
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn read(files: &[(&str, &str)]) -> ZooCfg {
        Files::new(files).read().unwrap()
    }

    fn refusal(files: &[(&str, &str)]) -> String {
        Files::new(files).read().unwrap_err().to_string()
    }

    /// ZK-18: a file as it stands in the field.
    #[test]
    fn an_ensembles_file_is_read_as_is() {
        let ZooCfg { config, warnings } = read(&[
            ("myid", "2\n"),
            (
                "zoo.cfg",
                "# three servers\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=HERE\nclientPort=2181\n\
                 server.1=zk1.example:2888:3888\nserver.2=zk2.example:2888:3888\nserver.3=zk3.example:2888:3888\n\
                 maxClientCnxns=0\nautopurge.snapRetainCount=3\nautopurge.purgeInterval=24\n\
                 4lw.commands.whitelist=*\njute.maxbuffer=0x3fffff\nquorumListenOnAllIPs=true\n\
                 metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n\
                 metricsProvider.httpPort=7000\n",
            ),
        ]);
        assert_eq!(warnings, [""; 0]);
        config.check().unwrap();
        assert_eq!(config.node, 2);
        assert_eq!((config.session_timeout_min_ms, config.session_timeout_max_ms), (4_000, 40_000));
        assert_eq!((config.packet_bytes_max, config.listing_bytes_max), (0x3f_ffff, 0x3f_ffff));
        assert_eq!(config.connections_per_address_max, 0);
        assert_eq!(config.metrics.unwrap().to_string(), "0.0.0.0:7000");
        assert!(config.open_words().unwrap().contains(*b"wchc"));
        let own = config.own_address().unwrap();
        assert_eq!(own.member, "zk2.example:2888");
        assert_eq!(own.member_listen.as_deref(), Some("0.0.0.0:2888"));
        assert_eq!(own.zookeeper.to_string(), "0.0.0.0:2181");
        assert_eq!(own.admin.to_string(), "127.0.0.1:8080");
        assert_eq!(config.members.len(), 3);
    }

    /// ZK-18: servers in a file of their own, with their clients' ports.
    #[test]
    fn a_dynamic_file_holds_the_servers() {
        let ZooCfg { config, warnings } = read(&[
            ("myid", "3"),
            ("zoo.cfg", "dataDir=HERE\ndynamicConfigFile=zoo.cfg.dynamic\nreconfigEnabled=true\n"),
            (
                "zoo.cfg.dynamic",
                "server.1=10.0.0.1:2888:3888:participant;10.0.0.1:2181\n\
                 server.2=[fd00::2]:2888:3888:participant;2182\nserver.3=10.0.0.3:2888:3888;zk3:2183\n",
            ),
        ]);
        assert_eq!(warnings, [""; 0]);
        let clients: Vec<String> = config.members.iter().map(|m| m.zookeeper.to_string()).collect();
        assert_eq!(clients, ["10.0.0.1:2181", "0.0.0.0:2182", "0.0.0.0:2183"]);
        assert_eq!(config.members[1].member, "[fd00::2]:2888");
    }

    #[test]
    fn a_server_alone_needs_neither_servers_nor_myid() {
        let ZooCfg { config, .. } = read(&[("zoo.cfg", "dataDir = HERE\nclientPort = 2181\n")]);
        config.check().unwrap();
        assert_eq!((config.node, config.members.len()), (1, 1));
        assert_eq!(config.connections_per_address_max, 60);
    }

    /// ZK-18: TLS from PEM stores.
    #[test]
    fn pem_stores_become_tls() {
        let ZooCfg { config, warnings } = read(&[(
            "zoo.cfg",
            "dataDir=HERE\nclientPort=2181\nsecureClientPort=2281\nssl.keyStore.location=server.pem\n\
             ssl.trustStore.location=/etc/ca.pem\nssl.clientAuth=want\nssl.keyStore.password=x\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n",
        )]);
        assert_eq!(warnings, [""; 0]);
        let tls = config.client_tls.as_ref().unwrap();
        assert!(tls.certificate.is_absolute() && tls.certificate.ends_with("server.pem"));
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(tls.client_certificate, ClientCertificate::Want);
        config.check().unwrap();
        assert_eq!(config.members[0].zookeeper_tls.unwrap().to_string(), "0.0.0.0:2281");
    }

    /// ZK-18: who may do what.
    #[test]
    fn superusers_and_open_words_are_taken_over() {
        let ZooCfg { config, warnings } = read(&[(
            "zoo.cfg",
            "dataDir=HERE\n4lw.commands.whitelist=ruok, srvr,gtmk\nenforceQuota=true\nextendedTypesEnabled=true\n\
             zookeeper.X509AuthenticationProvider.superUser=CN=root\nzookeeper.superUser=admin\n",
        )]);
        assert_eq!(warnings, ["4lw.commands.whitelist: there is no word gtmk here"]);
        config.check().unwrap();
        assert_eq!(config.four_letter_words, ["ruok", "srvr"]);
        assert_eq!(config.x509_super_user.as_deref(), Some("CN=root"));
        assert_eq!(config.sasl_super_user.as_deref(), Some("admin"));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let ZooCfg { warnings, .. } = read(&[(
            "zoo.cfg",
            "dataDir=HERE\nforceSync=no\nfancyNewKey=1\ndataLogDir=/log\nskipACL=no\nsnapCount=10\nenforceQuota=false\n",
        )]);
        assert_eq!(
            warnings,
            [
                "dataLogDir=/log has no effect: the log is in dataDir",
                "enforceQuota=false has no effect: hard limits are enforced",
                "fancyNewKey=1 is not known here, and has no effect",
                "forceSync=no has no effect: what is acknowledged is on disk",
            ]
        );
    }

    /// A mistake is told with its file and line.
    #[test]
    fn mistakes_are_named() {
        for (text, told) in [
            ("dataDir=HERE\ntickTime=soon\n", "line 2: tickTime=soon is not a number"),
            ("dataDir\n", "line 1: `dataDir` is not of the form key=value"),
            ("clientPort=2181\n", "`dataDir` is missing"),
            (
                "dataDir=HERE\nclientPortAddress=zk1\n",
                "line 2: clientPortAddress=zk1: an IP address",
            ),
            ("dataDir=HERE\nserver.1=zk1\n", "myid"),
            ("dataDir=HERE\nsecureClientPort=2281\n", "needs `ssl.keyStore.location`"),
            (
                "dataDir=HERE\nssl.keyStore.location=keys.jks\n",
                "line 2: ssl.keyStore.location=keys.jks: only PEM stores are read",
            ),
        ] {
            let refused = refusal(&[("zoo.cfg", text)]);
            assert!(refused.contains(told), "{text:?} gives {refused}");
        }
        let files = [("myid", "1"), ("zoo.cfg", "dataDir=HERE\nserver.1=zk1\n")];
        assert!(refusal(&files).contains("line 2: server.1=zk1: host:port:port is needed"));
    }
}
