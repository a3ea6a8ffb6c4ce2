//! Users: from the first password to a token on every call.

use quorate_contracts::ServiceInput;
use quorate_etcd::Refusal;
use quorate_etcd::command::AuthChange;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{ClientReply, ClientRequest, Context, Request, Response};

use super::house::{House, put};

/// The driver's arithmetic, easier to follow.
fn hash(password: &str) -> String {
    format!("hashed {password}")
}

impl House {
    fn do_arithmetic(&mut self) {
        for reply in std::mem::take(&mut self.replies) {
            match reply {
                ClientReply::HashPassword { call, password } => {
                    let hash = hash(&password);
                    self.step(ServiceInput::Requested(ClientRequest::PasswordHashed {
                        call,
                        hash,
                    }));
                }
                ClientReply::CheckPassword { call, password, hash: known } => {
                    let right = hash(&password) == known;
                    let secret = [7; 16];
                    self.step(ServiceInput::Requested(ClientRequest::PasswordChecked {
                        call,
                        right,
                        secret,
                    }));
                }
                other => self.replies.push(other),
            }
        }
    }

    fn with_token(&mut self, token: Option<&str>, request: Request) -> Result<Response, Refusal> {
        let token = token.map(str::to_string);
        let call = self.ask(Context { token, ..Default::default() }, request);
        self.do_arithmetic();
        self.answer(call).expect("it is answered")
    }

    fn authenticate(&mut self, name: &str, password: &str) -> Result<String, Refusal> {
        let (name, password) = (name.to_string(), password.to_string());
        match self
            .with_token(None, Request::Authenticate(pb::AuthenticateRequest { name, password }))?
        {
            Response::Authenticate(reply) => Ok(reply.token),
            other => panic!("{other:?}"),
        }
    }
}

fn add_root() -> Request {
    let user = pb::AuthUserAddRequest {
        name: "root".into(),
        password: "secret".into(),
        ..Default::default()
    };
    Request::AuthChange(AuthChange::UserAdd(user))
}

#[test]
fn a_user_authenticates_and_is_known_by_a_token() {
    let mut house = House::new();
    assert_eq!(house.authenticate("root", "secret"), Err(Refusal::AuthNotEnabled));
    house.with_token(None, add_root()).expect("the user is new");
    let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    house
        .with_token(None, Request::AuthChange(AuthChange::UserGrantRole(grant)))
        .expect("root has its role");
    let enable = Request::AuthChange(AuthChange::Enable(pb::AuthEnableRequest {}));
    house.with_token(None, enable).expect("there is a root");

    assert_eq!(house.with_token(None, Request::Put(put("a", "1"))), Err(Refusal::UserEmpty));
    assert_eq!(
        house.with_token(Some("guessed"), Request::Put(put("a", "1"))),
        Err(Refusal::InvalidAuthToken)
    );
    assert_eq!(house.authenticate("root", "wrong"), Err(Refusal::AuthFailed));
    assert_eq!(house.authenticate("nobody", "secret"), Err(Refusal::AuthFailed));
    let token = house.authenticate("root", "secret").expect("that is the password");
    house.with_token(Some(&token), Request::Put(put("a", "1"))).expect("root may");

    // A change of users makes every token old.
    let bob =
        pb::AuthUserAddRequest { name: "bob".into(), password: "x".into(), ..Default::default() };
    house
        .with_token(Some(&token), Request::AuthChange(AuthChange::UserAdd(bob)))
        .expect("root may");
    assert_eq!(
        house.with_token(Some(&token), Request::Put(put("a", "2"))),
        Err(Refusal::AuthOldRevision)
    );
    house.pass(std::time::Duration::from_secs(301));
    assert_eq!(
        house.with_token(Some(&token), Request::Put(put("a", "2"))),
        Err(Refusal::InvalidAuthToken)
    );
}
