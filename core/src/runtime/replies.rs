//! Failures of events: as they are kept for a sender, and as a caller sees them.

use std::time::Duration;

use super::error::{Executed, RuntimeError};
use crate::events::KeptReply;
use crate::identity::OriginHash;
use crate::wire::events::{Failure, FailureKind, Thrown};
use crate::wire::migration::truncate;

/// What is said of a call that was given up in time.
pub(super) const NOT_BEGUN: &str = "withdrawn before it began";

/// A failure without a cause.
pub(super) fn failure(kind: FailureKind, message: &str) -> Failure {
    let mut message = message.to_owned();
    truncate(&mut message);
    Failure { kind, message, cause: None }
}

/// A reply that says so.
pub(super) fn failed(number: u64, kind: FailureKind, message: &str) -> KeptReply {
    KeptReply { number, result: Err(failure(kind, message)) }
}

/// What the failure is to the one who called.
pub(super) fn thrown_as_error(failure: Failure, timeout: Duration, origin: OriginHash) -> RuntimeError {
    let Failure { kind, message, cause } = failure;
    match kind {
        FailureKind::ProcessFailed => {
            RuntimeError::ProcessFailed(cause.unwrap_or(Thrown { name: "Error".into(), message, stack: None }))
        }
        FailureKind::InvalidOutput => RuntimeError::InvalidOutput(message),
        FailureKind::CallbackTimeout if timeout.is_zero() => RuntimeError::RemoteTimeout(message),
        FailureKind::CallbackTimeout => RuntimeError::CallbackTimeout(timeout),
        FailureKind::NotFound => RuntimeError::NotFound(origin),
        FailureKind::ShuttingDown => RuntimeError::StoppedMeanwhile { origin, executed: Executed::No },
        FailureKind::Interrupted => RuntimeError::StoppedMeanwhile { origin, executed: Executed::Unknown },
        FailureKind::Withdrawn => RuntimeError::PeerLost { origin, executed: Executed::No },
        FailureKind::PayloadTooLarge => RuntimeError::OutputTooLarge(message),
        FailureKind::HostFailed => RuntimeError::HostFailed(message),
    }
}

/// A remote failure: its texts come from the host.
pub(super) fn remote_as_error(failure: Failure, origin: OriginHash) -> RuntimeError {
    thrown_as_error(failure, Duration::ZERO, origin)
}
