//! What a client learns when a request was not done.

use std::io;

use thiserror::Error;

/// A request was not done, or nobody knows.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No server took the session: nothing happened.
    #[error("no server of {servers} took a session: {last}")]
    Unreachable {
        /// Who was asked.
        servers: String,
        /// What the last one did.
        last: io::Error,
    },
    /// The server refused: nothing happened.
    #[error("{}", error_text(*.0))]
    Refused(i32),
    /// The connection was lost before the answer came: it may have happened.
    #[error("the connection was lost before the answer came: {0}")]
    Unknown(#[source] io::Error),
    /// The server answered something else than what was asked.
    #[error("the server's answer does not read: {0}")]
    Malformed(&'static str),
}

/// ZooKeeper's error codes in words.
fn error_text(code: i32) -> String {
    let text = match code {
        -6 => "the server does not know this operation",
        -8 => "the path or an argument is not valid",
        -101 => "there is no such znode",
        -102 => "not allowed by the access control list",
        -103 => "the znode has another version",
        -108 => "an ephemeral znode has no children",
        -110 => "the znode exists already",
        -111 => "the znode has children",
        -112 => "the session has expired",
        -114 => "the access control list is not valid",
        -115 => "the credentials are not valid",
        -118 => "the session was attached to another server",
        _ => return format!("the server refused with code {code}"),
    };
    text.to_string()
}
