//! What a caller is told when a request was not carried out: the first question is, did it happen?

use std::fmt;

use quorate_zk::command::ErrorCode;
use thiserror::Error;

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Failure {
    /// Nothing happened, and nothing will.
    #[error("{0}")]
    Refused(Refusal),
    /// It may have happened, or may still happen.
    #[error("the outcome is unknown: {0}")]
    Unknown(Cause),
}

/// A definite no.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The server's answer.
    #[error("{0}")]
    Answered(Answered),
    /// The session is over; its ephemeral znodes are gone.
    #[error("the session has expired")]
    SessionExpired,
    /// No server could be reached for as long as the caller was willing to wait.
    #[error("no server could be reached in time")]
    NotConnected,
    /// This client was closed.
    #[error("the client is closed")]
    Closed,
    /// More requests than allowed are waiting in this client.
    #[error("too many requests are in flight; wait for some of them")]
    TooManyInFlight,
    /// The request is larger than a packet may be.
    #[error("the request takes {bytes} bytes, a packet may have {limit}")]
    TooLarge {
        /// Size of the request.
        bytes: usize,
        /// Size of the largest packet.
        limit: usize,
    },
}

/// Why nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Cause {
    /// The connection ended before the answer came.
    #[error("the connection was lost before the answer came")]
    ConnectionLost,
    /// The server gave up waiting.
    #[error("the server gave up waiting ({0})")]
    Server(Answered),
    /// The answer is not what the protocol says.
    #[error("the server's answer is malformed")]
    MalformedAnswer,
}

/// An error code in an answer, known to us or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Answered(pub i32);

/// Why no session could be had.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// Nobody to ask.
    #[error("no server was named")]
    NoServers,
    /// A server's address does not read.
    #[error("`{0}` is no address; write HOST:PORT")]
    BadAddress(String),
    /// Nobody answered.
    #[error("none of {servers} could be reached within {patience:?}")]
    Unreachable {
        /// All of them.
        servers: String,
        /// How long was tried.
        patience: std::time::Duration,
    },
    /// The system has no random bytes or sockets for us.
    #[error("{0}")]
    System(String),
}

impl Failure {
    /// What an error code in an answer means.
    pub(crate) fn answered(code: i32) -> Self {
        const OPERATION_TIMEOUT: i32 = ErrorCode::OperationTimeout as i32;
        const CONNECTION_LOSS: i32 = -4;
        const SESSION_EXPIRED: i32 = ErrorCode::SessionExpired as i32;
        match code {
            OPERATION_TIMEOUT | CONNECTION_LOSS => Self::Unknown(Cause::Server(Answered(code))),
            SESSION_EXPIRED => Self::Refused(Refusal::SessionExpired),
            _ => Self::Refused(Refusal::Answered(Answered(code))),
        }
    }

    /// Whether the server refused with this code.
    pub fn is(&self, code: ErrorCode) -> bool {
        *self == Self::Refused(Refusal::Answered(Answered(code as i32)))
    }
}

impl Answered {
    /// ZooKeeper's name for the code, and what it means.
    fn words(self) -> Option<(&'static str, &'static str)> {
        let (_, name, meaning) = CODES.iter().find(|(code, _, _)| *code as i32 == self.0)?;
        Some((name, meaning))
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some((name, meaning)) => write!(f, "{name}: {meaning}"),
            None => write!(f, "error {}", self.0),
        }
    }
}

const CODES: [(ErrorCode, &str, &str); 22] = [
    (
        ErrorCode::RuntimeInconsistency,
        "RuntimeInconsistency",
        "an earlier operation of the transaction failed",
    ),
    (ErrorCode::Marshalling, "Marshalling", "the server could not read the request"),
    (ErrorCode::Unimplemented, "Unimplemented", "the server does not know this operation"),
    (ErrorCode::OperationTimeout, "OperationTimeout", "the operation took too long"),
    (ErrorCode::BadArguments, "BadArguments", "the path or an argument is not allowed"),
    (ErrorCode::NoNode, "NoNode", "the znode, or its parent, does not exist"),
    (ErrorCode::NoAuth, "NoAuth", "the ACL does not allow it"),
    (ErrorCode::BadVersion, "BadVersion", "the version is not the expected one"),
    (
        ErrorCode::NoChildrenForEphemerals,
        "NoChildrenForEphemerals",
        "an ephemeral znode has no children",
    ),
    (ErrorCode::NodeExists, "NodeExists", "the znode exists already"),
    (ErrorCode::NotEmpty, "NotEmpty", "the znode has children"),
    (ErrorCode::SessionExpired, "SessionExpired", "the session has expired"),
    (ErrorCode::InvalidAcl, "InvalidACL", "the ACL is not valid"),
    (ErrorCode::AuthFailed, "AuthFailed", "the credentials were not accepted"),
    (ErrorCode::SessionMoved, "SessionMoved", "the session is attached to another server"),
    (ErrorCode::NotReadOnly, "NotReadOnly", "this server answers reads only"),
    (ErrorCode::NoWatcher, "NoWatcher", "there is no such watch"),
    (
        ErrorCode::NewConfigNoQuorum,
        "NewConfigNoQuorum",
        "no quorum of the new configuration is there and up to date",
    ),
    (ErrorCode::ReconfigInProgress, "ReconfigInProgress", "another reconfiguration is under way"),
    (ErrorCode::ReconfigDisabled, "ReconfigDisabled", "reconfiguration is disabled"),
    (ErrorCode::QuotaExceeded, "QuotaExceeded", "the quota is used up"),
    (ErrorCode::Throttled, "Throttled", "the server has too much to do; try again later"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_whether_it_may_have_happened() {
        assert!(Failure::answered(-101).is(ErrorCode::NoNode));
        assert_eq!(
            Failure::answered(-101).to_string(),
            "NoNode: the znode, or its parent, does not exist"
        );
        assert_eq!(Failure::answered(-112), Failure::Refused(Refusal::SessionExpired));
        assert!(matches!(Failure::answered(-7), Failure::Unknown(Cause::Server(_))));
        assert_eq!(Failure::answered(-999).to_string(), "error -999");
    }
}
