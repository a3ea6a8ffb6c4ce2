//! The file itself, the directory it names, and who may reach what.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quorate_contracts::NodeId;
use quorate_server::{DataDir, DataDirError, ServeConfig};

use super::Findings;

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("configuration");
    if let Err(error) = config.check() {
        found.bad(error.to_string(), "docs/configuration.md lists the keys");
        return found;
    }
    let voters = config.members.iter().filter(|member| !member.observer).count();
    found.ok(format!(
        "node {} of {} members, {voters} of them voting",
        config.node,
        config.members.len()
    ));
    if voters.is_multiple_of(2) {
        let mend =
            format!("one more, or one as `observer`: {} survive as many failures", voters - 1);
        found.warn(format!("{voters} voting members need {} for a majority", voters / 2 + 1), mend);
    }
    data_directory(&mut found, config);
    exposure(&mut found, config);
    let tables = config.certificates();
    let secrets = tables.iter().map(|table| &table.key).chain(&config.member_secret_file);
    secrets.for_each(|path| secrecy(&mut found, path));
    found
}

fn data_directory(found: &mut Findings, config: &ServeConfig) {
    let path = config.data_dir.display();
    match DataDir::identity_of(&config.data_dir) {
        Ok(identity) if identity.node == NodeId(config.node) => {
            found.ok(format!("{path} is node {} of cluster {:x}", config.node, identity.cluster.0));
        }
        Ok(identity) => {
            let what =
                format!("{path} belongs to node {}, not to {}", identity.node.0, config.node);
            found.bad(what, "check `node` and `data_dir`");
        }
        Err(DataDirError::NotFormatted { .. }) if !config.data_dir.exists() => {
            found.ok(format!(
                "{path} is not there yet, and will be made by `quorate up`, or by `quorate format`"
            ));
        }
        Err(error @ DataDirError::NotFormatted { .. }) => {
            let mend = "`quorate format` makes it one, once; if it was one, its data is gone: remove the node and add it again";
            found.bad(error.to_string(), mend);
        }
        Err(error) => {
            found.bad(error.to_string(), "restore the file from a backup of this very node")
        }
    }
}

/// A port that strangers reach needs something that keeps them out.
fn exposure(found: &mut Findings, config: &ServeConfig) {
    let Some(own) = config.own_address() else { return };
    let member = own.member_listen.as_ref().unwrap_or(&own.member);
    let guarded = config.member_tls.is_some() || config.member_secret_file.is_some();
    if !guarded && reaches_out(member) {
        let what = format!(
            "the members' port {member} is open beyond loopback, and takes anybody's word for who it is"
        );
        found.bad(what, "set `member_tls` or `member_secret_file`");
    }
    let plain = [
        ("ZooKeeper clients", Some(own.zookeeper)),
        ("etcd clients", own.etcd),
        ("administrators", Some(own.admin)),
    ];
    for (who, address) in plain {
        let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { continue };
        if who == "etcd clients" && config.etcd_tls.is_some() && !config.etcd_also_plain {
            continue;
        }
        let what = format!("{address} is open to {who} beyond loopback without TLS");
        found.warn(what, "bind it to loopback and offer `client_tls`, `etcd_tls` or a proxy, or trust the network");
    }
}

fn reaches_out(address: &str) -> bool {
    let loopback = |address: SocketAddr| address.ip().is_loopback();
    let mut all = address.to_socket_addrs().into_iter().flatten();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
        || all.any(|address| !loopback(address))
}

/// A key that others on the machine read is nobody's secret.
fn secrecy(found: &mut Findings, path: &Path) {
    let Ok(metadata) = path.metadata() else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let what =
            format!("{} may be read by everybody on this machine (mode {mode:o})", path.display());
        found.warn(what, format!("chmod 600 {}", path.display()));
    }
}
