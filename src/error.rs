//! The one table of errors, and the way of a failure into JavaScript.
//!
//! Every error that a user can see is a row of [`ErrorCode`]: class, code, kind and the names of its fields. The
//! TypeScript unions and the lookup from code to class are generated from [`error_table`]; a test holds them together.
//!
//! A synchronous failure is thrown as an instance of its class, which JavaScript builds ([`Failure::throw`]): classes
//! made here would belong to another realm. An asynchronous one travels as a plain record ([`Failure::into_record`]),
//! and becomes an instance where its promise is awaited, so that its stack shows the caller.

use std::fmt;

use napi::bindgen_prelude::{BigInt, Env, Object, Unknown};
use napi::{JsValue, Result};
use napi_derive::napi;

use crate::env::EnvState;

/// One row of the table, as the generator of the TypeScript side reads it.
#[napi(object)]
pub struct ErrorRow {
    /// The value of `error.code`.
    pub code: String,
    /// Name of the class.
    pub class: String,
    /// The value of `error.kind`, for classes that have one.
    pub kind: Option<String>,
    /// Names of the fields that an error of this code may carry.
    pub fields: Vec<String>,
    /// What it means.
    pub doc: String,
}

macro_rules! error_table {
    ($($(#[doc = $doc:literal])+ $variant:ident = $class:ident $code:literal $($kind:literal)? [$($field:ident),*];)+) => {
        /// What went wrong, as users see it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "some codes are only used by the TypeScript side, which reads this table")]
        pub(crate) enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// The value of `error.code`.
            pub(crate) const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }

        /// All rows, in the order of the source.
        #[napi]
        pub fn error_table() -> Vec<ErrorRow> {
            vec![$(ErrorRow {
                code: $code.into(),
                class: stringify!($class).into(),
                kind: error_table!(@kind $($kind)?),
                fields: vec![$(stringify!($field).into()),*],
                doc: concat!($($doc),+).trim().into(),
            },)+]
        }
    };
    (@kind $kind:literal) => { Some($kind.into()) };
    (@kind) => { None };
}

error_table! {
    /// Anything that has no class of its own.
    Other = MeshDaemonError "ERR_MESH_DAEMON" [];
    /// No native binary fits this platform, or it could not be loaded. Thrown by `require` itself.
    NativeLoad = MeshDaemonError "ERR_NATIVE_LOAD" [];

    /// An argument is of the wrong type or out of range.
    MeshInvalidArgument = MeshError "ERR_MESH_INVALID_ARGUMENT" [address];
    /// Another socket listens on the address.
    MeshAddressInUse = MeshError "ERR_MESH_ADDRESS_IN_USE" [address];
    /// The name does not resolve, or the address is not one of this machine.
    MeshAddressNotFound = MeshError "ERR_MESH_ADDRESS_NOT_FOUND" [address];
    /// Nobody answers there.
    MeshUnreachable = MeshError "ERR_MESH_UNREACHABLE" [address];
    /// Somebody answered, but no session came of it: another pre-shared key, another protocol version, or not a node.
    MeshHandshakeFailed = MeshError "ERR_MESH_HANDSHAKE_FAILED" [address];
    /// The node that answered is not the expected one.
    MeshPinMismatch = MeshError "ERR_MESH_PIN_MISMATCH" [address];
    /// The node was shut down.
    MeshShutDown = MeshError "ERR_MESH_SHUT_DOWN" [address];

    /// The runtime was not started yet.
    DaemonNotReady = DaemonError "ERR_DAEMON_NOT_READY" [];
    /// The runtime was shut down, or the daemon stopped; of an event that was on its way, `executed` tells whether it may have
    /// run.
    DaemonShuttingDown = DaemonError "ERR_DAEMON_SHUTTING_DOWN" [executed];
    /// The kind has a factory already.
    DaemonFactoryAlreadyRegistered = DaemonError "ERR_DAEMON_FACTORY_ALREADY_REGISTERED" [];
    /// No factory was registered for the kind.
    DaemonFactoryNotFound = DaemonError "ERR_DAEMON_FACTORY_NOT_FOUND" [];
    /// A daemon with this identity lives or is expected.
    DaemonAlreadyRegistered = DaemonError "ERR_DAEMON_ALREADY_REGISTERED" [];
    /// No daemon lives at this address.
    DaemonNotFound = DaemonError "ERR_DAEMON_NOT_FOUND" [];
    /// The snapshot is of a daemon with another key.
    DaemonSnapshotIdentityMismatch = DaemonError "ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH" [];
    /// The snapshot is damaged or of a version that cannot be read.
    DaemonSnapshotInvalid = DaemonError "ERR_DAEMON_SNAPSHOT_INVALID" [];
    /// `process` threw or rejected.
    DaemonProcessFailed = DaemonError "ERR_DAEMON_PROCESS_FAILED" [];
    /// `process` gave back something that is not bytes.
    DaemonInvalidOutput = DaemonError "ERR_DAEMON_INVALID_OUTPUT" [];
    /// The factory threw, rejected, or gave back something that is no daemon.
    DaemonFactoryFailed = DaemonError "ERR_DAEMON_FACTORY_FAILED" [];
    /// `restore` threw or rejected.
    DaemonRestoreFailed = DaemonError "ERR_DAEMON_RESTORE_FAILED" [];
    /// `snapshot` threw, rejected, or gave back something that is not bytes, or its bytes changed while they were read.
    DaemonSnapshotFailed = DaemonError "ERR_DAEMON_SNAPSHOT_FAILED" [];
    /// The daemon did not respond within `callbackTimeoutMs`.
    DaemonCallbackTimeout = DaemonError "ERR_DAEMON_CALLBACK_TIMEOUT" [];
    /// The call was not answered within its `timeoutMs`.
    DaemonCallTimeout = DaemonError "ERR_DAEMON_CALL_TIMEOUT" [];
    /// The daemon's mailbox is full.
    DaemonMailboxFull = DaemonError "ERR_DAEMON_MAILBOX_FULL" [];
    /// The daemon moved on faster than the event could follow until its deadline, which is the `cause`; `executed` tells
    /// whether it may have run.
    DaemonMovedTooOften = DaemonError "ERR_DAEMON_MOVED_TOO_OFTEN" [executed];
    /// The daemon's host was lost; `executed` tells whether the event may have run.
    DaemonPeerLost = DaemonError "ERR_DAEMON_PEER_LOST" [executed];
    /// The payload or an output is larger than `maxPayloadBytes`.
    DaemonPayloadTooLarge = DaemonError "ERR_DAEMON_PAYLOAD_TOO_LARGE" [];
    /// The mesh has a live runtime.
    DaemonRuntimeExists = DaemonError "ERR_DAEMON_RUNTIME_EXISTS" [];
    /// An argument is of the wrong type or out of range.
    DaemonInvalidArgument = DaemonError "ERR_DAEMON_INVALID_ARGUMENT" [];

    /// The target's runtime was not started or is being drained, or there is no room at the target, and it is not to be
    /// asked again.
    MigrationNotReady = MigrationError "ERR_MIGRATION_NOT_READY" "not-ready" [outcome];
    /// The target has no factory of the daemon's kind, does not expect it, or refused it by its policy.
    MigrationFactoryNotFound = MigrationError "ERR_MIGRATION_FACTORY_NOT_FOUND" "factory-not-found" [outcome, originHash];
    /// The target is a node without a runtime.
    MigrationComputeNotSupported = MigrationError "ERR_MIGRATION_COMPUTE_NOT_SUPPORTED" "compute-not-supported" [outcome];
    /// The daemon's own `snapshot`, factory or `restore` failed; `detail` has its words.
    MigrationStateFailed = MigrationError "ERR_MIGRATION_STATE_FAILED" "state-failed" [outcome, detail];
    /// The daemon is on the move.
    MigrationAlreadyMigrating = MigrationError "ERR_MIGRATION_ALREADY_MIGRATING" "already-migrating" [outcome, originHash];
    /// The daemon's key could not be sealed to the target or opened there, or the daemon was handed over 16 times without it.
    MigrationIdentityTransportFailed = MigrationError "ERR_MIGRATION_IDENTITY_TRANSPORT_FAILED" "identity-transport-failed" [outcome, detail];
    /// The target was asked `attempts` times and never became ready, or never had room.
    MigrationNotReadyTimeout = MigrationError "ERR_MIGRATION_NOT_READY_TIMEOUT" "not-ready-timeout" [outcome, attempts];
    /// No such daemon lives on the source.
    MigrationDaemonNotFound = MigrationError "ERR_MIGRATION_DAEMON_NOT_FOUND" "daemon-not-found" [outcome, originHash];
    /// There is no session with the target.
    MigrationTargetUnavailable = MigrationError "ERR_MIGRATION_TARGET_UNAVAILABLE" "target-unavailable" [outcome, nodeId];
    /// No connected node could host the daemon (a drain's report).
    MigrationNoTargetAvailable = MigrationError "ERR_MIGRATION_NO_TARGET_AVAILABLE" "no-target-available" [outcome];
    /// The source, `nodeId`, does not let this node move its daemons.
    MigrationNotAuthorized = MigrationError "ERR_MIGRATION_NOT_AUTHORIZED" "not-authorized" [outcome, nodeId];
    /// The move is past the point, or not yet at it.
    MigrationWrongPhase = MigrationError "ERR_MIGRATION_WRONG_PHASE" "wrong-phase" [outcome, detail];
    /// The target, `nodeId`, lets only another node bring this daemon.
    MigrationWrongPeer = MigrationError "ERR_MIGRATION_WRONG_PEER" "wrong-peer" [outcome, nodeId];
    /// The state is larger than the target's budget.
    MigrationSnapshotTooLarge = MigrationError "ERR_MIGRATION_SNAPSHOT_TOO_LARGE" "snapshot-too-large" [outcome, size, max];
    /// More events waited than could be handed over.
    MigrationBufferFull = MigrationError "ERR_MIGRATION_BUFFER_FULL" "buffer-full" [outcome];
    /// `cancel()` was called.
    MigrationCancelled = MigrationError "ERR_MIGRATION_CANCELLED" "cancelled" [outcome];
    /// The move took longer than its caller or its freeze limit allowed.
    MigrationTimeout = MigrationError "ERR_MIGRATION_TIMEOUT" "timeout" [outcome, detail];
    /// A node of the move was lost; `nodeId` where it is known which.
    MigrationPeerLost = MigrationError "ERR_MIGRATION_PEER_LOST" "peer-lost" [outcome, nodeId];

    /// The runtime was not started yet.
    GroupNotReady = GroupError "ERR_GROUP_NOT_READY" "not-ready" [detail];
    /// No factory was registered for the kind.
    GroupFactoryNotFound = GroupError "ERR_GROUP_FACTORY_NOT_FOUND" "factory-not-found" [detail, requestedKind];
    /// No member can take the request.
    GroupNoHealthyMember = GroupError "ERR_GROUP_NO_HEALTHY_MEMBER" "no-healthy-member" [detail];
    /// No node can host a member.
    GroupPlacementFailed = GroupError "ERR_GROUP_PLACEMENT_FAILED" "placement-failed" [detail];
    /// A member's identity is taken.
    GroupRegistryFailed = GroupError "ERR_GROUP_REGISTRY_FAILED" "registry-failed" [detail];
    /// An argument is of the wrong type or out of range.
    GroupInvalidConfig = GroupError "ERR_GROUP_INVALID_CONFIG" "invalid-config" [detail];
    /// A member failed.
    GroupDaemon = GroupError "ERR_GROUP_DAEMON" "daemon" [detail];

    /// An argument is of the wrong type or out of range.
    IdentityInvalidArgument = IdentityError "ERR_IDENTITY_INVALID_ARGUMENT" [];
    /// The identity has no secret key.
    IdentityReadOnly = IdentityError "ERR_IDENTITY_READ_ONLY" [];

    /// The issuer did not sign this.
    TokenInvalidSignature = TokenError "ERR_TOKEN_INVALID_SIGNATURE" "invalid_signature" [];
    /// The token's time has not come.
    TokenNotYetValid = TokenError "ERR_TOKEN_NOT_YET_VALID" "not_yet_valid" [];
    /// The token's time is over.
    TokenExpired = TokenError "ERR_TOKEN_EXPIRED" "expired" [];
    /// The token was delegated as often as it may be.
    TokenDelegationExhausted = TokenError "ERR_TOKEN_DELEGATION_EXHAUSTED" "delegation_exhausted" [];
    /// The token does not permit delegation.
    TokenDelegationNotAllowed = TokenError "ERR_TOKEN_DELEGATION_NOT_ALLOWED" "delegation_not_allowed" [];
    /// The token does not permit this, or not to this subject.
    TokenNotAuthorized = TokenError "ERR_TOKEN_NOT_AUTHORIZED" "not_authorized" [];
    /// The issuer revoked tokens of this generation.
    TokenRevoked = TokenError "ERR_TOKEN_REVOKED" "revoked" [];
    /// These bytes are no token.
    TokenInvalidFormat = TokenError "ERR_TOKEN_INVALID_FORMAT" "invalid_format" [];
    /// The identity has no secret key to sign with.
    TokenReadOnly = TokenError "ERR_TOKEN_READ_ONLY" "read_only" [];
    /// A token must be valid for a while.
    TokenZeroTtl = TokenError "ERR_TOKEN_ZERO_TTL" "zero_ttl" [];
    /// A token may be valid for at most 365 days.
    TokenTtlTooLong = TokenError "ERR_TOKEN_TTL_TOO_LONG" "ttl_too_long" [];

    /// An argument is of the wrong type or out of range.
    ChannelInvalidArgument = ChannelError "ERR_CHANNEL_INVALID_ARGUMENT" [];
    /// The publisher has no such channel.
    ChannelUnknown = ChannelError "ERR_CHANNEL_UNKNOWN" [];
    /// The publisher refused: no token, a wrong one, or a missing capability.
    ChannelUnauthorized = ChannelAuthError "ERR_CHANNEL_UNAUTHORIZED" [kind];
    /// Too many refused attempts; later ones are not looked at for a while.
    ChannelThrottled = ChannelError "ERR_CHANNEL_THROTTLED" [];
    /// More messages per second than the channel allows.
    ChannelRateLimited = ChannelError "ERR_CHANNEL_RATE_LIMITED" [];
    /// The payload is larger than `maxPayloadBytes`.
    ChannelPayloadTooLarge = ChannelError "ERR_CHANNEL_PAYLOAD_TOO_LARGE" [];
    /// The publisher was lost; in the report of a publication, the subscriber was, or it has left.
    ChannelPeerLost = ChannelError "ERR_CHANNEL_PEER_LOST" [];
    /// The subscriber left the channel, or ended, before the publisher had answered.
    ChannelUnsubscribed = ChannelError "ERR_CHANNEL_UNSUBSCRIBED" [];
    /// The subscriber took nothing of what waited for it, for too long, and is out.
    ChannelStalled = ChannelError "ERR_CHANNEL_STALLED" [];

    /// A queue towards a peer is full.
    Backpressure = BackpressureError "ERR_BACKPRESSURE" [];
    /// There is no session with the peer.
    NotConnected = NotConnectedError "ERR_NOT_CONNECTED" [];
}

/// The value of an error's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// A `bigint`.
    U64(u64),
    /// A `number`.
    U32(u32),
    /// A `string`.
    Text(String),
}

/// What is known of an error that was thrown elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// `error.name`.
    pub(crate) name: String,
    /// `error.message`.
    pub(crate) message: String,
    /// `error.stack`.
    pub(crate) stack: Option<String>,
}

/// A failure on its way to JavaScript.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    message: String,
    fields: Vec<(&'static str, Field)>,
    cause: Option<Box<Cause>>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), fields: Vec::new(), cause: None }
    }

    /// The value of `error.code`.
    pub(crate) const fn code(&self) -> &'static str {
        self.code.code()
    }

    /// Adds a field that the row of the code names.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: Field) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Adds what another node told of the daemon's own error.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: Cause) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The plain record `{ code, message, fields, cause }` that the TypeScript side turns into an instance.
    pub(crate) fn into_record(self, env: &Env) -> Result<Object<'_>> {
        let mut record = Object::new(env)?;
        record.set("code", self.code.code())?;
        record.set("message", self.message)?;
        if !self.fields.is_empty() {
            let mut fields = Object::new(env)?;
            for (name, value) in self.fields {
                match value {
                    Field::U64(value) => fields.set(name, BigInt::from(value))?,
                    Field::U32(value) => fields.set(name, value)?,
                    Field::Text(value) => fields.set(name, value)?,
                }
            }
            record.set("fields", fields)?;
        }
        if let Some(cause) = self.cause {
            let mut object = Object::new(env)?;
            object.set("name", cause.name)?;
            object.set("message", cause.message)?;
            object.set("stack", cause.stack)?;
            record.set("cause", object)?;
        }
        Ok(record)
    }

    /// The error to return from a function that JavaScript called: napi throws the instance that is inside.
    pub(crate) fn throw(self, env: &Env) -> napi::Error {
        match self.into_instance(env) {
            Ok(instance) => napi::Error::from(instance),
            Err(error) => error,
        }
    }

    fn into_instance(self, env: &Env) -> Result<Unknown<'_>> {
        let make_error = EnvState::of(env)?.error_factory()?;
        let make_error = make_error.borrow_back(env)?;
        let record = self.into_record(env)?;
        make_error.call(record.to_unknown())
    }
}
