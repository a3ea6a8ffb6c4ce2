//! `quorate kv`: a client of the key/value service on the command line, and of etcd's servers as far as their API goes.
//!
//! Writes are the Clerk's: they take effect once, however often they had to be sent.

mod acts;
mod lock;
mod text;
mod txn;

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_client::kv::{Kv as Client, KvError, Options};

use crate::failure::{Done, Failure, Kind};

/// Read and change keys; each change takes effect once
#[derive(Args)]
#[command(after_help = "Examples:
  quorate kv put greeting hello
  quorate kv get --prefix \"\"                 everything
  quorate kv txn --if 'version(counter) = 3' --then 'put counter 4' --else 'get counter'
  quorate kv watch --prefix jobs/ --rev 1    from the beginning
  quorate kv lock backup -- ./backup.sh      one at a time, over all machines
  quorate kv --servers 10.0.0.1:2379,10.0.0.2:2379 status")]
pub(crate) struct Kv {
    #[command(flatten)]
    reach: Reach,

    #[command(subcommand)]
    act: Act,
}

/// How servers are reached, and how they are to be shown.
#[derive(Args)]
pub(crate) struct Reach {
    /// Servers, tried in this order
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:2379,127.0.0.1:2380,127.0.0.1:2381"
    )]
    servers: Vec<String>,

    /// Name and password, where users are asked who they are; QUORATE_KV_USER, if it is set, is the default
    #[arg(long, global = true, value_name = "NAME:PASSWORD")]
    user: Option<String>,

    /// How long a call may take, over all its attempts
    #[arg(long, global = true, value_name = "S", default_value_t = 10)]
    timeout: u64,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
enum Act {
    /// Set a key
    #[command(after_help = "Example:\n  quorate kv put --lease 694d7a1c greeting hello")]
    Put {
        /// The key
        key: String,
        /// Its value
        value: String,
        /// It goes with this lease
        #[arg(long, value_name = "HEX", value_parser = text::lease)]
        lease: Option<i64>,
        /// Tell what was there before
        #[arg(long)]
        prev: bool,
    },
    /// Print keys and their values
    #[command(after_help = "Example:\n  quorate kv get --prefix jobs/ --limit 10 --rev 42")]
    Get(Get),
    /// Delete keys
    #[command(after_help = "Example:\n  quorate kv del --prefix jobs/")]
    Del {
        /// The key
        key: String,
        /// Every key that begins with it
        #[arg(long)]
        prefix: bool,
        /// Tell what was there
        #[arg(long)]
        prev: bool,
    },
    /// Compare, then do one thing or the other, at one revision; exits with 1 if the comparison was false
    #[command(after_help = txn::EXAMPLES)]
    Txn {
        /// Must hold: `value(KEY) = TEXT`, or version, create, mod or lease of a key, with =, !=, < or >
        #[arg(long = "if", value_name = "COMPARISON")]
        compare: Vec<String>,
        /// Done if all hold: `put KEY VALUE`, `get KEY` or `del KEY`
        #[arg(long, value_name = "OPERATION")]
        then: Vec<String>,
        /// Done if not
        #[arg(long = "else", value_name = "OPERATION")]
        otherwise: Vec<String>,
    },
    /// Print what happens to keys, until Ctrl-C
    #[command(after_help = "Example:\n  quorate kv watch --prefix jobs/ --rev 42 -n 3")]
    Watch {
        /// The key
        key: String,
        /// Every key that begins with it
        #[arg(long)]
        prefix: bool,
        /// Begin with this revision
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        rev: i64,
        /// Tell what was there before
        #[arg(long)]
        prev: bool,
        /// End after this many events
        #[arg(short = 'n', long)]
        events: Option<u64>,
    },
    /// Leases: keys attached to one go with it
    #[command(subcommand)]
    Lease(Lease),
    /// Hold a lock while a command runs, or until Ctrl-C
    #[command(
        after_help = "Example:\n  quorate kv lock backup -- ./backup.sh\n\nThe command finds the lock's key and revision in QUORATE_LOCK_KEY and QUORATE_LOCK_REVISION: whatever it\nwrites should be conditional on that key still having that create revision."
    )]
    Lock {
        /// The lock
        name: String,
        /// Seconds after which the lock is free if this process vanishes
        #[arg(long, value_name = "S", default_value_t = 10)]
        ttl: i64,
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Lead while a command runs, or until Ctrl-C; one at a time, the others wait
    #[command(
        after_help = "Example:\n  quorate kv elect controller $(hostname) -- ./controller.sh"
    )]
    Elect {
        /// The election
        election: String,
        /// What the others are told of the leader
        value: String,
        /// Seconds after which another one leads if this process vanishes
        #[arg(long, value_name = "S", default_value_t = 10)]
        ttl: i64,
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Who leads
    #[command(after_help = "Example:\n  quorate kv leader --follow controller")]
    Leader {
        /// The election
        election: String,
        /// Whenever that changes, until Ctrl-C
        #[arg(long)]
        follow: bool,
    },
    /// Forget revisions before this one
    Compact {
        /// The oldest revision that is kept
        revision: i64,
    },
    /// How each server is
    Status,
    /// The members, as one of the servers knows them
    Members,
}

#[derive(Args)]
struct Get {
    /// The key
    key: String,
    /// Every key that begins with it
    #[arg(long)]
    prefix: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i64,
    /// As it was at this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Only the keys
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are
    #[arg(long)]
    count_only: bool,
    /// What the server has, which may be old
    #[arg(long)]
    serializable: bool,
}

#[derive(Subcommand)]
enum Lease {
    /// Make one
    Grant {
        /// Seconds it lives unless it is kept alive
        ttl: i64,
    },
    /// End one, and its keys
    Revoke {
        /// Its id
        #[arg(value_parser = text::lease)]
        id: i64,
    },
    /// Keep one alive until Ctrl-C
    KeepAlive {
        /// Its id
        #[arg(value_parser = text::lease)]
        id: i64,
        /// Only once
        #[arg(long)]
        once: bool,
    },
    /// How long one has left, and its keys
    Show {
        /// Its id
        #[arg(value_parser = text::lease)]
        id: i64,
    },
    /// All of them
    Ls,
}

impl Kv {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let (servers, json) = (self.reach.servers.clone(), self.reach.json);
        self.reach.with_client(async move |client| self.act.run(&client, &servers, json).await)
    }
}

impl Reach {
    /// Runs this with a client.
    pub(crate) fn with_client(
        &self,
        act: impl AsyncFnOnce(Client) -> Result<Done, Failure>,
    ) -> Result<Done, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let failed = |error: std::io::Error| {
            Failure::new(Kind::Data, "start", error, "look at the limits of open files")
        };
        runtime.map_err(failed)?.block_on(async {
            act(Client::new(&self.servers, self.options()?).map_err(failed)?).await
        })
    }

    fn options(&self) -> Result<Options, Failure> {
        let split = |user: &String| {
            let split = user.split_once(':');
            let split = split.map(|(name, password)| (name.to_string(), password.to_string()));
            split.ok_or_else(|| {
                let help = "--user takes NAME:PASSWORD";
                Failure::new(Kind::Usage, "authenticate", "there is no password", help)
            })
        };
        let user = self.user.clone().or_else(|| std::env::var("QUORATE_KV_USER").ok());
        let user = user.as_ref().map(split).transpose()?;
        Ok(Options { user, patience: Duration::from_secs(self.timeout) })
    }
}

fn explain(error: KvError) -> Failure {
    let what = "do that";
    match error {
        KvError::Unreachable(_) => {
            let help = "is the cluster running? `quorate up` starts one; --servers names another";
            Failure::new(Kind::Unreachable, "reach a server", error, help)
        }
        KvError::Ended(_) => Failure::new(Kind::Refused, "go on", error, "begin again"),
        KvError::Refused(_) | KvError::Failed(_) => {
            Failure::new(Kind::Refused, what, error, "nothing was changed")
        }
        KvError::Unknown => {
            let help = "it may have happened: look before trying again";
            Failure::new(Kind::Unknown, what, error, help)
        }
    }
}
