//! Bounds that the kernel sets: those of the node's process if it runs, of this one else.

use quorate_server::ServeConfig;

use super::{Findings, running};

/// Each client is one open file; so many leave room for a small cluster's.
const FILES_FEW: u64 = 4_096;
const FILES_MANY: u64 = 65_536;
/// Connections that may knock at the same instant.
const BACKLOG: u64 = 1_024;

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("limits");
    let pid = running(config).map(|status| status.pid);
    let of = pid.map_or("self".to_string(), |pid| pid.to_string());
    let whose = pid.map_or("this shell (a service's are its unit's)".to_string(), |pid| {
        format!("process {pid}")
    });
    let limits = std::fs::read_to_string(format!("/proc/{of}/limits")).unwrap_or_default();
    if let Some(files) = hard_limit(&limits, "Max open files") {
        open_files(&mut found, files, &whose, config.connections_max as u64);
    }
    if let Some(bytes) =
        hard_limit(&limits, "Max file size").filter(|bytes| *bytes < 2 * config.segment_bytes)
    {
        let what = format!(
            "files of {whose} may have {bytes} bytes: a segment has {}",
            config.segment_bytes
        );
        found.bad(what, "raise it (`ulimit -f unlimited`, LimitFSIZE=infinity)");
    }
    let backlog = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    if let Ok(backlog) = backlog.trim().parse::<u64>()
        && backlog < BACKLOG
    {
        let what =
            format!("{backlog} connections may knock at once: after a failover many clients do");
        found.warn(what, format!("sysctl -w net.core.somaxconn={}", 4 * BACKLOG));
    }
    found
}

/// The hard limit of a line of `/proc/PID/limits`; the largest number for `unlimited`.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn open_files(found: &mut Findings, files: u64, whose: &str, connections_max: u64) {
    let what = format!("{files} files may be open in {whose}: each client is one");
    let needed = connections_max.saturating_add(256).max(FILES_FEW);
    let mend = "raise it (`ulimit -Hn 1048576`, LimitNOFILE=1048576 in the unit)";
    match files {
        files if files < needed => found.bad(what, mend),
        files if files < FILES_MANY && connections_max == 0 => found.warn(what, mend),
        _ => found.ok(what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
                          Max file size             unlimited            unlimited            bytes\n\
                          Max open files            1024                 524288               files\n";

    #[test]
    fn the_hard_limit_counts_since_a_node_raises_the_soft_one() {
        assert_eq!(hard_limit(LIMITS, "Max open files"), Some(524_288));
        assert_eq!(hard_limit(LIMITS, "Max file size"), Some(u64::MAX));
    }

    #[test]
    fn open_files_are_judged_by_the_clients_that_are_let_in() {
        for (files, clients, level) in [
            (1_024, 0, Level::Bad),
            (10_000, 0, Level::Warn),
            (10_000, 5_000, Level::Ok),
            (10_000, 20_000, Level::Bad),
            (524_288, 0, Level::Ok),
        ] {
            let mut found = Findings::about("limits");
            open_files(&mut found, files, "x", clients);
            assert_eq!(found.all[0].level, level, "{files} files, {clients} clients");
        }
    }
}
