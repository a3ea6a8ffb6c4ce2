//! Users and roles as etcd keeps them in its database.

use bytes::Bytes;

use super::{Auth, User};
use crate::messages::authpb::{self, UserAddOptions};

impl Auth {
    /// All users, by name.
    pub(crate) fn user_records(&self) -> impl Iterator<Item = authpb::User> {
        self.users.iter().map(|(name, user)| authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: Bytes::copy_from_slice(user.password_hash.as_bytes()),
            roles: user.roles.iter().cloned().collect(),
            options: Some(UserAddOptions { no_password: user.password_hash.is_empty() }),
        })
    }

    /// All roles, by name.
    pub(crate) fn role_records(&self) -> impl Iterator<Item = authpb::Role> {
        self.roles.iter().map(|(name, permissions)| authpb::Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: permissions.clone(),
        })
    }

    /// Users and roles that were kept so; `None` if a name is no text.
    pub(crate) fn from_records(
        enabled: bool,
        revision: u64,
        users: Vec<authpb::User>,
        roles: Vec<authpb::Role>,
    ) -> Option<Self> {
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).ok();
        let mut auth = Self { enabled, revision, ..Self::default() };
        for user in users {
            let (password_hash, roles) = (text(user.password)?, user.roles.into_iter().collect());
            auth.users.insert(text(user.name)?, User { password_hash, roles });
        }
        for role in roles {
            auth.roles.insert(text(role.name)?, role.key_permission);
        }
        auth.digest_anew();
        Some(auth)
    }
}
