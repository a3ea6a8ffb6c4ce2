//! Answers from the state as it is here.

use quorate_contracts::Time;

use super::call::{CallId, Request, Response};
use super::requests::answer;
use super::{Outputs, Server};
use crate::command::Caller;
use crate::messages::etcdserverpb as pb;
use crate::store::Store;
use crate::{Refusal, Revision};

impl Server {
    pub(super) fn answer_read(
        &mut self,
        now: Time,
        call: CallId,
        caller: Option<&Caller>,
        request: Request,
        store: &Store,
        out: &mut Outputs,
    ) {
        match request {
            Request::Authenticate(request) => self.authenticate(now, call, &request, store, out),
            request => answer(call, self.read(caller, &request, store), out),
        }
    }

    fn read(
        &self,
        caller: Option<&Caller>,
        request: &Request,
        store: &Store,
    ) -> Result<Response, Refusal> {
        let header = Some(self.header(store.revision()));
        let auth = store.auth();
        Ok(match request {
            Request::Range(request) => {
                store.may_range(caller, request)?;
                Response::Range(pb::RangeResponse { header, ..store.range(request)? })
            }
            Request::RangePiece(request, bytes_max) => {
                store.may_range(caller, request)?;
                let piece = store.piece(request, *bytes_max)?;
                Response::RangePiece(pb::RangeResponse { header, ..piece.response }, piece.next)
            }
            Request::RangeBytes(request, keys_max) => {
                store.may_range(caller, request)?;
                let measured = store.measure(request, *keys_max)?;
                Response::RangeBytes(measured.bytes, measured.keys, measured.next)
            }
            Request::Txn(request) => {
                store.may_txn(caller, request)?;
                Response::Txn(pb::TxnResponse { header, ..store.read_txn(request)? })
            }
            Request::LeaseLeases(_) => {
                let leases = store.leases().map(|(id, _)| pb::LeaseStatus { id: id.0 }).collect();
                Response::LeaseLeases(pb::LeaseLeasesResponse { header, leases })
            }
            Request::Alarm(request) => {
                Response::Alarm(pb::AlarmResponse { header, alarms: alarms(request, store) })
            }
            Request::Admin => {
                auth.check_admin(caller)?;
                Response::Done(self.header(store.revision()))
            }
            Request::Hash(_) => {
                auth.check_admin(caller)?;
                let hash = short(store.hash(store.revision())?);
                Response::Hash(pb::HashResponse { header, hash })
            }
            Request::HashKv(request) => {
                auth.check_admin(caller)?;
                Response::HashKv(hash_kv(header, request, store)?)
            }
            Request::AuthStatus(_) => Response::AuthStatus(pb::AuthStatusResponse {
                header,
                enabled: auth.is_enabled(),
                auth_revision: auth.revision(),
            }),
            Request::UserGet(request) => {
                let own = caller.is_some_and(|caller| caller.user == request.name);
                auth.check_admin(caller)
                    .or_else(|refusal| if own { Ok(()) } else { Err(refusal) })?;
                Response::UserGet(pb::AuthUserGetResponse {
                    header,
                    roles: auth.roles_of(&request.name)?,
                })
            }
            Request::UserList(_) => {
                auth.check_admin(caller)?;
                Response::UserList(pb::AuthUserListResponse { header, users: auth.users() })
            }
            Request::RoleGet(request) => {
                let granted = |caller: &Caller| {
                    auth.roles_of(&caller.user).is_ok_and(|roles| roles.contains(&request.role))
                };
                let own = caller.is_some_and(granted);
                auth.check_admin(caller)
                    .or_else(|refusal| if own { Ok(()) } else { Err(refusal) })?;
                Response::RoleGet(pb::AuthRoleGetResponse {
                    header,
                    perm: auth.permissions_of(&request.role)?,
                })
            }
            Request::RoleList(_) => {
                auth.check_admin(caller)?;
                Response::RoleList(pb::AuthRoleListResponse { header, roles: auth.roles() })
            }
            _ => return Err(Refusal::NotSupported),
        })
    }
}

fn alarms(request: &pb::AlarmRequest, store: &Store) -> Vec<pb::AlarmMember> {
    let wanted = request.alarm();
    let raised =
        store.alarms().filter(|(_, alarm)| wanted == pb::AlarmType::None || *alarm == wanted);
    raised.map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm: alarm.into() }).collect()
}

fn hash_kv(
    header: Option<pb::ResponseHeader>,
    request: &pb::HashKvRequest,
    store: &Store,
) -> Result<pb::HashKvResponse, Refusal> {
    let revision = if request.revision > 0 { Revision(request.revision) } else { store.revision() };
    Ok(pb::HashKvResponse {
        header,
        hash: short(store.hash(revision)?),
        compact_revision: store.compacted().0,
        hash_revision: revision.0,
    })
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}
