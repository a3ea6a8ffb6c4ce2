//! `quorate up --playground`: a cluster to be hurt, from a page of its own, while clients work and what they see is checked.
//!
//! ```text
//!  page ──key──▶ web ──▶ acts ──▶ processes: stop, kill, pause, go on, start; slow a disk
//!                 │
//!                 └────▶ relay ─▶ links between members: cut, heal
//!  load ── clients at work on the key/value store ──▶ record ──▶ judge ──▶ "linearizable so far: ..."
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `acts` | what may be done to a node's process, and what becomes of it |
//! | `relay` | stands between the members' ports: each connection passes here, or is cut |
//! | `batches` | what clients asked and were told, in batches that can be judged alone (pure) |
//! | `judge` | the verdict on each batch, and what all of them come to |
//! | `load` | the clients |
//! | `web` | the page, what it is told, and who may ask |
//!
//! The nodes are those that `quorate serve` runs; only their disk can be told to be slow, by a file that no other verb
//! makes. Everything listens on the loopback, and whoever cannot show the run's key is refused: another web page, or
//! another user of this machine, cannot stop a node.

mod acts;
mod batches;
mod judge;
mod load;
mod relay;
mod web;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_server::random_u64;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

pub(crate) use acts::{Act, Nodes, delay_file};
use judge::Tally;
use relay::Cuts;

use crate::cluster::NodeEntry;
use crate::failure::{Failure, Kind};

/// Orders that wait for `up`, which does one after another.
const ORDERS_MAX: usize = 16;
/// Things done that the page tells of.
const STORY_MAX: usize = 60;

/// What somebody wants done to a node, and where they wait to hear what came of it.
pub(crate) struct Order {
    pub(crate) act: Act,
    pub(crate) answer: oneshot::Sender<Result<String, String>>,
}

/// What was done, and when, in milliseconds since 1970.
#[derive(Clone, Serialize)]
struct Done {
    at: u64,
    text: String,
}

/// What all parts share.
#[derive(Clone, Default)]
struct Shared {
    cuts: Cuts,
    tally: Arc<Mutex<Tally>>,
    story: Arc<Mutex<VecDeque<Done>>>,
}

impl Shared {
    fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, text: &str) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.push_back(Done { at: unix_ms(), text: text.to_owned() });
        if story.len() > STORY_MAX {
            story.pop_front();
        }
    }

    fn story(&self) -> Vec<Done> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A playground that is open.
pub(crate) struct Playground {
    orders: mpsc::Receiver<Order>,
    shared: Shared,
    directory: Arc<Path>,
    servers: Vec<String>,
    /// Where its page is, with the key.
    pub(crate) url: String,
}

impl Playground {
    /// Opens the page and the relays between members, in a thread of their own; nodes may be started then.
    pub(crate) fn open(
        directory: &Path,
        nodes: &[NodeEntry],
        page: SocketAddr,
    ) -> Result<Self, Failure> {
        let what = "open the playground";
        let failed = |error: std::io::Error| {
            let help = "are its ports taken by somebody else? choose others with --port-offset";
            Failure::new(Kind::Unreachable, what, error, help)
        };
        let key = format!("{:016x}{:016x}", random()?, random()?);
        let shared = Shared::default();
        let directory: Arc<Path> = directory.into();
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let _entered = runtime.enter();
        let relays = relay::open(nodes, &shared.cuts).map_err(failed)?;
        let listener = bind(page).map_err(failed)?;
        let web = web::Web::new(directory.clone(), key.clone(), shared.clone(), sender);
        drop(_entered);
        let serve = async move {
            relays.into_iter().for_each(|relay| drop(tokio::spawn(relay)));
            web.serve(listener).await;
        };
        std::thread::Builder::new()
            .name("playground".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(failed)?;
        let servers = nodes.iter().filter_map(|node| node.etcd).map(|at| at.to_string()).collect();
        Ok(Self { orders, shared, directory, servers, url: format!("http://{page}/#{key}") })
    }

    /// All nodes serve: clients begin to work, and what they see is judged.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        load::begin(self.servers.clone(), self.directory.clone(), self.shared.clone()).map_err(
            |error| {
                let help = "look at the limits of threads and open files";
                Failure::new(Kind::Data, "start the playground's clients", error, help)
            },
        )
    }

    /// What somebody wants done next.
    pub(crate) async fn order(&mut self) -> Option<Order> {
        self.orders.recv().await
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn random() -> Result<u64, Failure> {
    random_u64().map_err(|error| {
        Failure::new(Kind::Data, "draw the playground's key", error, "is /dev/urandom there?")
    })
}

/// Bound before the runtime's thread begins, so that a port that is taken is told at once.
fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
