//! What was asked of publishers and is not answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::subscriptions::Request;
use crate::channel::RequestId;
use crate::daemon::{DaemonKey, Ticket};

/// Open requests, also by the daemon that they are for.
#[derive(Default)]
pub(super) struct Requests {
    open: HashMap<RequestId, Request>,
    of_daemons: BTreeMap<DaemonKey, BTreeSet<RequestId>>,
}

impl Requests {
    pub(super) fn insert(&mut self, id: RequestId, request: Request) {
        if let Some(daemon) = request.daemon() {
            self.of_daemons.entry(daemon).or_default().insert(id);
        }
        self.open.insert(id, request);
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.open.remove(&id)?;
        if let Some(daemon) = request.daemon()
            && let Some(its) = self.of_daemons.get_mut(&daemon)
        {
            its.remove(&id);
            if its.is_empty() {
                self.of_daemons.remove(&daemon);
            }
        }
        Some(request)
    }

    /// Those for a daemon, in the order in which they were made.
    pub(super) fn of(&self, daemon: DaemonKey) -> impl Iterator<Item = (RequestId, &Request)> {
        let its = self.of_daemons.get(&daemon).into_iter().flatten();
        its.filter_map(|id| Some((*id, self.open.get(id)?)))
    }

    /// Takes out those for a daemon that `which` names.
    pub(super) fn take_of(&mut self, daemon: DaemonKey, which: impl Fn(&Request) -> bool) -> Vec<Request> {
        let ids: Vec<RequestId> = self.of(daemon).filter(|(_, request)| which(request)).map(|(id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out all of them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Request> + use<> {
        std::mem::take(self).open.into_values()
    }

    /// Whether an answer is still to come that somebody waits for with others.
    pub(super) fn is_asked(&self, ticket: Ticket) -> bool {
        self.open.values().any(|request| matches!(request, Request::Leaves(other) if *other == ticket))
    }
}
