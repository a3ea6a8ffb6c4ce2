//! The servers of an ensemble in ZooKeeper's words: the lines of `/zookeeper/config`, and what reconfig asks for.
//!
//! ```text
//! server.3=10.0.0.3:7400:7401:participant;10.0.0.3:2181
//!        │ where the other servers find it  │ whether it votes
//!        └ its id                           └ where clients find it
//! version=2c                                  the last line, hexadecimal
//! ```
//!
//! Not here: how servers are changed.

use std::fmt;

/// A server's line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerLine {
    /// Its id.
    pub id: u64,
    /// Its host, an IPv6 address in brackets.
    pub host: String,
    /// For the other servers.
    pub port: u16,
    /// ZooKeeper's second port, for elections; nobody listens there.
    pub election_port: u16,
    /// Whether it does not vote.
    pub observer: bool,
    /// For clients: `host:port`.
    pub client: String,
}

impl ServerLine {
    /// Reads a line that names all three ports; the role may be left out, and the host of the clients' port.
    pub fn parse(line: &str) -> Option<Self> {
        let (id, rest) = line.trim().strip_prefix("server.")?.split_once('=')?;
        let (peer, client) = rest.split_once(';')?;
        let (observer, peer) = match peer.rsplit_once(':')? {
            (peer, "participant") => (false, peer),
            (peer, "observer") => (true, peer),
            _ => (false, peer),
        };
        let (peer, election_port) = peer.rsplit_once(':')?;
        let (host, port) = peer.rsplit_once(':')?;
        let bare = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        let client = match client.rsplit_once(':') {
            Some((host, port)) => format!("{host}:{}", port.parse::<u16>().ok()?),
            None => format!("0.0.0.0:{}", client.parse::<u16>().ok()?),
        };
        (bare && !host.is_empty()).then_some(Self {
            id: id.parse().ok()?,
            host: host.to_string(),
            port: port.parse().ok()?,
            election_port: election_port.parse().ok()?,
            observer,
            client,
        })
    }

    /// What stands behind the `=`.
    pub fn value(&self) -> String {
        let Self { host, port, election_port, client, .. } = self;
        let role = if self.observer { "observer" } else { "participant" };
        format!("{host}:{port}:{election_port}:{role};{client}")
    }
}

impl fmt::Display for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server.{}={}", self.id, self.value())
    }
}

/// What reconfig asks for, as it reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconfiguration {
    /// The version of the configuration that it is meant for; any if `None`.
    pub from_version: Option<i64>,
    /// What is to be different.
    pub edit: EnsembleEdit,
}

/// The two forms of reconfig.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnsembleEdit {
    /// The incremental one.
    Merge {
        /// Who comes, or is described anew.
        joining: Vec<ServerLine>,
        /// Who leaves.
        leaving: Vec<u64>,
    },
    /// These and no others.
    Replace(Vec<ServerLine>),
}

/// What `/zookeeper/config` holds: a line for each server, and the version.
pub fn config_text<'l>(lines: impl IntoIterator<Item = (u64, &'l str)>, version: u64) -> String {
    let mut text = String::new();
    for (id, value) in lines {
        text += &format!("server.{id}={value}\n");
    }
    text + &format!("version={version:x}")
}

/// The version that `/zookeeper/config` gives in its last line; 0 while it is empty.
pub fn config_version(config: Option<&[u8]>) -> i64 {
    let text = std::str::from_utf8(config.unwrap_or_default()).unwrap_or_default();
    let last = text.lines().last().and_then(|line| line.strip_prefix("version="));
    last.and_then(|version| i64::from_str_radix(version, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-18: lines come back as they went, with what was left out filled in; others do not read.
    #[test]
    fn a_servers_line() {
        for (line, as_written) in [
            ("server.1=h:1:2:participant;c:3", None),
            ("server.100=0.0.0.0:1:2:observer;0.0.0.0:3", None),
            ("server.7=[fd00::1]:1:2:observer;[fd00::2]:3", None),
            (" server.1=h:1:2;3", Some("server.1=h:1:2:participant;0.0.0.0:3")),
        ] {
            let read = ServerLine::parse(line).expect(line);
            assert_eq!(read.to_string(), as_written.unwrap_or(line));
        }
        for bad in [
            "",
            "asdf",
            "server.x=h:1:2;3",
            "server.1=h:1;3",
            "server.1=h:1:2",
            "server.1=h:1:2:leader;3",
            "server.1=h:1:70000;3",
            "server.1=:1:2;3",
            "server.1=h:1:2;c:x",
        ] {
            assert_eq!(ServerLine::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_version_is_the_last_line() {
        let text = config_text([(1, "h:1:2:participant;h:3")], 0x2c);
        assert_eq!(text, "server.1=h:1:2:participant;h:3\nversion=2c");
        assert_eq!(config_version(Some(text.as_bytes())), 0x2c);
        assert_eq!((config_version(None), config_version(Some(b"version=zz"))), (0, 0));
    }
}
