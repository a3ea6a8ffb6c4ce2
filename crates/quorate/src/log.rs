//! `quorate log`: what a data directory holds, and whether all of it is whole. Reads only: neither the lock nor a
//! byte is touched, so a running node may be looked at; what it writes meanwhile may look torn.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_server::{DataDir, DataDirError, RealDisk};
use quorate_storage::{GroupReport, Identity, Inspection, Problem, SegmentReport, Start, inspect};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, Kind, tell};
use crate::serve::explain_data_dir;

/// Look into a node's log without changing it
#[derive(Subcommand)]
pub(crate) enum Log {
    /// Show what a data directory holds: segments, groups, snapshots, damage
    Inspect(Inspect),
    /// Check every byte; exits with 74 if something is damaged or missing
    Verify(Verify),
}

#[derive(Args)]
#[command(after_help = "Example:\n  quorate log inspect quorate-data/n1")]
pub(crate) struct Inspect {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[command(after_help = "Example:\n  quorate log verify /var/lib/quorate && echo whole")]
pub(crate) struct Verify {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Target {
    /// The data directory of one node
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match self {
            Self::Inspect(Inspect { target }) => {
                let (identity, found) = read(&target.dir)?;
                tell(&target.show(identity, &found));
                Ok(Done::Yes)
            }
            Self::Verify(Verify { target }) => {
                let (identity, found) = read(&target.dir)?;
                if target.json {
                    tell(&target.show(identity, &found));
                }
                verdict(&target, &found)
            }
        }
    }
}

impl Target {
    fn show(&self, identity: Identity, found: &Inspection) -> String {
        if self.json {
            as_json(identity, found).to_string()
        } else {
            as_text(&self.dir, identity, found)
        }
    }
}

fn read(dir: &Path) -> Result<(Identity, Inspection), Failure> {
    let what = format!("look into {}", dir.display());
    let identity = DataDir::identity_of(dir).map_err(|error| explain(dir, &what, error))?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Data, &what, error, "is the directory readable?")
    };
    let disk = RealDisk::new(&DataDir::log_of(dir), |_| {}).map_err(|error| failed(&error))?;
    let found = inspect(&disk, &identity).map_err(|error| failed(&error))?;
    Ok((identity, found))
}

/// What somebody most likely took for a node's data directory.
fn explain(dir: &Path, what: &str, error: DataDirError) -> Failure {
    let parent = dir.parent().filter(|parent| DataDir::is_formatted(parent));
    let help = if !dir.exists() {
        "is the path right? it is the `data_dir` of a node's configuration, or DIR/n1 of `quorate up --dir DIR`".into()
    } else if dir.join("cluster.json").exists() {
        let node = dir.join("n1");
        format!(
            "it is the directory of a whole cluster: each node has one of its own in it, as {}",
            node.display()
        )
    } else if let Some(parent) = parent {
        format!("it is a part of one: try {}", parent.display())
    } else if dir.join("version-2").exists() {
        "it looks like the `dataDir` of Apache ZooKeeper: `quorate import` reads those".into()
    } else if dir.join("member").join("wal").exists() {
        "it looks like a data directory of etcd, which is not read".into()
    } else {
        return explain_data_dir(what, error);
    };
    match error {
        DataDirError::NotFormatted { .. } => Failure::new(Kind::Config, what, error, help),
        error => explain_data_dir(what, error),
    }
}

fn verdict(target: &Target, found: &Inspection) -> Result<Done, Failure> {
    if found.problems.is_empty() {
        if !target.json {
            let (batches, entries) = totals(&found.segments);
            let dir = target.dir.display();
            let (segments, snapshots) = (found.segments.len(), found.snapshots.len());
            tell(&format!(
                "{dir} is whole: {entries} entries in {batches} batches in {segments} segments, \
                 {snapshots} snapshots"
            ));
        }
        return Ok(Done::Yes);
    }
    let causes: Vec<String> = found.problems.iter().map(describe_problem).collect();
    let help = format!("{}; nothing was changed here", describe_start(&found.start));
    let what = format!("vouch for {}", target.dir.display());
    Err(Failure::new(Kind::Data, what, causes.join("\n         "), help))
}

fn totals(segments: &[SegmentReport]) -> (u64, u64) {
    segments.iter().fold((0, 0), |(batches, entries), segment| {
        (batches + segment.batches, entries + segment.entries)
    })
}

fn as_text(dir: &Path, identity: Identity, found: &Inspection) -> String {
    let mut lines = vec![format!(
        "{}: node {} of cluster {:x}, incarnation {:x}",
        dir.display(),
        identity.node.0,
        identity.cluster.0,
        identity.incarnation.0
    )];
    lines.push(format!("\n{} segments", found.segments.len()));
    lines.extend(found.segments.iter().map(describe_segment));
    lines.push(format!("\n{} groups", found.groups.len()));
    lines.extend(found.groups.iter().map(describe_group));
    for snapshot in &found.snapshots {
        lines.push(format!(
            "  {}: group {} up to entry {}, {} bytes",
            snapshot.file, snapshot.group, snapshot.last, snapshot.bytes
        ));
    }
    if !found.leftovers.is_empty() {
        lines.push(format!(
            "\nremoved or taken over at the next start: {}",
            found.leftovers.join(", ")
        ));
    }
    lines.push(match found.problems.len() {
        0 => "\nno damage".to_string(),
        1 => "\n1 problem".to_string(),
        problems => format!("\n{problems} problems"),
    });
    lines.extend(found.problems.iter().map(|problem| format!("  {}", describe_problem(problem))));
    if !found.problems.is_empty() {
        lines.push(describe_start(&found.start));
    }
    lines.join("\n")
}

/// What would come of it, and what to do.
fn describe_start(start: &Start) -> String {
    match start {
        Start::Whole => "nothing is lost by it: it was replaced since, or a snapshot stands for it; the node may start".to_string(),
        Start::Mends => "start the node while the others serve: it gets back from them what is lost, and does not lead before that; \
                         a node alone refuses"
            .to_string(),
        Start::Refuses(_) => "the node would refuse to start; the other members still hold what is lost here, and the way out \
                              is in docs/storage.md, \"A damaged segment\""
            .to_string(),
    }
}

fn describe_segment(segment: &SegmentReport) -> String {
    let SegmentReport { file, first_batch, batches, entries, used_bytes, .. } = segment;
    let mut line = format!("  {file}: {batches} batches from {first_batch} on, {entries} entries");
    line += &format!(", {used_bytes} bytes");
    if let Some(batch) = segment.durable_batch {
        line += &format!("; durable up to batch {batch}, by its own mark");
    }
    if let Some(torn) = &segment.torn {
        line += &format!("; torn by a crash at byte {} ({}), told to nobody", torn.byte, torn.what);
    }
    line
}

fn describe_group(group: &GroupReport) -> String {
    let GroupReport { hard_state, mark, base, last, .. } = group;
    let vote =
        hard_state.voted_for.map_or("no vote".to_string(), |node| format!("vote for {node}"));
    let mut line = format!("  group {}: term {}, {vote}; ", group.group, hard_state.term);
    line += &match last.index.0 - base.index.0 {
        0 => format!("empty log after {base}"),
        entries => format!("{entries} entries after {base}, the last one {last}"),
    };
    line += &format!("; write mark {mark}");
    if !group.memberships.is_empty() {
        let at: Vec<String> = group.memberships.iter().map(ToString::to_string).collect();
        line += &format!("; members change at {}", at.join(", "));
    }
    for id in &group.damaged {
        line += &format!("; the data of {id} is damaged");
    }
    if let Some(lost) = group.lost {
        line += &format!("; entries up to {lost} may be lost");
    }
    line
}

fn describe_problem(problem: &Problem) -> String {
    let file = problem.file.as_ref().map(|file| match problem.byte {
        Some(byte) => format!("{file}, byte {byte}: "),
        None => format!("{file}: "),
    });
    format!("{}{}", file.unwrap_or_default(), problem.what)
}

fn as_json(identity: Identity, found: &Inspection) -> Value {
    let segment = |segment: &SegmentReport| {
        json!({
            "file": segment.file,
            "first_batch": segment.first_batch,
            "oldest_needed": segment.oldest_needed,
            "batches": segment.batches,
            "entries": segment.entries,
            "used_bytes": segment.used_bytes,
            "durable_batch": segment.durable_batch,
            "torn": segment.torn.as_ref().map(|torn| json!({"byte": torn.byte, "what": torn.what})),
        })
    };
    let group = |group: &GroupReport| {
        json!({
            "group": group.group.0,
            "term": group.hard_state.term.0,
            "voted_for": group.hard_state.voted_for.map(|node| node.0),
            "mark": group.mark.0,
            "base": group.base.to_string(),
            "last": group.last.to_string(),
            "memberships": group.memberships.iter().map(|index| index.0).collect::<Vec<_>>(),
            "lost": group.lost.map(|index| index.0),
            "damaged": group.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    let snapshot = |snapshot: &quorate_storage::SnapshotReport| {
        json!({
            "file": snapshot.file,
            "group": snapshot.group.0,
            "last": snapshot.last.to_string(),
            "bytes": snapshot.bytes,
        })
    };
    let problem = |problem: &Problem| json!({"file": problem.file, "byte": problem.byte, "what": problem.what});
    json!({
        "cluster": format!("{:x}", identity.cluster.0),
        "node": identity.node.0,
        "incarnation": format!("{:x}", identity.incarnation.0),
        "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
        "groups": found.groups.iter().map(group).collect::<Vec<_>>(),
        "snapshots": found.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "leftovers": found.leftovers,
        "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
        "whole": found.problems.is_empty(),
        "start": match &found.start {
            Start::Whole => "whole",
            Start::Mends => "mends",
            Start::Refuses(_) => "refuses",
        },
        "refusal": match &found.start {
            Start::Refuses(why) => Some(why),
            Start::Whole | Start::Mends => None,
        },
    })
}
