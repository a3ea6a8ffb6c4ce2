//! Pages for people, on the admin port: the cluster as people draw it, live figures, znodes, clients, and the player of
//! simulated runs. Plain HTML, CSS and JavaScript out of the binary; nothing comes from anywhere else.
//!
//! | path | what it gives |
//! | --- | --- |
//! | `/`, `/dashboard` | the dashboard |
//! | `/dashboard/player` | the player of traces (`docs/trace.md`), for files of the visitor's own machine |
//! | `/dashboard/FILE` | what these pages are made of (`assets`); the page of `quorate up --playground` is there too |
//! | `/dashboard/stream` | server-sent events: [`ClusterStatus`](crate::ClusterStatus), and who tells it (`hub`) |
//! | `/dashboard/znodes/PATH` | JSON: a znode and its children (`look`) |
//! | `/dashboard/keys/REVISION/PREFIX`, `/dashboard/key/REVISION/KEY` | JSON: keys, a key with its value, leases (`keys`); revision 0 is the newest |
//! | `/dashboard/clients` | JSON: sessions, and the clients of this node (`look`) |
//!
//! Read-only, for whoever may ask the admin port; so it shows of znodes only what everybody may read, and of ACLs no
//! password hash. What comes from clients reaches the page as JSON and is put in as text, and the pages' policy
//! lets nothing run but the scripts of this folder.

mod assets;
mod hub;
mod keys;
mod look;
mod player;
mod reigns;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::admin::{AdminDoors, Administrators, Silent};
pub use assets::give as dashboard_file;
use hub::Hub;
pub(crate) use look::{Look, Looking};
pub use player::player_page;
pub(crate) use reigns::Reigns;

#[derive(Clone)]
struct Dashboard {
    administrators: Administrators,
    hub: Arc<Hub>,
    /// It shows what the services hold.
    data: bool,
}

/// The routes of the dashboard.
pub(crate) fn router(administrators: Administrators, doors: &AdminDoors) -> Router {
    let hub = Hub::start(administrators.clone(), doors.node);
    let data = doors.data;
    Router::new()
        .route("/", get(async || assets::give("index.html")))
        .route("/dashboard", get(async || assets::give("index.html")))
        .route("/dashboard/player", get(async || assets::give("player.html")))
        .route("/dashboard/stream", get(give_stream))
        .route("/dashboard/clients", get(give_clients))
        .route("/dashboard/znodes/", get(give_root))
        .route("/dashboard/znodes/{*path}", get(give_znode))
        .route("/dashboard/keys/{revision}/", get(give_all_keys))
        .route("/dashboard/keys/{revision}/{*prefix}", get(give_keys))
        .route("/dashboard/key/{revision}/{*key}", get(give_key))
        .route("/dashboard/{file}", get(async |Path(file): Path<String>| assets::give(&file)))
        .with_state(Dashboard { administrators, hub, data })
}

async fn give_stream(State(dashboard): State<Dashboard>) -> Response {
    dashboard.hub.subscribe().map_or_else(
        || {
            let text = "too many dashboards are open on this node; close some of them";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        },
        IntoResponse::into_response,
    )
}

async fn give_clients(State(dashboard): State<Dashboard>) -> Result<Response, Silent> {
    dashboard.show(Look::Clients).await
}

async fn give_root(State(dashboard): State<Dashboard>) -> Result<Response, Silent> {
    dashboard.show_data(Look::Znode("/".to_string())).await
}

async fn give_znode(
    State(dashboard): State<Dashboard>,
    Path(path): Path<String>,
) -> Result<Response, Silent> {
    dashboard.show_data(Look::Znode(format!("/{path}"))).await
}

async fn give_all_keys(
    State(dashboard): State<Dashboard>,
    Path(revision): Path<i64>,
) -> Result<Response, Silent> {
    dashboard.show_data(Look::Keys { prefix: String::new(), revision }).await
}

async fn give_keys(
    State(dashboard): State<Dashboard>,
    Path((revision, prefix)): Path<(i64, String)>,
) -> Result<Response, Silent> {
    dashboard.show_data(Look::Keys { prefix, revision }).await
}

async fn give_key(
    State(dashboard): State<Dashboard>,
    Path((revision, key)): Path<(i64, String)>,
) -> Result<Response, Silent> {
    dashboard.show_data(Look::Key { key, revision }).await
}

impl Dashboard {
    async fn show_data(&self, look: Look) -> Result<Response, Silent> {
        if self.data {
            return self.show(look).await;
        }
        let text =
            "{\"error\":\"what the services hold is not shown here: `dashboard_data` is off\"}";
        Ok((StatusCode::FORBIDDEN, json_type(), text).into_response())
    }

    async fn show(&self, look: Look) -> Result<Response, Silent> {
        let shown = self.administrators.look(look.group(), look).await?;
        Ok(match shown {
            Some(json) => (json_type(), json.to_string()).into_response(),
            None => {
                let text = "{\"error\":\"there is no such znode\"}";
                (StatusCode::NOT_FOUND, json_type(), text).into_response()
            }
        })
    }
}

fn json_type() -> [(header::HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")]
}
