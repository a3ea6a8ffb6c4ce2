//! Who is who: tokens that were given out, and calls that wait for a password to be hashed or compared.
//!
//! Hashing is slow on purpose, so the driver does it beside the core. A token is known to every server, through the
//! log; after a restart it is forgotten, and the client authenticates again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use quorate_contracts::{ServiceOutput, Time};

use super::call::{CallId, ClientReply, Context};
use super::requests::answer;
use super::{Outputs, Server};
use crate::command::{AuthChange, Body, Caller, Command};
use crate::store::Store;
use crate::{Refusal, messages::etcdserverpb as pb};

/// A token is good for this long after its last use.
const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// Tokens, and calls that wait for the driver's arithmetic.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    tokens: BTreeMap<String, (Caller, Time)>,
    hashing: BTreeMap<CallId, Hashing>,
    /// Calls whose password is being compared, and the auth revision it is compared at.
    checking: BTreeMap<CallId, (String, u64, Time)>,
    /// Calls whose token is on its way through the log.
    issuing: BTreeMap<CallId, String>,
}

#[derive(Debug)]
struct Hashing {
    context: Context,
    change: AuthChange,
    until: Time,
}

impl Passwords {
    pub(super) fn caller(&mut self, now: Time, token: &str) -> Option<Caller> {
        let (caller, until) = self.tokens.get_mut(token).filter(|(_, until)| *until > now)?;
        *until = now + TOKEN_LIFE;
        Some(caller.clone())
    }

    pub(super) fn hashing(
        &mut self,
        call: CallId,
        context: Context,
        change: AuthChange,
        until: Time,
    ) {
        self.hashing.insert(call, Hashing { context, change, until });
    }

    pub(super) fn issued(&mut self, now: Time, token: &str, caller: &Caller) {
        self.tokens.insert(token.to_string(), (caller.clone(), now + TOKEN_LIFE));
    }

    /// The token of a call that authenticated, if it did.
    pub(super) fn take_issued(&mut self, call: CallId) -> Option<String> {
        self.issuing.remove(&call)
    }

    /// Forgets tokens that were not used for long, and gives back the calls whose password took too long: nothing
    /// happened.
    pub(super) fn forget_overdue(&mut self, now: Time) -> Vec<CallId> {
        self.tokens.retain(|_, (_, until)| *until > now);
        let hashing = self.hashing.extract_if(.., |_, hashing| hashing.until <= now);
        let hashing: Vec<CallId> = hashing.map(|(call, _)| call).collect();
        let checking = self.checking.extract_if(.., |_, (_, _, until)| *until <= now);
        hashing.into_iter().chain(checking.map(|(call, _)| call)).collect()
    }
}

impl Server {
    /// A user wants to authenticate, and the state here is as new as that wish.
    pub(super) fn authenticate(
        &mut self,
        now: Time,
        call: CallId,
        request: &pb::AuthenticateRequest,
        store: &Store,
        out: &mut Outputs,
    ) {
        match store.auth().password_hash(&request.name) {
            Err(refusal) => answer(call, Err(refusal), out),
            Ok(hash) => {
                let checked = (request.name.clone(), store.auth().revision(), self.patience(now));
                self.passwords.checking.insert(call, checked);
                let (password, hash) = (request.password.clone(), hash.to_string());
                out.push(ServiceOutput::Reply(ClientReply::CheckPassword { call, password, hash }));
            }
        }
    }

    pub(super) fn password_checked(
        &mut self,
        now: Time,
        call: CallId,
        right: bool,
        secret: [u8; 16],
        store: &Store,
        out: &mut Outputs,
    ) {
        let Some((user, revision, _)) = self.passwords.checking.remove(&call) else { return };
        if !right {
            return answer(call, Err(Refusal::AuthFailed), out);
        }
        if revision != store.auth().revision() {
            return answer(call, Err(Refusal::AuthOldRevision), out);
        }
        let token = secret.iter().fold(String::new(), |mut token, byte| {
            let _ = write!(token, "{byte:02x}");
            token
        });
        self.passwords.issuing.insert(call, token.clone());
        let command = Command::of_server(Body::IssueToken { user, token });
        if let Err(refusal) = self.propose_call(now, call, command, store, out) {
            answer(call, Err(refusal), out);
        }
    }

    pub(super) fn password_hashed(
        &mut self,
        now: Time,
        call: CallId,
        hash: String,
        store: &Store,
        out: &mut Outputs,
    ) {
        let Some(Hashing { context, mut change, .. }) = self.passwords.hashing.remove(&call) else {
            return;
        };
        match &mut change {
            AuthChange::UserAdd(user) => {
                user.password.clear();
                user.hashed_password = hash;
            }
            AuthChange::UserChangePassword(user) => {
                user.password.clear();
                user.hashed_password = hash;
            }
            _ => {}
        }
        let proposed = self.caller(now, &context, store).and_then(|caller| {
            let command = Command { tag: context.tag, caller, body: Body::Auth(change) };
            self.propose_call(now, call, command, store, out)
        });
        if let Err(refusal) = proposed {
            answer(call, Err(refusal), out);
        }
    }
}
