//! `quorate recover`: a cluster that lost its majority for good goes on with what one member has.

use std::path::PathBuf;

use clap::Args;
use quorate_contracts::GroupId;
use quorate_server::{GroupStanding, RecoverError, Recovery, ServeConfig, Survivor};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, Kind, tell};
use crate::serve::{explain_data_dir, read_config};

/// Go on with what one member has, after the disks of a majority were lost for good; writes may be lost by it
#[derive(Args)]
#[command(after_help = "Examples:
  quorate recover --config /etc/quorate/serve.toml                   what this member has, and what would be done; changes nothing
  quorate recover --config /etc/quorate/serve.toml --give-up 2,3     does it

Run it while the node is stopped. With several survivors, look at each of them first, and recover the one whose entries go furthest (the
higher term, then the higher entry); the others are given up too, and added again afresh. A backup may be newer: compare.")]
pub(crate) struct Recover {
    /// Configuration file of the member that is to go on
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// All other members, by id: they are given up for ever, with whatever they alone hold
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    give_up: Option<Vec<u64>>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Recover {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let config = read_config(&self.config)?;
        config.check().map_err(|error| {
            let what = format!("recover node {}", config.node);
            Failure::new(Kind::Config, what, error, "docs/configuration.md lists the keys")
        })?;
        let explained = |error| explain(&config, error);
        let survivor = Survivor::open(&config).map_err(explained)?;
        let mut plan = Plan::new(&self.config, &config, &survivor);
        let Some(given_up) = &self.give_up else {
            self.tell(&plan.json(), || plan.in_words());
            return Ok(Done::No);
        };
        plan.done = Some(survivor.recover(given_up).map_err(explained)?);
        self.tell(&plan.json(), || plan.in_words());
        Ok(Done::Yes)
    }

    fn tell(&self, value: &Value, words: impl FnOnce() -> String) {
        if self.json { tell(&value.to_string()) } else { tell(&words()) }
    }
}

/// What is to be done, or was.
struct Plan {
    config: PathBuf,
    node: u64,
    data_dir: PathBuf,
    cluster: u64,
    others: Vec<(u64, String)>,
    standings: Vec<GroupStanding>,
    done: Option<Recovery>,
}

impl Plan {
    fn new(file: &std::path::Path, config: &ServeConfig, survivor: &Survivor) -> Self {
        let others = survivor.members().iter().filter(|(id, _)| id.0 != config.node);
        Self {
            config: file.to_path_buf(),
            node: config.node,
            data_dir: config.data_dir.clone(),
            cluster: survivor.cluster().0,
            others: others.map(|(id, member)| (id.0, member.address.clone())).collect(),
            standings: survivor.standings(),
            done: None,
        }
    }

    fn other_ids(&self) -> String {
        let ids: Vec<String> = self.others.iter().map(|(id, _)| id.to_string()).collect();
        ids.join(",")
    }

    fn in_words(&self) -> String {
        let others: Vec<String> =
            self.others.iter().map(|(id, at)| format!("{id} ({at})")).collect();
        let mut text = format!(
            "node {} of cluster {:x}, in {}\n\nWhat it has:\n",
            self.node,
            self.cluster,
            self.data_dir.display()
        );
        for GroupStanding { group, term, last } in &self.standings {
            let name = name_of(*group);
            text += &format!(
                "  {name:<14} up to entry {} of term {}; has seen term {term}\n",
                last.index, last.term
            );
        }
        match &self.done {
            None => text + &self.warning(&others.join(", ")),
            Some(recovery) => text + &self.next_steps(&others.join(", "), recovery),
        }
    }

    fn warning(&self, others: &str) -> String {
        format!(
            "\nIf you go on:
  - members {others} are given up FOR EVER. Whatever they acknowledged behind these entries IS LOST, and
    nothing can tell how much that is. What was never acknowledged may appear.
  - node {node} becomes the only member of a cluster with ANOTHER id. A member that comes back is refused.
  - revisions of keys that were lost are given again to others: whoever keeps a copy by revision must read anew.
  - the files of now stay beside the new ones; they need as much room again.

Only if their disks are lost for good; if they can be started, start them instead. If a backup goes further, restore it.
Nothing was changed. To do it:
  quorate recover --config {config} --give-up {ids}",
            node = self.node,
            config = self.config.display(),
            ids = self.other_ids(),
        )
    }

    fn next_steps(&self, others: &str, recovery: &Recovery) -> String {
        let files: Vec<String> =
            recovery.old_files.iter().map(|file| file.display().to_string()).collect();
        format!(
            "\nDone: node {node} is the only member of cluster {cluster:x}; members {others} are given up.

What to do next:
  quorate serve --config {config}
  quorate member add HOST:PORT          for each new member; it says what to do there. Their directories are made with
                                        `quorate format --cluster {cluster:x}`; a lost member's is removed before
  rm -r {files}    once all is well: what was before",
            node = self.node,
            cluster = recovery.cluster.0,
            config = self.config.display(),
            files = files.join(" "),
        )
    }

    fn json(&self) -> Value {
        let group = |standing: &GroupStanding| {
            json!({
                "group": standing.group.0,
                "name": name_of(standing.group),
                "term": standing.term.0,
                "last": standing.last.to_string(),
            })
        };
        let others: Vec<Value> =
            self.others.iter().map(|(id, at)| json!({"id": id, "member": at})).collect();
        json!({
            "node": self.node,
            "cluster": format!("{:x}", self.cluster),
            "groups": self.standings.iter().map(group).collect::<Vec<_>>(),
            "others": others,
            "done": self.done.is_some(),
            "new_cluster": self.done.as_ref().map(|done| format!("{:x}", done.cluster.0)),
            "old_files": self.done.as_ref().map(|done| done.old_files.clone()),
        })
    }
}

fn name_of(group: GroupId) -> String {
    match group {
        GroupId::SYSTEM => "system".to_owned(),
        GroupId::COORDINATION => "coordination".to_owned(),
        GroupId::KEY_VALUE => "key/value".to_owned(),
        other => other.to_string(),
    }
}

fn explain(config: &ServeConfig, error: RecoverError) -> Failure {
    let what = format!("recover node {}", config.node);
    let (kind, help) = match error {
        RecoverError::DataDir(error) => return explain_data_dir(&what, error),
        RecoverError::OtherMembers { .. } => {
            (Kind::Usage, "--give-up names all of them, and no others: they are gone for ever then")
        }
        RecoverError::Answers { .. } => (
            Kind::Refused,
            "a cluster whose members run needs no recovery: see `quorate status`; if it is to be given up all the same, stop it first",
        ),
        RecoverError::Offline(_) | RecoverError::Io { .. } => (
            Kind::Data,
            "the directory is as it was; is there room for as much again? `quorate log verify` tells what is damaged",
        ),
    };
    Failure::new(kind, what, error, help)
}
