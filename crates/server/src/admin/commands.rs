//! The commands of ZooKeeper's AdminServer, answered in JSON: most are a four-letter word under a longer name, whose
//! lines become fields (`forms`); the others are made from how the node is.
//!
//! Not here: `snapshot`, which takes its time (`backup`); `restore`, which would change what is replicated under its clients'
//! hands: `quorate restore` begins a new cluster.

use serde_json::{Map, Value, json};

use super::forms::{Form, electorate};
use super::{GroupStatus, NodeStatus};

/// A command.
#[derive(Clone, Copy)]
pub(super) struct Command {
    names: &'static [&'static str],
    pub(super) source: Source,
}

/// What answers a command.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A word, whose text takes this form.
    Word([u8; 4], Form),
    /// How the node is.
    Status(fn(&NodeStatus) -> Value),
}

const COMMANDS: [Command; 22] = [
    word(&["configuration", "conf", "config"], b"conf", Form::Fields("=", "")),
    word(&["connections", "cons"], b"cons", Form::Connections),
    word(&["dirs"], b"dirs", Form::Fields(": ", "")),
    word(&["dump"], b"dump", Form::Lines("dump")),
    word(&["environment", "env", "envi"], b"envi", Form::Fields("=", "")),
    status(&["hash"], digests),
    word(&["initial_configuration", "icfg"], b"conf", Form::Text("initial_configuration")),
    word(&["is_read_only", "isro"], b"isro", Form::ReadOnly),
    status(&["last_snapshot", "lsnp"], last_snapshot),
    status(&["leader", "lead"], leader),
    word(&["monitor", "mntr"], b"mntr", Form::Fields("\t", "zk_")),
    status(&["observers", "obsr"], observers),
    word(&["ruok"], b"ruok", Form::Nothing),
    word(&["server_stats", "srvr", "stats", "stat"], b"srvr", Form::Fields(": ", "")),
    word(&["connection_stat_reset", "crst"], b"crst", Form::Nothing),
    word(&["stat_reset", "srst"], b"srst", Form::Nothing),
    word(&["system_properties", "sysp"], b"envi", Form::Fields("=", "")),
    word(&["voting_view"], b"conf", Form::Made("current_config", electorate)),
    word(&["watches", "wchc"], b"wchc", Form::Below("session_id_to_watched_paths")),
    word(&["watches_by_path", "wchp"], b"wchp", Form::Below("path_to_session_ids")),
    word(&["watch_summary", "wchs"], b"wchs", Form::WatchSummary),
    status(&["zabstate"], zab_state),
];

const fn word(names: &'static [&'static str], word: &'static [u8; 4], form: Form) -> Command {
    Command { names, source: Source::Word(*word, form) }
}

const fn status(names: &'static [&'static str], answer: fn(&NodeStatus) -> Value) -> Command {
    Command { names, source: Source::Status(answer) }
}

/// The command of a name.
pub(super) fn find(name: &str) -> Option<Command> {
    COMMANDS.into_iter().find(|command| command.names.contains(&name))
}

/// A page that links to all of them.
pub(super) fn index() -> axum::response::Html<String> {
    let link = |command: &Command| {
        format!("<li><a href=\"/commands/{0}\">{0}</a></li>\n", command.names[0])
    };
    axum::response::Html(COMMANDS.iter().map(link).collect())
}

/// What somebody is told who asks for a command that is not there.
pub(super) fn unknown(name: &str) -> String {
    let known: Vec<&str> = COMMANDS.iter().map(|command| command.names[0]).collect();
    json!({ "command": name, "error": "there is no such command", "commands": known }).to_string()
}

impl Command {
    /// The answer, from what its source says.
    pub(super) fn answer(self, said: Value) -> String {
        let mut answer = Map::new();
        answer.insert("command".into(), self.names[0].into());
        answer.insert("error".into(), Value::Null);
        if let Value::Object(fields) = said {
            answer.extend(fields);
        }
        Value::Object(answer).to_string()
    }
}

fn digests(status: &NodeStatus) -> Value {
    json!({ "digests": [{ "zxid": status.zxid, "digest": status.digest }] })
}

fn last_snapshot(status: &NodeStatus) -> Value {
    json!({ "zxid": status.snapshot_zxid })
}

fn leader(status: &NodeStatus) -> Value {
    let leader = coordination(status).and_then(|group| group.leader);
    json!({ "is_leader": leader == Some(status.id), "leader_id": leader })
}

fn observers(status: &NodeStatus) -> Value {
    let learners = coordination(status).map(|group| group.learners.clone()).unwrap_or_default();
    json!({ "synced_observers": learners.len(), "observers": learners })
}

fn zab_state(status: &NodeStatus) -> Value {
    let group = coordination(status);
    let has_leader = group.is_some_and(|group| group.leader.is_some());
    let votes = group.is_some_and(|group| group.voters.contains(&status.id));
    json!({ "voting": votes, "zabstate": if has_leader { "broadcast" } else { "election" } })
}

fn coordination(status: &NodeStatus) -> Option<&GroupStatus> {
    status.groups.iter().find(|group| group.name == "coordination")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, text: &str, status: &NodeStatus) -> Value {
        let command = find(name).unwrap_or_else(|| panic!("no command {name}"));
        let said = match command.source {
            Source::Word(_, form) => form.of(text),
            Source::Status(answer) => answer(status),
        };
        serde_json::from_str(&command.answer(said)).unwrap()
    }

    /// ZK-18: the admin commands under ZooKeeper's names, long and short.
    #[test]
    fn commands_say_what_they_are_and_what_their_word_said() {
        let node = NodeStatus::default();
        assert_eq!(answer("ruok", "imok", &node), json!({"command": "ruok", "error": null}));
        assert_eq!(
            answer("mntr", "zk_version\t3.9.3, built on unknown\nzk_avg_latency\t0.5\n", &node),
            json!({"command": "monitor", "error": null, "version": "3.9.3, built on unknown",
                   "avg_latency": 0.5})
        );
        assert_eq!(
            answer("icfg", "clientPort=2181\n", &node)["initial_configuration"],
            json!("clientPort=2181\n")
        );
    }

    /// ZK-18: what no word tells comes from how the node is.
    #[test]
    fn commands_without_a_word() {
        let group = GroupStatus {
            name: "coordination".into(),
            leader: Some(2),
            voters: vec![1, 2],
            learners: vec![7],
            ..GroupStatus::default()
        };
        let node = NodeStatus {
            id: 2,
            snapshot_zxid: Some("0x1a".into()),
            groups: vec![group],
            ..NodeStatus::default()
        };
        let expected = [
            ("lead", json!({"is_leader": true, "leader_id": 2})),
            ("lsnp", json!({"zxid": "0x1a"})),
            ("obsr", json!({"synced_observers": 1, "observers": [7]})),
            ("zabstate", json!({"voting": true, "zabstate": "broadcast"})),
        ];
        for (name, fields) in expected {
            let said = answer(name, "", &node);
            for (field, value) in fields.as_object().unwrap() {
                assert_eq!(&said[field], value, "{name}: {said}");
            }
        }
        assert_eq!(answer("zabstate", "", &NodeStatus::default())["zabstate"], json!("election"));
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_those_that_are() {
        assert!(find("explode").is_none());
        assert!(unknown("explode").contains("monitor"));
    }
}
