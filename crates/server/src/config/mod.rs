//! The configuration file of `quorate serve` (TOML). Every key has a default but the node's id, its
//! directory and the members; unknown keys are errors, so that a misspelt one is not silently ignored.
//! A `zoo.cfg` becomes the same thing (`zoo_cfg`).

pub(crate) mod zoo_cfg;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_contracts::NodeId;
use quorate_roster::Member;
use quorate_zk::server::OpenWords;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::admin;
use crate::etcd;
use crate::tls::{ClientTls, MemberTls, TlsError};
use crate::zookeeper::{PUBLISHED, election_port};

const SECRET_BYTES_MIN: usize = 16;
/// A request becomes one entry of the log, and entries travel between members whole.
const KV_REQUEST_BYTES_MAX: usize = 16 << 20;

/// Term and vote of all groups must fit, many times.
const RESERVE_BYTES_MIN: u64 = 64 << 10;

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// This node's id.
    pub node: u64,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Every member, this one included.
    pub members: Vec<MemberAddress>,
    /// Shortest session timeout granted.
    pub session_timeout_min_ms: u32,
    /// Longest session timeout granted.
    pub session_timeout_max_ms: u32,
    /// `user:base64(sha1(user:password))` of the superuser; none by default.
    pub super_digest: Option<String>,
    /// Passwords by user of clients that prove themselves by SASL DIGEST-MD5; none by default.
    pub sasl_passwords: BTreeMap<String, String>,
    /// The SASL user that is the superuser; none by default.
    pub sasl_super_user: Option<String>,
    /// The subject of the certificate whose owner is the superuser; none by default.
    pub x509_super_user: Option<String>,
    /// The four-letter words that clients may ask, `*` for all. By default all but `wchc` and `wchp`.
    pub four_letter_words: Vec<String>,
    /// Connections from one address; 0 is no limit.
    pub connections_per_address_max: usize,
    /// Connections of ZooKeeper clients; 0 is no limit. Beyond, new ones wait until others leave.
    pub connections_max: usize,
    /// TLS for ZooKeeper clients, on the members' `zookeeper_tls` addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<ClientTls>,
    /// TLS for etcd clients, on the members' `etcd` addresses. Where it needs certificates, a client that brings no token is the
    /// user whose name is its certificate's common name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_tls: Option<ClientTls>,
    /// Whether etcd clients may come without TLS too, to the same addresses.
    pub etcd_also_plain: bool,
    /// Mutual TLS between members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_tls: Option<MemberTls>,
    /// File with a secret that all members know, 16 bytes or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_secret_file: Option<PathBuf>,
    /// Serves `/metrics`, and nothing else, to whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether ZooKeeper's reconfig may change the members (`reconfigEnabled`).
    pub reconfig_enabled: bool,
    /// Whether all reads of ZooKeeper clients are linearizable: each asks the leader first.
    pub linearizable_reads: bool,
    /// Whether ZooKeeper clients that ask for it may read what is here while there is no quorum.
    pub read_only_mode: bool,
    /// How often the leader looks for containers that are empty again, and for znodes whose time to live is over.
    pub container_check_ms: u64,
    /// This node is new to a cluster that runs: it waits to be added.
    #[serde(skip_serializing_if = "is_false")]
    pub join: bool,
    /// Largest packet taken from a client (ZooKeeper's `jute.maxbuffer`).
    pub packet_bytes_max: usize,
    /// Answers that list something stay below this size; a larger one is refused. 0 is no limit.
    pub listing_bytes_max: usize,
    /// Bytes that may wait for a client that does not read; beyond, its connection is closed.
    pub client_backlog_bytes_max: usize,
    /// A leader sends a heartbeat this often.
    pub heartbeat_ms: u64,
    /// Shortest silence after which a follower campaigns.
    pub election_timeout_min_ms: u64,
    /// Longest silence.
    pub election_timeout_max_ms: u64,
    /// A group that had nothing to do for so long sends no heartbeats until it has; 0: never.
    pub hibernate_after_ms: u64,
    /// Size of a segment of the log.
    pub segment_bytes: u64,
    /// Kept for term and vote when the disk is full. Writes are refused while less than one and a half times as much is
    /// left of what the log has reserved, and no more is to be had.
    pub log_reserve_bytes: u64,
    /// The disk counts as full when the next segment would leave less than this free.
    pub disk_free_bytes_min: u64,
    /// A snapshot is due after this much log.
    pub snapshot_log_bytes: u64,
    /// Host names under which the admin port may be asked, besides addresses and `localhost`.
    pub admin_names: Vec<String>,
    /// Bytes of one request of an etcd client.
    pub kv_request_bytes_max: usize,
    /// Bytes that the key/value store may take; beyond, it takes no more and raises etcd's alarm NOSPACE.
    pub kv_quota_bytes: u64,
    /// A quiet watch that asked for it is told this often that it missed nothing.
    pub kv_progress_notify_ms: u64,
    /// A client that counts its calls is forgotten after this silence.
    pub kv_client_idle_ms: u64,
    /// The dashboard shows what the services hold, as far as everybody may read it.
    pub dashboard_data: bool,
    /// A file that says by how many milliseconds each sync of the log takes longer, read at each. No setting: `quorate up
    /// --playground` asks for it.
    #[serde(skip)]
    pub disk_delay_file: Option<PathBuf>,
    /// Groups that hold nothing, hosted only to measure what a group costs (`quorate bench groups`).
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_groups: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Where a member listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberAddress {
    /// Its id.
    pub id: u64,
    /// For the other members: `host:port`.
    pub member: String,
    /// Where this member listens for the others, if not at `member`: a name may lead elsewhere on its own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_listen: Option<String>,
    /// For ZooKeeper clients.
    pub zookeeper: SocketAddr,
    /// For ZooKeeper clients that speak TLS (`client_tls`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zookeeper_tls: Option<SocketAddr>,
    /// For etcd clients; without it this member serves none, and still holds its part of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<SocketAddr>,
    /// For administrators.
    pub admin: SocketAddr,
    /// Whether it does not vote: it is sent everything, and serves clients.
    #[serde(default, skip_serializing_if = "is_false")]
    pub observer: bool,
}

impl From<&MemberAddress> for Member {
    fn from(address: &MemberAddress) -> Self {
        let MemberAddress { member, zookeeper, etcd: clients, admin, observer, .. } = address;
        let (role, election) =
            (if *observer { "observer" } else { "participant" }, election_port(member));
        let line = format!("{member}:{election}:{role};{zookeeper}");
        let clients = clients.map_or(String::new(), |address| address.to_string());
        let published =
            [(PUBLISHED, line), (etcd::PUBLISHED, clients), (admin::PUBLISHED, admin.to_string())]
                .map(|(at, text)| (at.to_string(), text));
        let published = BTreeMap::from(published);
        Self { votes: !observer, address: member.clone(), published }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            node: 0,
            data_dir: PathBuf::new(),
            members: Vec::new(),
            session_timeout_min_ms: 4_000,
            session_timeout_max_ms: 40_000,
            super_digest: None,
            sasl_passwords: BTreeMap::new(),
            sasl_super_user: None,
            x509_super_user: None,
            four_letter_words: OpenWords::default().names(),
            connections_per_address_max: 0,
            connections_max: 0,
            client_tls: None,
            etcd_tls: None,
            etcd_also_plain: false,
            member_tls: None,
            member_secret_file: None,
            metrics: None,
            reconfig_enabled: false,
            linearizable_reads: false,
            read_only_mode: false,
            container_check_ms: 60_000,
            join: false,
            packet_bytes_max: quorate_zk::wire::framing::PACKET_BYTES_MAX,
            listing_bytes_max: quorate_zk::wire::framing::PACKET_BYTES_MAX,
            client_backlog_bytes_max: 16 << 20,
            heartbeat_ms: 100,
            election_timeout_min_ms: 1_000,
            election_timeout_max_ms: 2_000,
            hibernate_after_ms: 5_000,
            segment_bytes: 64 << 20,
            log_reserve_bytes: 8 << 20,
            disk_free_bytes_min: 64 << 20,
            snapshot_log_bytes: 64 << 20,
            admin_names: Vec::new(),
            kv_request_bytes_max: 3 << 19,
            kv_quota_bytes: 2 << 30,
            kv_progress_notify_ms: 600_000,
            kv_client_idle_ms: 3_600_000,
            dashboard_data: true,
            disk_delay_file: None,
            idle_groups: 0,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}")]
    Syntax { path: PathBuf, error: toml::de::Error },
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{path}, line {line}: {cause}")]
    ZooCfg { path: PathBuf, line: usize, cause: String },
}

impl ServeConfig {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_path_buf(), error })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Syntax { path: path.to_path_buf(), error })?;
        config.resolve(&directory_of(path));
        Ok(config)
    }

    /// Paths of certificates and secrets are meant from where the file is.
    fn resolve(&mut self, directory: &Path) {
        self.client_tls.iter_mut().for_each(|tls| tls.resolve(directory));
        self.etcd_tls.iter_mut().for_each(|tls| tls.resolve(directory));
        self.member_tls.iter_mut().for_each(|tls| tls.resolve(directory));
        self.member_secret_file.iter_mut().for_each(|file| *file = directory.join(&*file));
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |what: String| Err(ConfigError::Invalid(what));
        if self.node == 0 {
            return invalid("`node` is missing: the id of this node, 1 or more".to_string());
        }
        if self.data_dir.as_os_str().is_empty() {
            return invalid("`data_dir` is missing: the directory made by `quorate format`".into());
        }
        if self.own_address().is_none() {
            return invalid(format!("`members` has no entry with id = {}", self.node));
        }
        let mut ids: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return invalid("`members` names an id twice".to_string());
        }
        let listens = self.own_address().is_some_and(|own| own.zookeeper_tls.is_some());
        if self.client_tls.is_some() != listens {
            let what =
                "`client_tls` and this member's `zookeeper_tls` belong together: one is missing";
            return invalid(what.to_string());
        }
        if self.kv_request_bytes_max > KV_REQUEST_BYTES_MAX {
            let what = format!("`kv_request_bytes_max` is above {KV_REQUEST_BYTES_MAX}");
            return invalid(what);
        }
        if self.members.iter().all(|member| member.observer) {
            return invalid("`members` needs one that is no `observer`".to_string());
        }
        if self.container_check_ms == 0 {
            return invalid("`container_check_ms` must be above 0".to_string());
        }
        if self.log_reserve_bytes < RESERVE_BYTES_MIN {
            return invalid(format!("`log_reserve_bytes` must be {RESERVE_BYTES_MIN} or more"));
        }
        self.open_words()?;
        if self.session_timeout_min_ms > self.session_timeout_max_ms {
            return invalid("`session_timeout_min_ms` is above `session_timeout_max_ms`".into());
        }
        if self.election_timeout_min_ms < 2 * self.heartbeat_ms
            || self.election_timeout_max_ms <= self.election_timeout_min_ms
        {
            let what = "`election_timeout_min_ms` must be at least twice `heartbeat_ms`, and \
                        `election_timeout_max_ms` above it";
            return invalid(what.to_string());
        }
        Ok(())
    }

    /// The four-letter words that clients may ask.
    pub(crate) fn open_words(&self) -> Result<OpenWords, ConfigError> {
        let words = self.four_letter_words.iter().map(String::as_str);
        OpenWords::named(words).map_err(|word| {
            let what =
                format!("`four_letter_words`: there is no word `{word}`; `*` is all of them");
            ConfigError::Invalid(what)
        })
    }

    /// Where this node listens.
    pub fn own_address(&self) -> Option<&MemberAddress> {
        self.members.iter().find(|member| member.id == self.node)
    }

    /// The members' secret.
    pub(crate) fn member_secret(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.member_secret_file else { return Ok(None) };
        let text = std::fs::read(path)
            .map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        let secret = text.trim_ascii();
        if secret.len() < SECRET_BYTES_MIN {
            let what = format!("{}: a secret has {SECRET_BYTES_MIN} bytes or more", path.display());
            return Err(ConfigError::Invalid(what));
        }
        Ok(Some(secret.to_vec()))
    }

    pub(crate) fn raft(&self) -> quorate_raft::Config {
        // Who is new to a running cluster learns from the others who its members are.
        let members = self.members.iter().filter(|_| !self.join);
        let (learners, voters): (Vec<_>, Vec<_>) = members.partition(|member| member.observer);
        let id = |member: &MemberAddress| NodeId(member.id);
        let mut config = quorate_raft::Config::new(NodeId(self.node), voters.into_iter().map(id));
        config.learners = learners.into_iter().map(id).collect();
        config.timing.heartbeat = Duration::from_millis(self.heartbeat_ms);
        config.timing.election_min = Duration::from_millis(self.election_timeout_min_ms);
        config.timing.election_max = Duration::from_millis(self.election_timeout_max_ms);
        let hibernate_after = Duration::from_millis(self.hibernate_after_ms);
        config.timing.hibernate_after = Some(hibernate_after).filter(|after| !after.is_zero());
        config.limits.snapshot_log_bytes = self.snapshot_log_bytes;
        config
    }
}

/// Where a file is, from the root on.
fn directory_of(file: &Path) -> PathBuf {
    let directory = file.parent().unwrap_or(Path::new(""));
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf())
}
