//! Every error a client can get, with etcd's code and etcd's words: clients compare the words.
//!
//! Golden: `tests/errors.rs`. The numbers are kept in snapshots (a remembered reply may be a refusal), so they never
//! change their meaning.

use std::fmt;

/// A gRPC status code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// The caller ended it.
    Canceled = 1,
    /// Nothing better fits.
    Unknown = 2,
    /// The request can never succeed.
    InvalidArgument = 3,
    /// The caller's time is over: it may or may not have happened.
    DeadlineExceeded = 4,
    /// What was named is not there.
    NotFound = 5,
    /// It was done before.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// Beyond what exists.
    OutOfRange = 11,
    /// Not offered.
    Unimplemented = 12,
    /// What should never happen.
    Internal = 13,
    /// Try again later: it may or may not have happened.
    Unavailable = 14,
    /// Data is damaged.
    DataLoss = 15,
    /// The caller's token is not valid.
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 15] = [
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number; `Unknown` if there is none such here.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|code| *code as u8 == number).unwrap_or(Self::Unknown)
    }
}

macro_rules! refusals {
    ($($number:literal $name:ident $code:ident $text:literal;)*) => {
        /// Why something was not done. Displays as etcd words it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Refusal {
            $(#[doc = $text] $name = $number,)*
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its gRPC status code.
            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)* }
            }

            /// Its words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The refusal with this number.
            pub fn from_u8(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

refusals! {
    1 EmptyKey InvalidArgument "etcdserver: key is not provided";
    2 KeyNotFound InvalidArgument "etcdserver: key not found";
    3 ValueProvided InvalidArgument "etcdserver: value is provided";
    4 LeaseProvided InvalidArgument "etcdserver: lease is provided";
    5 TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    6 DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    7 InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    8 Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    9 FutureRevision OutOfRange "etcdserver: mvcc: required revision is a future revision";
    10 NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    11 LeaseNotFound NotFound "etcdserver: requested lease not found";
    12 LeaseExists FailedPrecondition "etcdserver: lease already exists";
    13 LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL";
    14 WatchCanceled Canceled "etcdserver: watch canceled";
    15 MemberExists FailedPrecondition "etcdserver: member ID already exist";
    16 PeerUrlExists FailedPrecondition "etcdserver: Peer URLs already exists";
    17 MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
    18 MemberBadUrls InvalidArgument "etcdserver: given member URLs are invalid";
    19 MemberNotFound NotFound "etcdserver: member not found";
    20 MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member";
    21 LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    22 TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster";
    23 RequestTooLarge InvalidArgument "etcdserver: request is too large";
    24 TooManyRequests ResourceExhausted "etcdserver: too many requests";
    25 RootUserNotExist FailedPrecondition "etcdserver: root user does not exist";
    26 RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role";
    27 UserAlreadyExists FailedPrecondition "etcdserver: user name already exists";
    28 UserEmpty InvalidArgument "etcdserver: user name is empty";
    29 UserNotFound FailedPrecondition "etcdserver: user name not found";
    30 RoleAlreadyExists FailedPrecondition "etcdserver: role name already exists";
    31 RoleNotFound FailedPrecondition "etcdserver: role name not found";
    32 RoleEmpty InvalidArgument "etcdserver: role name is empty";
    33 AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    34 PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    35 PermissionDenied PermissionDenied "etcdserver: permission denied";
    36 RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user";
    37 PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role";
    38 AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    39 InvalidAuthToken Unauthenticated "etcdserver: invalid auth token";
    40 InvalidAuthManagement InvalidArgument "etcdserver: invalid auth management";
    41 AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old";
    42 NoLeader Unavailable "etcdserver: no leader";
    43 NotLeader FailedPrecondition "etcdserver: not leader";
    44 LeaderChanged Unavailable "etcdserver: leader changed";
    45 Stopped Unavailable "etcdserver: server stopped";
    46 Timeout Unavailable "etcdserver: request timed out";
    47 TimeoutLeaderFailed Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    48 TimeoutConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost";
    49 Unhealthy Unavailable "etcdserver: unhealthy cluster";
    50 Corrupt DataLoss "etcdserver: corrupt cluster";
    51 NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner";
    52 BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee";
    53 NotSupported Unimplemented "etcdserver: not supported by this server";
    // Ours, about exactly-once (KV-4): nothing was done, except for `DoneBefore`.
    100 ClientUnknown FailedPrecondition "quorate: client id is not open or has expired";
    101 ClientExpired FailedPrecondition "quorate: client id has expired and cannot be opened again";
    102 TooManyClients ResourceExhausted "quorate: too many client ids are open";
    103 BeyondWindow FailedPrecondition "quorate: sequence is beyond the client's window";
    104 Acknowledged FailedPrecondition "quorate: sequence was acknowledged before";
    105 DoneBefore AlreadyExists "quorate: done before, and the reply was too large to keep";
    106 BadTag InvalidArgument "quorate: malformed client id or sequence";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}
