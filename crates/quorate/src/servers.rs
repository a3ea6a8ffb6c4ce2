//! The argument that names the servers of a running cluster, for every verb that is a client.

use clap::Args;

/// Where `quorate up` serves ZooKeeper's protocol.
const ZOOKEEPER: [&str; 3] = ["127.0.0.1:2181", "127.0.0.1:2182", "127.0.0.1:2183"];
/// Where `quorate up` serves etcd's API, and etcd by itself.
const ETCD: [&str; 3] = ["127.0.0.1:2379", "127.0.0.1:2380", "127.0.0.1:2381"];

/// `--servers`
#[derive(Args, Clone, Debug)]
pub(crate) struct Servers {
    /// Servers, with commas between them; a client moves to another one when its own dies [default: those of `quorate up` on
    /// this machine]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    servers: Vec<String>,
}

impl Servers {
    /// Those that speak ZooKeeper's protocol.
    pub(crate) fn zookeeper(&self) -> Vec<String> {
        self.given_or(&ZOOKEEPER)
    }

    /// Those that speak etcd's API. Addresses may be written as URLs, as etcd's own tools do.
    pub(crate) fn etcd(&self) -> Vec<String> {
        let plain =
            |server: String| server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        self.given_or(&ETCD).into_iter().map(plain).collect()
    }

    fn given_or(&self, usual: &[&str]) -> Vec<String> {
        if self.servers.is_empty() {
            usual.iter().map(ToString::to_string).collect()
        } else {
            self.servers.clone()
        }
    }
}
