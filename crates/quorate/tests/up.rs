//! `quorate up` as a person meets it: real processes on free ports of the loopback, in a directory of the test's own.
//!
//! What clients see while nodes die is tested end to end with real clients (`interop/`); here it is the command itself: what
//! it writes, what it refuses, what becomes of its children.

#[path = "up/cluster.rs"]
mod cluster;
#[path = "up/kv.rs"]
mod kv;
#[path = "up/operations.rs"]
mod operations;
#[path = "up/tls.rs"]
mod tls;

use cluster::{Cluster, Directory, ended, until};

/// The first command of the README: three nodes serve, `cluster.json` says where, `status` says how, a client is served.
#[test]
fn three_nodes_serve_and_stop_cleanly() {
    let mut cluster = Cluster::start(3);
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 3);
    for (at, node) in nodes.iter().enumerate() {
        assert_eq!(node["id"], at as u64 + 1);
        let port = 2181 + at as u16 + cluster.offset;
        assert_eq!(node["zookeeper"], format!("127.0.0.1:{port}"));
        let port = 2379 + at as u16 + cluster.offset;
        assert_eq!(node["etcd"], format!("127.0.0.1:{port}"));
    }
    let status = cluster.status();
    let leaders = status.iter().filter(|node| node["role"] == "leader").count();
    assert_eq!(leaders, 1, "{status:?}");
    assert!(status.iter().all(|node| node["alive"] == true), "{status:?}");

    for node in &status {
        let names: Vec<_> = node["groups"].as_array().unwrap().iter().map(|g| &g["name"]).collect();
        assert_eq!(names, ["coordination", "kv", "system"]);
        assert_ne!(node["groups"][1]["leader"], serde_json::Value::Null, "{node}");
    }

    let servers = cluster.servers();
    let zk =
        |words: &[&str]| cluster.directory.run(&[&["zk", "--servers", &servers], words].concat());
    assert_eq!(zk(&["create", "/greeting", "hello"]).code, 0);
    let got = zk(&["get", "/greeting"]);
    assert_eq!((got.code, got.stdout.trim()), (0, "hello"), "{got:?}");

    assert_eq!(cluster.interrupt(), Some(0));
    for node in &nodes {
        let pid = node["pid"].as_u64().unwrap();
        assert!(ended(pid), "node {} still runs as {pid}", node["id"]);
    }
}

/// A child that is killed is reported and left dead; `node start` brings it back and writes its pid; what was written stays.
#[test]
fn a_killed_node_is_left_dead_until_it_is_started_again() {
    let mut cluster = Cluster::start(3);
    let pid = cluster.nodes()[0]["pid"].as_u64().unwrap();
    cluster::kill(pid);
    until("the death is reported", || cluster.stderr().contains("node 1 ended"));
    assert_eq!(cluster.status()[0]["alive"], false);

    let directory = cluster.directory.path.display().to_string();
    let start = ["node", "start", "--dir", &directory, "--id", "1"];
    let started = cluster.directory.run(&start);
    assert_eq!(started.code, 0, "{started:?}");
    let new = cluster.nodes()[0]["pid"].as_u64().unwrap();
    assert_ne!(new, pid);
    assert_eq!(cluster.status()[0]["alive"], true);
    until("`up` adopts it", || cluster.stderr().contains("node 1 is back"));

    let again = cluster.directory.run(&start);
    assert_ne!(again.code, 0);
    assert!(again.stderr.contains("it runs, as process"), "{again:?}");
    assert_eq!(cluster.interrupt(), Some(0));
    until("the adopted node ends too", || ended(new));
}

/// RAFT-23: a cluster that nobody uses falls asleep; when its leader is killed then, another one leads and clients are served.
#[test]
fn the_leader_of_a_sleeping_cluster_is_replaced() {
    let cluster = Cluster::start(3);
    let sleeps = |node: &serde_json::Value| {
        let groups = node["groups"].as_array();
        groups.is_some_and(|groups| groups.iter().all(|group| group["asleep"] == true))
    };
    until("all groups of all nodes sleep", || cluster.status().iter().all(sleeps));
    let leader = |node: &serde_json::Value| node["role"] == "leader";
    let old = cluster.status().into_iter().find(leader).expect("one leads");
    cluster::kill(old["pid"].as_u64().unwrap());
    until("another one leads", || {
        cluster.status().iter().any(|node| leader(node) && node["id"] != old["id"])
    });
    let servers = cluster.servers();
    let made = cluster.directory.run(&["zk", "--servers", &servers, "create", "/awake", "yes"]);
    assert_eq!(made.code, 0, "{made:?}");
}

/// Children die with `up`, also when it has no time to tell them; and the next `up` goes on with the data.
#[test]
fn nodes_die_with_up_and_the_data_goes_on() {
    let mut cluster = Cluster::start(1);
    let servers = cluster.servers();
    let created = cluster.directory.run(&["zk", "--servers", &servers, "create", "/kept", "data"]);
    assert_eq!(created.code, 0, "{created:?}");
    let pid = cluster.nodes()[0]["pid"].as_u64().unwrap();
    cluster.kill();
    until("the child died with `up`", || ended(pid));

    let cluster = cluster.start_again();
    let got = cluster.directory.run(&["zk", "--servers", &servers, "get", "/kept"]);
    assert_eq!((got.code, got.stdout.trim()), (0, "data"), "{got:?}");
}

/// A second `up` or node on the same directory is refused in words.
#[test]
fn a_second_one_on_the_same_directory_is_refused() {
    let cluster = Cluster::start(1);
    let up = cluster.directory.up(1, cluster.offset).wait();
    assert_eq!(up.code, 74, "{up:?}");
    assert!(up.stderr.contains("`quorate up` runs there already"), "{up:?}");

    let config = cluster.directory.path.join("n1/serve.toml");
    let node = cluster.directory.run(&["serve", "--config", &config.display().to_string()]);
    assert_eq!(node.code, 74, "{node:?}");
    assert!(node.stderr.contains("in use"), "{node:?}");
}

/// Ports that another cluster holds: one clear message and exit code 69. The other cluster's answers are not taken for ours.
#[test]
fn a_port_in_use_is_told_and_nothing_is_left_running() {
    let first = Cluster::start(1);
    let second = Directory::new();
    let up = second.up(1, first.offset).wait();
    assert_eq!(up.code, 69, "{up:?}");
    assert!(up.stdout.is_empty(), "it claims to serve: {up:?}");
    assert!(up.stderr.contains("cannot listen on 127.0.0.1:"), "{up:?}");
    assert!(up.stderr.contains("--port-offset"), "no next step: {up:?}");
}

/// A damaged log is refused with file and byte, exit code 74, and its bytes stay as they are.
#[test]
fn a_damaged_log_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start(1);
    let servers = cluster.servers();
    for name in ["/a", "/b", "/c"] {
        cluster.directory.run(&["zk", "--servers", &servers, "create", name, "data"]);
    }
    assert_eq!(cluster.interrupt(), Some(0));
    let segment = cluster.directory.path.join("n1/log/000001.log");
    let bytes = damage_entry(&segment, "/b");
    let before = cluster::names_and_sizes(&cluster.directory.path.join("n1/log"));

    let up = cluster.directory.up(1, cluster.offset).wait();
    assert_eq!(up.code, 74, "{up:?}");
    assert!(up.stderr.contains("000001.log, byte "), "{up:?}");
    assert_eq!(cluster::names_and_sizes(&cluster.directory.path.join("n1/log")), before);
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "the damaged file was changed");
}

/// Damages the data of the entry that made a znode: there are valid batches behind it. Gives back what the file holds then.
fn damage_entry(segment: &std::path::Path, znode: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(segment).unwrap();
    let found = bytes.windows(znode.len()).position(|window| window == znode.as_bytes());
    bytes[found.expect("the znode is in the log")] ^= 1;
    std::fs::write(segment, &bytes).unwrap();
    bytes
}

/// RAFT-16: the same entry is damaged on every node, so that nobody can send it again: none leads, none serves, and
/// `quorate status` says why, and what to do.
#[test]
fn without_a_whole_majority_nobody_serves_and_status_says_so() {
    let mut cluster = Cluster::start(3);
    let servers = cluster.servers();
    for name in ["/a", "/b", "/c"] {
        let ran = cluster.directory.run(&["zk", "--servers", &servers, "create", name, "data"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert_eq!(cluster.interrupt(), Some(0));
    for node in 1..=3 {
        damage_entry(&cluster.directory.path.join(format!("n{node}/log/000001.log")), "/b");
    }
    let _up = cluster.directory.up(3, cluster.offset);
    let directory = cluster.directory.path.display().to_string();
    let mut told = String::new();
    until("status says that nobody can lead", || {
        let ran = cluster.directory.run(&["status", "--dir", &directory]);
        told = ran.stdout;
        ran.code == 1 && told.contains("no majority of the members is up and whole")
    });
    for node in 1..=3 {
        let lacks = format!("n{node} lacks some of the log of group coordination: entry ");
        assert!(told.contains(&lacks), "{told}");
    }
    assert!(told.contains("quorate restore"), "no way out: {told}");
}

/// Words that make no sense, a configuration that makes none, a directory that cannot be used: each its exit code and a next step.
#[test]
fn what_cannot_be_done_is_told_with_its_own_exit_code() {
    let directory = Directory::new();
    let config = directory.path.join("bad.toml");
    std::fs::write(&config, "nonsense = 1\n").unwrap();
    let config = config.display().to_string();
    let table: [(&[&str], i32, &str); 5] = [
        (&["up", "--nodes", "2"], 64, "1, 3 or 5"),
        (&["serve", "--config", &config], 78, "nonsense"),
        (&["serve", "--config", "/nonexistent/serve.toml"], 78, "/nonexistent/serve.toml"),
        (&["up", "--dir", "/proc/nonexistent"], 74, "--dir"),
        (&["zk", "--servers", "127.0.0.1:1", "get", "/"], 69, "--servers"),
    ];
    for (words, code, tells) in table {
        let ran = directory.run(words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(tells), "{words:?}: {ran:?}");
    }
}
