//! HTTP for administrators, probes and scrapers.
//!
//! | path | what it gives |
//! | --- | --- |
//! | `/` | the dashboard, for people (`dashboard`) |
//! | `/status` | JSON: [`NodeStatus`] |
//! | `/cluster` | JSON: [`ClusterStatus`], what this node hears from every member |
//! | `POST /lead/ID` | has node ID lead the coordination service; whichever node is asked, the leader does it |
//! | `/health` | 200 once the node serves, 503 before |
//! | `/metrics` | Prometheus text (`metrics`) |
//! | `/backup` | a snapshot of the coordination state as it is now (`backup`); on loopback only |
//! | `POST /commands/snapshot` | takes such a snapshot and leaves it on the disk; on loopback only |
//! | `/commands/NAME` | what ZooKeeper's AdminServer gives under that name (`commands`) |
//!
//! Handlers run beside the loop and ask it through a channel; a node that is stopping answers 503. Nothing here
//! changes what is replicated.

mod asking;
mod backup;
mod commands;
mod forms;
mod metrics;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use quorate_contracts::{EntryId, GroupId, NodeId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::dashboard::{self, Look, Looking};
use crate::inbox::{Door, Incoming};
use crate::tls::renewal::Certificates;
use crate::zookeeper::Arrival;
pub(crate) use asking::Others;
pub use asking::{ClusterStatus, MemberListed};
pub(crate) use backup::Backups;
pub use status::{GroupStatus, KvStatus, NodeStatus, RoomName};

/// What is published of a member for administrators stands under this name.
pub(crate) const PUBLISHED: &str = "admin";

/// Questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a handler asks the loop.
enum Question {
    Status(oneshot::Sender<NodeStatus>),
    Cluster(oneshot::Sender<ClusterStatus>),
    Lead(NodeId, oneshot::Sender<Result<String, String>>),
    Word([u8; 4], oneshot::Sender<String>),
    Snapshot(oneshot::Sender<EntryId>),
    Look(GroupId, Looking),
}

/// Those who answer administrators: the handlers' way to the loop.
#[derive(Clone)]
pub(crate) struct Administrators {
    questions: mpsc::Sender<Question>,
    /// Where the snapshots are.
    log: PathBuf,
    certificates: Certificates,
}

/// No answer: the node is stopping, or it is too busy to say how it is.
pub(crate) struct Silent;

impl IntoResponse for Silent {
    fn into_response(self) -> Response {
        let text = "{\"error\":\"the node is stopping, or too busy to answer\"}";
        (StatusCode::SERVICE_UNAVAILABLE, json_type(), text).into_response()
    }
}

impl Administrators {
    /// Answers out of what the loop says, and what the coordination service says.
    pub(crate) fn start(
        others: Others,
        zookeeper: Door<Arrival>,
        log: PathBuf,
        certificates: Certificates,
    ) -> Self {
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        tokio::task::spawn_local(pass_on(questions, others, zookeeper));
        Self { questions: sender, log, certificates }
    }

    /// Answers until the node ends.
    pub(crate) async fn serve(self, listener: TcpListener, doors: AdminDoors) {
        let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        run(listener, router(self, doors, is_local)).await;
    }

    /// The same for a port that gives metrics and nothing else, under any name: scrapers know a node by whatever
    /// name they were given.
    pub(crate) async fn serve_metrics(self, listener: TcpListener) {
        run(listener, Router::new().route("/metrics", get(give_metrics)).with_state(self)).await;
    }

    async fn status(&self) -> Result<NodeStatus, Silent> {
        let status = self.ask(Question::Status).await?;
        Ok(NodeStatus { certificates: self.certificates.status(), ..status })
    }

    /// How the cluster is.
    pub(crate) async fn cluster(&self) -> Result<ClusterStatus, Silent> {
        self.ask(Question::Cluster).await
    }

    /// What a group has to show; `None` if it shows no such thing.
    pub(crate) async fn look(
        &self,
        group: GroupId,
        look: Look,
    ) -> Result<Option<serde_json::Value>, Silent> {
        let (looking, shown) = Looking::at(look);
        self.questions.try_send(Question::Look(group, looking)).map_err(|_| Silent)?;
        match tokio::time::timeout(PATIENCE, shown).await {
            Ok(shown) => Ok(shown.ok()),
            Err(_) => Err(Silent),
        }
    }

    async fn word(&self, word: [u8; 4]) -> Result<String, Silent> {
        self.ask(|answer| Question::Word(word, answer)).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Silent> {
        self.ask_patiently(PATIENCE, question).await
    }

    async fn ask_patiently<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Silent> {
        let (sender, receiver) = oneshot::channel();
        self.questions.try_send(question(sender)).map_err(|_| Silent)?;
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Silent),
        }
    }
}

async fn run(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "administrators are no longer answered");
    }
}

async fn pass_on(
    mut questions: mpsc::Receiver<Question>,
    others: Others,
    zookeeper: Door<Arrival>,
) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::Status(answer) => others.inbox.push(Incoming::Status(answer)),
            Question::Snapshot(taken) => {
                others.inbox.push(Incoming::TakeSnapshot(GroupId::COORDINATION, taken));
            }
            Question::Look(group, looking) => others.inbox.push(Incoming::Look(group, looking)),
            Question::Cluster(answer) => {
                let others = others.clone();
                tokio::task::spawn_local(async move { answer.send(others.cluster().await) });
            }
            Question::Lead(to, answer) => {
                let others = others.clone();
                tokio::task::spawn_local(async move { answer.send(others.lead(to).await) });
            }
            Question::Word(word, answer) => zookeeper.push(Arrival::Word { word, answer }),
        }
    }
}

/// To whom this port is open, and for what.
pub(crate) struct AdminDoors {
    /// Host names under which it may be asked, besides addresses and `localhost`.
    pub(crate) names: Vec<String>,
    /// It shows what the services hold.
    pub(crate) data: bool,
    /// This node.
    pub(crate) node: u64,
}

fn router(administrators: Administrators, doors: AdminDoors, is_local: bool) -> Router {
    let dashboard = dashboard::router(administrators.clone(), &doors);
    // A backup holds everything, whatever the access control lists say.
    let (backup, snapshot) = if is_local {
        (get(backup::give), post(backup::take))
    } else {
        (get(backup::refuse), post(backup::refuse))
    };
    Router::new()
        .route("/backup", backup)
        .route("/status", get(give_status))
        .route("/cluster", get(give_cluster))
        .route("/lead/{id}", post(give_lead))
        .route("/health", get(give_health))
        .route("/metrics", get(give_metrics))
        .route("/commands", get(async || commands::index()))
        .route("/commands/snapshot", snapshot)
        .route("/commands/{name}", get(give_command))
        .fallback(async || {
            let text = "{\"error\":\"there are / (the dashboard), /status, /cluster, /health, /metrics, /backup, /commands and POST /lead/ID\"}";
            (StatusCode::NOT_FOUND, json_type(), text)
        })
        .with_state(administrators)
        .merge(dashboard)
        .layer(middleware::from_fn_with_state(doors.names, refuse_other_sites))
}

async fn give_status(State(administrators): State<Administrators>) -> Result<Response, Silent> {
    let status = administrators.status().await?;
    Ok((json_type(), serde_json::to_string(&status).unwrap_or_default()).into_response())
}

async fn give_cluster(State(administrators): State<Administrators>) -> Result<Response, Silent> {
    let cluster = administrators.cluster().await?;
    Ok((json_type(), serde_json::to_string(&cluster).unwrap_or_default()).into_response())
}

async fn give_lead(
    State(administrators): State<Administrators>,
    Path(id): Path<u64>,
) -> Result<Response, Silent> {
    let done = administrators.ask(|answer| Question::Lead(NodeId(id), answer)).await?;
    let (code, text) = match done {
        Ok(text) => (StatusCode::OK, serde_json::json!({ "done": text })),
        Err(error) => (StatusCode::CONFLICT, serde_json::json!({ "error": error })),
    };
    Ok((code, json_type(), text.to_string()).into_response())
}

async fn give_health(State(administrators): State<Administrators>) -> Response {
    match administrators.status().await {
        Ok(status) if status.serving => (json_type(), "{\"healthy\":true}").into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, json_type(), "{\"healthy\":false}").into_response(),
    }
}

async fn give_metrics(State(administrators): State<Administrators>) -> Result<Response, Silent> {
    let text =
        metrics::text(&administrators.status().await?, &administrators.word(*b"mntr").await?);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn give_command(
    State(administrators): State<Administrators>,
    Path(name): Path<String>,
) -> Result<Response, Silent> {
    let Some(command) = commands::find(&name) else {
        return Ok((StatusCode::NOT_FOUND, json_type(), commands::unknown(&name)).into_response());
    };
    let said = match command.source {
        commands::Source::Word(word, form) => form.of(&administrators.word(word).await?),
        commands::Source::Status(answer) => answer(&administrators.status().await?),
    };
    Ok((json_type(), command.answer(said)).into_response())
}

fn json_type() -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, "application/json")]
}

/// A page of another site cannot ask in a visitor's name: its Host is a name that is not ours, or its Origin
/// is another host.
async fn refuse_other_sites(
    State(names): State<Vec<String>>,
    request: Request,
    next: Next,
) -> Response {
    match stranger(request.headers(), &names) {
        None => next.run(request).await,
        Some(cause) => {
            let text = serde_json::json!({ "error": cause }).to_string();
            (StatusCode::FORBIDDEN, json_type(), text).into_response()
        }
    }
}

/// Why a request is refused that a web page of somewhere else made, as browsers tell: for ports that people reach under
/// any name. Who is no browser names no Origin.
pub(crate) fn other_site(headers: &HeaderMap, names: &[String]) -> Option<&'static str> {
    headers.get(header::ORIGIN).and_then(|_| stranger(headers, names))
}

/// Why a request is refused that asks under a name that is not ours, as browsers do for an attacker whose name server points
/// here, or that a page of another site made. Ours are addresses, `localhost` and these.
pub fn stranger(headers: &HeaderMap, names: &[String]) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !host.is_empty() && !is_ours(host_name(host), names) {
        return Some("the Host header is neither an address, nor localhost, nor in `admin_names`");
    }
    let origin = text(header::ORIGIN).map(|origin| origin.split("//").last().unwrap_or_default());
    match origin {
        Some(origin) if origin != host => Some("the request was made by a page of another site"),
        _ => None,
    }
}

fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_ours(name: &str, names: &[String]) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok()
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    /// A name that an attacker's name server points here is told from our own.
    #[test]
    fn only_addresses_localhost_and_our_own_names_are_answered() {
        let names = ["zk1.example".to_string()];
        for (host, origin, answered) in [
            ("localhost:8080", None, true),
            ("127.0.0.1:8080", None, true),
            ("10.0.0.7:8080", None, true),
            ("[::1]:8080", None, true),
            ("[::1]", None, true),
            ("zk1.example:8080", None, true),
            ("evil.example:8080", None, false),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("localhost:8080", Some("http://evil.example"), false),
            ("localhost:8080", Some("null"), false),
        ] {
            let refused = stranger(&headers(host, origin), &names);
            assert_eq!(refused.is_none(), answered, "{host} from {origin:?}");
        }
    }
}
