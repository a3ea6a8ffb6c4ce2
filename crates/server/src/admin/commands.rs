//! The commands of ZooKeeper's AdminServer: the four-letter words under longer names, answered in JSON. What a
//! word says is made by `zk`; here its lines become fields.

use serde_json::{Map, Value, json};

/// A command.
#[derive(Clone, Copy)]
pub(super) struct Command {
    names: &'static [&'static str],
    /// The word that answers it.
    pub(super) word: [u8; 4],
    form: Form,
}

/// How a word's text becomes JSON.
#[derive(Clone, Copy)]
enum Form {
    /// Nothing but that it was answered.
    Nothing,
    /// `key`, this separator, `value`; keys lose this beginning.
    Fields(&'static str, &'static str),
    /// Lines under one name.
    Lines(&'static str),
    /// `ro` or `rw`.
    ReadOnly,
}

const COMMANDS: [Command; 13] = [
    Command {
        names: &["configuration", "conf", "config"],
        word: *b"conf",
        form: Form::Fields("=", ""),
    },
    Command { names: &["connections", "cons"], word: *b"cons", form: Form::Lines("connections") },
    Command { names: &["dump"], word: *b"dump", form: Form::Lines("dump") },
    Command { names: &["environment", "env", "envi"], word: *b"envi", form: Form::Fields("=", "") },
    Command { names: &["hash"], word: *b"hash", form: Form::Lines("digests") },
    Command { names: &["is_read_only", "isro"], word: *b"isro", form: Form::ReadOnly },
    Command { names: &["monitor", "mntr"], word: *b"mntr", form: Form::Fields("\t", "zk_") },
    Command { names: &["ruok"], word: *b"ruok", form: Form::Nothing },
    Command {
        names: &["server_stats", "srvr", "stats", "stat"],
        word: *b"srvr",
        form: Form::Fields(": ", ""),
    },
    Command { names: &["stat_reset", "srst"], word: *b"srst", form: Form::Nothing },
    Command {
        names: &["watches", "wchc"],
        word: *b"wchc",
        form: Form::Lines("session_id_to_watched_paths"),
    },
    Command {
        names: &["watches_by_path", "wchp"],
        word: *b"wchp",
        form: Form::Lines("path_to_session_ids"),
    },
    Command {
        names: &["watch_summary", "wchs"],
        word: *b"wchs",
        form: Form::Lines("watch_summary"),
    },
];

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
    /// The answer, from what the word said.
    pub(super) fn answer(self, text: &str) -> String {
        let mut answer = Map::new();
        answer.insert("command".into(), self.names[0].into());
        answer.insert("error".into(), Value::Null);
        match self.form {
            Form::Nothing => {}
            Form::Fields(separator, prefix) => {
                let fields = text.lines().filter_map(|line| line.split_once(separator));
                answer.extend(fields.map(|(key, text)| (field(key, prefix), value(text))));
            }
            Form::Lines(name) => {
                let lines: Vec<&str> =
                    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
                answer.insert(name.into(), lines.into());
            }
            Form::ReadOnly => {
                answer.insert("read_only".into(), (text.trim() == "ro").into());
            }
        }
        Value::Object(answer).to_string()
    }
}

/// `Zookeeper version` becomes `zookeeper_version`, as a program expects; keys with dots stay as they are.
fn field(key: &str, prefix: &str) -> String {
    let key = key.trim_start_matches(prefix);
    if key.contains(' ') || key.starts_with(|first: char| first.is_uppercase()) {
        key.to_lowercase().replace([' ', '/'], "_")
    } else {
        key.to_string()
    }
}

fn value(text: &str) -> Value {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map_or(text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, text: &str) -> Value {
        let command = find(name).unwrap_or_else(|| panic!("no command {name}"));
        serde_json::from_str(&command.answer(text)).unwrap()
    }

    /// ZK-18: the admin commands under ZooKeeper's names, long and short.
    #[test]
    fn words_become_fields() {
        assert_eq!(answer("ruok", "imok"), json!({"command": "ruok", "error": null}));
        assert_eq!(
            answer(
                "mntr",
                "zk_version\t3.9.3, built on unknown\nzk_avg_latency\t0.5\nzk_znode_count\t5\n"
            ),
            json!({"command": "monitor", "error": null, "version": "3.9.3, built on unknown",
                   "avg_latency": 0.5, "znode_count": 5})
        );
        assert_eq!(
            answer(
                "stats",
                "Zookeeper version: 3.9.3\nLatency min/avg/max: 0/1.5/2\nMode: leader\n"
            ),
            json!({"command": "server_stats", "error": null, "zookeeper_version": "3.9.3",
                   "latency_min_avg_max": "0/1.5/2", "mode": "leader"})
        );
        assert_eq!(
            answer("is_read_only", "rw"),
            json!({"command": "is_read_only", "error": null, "read_only": false})
        );
        assert_eq!(answer("envi", "Environment:\nos.name=Linux\n")["os.name"], json!("Linux"));
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_those_that_are() {
        assert!(find("explode").is_none());
        assert!(unknown("explode").contains("monitor"));
    }
}
