//! One node: opens its data, listens, and runs until told to stop.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quorate_contracts::{GroupId, NoState, NodeId, Recovered, RequestId};
use quorate_etcd::server as kv;
use quorate_etcd::store::Store;
use quorate_raft::Replica;
use quorate_roster::{Registrar, Roster};
use quorate_storage::{Damage, OpenError, Storage, StorageOptions};
use quorate_zk::server::{Server, ServerConfig};
use quorate_zk::tree::Tree;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::admin::{AdminDoors, Administrators, Others};
use crate::calls::{CALLS, Calls};
use crate::clients::{ClientLimits, Reception};
use crate::config::{ConfigError, ServeConfig};
use crate::data_dir::{DataDir, DataDirError, random_u64};
use crate::disk::RealDisk;
use crate::etcd;
use crate::etcd::{About, Api, Desk, Etcd};
use crate::following::{Following, configured};
use crate::group::{Group, Hosted, Shared};
use crate::host::Host;
use crate::idle;
use crate::idle::{Closed, Idle};
use crate::inbox::{Completions, Door, Inbox};
use crate::members::{Acceptor, Known, Members, Secret, Trust};
use crate::registry::{Enrolment, Registry};
use crate::service::tell_service_manager;
use crate::tls::renewal::Renewal;
use crate::zookeeper::{ZooKeeper, ensemble};

/// Why a node does not run, or no longer does.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{directory}: {error}")]
    Open { directory: String, error: OpenError },
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen { address: String, what: &'static str, error: io::Error },
    #[error("{0}")]
    DiskFailed(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How a node is to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// First others lead what it led, and its clients' requests are answered; a second or two.
    InOrder,
    /// At once; as safe as a crash, and others notice as soon.
    AtOnce,
}

/// How long a node that stops in order waits for others to lead and for its requests to be answered.
const WIND_UP_PATIENCE: Duration = Duration::from_millis(2_500);

/// Runs a node until `stop` is over.
pub fn serve(config: &ServeConfig, stop: impl Future<Output = Stop>) -> Result<(), ServeError> {
    config.check()?;
    let data_dir = Rc::new(DataDir::open(&config.data_dir, NodeId(config.node))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(config, data_dir, stop))
}

async fn run(
    config: &ServeConfig,
    data_dir: Rc<DataDir>,
    stop: impl Future<Output = Stop>,
) -> Result<(), ServeError> {
    let own = config.own_address().ok_or_else(|| {
        ConfigError::Invalid(format!("`members` has no entry with id = {}", config.node))
    })?;
    let mut renewal = Renewal::default();
    let trust = trust(config, &mut renewal)?;
    let client_tls = config
        .client_tls
        .as_ref()
        .map(|tls| renewal.acceptor("client_tls", tls, |_| ()))
        .transpose()
        .map_err(ConfigError::Tls)?;
    let etcd_security = etcd::Security::new(config, &mut renewal).map_err(ConfigError::Tls)?;
    let certificates = renewal.certificates();
    tokio::task::spawn_local(renewal.watch());
    let member_address = own.member_listen.as_ref().unwrap_or(&own.member);
    let member_listener = listen(member_address, "members").await?;
    let admin_listener = listen(&own.admin.to_string(), "administrators").await?;
    let client_listener = listen(&own.zookeeper.to_string(), "ZooKeeper clients").await?;
    let etcd_listener = match own.etcd {
        Some(address) => Some(listen(&address.to_string(), "etcd clients").await?),
        None => None,
    };
    let tls_listener = match own.zookeeper_tls {
        Some(address) => Some(listen(&address.to_string(), "ZooKeeper clients with TLS").await?),
        None => None,
    };
    let metrics_listener = match config.metrics {
        Some(address) => Some(listen(&address.to_string(), "scrapers of metrics").await?),
        None => None,
    };
    let open: Vec<_> =
        [&client_listener, &admin_listener].into_iter().chain(&etcd_listener).collect();
    warn_if_open(&open, "listening beyond loopback, without TLS or authentication");
    if trust.is_blind() {
        let text = "the members' port is open beyond loopback, without `member_tls` or `member_secret_file`";
        warn_if_open(&[&member_listener], text);
    }

    let base = configured(&config.members);
    let roster = data_dir.roster()?.unwrap_or_else(|| base.clone());
    let bell = Arc::new(Notify::new());
    let completions = Completions::new(bell.clone());
    let disk = {
        let completions = completions.clone();
        let delay = config.disk_delay_file.as_deref();
        RealDisk::delayed(&data_dir.log(), delay, move |completion| completions.push(completion))?
    };
    let gauge = disk.gauge();
    let options = StorageOptions {
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.log_reserve_bytes,
        free_bytes_min: config.disk_free_bytes_min,
        alone: roster.members.len() == 1,
        ..StorageOptions::default()
    };
    let (storage, mut recovered) =
        Storage::open(disk, data_dir.identity(), options).map_err(|error| {
            let directory = data_dir.log().display().to_string();
            ServeError::Open { directory, error }
        })?;
    tell_damage(storage.damage(), &recovered);
    let inbox = Inbox::new(bell.clone());
    let door = Door::new(GroupId::COORDINATION, inbox.clone());
    let serving = Rc::new(Notify::new());
    let enrolment = Enrolment::new(inbox.clone());
    let front = ZooKeeper::new(door.clone(), serving.clone(), enrolment.clone(), gauge);
    let mut groups = vec![coordination(config, &mut recovered, front)?];
    let kv_door = Door::new(GroupId::KEY_VALUE, inbox.clone());
    let kv_serving = Rc::new(Notify::new());
    let front = Etcd::new(kv_door.clone(), kv_serving.clone());
    let cluster_id = data_dir.identity().cluster.0;
    groups.push(key_value(config, cluster_id, &mut recovered, front)?);
    let calls = Door::new(CALLS, inbox.clone());
    groups.push(Box::new(Calls::new(calls.clone(), inbox.clone(), random_u64()? | 1)));
    groups.push(system(config, &base, &mut recovered, &enrolment)?);
    for number in 0..config.idle_groups {
        groups.push(idle_group(config, number, &mut recovered)?);
    }

    let silence = Duration::from_millis(config.election_timeout_min_ms);
    let members = Members::new(data_dir.identity(), trust.clone(), silence, random_u64()?);
    let shared = Shared { storage, members, news: Vec::new() };
    let node = NodeId(config.node);
    let known = Known::default();
    let registry = enrolment.door();
    let following =
        Following::new((node, own.into()), roster, registry, data_dir.clone(), known.clone());
    following.begin(&shared.members);
    let mut host = Host::new(node, groups, shared, following, inbox.clone(), completions, bell);

    let log = data_dir.log();
    let others = Others { own: node, members: known.clone(), inbox: inbox.clone(), calls };
    let about = About::new(config, &data_dir, inbox.clone(), enrolment.clone());
    let acceptor = Acceptor { data_dir, members: known, trust, inbox, silence };
    tokio::task::spawn_local(acceptor.accept(member_listener));
    let administrators = Administrators::start(others, door.clone(), log, certificates);
    let names = config.admin_names.clone();
    let doors = AdminDoors { names, data: config.dashboard_data, node: config.node };
    tokio::task::spawn_local(administrators.clone().serve(admin_listener, doors));
    if let Some(listener) = metrics_listener {
        tokio::task::spawn_local(administrators.serve_metrics(listener));
    }
    let etcd_door_keeper = etcd_listener.map(|listener| {
        let api = Api::new(Desk::new(kv_door), about);
        tokio::task::spawn_local(async move {
            kv_serving.notified().await;
            etcd::accept(api, listener, etcd_security).await;
        })
    });
    let limits = ClientLimits {
        packet_bytes_max: config.packet_bytes_max,
        backlog_bytes_max: config.client_backlog_bytes_max,
    };
    let reception = Reception::new(limits, config.connections_max, door);
    if config.read_only_mode {
        // Some may come before this node has caught up: the service knows whom to let in.
        serving.notify_one();
    }
    let door_keeper = tokio::task::spawn_local(async move {
        // Who is not up to date yet has nothing to say to clients.
        serving.notified().await;
        tracing::info!("serving clients");
        let plain = reception.clone().accept(client_listener, None);
        match tls_listener {
            Some(listener) => drop(tokio::join!(plain, reception.accept(listener, client_tls))),
            None => plain.await,
        }
    });
    tell_service_manager("READY=1");
    let stop = tokio::select! {
        reason = host.run() => return Err(ServeError::DiskFailed(reason)),
        stop = stop => stop,
    };
    tell_service_manager("STOPPING=1");
    if stop == Stop::InOrder {
        door_keeper.abort();
        if let Some(keeper) = &etcd_door_keeper {
            keeper.abort();
        }
        if tokio::time::timeout(WIND_UP_PATIENCE, host.wind_up()).await.is_err() {
            tracing::warn!("stopping before everything was handed over or answered");
        }
    }
    Ok(())
}

type AllRecovered = BTreeMap<GroupId, Recovered>;

/// What is damaged comes back from other members: a node alone was refused already.
fn tell_damage(damage: &[Damage], recovered: &AllRecovered) {
    for Damage { file, byte, what, .. } in damage {
        tracing::warn!(%file, byte, %what, "damaged");
    }
    if damage.is_empty() {
        return;
    }
    if recovered.values().all(Recovered::is_whole) {
        tracing::warn!("nothing is lost by that: it was replaced, or a snapshot stands for it");
    } else {
        tracing::warn!("this node does not lead until another member has sent again what is lost");
    }
}

fn coordination(
    config: &ServeConfig,
    recovered: &mut AllRecovered,
    front: ZooKeeper,
) -> Result<Box<dyn Hosted>, ServeError> {
    let id = GroupId::COORDINATION;
    let recovered = recovered.remove(&id).unwrap_or_default();
    tracing::info!(last = %recovered.last, term = %recovered.hard_state.term, "opened the log");
    let durable = recovered.mark;
    let server = Server::new(server_config(config)?);
    let replica = Replica::new(config.raft(), recovered, Tree::new(), server, random_u64()?);
    Ok(Box::new(Group::new(id, replica, durable, front)))
}

fn key_value(
    config: &ServeConfig,
    cluster_id: u64,
    recovered: &mut AllRecovered,
    front: Etcd,
) -> Result<Box<dyn Hosted>, ServeError> {
    let id = GroupId::KEY_VALUE;
    let recovered = recovered.remove(&id).unwrap_or_default();
    let durable = recovered.mark;
    let first = RequestId(random_u64()? & !0xffff_ffff);
    let server = kv::ServerConfig {
        cluster_id,
        request_bytes_max: config.kv_request_bytes_max,
        quota_bytes: config.kv_quota_bytes,
        progress_notify_ms: config.kv_progress_notify_ms,
        client_idle_ms: config.kv_client_idle_ms,
        ..kv::ServerConfig::new(NodeId(config.node), first)
    };
    let server = kv::Server::new(server, random_u64()?);
    let replica = Replica::new(config.raft(), recovered, Store::default(), server, random_u64()?);
    Ok(Box::new(Group::new(id, replica, durable, front)))
}

/// The group that holds the list of members.
fn system(
    config: &ServeConfig,
    base: &Roster,
    recovered: &mut AllRecovered,
    enrolment: &Enrolment,
) -> Result<Box<dyn Hosted>, ServeError> {
    let id = GroupId::SYSTEM;
    let recovered = recovered.remove(&id).unwrap_or_default();
    let durable = recovered.mark;
    let first = RequestId(random_u64()? & !0xffff_ffff);
    let registrar = Registrar::new(NodeId(config.node), base.members.clone(), first);
    let machine = quorate_roster::Registry::default();
    let replica = Replica::new(config.raft(), recovered, machine, registrar, random_u64()?);
    Ok(Box::new(Group::new(id, replica, durable, Registry::new(enrolment))))
}

fn idle_group(
    config: &ServeConfig,
    number: u64,
    recovered: &mut AllRecovered,
) -> Result<Box<dyn Hosted>, ServeError> {
    let id = GroupId(idle::FIRST_GROUP + number);
    let recovered = recovered.remove(&id).unwrap_or_default();
    let durable = recovered.mark;
    let replica = Replica::new(config.raft(), recovered, NoState, Idle, random_u64()?);
    Ok(Box::new(Group::new(id, replica, durable, Closed)))
}

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) is the lower one. Who finds the queue
/// full asks again after one second, then three, then seven: after a leader's death thousands of clients come at once.
const BACKLOG: i32 = 65_535;

async fn listen(address: &str, what: &'static str) -> Result<TcpListener, ServeError> {
    let bound = TcpListener::bind(address).await.and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    bound.map_err(|error| ServeError::Listen { address: address.to_string(), what, error })
}

fn warn_if_open(listeners: &[&TcpListener], text: &str) {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    for address in addresses.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "{text}");
    }
}

fn trust(config: &ServeConfig, renewal: &mut Renewal) -> Result<Trust, ConfigError> {
    let secret = config.member_secret()?.map(|secret| Secret::new(&secret));
    let tls = match &config.member_tls {
        Some(tls) => Some(renewal.members(tls)?),
        None => None,
    };
    Ok(Trust { secret, tls })
}

fn server_config(config: &ServeConfig) -> Result<ServerConfig, ServeError> {
    let first = RequestId(random_u64()? & !0xffff_ffff);
    let mut server = ServerConfig::new(NodeId(config.node), first);
    server.session_timeout_min_ms = config.session_timeout_min_ms;
    server.session_timeout_max_ms = config.session_timeout_max_ms;
    server.super_digest.clone_from(&config.super_digest);
    server.sasl_passwords.clone_from(&config.sasl_passwords);
    server.sasl_super_user.clone_from(&config.sasl_super_user);
    server.x509_super_user.clone_from(&config.x509_super_user);
    server.open_words = config.open_words()?;
    let base = configured(&config.members);
    server.servers = ensemble(&base);
    // Some clients connect to what is written there, and to nothing else: where one of these says no more than
    // "everywhere", and for a server alone, it stays empty.
    let reachable = config.members.iter().all(|member| !member.zookeeper.ip().is_unspecified());
    if reachable && base.members.len() > 1 {
        server.ensemble.clone_from(&server.servers);
    }
    server.reconfig_enabled = config.reconfig_enabled;
    server.linearizable_reads = config.linearizable_reads;
    server.read_only_mode = config.read_only_mode;
    server.reap_interval = Duration::from_millis(config.container_check_ms);
    server.connections_per_address_max = config.connections_per_address_max;
    server.unread_bytes_max = config.client_backlog_bytes_max;
    server.listing_bytes_max = config.listing_bytes_max;
    let port = config.own_address().map_or(0, |own| own.zookeeper.port());
    let mut pairs = vec![
        ("clientPort", port.to_string()),
        ("dataDir", config.data_dir.display().to_string()),
        ("tickTime", (config.session_timeout_min_ms / 2).to_string()),
        ("maxClientCnxns", config.connections_per_address_max.to_string()),
        ("minSessionTimeout", config.session_timeout_min_ms.to_string()),
        ("maxSessionTimeout", config.session_timeout_max_ms.to_string()),
        ("serverId", config.node.to_string()),
    ];
    server.conf = pairs.drain(..).map(|(key, value)| (key.to_string(), value)).collect();
    Ok(server)
}

/// Raises the soft limit of open files to the hard one: each client is one.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// ZK-11: the clients of a leader that died knock at once; none is kept out for seconds because the queue was short.
    #[tokio::test]
    async fn more_clients_may_knock_than_the_default_queue_holds() {
        const CLIENTS: usize = 1_500;
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        if most.trim().parse().unwrap_or(0) < CLIENTS {
            return; // the system allows no longer queue
        }
        raise_open_files();
        let listener = listen("127.0.0.1:0", "clients").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_secs(20);
        let knock = |_| TcpStream::connect_timeout(&address, patience).unwrap();
        let waiting: Vec<TcpStream> = (0..CLIENTS).map(knock).collect();
        assert_eq!(waiting.len(), CLIENTS);
    }
}
