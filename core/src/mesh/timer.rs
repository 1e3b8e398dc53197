//! Time for a machine that sits on a node: it is called at its deadlines.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::MeshNode;

/// A machine with deadlines, and what drives it.
pub(crate) trait Timed: Send + Sync + 'static {
    /// When it is to be called.
    fn next_deadline(&self) -> Option<Instant>;

    /// That time has come.
    fn on_deadline(&self);
}

/// Calls one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timer {
    sooner: Arc<Notify>,
    stopped: CancellationToken,
}

impl Timer {
    /// Calls a machine from now on, until it is gone or [`stop`](Self::stop) was called. Holds it only while it works: whoever owns
    /// it ends it.
    pub(crate) fn drive<T: Timed>(&self, mesh: &MeshNode, machine: &Arc<T>) {
        let (timer, machine) = (self.clone(), Arc::downgrade(machine));
        mesh.tasks().spawn(async move { timer.run(machine).await });
    }

    /// The next deadline is earlier than it was.
    pub(crate) fn sooner(&self) {
        self.sooner.notify_one();
    }

    /// Calls it no more; false when that was so before.
    pub(crate) fn stop(&self) -> bool {
        let runs = !self.is_stopped();
        self.stopped.cancel();
        runs
    }

    /// Whether [`stop`](Self::stop) was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Resolves when [`stop`](Self::stop) was called.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    async fn run<T: Timed>(self, machine: Weak<T>) {
        loop {
            let Some(deadline) = machine.upgrade().map(|machine| machine.next_deadline()) else { return };
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stopped.cancelled() => return,
                () = self.sooner.notified() => {}
                () = due => {
                    if let Some(machine) = machine.upgrade() {
                        machine.on_deadline();
                    }
                }
            }
        }
    }
}

/// The wall clock: since 1970.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
