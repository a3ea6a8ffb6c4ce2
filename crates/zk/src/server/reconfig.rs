//! ZooKeeper's reconfig. Members are changed by other means here: every request is refused, with the code that ZooKeeper
//! would give where it refuses too, and else as by a server on which it is switched off.

use crate::command::{ErrorCode, Identity};
use crate::tree::{CONFIG, Tree, permits, perms};
use crate::wire::Reconfig;

/// Why nothing is changed; the checks come in ZooKeeper's order.
pub(super) fn refusal(wanted: &Reconfig<'_>, identities: &[Identity], tree: &Tree) -> ErrorCode {
    let Some(config) = tree.znode(CONFIG) else { return ErrorCode::NoNode };
    if wanted.from_version != -1 && wanted.from_version != version(config.data()) {
        return ErrorCode::BadVersion;
    }
    let lists = [wanted.joining.map(|text| (text, ',')), wanted.members.map(|text| (text, '\n'))];
    let mut servers =
        lists.into_iter().flatten().flat_map(|(text, separator)| text.split(separator));
    if !servers.all(names_a_server) {
        return ErrorCode::BadArguments;
    }
    if !permits(config.acl(), identities, perms::WRITE) {
        return ErrorCode::NoAuth;
    }
    ErrorCode::ReconfigDisabled
}

/// The version that `/zookeeper/config` gives in its last line, in hexadecimal; 0 while it is empty.
fn version(config: Option<&[u8]>) -> i64 {
    let text = std::str::from_utf8(config.unwrap_or_default()).unwrap_or_default();
    let last = text.lines().last().and_then(|line| line.strip_prefix("version="));
    last.and_then(|version| i64::from_str_radix(version, 16).ok()).unwrap_or(0)
}

/// `server.7=host:port:port:role;client`.
fn names_a_server(line: &str) -> bool {
    let id = line.trim().strip_prefix("server.").and_then(|rest| rest.split_once('='));
    id.is_some_and(|(id, addresses)| id.parse::<u64>().is_ok() && addresses.split(':').count() >= 3)
}
