//! Failures of the runtime as rows of the error table.

use mesh_daemon_core::identity::{NodeId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{Executed, RuntimeError};
use mesh_daemon_core::wire::events::Thrown;
use mesh_daemon_core::wire::migration::FailureReason;

use crate::error::{Cause, ErrorCode, Failure, Field};

impl From<Thrown> for Cause {
    fn from(thrown: Thrown) -> Self {
        Self { name: thrown.name, message: thrown.message, stack: thrown.stack }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let message = error.to_string();
        let plain = |code| Self::new(code, &message);
        match error {
            RuntimeError::NotReady => plain(ErrorCode::DaemonNotReady),
            RuntimeError::ShuttingDown | RuntimeError::Stopped(_) | RuntimeError::Draining => {
                plain(ErrorCode::DaemonShuttingDown)
            }
            RuntimeError::FactoryAlreadyRegistered(_) => plain(ErrorCode::DaemonFactoryAlreadyRegistered),
            RuntimeError::FactoryNotFound(_) => plain(ErrorCode::DaemonFactoryNotFound),
            RuntimeError::AlreadyRegistered(_) | RuntimeError::HostSilent { .. } => {
                plain(ErrorCode::DaemonAlreadyRegistered)
            }
            RuntimeError::NotFound(_) => plain(ErrorCode::DaemonNotFound),
            RuntimeError::SnapshotIdentityMismatch { .. } => plain(ErrorCode::DaemonSnapshotIdentityMismatch),
            RuntimeError::SnapshotInvalid(_) => plain(ErrorCode::DaemonSnapshotInvalid),
            RuntimeError::ProcessFailed(thrown) => plain(ErrorCode::DaemonProcessFailed).caused_by(thrown.into()),
            RuntimeError::InvalidOutput(_) => plain(ErrorCode::DaemonInvalidOutput),
            RuntimeError::RestoreFailed(thrown) => plain(ErrorCode::DaemonRestoreFailed).caused_by(thrown.into()),
            RuntimeError::ConstructFailed(thrown) => plain(ErrorCode::DaemonFactoryFailed).caused_by(thrown.into()),
            RuntimeError::SnapshotFailed(thrown) => plain(ErrorCode::DaemonSnapshotFailed).caused_by(thrown.into()),
            RuntimeError::CallbackTimeout(_) | RuntimeError::RemoteTimeout(_) => {
                plain(ErrorCode::DaemonCallbackTimeout)
            }
            RuntimeError::HostFailed(_) => plain(ErrorCode::DaemonProcessFailed),
            RuntimeError::CallTimeout(_) => plain(ErrorCode::DaemonCallTimeout),
            RuntimeError::MailboxFull(_) => plain(ErrorCode::DaemonMailboxFull),
            RuntimeError::Backpressure(_) => plain(ErrorCode::Backpressure),
            RuntimeError::MovedTooOften { executed, waited, .. } => {
                let message = format!("the deadline of {} ms passed", waited.as_millis());
                plain(ErrorCode::DaemonMovedTooOften).with("executed", executed_field(executed)).caused_by(Cause {
                    name: "TimeoutError".into(),
                    message,
                    stack: None,
                })
            }
            RuntimeError::PeerLost { executed, .. } => {
                plain(ErrorCode::DaemonPeerLost).with("executed", executed_field(executed))
            }
            RuntimeError::ShutDownMeanwhile { executed } | RuntimeError::StoppedMeanwhile { executed, .. } => {
                plain(ErrorCode::DaemonShuttingDown).with("executed", executed_field(executed))
            }
            RuntimeError::PayloadTooLarge { .. } | RuntimeError::OutputTooLarge(_) => {
                plain(ErrorCode::DaemonPayloadTooLarge)
            }
            RuntimeError::RuntimeExists => plain(ErrorCode::DaemonRuntimeExists),
            RuntimeError::InvalidArgument(_) => plain(ErrorCode::DaemonInvalidArgument),
            RuntimeError::Channel(error) => Self::from(error),
            RuntimeError::Migration(failure) => of_migration(failure, None),
            RuntimeError::TargetUnavailable(node) => plain(ErrorCode::MigrationTargetUnavailable)
                .with("nodeId", Field::U64(node.get()))
                .with("outcome", outcome(Outcome::Source)),
        }
    }
}

/// The failure of a migration of this daemon.
pub(super) fn of_migration(failure: MigrationFailure, origin: Option<OriginHash>) -> Failure {
    let place = outcome(failure.outcome());
    let message = failure.to_string();
    let plain = |code| Failure::new(code, &message).with("outcome", place.clone());
    let about = |failure: Failure| match origin {
        Some(origin) => failure.with("originHash", Field::U64(origin.get())),
        None => failure,
    };
    match failure {
        MigrationFailure::NotReadyTimeout { attempts } => {
            plain(ErrorCode::MigrationNotReadyTimeout).with("attempts", Field::U32(attempts))
        }
        MigrationFailure::TargetUnavailable(node) => at_node(plain(ErrorCode::MigrationTargetUnavailable), Some(node)),
        MigrationFailure::NotAuthorized { by } => at_node(plain(ErrorCode::MigrationNotAuthorized), Some(by)),
        MigrationFailure::WrongPeer { by } => at_node(plain(ErrorCode::MigrationWrongPeer), Some(by)),
        MigrationFailure::NoTargetAvailable => plain(ErrorCode::MigrationNoTargetAvailable),
        MigrationFailure::DaemonNotFound(origin) => {
            plain(ErrorCode::MigrationDaemonNotFound).with("originHash", Field::U64(origin.get()))
        }
        MigrationFailure::Refused(reason, _) => match reason {
            FailureReason::NotReady => plain(ErrorCode::MigrationNotReady),
            FailureReason::FactoryNotFound { .. } => about(plain(ErrorCode::MigrationFactoryNotFound)),
            FailureReason::ComputeNotSupported => plain(ErrorCode::MigrationComputeNotSupported),
            FailureReason::StateFailed { detail } => {
                plain(ErrorCode::MigrationStateFailed).with("detail", Field::Text(detail))
            }
            FailureReason::AlreadyMigrating => about(plain(ErrorCode::MigrationAlreadyMigrating)),
            FailureReason::IdentityTransportFailed { detail } => {
                plain(ErrorCode::MigrationIdentityTransportFailed).with("detail", Field::Text(detail))
            }
            FailureReason::NotAuthorized => plain(ErrorCode::MigrationNotAuthorized),
            FailureReason::WrongPeer => plain(ErrorCode::MigrationWrongPeer),
            FailureReason::SnapshotTooLarge { size, max } => {
                plain(ErrorCode::MigrationSnapshotTooLarge).with("size", Field::U64(size)).with("max", Field::U64(max))
            }
            FailureReason::BufferFull => plain(ErrorCode::MigrationBufferFull),
            FailureReason::Cancelled => plain(ErrorCode::MigrationCancelled),
            FailureReason::Timeout { detail } => plain(ErrorCode::MigrationTimeout).with("detail", Field::Text(detail)),
            FailureReason::PeerLost { node, .. } => at_node(plain(ErrorCode::MigrationPeerLost), node),
            FailureReason::TargetUnavailable => plain(ErrorCode::MigrationTargetUnavailable),
            FailureReason::DaemonNotFound => about(plain(ErrorCode::MigrationDaemonNotFound)),
            FailureReason::WrongPhase { expected, got } => plain(ErrorCode::MigrationWrongPhase)
                .with("detail", Field::Text(format!("expected {expected}, got {got}"))),
        },
    }
}

fn at_node(failure: Failure, node: Option<NodeId>) -> Failure {
    match node {
        Some(node) => failure.with("nodeId", Field::U64(node.get())),
        None => failure,
    }
}

fn outcome(outcome: Outcome) -> Field {
    Field::Text(outcome_name(outcome).into())
}

/// The outcome as JavaScript names it.
pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Source => "source",
        Outcome::Target => "target",
        Outcome::Unknown => "unknown",
        Outcome::Lost => "lost",
    }
}

fn executed_field(executed: Executed) -> Field {
    let executed = match executed {
        Executed::No => "no",
        Executed::Unknown => "unknown",
    };
    Field::Text(executed.into())
}
