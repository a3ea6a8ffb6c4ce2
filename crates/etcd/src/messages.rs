//! The messages of etcd's API, compiled from `proto/`.
//!
//! Field names and numbers are the API's, and so is what they mean: the `.proto` files say what is not obvious.

/// Descriptions of all messages and methods, as protobuf describes itself.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Keys, versions, events.
#[expect(missing_docs, reason = "compiled from proto/kv.proto")]
#[allow(clippy::all)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Permissions.
#[expect(missing_docs, reason = "compiled from proto/auth.proto")]
#[allow(clippy::all)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// Leases as they are kept.
#[expect(missing_docs, reason = "compiled from proto/lease.proto")]
#[allow(clippy::all)]
pub mod leasepb {
    include!(concat!(env!("OUT_DIR"), "/leasepb.rs"));
}

/// Requests and replies.
#[expect(missing_docs, reason = "compiled from proto/rpc.proto")]
#[allow(clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Locks kept by the server.
#[expect(missing_docs, reason = "compiled from proto/v3lock.proto")]
#[allow(clippy::all)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// Elections kept by the server.
#[expect(missing_docs, reason = "compiled from proto/v3election.proto")]
#[allow(clippy::all)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The health check of load balancers.
#[expect(missing_docs, reason = "compiled from proto/health.proto")]
#[allow(clippy::all)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
