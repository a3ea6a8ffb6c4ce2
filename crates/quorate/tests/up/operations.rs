//! What an operator has around a cluster: its doctor, its log, its metrics and the files under `packaging/`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cluster::{Cluster, Directory};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `/metrics` of a node.
fn metrics(admin: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The names that Prometheus's expressions ask for: words that are followed by no parenthesis, outside braces and brackets.
fn names(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 9] =
        ["by", "on", "group", "group_right", "instance", "job", "rate", "max", "changes"];
    let mut plain = String::new();
    let mut depth = 0;
    for c in expression.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    names.filter(|word| !WORDS.contains(word) && *word != "up").map(str::to_owned).collect()
}

#[test]
fn names_of_metrics_are_told_from_functions_and_labels() {
    let found = names("max by (group) (a_b) - on (group) group_right () rate(c_total[1m]) > 1");
    assert_eq!(found, BTreeSet::from(["a_b".to_owned(), "c_total".to_owned()]));
}

/// Dashboards and alerts ask for nothing that a node does not tell; its doctor finds its own ports taken by itself and its own
/// clocks agreeing.
#[test]
fn a_running_cluster_has_every_metric_that_packaging_names_and_passes_its_doctor() {
    let cluster = Cluster::start(3);
    let nodes = cluster.nodes();
    let text = metrics(nodes[0]["admin"].as_str().unwrap());
    let alerts = std::fs::read_to_string(root().join("packaging/prometheus/alerts.yml")).unwrap();
    let mut asked: BTreeSet<String> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .flat_map(names)
        .collect();
    let board = std::fs::read(root().join("packaging/grafana/quorate.json")).unwrap();
    let board: Value = serde_json::from_slice(&board).unwrap();
    let targets = board["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    asked.extend(targets.flat_map(|target| names(target["expr"].as_str().unwrap())));
    assert!(asked.len() > 15, "{asked:?}");
    for name in asked {
        let there = text
            .lines()
            .any(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        assert!(there, "{name} is not among the metrics:\n{text}");
    }

    let directory = cluster.directory.path.display().to_string();
    let ran = cluster.directory.run(&["doctor", "--dir", &directory, "--json"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let findings = told["findings"].as_array().unwrap();
    let found = |topic: &str, word: &str| {
        let about = findings.iter().filter(|finding| finding["topic"] == topic);
        about.filter(|finding| finding["what"].as_str().unwrap().contains(word)).count()
    };
    assert_eq!(found("ports", "is ours"), 12, "{told:#}");
    assert_eq!(found("ports", "answers"), 6, "{told:#}");
    assert_eq!(found("clocks", "agrees"), 6, "{told:#}");
    assert_eq!(found("disk", "fdatasync of"), 3, "{told:#}");
    // A slow or small disk of the machine that runs this is no fault of the doctor's.
    let own =
        findings.iter().filter(|f| !["disk", "limits"].contains(&f["topic"].as_str().unwrap()));
    assert!(own.clone().all(|finding| finding["level"] != "bad"), "{told:#}");
}

/// Each line of the log is one JSON object where that is asked for.
#[test]
fn a_log_for_programs_is_json() {
    let directory = Directory::new();
    let zoo = directory.path.join("zoo.cfg");
    let text = format!("dataDir={}\nclientPort=1\nforceSync=no\n", directory.path.display());
    std::fs::write(&zoo, text).unwrap();
    let zoo = zoo.display().to_string();
    let ran = directory.run(&["doctor", "--zoo-cfg", &zoo, "--log-format", "json"]);
    let line = ran.stderr.lines().next().unwrap_or_else(|| panic!("{ran:?}"));
    let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(event["level"], "WARN");
    assert!(event["message"].as_str().unwrap().contains("forceSync=no"), "{event}");
}
