//! Per-daemon settings.

use std::time::Duration;

/// Settings of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Take a snapshot every so many events and keep the newest; `None` for never.
    pub auto_snapshot_interval: Option<u64>,
    /// How long the daemon's code may take without any event settling.
    pub callback_timeout: Duration,
    /// Most events that wait.
    pub mailbox_capacity: usize,
    /// Most payload bytes that wait. One event may exceed it when it waits alone.
    pub mailbox_bytes: usize,
    /// Channel on which outputs are published.
    pub output_channel: Option<String>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            auto_snapshot_interval: None,
            callback_timeout: Duration::from_secs(60),
            mailbox_capacity: 4096,
            mailbox_bytes: 16 * 1024 * 1024,
            output_channel: None,
        }
    }
}
