//! The ports that a node listens on, and those of the other members.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use quorate_server::{MemberAddress, ServeConfig};

use super::{Findings, running};

const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("ports");
    let Some(own) = config.own_address() else { return found };
    let running = running(config);
    for (what, address) in own_ports(config, own) {
        match TcpListener::bind(&address) {
            Ok(_) => found.ok(format!("{address} ({what}) is free")),
            Err(error) => match &running {
                Some(node) if error.kind() == ErrorKind::AddrInUse => {
                    found.ok(format!(
                        "{address} ({what}) is ours: node {} runs as process {}",
                        node.id, node.pid
                    ));
                }
                _ => found.bad(format!("{address} ({what}): {error}"), mend(&error, &address)),
            },
        }
    }
    let others = config.members.iter().filter(|member| member.id != config.node);
    others.for_each(|member| reach(&mut found, member));
    found
}

fn own_ports(config: &ServeConfig, own: &MemberAddress) -> Vec<(&'static str, String)> {
    let member = own.member_listen.as_ref().unwrap_or(&own.member).clone();
    let mut ports = vec![
        ("members", member),
        ("ZooKeeper clients", own.zookeeper.to_string()),
        ("administrators", own.admin.to_string()),
    ];
    let optional = [
        ("ZooKeeper clients with TLS", own.zookeeper_tls),
        ("etcd clients", own.etcd),
        ("scrapers of metrics", config.metrics),
    ];
    ports.extend(
        optional.iter().filter_map(|(what, port)| port.map(|port| (*what, port.to_string()))),
    );
    ports
}

fn mend(error: &io::Error, address: &str) -> String {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    match error.kind() {
        ErrorKind::AddrInUse => format!("another process has it (`ss -ltnp 'sport = :{port}'` names it): stop it, or choose another port"),
        ErrorKind::AddrNotAvailable => "this machine has no such address (`ip addr` lists them): correct it, or set `member_listen`".to_string(),
        ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one".to_string(),
        _ => "correct the address".to_string(),
    }
}

/// Whether another member's port is to be had from here. That it is down is no fault of this node's.
fn reach(found: &mut Findings, member: &MemberAddress) {
    let who = format!("member {} at {}", member.id, member.member);
    let mut addresses = match member.member.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            return found.bad(
                format!("{who}: {error}"),
                "correct the name, or make it known to the resolver (`getent hosts NAME`)",
            );
        }
    };
    let reached = addresses.next().ok_or_else(|| io::Error::other("the name has no address"));
    match reached.and_then(|address| TcpStream::connect_timeout(&address, PATIENCE)) {
        Ok(_) => found.ok(format!("{who} answers")),
        Err(error) => {
            let mend = "is it running? if it is, a firewall is between: members must reach each other on these ports";
            found.warn(format!("{who}: {error}"), mend);
        }
    }
}
