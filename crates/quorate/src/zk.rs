//! `quorate zk`: a ZooKeeper client on the command line.

use std::io::BufRead;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use quorate_client::{ClientError, Connection, CreateMode, Stat};
use serde_json::json;

use crate::failure::{Done, Failure, Kind, say, tell};
use crate::turns;

/// Read and change znodes, on any server that speaks ZooKeeper's protocol
#[derive(Args)]
#[command(after_help = "Examples:
  quorate zk create /greeting hello
  quorate zk get /greeting
  quorate zk lock /locks/nightly -- ./backup.sh
  quorate zk --servers 10.0.0.1:2181,10.0.0.2:2181 ls -r /
  quorate zk shell")]
pub(crate) struct Zk {
    /// Servers, tried in this order
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"
    )]
    servers: Vec<String>,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Type the same commands one after the other, in one session
    Shell,
    /// Run a command while holding a lock
    Lock(turns::Lock),
    /// Run a command while leading
    Elect(turns::Elect),
    #[command(flatten)]
    Command(Command),
}

#[derive(Subcommand)]
enum Command {
    /// Print a znode's data
    Get {
        /// The znode
        path: String,
    },
    /// Set a znode's data
    Set {
        /// The znode
        path: String,
        /// New data
        data: String,
        /// Only if it has this version
        #[arg(short = 'v', long, default_value_t = -1, allow_negative_numbers = true)]
        version: i32,
    },
    /// Create a znode
    Create {
        /// The znode
        path: String,
        /// Its data
        #[arg(default_value = "")]
        data: String,
        /// It goes with the session: useful in the shell
        #[arg(short, long)]
        ephemeral: bool,
        /// Append a number that grows
        #[arg(short, long)]
        sequential: bool,
        /// It goes once its last child has gone
        #[arg(short, long, conflicts_with_all = ["ephemeral", "sequential"])]
        container: bool,
    },
    /// List a znode's children
    Ls {
        /// The znode
        #[arg(default_value = "/")]
        path: String,
        /// And theirs, and so on
        #[arg(short, long)]
        recursive: bool,
    },
    /// Print a znode's Stat
    Stat {
        /// The znode
        path: String,
    },
    /// Delete a znode
    Rm {
        /// The znode
        path: String,
        /// And everything below it
        #[arg(short, long)]
        recursive: bool,
        /// Only if it has this version
        #[arg(short = 'v', long, default_value_t = -1, allow_negative_numbers = true)]
        version: i32,
    },
    /// Print what happens to a znode and its children, until Ctrl-C
    Watch {
        /// The znode
        path: String,
        /// End after this many events
        #[arg(short = 'n', long)]
        events: Option<u64>,
    },
}

/// A line typed in the shell.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

impl Zk {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match &self.act {
            Act::Lock(lock) => return lock.run(&self.servers),
            Act::Elect(elect) => return elect.run(&self.servers),
            _ => {}
        }
        let mut connection =
            Connection::connect(&self.servers, SESSION_TIMEOUT).map_err(explain)?;
        match &self.act {
            Act::Shell => shell(&mut connection, self.json),
            Act::Lock(_) | Act::Elect(_) => {}
            Act::Command(command) => command.run(&mut connection, self.json).map_err(explain)?,
        }
        connection.close().map_err(explain)?;
        Ok(Done::Yes)
    }
}

fn explain(error: ClientError) -> Failure {
    let what = "do that";
    match error {
        ClientError::Unreachable { .. } => {
            let help = "is the cluster running? `quorate up` starts one; --servers names another";
            Failure::new(Kind::Unreachable, "reach a server", error, help)
        }
        ClientError::Refused(_) => Failure::new(Kind::Refused, what, error, "nothing was changed"),
        ClientError::Unknown(_) => Failure::new(
            Kind::Unknown,
            what,
            error,
            "it may have happened: look before trying again",
        ),
        ClientError::Malformed(_) => {
            Failure::new(Kind::BadInput, what, error, "does a ZooKeeper server listen there?")
        }
    }
}

fn shell(connection: &mut Connection, json: bool) {
    say("get, set, create, ls, stat, rm, watch -n; Ctrl-D ends");
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        match Line::try_parse_from(line.split_whitespace()) {
            Ok(Line { command }) => match command.run(connection, json) {
                Ok(()) => {}
                Err(error @ ClientError::Unknown(_)) => return say(&error.to_string()),
                Err(error) => say(&error.to_string()),
            },
            Err(error) => say(&error.to_string()),
        }
    }
}

impl Command {
    fn run(&self, connection: &mut Connection, json: bool) -> Result<(), ClientError> {
        match self {
            Self::Get { path } => {
                let (data, stat) = connection.get(path, false)?;
                let text =
                    String::from_utf8_lossy(data.as_deref().unwrap_or_default()).into_owned();
                print(json, json!({"path": path, "data": text, "stat": stat_json(&stat)}), &text);
            }
            Self::Set { path, data, version } => {
                let stat = connection.set(path, data.as_bytes(), *version)?;
                let text = format!("version {}", stat.version);
                print(json, json!({"path": path, "stat": stat_json(&stat)}), &text);
            }
            Self::Create { path, data, ephemeral, sequential, container } => {
                let mode = match (ephemeral, sequential, container) {
                    (false, false, false) => CreateMode::Persistent,
                    (true, false, _) => CreateMode::Ephemeral,
                    (false, true, _) => CreateMode::PersistentSequential,
                    (true, true, _) => CreateMode::EphemeralSequential,
                    (false, false, true) => CreateMode::Container,
                };
                let path = connection.create(path, data.as_bytes(), mode)?;
                print(json, json!({"path": path}), &path);
            }
            Self::Ls { path, recursive } => list(connection, path, *recursive, json)?,
            Self::Stat { path } => {
                let (_, stat) = connection.get(path, false)?;
                print(json, stat_json(&stat), &stat_text(&stat));
            }
            Self::Rm { path, recursive, version } => {
                let removed = remove(connection, path, *recursive, *version)?;
                print(json, json!({"removed": removed}), &format!("{removed} removed"));
            }
            Self::Watch { path, events } => watch(connection, path, *events, json)?,
        }
        Ok(())
    }
}

fn print(as_json: bool, value: serde_json::Value, text: &str) {
    if as_json { tell(&value.to_string()) } else { tell(text) }
}

fn below(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

fn list(c: &mut Connection, path: &str, recursive: bool, json: bool) -> Result<(), ClientError> {
    let mut open = vec![path.to_string()];
    while let Some(parent) = open.pop() {
        let names = c.children(&parent, false)?;
        for name in &names {
            let full = below(&parent, name);
            print(json, json!({"path": full}), if recursive { &full } else { name });
        }
        if recursive {
            open.extend(names.iter().rev().map(|name| below(&parent, name)));
        }
    }
    Ok(())
}

fn remove(
    c: &mut Connection,
    path: &str,
    recursive: bool,
    version: i32,
) -> Result<u64, ClientError> {
    let mut removed = 0;
    if recursive {
        for name in c.children(path, false)? {
            removed += remove(c, &below(path, &name), true, -1)?;
        }
    }
    c.delete(path, version)?;
    Ok(removed + 1)
}

/// Sets the watches again before it looks, so that nothing between two events goes unseen in the end.
fn watch(
    c: &mut Connection,
    path: &str,
    events: Option<u64>,
    json: bool,
) -> Result<(), ClientError> {
    let mut left = events.unwrap_or(u64::MAX);
    while left > 0 {
        if c.exists(path, true)?.is_some() {
            c.children(path, true)?;
        }
        let event = c.next_event()?;
        let kind = match event.kind {
            1 => "created",
            2 => "deleted",
            3 => "changed",
            4 => "children",
            _ => "something",
        };
        print(json, json!({"event": kind, "path": event.path}), &format!("{kind} {}", event.path));
        left -= 1;
    }
    Ok(())
}

fn stat_json(stat: &Stat) -> serde_json::Value {
    json!({
        "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "pzxid": stat.pzxid.0,
        "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner,
        "dataLength": stat.data_length, "numChildren": stat.num_children,
    })
}

fn stat_text(stat: &Stat) -> String {
    format!(
        "created 0x{:x}  changed 0x{:x}  children changed 0x{:x}\nversion {}  cversion {}  aversion {}\n\
         {} bytes  {} children  owner 0x{:x}",
        stat.czxid.0,
        stat.mzxid.0,
        stat.pzxid.0,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.data_length,
        stat.num_children,
        stat.ephemeral_owner
    )
}
