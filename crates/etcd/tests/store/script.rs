//! Scripts that a person can read: `> command`, and below it what it came to.
//!
//! ```text
//! > put KEY VALUE [lease=ID] [prev] [ignore-value] [ignore-lease]
//! > del KEY [END] [prev]            END: * is no end, KEY* as the key is a prefix
//! > get KEY [END] [rev=N] [limit=N] [count] [keys] [sort=TARGET:ORDER] [min-mod=N] ...
//! > txn if COMPARE & ... then OP; ... else OP; ...     COMPARE: mod(k)=3, ver val create lease; = != < >
//! > compact N | lease ID TTL | revoke ID | reign TERM | expire ID TERM | auth CHANGE ...
//! > open CLIENT | expire-client CLIENT TERM | once CLIENT SEQUENCE UNACKNOWLEDGED COMMAND...
//! > as USER COMMAND...
//! > restore                         goes on with a copy read from a snapshot
//! ```
//!
//! `UPDATE_GOLDENFILES=1` writes what came out.

use std::fmt::Write as _;

use quorate_contracts::{LogIndex, Progress, StateMachine, Term, WireWriter};
use quorate_etcd::command::{AuthChange, Body, Caller, Command, Event, Outcome, Reply, Tag};
use quorate_etcd::messages::authpb::{Permission, permission::Type};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::mvccpb::KeyValue;
use quorate_etcd::store::Store;
use quorate_etcd::{ClientId, LeaseId, Refusal, Sequence, check, prefix_end};

#[test]
fn scripts_come_out_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("there are scripts")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    assert!(paths.len() > 5, "the scripts are gone");
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("a script");
        let found = play(&script);
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, &found).expect("the script can be written");
        } else {
            assert_eq!(script, found, "{}", path.display());
        }
    }
}

fn play(script: &str) -> String {
    let mut player = Player::default();
    let mut out = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            write!(out, "{line}\n{}", player.command(command)).unwrap();
        }
    }
    out
}

#[derive(Default)]
pub(crate) struct Player {
    pub(crate) store: Store,
    index: u64,
}

impl Player {
    pub(crate) fn apply(&mut self, command: Command) -> (Outcome, Vec<Event>) {
        self.index += 1;
        let mut bytes = WireWriter::default();
        command.encode(&mut bytes);
        let mut events = Vec::new();
        let outcome = self.store.apply(LogIndex(self.index), &bytes.finish(), &mut events);
        (outcome, events)
    }

    fn command(&mut self, line: &str) -> String {
        let (tag, caller, words) = prefixes(line);
        match words[0] {
            "restore" => {
                self.store = copy(&mut self.store);
                return "restored\n".to_string();
            }
            "get" => {
                return match check::range(&get(&words))
                    .and_then(|()| self.store.range(&get(&words)))
                {
                    Ok(reply) => show_range(&reply),
                    Err(refusal) => show_refusal(refusal),
                };
            }
            _ => {}
        }
        let body = match body(&words, line) {
            Ok(body) => body,
            Err(refusal) => return show_refusal(refusal),
        };
        let (outcome, events) = self.apply(Command { tag, caller, body });
        show(&outcome, &events)
    }
}

/// A copy, through a snapshot taken in small slices; it must be the same.
pub(crate) fn copy(store: &mut Store) -> Store {
    store.begin_snapshot();
    let mut bytes = Vec::new();
    while store.snapshot_slice(10, &mut bytes) == Progress::More {}
    let copy = Store::restore(&mut &bytes[..]).expect("a snapshot can be read");
    assert_eq!(copy.digest(), store.digest(), "a copy has the digest of the original");
    copy
}

fn prefixes(line: &str) -> (Option<Tag>, Option<Caller>, Vec<&str>) {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let (mut tag, mut caller) = (None, None);
    if words[0] == "once" {
        let number = |word: &str| word.parse::<u64>().expect("a number");
        tag = Some(Tag {
            client: ClientId(number(words[1]).into()),
            sequence: Sequence(number(words[2])),
            unacknowledged: Sequence(number(words[3])),
        });
        words.drain(..4);
    }
    if words[0] == "as" {
        let (user, revision) = words[1].split_once('@').expect("USER@AUTH-REVISION");
        caller = Some(Caller {
            user: user.to_string(),
            auth_revision: revision.parse().expect("a number"),
        });
        words.drain(..2);
    }
    (tag, caller, words)
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> i64 {
    option(words, name).map_or(0, |word| word.parse().expect("a number"))
}

/// `KEY*` is a prefix, `KEY *` has no end, `""` is the empty key.
fn keys(words: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let key = words[1].trim_matches('"');
    if let Some(prefix) = key.strip_suffix('*') {
        let start = if prefix.is_empty() { "\0" } else { prefix };
        return (start.into(), prefix_end(prefix.as_bytes()));
    }
    let flags = ["prev", "count", "keys"];
    let end = words.get(2).filter(|word| !word.contains('=') && !flags.contains(word));
    (key.into(), end.map_or(Vec::new(), |end| if *end == "*" { vec![0] } else { (*end).into() }))
}

fn get(words: &[&str]) -> pb::RangeRequest {
    let (key, range_end) = keys(words);
    let mut request = pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: number(words, "limit"),
        revision: number(words, "rev"),
        count_only: words.contains(&"count"),
        keys_only: words.contains(&"keys"),
        min_mod_revision: number(words, "min-mod"),
        max_mod_revision: number(words, "max-mod"),
        min_create_revision: number(words, "min-create"),
        max_create_revision: number(words, "max-create"),
        ..Default::default()
    };
    if let Some((target, order)) = option(words, "sort").and_then(|sort| sort.split_once(':')) {
        let targets = ["key", "version", "create", "mod", "value"];
        let orders = ["none", "ascend", "descend"];
        request.sort_target = targets.iter().position(|t| *t == target).map_or(99, |t| t as i32);
        request.sort_order = orders.iter().position(|o| *o == order).map_or(99, |o| o as i32);
    }
    request
}

fn put(words: &[&str]) -> pb::PutRequest {
    let value = words.get(2).filter(|word| !word.starts_with("ignore")).copied().unwrap_or("");
    pb::PutRequest {
        key: words[1].trim_matches('"').to_string().into(),
        value: value.to_string().into(),
        lease: number(words, "lease"),
        prev_kv: words.contains(&"prev"),
        ignore_value: words.contains(&"ignore-value"),
        ignore_lease: words.contains(&"ignore-lease"),
    }
}

fn delete(words: &[&str]) -> pb::DeleteRangeRequest {
    let (key, range_end) = keys(words);
    pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: words.contains(&"prev"),
    }
}

fn body(words: &[&str], line: &str) -> Result<Body, Refusal> {
    let number = |at: usize| words[at].parse::<i64>().expect("a number");
    let term = |at: usize| Term(number(at) as u64);
    Ok(match words[0] {
        "put" => {
            check::put(&put(words))?;
            Body::Put(put(words))
        }
        "del" => {
            check::delete_range(&delete(words))?;
            Body::DeleteRange(delete(words))
        }
        "txn" => {
            let txn = txn(line.split_once("txn ").expect("a transaction").1);
            check::txn(&txn)?;
            Body::Txn(txn)
        }
        "compact" => Body::Compact(pb::CompactionRequest { revision: number(1), physical: false }),
        "lease" => Body::LeaseGrant(pb::LeaseGrantRequest { id: number(1), ttl: number(2) }),
        "revoke" => Body::LeaseRevoke(pb::LeaseRevokeRequest { id: number(1) }),
        "reign" => Body::Reign(term(1)),
        "expire" => Body::ExpireLease { lease: LeaseId(number(1)), reign: term(2) },
        "open" => Body::OpenClient(ClientId(number(1) as u128)),
        "expire-client" => Body::ExpireClient {
            client: ClientId(number(1) as u128),
            last_used: LogIndex(number(2) as u64),
            reign: term(3),
        },
        "alarm" => Body::Alarm(pb::AlarmRequest {
            action: ["get", "activate", "deactivate"]
                .iter()
                .position(|a| *a == words[1])
                .unwrap_or(0) as i32,
            member_id: 1,
            alarm: ["none", "nospace", "corrupt"].iter().position(|a| *a == words[2]).unwrap_or(0)
                as i32,
        }),
        "auth" => Body::Auth(auth(words)),
        other => panic!("an unknown command {other:?}"),
    })
}

fn auth(words: &[&str]) -> AuthChange {
    let word = |at: usize| words.get(at).copied().unwrap_or("").trim_matches('"').to_string();
    match words[1] {
        "enable" => AuthChange::Enable(pb::AuthEnableRequest {}),
        "disable" => AuthChange::Disable(pb::AuthDisableRequest {}),
        "user-add" => AuthChange::UserAdd(pb::AuthUserAddRequest {
            name: word(2),
            hashed_password: "hash".to_string(),
            ..Default::default()
        }),
        "user-delete" => AuthChange::UserDelete(pb::AuthUserDeleteRequest { name: word(2) }),
        "user-grant" => {
            AuthChange::UserGrantRole(pb::AuthUserGrantRoleRequest { user: word(2), role: word(3) })
        }
        "user-revoke" => AuthChange::UserRevokeRole(pb::AuthUserRevokeRoleRequest {
            name: word(2),
            role: word(3),
        }),
        "role-add" => AuthChange::RoleAdd(pb::AuthRoleAddRequest { name: word(2) }),
        "role-delete" => AuthChange::RoleDelete(pb::AuthRoleDeleteRequest { role: word(2) }),
        "role-grant" => {
            let (key, range_end) = keys(&words[3..]);
            let perm_type = match words[3] {
                "read" => Type::Read,
                "write" => Type::Write,
                _ => Type::Readwrite,
            };
            let perm = Permission {
                perm_type: perm_type.into(),
                key: key.into(),
                range_end: range_end.into(),
            };
            AuthChange::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: word(2),
                perm: Some(perm),
            })
        }
        "role-revoke" => {
            let (key, range_end) = keys(&words[2..]);
            let (key, range_end) = (key.into(), range_end.into());
            AuthChange::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
                role: word(2),
                key,
                range_end,
            })
        }
        other => panic!("an unknown change {other:?}"),
    }
}

/// `if mod(k)=3 & ver(x)=0 then put a 1; get b else del c`
fn txn(text: &str) -> pb::TxnRequest {
    let (compares, rest) = text.strip_prefix("if ").expect("if").split_once(" then").expect("then");
    let (success, failure) = rest.split_once(" else").unwrap_or((rest, ""));
    pb::TxnRequest {
        compare: compares.split(" & ").filter(|c| *c != "true").map(compare).collect(),
        success: ops(success),
        failure: ops(failure),
    }
}

fn ops(text: &str) -> Vec<pb::RequestOp> {
    use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange};
    let op = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let request = match *words.first()? {
            "put" => RequestPut(put(&words)),
            "get" => RequestRange(get(&words)),
            "del" => RequestDeleteRange(delete(&words)),
            other => panic!("an unknown operation {other:?}"),
        };
        Some(pb::RequestOp { request: Some(request) })
    };
    text.split(';').filter_map(op).collect()
}

fn compare(text: &str) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, rest) = text.split_once('(').expect("target(key)");
    let (key, rest) = rest.split_once(')').expect("target(key)");
    let results = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    let (result, value) = results
        .iter()
        .find_map(|(sign, result)| Some((*result, rest.strip_prefix(sign)?)))
        .expect("a sign");
    let number = || value.parse().expect("a number");
    let (target, union) = match target {
        "ver" => (CompareTarget::Version, TargetUnion::Version(number())),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number())),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number())),
        "val" => (CompareTarget::Value, TargetUnion::Value(value.to_string().into())),
        _ => (CompareTarget::Lease, TargetUnion::Lease(number())),
    };
    let (key, range_end) = keys(&["", key]);
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: range_end.into(),
        target_union: Some(union),
    }
}

fn show(outcome: &Outcome, events: &[Event]) -> String {
    let mut out = match &outcome.result {
        Err(refusal) => show_refusal(*refusal),
        Ok(reply) => format!("revision {}\n{}", outcome.revision, show_reply(reply)),
    };
    for event in
        events.iter().filter(|event| !matches!(event, Event::Written | Event::ClientUsed(_)))
    {
        writeln!(out, "event {event:?}").unwrap();
    }
    out
}

fn show_refusal(refusal: Refusal) -> String {
    format!("{:?}: {refusal}\n", refusal.code())
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Put(put) => put.prev_kv.iter().map(|kv| format!("was {}", show_kv(kv))).collect(),
        Reply::DeleteRange(reply) => show_deleted(reply),
        Reply::Txn(reply) => {
            let mut out = format!("{}\n", if reply.succeeded { "then" } else { "else" });
            reply.responses.iter().for_each(|op| out += &show_op(op));
            out
        }
        Reply::LeaseGrant(reply) => format!("lease {} for {} s\n", reply.id, reply.ttl),
        Reply::Alarm(reply) => {
            reply.alarms.iter().map(|a| format!("alarm {} of {}\n", a.alarm, a.member_id)).collect()
        }
        Reply::Done => String::new(),
    }
}

fn show_op(op: &pb::ResponseOp) -> String {
    use pb::response_op::Response;
    match &op.response {
        Some(Response::ResponseRange(range)) => show_range(range),
        Some(Response::ResponsePut(_)) => "put\n".to_string(),
        Some(Response::ResponseDeleteRange(reply)) => show_deleted(reply),
        Some(Response::ResponseTxn(_)) | None => "?\n".to_string(),
    }
}

fn show_deleted(reply: &pb::DeleteRangeResponse) -> String {
    let was = reply.prev_kvs.iter().map(|kv| format!("was {}", show_kv(kv)));
    format!("deleted {}\n{}", reply.deleted, was.collect::<String>())
}

fn show_range(reply: &pb::RangeResponse) -> String {
    let more = if reply.more { ", more" } else { "" };
    let revision = reply.header.as_ref().map_or(0, |header| header.revision);
    let kvs: String = reply.kvs.iter().map(show_kv).collect();
    format!("{kvs}count {}{more} at {revision}\n", reply.count)
}

fn show_kv(kv: &KeyValue) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {}", kv.lease) };
    let KeyValue { create_revision, mod_revision, version, .. } = kv;
    format!(
        "{}={} (created {create_revision}, mod {mod_revision}, version {version}{lease})\n",
        text(&kv.key),
        text(&kv.value)
    )
}
