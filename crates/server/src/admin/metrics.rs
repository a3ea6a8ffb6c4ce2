//! Metrics as Prometheus reads them: ZooKeeper's own names, which people's dashboards know (the keys of the
//! word `mntr` without their `zk_`), and ours for Raft and the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

use super::{GroupStatus, NodeStatus, RoomName};
use crate::tls::renewal::CertificateStatus;

/// One text of all metrics.
pub(super) fn text(status: &NodeStatus, mntr: &str) -> String {
    let mut metrics = Metrics::default();
    monitored(&mut metrics, mntr);
    metrics.gauge("quorate_serving", "1 once the node takes clients", u8::from(status.serving));
    metrics.gauge("process_resident_memory_bytes", "resident memory", status.resident_bytes);
    metrics.counter("quorate_log_fdatasyncs_total", "fdatasyncs of the log", status.fdatasyncs);
    metrics.counter("quorate_log_entries_total", "entries written to the log", status.log_entries);
    metrics.counter("quorate_log_bytes_total", "bytes written to the log", status.log_bytes);
    let full = status.room != RoomName::Enough;
    metrics.gauge(
        "quorate_disk_full",
        "1 while writes are refused for want of room",
        u8::from(full),
    );
    if let Some(free) = status.disk_free_bytes {
        metrics.gauge("quorate_disk_free_bytes", "free space of the log's disk", free);
    }
    let room = status.log_room_bytes;
    metrics.gauge("quorate_log_room_bytes", "space reserved for the log and not yet used", room);
    let packets = status.member_packets_sent;
    metrics.counter("quorate_member_packets_sent_total", "packets written to members", packets);
    certificates(&mut metrics, &status.certificates);
    groups(&mut metrics, &status.groups);
    metrics.text
}

fn certificates(metrics: &mut Metrics, certificates: &[CertificateStatus]) {
    if certificates.is_empty() {
        return;
    }
    type Value = fn(&CertificateStatus) -> u64;
    let gauges: [(&str, &str, Value); 2] = [
        (
            "quorate_certificate_expiry_seconds",
            "until when the certificate in use holds, in seconds since 1970",
            |certificate| certificate.until_unix_s,
        ),
        (
            "quorate_certificate_refused",
            "1 while its files hold something that cannot be used",
            |certificate| u64::from(certificate.refused.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        metrics.head(name, help, "gauge");
        for certificate in certificates {
            let (table, value) = (&certificate.table, value(certificate));
            let _ = writeln!(metrics.text, "{name}{{table=\"{table}\"}} {value}");
        }
    }
}

/// What `mntr` tells: distributions as summaries with quantiles, everything else as gauges.
fn monitored(metrics: &mut Metrics, mntr: &str) {
    let pairs = mntr.lines().filter_map(|line| line.strip_prefix("zk_")?.split_once('\t'));
    let numbers: BTreeMap<&str, &str> =
        pairs.filter(|(_, value)| value.parse::<f64>().is_ok()).collect();
    let distributions: BTreeSet<&str> =
        numbers.keys().filter_map(|name| name.strip_prefix("cnt_")).collect();
    for (name, value) in &numbers {
        let of = name.split_once('_').map(|(_, of)| of).filter(|of| distributions.contains(of));
        match of {
            None => metrics.gauge(name, "as in ZooKeeper's mntr", value),
            Some(of) if name.starts_with("cnt_") => metrics.summary(of, &numbers),
            Some(_) => {}
        }
    }
}

fn groups(metrics: &mut Metrics, groups: &[GroupStatus]) {
    type Value = fn(&GroupStatus) -> u64;
    let gauges: [(&str, &str, Value); 6] = [
        ("quorate_raft_term", "the group's term", |group| group.term),
        ("quorate_raft_commit_index", "highest index known to be committed", |group| group.commit),
        ("quorate_raft_applied_index", "highest index applied", |group| group.applied),
        ("quorate_raft_last_index", "last index of the log", |group| group.last),
        ("quorate_raft_is_leader", "1 on the leader", |group| u64::from(group.role == "leader")),
        ("quorate_raft_has_leader", "1 where a leader is known", |group| {
            u64::from(group.leader.is_some())
        }),
    ];
    for (name, help, value) in gauges {
        metrics.head(name, help, "gauge");
        for group in groups {
            let _ = writeln!(metrics.text, "{name}{{group=\"{}\"}} {}", group.name, value(group));
        }
    }
}

#[derive(Default)]
struct Metrics {
    text: String,
}

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// A distribution in milliseconds, of which `mntr` tells the count, the sum and quantiles.
    fn summary(&mut self, name: &str, numbers: &BTreeMap<&str, &str>) {
        self.head(name, "as in ZooKeeper, in milliseconds", "summary");
        let number = |part: &str| numbers.get(&*format!("{part}_{name}")).copied().unwrap_or("0");
        for (part, quantile) in
            [("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"), ("p999", "0.999")]
        {
            let _ = writeln!(self.text, "{name}{{quantile=\"{quantile}\"}} {}", number(part));
        }
        let (count, sum) = (number("cnt"), number("sum"));
        let _ = writeln!(self.text, "{name}_count {count}\n{name}_sum {sum}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-18: dashboards made for ZooKeeper find its names.
    #[test]
    fn numbers_of_mntr_keep_their_names_and_texts_are_left_out() {
        let status = NodeStatus { serving: true, ..NodeStatus::default() };
        let mntr = "zk_version\t3.9.3\nzk_avg_latency\t0.5\nzk_znode_count\t5\n";
        let text = text(&status, mntr);
        assert!(text.contains("# TYPE znode_count gauge\nznode_count 5\n"), "{text}");
        assert!(text.contains("\navg_latency 0.5\n"), "{text}");
        assert!(text.contains("\nquorate_serving 1\n"), "{text}");
        assert!(!text.contains("3.9.3"), "{text}");
    }

    /// ZK-18: distributions as ZooKeeper's provider tells them, so that `rate(fsynctime_sum) / rate(fsynctime_count)` means something.
    #[test]
    fn distributions_are_summaries() {
        let mntr = "zk_max_latency\t7\nzk_avg_fsynctime\t1.5\nzk_min_fsynctime\t1\nzk_max_fsynctime\t2\n\
                    zk_cnt_fsynctime\t2\nzk_sum_fsynctime\t3\nzk_p50_fsynctime\t1\nzk_p99_fsynctime\t2\n";
        let text = text(&NodeStatus::default(), mntr);
        let summary = "# TYPE fsynctime summary\nfsynctime{quantile=\"0.5\"} 1\nfsynctime{quantile=\"0.95\"} 0\n\
                       fsynctime{quantile=\"0.99\"} 2\nfsynctime{quantile=\"0.999\"} 0\nfsynctime_count 2\nfsynctime_sum 3\n";
        assert!(text.contains(summary), "{text}");
        assert!(text.contains("\nmax_latency 7\n") && !text.contains("p50_fsynctime"), "{text}");
    }

    /// Words of PromQL in the rules and the dashboard that name no metric of ours; `up` is Prometheus's own.
    const PROMQL: [&str; 10] = [
        "up",
        "by",
        "on",
        "max",
        "rate",
        "changes",
        "predict_linear",
        "group_right",
        "quorate",
        "time",
    ];

    /// The names of metrics in an expression: no labels, ranges, functions or numbers.
    fn names(expression: &str) -> Vec<String> {
        let mut depth = 0;
        let bare: String = expression
            .chars()
            .map(|letter| {
                depth += i32::from("{[".contains(letter));
                let shown = if depth == 0 { letter } else { ' ' };
                depth -= i32::from("}]".contains(letter));
                shown
            })
            .collect();
        let bare = bare.replace("(job, group)", " ");
        let words = bare.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let named =
            words.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
        named.filter(|word| !PROMQL.contains(word)).map(str::to_string).collect()
    }

    fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                found.extend(map.get("expr").and_then(|text| text.as_str()).map(str::to_string));
                map.values().for_each(|value| expressions(value, found));
            }
            serde_json::Value::Array(values) => {
                values.iter().for_each(|value| expressions(value, found));
            }
            _ => {}
        }
    }

    /// The alert rules and the dashboard in `packaging/monitoring` ask for nothing that a node does not export.
    #[test]
    fn rules_and_dashboard_name_metrics_that_exist() {
        let rules = include_str!("../../../../packaging/monitoring/quorate-alerts.yml");
        let board = include_str!("../../../../packaging/monitoring/quorate-dashboard.json");
        let of_a_rule = |line: &str| line.trim().strip_prefix("expr: ").map(str::to_string);
        let mut asked: Vec<String> = rules.lines().filter_map(of_a_rule).collect();
        assert_eq!(asked.len(), rules.matches("- alert: ").count());
        expressions(&serde_json::from_str(board).unwrap(), &mut asked);
        let group = GroupStatus { name: "kv".to_string(), ..GroupStatus::default() };
        let status = NodeStatus {
            groups: vec![group],
            disk_free_bytes: Some(1),
            certificates: vec![CertificateStatus::default()],
            ..NodeStatus::default()
        };
        let exported = text(&status, "");
        let asked: Vec<String> = asked.iter().flat_map(|expression| names(expression)).collect();
        assert!(asked.len() > 15, "{asked:?}");
        for name in asked {
            assert!(exported.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
