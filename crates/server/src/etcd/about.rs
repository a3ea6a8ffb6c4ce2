//! What the API tells of this member and how it is, and how it hands over leadership.

use std::path::PathBuf;
use std::time::Duration;

use quorate_contracts::{GroupId, NodeId};
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::health::HealthCheckResponse;
use quorate_etcd::messages::health::health_check_response::ServingStatus;
use quorate_etcd::server::{Context, Request};
use quorate_etcd::{Code, Refusal};
use quorate_raft::TransferOutcome;
use tokio::sync::oneshot;

use super::ETCD_VERSION;
use super::cluster::Schemes;
use super::listen::Api;
use crate::admin::{GroupStatus, NodeStatus};
use crate::calls;
use crate::config::ServeConfig;
use crate::data_dir::DataDir;
use crate::inbox::{Inbox, Incoming};
use crate::registry::Enrolment;

/// How long another member may take until it leads.
const LEAD_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// What does not change while the node runs, and the way to the loop, which knows the rest.
pub(crate) struct About {
    pub(super) inbox: Inbox,
    pub(super) cluster_id: u64,
    pub(super) node: NodeId,
    /// The members, and the way to change them.
    pub(super) enrolment: Enrolment,
    pub(super) schemes: Schemes,
    pub(super) request_bytes_max: usize,
    pub(super) quota_bytes: u64,
    /// Host names under which a web page may ask.
    pub(super) names: Vec<String>,
    /// Where the snapshots are.
    pub(super) log: PathBuf,
}

impl About {
    pub(crate) fn new(
        config: &ServeConfig,
        data_dir: &DataDir,
        inbox: Inbox,
        enrolment: Enrolment,
    ) -> Self {
        let scheme = |tls| if tls { "https" } else { "http" };
        let schemes = Schemes {
            peer: scheme(config.member_tls.is_some()),
            client: scheme(config.etcd_tls.is_some() && !config.etcd_also_plain),
        };
        Self {
            inbox,
            cluster_id: data_dir.identity().cluster.0,
            node: NodeId(config.node),
            enrolment,
            schemes,
            request_bytes_max: config.kv_request_bytes_max,
            quota_bytes: config.kv_quota_bytes,
            names: config.admin_names.clone(),
            log: data_dir.log(),
        }
    }

    pub(super) fn header(&self, term: u64, revision: i64) -> Option<pb::ResponseHeader> {
        let (cluster_id, member_id) = (self.cluster_id, self.node.0);
        Some(pb::ResponseHeader { cluster_id, member_id, revision, raft_term: term })
    }
}

impl Api {
    /// How this node is, and its key/value group.
    pub(super) async fn node_status(&self) -> Result<(NodeStatus, GroupStatus), Status> {
        let status = calls::status(&self.about.inbox).await.ok_or(Refusal::Stopped)?;
        let group = status.groups.iter().find(|group| group.name == "kv").cloned();
        let group = group.ok_or(Refusal::Stopped)?;
        Ok((status, group))
    }

    pub(super) async fn status(&self) -> Result<pb::StatusResponse, Status> {
        let (status, group) = self.node_status().await?;
        let mut errors: Vec<String> =
            status.kv.alarms.iter().map(|(member, alarm)| alarm_text(*member, *alarm)).collect();
        if group.leader.is_none() {
            errors.push(Refusal::NoLeader.to_string());
        }
        Ok(pb::StatusResponse {
            header: self.about.header(group.term, status.kv.revision),
            version: ETCD_VERSION.to_string(),
            db_size: status.kv.bytes as i64,
            leader: group.leader.unwrap_or(0),
            raft_index: group.commit,
            raft_term: group.term,
            raft_applied_index: group.applied,
            errors,
            db_size_in_use: status.kv.bytes as i64,
            is_learner: group.role == "learner",
            storage_version: "3.6.0".to_string(),
            db_size_quota: self.about.quota_bytes as i64,
            ..Default::default()
        })
    }

    /// There is nothing to defragment: space that compaction freed is used again at once. The reply has no header, as etcd's.
    pub(super) async fn defragment(
        &self,
        context: &Context,
    ) -> Result<pb::DefragmentResponse, Status> {
        self.check_admin(context).await?;
        Ok(pb::DefragmentResponse::default())
    }

    /// Whether the caller may administer.
    pub(super) async fn check_admin(&self, context: &Context) -> Result<(), Status> {
        self.desk.call(context, Request::Admin).await?;
        Ok(())
    }

    pub(super) async fn move_leader(
        &self,
        context: &Context,
        request: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, Status> {
        self.check_admin(context).await?;
        let (status, group) = self.node_status().await?;
        if group.role != "leader" {
            return Err(Refusal::NotLeader.into());
        }
        let to = NodeId(request.target_id);
        if to != self.about.node {
            self.lead(to).await?;
        }
        let header = self.about.header(group.term, status.kv.revision);
        Ok(pb::MoveLeaderResponse { header })
    }

    async fn lead(&self, to: NodeId) -> Result<(), Status> {
        let (answer, outcome) = oneshot::channel();
        self.about.inbox.push(Incoming::Lead { group: GroupId::KEY_VALUE, to, answer });
        match outcome.await {
            Ok(TransferOutcome::SteppedDown { .. }) => self.wait_until_led_by(to).await,
            Ok(TransferOutcome::NotLeader { .. }) => Err(Refusal::NotLeader.into()),
            Ok(TransferOutcome::NoSuchVoter) => Err(Refusal::BadLeaderTransferee.into()),
            Ok(TransferOutcome::TimedOut { .. } | TransferOutcome::Busy) | Err(_) => {
                Err(Refusal::TimeoutLeaderFailed.into())
            }
        }
    }

    async fn wait_until_led_by(&self, leader: NodeId) -> Result<(), Status> {
        let wait = async {
            while self.node_status().await?.1.leader != Some(leader.0) {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(LEAD_PATIENCE, wait).await;
        waited.unwrap_or(Err(Refusal::TimeoutLeaderFailed.into()))
    }

    /// Load balancers ask for the server as a whole: a node that answers here serves.
    pub(super) fn health(&self, service: &str) -> Result<HealthCheckResponse, Status> {
        if service.is_empty() {
            Ok(HealthCheckResponse { status: ServingStatus::Serving.into() })
        } else {
            Err(Status::new(Code::NotFound, "unknown service"))
        }
    }
}

/// A read that costs little.
pub(super) fn probe() -> pb::RangeRequest {
    let key = bytes::Bytes::from_static(b"health");
    pb::RangeRequest { key, limit: 1, keys_only: true, ..Default::default() }
}

/// As etcd's members print their alarms.
fn alarm_text(member: u64, alarm: i32) -> String {
    let kind = pb::AlarmType::try_from(alarm).unwrap_or(pb::AlarmType::None);
    format!("memberID:{member} alarm:{} ", kind.as_str_name())
}
