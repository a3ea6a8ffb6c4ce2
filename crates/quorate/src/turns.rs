//! `quorate zk lock` and `quorate zk elect`: a command that runs while a lock is held, or while this client leads.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use clap::Args;
use quorate_client::recipes::{Election, Held, Lock as ZkLock, Sharing};
use quorate_client::{Client, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Done, Failure, Kind, say};

/// Run a command while holding a lock; the token in QUORATE_TOKEN grows from holder to holder
#[derive(Args)]
#[command(after_help = "Example:\n  quorate zk lock /locks/nightly -- ./backup.sh")]
pub(crate) struct Lock {
    /// The znode that stands for the lock; it is made if it is not there
    path: String,

    /// Share it with others who share it
    #[arg(long)]
    shared: bool,

    /// Do not wait: end with 1 if somebody holds it
    #[arg(long = "try", conflicts_with = "shared")]
    at_once: bool,

    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Run a command while leading; without one, lead until Ctrl-C
#[derive(Args)]
#[command(
    after_help = "Example:\n  quorate zk elect /elections/scheduler --name host7 -- ./scheduler"
)]
pub(crate) struct Elect {
    /// The znode below which the election is held; it is made if it is not there
    path: String,

    /// Under which name to stand; others read it
    #[arg(long, default_value = "")]
    name: String,

    /// What to run
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How long a command may take to end once its lock is lost, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

impl Lock {
    pub(crate) fn run(&self, servers: &[String]) -> Result<Done, Failure> {
        with_client(servers, async |client| {
            let lock = ZkLock::new(client, &self.path);
            let sharing = if self.shared { Sharing::Shared } else { Sharing::Alone };
            let held = if self.at_once {
                lock.try_acquire().await
            } else {
                lock.acquire_as(sharing).await.map(Some)
            };
            match held.map_err(|error| failed("get the lock", &error))? {
                None => {
                    say("somebody else holds it");
                    Ok(Done::No)
                }
                Some(held) => hold(held, &self.command).await,
            }
        })
    }
}

impl Elect {
    pub(crate) fn run(&self, servers: &[String]) -> Result<Done, Failure> {
        with_client(servers, async |client| {
            let election = Election::new(client, &self.path);
            let lead = election.lead(self.name.as_bytes()).await;
            let held = lead.map_err(|error| failed("stand for election", &error))?;
            say(&format!("leads, with token {:#x}", held.token().0));
            hold(held, &self.command).await
        })
    }
}

/// Runs with a session of its own.
fn with_client(
    servers: &[String],
    work: impl AsyncFnOnce(&Client) -> Result<Done, Failure>,
) -> Result<Done, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("begin", &error))?;
    runtime.block_on(async {
        let client = Client::connect(servers, Options::default())
            .await
            .map_err(|error| failed("reach a server", &error))?;
        let done = work(&client).await;
        let _ = client.close().await; // the session's end gives up whatever is still held
        done
    })
}

/// Runs the command, or waits for Ctrl-C, for as long as it is held. Who has lost it must not go on: the command is told to
/// end, and what it did is of unknown worth.
async fn hold(held: Held, command: &[String]) -> Result<Done, Failure> {
    let done = tokio::select! {
        done = run(command, &held) => done?,
        () = held.lost() => {
            say("it is lost: the session is over");
            return Ok(Done::Undecided);
        }
    };
    held.release().await.map_err(|error| failed("give it up", &error))?;
    Ok(done)
}

async fn run(command: &[String], held: &Held) -> Result<Done, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return interrupted().await;
    };
    let token = held.token().0.to_string();
    let child = Command::new(program).args(arguments).env("QUORATE_TOKEN", token).spawn();
    let mut child = Running(child.map_err(|error| {
        Failure::new(Kind::Usage, format!("run {program}"), error, "is it there, and executable?")
    })?);
    loop {
        if let Some(status) = child.ended() {
            return Ok(if status.success() { Done::Yes } else { Done::No });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn interrupted() -> Result<Done, Failure> {
    let failed = |error: std::io::Error| failed("wait for Ctrl-C", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(Done::Yes)
}

/// A command that does not outlive what it was run for.
struct Running(std::process::Child);

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        crate::up::interrupt(self.0.id());
        let end = std::time::Instant::now() + GRACE;
        while self.ended().is_none() && std::time::Instant::now() < end {
            std::thread::sleep(POLL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn failed(what: &str, cause: &dyn std::fmt::Display) -> Failure {
    let help = "is the cluster running? --servers names its servers";
    Failure::new(Kind::Unreachable, what, cause, help)
}
