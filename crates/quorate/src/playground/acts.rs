//! What may be done to the nodes of a playground. A node's state is what the kernel says of its process, so that it is
//! right whoever did something to it.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterFile, NodeEntry, is_alive, node_directory};

/// Something to be done to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) struct Act {
    /// Which one.
    pub(crate) node: u64,
    /// What.
    #[serde(rename = "do")]
    pub(crate) what: What,
}

/// What to do to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// It is told to stop, and hands over first: SIGTERM.
    Stop,
    /// It is gone: SIGKILL.
    Kill,
    /// It gets no processor: SIGSTOP.
    Pause,
    /// It goes on: SIGCONT.
    Resume,
    /// It is started again.
    Start,
    /// Each sync of its log takes longer by so many milliseconds; 0 makes the disk quick again.
    Slow(u32),
}

/// Slower, no member would ever have anything on its disk.
const DELAY_MAX_MS: u32 = 10_000;

/// How a node's process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Runs,
    Paused,
    Stopped,
}

impl State {
    pub(super) fn of(pid: u32) -> Self {
        if !is_alive(pid) {
            return Self::Stopped;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything.
        match stat.rsplit_once(") ") {
            Some((_, rest)) if rest.starts_with('T') => Self::Paused,
            _ => Self::Runs,
        }
    }
}

/// The nodes, as acts find them.
pub(crate) struct Nodes<'a> {
    pub(crate) directory: &'a Path,
}

impl Nodes<'_> {
    /// Does it, but for a start: that is for `up`, whose child the node becomes. Says what was done, in words.
    pub(crate) fn act(
        &self,
        act: Act,
        start: impl FnOnce(u64) -> Result<u32, String>,
    ) -> Result<String, String> {
        let node = self.node(act.node)?;
        let state = State::of(node.pid);
        allowed(act, state)?;
        let id = node.id;
        Ok(match act.what {
            What::Stop => {
                // Who is paused hears of nothing.
                send(&node, Signal::TERM).and(send(&node, Signal::CONT))?;
                format!("n{id} is told to stop")
            }
            What::Kill => send(&node, Signal::KILL).map(|()| format!("n{id} is killed (-9)"))?,
            What::Pause => send(&node, Signal::STOP).map(|()| format!("n{id} is paused"))?,
            What::Resume => send(&node, Signal::CONT).map(|()| format!("n{id} goes on"))?,
            What::Start => start(id).map(|pid| format!("n{id} starts, as process {pid}"))?,
            What::Slow(ms) => {
                self.delay(id, ms)?;
                match ms {
                    0 => format!("the disk of n{id} is quick again"),
                    _ => format!("each sync of n{id}'s disk takes {ms} ms longer"),
                }
            }
        })
    }

    fn node(&self, id: u64) -> Result<NodeEntry, String> {
        let unreadable = |_| "cluster.json cannot be read".to_owned();
        let nodes = ClusterFile::read(self.directory).map_err(unreadable)?.nodes;
        nodes.into_iter().find(|node| node.id == id).ok_or_else(|| format!("there is no n{id}"))
    }

    fn delay(&self, id: u64, ms: u32) -> Result<(), String> {
        std::fs::write(delay_file(self.directory, id), ms.to_string())
            .map_err(|error| format!("the disk of n{id} cannot be slowed: {error}"))
    }
}

/// Whether it makes sense, as the process is.
fn allowed(act: Act, state: State) -> Result<(), String> {
    let id = act.node;
    match (act.what, state) {
        (What::Slow(ms), _) if ms > DELAY_MAX_MS => {
            Err(format!("a disk is slowed by {DELAY_MAX_MS} ms at most"))
        }
        (What::Slow(_), _) | (What::Start, State::Stopped) => Ok(()),
        (What::Start, _) => Err(format!("n{id} runs")),
        (_, State::Stopped) => Err(format!("n{id} does not run")),
        (What::Pause, State::Paused) => Err(format!("n{id} is paused already")),
        (What::Resume, State::Runs) => Err(format!("n{id} is not paused")),
        _ => Ok(()),
    }
}

/// The file that says how slow a node's disk is to be; without it the node does not ask.
pub(crate) fn delay_file(directory: &Path, id: u64) -> PathBuf {
    node_directory(directory, id).join("disk-delay-ms")
}

/// By how many milliseconds a node's disk is slowed.
pub(super) fn delay_ms(directory: &Path, id: u64) -> u32 {
    let text = std::fs::read_to_string(delay_file(directory, id)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn send(node: &NodeEntry, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(node.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("n{} has no process", node.id))?;
    kill_process(pid, signal).map_err(|error| format!("n{}: {error}", node.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let told = |what, state| allowed(Act { node: 2, what }, state).err().unwrap_or_default();
        for (what, state, expected) in [
            (What::Kill, State::Runs, ""),
            (What::Kill, State::Paused, ""),
            (What::Kill, State::Stopped, "n2 does not run"),
            (What::Stop, State::Stopped, "n2 does not run"),
            (What::Pause, State::Runs, ""),
            (What::Pause, State::Paused, "n2 is paused already"),
            (What::Resume, State::Paused, ""),
            (What::Resume, State::Runs, "n2 is not paused"),
            (What::Start, State::Stopped, ""),
            (What::Start, State::Paused, "n2 runs"),
            (What::Slow(100), State::Stopped, ""),
            (What::Slow(1 << 20), State::Runs, "a disk is slowed by 10000 ms at most"),
        ] {
            assert_eq!(told(what, state), expected, "{what:?} of one that is {state:?}");
        }
    }

    #[test]
    fn an_act_is_read_as_the_page_writes_it() {
        let read = |text: &str| serde_json::from_str::<Act>(text).ok();
        assert_eq!(read(r#"{"node":1,"do":"kill"}"#), Some(Act { node: 1, what: What::Kill }));
        let slow = Act { node: 3, what: What::Slow(200) };
        assert_eq!(read(r#"{"node":3,"do":{"slow":200}}"#), Some(slow));
        for wrong in [r#"{"node":1}"#, r#"{"node":1,"do":"melt"}"#, r#"{"node":-1,"do":"kill"}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    /// A child of this test is paused, goes on, and is killed; the kernel tells.
    #[test]
    fn the_state_of_a_process_is_what_the_kernel_says() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let node =
            NodeEntry { pid: child.id(), ..crate::cluster::local_entry(1, 0, false).unwrap() };
        let becomes = |state| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while State::of(node.pid) != state {
                assert!(std::time::Instant::now() < end, "it did not become {state:?}");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        };
        becomes(State::Runs);
        send(&node, Signal::STOP).unwrap();
        becomes(State::Paused);
        send(&node, Signal::CONT).unwrap();
        becomes(State::Runs);
        child.kill().unwrap();
        child.wait().unwrap();
        becomes(State::Stopped);
    }
}
