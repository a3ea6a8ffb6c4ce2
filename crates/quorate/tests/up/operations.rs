//! What an operator has around a cluster: its doctor and its log.

use serde_json::Value;

use super::cluster::{Cluster, Directory};

/// The doctor of a running cluster finds its own ports taken by itself and its own clocks agreeing.
#[test]
fn a_running_cluster_passes_its_doctor() {
    let cluster = Cluster::start(3);
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
