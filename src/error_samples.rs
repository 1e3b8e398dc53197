//! One failure of every kind that the core knows, for a test that holds them to the table of errors. A kind without one does
//! not compile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, Denial};
use mesh_daemon_core::identity::{EntityKeypair, IdentityError, NodeId, OriginHash, TokenError};
use mesh_daemon_core::mesh::{HandshakeFailure, MeshError, PeerRefusal};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{Executed, RuntimeError};
use mesh_daemon_core::session::{HandshakeError, SessionError};
use mesh_daemon_core::wire::events::Thrown;
use mesh_daemon_core::wire::migration::{FailureReason, Unwelcome};
use mesh_daemon_core::wire::session::Refusal;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;

use crate::error::Failure;

const ORIGIN: OriginHash = OriginHash::new(1);
const NODE: NodeId = NodeId::new(2);

/// Samples of an enum, for each of its variants: a variant that none of the patterns knows keeps this from being compiled.
macro_rules! samples {
    ($kind:ty { $($pattern:pat => [$($sample:expr),+ $(,)?]),+ $(,)? }) => {{
        let _: fn(&$kind) = |kind| match kind {
            $($pattern => {})+
        };
        let samples: Vec<$kind> = vec![$($({
            let sample = $sample;
            assert!(matches!(sample, $pattern), "{sample:?} is a sample of another variant");
            sample
        }),+),+];
        samples
    }};
}

/// The records of all of them.
#[napi(skip_typescript)]
pub fn error_samples(env: &Env) -> napi::Result<Vec<Object<'_>>> {
    let failures = mesh().into_iter().chain(identity()).chain(channel()).chain(runtime()).chain(migration());
    failures.map(|failure| failure.into_record(env)).collect()
}

fn mesh() -> Vec<Failure> {
    use HandshakeFailure as H;
    use MeshError as M;
    let address = || "host:1".to_owned();
    let source = || Arc::new(io::Error::other("the system"));
    let failed = |reason| M::HandshakeFailed { address: address(), reason };
    let there = samples!(Refusal {
        Refusal::Duplicate => [Refusal::Duplicate],
        Refusal::OlderIncarnation => [Refusal::OlderIncarnation],
        Refusal::Full => [Refusal::Full],
        Refusal::IdTaken => [Refusal::IdTaken],
        Refusal::Leaving => [Refusal::Leaving],
    });
    let handshakes = samples!(H {
        H::TimedOut => [H::TimedOut],
        H::Closed => [H::Closed],
        H::Io(_) => [H::Io(source())],
        H::Handshake(_) => [H::Handshake(HandshakeError::NotAuthentic { ours: 1 })],
        H::Session(_) => [H::Session(SessionError::BadTag)],
        H::RefusedHere(_) => [H::RefusedHere(PeerRefusal::Full)],
        H::RefusedThere(_) => [H::RefusedThere(Refusal::Full)],
        H::GivenUp => [H::GivenUp],
    });
    let errors = samples!(M {
        M::InvalidArgument(_) => [M::InvalidArgument("argument".into())],
        M::AddressInUse { .. } => [M::AddressInUse { address: address() }],
        M::AddressNotFound { .. } => [M::AddressNotFound { address: address(), source: source() }],
        M::Unreachable { .. } => [M::Unreachable { address: address(), source: source() }],
        M::HandshakeFailed { .. } => [failed(H::Closed)],
        M::PinMismatch { .. } => [M::PinMismatch { address: address(), what: "key", got: NODE }],
        M::NoRelay { .. } => [M::NoRelay { node: NODE }],
        M::ShutDown => [M::ShutDown],
    });
    let handshakes = there.into_iter().map(H::RefusedThere).chain(handshakes).map(failed);
    errors.into_iter().chain(handshakes).map(Failure::from).collect()
}

fn identity() -> Vec<Failure> {
    use IdentityError as I;
    use TokenError as T;
    let identity = samples!(I {
        I::ReadOnly(_) => [I::ReadOnly(EntityKeypair::generate().entity_id())],
        I::BadSignature => [I::BadSignature],
        I::InvalidChannelName(_) => [I::InvalidChannelName("empty")],
        I::InvalidQueueGroup(_) => [I::InvalidQueueGroup("empty")],
    });
    let tokens = samples!(T {
        T::InvalidSignature => [T::InvalidSignature],
        T::ForgedRevocation => [T::ForgedRevocation],
        T::NotYetValid => [T::NotYetValid],
        T::Expired => [T::Expired],
        T::DelegationExhausted => [T::DelegationExhausted],
        T::DelegationNotAllowed => [T::DelegationNotAllowed],
        T::NotAuthorized => [T::NotAuthorized],
        T::Revoked => [T::Revoked],
        T::InvalidFormat(_) => [T::InvalidFormat("short")],
        T::ReadOnly => [T::ReadOnly],
        T::ZeroTtl => [T::ZeroTtl],
        T::TtlTooLong => [T::TtlTooLong],
    });
    identity.into_iter().map(Failure::from).chain(tokens.into_iter().map(Failure::from)).collect()
}

fn channel() -> Vec<Failure> {
    use ChannelError as C;
    use Denial as D;
    let name = || "room".to_owned();
    let denied = |why| C::Unauthorized { channel: name(), why };
    let denials = samples!(D {
        D::NotAuthorized => [D::NotAuthorized],
        D::Incapable => [D::Incapable],
        D::NotYetValid => [D::NotYetValid],
        D::Expired => [D::Expired],
        D::Revoked => [D::Revoked],
    });
    let errors = samples!(C {
        C::InvalidArgument(_) => [C::InvalidArgument("argument".into())],
        C::Unknown(_) => [C::Unknown(name())],
        C::Unauthorized { .. } => [denied(D::Expired)],
        C::Throttled(_) => [C::Throttled(name())],
        C::RateLimited { .. } => [C::RateLimited { channel: name(), max_rate: 1 }],
        C::PayloadTooLarge { .. } => [C::PayloadTooLarge { size: 2, limit: 1 }],
        C::PeerLost(_) => [C::PeerLost(NODE)],
        C::Left(_) => [C::Left(NODE)],
        C::Unsubscribed(_) => [C::Unsubscribed(name())],
        C::Moved(_) => [C::Moved(name())],
        C::Stalled => [C::Stalled],
        C::Identity(_) => [C::Identity(IdentityError::ReadOnly(EntityKeypair::generate().entity_id()))],
        C::Backpressure(_) => [C::Backpressure("full")],
        C::NotConnected(_) => [C::NotConnected(NODE)],
        C::Revocation(_) => [C::Revocation(TokenError::ForgedRevocation)],
        C::ShutDown => [C::ShutDown],
    });
    errors.into_iter().chain(denials.into_iter().map(denied)).map(Failure::from).collect()
}

fn runtime() -> Vec<Failure> {
    use RuntimeError as R;
    let kind = || "kind".to_owned();
    let thrown = || Thrown { name: "Error".into(), message: "thrown".into(), stack: None };
    let waited = Duration::from_millis(5);
    let [no, unknown] = [Executed::No, Executed::Unknown];
    let errors = samples!(R {
        R::NotReady => [R::NotReady],
        R::ShuttingDown => [R::ShuttingDown],
        R::ShutDownMeanwhile { .. } => [
            R::ShutDownMeanwhile { executed: no },
            R::ShutDownMeanwhile { executed: unknown },
        ],
        R::Stopped(_) => [R::Stopped(ORIGIN)],
        R::StoppedMeanwhile { .. } => [
            R::StoppedMeanwhile { origin: ORIGIN, executed: no },
            R::StoppedMeanwhile { origin: ORIGIN, executed: unknown },
        ],
        R::Draining => [R::Draining],
        R::FactoryAlreadyRegistered(_) => [R::FactoryAlreadyRegistered(kind())],
        R::FactoryNotFound(_) => [R::FactoryNotFound(kind())],
        R::AlreadyRegistered(_) => [R::AlreadyRegistered(ORIGIN)],
        R::HostSilent { .. } => [R::HostSilent { origin: ORIGIN, host: NODE }],
        R::NotFound(_) => [R::NotFound(ORIGIN)],
        R::SnapshotIdentityMismatch { .. } => [R::SnapshotIdentityMismatch { expected: ORIGIN, got: ORIGIN }],
        R::SnapshotInvalid(_) => [R::SnapshotInvalid("short".into())],
        R::ProcessFailed(_) => [R::ProcessFailed(thrown())],
        R::InvalidOutput(_) => [R::InvalidOutput("text".into())],
        R::RestoreFailed(_) => [R::RestoreFailed(thrown())],
        R::ConstructFailed(_) => [R::ConstructFailed(thrown())],
        R::SnapshotFailed(_) => [R::SnapshotFailed(thrown())],
        R::CallbackTimeout(_) => [R::CallbackTimeout(waited)],
        R::RemoteTimeout(_) => [R::RemoteTimeout("late".into())],
        R::HostFailed(_) => [R::HostFailed("full".into())],
        R::CallTimeout(_) => [R::CallTimeout(waited)],
        R::MailboxFull(_) => [R::MailboxFull(ORIGIN)],
        R::Backpressure(_) => [R::Backpressure(ORIGIN)],
        R::MovedTooOften { .. } => [R::MovedTooOften { origin: ORIGIN, executed: unknown, waited }],
        R::PeerLost { .. } => [
            R::PeerLost { origin: ORIGIN, executed: no },
            R::PeerLost { origin: ORIGIN, executed: unknown },
        ],
        R::PayloadTooLarge { .. } => [R::PayloadTooLarge { size: 2, max: 1 }],
        R::OutputTooLarge(_) => [R::OutputTooLarge("large".into())],
        R::RuntimeExists => [R::RuntimeExists],
        R::InvalidArgument(_) => [R::InvalidArgument("argument".into())],
        R::Channel(_) => [R::Channel(ChannelError::ShutDown)],
        R::Migration(_) => [R::Migration(MigrationFailure::NoTargetAvailable)],
        R::TargetUnavailable(_) => [R::TargetUnavailable(NODE)],
    });
    errors.into_iter().map(Failure::from).collect()
}

fn migration() -> Vec<Failure> {
    use FailureReason as F;
    use MigrationFailure as M;
    use Unwelcome as U;
    let detail = || "detail".to_owned();
    let uninvited = |why| F::FactoryNotFound { kind: "kind".into(), why };
    let unwelcome = samples!(U {
        U::NoFactory => [U::NoFactory],
        U::NotExpected => [U::NotExpected],
        U::ExpectedOtherwise => [U::ExpectedOtherwise],
        U::ByPolicy => [U::ByPolicy],
        U::NoKind => [U::NoKind],
    });
    let reasons = samples!(F {
        F::NotReady => [F::NotReady],
        F::FactoryNotFound { .. } => [uninvited(U::NoFactory)],
        F::ComputeNotSupported => [F::ComputeNotSupported],
        F::StateFailed { .. } => [F::StateFailed { detail: detail() }],
        F::AlreadyMigrating => [F::AlreadyMigrating],
        F::IdentityTransportFailed { .. } => [F::IdentityTransportFailed { detail: detail() }],
        F::NotAuthorized => [F::NotAuthorized],
        F::WrongPeer => [F::WrongPeer],
        F::SnapshotTooLarge { .. } => [F::SnapshotTooLarge { size: 2, max: 1 }],
        F::BufferFull => [F::BufferFull],
        F::Cancelled => [F::Cancelled],
        F::Timeout { .. } => [F::Timeout { detail: detail() }],
        F::PeerLost { .. } => [F::PeerLost { detail: detail(), node: Some(NODE) }],
        F::DaemonNotFound => [F::DaemonNotFound],
        F::TargetUnavailable => [F::TargetUnavailable],
        F::WrongPhase { .. } => [F::WrongPhase { expected: "restore".into(), got: "cutover".into() }],
    });
    let refused = |reason| M::Refused(reason, Outcome::Source);
    let failures = samples!(M {
        M::Refused(..) => [refused(F::Cancelled)],
        M::NotReadyTimeout { .. } => [M::NotReadyTimeout { attempts: 3 }],
        M::TargetUnavailable(_) => [M::TargetUnavailable(NODE)],
        M::DaemonNotFound(_) => [M::DaemonNotFound(ORIGIN)],
        M::NotAuthorized { .. } => [M::NotAuthorized { by: NODE }],
        M::WrongPeer { .. } => [M::WrongPeer { by: NODE }],
        M::NoTargetAvailable => [M::NoTargetAvailable],
    });
    let reasons = reasons.into_iter().chain(unwelcome.into_iter().map(uninvited)).map(refused);
    failures.into_iter().chain(reasons).map(|failure| Failure::from(RuntimeError::Migration(failure))).collect()
}
