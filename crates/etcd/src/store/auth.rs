//! Users, roles and permissions.
//!
//! Passwords are hashed before they get here. A change counts up the auth revision: a caller whose token is older than
//! the last change is told so and must authenticate again, so that what is checked is what is in force.

mod records;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use quorate_contracts::{Malformed, WireReader, WireWriter};

use super::mix;
use crate::command::{AuthChange, Caller};
use crate::messages::authpb::Permission;
use crate::messages::authpb::permission::Type;
use crate::{KeyRange, Refusal};

/// The user and the role that may do everything.
pub const ROOT: &str = "root";

/// Who may do what.
#[derive(Debug)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Vec<Permission>>,
    digest: u64,
}

#[derive(Debug, Default)]
struct User {
    /// Empty: no password is right.
    password_hash: String,
    roles: BTreeSet<String>,
}

/// What one wants to do with keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// See them.
    Read,
    /// Change them.
    Write,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            digest: 0,
        }
    }
}

impl Auth {
    /// Whether callers must say who they are.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes of users and roles.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The password hash of a user who may authenticate.
    pub fn password_hash(&self, user: &str) -> Result<&str, Refusal> {
        if !self.enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        let user = self.users.get(user).ok_or(Refusal::AuthFailed)?;
        if user.password_hash.is_empty() {
            Err(Refusal::AuthFailed)
        } else {
            Ok(&user.password_hash)
        }
    }

    /// All users.
    pub fn users(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// All roles.
    pub fn roles(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    /// The roles of a user.
    pub fn roles_of(&self, user: &str) -> Result<Vec<String>, Refusal> {
        let user = self.users.get(user).ok_or(Refusal::UserNotFound)?;
        Ok(user.roles.iter().cloned().collect())
    }

    /// What a role may do.
    pub fn permissions_of(&self, role: &str) -> Result<Vec<Permission>, Refusal> {
        if role == ROOT && self.roles.contains_key(role) {
            let everything = Permission {
                perm_type: Type::Readwrite.into(),
                range_end: vec![0].into(),
                ..Default::default()
            };
            return Ok(vec![everything]);
        }
        self.roles.get(role).cloned().ok_or(Refusal::RoleNotFound)
    }

    /// Whether the caller may see or change all keys of a range.
    pub fn check(
        &self,
        caller: Option<&Caller>,
        range: KeyRange<'_>,
        access: Access,
    ) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        let user = self.user(caller)?;
        if user.roles.contains(ROOT) || self.may(user, range, access) {
            Ok(())
        } else {
            Err(Refusal::PermissionDenied)
        }
    }

    /// Whether the caller may administer.
    pub fn check_admin(&self, caller: Option<&Caller>) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        let user = self.user(caller)?;
        if user.roles.contains(ROOT) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    fn user(&self, caller: Option<&Caller>) -> Result<&User, Refusal> {
        let caller = caller.filter(|caller| !caller.user.is_empty()).ok_or(Refusal::UserEmpty)?;
        if caller.auth_revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        self.users.get(&caller.user).ok_or(Refusal::PermissionDenied)
    }

    /// Whether the permissions of all roles of a user together cover a range.
    fn may(&self, user: &User, range: KeyRange<'_>, access: Access) -> bool {
        let permissions = user.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let mut ranges: Vec<KeyRange<'_>> = permissions
            .filter(|permission| allows(permission.perm_type(), access))
            .map(|permission| KeyRange::of(&permission.key, &permission.range_end))
            .collect();
        ranges.sort();
        covered(&ranges, range)
    }

    pub(super) fn change(
        &mut self,
        caller: Option<&Caller>,
        change: &AuthChange,
    ) -> Result<(), Refusal> {
        if !matches!(change, AuthChange::Enable(_)) {
            self.check_admin(caller)?;
        }
        let changed = self.perform(change)?;
        if changed {
            self.revision += 1;
            self.digest_anew();
        }
        Ok(())
    }

    /// Whether anything has changed.
    fn perform(&mut self, change: &AuthChange) -> Result<bool, Refusal> {
        match change {
            AuthChange::Enable(_) => self.enable(),
            AuthChange::Disable(_) => Ok(std::mem::replace(&mut self.enabled, false)),
            AuthChange::UserAdd(r) => self.add_user(&r.name, &r.hashed_password),
            AuthChange::UserDelete(r) => self.delete_user(&r.name),
            AuthChange::UserChangePassword(r) => self.change_password(&r.name, &r.hashed_password),
            AuthChange::UserGrantRole(r) => self.grant_role(&r.user, &r.role),
            AuthChange::UserRevokeRole(r) => self.revoke_role(&r.name, &r.role),
            AuthChange::RoleAdd(r) => self.add_role(&r.name),
            AuthChange::RoleDelete(r) => self.delete_role(&r.role),
            AuthChange::RoleGrantPermission(r) => self.grant_permission(&r.name, r.perm.as_ref()),
            AuthChange::RoleRevokePermission(r) => {
                self.revoke_permission(&r.role, &r.key, &r.range_end)
            }
        }
    }

    fn enable(&mut self) -> Result<bool, Refusal> {
        if self.enabled {
            return Ok(false);
        }
        let root = self.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
        if !root.roles.contains(ROOT) {
            return Err(Refusal::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(true)
    }

    fn add_user(&mut self, name: &str, password_hash: &str) -> Result<bool, Refusal> {
        if name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refusal::UserAlreadyExists);
        }
        let user = User { password_hash: password_hash.to_string(), ..User::default() };
        self.users.insert(name.to_string(), user);
        Ok(true)
    }

    fn delete_user(&mut self, name: &str) -> Result<bool, Refusal> {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.users.remove(name).map(|_| true).ok_or(Refusal::UserNotFound)
    }

    fn change_password(&mut self, name: &str, password_hash: &str) -> Result<bool, Refusal> {
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        user.password_hash = password_hash.to_string();
        Ok(true)
    }

    fn grant_role(&mut self, user: &str, role: &str) -> Result<bool, Refusal> {
        let user = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(Refusal::RoleNotFound);
        }
        Ok(user.roles.insert(role.to_string()))
    }

    fn revoke_role(&mut self, name: &str, role: &str) -> Result<bool, Refusal> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        if user.roles.remove(role) { Ok(true) } else { Err(Refusal::RoleNotGranted) }
    }

    fn add_role(&mut self, name: &str) -> Result<bool, Refusal> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refusal::RoleAlreadyExists);
        }
        self.roles.insert(name.to_string(), Vec::new());
        Ok(true)
    }

    fn delete_role(&mut self, name: &str) -> Result<bool, Refusal> {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        Ok(true)
    }

    fn grant_permission(
        &mut self,
        role: &str,
        permission: Option<&Permission>,
    ) -> Result<bool, Refusal> {
        let permission = permission.ok_or(Refusal::PermissionNotGiven)?;
        let permissions = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
        let same =
            |p: &&mut Permission| p.key == permission.key && p.range_end == permission.range_end;
        match permissions.iter_mut().find(same) {
            Some(known) => known.perm_type = permission.perm_type,
            None => permissions.push(permission.clone()),
        }
        permissions.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
        Ok(true)
    }

    fn revoke_permission(
        &mut self,
        role: &str,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<bool, Refusal> {
        let permissions = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
        let before = permissions.len();
        permissions.retain(|p| p.key != key || p.range_end != range_end);
        if permissions.len() < before { Ok(true) } else { Err(Refusal::PermissionNotGranted) }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Nothing has changed yet at revision 1.
    fn digest_anew(&mut self) {
        if self.revision > 1 {
            self.digest = mix(u64::from(crc32c::crc32c(&self.to_bytes())));
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = WireWriter::default();
        self.encode(&mut out);
        out.finish().to_vec()
    }

    pub(super) fn encode(&self, out: &mut WireWriter) {
        out.bool(self.enabled);
        out.u64(self.revision);
        out.u32(self.users.len() as u32);
        for (name, user) in &self.users {
            out.bytes(name.as_bytes());
            out.bytes(user.password_hash.as_bytes());
            out.u32(user.roles.len() as u32);
            user.roles.iter().for_each(|role| out.bytes(role.as_bytes()));
        }
        out.u32(self.roles.len() as u32);
        for (name, permissions) in &self.roles {
            out.bytes(name.as_bytes());
            out.u32(permissions.len() as u32);
            permissions.iter().for_each(|permission| out.bytes(&permission.encode_to_vec()));
        }
    }

    pub(super) fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        let mut auth = Self { enabled: input.bool()?, revision: input.u64()?, ..Self::default() };
        for _ in 0..input.count(12)? {
            let name = input.str()?.to_string();
            let password_hash = input.str()?.to_string();
            let roles = (0..input.count(4)?)
                .map(|_| input.str().map(str::to_string))
                .collect::<Result<_, _>>()?;
            auth.users.insert(name, User { password_hash, roles });
        }
        for _ in 0..input.count(8)? {
            let name = input.str()?.to_string();
            let permissions =
                (0..input.count(4)?).map(|_| decode_permission(input)).collect::<Result<_, _>>()?;
            auth.roles.insert(name, permissions);
        }
        auth.digest_anew();
        Ok(auth)
    }
}

fn decode_permission(input: &mut WireReader<'_>) -> Result<Permission, Malformed> {
    Permission::decode(input.bytes()?).map_err(|_| Malformed("a permission that is not protobuf"))
}

fn allows(kind: Type, access: Access) -> bool {
    match access {
        Access::Read => kind != Type::Write,
        Access::Write => kind != Type::Read,
    }
}

/// Whether ranges, in order of their starts, together cover another one.
fn covered(ranges: &[KeyRange<'_>], wanted: KeyRange<'_>) -> bool {
    if ranges.iter().any(|range| range.covers(&wanted)) {
        return true;
    }
    // Ranges that touch are joined from the left; what is behind the last key of one begins the next part to be covered.
    let mut start = wanted.start.to_vec();
    for range in ranges.iter().filter(|range| range.end != crate::RangeEnd::Single) {
        let rest = KeyRange { start: &start, end: wanted.end };
        if range.covers(&rest) {
            return true;
        }
        if let (true, crate::RangeEnd::Before(end)) = (range.start <= &start[..], range.end)
            && end > &start[..]
        {
            start = end.to_vec();
        }
    }
    false
}
