//! The files that the pages are made of, in the binary.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file, and what browsers call its kind.
pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    pub(super) text: &'static str,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: concat!($kind, "; charset=utf-8"),
            text: include_str!(concat!("pages/", $name)),
        }
    };
}

const ASSETS: &[Asset] = &[
    asset!("index.html", "text/html"),
    asset!("style.css", "text/css"),
    asset!("app.js", "text/javascript"),
    asset!("dom.js", "text/javascript"),
    asset!("figures.js", "text/javascript"),
    asset!("cluster.js", "text/javascript"),
    asset!("picture.js", "text/javascript"),
    asset!("logs.js", "text/javascript"),
    asset!("members.js", "text/javascript"),
    asset!("plots.js", "text/javascript"),
    asset!("data.js", "text/javascript"),
    asset!("znodes.js", "text/javascript"),
    asset!("keys.js", "text/javascript"),
    asset!("clients.js", "text/javascript"),
    asset!("playground.html", "text/html"),
    asset!("playground.css", "text/css"),
    asset!("playground.js", "text/javascript"),
    asset!("player.html", "text/html"),
    asset!("player.css", "text/css"),
    asset!("trace.js", "text/javascript"),
    asset!("diagram.js", "text/javascript"),
    asset!("player.js", "text/javascript"),
];

/// Only the scripts, styles and data of this port; no frames, no forms, nothing written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file of this name, which is one of `ASSETS`.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// A file of the dashboard's pages, for a browser, with the policy under which it runs; 404 if there is none of this name.
pub fn give(name: &str) -> Response {
    let Some(asset) = find(name) else {
        return (StatusCode::NOT_FOUND, "the dashboard has no such page").into_response();
    };
    (headers(asset.kind), asset.text).into_response()
}

/// A page is asked for anew after an upgrade: it is small, and the node is near.
fn headers(kind: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy forbids what these would need; so they would fail in front of a visitor.
    #[test]
    fn pages_hold_no_script_style_or_address_of_another_place() {
        for asset in ASSETS {
            for bad in [
                "<script>",
                "<style",
                " style=\"",
                " onclick",
                "javascript:",
                "https:",
                "innerHTML",
                "eval(",
            ] {
                assert!(!asset.text.contains(bad), "{} holds {bad}", asset.name);
            }
        }
    }

    /// What a page or script names is there.
    #[test]
    fn every_file_that_is_named_is_in_the_binary() {
        for asset in ASSETS {
            let named = asset.text.split(['"', '\'']).filter(|word| {
                word.ends_with(".js") || word.ends_with(".css") || word.ends_with(".html")
            });
            for name in named {
                let file = name.rsplit('/').next().unwrap_or(name);
                assert!(find(file).is_some(), "{} names {name}", asset.name);
            }
        }
    }
}
