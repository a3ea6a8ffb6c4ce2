//! The time of day. Nothing that is promised hangs on it; what people read does: times of znodes, logs, certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_server::{NodeStatus, ServeConfig};

use super::Findings;
use crate::cluster::{ask_cluster, ask_status};

/// Two clocks that are kept do not differ by more.
const APART_MS: u64 = 500;
/// Clock sources that cost a system call or more each time they are read.
const SLOW_SOURCES: [&str; 3] = ["hpet", "acpi_pm", "jiffies"];

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("clocks");
    let source =
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if let Ok(source) = source
        && SLOW_SOURCES.contains(&source.trim())
    {
        let what = format!("the kernel's clock source is {}, which is slow to read", source.trim());
        found.warn(what, "prefer tsc or kvm-clock (the kernel's log says why it is not used)");
    }
    let began = unix_ms();
    let nodes = others(config);
    let ended = unix_ms();
    for node in nodes.iter().filter(|node| node.unix_ms > 0) {
        compare(&mut found, node, began, ended);
    }
    if nodes.is_empty() && config.members.len() > 1 {
        found.warn(
            "no other member was asked for its time: none answers",
            "run this again while the cluster runs",
        );
    }
    found
}

/// The other members, by way of this node if it runs, else asked one by one.
fn others(config: &ServeConfig) -> Vec<NodeStatus> {
    let own = config.own_address().and_then(|own| ask_cluster(own.admin).ok());
    let mut nodes = own.map(|cluster| cluster.nodes).unwrap_or_default();
    if nodes.is_empty() {
        nodes = config.members.iter().filter_map(|member| ask_status(member.admin).ok()).collect();
    }
    nodes.retain(|node| node.id != config.node);
    nodes
}

/// The other's clock was read at some time between; only what that does not explain is a difference.
fn compare(found: &mut Findings, node: &NodeStatus, began: u64, ended: u64) {
    let apart = began.saturating_sub(node.unix_ms).max(node.unix_ms.saturating_sub(ended));
    if apart > APART_MS {
        let what = format!("the clock of node {} differs by {} ms at least", node.id, apart);
        found.warn(what, "have both keep time (`timedatectl set-ntp true`, chrony)");
    } else {
        found.ok(format!(
            "the clock of node {} agrees within {} ms",
            node.id,
            apart + (ended - began)
        ));
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn the_time_that_asking_took_is_no_difference() {
        for (theirs, level) in [
            (1_000, Level::Ok),
            (1_800, Level::Ok),
            (2_400, Level::Ok),
            (2_600, Level::Warn),
            (400, Level::Warn),
        ] {
            let node = NodeStatus { id: 2, unix_ms: theirs, ..NodeStatus::default() };
            let mut found = Findings::about("clocks");
            compare(&mut found, &node, 1_000, 2_000);
            assert_eq!(found.all[0].level, level, "{theirs}: {:?}", found.all);
        }
    }
}
