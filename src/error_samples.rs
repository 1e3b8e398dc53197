//! One failure of every kind that the core knows, for a test that holds them to the table of errors.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, Denial};
use mesh_daemon_core::identity::{EntityKeypair, IdentityError, NodeId, OriginHash, TokenError};
use mesh_daemon_core::mesh::{HandshakeFailure, MeshError};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{Executed, RuntimeError};
use mesh_daemon_core::wire::events::Thrown;
use mesh_daemon_core::wire::migration::{FailureReason, Unwelcome};
use mesh_daemon_core::wire::session::Refusal;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;

use crate::error::Failure;

const ORIGIN: OriginHash = OriginHash::new(1);
const NODE: NodeId = NodeId::new(2);

/// The records of all of them.
#[napi(skip_typescript)]
pub fn error_samples(env: &Env) -> napi::Result<Vec<Object<'_>>> {
    let failures = mesh().into_iter().chain(identity()).chain(channel()).chain(runtime()).chain(migration());
    failures.map(|failure| failure.into_record(env)).collect()
}

fn mesh() -> Vec<Failure> {
    let address = || "host:1".to_owned();
    let source = || Arc::new(io::Error::other("the system"));
    let refusals = [Refusal::Duplicate, Refusal::OlderIncarnation, Refusal::Full, Refusal::IdTaken, Refusal::Leaving];
    let handshakes = refusals.map(HandshakeFailure::RefusedThere).into_iter().chain([
        HandshakeFailure::TimedOut,
        HandshakeFailure::Closed,
        HandshakeFailure::Io(source()),
        HandshakeFailure::GivenUp,
    ]);
    let errors = [
        MeshError::InvalidArgument("argument".into()),
        MeshError::AddressInUse { address: address() },
        MeshError::AddressNotFound { address: address(), source: source() },
        MeshError::Unreachable { address: address(), source: source() },
        MeshError::PinMismatch { address: address(), what: "key", got: NODE },
        MeshError::NoRelay { node: NODE },
        MeshError::ShutDown,
    ];
    let handshakes = handshakes.map(|reason| MeshError::HandshakeFailed { address: address(), reason });
    errors.into_iter().chain(handshakes).map(Failure::from).collect()
}

fn identity() -> Vec<Failure> {
    let identity = [
        IdentityError::ReadOnly(EntityKeypair::generate().entity_id()),
        IdentityError::BadSignature,
        IdentityError::InvalidChannelName("empty"),
        IdentityError::InvalidQueueGroup("empty"),
    ];
    let tokens = [
        TokenError::InvalidSignature,
        TokenError::ForgedRevocation,
        TokenError::NotYetValid,
        TokenError::Expired,
        TokenError::DelegationExhausted,
        TokenError::DelegationNotAllowed,
        TokenError::NotAuthorized,
        TokenError::Revoked,
        TokenError::InvalidFormat("short"),
        TokenError::ReadOnly,
        TokenError::ZeroTtl,
        TokenError::TtlTooLong,
    ];
    identity.into_iter().map(Failure::from).chain(tokens.into_iter().map(Failure::from)).collect()
}

fn channel() -> Vec<Failure> {
    let name = || "room".to_owned();
    let errors = [
        ChannelError::InvalidArgument("argument".into()),
        ChannelError::Unknown(name()),
        ChannelError::Unauthorized { channel: name(), why: Denial::NotAuthorized },
        ChannelError::Unauthorized { channel: name(), why: Denial::NotYetValid },
        ChannelError::Unauthorized { channel: name(), why: Denial::Expired },
        ChannelError::Unauthorized { channel: name(), why: Denial::Revoked },
        ChannelError::Revocation(TokenError::ForgedRevocation),
        ChannelError::Throttled(name()),
        ChannelError::RateLimited { channel: name(), max_rate: 1 },
        ChannelError::PayloadTooLarge { size: 2, limit: 1 },
        ChannelError::PeerLost(NODE),
        ChannelError::Left(NODE),
        ChannelError::Unsubscribed(name()),
        ChannelError::Stalled,
        ChannelError::Backpressure("full"),
        ChannelError::NotConnected(NODE),
        ChannelError::ShutDown,
    ];
    errors.into_iter().map(Failure::from).collect()
}

fn runtime() -> Vec<Failure> {
    let kind = || "kind".to_owned();
    let thrown = || Thrown { name: "Error".into(), message: "thrown".into(), stack: None };
    let errors = [
        RuntimeError::NotReady,
        RuntimeError::ShuttingDown,
        RuntimeError::ShutDownMeanwhile { executed: Executed::No },
        RuntimeError::ShutDownMeanwhile { executed: Executed::Unknown },
        RuntimeError::Stopped(ORIGIN),
        RuntimeError::StoppedMeanwhile { origin: ORIGIN, executed: Executed::No },
        RuntimeError::StoppedMeanwhile { origin: ORIGIN, executed: Executed::Unknown },
        RuntimeError::Draining,
        RuntimeError::FactoryAlreadyRegistered(kind()),
        RuntimeError::FactoryNotFound(kind()),
        RuntimeError::AlreadyRegistered(ORIGIN),
        RuntimeError::HostSilent { origin: ORIGIN, host: NODE },
        RuntimeError::NotFound(ORIGIN),
        RuntimeError::SnapshotIdentityMismatch { expected: ORIGIN, got: ORIGIN },
        RuntimeError::SnapshotInvalid("short".into()),
        RuntimeError::ProcessFailed(thrown()),
        RuntimeError::InvalidOutput("text".into()),
        RuntimeError::RestoreFailed(thrown()),
        RuntimeError::ConstructFailed(thrown()),
        RuntimeError::SnapshotFailed(thrown()),
        RuntimeError::CallbackTimeout(Duration::from_millis(5)),
        RuntimeError::RemoteTimeout("late".into()),
        RuntimeError::HostFailed("full".into()),
        RuntimeError::CallTimeout(Duration::from_millis(5)),
        RuntimeError::MailboxFull(ORIGIN),
        RuntimeError::Backpressure(ORIGIN),
        RuntimeError::MovedTooOften { origin: ORIGIN, executed: Executed::Unknown, waited: Duration::from_millis(5) },
        RuntimeError::PeerLost { origin: ORIGIN, executed: Executed::No },
        RuntimeError::PeerLost { origin: ORIGIN, executed: Executed::Unknown },
        RuntimeError::PayloadTooLarge { size: 2, max: 1 },
        RuntimeError::OutputTooLarge("large".into()),
        RuntimeError::RuntimeExists,
        RuntimeError::InvalidArgument("argument".into()),
        RuntimeError::TargetUnavailable(NODE),
    ];
    errors.into_iter().map(Failure::from).collect()
}

fn migration() -> Vec<Failure> {
    let detail = || "detail".to_owned();
    let unwelcome = [
        Unwelcome::NoFactory,
        Unwelcome::NotExpected,
        Unwelcome::ExpectedOtherwise,
        Unwelcome::ByPolicy,
        Unwelcome::NoKind,
    ];
    let reasons = [
        FailureReason::NotReady,
        FailureReason::ComputeNotSupported,
        FailureReason::StateFailed { detail: detail() },
        FailureReason::AlreadyMigrating,
        FailureReason::IdentityTransportFailed { detail: detail() },
        FailureReason::NotAuthorized,
        FailureReason::WrongPeer,
        FailureReason::SnapshotTooLarge { size: 2, max: 1 },
        FailureReason::BufferFull,
        FailureReason::Cancelled,
        FailureReason::Timeout { detail: detail() },
        FailureReason::PeerLost { detail: detail(), node: Some(NODE) },
        FailureReason::DaemonNotFound,
        FailureReason::TargetUnavailable,
        FailureReason::WrongPhase { expected: "restore".into(), got: "cutover".into() },
    ];
    let unwelcome = unwelcome.map(|why| FailureReason::FactoryNotFound { kind: "kind".into(), why });
    let refused = reasons.into_iter().chain(unwelcome).map(|reason| MigrationFailure::Refused(reason, Outcome::Source));
    let others = [
        MigrationFailure::NotReadyTimeout { attempts: 3 },
        MigrationFailure::TargetUnavailable(NODE),
        MigrationFailure::DaemonNotFound(ORIGIN),
        MigrationFailure::NotAuthorized { by: NODE },
        MigrationFailure::WrongPeer { by: NODE },
        MigrationFailure::NoTargetAvailable,
    ];
    refused.chain(others).map(|failure| Failure::from(RuntimeError::Migration(failure))).collect()
}
