//! The playground's page, and what it is told and may do: on the loopback, and only for who shows the run's key.
//!
//! | path | what it gives |
//! | --- | --- |
//! | `/` | the page; the key is behind the `#` of its address, which browsers keep to themselves |
//! | `/dashboard/FILE` | what it is made of |
//! | `/state` | JSON: the cluster as every node says it is, processes, cut links, the tally, what was done |
//! | `POST /nodes` | an [`Act`](super::Act) |
//! | `POST /links` | cuts or heals a link |
//!
//! `/state` and the two `POST`s want the key in a header of their own, which a page of another site cannot send; and Host
//! and Origin are looked at as at the nodes' admin port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Named, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use quorate_server::{ClusterStatus, MemberListed, NodeStatus, dashboard_file, stranger};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::acts::{self, delay_ms};
use super::relay::Link;
use super::{Act, Done, Order, Shared};
use crate::cluster::{ClusterFile, NodeEntry, ask_status_within};

/// The header that holds the key.
const KEY: &str = "x-quorate-playground";
/// What was found out so short a time ago is told again.
const FRESH: Duration = Duration::from_millis(250);
/// A node that runs and does not answer within this time is taken to be busy, or starting.
const PATIENCE: Duration = Duration::from_millis(500);
/// More than any question.
const BODY_BYTES_MAX: usize = 4096;

/// The web server of a playground.
#[derive(Clone)]
pub(super) struct Web {
    directory: Arc<Path>,
    key: Arc<str>,
    shared: Shared,
    orders: mpsc::Sender<Order>,
    seen: Arc<Mutex<Option<(Instant, ClusterSeen)>>>,
}

/// The cluster, as `up` sees it: whoever is cut off from the others still tells what it believes.
#[derive(Clone, Serialize)]
struct ClusterSeen {
    #[serde(flatten)]
    cluster: ClusterStatus,
    processes: BTreeMap<u64, Process>,
}

#[derive(Clone, Serialize)]
struct Process {
    pid: u32,
    state: acts::State,
    delay_ms: u32,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    seen: &'a ClusterSeen,
    cuts: Vec<[u64; 2]>,
    tally: super::judge::Tally,
    story: Vec<Done>,
}

/// What to do with a link.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
struct Tie {
    link: [u64; 2],
    cut: bool,
}

impl Web {
    pub(super) fn new(
        directory: Arc<Path>,
        key: String,
        shared: Shared,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        Self { directory, key: key.into(), shared, orders, seen: Arc::default() }
    }

    /// Answers until the process ends.
    pub(super) async fn serve(self, listener: tokio::net::TcpListener) {
        let _ = axum::serve(listener, self.router()).await;
    }

    fn router(self) -> Router {
        Router::new()
            .route("/state", get(state))
            .route("/nodes", post(act))
            .route("/links", post(tie))
            .layer(middleware::from_fn_with_state(self.key.clone(), want_key))
            .route("/", get(async || dashboard_file("playground.html")))
            .route(
                "/dashboard/{file}",
                get(async |Named(file): Named<String>| dashboard_file(&file)),
            )
            .layer(middleware::from_fn(refuse_other_sites))
            .with_state(self)
    }

    /// How the cluster is; nothing is found out while nobody asks.
    async fn look(&self) -> ClusterSeen {
        let mut seen = self.seen.lock().await;
        if let Some((at, seen)) = &*seen
            && at.elapsed() < FRESH
        {
            return seen.clone();
        }
        let nodes = ClusterFile::read(&self.directory).map(|file| file.nodes).unwrap_or_default();
        let asked: Vec<_> = nodes.iter().map(|node| tokio::spawn(ask(node.clone()))).collect();
        let mut found = ClusterStatus::default();
        let mut processes = BTreeMap::new();
        for (node, asked) in nodes.iter().zip(asked) {
            let (state, status) = asked.await.unwrap_or((acts::State::Stopped, None));
            match status {
                Some(status) => found.nodes.push(status),
                None => found.unreachable.push(node.id),
            }
            let listed = MemberListed {
                address: node.member.to_string(),
                votes: true,
                admin: Some(node.admin.to_string()),
            };
            found.members.insert(node.id, listed);
            let delay_ms = delay_ms(&self.directory, node.id);
            processes.insert(node.id, Process { pid: node.pid, state, delay_ms });
        }
        let now = ClusterSeen { cluster: found, processes };
        *seen = Some((Instant::now(), now.clone()));
        now
    }
}

/// A process that is paused is not asked: it would answer when it goes on, and until then who asks would wait.
async fn ask(node: NodeEntry) -> (acts::State, Option<NodeStatus>) {
    let state = acts::State::of(node.pid);
    let asked = async move |admin: SocketAddr| {
        let asked = tokio::task::spawn_blocking(move || ask_status_within(admin, PATIENCE));
        asked.await.ok()?.ok().filter(|status| status.pid == node.pid)
    };
    match state {
        acts::State::Runs => (state, asked(node.admin).await),
        _ => (state, None),
    }
}

async fn state(State(web): State<Web>) -> Response {
    let seen = web.look().await;
    let shared = &web.shared;
    answer(
        StatusCode::OK,
        json!(Told {
            seen: &seen,
            cuts: shared.cuts.all(),
            tally: shared.tally(),
            story: shared.story(),
        }),
    )
}

async fn act(State(web): State<Web>, request: Request) -> Response {
    let order: Act = match read(request).await {
        Ok(order) => order,
        Err(refusal) => return refusal,
    };
    let (answers, answered) = oneshot::channel();
    if web.orders.send(Order { act: order, answer: answers }).await.is_err() {
        return told(&web, Err("`quorate up` is stopping".to_owned())).await;
    }
    let done = answered.await.unwrap_or_else(|_| Err("`quorate up` is stopping".to_owned()));
    told(&web, done).await
}

async fn tie(State(web): State<Web>, request: Request) -> Response {
    let Tie { link: [a, b], cut } = match read(request).await {
        Ok(tie) => tie,
        Err(refusal) => return refusal,
    };
    let known = web.look().await.processes;
    if a == b || !known.contains_key(&a) || !known.contains_key(&b) {
        return told(&web, Err(format!("there is no link between n{a} and n{b}"))).await;
    }
    let (cuts, link) = (&web.shared.cuts, Link::between(a, b));
    let (changed, word) =
        if cut { (cuts.cut(link), "cut") } else { (cuts.heal(link), "whole again") };
    let text = format!("the link between n{a} and n{b} is {word}");
    told(&web, if changed { Ok(text) } else { Err(format!("{text} already")) }).await
}

/// What came of it; what was done stands in the story, and the next look is a new one.
async fn told(web: &Web, done: Result<String, String>) -> Response {
    match done {
        Ok(text) => {
            web.shared.tell(&text);
            *web.seen.lock().await = None;
            answer(StatusCode::OK, json!({ "done": text }))
        }
        Err(error) => answer(StatusCode::CONFLICT, json!({ "error": error })),
    }
}

async fn read<T: for<'a> Deserialize<'a>>(request: Request) -> Result<T, Response> {
    let refuse = |error: String| answer(StatusCode::BAD_REQUEST, json!({ "error": error }));
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX)
        .await
        .map_err(|error| refuse(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| refuse(error.to_string()))
}

fn answer(code: StatusCode, json: Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (code, headers, json.to_string()).into_response()
}

async fn want_key(State(key): State<Arc<str>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(KEY).map(|shown| shown.as_bytes());
    if shown == Some(key.as_bytes()) {
        return next.run(request).await;
    }
    let text =
        "the address of the playground, as `quorate up` printed it, holds a key behind its #";
    answer(StatusCode::FORBIDDEN, json!({ "error": text }))
}

async fn refuse_other_sites(request: Request, next: Next) -> Response {
    match stranger(request.headers(), &[]) {
        None => next.run(request).await,
        Some(cause) => answer(StatusCode::FORBIDDEN, json!({ "error": cause })),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// Asks a playground of no nodes whose key is `k`; gives the status.
    async fn ask(request: &str, headers: &str, body: &str) -> u16 {
        let (orders, _kept) = mpsc::channel(1);
        let directory: Arc<Path> = Path::new("/nowhere").into();
        let web = Web::new(directory, "k".to_owned(), Shared::default(), orders);
        let listener = super::super::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(web.serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serving.abort();
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap()
    }

    /// Without the key nothing is told and nothing is done; with it, a page of another site is refused all the same.
    #[tokio::test]
    async fn only_who_shows_the_key_is_answered() {
        let (host, key) = ("Host: 127.0.0.1\r\n", "X-Quorate-Playground: k\r\n");
        let with = |more: &str| format!("{host}{key}{more}");
        for (request, headers, body, expected) in [
            ("GET /", host.to_owned(), "", 200),
            ("GET /dashboard/playground.js", host.to_owned(), "", 200),
            ("GET /state", host.to_owned(), "", 403),
            ("GET /state", format!("{host}X-Quorate-Playground: q\r\n"), "", 403),
            ("GET /state", with(""), "", 200),
            ("GET /state", with("Origin: http://evil.example\r\n"), "", 403),
            ("GET /", "Host: evil.example\r\n".to_owned(), "", 403),
            ("POST /nodes", host.to_owned(), r#"{"node":1,"do":"kill"}"#, 403),
            ("POST /nodes", with(""), r#"{"node":1,"do":"melt"}"#, 400),
            ("POST /links", with(""), r#"{"link":[1,2],"cut":true}"#, 409),
        ] {
            assert_eq!(ask(request, &headers, body).await, expected, "{request} {headers}");
        }
    }
}
