//! What reaches the loop of a node, and where it waits until the next round. Everything but the disk's
//! completions comes from tasks of the loop's own thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{EntryId, GroupId, NodeId};
use quorate_raft::TransferOutcome;
use quorate_roster::{Roster, RosterVersion, Standing};
use quorate_storage::Completion;
use tokio::sync::{Notify, oneshot};

use crate::admin::NodeStatus;
use crate::members::Line;
use crate::registry::Progress;

/// What reaches the loop.
pub(crate) enum Incoming {
    /// Clients of a group have asked something: it waits behind the group's [`Door`].
    Requests(GroupId),
    /// A member's message, as bytes: the group that it is for knows how to read it.
    Message { line: Rc<Line>, group: GroupId, body: Bytes },
    /// A member's connection was lost.
    MemberLost(NodeId),
    /// Somebody wants to look into a group's state.
    Look(GroupId, crate::dashboard::Looking),
    /// Somebody wants a snapshot of a group's state as it is now, and to hear which file it is.
    TakeSnapshot(GroupId, oneshot::Sender<EntryId>),
    /// Somebody wants that member to lead the group instead of this one.
    Lead { group: GroupId, to: NodeId, answer: oneshot::Sender<TransferOutcome> },
    /// There is another list of members.
    Roster(Roster),
    /// The list of members, as it is now everywhere.
    Confirmed(Roster),
    /// Somebody wants to hear how far all groups have come with a list of members: once they are so far, or after a while.
    Progress {
        version: Option<RosterVersion>,
        far: Standing,
        patience: Duration,
        answer: oneshot::Sender<Progress>,
    },
    /// Somebody asks how this node is.
    Status(oneshot::Sender<NodeStatus>),
}

/// Where the socket tasks put what arrives.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: Rc<RefCell<VecDeque<Incoming>>>,
    bell: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self { queue: Rc::default(), bell }
    }

    pub(crate) fn push(&self, incoming: Incoming) {
        self.queue.borrow_mut().push_back(incoming);
        self.bell.notify_one();
    }

    pub(crate) fn take(&self) -> VecDeque<Incoming> {
        std::mem::take(&mut *self.queue.borrow_mut())
    }
}

/// Where one group's clients leave their requests, typed as the group's service reads them. The inbox
/// hears of the first one only: the group then takes all that wait.
pub(crate) struct Door<R> {
    group: GroupId,
    requests: Rc<RefCell<VecDeque<R>>>,
    inbox: Inbox,
}

impl<R> Clone for Door<R> {
    fn clone(&self) -> Self {
        Self { group: self.group, requests: self.requests.clone(), inbox: self.inbox.clone() }
    }
}

impl<R> Door<R> {
    pub(crate) fn new(group: GroupId, inbox: Inbox) -> Self {
        Self { group, requests: Rc::default(), inbox }
    }

    pub(crate) fn push(&self, request: R) {
        let mut requests = self.requests.borrow_mut();
        requests.push_back(request);
        if requests.len() == 1 {
            self.inbox.push(Incoming::Requests(self.group));
        }
    }

    pub(crate) fn take(&self) -> VecDeque<R> {
        std::mem::take(&mut *self.requests.borrow_mut())
    }
}

/// Where the disk's threads put what is done.
#[derive(Clone)]
pub(crate) struct Completions {
    done: Arc<Mutex<Vec<Completion>>>,
    bell: Arc<Notify>,
}

impl Completions {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self { done: Arc::default(), bell }
    }

    pub(crate) fn push(&self, completion: Completion) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        self.bell.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
