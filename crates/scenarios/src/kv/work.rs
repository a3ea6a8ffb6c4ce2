//! What the Clerks are asked to do, one thing at a time each, and what is checked as soon as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use quorate_checker::models::kv::{Input, Output};
use quorate_checker::models::register;
use quorate_checker::{ClientId, History, Nanos, OpId, Value};
use quorate_clerk::{Answer, Ask, AskId, Told};
use quorate_contracts::{Random, Time};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd::messages::mvccpb::KeyValue;
use quorate_etcd::prefix_end;
use quorate_etcd::server::{Request, Response};

use super::accounts::{Accounts, Between, Span};
use super::clients::{Clients, Who};
use crate::Failure;

/// Longer than any storm: a Clerk that is patient always learns what happened.
const PATIENCE: Duration = Duration::from_secs(10_000);
const REGISTERS: u64 = 3;
const ACCOUNTS: u64 = 4;

/// What became of the appends of one Clerk, which are numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    asked: u64,
    /// Those of which the Clerk could not say whether they were done.
    unknown: BTreeSet<u64>,
}

impl Appended {
    /// Whether so many writes, of which the last is this one, are all that were told of, and none twice.
    pub(crate) fn fits(&self, writes: u64, last: u64) -> bool {
        let known = self.asked - self.unknown.len() as u64;
        let missing = (last + 1..=self.asked).all(|number| self.unknown.contains(&number));
        (known..=self.asked).contains(&writes) && last <= self.asked && missing
    }
}

/// `17 times, of which 2 may not have been`
impl fmt::Display for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times, of which {} may not have been", self.asked, self.unknown.len())
    }
}

/// What a Clerk is busy with.
enum Doing {
    Append(u64),
    Register { op: OpId, wants: &'static str },
    ReadAccounts { asked: Time },
    Transfer { asked: Time, between: Between },
    GrantLease,
    Other,
}

/// The work of all Clerks.
pub(crate) struct Work {
    random: Random,
    doing: BTreeMap<Who, Doing>,
    next_ask: u64,
    next_value: u64,
    /// How often each Clerk's own key was written.
    pub(crate) appended: BTreeMap<Who, Appended>,
    pub(crate) history: History<Input, Output>,
    /// What was seen of the accounts.
    pub(crate) accounts: Accounts,
    /// The newest revision anybody was told of.
    newest: i64,
    /// A planted bug: registers are read from wherever they are asked.
    pub(crate) serializable: bool,
    /// Client ids are given up after a short silence: then a call may come to nothing that anybody knows.
    pub(crate) clients_expire: bool,
    /// Answers so far.
    pub(crate) answered: u64,
}

/// The key to which a Clerk alone appends.
pub(crate) fn log_key(who: Who) -> String {
    format!("log/{who}")
}

impl Work {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            random,
            doing: BTreeMap::new(),
            next_ask: 0,
            next_value: 0,
            appended: BTreeMap::new(),
            history: History::new(),
            accounts: Accounts::default(),
            newest: 1,
            serializable: false,
            clients_expire: false,
            answered: 0,
        }
    }

    /// Gives idle Clerks something to do.
    pub(crate) fn begin(&mut self, now: Time, clients: &mut Clients) {
        for who in 0..clients.count() {
            if !self.doing.contains_key(&who) && self.random.chance_ppm(300_000) {
                let (doing, request) = self.draw(now, who);
                self.ask(now, who, doing, request, clients);
            }
        }
    }

    fn ask(&mut self, now: Time, who: Who, doing: Doing, request: Request, clients: &mut Clients) {
        self.next_ask += 1;
        self.doing.insert(who, doing);
        clients.ask(now, who, Ask { id: AskId(self.next_ask), request, patience: PATIENCE });
    }

    fn draw(&mut self, now: Time, who: Who) -> (Doing, Request) {
        match self.random.below(100) {
            0..35 => {
                let appended = self.appended.entry(who).or_default();
                appended.asked += 1;
                let number = appended.asked;
                (Doing::Append(number), put(&log_key(who), &number.to_string(), 0))
            }
            35..65 => self.draw_register(now, who),
            65..85 => (Doing::ReadAccounts { asked: now }, range("account/")),
            85..92 => {
                (Doing::GrantLease, Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 3, id: 0 }))
            }
            92..96 => {
                let revision = self.newest - self.random.below(40) as i64;
                (
                    Doing::Other,
                    Request::Compact(pb::CompactionRequest {
                        revision: revision.max(1),
                        physical: false,
                    }),
                )
            }
            _ => (Doing::Other, Request::LeaseLeases(pb::LeaseLeasesRequest {})),
        }
    }

    fn draw_register(&mut self, now: Time, who: Who) -> (Doing, Request) {
        let key = format!("register/{}", self.random.below(REGISTERS));
        self.next_value += 1;
        let new = self.next_value.to_string();
        let (wants, op, request) = match self.random.below(10) {
            0..4 => ("value", register::Input::Read, get(&key, self.serializable)),
            4..7 => ("done", register::Input::Write(text(&new)), put(&key, &new, 0)),
            7 => ("done", register::Input::Delete, delete(&key)),
            _ => {
                // One of the last values, which may well be there.
                let old = self.next_value.saturating_sub(1 + self.random.below(6)).to_string();
                let request = swap(&key, &old, &new);
                ("swapped", register::Input::Cas(text(&old), text(&new)), request)
            }
        };
        let op =
            self.history.invoke(ClientId(who as u64), Nanos(now.as_nanos()), Input::new(&key, op));
        (Doing::Register { op, wants }, request)
    }

    /// A Clerk tells what came of its question.
    pub(crate) fn told(
        &mut self,
        now: Time,
        who: Who,
        told: Told,
        clients: &mut Clients,
    ) -> Result<(), Failure> {
        let Some(doing) = self.doing.remove(&who) else { return Ok(()) };
        self.answered += 1;
        let response = match (told.answer, &doing) {
            (Answer::Done(response), _) => *response,
            // Compaction below what is compacted is refused; that is all that may be.
            (Answer::Refused(_), Doing::Other) => return Ok(()),
            // Its client id was given up while the call was on its way.
            (Answer::Unknown, doing) if self.clients_expire => {
                if let Doing::Append(number) = doing {
                    self.appended.entry(who).or_default().unknown.insert(*number);
                }
                return Ok(());
            }
            (answer, _) => {
                let what = format!("clerk {who}, question {}: {answer:?}", told.id.0);
                return Err(Failure::safety("a patient Clerk's calls are done", what));
            }
        };
        self.newest = self.newest.max(revision_of(&response));
        match (doing, response) {
            (Doing::Register { op, wants }, response) => {
                self.history.returned(op, Nanos(now.as_nanos()), output(wants, &response));
            }
            (Doing::ReadAccounts { asked }, Response::Range(read)) => {
                check_accounts(&read.kvs)?;
                let names: Vec<_> = (0..ACCOUNTS).map(account).collect();
                self.accounts.looked(Span { who, asked, told: now }, &names, &read.kvs);
                let (between, request) = self.transfer(&read.kvs);
                self.ask(now, who, Doing::Transfer { asked: now, between }, request, clients);
            }
            (Doing::Transfer { asked, between }, Response::Txn(txn)) if txn.succeeded => {
                let at = txn.header.map_or(0, |header| header.revision);
                self.accounts.transferred(Span { who, asked, told: now }, &between, at);
            }
            (Doing::GrantLease, Response::LeaseGrant(lease)) => {
                let key = format!("leased/{}", lease.id);
                self.ask(now, who, Doing::Other, put(&key, "x", lease.id), clients);
            }
            _ => {}
        }
        Ok(())
    }

    /// Moves money from one account to another, if neither has changed meanwhile.
    fn transfer(&mut self, accounts: &[KeyValue]) -> (Between, Request) {
        let (from, amount) = (self.random.below(ACCOUNTS), self.random.between(1, 100) as i64);
        let to = (from + 1 + self.random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let (mut compare, mut success) = (Vec::new(), Vec::new());
        let between = [(from, -amount), (to, amount)].map(|(number, change)| {
            let key = account(number);
            let known = accounts.iter().find(|kv| kv.key == key.as_bytes());
            let revision = known.map_or(0, |kv| kv.mod_revision);
            compare.push(pb::Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone().into(),
                target_union: Some(TargetUnion::ModRevision(revision)),
                ..Default::default()
            });
            success.push(put_op(&key, &(known.map_or(0, money) + change).to_string()));
            (key, revision)
        });
        (between, Request::Txn(pb::TxnRequest { compare, success, failure: Vec::new() }))
    }
}

fn account(number: u64) -> String {
    format!("account/{number}")
}

/// Money is only moved: in each state that anybody sees all of it is there.
fn check_accounts(accounts: &[KeyValue]) -> Result<(), Failure> {
    let sum: i64 = accounts.iter().map(money).sum();
    if sum == 0 {
        return Ok(());
    }
    let what = format!("accounts that sum up to {sum}: {accounts:?}");
    Err(Failure::safety("transactions are seen whole", what))
}

fn money(account: &KeyValue) -> i64 {
    let text = String::from_utf8_lossy(&account.value);
    text.parse().expect("an account holds a number")
}

fn output(wants: &str, response: &Response) -> Output {
    match response {
        Response::Range(read) => {
            let value = read.kvs.first().map(|kv| text(&String::from_utf8_lossy(&kv.value)));
            Output::Value(value.unwrap_or_default())
        }
        Response::Txn(txn) if wants == "swapped" => Output::Swapped(txn.succeeded),
        _ => Output::Done,
    }
}

fn revision_of(response: &Response) -> i64 {
    let header = match response {
        Response::Range(reply) => reply.header,
        Response::Put(reply) => reply.header,
        Response::Txn(reply) => reply.header,
        Response::DeleteRange(reply) => reply.header,
        _ => None,
    };
    header.map_or(0, |header| header.revision)
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn get(key: &str, serializable: bool) -> Request {
    Request::Range(pb::RangeRequest {
        key: key.to_string().into(),
        serializable,
        ..Default::default()
    })
}

fn range(prefix: &str) -> Request {
    let range_end = prefix_end(prefix.as_bytes()).into();
    Request::Range(pb::RangeRequest {
        key: prefix.to_string().into(),
        range_end,
        ..Default::default()
    })
}

fn put(key: &str, value: &str, lease: i64) -> Request {
    let (key, value) = (key.to_string().into(), value.to_string().into());
    Request::Put(pb::PutRequest { key, value, lease, ..Default::default() })
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    let put = pb::PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..Default::default()
    };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

fn delete(key: &str) -> Request {
    Request::DeleteRange(pb::DeleteRangeRequest {
        key: key.to_string().into(),
        ..Default::default()
    })
}

fn swap(key: &str, old: &str, new: &str) -> Request {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Value.into(),
        key: key.to_string().into(),
        target_union: Some(TargetUnion::Value(old.to_string().into())),
        ..Default::default()
    };
    Request::Txn(pb::TxnRequest {
        compare: vec![compare],
        success: vec![put_op(key, new)],
        failure: Vec::new(),
    })
}
