//! Where the log is: what room there is, on what kind of file system, and how fast it makes things durable.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_server::ServeConfig;

use super::Findings;

/// Writes that are timed: enough for a percentile, and over in seconds on a bad disk.
const WRITES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);
/// What a group commit writes, roughly.
const BLOCK_BYTES: usize = 4096;
/// Slower than that, writes are slow; etcd's guide draws the same line.
const SLOW: Duration = Duration::from_millis(10);
/// No medium is durable so fast: something on the way only says that it is.
const TOO_FAST: Duration = Duration::from_micros(8);
/// `statfs` magic numbers (linux/magic.h).
const KINDS: [(u64, &str); 3] = [(0x0102_1994, "tmpfs"), (0x6969, "nfs"), (0xff53_4d42, "cifs")];

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("disk");
    let directory = existing(&config.data_dir);
    room(&mut found, config, &directory);
    kind(&mut found, &directory);
    let file = directory.join(format!(".quorate-doctor-{}", std::process::id()));
    let timed = time_syncs(&file);
    let _ = std::fs::remove_file(&file);
    match timed {
        Ok(times) => speed(&mut found, config, &times),
        Err(error) => {
            let what = format!("cannot write in {}: {error}", directory.display());
            found.bad(what, "give the directory to the user that runs the node, and make room");
        }
    }
    found
}

/// The directory, or what is there of the way to it.
fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn room(found: &mut Findings, config: &ServeConfig, directory: &Path) {
    let Ok(space) = rustix::fs::statvfs(directory) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let (mib, needed) = (free >> 20, config.disk_free_bytes_min + 2 * config.segment_bytes);
    let what = format!("{mib} MiB free at {}", directory.display());
    if free < needed {
        let mend =
            format!("make room: the node takes no writes with less than {} MiB", needed >> 20);
        found.bad(what, mend);
    } else if free < needed * 4 {
        found.warn(what, "snapshots need as much again as the state takes: plan for more");
    } else {
        found.ok(what);
    }
    if space.f_files > 0 && space.f_favail < 1_000 {
        found.bad(format!("{} inodes free", space.f_favail), "remove files: each segment is one");
    }
}

fn kind(found: &mut Findings, directory: &Path) {
    let Ok(stat) = rustix::fs::statfs(directory) else { return };
    let magic = stat.f_type as u64;
    if let Some((_, name)) = KINDS.iter().find(|(known, _)| *known == magic) {
        let what = format!("{} is on {name}", directory.display());
        found.warn(what, "use a local disk: what is acknowledged must outlive the machine's power");
    }
}

/// Sorted times of writes made durable one by one, into space that was reserved, as the log does it.
fn time_syncs(path: &Path) -> io::Result<Vec<Duration>> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let bytes = (WRITES * BLOCK_BYTES) as u64;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    let (block, began) = ([0x5a; BLOCK_BYTES], Instant::now());
    let mut times = Vec::new();
    for at in 0..WRITES {
        let one = Instant::now();
        file.write_all_at(&block, (at * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        times.push(one.elapsed());
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    times.sort_unstable();
    Ok(times)
}

fn speed(found: &mut Findings, config: &ServeConfig, times: &[Duration]) {
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let (half, worst) = (at(50), at(99));
    let what = format!(
        "fdatasync of {BLOCK_BYTES} bytes: p50 {half:.1?}, p99 {worst:.1?} of {}",
        times.len()
    );
    let timeout = Duration::from_millis(config.election_timeout_min_ms);
    if worst > timeout / 2 {
        let mend = "followers will take such a leader for dead: use another disk, or raise `election_timeout_min_ms` and `_max_ms`";
        found.bad(what, mend);
    } else if worst > SLOW {
        found.warn(what, "every write waits for it: give the log a disk of its own, best an SSD");
    } else if half < TOO_FAST {
        let mend = "no medium is that fast: see that the disk's or the virtual machine's cache is not `unsafe`";
        found.warn(what, mend);
    } else {
        found.ok(what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_tail() {
        let config = ServeConfig::default();
        for (half_us, worst_us, level) in [
            (300, 2_000, Level::Ok),
            (300, 11_000, Level::Warn),
            (300, 600_000, Level::Bad),
            (2, 20, Level::Warn),
        ] {
            let mut times = vec![Duration::from_micros(half_us); 98];
            times.extend([Duration::from_micros(worst_us); 2]);
            let mut found = Findings::about("disk");
            speed(&mut found, &config, &times);
            assert_eq!(found.all[0].level, level, "{:?}", found.all);
        }
    }

    #[test]
    fn the_way_to_a_directory_that_is_not_there_is_looked_at() {
        assert_eq!(existing(Path::new("/nonexistent/a/b")), Path::new("/"));
    }
}
