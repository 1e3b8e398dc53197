//! Deadlines and limits of migrations.

use std::time::Duration;

/// What holds for every migration that a runtime takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationSettings {
    /// How long a daemon may take to finish what is in flight, and how long a grant may be waited for.
    pub freeze_timeout: Duration,
    /// How long a role that should be at work may be silent.
    pub silence: Duration,
    /// How long a target keeps an undecided copy.
    pub handover_hold: Duration,
    /// Most bytes of arriving states.
    pub arrival_budget: u64,
}

impl Default for MigrationSettings {
    fn default() -> Self {
        Self {
            freeze_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            handover_hold: Duration::from_secs(600),
            arrival_budget: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// What a caller asks of one migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationOptions {
    /// Whether the daemon's key travels, sealed.
    pub transport_identity: bool,
    /// How long a target that is not ready is asked again; zero for not at all.
    pub retry_not_ready: Duration,
}

impl Default for MigrationOptions {
    fn default() -> Self {
        Self { transport_identity: true, retry_not_ready: Duration::from_secs(30) }
    }
}
