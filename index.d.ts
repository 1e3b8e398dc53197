/// <reference types="node" />
// Generated from lib/ by `npm run build:lib`; do not edit.
import { inspect, InspectOptions } from 'node:util';

/**
 * A duration in milliseconds.
 *
 * @public
 */
type Millis = number | bigint;
/**
 * What methods with a `signal` in their options accept.
 *
 * @public
 */
interface WaitOptions {
    /** Stops the waiting; the promise then rejects with `signal.reason`, also when it was aborted before the call. */
    signal?: AbortSignal;
}
/**
 * What `setLogger` passes on: one event of the native part.
 *
 * @public
 */
interface LogRecord {
    readonly level: LogLevel;
    /** The part of the system that speaks, for example `mesh_daemon_core::mesh`. */
    readonly target: string;
    readonly message: string;
    /**
     * What it is about, by name. 64-bit numbers are bigints, addresses of daemons and nodes their decimal digits. What is said of
     * a move has `origin` (the daemon), `migration` (32 hexadecimal digits, the same on every node) and `role` (`source`, `target` or
     * `orchestrator`: this node's part in it).
     */
    readonly fields: Readonly<Record<string, string | number | bigint | boolean>>;
}
/**
 * How urgent a log record is; each level includes those before it.
 *
 * @public
 */
type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';
/**
 * Receives log records.
 *
 * @public
 */
type Logger = (record: LogRecord) => void;

/**
 * Where a move stands.
 *
 * @public
 */
type MigrationPhase = 'snapshot' | 'transfer' | 'restore' | 'replay' | 'cutover' | 'complete';
/**
 * What this node does in a move.
 *
 * @public
 */
type MigrationRole = 'source' | 'target' | 'orchestrator';
/**
 * How a daemon is moved.
 *
 * @public
 */
interface MigrationOptions {
    /**
     * Moves the daemon's key, sealed to the target. Default `true`. With `false` the daemon has at the target the key that
     * {@link DaemonRuntime.registerMigrationTargetIdentity} gave it there. With none it runs, but cannot sign or subscribe
     * (`ERR_IDENTITY_READ_ONLY`), and moves on only with `false` again, at most 16 times after each other until a target has its key; the
     * next move fails with `identity-transport-failed`.
     */
    transportIdentity?: boolean;
    /** For how long a target that is not ready, or has no room, is asked again. Default 30 000; 0 never asks again. */
    retryNotReadyMs?: Millis;
}
/**
 * A daemon asks to come in; see {@link DaemonRuntimeOptions.acceptMigrations}.
 *
 * @public
 */
interface MigrationRequest {
    readonly originHash: bigint;
    readonly entityId: Buffer;
    readonly kind: string;
    readonly sourceNode: bigint;
    readonly orchestrator: bigint;
    /**
     * Size of its state, as far as it is known: that of its newest snapshot, `0n` when none was taken yet. When the state that
     * is about to come turns out to be over 64 KiB larger than that, the predicate is asked again, with its real size, before
     * any of it arrives.
     */
    readonly stateBytes: bigint;
}
/**
 * A move that this node takes part in.
 *
 * @public
 */
interface MigrationInfo {
    readonly originHash: bigint;
    readonly role: MigrationRole;
    readonly sourceNode: bigint;
    readonly targetNode: bigint;
    readonly phase: MigrationPhase;
    readonly attempt: number;
}
/**
 * How far a move got.
 *
 * @public
 */
interface MigrationProgress {
    readonly phase: MigrationPhase;
    readonly bytesSent: bigint;
    readonly bytesTotal: bigint;
    readonly eventsBuffered: bigint;
    readonly eventsReplayed: bigint;
    readonly elapsedMs: number;
}
/**
 * Something happened to a move that this node takes part in. A node that drives the move of a daemon of its own takes part twice,
 * and tells each phase once for each `role`. A target whose source is lost says `failed` with the outcome `'unknown'`, for the source
 * may go on behind a broken network. With the `phase` `'cutover'`, the source may have released the daemon to it: its copy is in
 * doubt and kept, the logger is warned, and what becomes of it follows as another event. With an earlier one nothing was handed
 * over and nothing is kept. The same, with `nodeId`, is published on the `node:diagnostics_channel` named `mesh-daemon:migration`.
 *
 * @public
 */
type MigrationEvent = (MigrationInfo & {
    readonly type: 'phase';
}) | (MigrationInfo & {
    readonly type: 'failed';
    readonly error: MigrationError;
});
/**
 * Options of `drain`.
 *
 * @public
 */
interface DrainOptions extends WaitOptions {
    /** How long all moves together may take. Default: as long as they take. */
    timeoutMs?: Millis;
}
/**
 * What `drain` did with one daemon.
 *
 * @public
 */
interface DrainReport {
    readonly originHash: bigint;
    readonly outcome: MigrationOutcome;
    /** Where it went, or may have gone. */
    readonly targetNode?: bigint;
    /** Why it did not surely go: what the last attempt came to, or that there was none. */
    readonly error?: MigrationError;
}
/**
 * Where the daemon is after a move that failed: on the source (still, or again), on the target, lost with its host, or unknown: a
 * peer was lost at the instant of the hand-over, or a source that is silent cannot say that it has the daemon. Silence does not
 * tell a process that was killed from one behind a broken network, so a source that is killed before the hand-over leaves
 * `'unknown'` as well. `'lost'` takes proof: a goodbye, or that its node started again under its `identitySeed`.
 *
 * @public
 */
type MigrationOutcome = 'source' | 'target' | 'unknown' | 'lost';

/** All codes, with the class of their errors and the kind they stand for. */
declare const ERROR_TABLE: {
    readonly ERR_MESH_DAEMON: {
        readonly class: "MeshDaemonError";
    };
    readonly ERR_NATIVE_LOAD: {
        readonly class: "MeshDaemonError";
    };
    readonly ERR_MESH_INVALID_ARGUMENT: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_ADDRESS_IN_USE: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_ADDRESS_NOT_FOUND: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_UNREACHABLE: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_HANDSHAKE_FAILED: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_PIN_MISMATCH: {
        readonly class: "MeshError";
    };
    readonly ERR_MESH_SHUT_DOWN: {
        readonly class: "MeshError";
    };
    readonly ERR_DAEMON_NOT_READY: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_SHUTTING_DOWN: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_FACTORY_ALREADY_REGISTERED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_FACTORY_NOT_FOUND: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_ALREADY_REGISTERED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_NOT_FOUND: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_SNAPSHOT_INVALID: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_PROCESS_FAILED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_INVALID_OUTPUT: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_FACTORY_FAILED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_RESTORE_FAILED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_SNAPSHOT_FAILED: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_CALLBACK_TIMEOUT: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_CALL_TIMEOUT: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_MAILBOX_FULL: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_MOVED_TOO_OFTEN: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_PEER_LOST: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_PAYLOAD_TOO_LARGE: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_RUNTIME_EXISTS: {
        readonly class: "DaemonError";
    };
    readonly ERR_DAEMON_INVALID_ARGUMENT: {
        readonly class: "DaemonError";
    };
    readonly ERR_MIGRATION_NOT_READY: {
        readonly class: "MigrationError";
        readonly kind: "not-ready";
    };
    readonly ERR_MIGRATION_FACTORY_NOT_FOUND: {
        readonly class: "MigrationError";
        readonly kind: "factory-not-found";
    };
    readonly ERR_MIGRATION_COMPUTE_NOT_SUPPORTED: {
        readonly class: "MigrationError";
        readonly kind: "compute-not-supported";
    };
    readonly ERR_MIGRATION_STATE_FAILED: {
        readonly class: "MigrationError";
        readonly kind: "state-failed";
    };
    readonly ERR_MIGRATION_ALREADY_MIGRATING: {
        readonly class: "MigrationError";
        readonly kind: "already-migrating";
    };
    readonly ERR_MIGRATION_IDENTITY_TRANSPORT_FAILED: {
        readonly class: "MigrationError";
        readonly kind: "identity-transport-failed";
    };
    readonly ERR_MIGRATION_NOT_READY_TIMEOUT: {
        readonly class: "MigrationError";
        readonly kind: "not-ready-timeout";
    };
    readonly ERR_MIGRATION_DAEMON_NOT_FOUND: {
        readonly class: "MigrationError";
        readonly kind: "daemon-not-found";
    };
    readonly ERR_MIGRATION_TARGET_UNAVAILABLE: {
        readonly class: "MigrationError";
        readonly kind: "target-unavailable";
    };
    readonly ERR_MIGRATION_NO_TARGET_AVAILABLE: {
        readonly class: "MigrationError";
        readonly kind: "no-target-available";
    };
    readonly ERR_MIGRATION_NOT_AUTHORIZED: {
        readonly class: "MigrationError";
        readonly kind: "not-authorized";
    };
    readonly ERR_MIGRATION_WRONG_PHASE: {
        readonly class: "MigrationError";
        readonly kind: "wrong-phase";
    };
    readonly ERR_MIGRATION_WRONG_PEER: {
        readonly class: "MigrationError";
        readonly kind: "wrong-peer";
    };
    readonly ERR_MIGRATION_SNAPSHOT_TOO_LARGE: {
        readonly class: "MigrationError";
        readonly kind: "snapshot-too-large";
    };
    readonly ERR_MIGRATION_BUFFER_FULL: {
        readonly class: "MigrationError";
        readonly kind: "buffer-full";
    };
    readonly ERR_MIGRATION_CANCELLED: {
        readonly class: "MigrationError";
        readonly kind: "cancelled";
    };
    readonly ERR_MIGRATION_TIMEOUT: {
        readonly class: "MigrationError";
        readonly kind: "timeout";
    };
    readonly ERR_MIGRATION_PEER_LOST: {
        readonly class: "MigrationError";
        readonly kind: "peer-lost";
    };
    readonly ERR_GROUP_NOT_READY: {
        readonly class: "GroupError";
        readonly kind: "not-ready";
    };
    readonly ERR_GROUP_FACTORY_NOT_FOUND: {
        readonly class: "GroupError";
        readonly kind: "factory-not-found";
    };
    readonly ERR_GROUP_NO_HEALTHY_MEMBER: {
        readonly class: "GroupError";
        readonly kind: "no-healthy-member";
    };
    readonly ERR_GROUP_PLACEMENT_FAILED: {
        readonly class: "GroupError";
        readonly kind: "placement-failed";
    };
    readonly ERR_GROUP_REGISTRY_FAILED: {
        readonly class: "GroupError";
        readonly kind: "registry-failed";
    };
    readonly ERR_GROUP_INVALID_CONFIG: {
        readonly class: "GroupError";
        readonly kind: "invalid-config";
    };
    readonly ERR_GROUP_DAEMON: {
        readonly class: "GroupError";
        readonly kind: "daemon";
    };
    readonly ERR_IDENTITY_INVALID_ARGUMENT: {
        readonly class: "IdentityError";
    };
    readonly ERR_IDENTITY_READ_ONLY: {
        readonly class: "IdentityError";
    };
    readonly ERR_TOKEN_INVALID_SIGNATURE: {
        readonly class: "TokenError";
        readonly kind: "invalid_signature";
    };
    readonly ERR_TOKEN_NOT_YET_VALID: {
        readonly class: "TokenError";
        readonly kind: "not_yet_valid";
    };
    readonly ERR_TOKEN_EXPIRED: {
        readonly class: "TokenError";
        readonly kind: "expired";
    };
    readonly ERR_TOKEN_DELEGATION_EXHAUSTED: {
        readonly class: "TokenError";
        readonly kind: "delegation_exhausted";
    };
    readonly ERR_TOKEN_DELEGATION_NOT_ALLOWED: {
        readonly class: "TokenError";
        readonly kind: "delegation_not_allowed";
    };
    readonly ERR_TOKEN_NOT_AUTHORIZED: {
        readonly class: "TokenError";
        readonly kind: "not_authorized";
    };
    readonly ERR_TOKEN_REVOKED: {
        readonly class: "TokenError";
        readonly kind: "revoked";
    };
    readonly ERR_TOKEN_INVALID_FORMAT: {
        readonly class: "TokenError";
        readonly kind: "invalid_format";
    };
    readonly ERR_TOKEN_READ_ONLY: {
        readonly class: "TokenError";
        readonly kind: "read_only";
    };
    readonly ERR_TOKEN_ZERO_TTL: {
        readonly class: "TokenError";
        readonly kind: "zero_ttl";
    };
    readonly ERR_TOKEN_TTL_TOO_LONG: {
        readonly class: "TokenError";
        readonly kind: "ttl_too_long";
    };
    readonly ERR_CHANNEL_INVALID_ARGUMENT: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_UNKNOWN: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_UNAUTHORIZED: {
        readonly class: "ChannelAuthError";
    };
    readonly ERR_CHANNEL_THROTTLED: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_RATE_LIMITED: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_PAYLOAD_TOO_LARGE: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_PEER_LOST: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_UNSUBSCRIBED: {
        readonly class: "ChannelError";
    };
    readonly ERR_CHANNEL_STALLED: {
        readonly class: "ChannelError";
    };
    readonly ERR_BACKPRESSURE: {
        readonly class: "BackpressureError";
    };
    readonly ERR_NOT_CONNECTED: {
        readonly class: "NotConnectedError";
    };
};
/**
 * Every value of `error.code`.
 *
 * @public
 */
type ErrorCode = keyof typeof ERROR_TABLE;
/**
 * Codes of {@link MeshDaemonError}.
 *
 * - `ERR_MESH_DAEMON`: Anything that has no class of its own.
 * - `ERR_NATIVE_LOAD`: No native binary fits this platform, or it could not be loaded. Thrown by `require` itself.
 *
 * @public
 */
type MeshDaemonErrorCode = 'ERR_MESH_DAEMON' | 'ERR_NATIVE_LOAD';
/**
 * Codes of {@link MeshError}.
 *
 * - `ERR_MESH_INVALID_ARGUMENT`: An argument is of the wrong type or out of range. Carries `address`.
 * - `ERR_MESH_ADDRESS_IN_USE`: Another socket listens on the address. Carries `address`.
 * - `ERR_MESH_ADDRESS_NOT_FOUND`: The name does not resolve, or the address is not one of this machine. Carries
 *   `address`.
 * - `ERR_MESH_UNREACHABLE`: Nobody answers there. Carries `address`.
 * - `ERR_MESH_HANDSHAKE_FAILED`: Somebody answered, but no session came of it: another pre-shared key, another
 *   protocol version, or not a node. Carries `address`.
 * - `ERR_MESH_PIN_MISMATCH`: The node that answered is not the expected one. Carries `address`.
 * - `ERR_MESH_SHUT_DOWN`: The node was shut down. Carries `address`.
 *
 * @public
 */
type MeshErrorCode = 'ERR_MESH_INVALID_ARGUMENT' | 'ERR_MESH_ADDRESS_IN_USE' | 'ERR_MESH_ADDRESS_NOT_FOUND' | 'ERR_MESH_UNREACHABLE' | 'ERR_MESH_HANDSHAKE_FAILED' | 'ERR_MESH_PIN_MISMATCH' | 'ERR_MESH_SHUT_DOWN';
/**
 * Codes of {@link DaemonError}.
 *
 * - `ERR_DAEMON_NOT_READY`: The runtime was not started yet.
 * - `ERR_DAEMON_SHUTTING_DOWN`: The runtime was shut down, or the daemon stopped; of an event that was on its way,
 *   `executed` tells whether it may have run. Carries `executed`.
 * - `ERR_DAEMON_FACTORY_ALREADY_REGISTERED`: The kind has a factory already.
 * - `ERR_DAEMON_FACTORY_NOT_FOUND`: No factory was registered for the kind.
 * - `ERR_DAEMON_ALREADY_REGISTERED`: A daemon with this identity lives or is expected.
 * - `ERR_DAEMON_NOT_FOUND`: No daemon lives at this address.
 * - `ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH`: The snapshot is of a daemon with another key.
 * - `ERR_DAEMON_SNAPSHOT_INVALID`: The snapshot is damaged or of a version that cannot be read.
 * - `ERR_DAEMON_PROCESS_FAILED`: `process` threw or rejected.
 * - `ERR_DAEMON_INVALID_OUTPUT`: `process` gave back something that is not bytes.
 * - `ERR_DAEMON_FACTORY_FAILED`: The factory threw, rejected, or gave back something that is no daemon.
 * - `ERR_DAEMON_RESTORE_FAILED`: `restore` threw or rejected.
 * - `ERR_DAEMON_SNAPSHOT_FAILED`: `snapshot` threw, rejected, or gave back something that is not bytes, or its bytes
 *   changed while they were read.
 * - `ERR_DAEMON_CALLBACK_TIMEOUT`: The daemon did not respond within `callbackTimeoutMs`.
 * - `ERR_DAEMON_CALL_TIMEOUT`: The call was not answered within its `timeoutMs`.
 * - `ERR_DAEMON_MAILBOX_FULL`: The daemon's mailbox is full.
 * - `ERR_DAEMON_MOVED_TOO_OFTEN`: The daemon moved on faster than the event could follow until its deadline, which is
 *   the `cause`; `executed` tells whether it may have run. Carries `executed`.
 * - `ERR_DAEMON_PEER_LOST`: The daemon's host was lost; `executed` tells whether the event may have run. Carries
 *   `executed`.
 * - `ERR_DAEMON_PAYLOAD_TOO_LARGE`: The payload or an output is larger than `maxPayloadBytes`.
 * - `ERR_DAEMON_RUNTIME_EXISTS`: The mesh has a live runtime.
 * - `ERR_DAEMON_INVALID_ARGUMENT`: An argument is of the wrong type or out of range.
 *
 * @public
 */
type DaemonErrorCode = 'ERR_DAEMON_NOT_READY' | 'ERR_DAEMON_SHUTTING_DOWN' | 'ERR_DAEMON_FACTORY_ALREADY_REGISTERED' | 'ERR_DAEMON_FACTORY_NOT_FOUND' | 'ERR_DAEMON_ALREADY_REGISTERED' | 'ERR_DAEMON_NOT_FOUND' | 'ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH' | 'ERR_DAEMON_SNAPSHOT_INVALID' | 'ERR_DAEMON_PROCESS_FAILED' | 'ERR_DAEMON_INVALID_OUTPUT' | 'ERR_DAEMON_FACTORY_FAILED' | 'ERR_DAEMON_RESTORE_FAILED' | 'ERR_DAEMON_SNAPSHOT_FAILED' | 'ERR_DAEMON_CALLBACK_TIMEOUT' | 'ERR_DAEMON_CALL_TIMEOUT' | 'ERR_DAEMON_MAILBOX_FULL' | 'ERR_DAEMON_MOVED_TOO_OFTEN' | 'ERR_DAEMON_PEER_LOST' | 'ERR_DAEMON_PAYLOAD_TOO_LARGE' | 'ERR_DAEMON_RUNTIME_EXISTS' | 'ERR_DAEMON_INVALID_ARGUMENT';
/**
 * Codes of {@link MigrationError}.
 *
 * - `ERR_MIGRATION_NOT_READY`: The target's runtime was not started or is being drained, or there is no room at the
 *   target, and it is not to be asked again. Carries `outcome`.
 * - `ERR_MIGRATION_FACTORY_NOT_FOUND`: The target has no factory of the daemon's kind, does not expect it, or refused
 *   it by its policy. Carries `outcome`, `originHash`.
 * - `ERR_MIGRATION_COMPUTE_NOT_SUPPORTED`: The target is a node without a runtime. Carries `outcome`.
 * - `ERR_MIGRATION_STATE_FAILED`: The daemon's own `snapshot`, factory or `restore` failed; `detail` has its words.
 *   Carries `outcome`, `detail`.
 * - `ERR_MIGRATION_ALREADY_MIGRATING`: The daemon is on the move. Carries `outcome`, `originHash`.
 * - `ERR_MIGRATION_IDENTITY_TRANSPORT_FAILED`: The daemon's key could not be sealed to the target or opened there, or
 *   the daemon was handed over 16 times without it. Carries `outcome`, `detail`.
 * - `ERR_MIGRATION_NOT_READY_TIMEOUT`: The target was asked `attempts` times and never became ready, or never had
 *   room. Carries `outcome`, `attempts`.
 * - `ERR_MIGRATION_DAEMON_NOT_FOUND`: No such daemon lives on the source. Carries `outcome`, `originHash`.
 * - `ERR_MIGRATION_TARGET_UNAVAILABLE`: There is no session with the target. Carries `outcome`, `nodeId`.
 * - `ERR_MIGRATION_NO_TARGET_AVAILABLE`: No connected node could host the daemon (a drain's report). Carries
 *   `outcome`.
 * - `ERR_MIGRATION_NOT_AUTHORIZED`: The source, `nodeId`, does not let this node move its daemons. Carries `outcome`,
 *   `nodeId`.
 * - `ERR_MIGRATION_WRONG_PHASE`: The move is past the point, or not yet at it. Carries `outcome`, `detail`.
 * - `ERR_MIGRATION_WRONG_PEER`: The target, `nodeId`, lets only another node bring this daemon. Carries `outcome`,
 *   `nodeId`.
 * - `ERR_MIGRATION_SNAPSHOT_TOO_LARGE`: The state is larger than the target's budget. Carries `outcome`, `size`,
 *   `max`.
 * - `ERR_MIGRATION_BUFFER_FULL`: More events waited than could be handed over. Carries `outcome`.
 * - `ERR_MIGRATION_CANCELLED`: `cancel()` was called. Carries `outcome`.
 * - `ERR_MIGRATION_TIMEOUT`: The move took longer than its caller or its freeze limit allowed. Carries `outcome`,
 *   `detail`.
 * - `ERR_MIGRATION_PEER_LOST`: A node of the move was lost; `nodeId` where it is known which. Carries `outcome`,
 *   `nodeId`.
 *
 * @public
 */
type MigrationErrorCode = 'ERR_MIGRATION_NOT_READY' | 'ERR_MIGRATION_FACTORY_NOT_FOUND' | 'ERR_MIGRATION_COMPUTE_NOT_SUPPORTED' | 'ERR_MIGRATION_STATE_FAILED' | 'ERR_MIGRATION_ALREADY_MIGRATING' | 'ERR_MIGRATION_IDENTITY_TRANSPORT_FAILED' | 'ERR_MIGRATION_NOT_READY_TIMEOUT' | 'ERR_MIGRATION_DAEMON_NOT_FOUND' | 'ERR_MIGRATION_TARGET_UNAVAILABLE' | 'ERR_MIGRATION_NO_TARGET_AVAILABLE' | 'ERR_MIGRATION_NOT_AUTHORIZED' | 'ERR_MIGRATION_WRONG_PHASE' | 'ERR_MIGRATION_WRONG_PEER' | 'ERR_MIGRATION_SNAPSHOT_TOO_LARGE' | 'ERR_MIGRATION_BUFFER_FULL' | 'ERR_MIGRATION_CANCELLED' | 'ERR_MIGRATION_TIMEOUT' | 'ERR_MIGRATION_PEER_LOST';
/**
 * Kinds of {@link MigrationError}.
 *
 * - `not-ready`: The target's runtime was not started or is being drained, or there is no room at the target, and it
 *   is not to be asked again. Carries `outcome`.
 * - `factory-not-found`: The target has no factory of the daemon's kind, does not expect it, or refused it by its
 *   policy. Carries `outcome`, `originHash`.
 * - `compute-not-supported`: The target is a node without a runtime. Carries `outcome`.
 * - `state-failed`: The daemon's own `snapshot`, factory or `restore` failed; `detail` has its words. Carries
 *   `outcome`, `detail`.
 * - `already-migrating`: The daemon is on the move. Carries `outcome`, `originHash`.
 * - `identity-transport-failed`: The daemon's key could not be sealed to the target or opened there, or the daemon
 *   was handed over 16 times without it. Carries `outcome`, `detail`.
 * - `not-ready-timeout`: The target was asked `attempts` times and never became ready, or never had room. Carries
 *   `outcome`, `attempts`.
 * - `daemon-not-found`: No such daemon lives on the source. Carries `outcome`, `originHash`.
 * - `target-unavailable`: There is no session with the target. Carries `outcome`, `nodeId`.
 * - `no-target-available`: No connected node could host the daemon (a drain's report). Carries `outcome`.
 * - `not-authorized`: The source, `nodeId`, does not let this node move its daemons. Carries `outcome`, `nodeId`.
 * - `wrong-phase`: The move is past the point, or not yet at it. Carries `outcome`, `detail`.
 * - `wrong-peer`: The target, `nodeId`, lets only another node bring this daemon. Carries `outcome`, `nodeId`.
 * - `snapshot-too-large`: The state is larger than the target's budget. Carries `outcome`, `size`, `max`.
 * - `buffer-full`: More events waited than could be handed over. Carries `outcome`.
 * - `cancelled`: `cancel()` was called. Carries `outcome`.
 * - `timeout`: The move took longer than its caller or its freeze limit allowed. Carries `outcome`, `detail`.
 * - `peer-lost`: A node of the move was lost; `nodeId` where it is known which. Carries `outcome`, `nodeId`.
 *
 * @public
 */
type MigrationErrorKind = 'not-ready' | 'factory-not-found' | 'compute-not-supported' | 'state-failed' | 'already-migrating' | 'identity-transport-failed' | 'not-ready-timeout' | 'daemon-not-found' | 'target-unavailable' | 'no-target-available' | 'not-authorized' | 'wrong-phase' | 'wrong-peer' | 'snapshot-too-large' | 'buffer-full' | 'cancelled' | 'timeout' | 'peer-lost';
/**
 * Codes of {@link GroupError}.
 *
 * - `ERR_GROUP_NOT_READY`: The runtime was not started yet. Carries `detail`.
 * - `ERR_GROUP_FACTORY_NOT_FOUND`: No factory was registered for the kind. Carries `detail`, `requestedKind`.
 * - `ERR_GROUP_NO_HEALTHY_MEMBER`: No member can take the request. Carries `detail`.
 * - `ERR_GROUP_PLACEMENT_FAILED`: No node can host a member. Carries `detail`.
 * - `ERR_GROUP_REGISTRY_FAILED`: A member's identity is taken. Carries `detail`.
 * - `ERR_GROUP_INVALID_CONFIG`: An argument is of the wrong type or out of range. Carries `detail`.
 * - `ERR_GROUP_DAEMON`: A member failed. Carries `detail`.
 *
 * @public
 */
type GroupErrorCode = 'ERR_GROUP_NOT_READY' | 'ERR_GROUP_FACTORY_NOT_FOUND' | 'ERR_GROUP_NO_HEALTHY_MEMBER' | 'ERR_GROUP_PLACEMENT_FAILED' | 'ERR_GROUP_REGISTRY_FAILED' | 'ERR_GROUP_INVALID_CONFIG' | 'ERR_GROUP_DAEMON';
/**
 * Kinds of {@link GroupError}.
 *
 * - `not-ready`: The runtime was not started yet. Carries `detail`.
 * - `factory-not-found`: No factory was registered for the kind. Carries `detail`, `requestedKind`.
 * - `no-healthy-member`: No member can take the request. Carries `detail`.
 * - `placement-failed`: No node can host a member. Carries `detail`.
 * - `registry-failed`: A member's identity is taken. Carries `detail`.
 * - `invalid-config`: An argument is of the wrong type or out of range. Carries `detail`.
 * - `daemon`: A member failed. Carries `detail`.
 *
 * @public
 */
type GroupErrorKind = 'not-ready' | 'factory-not-found' | 'no-healthy-member' | 'placement-failed' | 'registry-failed' | 'invalid-config' | 'daemon';
/**
 * Codes of {@link IdentityError}.
 *
 * - `ERR_IDENTITY_INVALID_ARGUMENT`: An argument is of the wrong type or out of range.
 * - `ERR_IDENTITY_READ_ONLY`: The identity has no secret key.
 *
 * @public
 */
type IdentityErrorCode = 'ERR_IDENTITY_INVALID_ARGUMENT' | 'ERR_IDENTITY_READ_ONLY';
/**
 * Codes of {@link TokenError}.
 *
 * - `ERR_TOKEN_INVALID_SIGNATURE`: The issuer did not sign this.
 * - `ERR_TOKEN_NOT_YET_VALID`: The token's time has not come.
 * - `ERR_TOKEN_EXPIRED`: The token's time is over.
 * - `ERR_TOKEN_DELEGATION_EXHAUSTED`: The token was delegated as often as it may be.
 * - `ERR_TOKEN_DELEGATION_NOT_ALLOWED`: The token does not permit delegation.
 * - `ERR_TOKEN_NOT_AUTHORIZED`: The token does not permit this, or not to this subject.
 * - `ERR_TOKEN_REVOKED`: The issuer revoked tokens of this generation.
 * - `ERR_TOKEN_INVALID_FORMAT`: These bytes are no token.
 * - `ERR_TOKEN_READ_ONLY`: The identity has no secret key to sign with.
 * - `ERR_TOKEN_ZERO_TTL`: A token must be valid for a while.
 * - `ERR_TOKEN_TTL_TOO_LONG`: A token may be valid for at most 365 days.
 *
 * @public
 */
type TokenErrorCode = 'ERR_TOKEN_INVALID_SIGNATURE' | 'ERR_TOKEN_NOT_YET_VALID' | 'ERR_TOKEN_EXPIRED' | 'ERR_TOKEN_DELEGATION_EXHAUSTED' | 'ERR_TOKEN_DELEGATION_NOT_ALLOWED' | 'ERR_TOKEN_NOT_AUTHORIZED' | 'ERR_TOKEN_REVOKED' | 'ERR_TOKEN_INVALID_FORMAT' | 'ERR_TOKEN_READ_ONLY' | 'ERR_TOKEN_ZERO_TTL' | 'ERR_TOKEN_TTL_TOO_LONG';
/**
 * Kinds of {@link TokenError}.
 *
 * - `invalid_signature`: The issuer did not sign this.
 * - `not_yet_valid`: The token's time has not come.
 * - `expired`: The token's time is over.
 * - `delegation_exhausted`: The token was delegated as often as it may be.
 * - `delegation_not_allowed`: The token does not permit delegation.
 * - `not_authorized`: The token does not permit this, or not to this subject.
 * - `revoked`: The issuer revoked tokens of this generation.
 * - `invalid_format`: These bytes are no token.
 * - `read_only`: The identity has no secret key to sign with.
 * - `zero_ttl`: A token must be valid for a while.
 * - `ttl_too_long`: A token may be valid for at most 365 days.
 *
 * @public
 */
type TokenErrorKind = 'invalid_signature' | 'not_yet_valid' | 'expired' | 'delegation_exhausted' | 'delegation_not_allowed' | 'not_authorized' | 'revoked' | 'invalid_format' | 'read_only' | 'zero_ttl' | 'ttl_too_long';
/**
 * Codes of {@link ChannelError}.
 *
 * - `ERR_CHANNEL_INVALID_ARGUMENT`: An argument is of the wrong type or out of range.
 * - `ERR_CHANNEL_UNKNOWN`: The publisher has no such channel.
 * - `ERR_CHANNEL_THROTTLED`: Too many refused attempts; later ones are not looked at for a while.
 * - `ERR_CHANNEL_RATE_LIMITED`: More messages per second than the channel allows.
 * - `ERR_CHANNEL_PAYLOAD_TOO_LARGE`: The payload is larger than `maxPayloadBytes`.
 * - `ERR_CHANNEL_PEER_LOST`: The publisher was lost; in the report of a publication, the subscriber was, or it has
 *   left.
 * - `ERR_CHANNEL_UNSUBSCRIBED`: The subscriber left the channel, or ended, before the publisher had answered.
 * - `ERR_CHANNEL_STALLED`: The subscriber took nothing of what waited for it, for too long, and is out.
 *
 * @public
 */
type ChannelErrorCode = 'ERR_CHANNEL_INVALID_ARGUMENT' | 'ERR_CHANNEL_UNKNOWN' | 'ERR_CHANNEL_THROTTLED' | 'ERR_CHANNEL_RATE_LIMITED' | 'ERR_CHANNEL_PAYLOAD_TOO_LARGE' | 'ERR_CHANNEL_PEER_LOST' | 'ERR_CHANNEL_UNSUBSCRIBED' | 'ERR_CHANNEL_STALLED';
/**
 * Codes of {@link ChannelAuthError}.
 *
 * - `ERR_CHANNEL_UNAUTHORIZED`: The publisher refused: no token, a wrong one, or a missing capability. Carries
 *   `kind`.
 *
 * @public
 */
type ChannelAuthErrorCode = 'ERR_CHANNEL_UNAUTHORIZED';
/**
 * Codes of {@link BackpressureError}.
 *
 * - `ERR_BACKPRESSURE`: A queue towards a peer is full.
 *
 * @public
 */
type BackpressureErrorCode = 'ERR_BACKPRESSURE';
/**
 * Codes of {@link NotConnectedError}.
 *
 * - `ERR_NOT_CONNECTED`: There is no session with the peer.
 *
 * @public
 */
type NotConnectedErrorCode = 'ERR_NOT_CONNECTED';

/**
 * The error classes.
 *
 * Every one is made like `new MeshError(message, { code, cause, address })` and may be extended. What the native part
 * reports becomes an instance of these in `from-native.ts`.
 */

/**
 * What the constructors of all error classes accept.
 *
 * @public
 */
interface MeshDaemonErrorOptions<Code extends string = string> {
    /** Default: the one that fits the class (and `kind`). */
    code?: Code;
    /** What led to this error. */
    cause?: unknown;
}
/**
 * The base of all errors of this package.
 *
 * @public
 */
declare class MeshDaemonError extends Error {
    /** Always an `ERR_…` string. */
    readonly code: string;
    constructor(message: string, options?: MeshDaemonErrorOptions);
}
/**
 * What a {@link MeshError} carries.
 *
 * @public
 */
interface MeshErrorOptions extends MeshDaemonErrorOptions<MeshErrorCode> {
    address?: string;
}
/**
 * A mesh node could not do what it was asked.
 *
 * @public
 */
declare class MeshError extends MeshDaemonError {
    readonly code: MeshErrorCode;
    /** The address in question. */
    readonly address?: string;
    constructor(message: string, options?: MeshErrorOptions);
}
/**
 * What a {@link DaemonError} carries.
 *
 * @public
 */
interface DaemonErrorOptions<Code extends string = DaemonErrorCode> extends MeshDaemonErrorOptions<Code> {
    executed?: 'no' | 'unknown';
}
/**
 * A daemon or its runtime could not do what it was asked. When the daemon's own code threw, `cause` is that very error,
 * or, from another node, one with its name, message and stack.
 *
 * @public
 */
declare class DaemonError extends MeshDaemonError {
    readonly code: DaemonErrorCode | MigrationErrorCode | GroupErrorCode;
    /** With `ERR_DAEMON_PEER_LOST`, `ERR_DAEMON_MOVED_TOO_OFTEN`, and with `ERR_DAEMON_SHUTTING_DOWN` of an event that was on its way: whether the event may have run. */
    readonly executed?: 'no' | 'unknown';
    constructor(message: string, options?: DaemonErrorOptions<DaemonErrorCode | MigrationErrorCode | GroupErrorCode>);
}
/**
 * What a {@link MigrationError} carries.
 *
 * @public
 */
interface MigrationErrorOptions extends MeshDaemonErrorOptions<MigrationErrorCode> {
    kind?: MigrationErrorKind;
    outcome?: MigrationOutcome;
    attempts?: number;
    originHash?: bigint;
    nodeId?: bigint;
    size?: bigint;
    max?: bigint;
    detail?: string;
}
/**
 * A move failed; `outcome` says where the daemon is.
 *
 * @public
 */
declare class MigrationError extends DaemonError {
    readonly code: MigrationErrorCode;
    readonly kind: MigrationErrorKind;
    /** Where the daemon is now. */
    readonly outcome: MigrationOutcome;
    /** How often a target that was not ready was asked. */
    readonly attempts?: number;
    readonly originHash?: bigint;
    readonly nodeId?: bigint;
    /** Bytes of the state. */
    readonly size?: bigint;
    /** Bytes that would have been accepted. */
    readonly max?: bigint;
    /** What the failing side said. */
    readonly detail?: string;
    constructor(message: string, options?: MigrationErrorOptions);
}
/**
 * What a {@link GroupError} carries.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface GroupErrorOptions extends MeshDaemonErrorOptions<GroupErrorCode> {
    kind?: GroupErrorKind;
    detail?: string;
    requestedKind?: string;
}
/**
 * A group could not do what it was asked.
 *
 * Reserved: nothing throws it yet, as there are no groups.
 *
 * @public
 */
declare class GroupError extends DaemonError {
    readonly code: GroupErrorCode;
    readonly kind: GroupErrorKind;
    readonly detail?: string;
    /** The kind of daemon that has no factory. */
    readonly requestedKind?: string;
    constructor(message: string, options?: GroupErrorOptions);
}
/**
 * Something is wrong with an identity, or it cannot sign.
 *
 * @public
 */
declare class IdentityError extends MeshDaemonError {
    readonly code: IdentityErrorCode;
    constructor(message: string, options?: MeshDaemonErrorOptions<IdentityErrorCode>);
}
/**
 * What a {@link TokenError} carries.
 *
 * @public
 */
interface TokenErrorOptions extends MeshDaemonErrorOptions<TokenErrorCode> {
    kind?: TokenErrorKind;
}
/**
 * A token is not valid, or does not permit what was asked.
 *
 * @public
 */
declare class TokenError extends MeshDaemonError {
    readonly code: TokenErrorCode;
    readonly kind: TokenErrorKind;
    constructor(message: string, options?: TokenErrorOptions);
}
/**
 * A channel could not do what it was asked.
 *
 * @public
 */
declare class ChannelError extends MeshDaemonError {
    readonly code: ChannelErrorCode | ChannelAuthErrorCode;
    constructor(message: string, options?: MeshDaemonErrorOptions<ChannelErrorCode | ChannelAuthErrorCode>);
}
/**
 * Why the publisher of a channel refused, as far as it says: no token, or one that does not permit this
 * (`not_authorized`), one whose time has not come, or is over, or one that was revoked.
 *
 * @public
 */
type ChannelAuthErrorKind = Extract<TokenErrorKind, 'not_authorized' | 'not_yet_valid' | 'expired' | 'revoked'>;
/**
 * What a {@link ChannelAuthError} carries.
 *
 * @public
 */
interface ChannelAuthErrorOptions extends MeshDaemonErrorOptions<ChannelAuthErrorCode> {
    kind?: ChannelAuthErrorKind;
}
/**
 * The publisher of a channel refused.
 *
 * @public
 */
declare class ChannelAuthError extends ChannelError {
    readonly code: ChannelAuthErrorCode;
    readonly kind: ChannelAuthErrorKind;
    constructor(message: string, options?: ChannelAuthErrorOptions);
}
/**
 * A queue towards a peer is full; try again later.
 *
 * @public
 */
declare class BackpressureError extends MeshDaemonError {
    readonly code: BackpressureErrorCode;
    constructor(message: string, options?: MeshDaemonErrorOptions<BackpressureErrorCode>);
}
/**
 * There is no session with the peer.
 *
 * @public
 */
declare class NotConnectedError extends MeshDaemonError {
    readonly code: NotConnectedErrorCode;
    constructor(message: string, options?: MeshDaemonErrorOptions<NotConnectedErrorCode>);
}

/**
 * How a runtime treats daemons that want to come or go.
 *
 * @public
 */
interface DaemonRuntimeOptions {
    /**
     * Which daemons may arrive. `false` (the default): only origins that were announced with `expectMigration` or
     * `registerMigrationTargetIdentity`. `true`, or a predicate that agrees: any daemon of a registered kind. A predicate
     * that throws or rejects refuses, and the logger is told. Who is refused sees `factory-not-found` with the reason. A
     * predicate is asked before the daemon is stopped for its move, and once more when its state is larger than was known then
     * (see {@link MigrationRequest.stateBytes}). At most 1 024 daemons that were not announced may be on their way for one
     * orchestrator, and 8 192 for all; others have to wait (`not-ready`), as do those about whom
     * a predicate has not decided within `silenceMs`.
     */
    acceptMigrations?: boolean | ((request: MigrationRequest) => boolean | Promise<boolean>);
    /**
     * Which other nodes may move daemons that live here. Default `[]`: only this node; others get `not-authorized`. A
     * predicate that throws refuses, and the logger is told.
     */
    orchestrators?: 'any' | readonly bigint[] | ((nodeId: bigint) => boolean);
    /**
     * Lets the loss of a target behind the hand-over count as your word that it is gone: where that leaves a daemon in
     * doubt, its source takes it over by itself, as with `recover()`. It puts availability before the promise of a single live
     * copy: behind a partition both copies run until it heals, then the older one is fenced and what it did since is lost.
     * A daemon whose host died outside a move is not brought back. Default `false`.
     */
    recoverLost?: boolean;
    /**
     * How long a running `process`, and whatever the daemon sent or called through its `context` and nobody has accepted or
     * answered, may hold up a move; and how long the daemon, once it is frozen, waits for room at the target before it goes on
     * where it is, to be tried again. Default 10 s, at least 1 ms.
     */
    freezeTimeoutMs?: Millis;
    /** How long the other side of a move may be silent. Default 15 s, at least 50 ms. */
    silenceMs?: Millis;
    /**
     * How long a target keeps a daemon whose source vanished at the hand-over, and how long a source that has proof of its target's
     * death waits for others that are silent and may have the daemon, before it takes it over. Default 10 min, at least 1 ms.
     */
    handoverHoldMs?: Millis;
    /**
     * Memory for states that are arriving, and as much again for what comes with them: events that wait, streams, subscriptions. Default: a quarter of the
     * machine's.
     */
    arrivalBudgetBytes?: number | bigint;
}
/**
 * How one daemon is hosted.
 *
 * @public
 */
interface DaemonHostConfig {
    /** Takes a snapshot every n events; the newest one is kept, see `handle.lastSnapshot()`. `0n`, as without: takes none. */
    autoSnapshotInterval?: bigint;
    /** Links of the chain that are kept. Reserved: checked, without effect yet. */
    maxLogEntries?: number;
    /** How long one `process` may take before its callers get an error. Default 60 000, at least 1. */
    callbackTimeoutMs?: Millis;
    /** Events that may wait. Default 4096. */
    mailboxCapacity?: number;
    /** Bytes that may wait. Default 16 MiB. */
    mailboxBytes?: number;
    /**
     * Channel of the hosting node that every output is published to, reliably and in order. One that is not registered is made
     * as `registerChannel({ name })` would; register it before for anything else. When the daemon moves, its new host
     * publishes, on its own channel of this name: made like that of the former host, unless it has one.
     */
    outputChannel?: string;
}
/**
 * {@link DaemonHostConfig} for `spawnWithDaemon`, where nothing else names the kind.
 *
 * @public
 */
interface DaemonInstanceConfig extends DaemonHostConfig {
    /** The kind; default `daemon.name`. With neither, the daemon cannot move. */
    kind?: string;
}
/**
 * Counters of one daemon. They move with it.
 *
 * @public
 */
interface DaemonStats {
    readonly eventsProcessed: bigint;
    readonly eventsEmitted: bigint;
    /** Events that failed. */
    readonly errors: bigint;
    readonly snapshotsTaken: bigint;
    /** Events that wait in the mailbox now; those that the daemon's thread was given, 256 at a time, do so no more. */
    readonly mailboxLength: number;
    /** Bytes that wait there now. */
    readonly mailboxBytes: number;
    /** Messages of channels that were published as fire and forget and found no room; counted anew on each node. */
    readonly messagesDropped: bigint;
}
/**
 * Options of `call`.
 *
 * @public
 */
interface CallOptions extends WaitOptions {
    /**
     * Default 60 000. With 0 the answer must be there at once: that of a daemon here which is idle and does not wait may be, one of
     * another node never is (`ERR_DAEMON_CALL_TIMEOUT`).
     */
    timeoutMs?: Millis;
}
/**
 * A channel that a daemon receives.
 *
 * @public
 */
interface DaemonSubscription {
    readonly publisher: bigint;
    readonly channel: string;
    /** The queue group of the channel that it is a member of. */
    readonly queueGroup?: string;
}
/**
 * Something happened to what a daemon of this runtime receives: a subscription ended without being asked to (the publisher
 * is lost, or lets it in no longer), or goes on after a move with a gap.
 *
 * @public
 */
type DaemonSubscriptionEvent = DaemonSubscription & {
    readonly originHash: bigint;
} & ({
    readonly type: 'ended';
    /** A {@link ChannelError}, or `ERR_BACKPRESSURE`, or `ERR_IDENTITY_READ_ONLY` of a daemon that moved without its key. */
    readonly error: MeshDaemonError;
} | {
    readonly type: 'gap';
    /** So many messages are gone at most; those that need no acknowledgement count too. */
    readonly missed: bigint;
});
/**
 * Something happened to a daemon of this runtime.
 *
 * @public
 */
interface DaemonLifeEvent {
    readonly type: 'spawned' | 'stopped' | 'migrated-in' | 'migrated-out' | 'fenced';
    readonly originHash: bigint;
    readonly kind: string;
}
/**
 * What a runtime emits.
 *
 * @public
 */
interface DaemonRuntimeEvents {
    /** A move that this node takes part in reached a phase, or failed. */
    migration: MigrationEvent;
    /** A daemon came or went. */
    daemon: DaemonLifeEvent;
    /** What a daemon receives from a channel ended, or has a gap. */
    subscription: DaemonSubscriptionEvent;
}

/** The handle of a daemon of this runtime. */

/**
 * A daemon that was spawned here. Calls follow it when it moves; what only its host knows is gone with it.
 *
 * @public
 */
declare class DaemonHandle {
    #private;
    /** Its address. */
    get originHash(): bigint;
    /** Its 32-byte public key; a copy. */
    get entityId(): Buffer;
    /** Its counters. Throws a {@link DaemonError} once it is gone from here. */
    stats(): DaemonStats;
    /** An encoded snapshot behind the events that it accepted; `null` of a stateless daemon. */
    snapshot(): Promise<Buffer | null>;
    /** The newest snapshot that `autoSnapshotInterval` took; `null` before the first. Throws, as `stats()`, once it is gone. */
    lastSnapshot(): Buffer | null;
    /** Calls it, wherever it lives now. */
    call(payload: Uint8Array, options?: CallOptions): Promise<Buffer[]>;
    /** Sends to it, wherever it lives now. */
    send(payload: Uint8Array): Promise<void>;
    /** Stops it behind the events that it accepted. */
    stop(): Promise<void>;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}

/** Tokens: signed rights on channels. */

/**
 * A right on a channel, signed by its issuer. 169 bytes.
 *
 * @public
 */
declare class Token {
    #private;
    private constructor();
    /** Reads the bytes of a token. Only the format is checked: see {@link Token.verify}. */
    static parse(wire: Uint8Array): Token;
    /** Its wire form; a copy. */
    get bytes(): Buffer;
    /** 32-byte public key of who signed it; a copy. */
    get issuer(): Buffer;
    /** 32-byte public key of who may present it; a copy. */
    get subject(): Buffer;
    /** What it permits. */
    get scope(): ReadonlySet<TokenScope>;
    /** On which channel, or in which queue group of one, see {@link channelHash}. */
    get channelHash(): bigint;
    /** From when it is valid. */
    get notBefore(): Date;
    /** Until before when it is valid. */
    get notAfter(): Date;
    /** The generation that its issuer gave it: a {@link Revocation} outdates those below one. */
    get generation(): number;
    /** How often it may be passed on. */
    get delegationDepth(): number;
    /** Tells it from tokens that are otherwise equal. */
    get nonce(): bigint;
    /** Whether the issuer signed it. Time is not looked at. Never throws. */
    verify(): boolean;
    /** Whether its time is over. */
    isExpired(): boolean;
    /** Its wire form; a copy. */
    toBuffer(): Buffer;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}
/**
 * Tokens from the one of a channel's root to the one of its presenter: 1 to 8. Whether they fit together shows where the
 * chain is presented.
 *
 * @public
 */
declare class TokenChain {
    #private;
    private constructor();
    /** Joins tokens, the root's first. */
    static of(...tokens: Token[]): TokenChain;
    /** Reads the bytes of a chain, or of a single token. Only the format is checked. */
    static parse(wire: Uint8Array): TokenChain;
    /** The tokens, the root's first. */
    get tokens(): readonly Token[];
    /** The presenter's token. */
    get leaf(): Token;
    /** Its wire form. */
    toBuffer(): Buffer;
}

/**
 * What a token permits. `wildcard` extends it to any channel, `delegate` lets its holder pass it on. Channels ask for `subscribe`
 * only: `publish` and `admin` open nothing here, and are for what an application checks itself.
 *
 * @public
 */
type TokenScope = 'publish' | 'subscribe' | 'admin' | 'delegate' | 'wildcard';
/**
 * What a token is to say.
 *
 * @public
 */
interface IssueTokenOptions {
    /** Entity id of who may present it; 32 bytes. */
    subject: Uint8Array;
    scope: readonly TokenScope[];
    channel: string;
    /**
     * The queue group of the channel that it lets into, and into nothing else: neither does it let into the channel, nor a token
     * of the channel, or of any channel, into the group.
     */
    queueGroup?: string;
    /** 1 second to 365 days. */
    ttlSeconds: number;
    /** How often it may be delegated on. Default 0. */
    delegationDepth?: number;
    /**
     * 0 (the default) to 4294967295. A revocation takes back the tokens of all generations below one; what is delegated has the
     * generation of what it was delegated from.
     */
    generation?: number;
}
/**
 * Which tokens are to be taken back.
 *
 * @public
 */
interface RevokeTokensOptions {
    /** The lowest generation that stays good: at least 1. */
    below: number;
}
/**
 * Wherever a token is asked for: one, a chain from a root's to the presenter's, or the bytes of either.
 *
 * @public
 */
type TokenLike = Token | TokenChain | Uint8Array;

/** Revocations: tokens that their issuers took back. */

/**
 * That the tokens of an issuer below a generation are revoked, signed by it. 100 bytes, made by
 * {@link Identity.revokeTokens}, in force where it is entered ({@link MeshNode.revoke}). It names no time: whichever of an
 * issuer is highest holds, so it can be made ahead and kept where the key is not.
 *
 * @public
 */
declare class Revocation {
    #private;
    private constructor();
    /** Reads the bytes of a revocation. Only the format is checked: see {@link Revocation.verify}. */
    static parse(wire: Uint8Array): Revocation;
    /** Its wire form; a copy. */
    get bytes(): Buffer;
    /** 32-byte public key of whose tokens it takes back; a copy. */
    get issuer(): Buffer;
    /** The lowest generation that is still good. */
    get below(): number;
    /** Whether the issuer signed it. Never throws. */
    verify(): boolean;
    /** Its wire form; a copy. */
    toBuffer(): Buffer;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}

/** Identities: ed25519 key pairs and the addresses derived from them. */

/**
 * Who a daemon or a node is: an ed25519 key pair, or only its public half.
 *
 * The secret stays in native memory, which is wiped when the identity is collected; it shows neither in `console.log` nor
 * in JSON. Only `toBytes()` gives it out.
 *
 * @public
 */
declare class Identity {
    #private;
    private constructor();
    /** A new identity. */
    static generate(): Identity;
    /** The identity of a 32-byte secret seed. */
    static fromSeed(seed: Uint8Array): Identity;
    /** The same as {@link Identity.fromSeed}. */
    static fromBytes(seed: Uint8Array): Identity;
    /** An identity that can be named but cannot sign. Throws {@link IdentityError} for bytes that are nobody's public key. */
    static publicOnly(entityId: Uint8Array): Identity;
    /** Whether `signature` is one of `entityId` over `message`. Strict: no small-order keys, no malleable signatures. */
    static verify(entityId: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
    /** The 32-byte public key; a copy. */
    get entityId(): Buffer;
    /** Its address as a daemon. */
    get originHash(): bigint;
    /** Its address as a node. */
    get nodeId(): bigint;
    /** Whether the secret is missing. */
    get isReadOnly(): boolean;
    /** The 32-byte secret seed. Throws {@link IdentityError} `ERR_IDENTITY_READ_ONLY` when it is not here. */
    toBytes(): Buffer;
    /**
     * A 64-byte signature of the bytes as they are: whoever can choose them wholly gets a token, a claim or a subscription in this
     * name. Put a prefix of your own before what others choose. Throws {@link IdentityError} `ERR_IDENTITY_READ_ONLY` when the
     * secret is not here.
     */
    sign(message: Uint8Array): Buffer;
    /**
     * A token signed by this identity: the right of `subject` to do something on a channel, or with `queueGroup` to be a member
     * of that queue group of it. Throws {@link TokenError} of kind
     * `read_only` when the secret is not here, `zero_ttl` or `ttl_too_long` for a time that no token may have.
     */
    issueToken(o: IssueTokenOptions): Token;
    /**
     * Takes back the tokens that this identity issued or passed on with a generation below `below`. That is only a statement: it
     * is in force where it is entered, see {@link MeshNode.revoke} and {@link Identity.installRevocation}, and can be made
     * ahead. Throws {@link TokenError} of kind `read_only` when the secret is not here.
     */
    revokeTokens(o: RevokeTokensOptions): Revocation;
    /**
     * Keeps a token that this identity was given. The store is bounded: what ends first goes first. Throws
     * {@link TokenError} for one that is not valid now.
     */
    installToken(token: Token | Uint8Array): void;
    /**
     * The longest valid token of `subject` for this channel, or for this queue group of it, among those that were installed.
     * Verified again.
     */
    lookupToken(subject: Uint8Array, channel: string, group?: string): Token | null;
    /**
     * Tells this identity what an issuer has revoked: such tokens go from its store, do not come in again, and are not passed on
     * by it. Nothing else happens: see {@link MeshNode.revoke} for what channels let in. Throws {@link TokenError} for what the
     * issuer did not sign, and {@link BackpressureError} beyond 65 536 issuers.
     */
    installRevocation(revocation: Revocation | Uint8Array): void;
    /** How many tokens were installed and are kept. */
    get tokenCacheLen(): number;
    /** Nothing secret. */
    toJSON(): {
        entityId: string;
        originHash: string;
        nodeId: string;
        isReadOnly: boolean;
    };
    /** Nothing secret. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}
/**
 * The 64-bit name of a channel: xxh3-64 of its canonical name, which is 1 to 255 of `a-z 0-9 - _ . /`, without a leading,
 * trailing or double `/` and without a segment `.` or `..`. Throws {@link IdentityError} for any other name. That of a queue
 * group is xxh3-64 of `<channel>#<group>`; `#` occurs in no name, so it is the hash of no channel's name.
 *
 * @public
 */
declare function channelHash(name: string, group?: string): bigint;

/** Passing tokens on. */

/**
 * Passes a part of a token on: of `scope` what the parent has too, whatever else is asked for, the same channel, the same end, one step less to delegate. Of a chain
 * the leaf is passed on; what is presented then is `TokenChain.of(...chain.tokens, result)`.
 *
 * Throws {@link TokenError}, checked in this order: the parent is valid, and none of its tokens is revoked by what `signer` was
 * told ({@link Identity.installRevocation}), `signer` is its subject (`not_authorized`), it has
 * the delegate bit (`delegation_not_allowed`), its depth is above 0 (`delegation_exhausted`).
 *
 * @public
 */
declare function delegateToken(signer: Identity, parent: TokenLike, subject: Uint8Array, scope: readonly TokenScope[]): Token;

/** Log records of the native part, handed to a function of the user's. */

/**
 * Options of {@link setLogger}.
 *
 * @public
 */
interface LoggerOptions {
    /** The least urgent level that is passed on. Default `info`. */
    level?: LogLevel;
}
/**
 * Passes log records of the native part to `fn`, or to nobody with `null`, which is how it starts. There is one logger per
 * JavaScript environment; it hears about all of the process. Records are dropped, and counted, when `fn` cannot keep up.
 *
 * @public
 */
declare function setLogger(fn: Logger | null, loggerOptions?: LoggerOptions): void;

/** A typed emitter: what a user sees of an `EventEmitter`, without the means to emit. */
/**
 * Lets others listen. Listeners run in the order they were added, on the thread that added them; a listener that throws
 * does so as an uncaught exception. Listening keeps no process alive.
 *
 * @public
 */
declare abstract class Emitter<Events extends object> {
    #private;
    /** Calls `listener` at every event of this name. */
    on<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this;
    /** Calls `listener` at the next event of this name only. */
    once<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this;
    /** Takes one `on` or `once` back. */
    off<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this;
}

/**
 * What a node can do, as it says itself. Every field is optional; a list has at most 256 elements, and all of it at most 32 KiB
 * when encoded.
 *
 * @public
 */
interface CapabilitySet {
    hardware?: HardwareCapabilities;
    software?: SoftwareCapabilities;
    models?: readonly ModelCapability[];
    tools?: readonly ToolCapability[];
    /** Free words; `scope:tenant:<id>`, `scope:region:<id>` and `scope:subnet-local` say who finds it, see {@link ScopeFilter}. */
    tags?: readonly string[];
    limits?: ResourceLimits;
    metadata?: Readonly<Record<string, string>>;
}
/**
 * What a node is made of.
 *
 * @public
 */
interface HardwareCapabilities {
    cpuCores?: number;
    cpuThreads?: number;
    memoryGb?: number;
    gpu?: GpuCapability;
    additionalGpus?: readonly GpuCapability[];
    storageGb?: bigint;
    networkGbps?: number;
    accelerators?: readonly AcceleratorCapability[];
}
/**
 * A graphics processor of a node.
 *
 * @public
 */
interface GpuCapability {
    vendor?: string;
    model?: string;
    vramGb?: number;
    computeUnits?: number;
    tensorCores?: number;
    /** Half-precision TFLOPS, times ten. */
    fp16TflopsX10?: number;
}
/**
 * Another accelerator of a node.
 *
 * @public
 */
interface AcceleratorCapability {
    kind?: string;
    model?: string;
    memoryGb?: number;
    /** TOPS, times ten. */
    topsX10?: number;
}
/**
 * What runs on a node.
 *
 * @public
 */
interface SoftwareCapabilities {
    os?: string;
    osVersion?: string;
    runtimes?: readonly NamedVersion[];
    frameworks?: readonly NamedVersion[];
    drivers?: readonly NamedVersion[];
    cudaVersion?: string;
}
/**
 * A name and its version.
 *
 * @public
 */
type NamedVersion = readonly [name: string, version: string];
/**
 * A model that a node serves.
 *
 * @public
 */
interface ModelCapability {
    modelId?: string;
    family?: string;
    /** Billions of parameters, times ten. */
    parametersBX10?: number;
    contextLength?: number;
    quantization?: string;
    modalities?: readonly string[];
    tokensPerSec?: number;
    loaded?: boolean;
}
/**
 * A tool that a node offers.
 *
 * @public
 */
interface ToolCapability {
    toolId?: string;
    name?: string;
    version?: string;
    inputSchema?: string;
    outputSchema?: string;
    requires?: readonly string[];
    estimatedTimeMs?: number;
    stateless?: boolean;
}
/**
 * What a node takes at most.
 *
 * @public
 */
interface ResourceLimits {
    maxConcurrentRequests?: number;
    maxTokensPerRequest?: number;
    rateLimitRpm?: number;
    maxBatchSize?: number;
    maxInputBytes?: number;
    maxOutputBytes?: number;
}
/**
 * What a node must offer; thresholds are inclusive, an empty filter admits everyone.
 *
 * @public
 */
interface CapabilityFilter {
    /** All of them. */
    requireTags?: readonly string[];
    /** Any of them. */
    requireModels?: readonly string[];
    /** Any of them. */
    requireTools?: readonly string[];
    minMemoryGb?: number;
    requireGpu?: boolean;
    /** In whatever case. */
    gpuVendor?: string;
    /** Of all GPUs together. */
    minVramGb?: number;
    /** Of any model. */
    minContextLength?: number;
    /** Every one of them, by some model. */
    requireModalities?: readonly string[];
}
/**
 * A filter and what makes one admitted node better than another. Finite weights are clamped to 0 … 1. A node's score is 1 and,
 * for each preference, the weight times its share of what the best of the admitted ones offers. Where the filter names models,
 * only those count for speed (the fastest one) and for what is loaded (how many).
 *
 * @public
 */
interface CapabilityRequirement {
    filter: CapabilityFilter;
    preferMoreMemory?: number;
    preferMoreVram?: number;
    preferFasterInference?: number;
    preferLoadedModels?: number;
}
/**
 * Which part of the mesh a search looks at, by the tags that nodes announce. `any`: all of it; `globalOnly`: nodes without such
 * tags; `sameSubnet`: this node, and those known to be in the same configured subnet; tenants and regions: nodes tagged with one
 * of them, and those with neither tenant nor region. Nodes tagged `scope:subnet-local` are found by none of them from outside of
 * their subnet. Empty names are dropped; none at all is an error.
 *
 * @public
 */
type ScopeFilter = {
    kind: 'any' | 'globalOnly' | 'sameSubnet';
} | {
    kind: 'tenant';
    tenant: string;
} | {
    kind: 'tenants';
    tenants: readonly string[];
} | {
    kind: 'region';
    region: string;
} | {
    kind: 'regions';
    regions: readonly string[];
};

/**
 * Who may see a channel, by the subnet of the subscriber's node: `subnet-local` the same, `parent-visible` the same or one
 * that contains it, `exported` nobody until an export exists, `global` everybody. Nodes without a subnet match each other. The
 * subscriber says where it is: this filters, and only tokens keep members of the mesh out.
 *
 * @public
 */
type ChannelVisibility = 'subnet-local' | 'parent-visible' | 'exported' | 'global';
/**
 * A channel of this node.
 *
 * @public
 */
interface ChannelConfig {
    /** 1 to 255 of `a-z 0-9 - _ . /`. */
    name: string;
    visibility?: ChannelVisibility;
    /** Every message is acknowledged and repeated, whatever `publish` asks for. */
    reliable?: boolean;
    /** Subscribers must present a token; without `tokenRoots`, one that descends from this node. */
    requireToken?: boolean;
    /** Entity ids that tokens must descend from; alone turns the token gate on. Not empty. */
    tokenRoots?: readonly Uint8Array[];
    /** 0 to 255, default 0: to each peer, messages of channels with a higher one go first. */
    priority?: number;
    /** Most messages per second, which may come at once; more reject with `ERR_CHANNEL_RATE_LIMITED`. */
    maxRatePps?: number;
    /** What this node must have announced: without, `publish` rejects with {@link ChannelAuthError}. */
    publishCaps?: CapabilityFilter;
    /**
     * What a subscriber's node must have announced. Looked at when it subscribes, and whenever that changes or ends: who no longer
     * offers it is out.
     */
    subscribeCaps?: CapabilityFilter;
}
/**
 * How a message is published.
 *
 * @public
 */
interface PublishOptions extends WaitOptions {
    /** Default `fire_and_forget`. */
    reliability?: 'reliable' | 'fire_and_forget';
    /**
     * Default `best_effort`: a failure is in the report, and the others are served; so it is with `collect`. `fail_fast`
     * rejects with the first failure, and serves nobody after it.
     */
    onFailure?: 'best_effort' | 'fail_fast' | 'collect';
    /** To how many nodes it may be under way at once. Default 32. */
    maxInflight?: number;
}
/**
 * How a channel is subscribed to.
 *
 * @public
 */
interface SubscribeOptions extends WaitOptions {
    /**
     * What the publisher lets in with: its last subject is the entity id of this node, or of the daemon. One that is refused changes
     * nothing of a subscription that is there.
     */
    token?: TokenLike;
    /**
     * The queue group of the channel to be a member of, named like a channel: each message goes to one member of every group,
     * nodes and daemons in turn, and to all subscribers that are in none. On a channel that tokens guard, a group needs a token
     * of its own (`queueGroup` of `issueToken`).
     */
    queueGroup?: string;
}
/**
 * How a channel is left.
 *
 * @public
 */
interface UnsubscribeOptions extends WaitOptions {
    /** The queue group to leave. Without it the channel is left with all its groups. */
    queueGroup?: string;
}
/**
 * Whom a message reached, in nodes and queue groups: acknowledged when reliable, else accepted by the peer's session. A group
 * counts once, whatever its size.
 *
 * @public
 */
interface PublishReport {
    readonly attempted: number;
    readonly delivered: number;
    readonly errors: readonly PublishFailure[];
}
/**
 * Why a message did not reach one subscriber.
 *
 * @public
 */
interface PublishFailure {
    readonly nodeId: bigint;
    readonly message: string;
    /**
     * `ERR_BACKPRESSURE`: as much waits for this subscriber as may (4096 messages or 64 MiB). `ERR_CHANNEL_PEER_LOST`: it was
     * lost, has left, or was put out. `ERR_NOT_CONNECTED`: not reliable, and there is no connection now.
     * `ERR_CHANNEL_PAYLOAD_TOO_LARGE`: its node takes no payload so large.
     */
    readonly code: string;
}
/**
 * A message of a subscribed channel.
 *
 * @public
 */
interface ChannelMessage {
    /** Node id. */
    readonly publisher: bigint;
    readonly channel: string;
    /** Its number in the channel, in this life of the publisher. */
    readonly sequence: bigint;
    readonly payload: Buffer;
    /** Unix time of arrival in nanoseconds. */
    readonly receivedAt: bigint;
}
/**
 * Messages of one channel, in order. What is not read is kept up to 1024 messages and 64 MiB.
 *
 * While somebody iterates, from the first `next` of an iterator until it is left, a reliable message beyond that waits and is
 * not acknowledged, so its publisher waits, and none is lost. A loop that takes nothing of what waits for two minutes, and up to
 * half a minute more, is put out and throws (`ERR_CHANNEL_STALLED`), with all others of this node that read the channel. While
 * nobody iterates every message is acknowledged, and the oldest ones are dropped. Messages that are not reliable never wait:
 * they are dropped, the oldest first.
 *
 * Iterating ends when the subscription does. It throws when that was not asked for, in every loop, also in one that begins
 * later: the publisher refused ({@link ChannelAuthError}, also later, when a token ends or is revoked), was lost, or took the
 * channel away. Leaving a loop does not end the subscription. Several loops share the messages: each goes to one of them.
 *
 * When the `signal` of the options aborts, the subscription ends as by {@link Subscription.stop}: loops just end. `ready`, if the
 * publisher has not answered, rejects with the signal's reason.
 *
 * @public
 */
interface Subscription extends AsyncIterable<ChannelMessage>, AsyncDisposable {
    /**
     * Resolves when the publisher accepted the subscription; rejects with `ERR_CHANNEL_UNSUBSCRIBED` when it is ended here before.
     * Never an unhandled rejection.
     */
    readonly ready: Promise<void>;
    /**
     * Messages that nobody read in time, and that did not wait; with those that {@link Subscription.stop} left unread. What
     * a `shutdown` of this very node leaves unread goes with it, and is not counted.
     */
    readonly dropped: bigint;
    /**
     * Ends the subscription. Loops end at once: what is here and was not read is dropped and counted in `dropped`, but for what was
     * not acknowledged, of which the publisher hears that it was not taken, and for what other readers of the queue group get.
     * Fine when it has ended, also with its node. To read what is here first, `unsubscribeChannel` and let the loops come to
     * their end.
     */
    stop(): Promise<void>;
}

/**
 * How a mesh node is set up.
 *
 * @public
 */
interface MeshNodeOptions {
    /** `host:port` to listen on; port 0 picks one, see `localAddr()`. */
    bindAddr: string;
    /** The secret that all nodes of a mesh share: 64 hex characters or 32 bytes. */
    psk: string | Uint8Array;
    /** 32 bytes: the node's own identity. Default: a new one. */
    identitySeed?: Uint8Array;
    /**
     * Default 5000. Any traffic counts as a heartbeat. Sent at least four times in `sessionTimeoutMs`, whatever this says, and once in
     * 10 ms at most: 0 means as often as that.
     */
    heartbeatIntervalMs?: number;
    /** Default 30 000, at least 40: a peer that is silent for this long is lost; for half of it, suspected. */
    sessionTimeoutMs?: number;
    /** Dials a peer again, with backoff, when a connection to it that this node had dialled breaks. Default `true`. */
    reconnect?: boolean;
    /** Largest payload and largest output of this node, in bytes. Default 64 MiB. The same for all nodes of a mesh is best. */
    maxPayloadBytes?: number;
    /** Most sessions at a time. Default 1024. */
    maxPeers?: number;
    /**
     * Whether this node forwards sessions of peers that cannot reach one another, see {@link PeerInfo.via}. It carries their
     * traffic and cannot read it. Default `true`.
     */
    relay?: boolean;
    /**
     * How far the clock of a token's issuer may be ahead of this node's, in milliseconds: so much earlier than it says a
     * token is taken at the channels of this node. Default 5000, at most 300 000; 0 takes none early. When a token ends is
     * never put off.
     */
    tokenClockSkewMs?: number;
    /** The node's place: 1 to 4 levels of 0 to 255. Decides which channels it may see, see `ChannelVisibility`. */
    subnet?: SubnetOptions;
    /**
     * Addresses (`host:port`) of nodes to find the mesh through; one that is there is enough. Each is tried until it is there,
     * and again when it is lost; the node's own address may be among them. Nodes that take part learn of each other and form
     * sessions by themselves, each with all others up to `maxPeers`: directly, or through a common peer where that fails.
     * Neither `create` nor `start` waits for that; spawns, calls and subscriptions do: until the node has joined, or for two
     * seconds after its start when no seed answers (ten, while one is being reached, and ten more while members are being met).
     */
    seeds?: readonly string[];
    /**
     * How often announcements of other nodes that have run out are dropped, and with them what they were let in to. Default
     * 60 000. They count for nothing as soon as they have run out: five minutes after the node was last heard to announce.
     */
    capabilityGcIntervalMs?: number;
    /** Announcements are always signed; accepted for compatibility. */
    requireSignedCapabilities?: boolean;
    /** Accepted for compatibility, checked, and without effect: there is nothing to tune. */
    numShards?: number;
}
/**
 * A place in a hierarchy of subnets, outermost level first.
 *
 * @public
 */
interface SubnetOptions {
    levels: readonly number[];
}
/**
 * `suspected`: silent for half of the session timeout, or the connection broke; `lost`: given up.
 *
 * @public
 */
type PeerState = 'connected' | 'suspected' | 'lost';
/**
 * Another node, as this node sees it.
 *
 * @public
 */
interface PeerInfo {
    readonly nodeId: bigint;
    /** Its 32-byte public key, proven in the handshake. */
    readonly entityId: Buffer;
    /** Where it was dialled or came from; `relay:` and a node id when that peer relays the session. */
    readonly addr: string;
    /**
     * The peer that relays the session, or `null` for a direct one. Nodes that cannot reach each other, and are needed by
     * one another, get a session through a common peer, end to end; a direct one replaces it as soon as there is one.
     */
    readonly via: bigint | null;
    readonly state: PeerState;
    /** Round-trip time of the last heartbeat, or `null` before the first. */
    readonly rttMs: number | null;
    /** When it entered this state. */
    readonly since: Date;
}
/**
 * A peer came, is suspected, or went.
 *
 * @public
 */
interface PeerEvent {
    readonly type: PeerState;
    readonly nodeId: bigint;
}
/**
 * What a mesh node emits.
 *
 * @public
 */
interface MeshNodeEvents {
    peer: PeerEvent;
}

/** Mesh nodes: encrypted, authenticated sessions with other nodes. */

/**
 * A node of the mesh: listens, dials, and keeps an encrypted session with each peer.
 *
 * It keeps the process alive until {@link MeshNode.shutdown} or {@link MeshNode.unref}, like a `net.Server`.
 *
 * @example
 * ```ts
 * const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
 * await mesh.start();
 * const peer = await mesh.connect('10.0.0.7:7946');
 * ```
 *
 * @public
 */
declare class MeshNode extends Emitter<MeshNodeEvents> implements AsyncDisposable {
    #private;
    private constructor();
    /** A node that listens and accepts sessions. Rejects with a {@link MeshError} that names the address. */
    static create(options: MeshNodeOptions): Promise<MeshNode>;
    /** `host:port` that it really listens on; after shutdown, that it listened on. */
    localAddr(): string;
    /** Its address as a node. */
    nodeId(): bigint;
    /** Its 32-byte public key; a copy. */
    entityId(): Buffer;
    /** Its Noise static key, in hex: what others may pin. */
    publicKey(): string;
    /**
     * Opens a session; resolves with the peer's node id. Gives the one that exists when there is one. A given key or id is a
     * pin: another node at that address rejects with `ERR_MESH_PIN_MISMATCH`. This joins nothing: of what lives on members of
     * that node's mesh, this one finds only what its own peers host, and spawns what others have. See {@link MeshNode.join}.
     */
    connect(addr: string, publicKey?: string, nodeId?: bigint, options?: WaitOptions): Promise<bigint>;
    /**
     * Joins the mesh that the node at `addr` belongs to, as with `seeds`, but once: resolves when there is a session with it,
     * and rejects as {@link MeshNode.connect} does. The other members are learnt of when this node and that one have started.
     * What members say of each other are hints: who answers at an address proves to be the one that was meant.
     */
    join(addr: string, options?: WaitOptions): Promise<void>;
    /** Resolves with the peer's address once it has a session, at once if it has one. Keeps no process alive. */
    accept(nodeId: bigint, options?: WaitOptions): Promise<string>;
    /**
     * Starts heartbeats and the traffic of the layers above: between two nodes it flows once both were started. Idempotent;
     * sessions may come before or after.
     */
    start(): Promise<void>;
    /** All peers that are not forgotten; none after shutdown. */
    peers(): PeerInfo[];
    /** How many peers are not lost. */
    peerCount(): number;
    /**
     * Makes a channel of this node, or gives the one of this name another configuration: whom that does not let in is out.
     * Throws {@link ChannelError} for an invalid one.
     */
    registerChannel(config: ChannelConfig): void;
    /**
     * Takes a channel of this node away: all its subscriptions end, with `ERR_CHANNEL_UNKNOWN`. `false` when this node has no
     * channel of this name. Messages that were not acknowledged yet count as failed. One that is registered under the same
     * name later is another channel; its numbers go on.
     */
    unregisterChannel(name: string): boolean;
    /**
     * Subscribes this node to a channel of a publisher with which it has a session, or makes it a member of a queue group. While
     * this node has yet to join (`seeds`, or a `join` under way), the session is waited for.
     * Resolves when the publisher has agreed; rejects with {@link ChannelAuthError}, {@link ChannelError} or
     * {@link NotConnectedError}; with `ERR_CHANNEL_UNSUBSCRIBED` when this node unsubscribes before the answer. Waits for the
     * `start()` of both, however long that takes. Messages are read with {@link MeshNode.messages}; those that nobody reads are
     * acknowledged and dropped.
     */
    subscribeChannel(publisher: bigint, channel: string, options?: SubscribeOptions): Promise<void>;
    /**
     * Leaves a channel with all its queue groups, or with `queueGroup` only that one; resolves when the publisher knows. Whoever
     * reads it comes to an end. Not to be in it is fine.
     */
    unsubscribeChannel(publisher: bigint, channel: string, options?: UnsubscribeOptions): Promise<void>;
    /**
     * Publishes on a channel of this node, to every node that has subscribers. Rejects when nothing was sent: with
     * {@link ChannelError} for an unknown channel, a payload that is too large, or too many a second; with {@link BackpressureError}
     * when 16 384 reliable messages or 256 MiB of them are on their way from this node.
     */
    publish(channel: string, payload: Uint8Array, options?: PublishOptions): Promise<PublishReport>;
    /**
     * Subscribes and receives. Each subscription gets every message; the node leaves with the last of them. Of a queue group the
     * node is one member, and each message is for one of its subscriptions. While this node has yet to join, the session with the
     * publisher is waited for.
     */
    messages(publisher: bigint, channel: string, options?: SubscribeOptions): Subscription;
    /**
     * Enters what an issuer has revoked. Whoever is in with such a token is out, at the channels of this node and of every node
     * that hears of it: it is passed on to all peers and by them to theirs, and to whoever comes later, as long as a node that
     * holds it is there. Resolves when it was handed to every peer with which this node has a session; twice is once, and an older
     * one changes nothing. Any node of the mesh will do. Rejects with {@link TokenError}: `invalid_format`, or
     * `invalid_signature` for what the issuer did not sign; and with {@link BackpressureError} when this node holds as many as it may.
     */
    revoke(revocation: Revocation | Uint8Array, options?: WaitOptions): Promise<void>;
    /**
     * The revocations that this node holds, one of each issuer: the highest. They are gone when its process is: keep them where
     * you keep seeds, and a node that starts when no other is there can be told with {@link MeshNode.revoke}.
     */
    revocations(): Revocation[];
    /**
     * Says what this node can do, from now on and in place of what it said before: signed, to every peer and to those that come,
     * as long as it lives. Resolves when it counts on this node and is on its way to the peers; what this node asks of a peer
     * later comes behind it. At first a node announces nothing but where it is (`subnet`).
     */
    announceCapabilities(caps: CapabilitySet): Promise<void>;
    /**
     * The nodes that have announced what `filter` asks for, sorted by id: this one if it has, and peers with a session between
     * started nodes. An empty filter finds all of them.
     */
    findNodes(filter: CapabilityFilter): bigint[];
    /** The best of them, by the preferences of `requirement`; of equals the one with the lowest id. `null` when there is none. */
    findBestNode(requirement: CapabilityRequirement): bigint | null;
    /** {@link MeshNode.findNodes} in a part of the mesh. */
    findNodesScoped(filter: CapabilityFilter, scope: ScopeFilter): bigint[];
    /** {@link MeshNode.findBestNode} in a part of the mesh. */
    findBestNodeScoped(requirement: CapabilityRequirement, scope: ScopeFilter): bigint | null;
    /** Keeps the process alive again, after {@link MeshNode.unref}. */
    ref(): this;
    /** Lets the process end although this node lives. */
    unref(): this;
    /** Says goodbye to the peers and closes everything; what waits rejects with `ERR_MESH_SHUT_DOWN`. Idempotent. */
    shutdown(): Promise<void>;
    /** The same as `shutdown()`, for `await using`. */
    [Symbol.asyncDispose](): Promise<void>;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}

/**
 * What `process` gives back: nothing, one payload, or several. Each payload becomes one link of the daemon's chain.
 *
 * @public
 */
type Outputs = void | null | Uint8Array | readonly Uint8Array[];
/**
 * Why a daemon stopped: `stop()`, it lives on another node now, a copy with a newer epoch took over, or its runtime
 * was shut down.
 *
 * @public
 */
type StopReason = 'stopped' | 'migrated' | 'fenced' | 'shutdown';
/**
 * A stateful event processor. Any object with a `process` method is one: an instance of a class (also with `#private`
 * state), a closure, a plain object. `this` is the instance in every call.
 *
 * Only one call runs at a time, in the order of the events. What a method throws or rejects with fails that operation
 * alone and reaches its caller as the `cause` of a {@link DaemonError}.
 *
 * @example
 * ```ts
 * class Counter implements MeshDaemon {
 *   #seen = 0;
 *   process() {
 *     this.#seen += 1;
 *     return Buffer.from(String(this.#seen));
 *   }
 *   snapshot() {
 *     return Buffer.from(String(this.#seen));
 *   }
 *   restore(state: Buffer) {
 *     this.#seen = Number(state.toString());
 *   }
 * }
 * ```
 *
 * @public
 */
interface MeshDaemon {
    /** The kind of a daemon that was spawned as an instance, unless its config names one. */
    readonly name?: string;
    /**
     * Processes one event. Returning nothing means no outputs. More than 65 536 are none either: whoever waits gets
     * `ERR_DAEMON_INVALID_OUTPUT`.
     */
    process(event: CausalEvent, context: DaemonContext): Outputs | Promise<Outputs>;
    /**
     * The whole state, as `restore` takes it. The Buffer belongs to the runtime until the operation ends: it is read in
     * slices, and changing or detaching it meanwhile fails that operation. Absent, or `null`: the daemon is stateless.
     */
    snapshot?(): Uint8Array | null | Promise<Uint8Array | null>;
    /** Takes over the state of a snapshot; called once, before the first event. The Buffer may be kept. */
    restore?(state: Buffer): void | Promise<void>;
    /** What a node must offer to be given this daemon. Reserved: not used yet, any node may get it. */
    requirements?: CapabilityFilter;
    /** The tag-set form of hard placement needs. Reserved: not used yet. */
    requiredCapabilities?: CapabilitySet;
    /** What a node had better offer. Reserved: not used yet. */
    optionalCapabilities?: CapabilitySet;
    /**
     * The daemon does not live here any more. Nothing waits for what this returns; a failure goes to the logger at `warn`.
     * Not called for an object whose state could not be restored.
     */
    onStop?(reason: StopReason): void | Promise<void>;
}
/**
 * Makes the instance of a daemon: once per spawn and once per arrival, never at registration.
 *
 * @public
 */
type DaemonFactory = (context: DaemonFactoryContext) => MeshDaemon | Promise<MeshDaemon>;
/**
 * Whom a factory makes an instance for.
 *
 * @public
 */
interface DaemonFactoryContext {
    readonly originHash: bigint;
    readonly kind: string;
}
/**
 * An event with its place in the history of its origin. Valid after `process` returned.
 *
 * Links in a daemon's chain are its outputs. What arrives by `call`, `send` or `context.send` is no output: its `sequence`
 * counts what its sender's node sent, and `parentHash` and `horizon` are `0n`. With `deliver` and `deliverCausal`, `originHash` and
 * `sequence` are what was given, and `parentHash` and `horizon` are `0n` as well: a {@link DeliveredEvent} has neither.
 *
 * @public
 */
interface CausalEvent {
    /** Address of who emitted it. */
    readonly originHash: bigint;
    /** Its number in the emitter's chain. */
    readonly sequence: bigint;
    /** Hash of the emitter's previous link and payload. */
    readonly parentHash: bigint;
    /** 64-bit summary of what the emitter had observed. */
    readonly horizon: bigint;
    /** The receiver's own copy. */
    readonly payload: Buffer;
    /**
     * Unix time of arrival in nanoseconds: when it came into the mailbox. Of an event that ran on its caller's stack it is
     * when that turn of the event loop began, so up to 5 ms too early; of an output, when it was handed over. Both of these
     * are in whole milliseconds.
     */
    readonly receivedAt: bigint;
    /** The channel it was published to, or `null` for one that was addressed to this daemon. */
    readonly channel: string | null;
}
/**
 * What a caller hands to `deliver`: the emitter and the number are the caller's to choose and drop nothing.
 *
 * @public
 */
interface DeliveredEvent {
    readonly originHash: bigint;
    readonly sequence: bigint;
    readonly payload: Uint8Array;
}
/**
 * What a daemon can do while it processes an event. It is dead once that event settled or timed out: its methods then
 * reject. What begins behind that event (a call to the daemon itself, its stop, snapshot or move) cannot be waited for here.
 *
 * @public
 */
interface DaemonContext {
    /** The daemon's own address. */
    readonly originHash: bigint;
    /** The daemon's own 32-byte public key. */
    readonly entityId: Buffer;
    /** Aborted when the daemon is stopped or the callback timeout passes. */
    readonly signal: AbortSignal;
    /** Calls a daemon on any node as this daemon; resolves with its outputs. */
    call(originHash: bigint, payload: Uint8Array): Promise<Buffer[]>;
    /** Sends to a daemon on any node as this daemon; resolves when its host has the event in the mailbox. */
    send(originHash: bigint, payload: Uint8Array): Promise<void>;
    /** Publishes on a channel of the node that the daemon lives on now. Subscribed daemons see this one as the emitter. */
    publish(channel: string, payload: Uint8Array, options?: PublishOptions): Promise<PublishReport>;
    /**
     * Signs with the daemon's key; 64 bytes. The bytes are signed as they are: whoever can choose them wholly gets a token, a claim or
     * a subscription in the daemon's name. Put a prefix of your own before what others choose.
     */
    sign(message: Uint8Array): Buffer;
}

/** Moves that this node drives, as their callers see them. */

/**
 * A move under way. Not a thenable: awaiting `migrate()` gives this. Dropping it changes nothing.
 *
 * @public
 */
declare class MigrationHandle {
    #private;
    /** Which daemon. */
    get originHash(): bigint;
    /** Where it lived when the move began. */
    get sourceNode(): bigint;
    /** Where it goes. */
    get targetNode(): bigint;
    /** Where the move stands; `null` when it is over. */
    phase(): MigrationPhase | null;
    /**
     * Resolves when the daemon lives on the target; rejects with a {@link MigrationError} that says where it is. Has no
     * deadline, may be called late and often.
     */
    wait(o?: WaitOptions): Promise<void>;
    /**
     * The same with a deadline: when it passes, the move is given up everywhere, and this rejects with kind `timeout`. After
     * the hand-over nothing is given up: `outcome` is then `target` or `unknown`.
     */
    waitWithTimeout(ms: Millis): Promise<void>;
    /**
     * Gives the move up. Resolves when the daemon is live on the source again; rejects with kind `wrong-phase` when it was
     * handed over already, or the move is over, and with what {@link MigrationHandle.wait} rejects with when the move failed
     * meanwhile and nobody can say that the daemon is there.
     */
    cancel(): Promise<void>;
    /** Each phase once, in order, from the present one on. Ends with the move and never throws. */
    phases(): AsyncIterable<MigrationPhase>;
    /** How far the move is, whenever that changes. Ends with the move and never throws. */
    progress(): AsyncIterable<MigrationProgress>;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}

/** The daemon runtime of a mesh node. */

/**
 * Hosts daemons on a mesh node, delivers events to them wherever they live, and moves them.
 *
 * @example
 * ```ts
 * const runtime = DaemonRuntime.create(mesh);
 * runtime.registerFactory('counter', () => new Counter());
 * runtime.start();
 * const counter = await runtime.spawn('counter', Identity.generate());
 * const [seen] = await counter.call(Buffer.from('hello'));
 * const move = await runtime.migrate(counter.originHash, peer);
 * await move.wait();
 * ```
 *
 * @public
 */
declare class DaemonRuntime extends Emitter<DaemonRuntimeEvents> implements AsyncDisposable {
    #private;
    private constructor();
    /**
     * The runtime of a mesh, which may have one at a time (`ERR_DAEMON_RUNTIME_EXISTS`), and none once it was shut down
     * (`ERR_MESH_SHUT_DOWN`).
     */
    static create(mesh: MeshNode, options?: DaemonRuntimeOptions): DaemonRuntime;
    /** The mesh node below. */
    get mesh(): MeshNode;
    /** Registers a kind. The factory is called once per spawn and once per arrival, never now. */
    registerFactory(kind: string, factory: DaemonFactory): void;
    /** Makes the runtime ready. Idempotent. */
    start(): void;
    /** Whether daemons may be spawned. */
    isReady(): boolean;
    /** How many daemons live here. */
    daemonCount(): number;
    /** Ends the runtime: daemons stop, what waits rejects with `ERR_DAEMON_SHUTTING_DOWN`. Idempotent. */
    shutdown(): Promise<void>;
    /** The same as `shutdown()`, for `await using`. */
    [Symbol.asyncDispose](): Promise<void>;
    /**
     * Spawns a daemon of a registered kind. It is looked up first, in the mesh that this node joined and at all its peers, and
     * refused with `ERR_DAEMON_ALREADY_REGISTERED` when it lives or is being spawned elsewhere. A node that has yet to join
     * (`seeds`, or a `join` under way) does so first; when it finds nobody for some seconds, the spawn goes on. One that only
     * `connect`ed does not know of what other members of its peers' mesh host. Where nobody could know of another copy, as
     * behind a partition, both succeed, and one is ended when their nodes meet (`onStop('fenced')`).
     */
    spawn(kind: string, identity: Identity, config?: DaemonHostConfig): Promise<DaemonHandle>;
    /** Spawns a daemon with a ready instance. `factory`, when given, serves for others of its kind that arrive. */
    spawnWithDaemon(identity: Identity, daemon: MeshDaemon, config?: DaemonInstanceConfig, factory?: DaemonFactory): Promise<DaemonHandle>;
    /** Spawns a daemon of a registered kind with the state of a snapshot of the same identity. */
    spawnFromSnapshot(kind: string, identity: Identity, snapshot: Uint8Array, config?: DaemonHostConfig): Promise<DaemonHandle>;
    /** The same with a ready instance. */
    spawnFromSnapshotWithDaemon(identity: Identity, snapshot: Uint8Array, daemon: MeshDaemon, config?: DaemonInstanceConfig, factory?: DaemonFactory): Promise<DaemonHandle>;
    /** Stops a daemon of this runtime behind the events that it accepted. */
    stop(originHash: bigint): Promise<void>;
    /** An encoded snapshot of a daemon of this runtime; `null` of a stateless one. */
    snapshot(originHash: bigint): Promise<Buffer | null>;
    /**
     * Delivers an event to a daemon on any node; resolves with its outputs. Emitter and number are the caller's. Towards another node
     * it waits while the daemon has no room, as all that this one has for it, up to 65 536 events and 64 MiB: beyond that `deliver`,
     * `call` and `send` reject at once with {@link BackpressureError}, and the event does not run.
     */
    deliver(originHash: bigint, event: DeliveredEvent): Promise<Buffer[]>;
    /** The same, with the same limit; resolves with the outputs and their links. */
    deliverCausal(originHash: bigint, event: DeliveredEvent): Promise<CausalEvent[]>;
    /**
     * Delivers many events of this node to one daemon, in order. Rejects with the first failure; the others run too. Without
     * payloads there is nothing to fail: it resolves with `[]`, whether there is such a daemon or not. What the mailbox has
     * no room for follows as it drains; then events delivered later may run before the end of the batch. For another node it
     * keeps within what may wait (see {@link DaemonRuntime.deliver}), unless other events take that up.
     */
    deliverMany(originHash: bigint, payloads: readonly Uint8Array[]): Promise<Buffer[][]>;
    /** Calls a daemon on any node; resolves with its outputs. What may wait is limited, see {@link DaemonRuntime.deliver}. */
    call(originHash: bigint, payload: Uint8Array, options?: CallOptions): Promise<Buffer[]>;
    /**
     * Sends to a daemon on any node; resolves when its host has the event in the mailbox. It waits for that for 60 s; then it
     * rejects with `ERR_DAEMON_MAILBOX_FULL` when the host had no room for it, and with `ERR_DAEMON_PEER_LOST` while none answers.
     * What may wait is limited, see {@link DaemonRuntime.deliver}.
     */
    send(originHash: bigint, payload: Uint8Array): Promise<void>;
    /**
     * The node id of a daemon's host; `null` when those that were asked know of none: in the mesh that this node joined the members
     * that keep the address, and every peer that is no member of it, for what that peer itself hosts: a node that only
     * `connect`ed does not find what other members of its peers' mesh host. `null` is also the answer when nobody tells for two
     * seconds, as when this node has yet to join (`call` goes on asking), and for what lives on a node before its `mesh.start()`.
     */
    locate(originHash: bigint): Promise<bigint | null>;
    /**
     * Has a daemon of this runtime receive a channel, or share it in a queue group, as events with `event.channel` set, until it ends,
     * wherever it moves. Resolves when the publisher has agreed. Rejects with {@link NotConnectedError} without a session, also before
     * this node has joined; overtaken by a move with `ERR_DAEMON_NOT_FOUND`, by unsubscribing or a stop with `ERR_CHANNEL_UNSUBSCRIBED`.
     */
    subscribeChannel(origin: bigint, publisher: bigint, channel: string, options?: SubscribeOptions): Promise<void>;
    /**
     * Ends that for the channel with all its queue groups, or with `queueGroup` for that one; resolves when the publisher knows,
     * also when it was not subscribed. A daemon that is handed over meanwhile goes on receiving (`ERR_DAEMON_NOT_FOUND`).
     */
    unsubscribeChannel(origin: bigint, publisher: bigint, channel: string, options?: UnsubscribeOptions): Promise<void>;
    /** What a daemon of this runtime receives, as far as the publishers have agreed. */
    subscriptions(originHash: bigint): DaemonSubscription[];
    /**
     * Announces a daemon that will arrive with its key. It lives by `config` here, whatever it had elsewhere, but for its
     * `outputChannel`, which travels.
     */
    expectMigration(kind: string, originHash: bigint, config?: DaemonHostConfig): void;
    /** Announces a daemon that will arrive and whose key is here. */
    registerMigrationTargetIdentity(kind: string, identity: Identity, config?: DaemonHostConfig): void;
    /** Lets only one node bring an announced daemon. `false` without an announcement, or when another node is bound. */
    bindExpectedOrchestrator(originHash: bigint, nodeId: bigint): boolean;
    /**
     * Starts to move a daemon. Rejects for what this node knows; what peers answer arrives through
     * {@link MigrationHandle.wait}.
     */
    startMigration(originHash: bigint, sourceNode: bigint, targetNode: bigint, opts?: MigrationOptions): Promise<MigrationHandle>;
    /** The same with options, which have to be there. */
    startMigrationWith(originHash: bigint, sourceNode: bigint, targetNode: bigint, opts: MigrationOptions): Promise<MigrationHandle>;
    /** Starts to move a daemon from wherever it lives now. */
    migrate(originHash: bigint, targetNode: bigint, opts?: MigrationOptions): Promise<MigrationHandle>;
    /** The phase of a move that this node has a part in; `null` without one. */
    migrationPhase(originHash: bigint): MigrationPhase | null;
    /** All parts that this node has in moves. */
    migrations(): MigrationInfo[];
    /**
     * Your word that the other host of a move in doubt (`outcome: 'unknown'`) is gone: the copy of this node, which is the
     * source or the target of that move, goes live. What was handed over does not run here; a copy that lives after all is
     * ended once it can be told (`onStop('fenced')`). Other nodes are asked first, for two seconds at most: a daemon that had
     * been moved on before stays where it lives, and the copy of this node is let go. Resolves when either is done. Rejects
     * with `ERR_DAEMON_NOT_FOUND` when nothing is here, with `wrong-phase` while the other host is in reach. Of a daemon that
     * lives here it does nothing.
     */
    recover(originHash: bigint): Promise<void>;
    /**
     * Moves every daemon of this runtime to connected nodes that host its kind, the least loaded first, and says what became
     * of each. A move that fails is tried on another node; a daemon that nobody takes stays (`outcome: 'source'`). Meanwhile
     * nothing is spawned here (`ERR_DAEMON_SHUTTING_DOWN`) and nothing arrives. When the time is up, or `signal` is aborted,
     * moves that can still be given up are.
     *
     * @example
     * ```ts
     * process.once('SIGTERM', () => {
     *   void runtime.drain({ timeoutMs: 30_000 }).catch(console.error).finally(() => mesh.shutdown());
     * });
     * ```
     */
    drain(options?: DrainOptions): Promise<DrainReport[]>;
    /** What `console.log` shows. */
    [inspect.custom](depth: number, inspectOptions: InspectOptions): string;
}

/**
 * How a group picks the member that gets a request.
 *
 * Reserved: not used yet.
 *
 * @public
 */
type Strategy = 'round-robin' | 'weighted-round-robin' | 'least-connections' | 'weighted-least-connections' | 'random' | 'weighted-random' | 'consistent-hash' | 'least-latency' | 'least-load' | 'power-of-two' | 'adaptive';
/**
 * What routing may look at.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface RequestContext {
    routingKey?: string;
    sessionId?: string;
    requestId?: string;
    clientZone?: string;
    requiredTags?: readonly string[];
}
/**
 * One member of a group.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface MemberInfo {
    readonly index: number;
    readonly originHash: bigint;
    readonly nodeId: bigint;
    readonly entityId: Buffer;
    readonly healthy: boolean;
}
/**
 * How a group is.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface GroupHealth {
    readonly status: 'healthy' | 'degraded' | 'dead';
    readonly healthy: number;
    readonly total: number;
}
/**
 * How a group of interchangeable members is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface ReplicaGroupConfig {
    replicaCount: number;
    /** 32 bytes that the members' keys are derived from. */
    groupSeed: Uint8Array;
    lbStrategy: Strategy;
    hostConfig?: DaemonHostConfig;
}
/**
 * How a group of forks is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface ForkGroupConfig {
    forkCount: number;
    lbStrategy: Strategy;
    hostConfig?: DaemonHostConfig;
}
/**
 * How a group of one active and several standby members is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface StandbyGroupConfig {
    /** At least 2. */
    memberCount: number;
    /** 32 bytes that the members' keys are derived from. */
    groupSeed: Uint8Array;
    hostConfig?: DaemonHostConfig;
}
/**
 * Where a fork comes from.
 *
 * Reserved: not used yet.
 *
 * @public
 */
interface ForkRecord {
    readonly index: number;
    readonly originHash: bigint;
    readonly parentOrigin: bigint;
    readonly forkSeq: bigint;
    readonly sentinel: bigint;
    /** Whether the parent signed it; `false` for a fork of an unknown parent. */
    readonly attested: boolean;
}
/**
 * What a member of a standby group is.
 *
 * Reserved: not used yet.
 *
 * @public
 */
type StandbyRole = 'active' | 'standby';

/**
 * Stateful daemons on an encrypted mesh of Node processes, that move live from one process to another.
 *
 * @packageDocumentation
 */

/** The version of the package and of its native code. */
declare function version(): string;

export { BackpressureError, ChannelAuthError, ChannelError, DaemonError, DaemonHandle, DaemonRuntime, GroupError, Identity, IdentityError, MeshDaemonError, MeshError, MeshNode, MigrationError, MigrationHandle, NotConnectedError, Revocation, Token, TokenChain, TokenError, channelHash, delegateToken, setLogger, version };
export type { AcceleratorCapability, BackpressureErrorCode, CallOptions, CapabilityFilter, CapabilityRequirement, CapabilitySet, CausalEvent, ChannelAuthErrorCode, ChannelAuthErrorKind, ChannelAuthErrorOptions, ChannelConfig, ChannelErrorCode, ChannelMessage, ChannelVisibility, DaemonContext, DaemonErrorCode, DaemonErrorOptions, DaemonFactory, DaemonFactoryContext, DaemonHostConfig, DaemonInstanceConfig, DaemonLifeEvent, DaemonRuntimeEvents, DaemonRuntimeOptions, DaemonStats, DaemonSubscription, DaemonSubscriptionEvent, DeliveredEvent, DrainOptions, DrainReport, ErrorCode, ForkGroupConfig, ForkRecord, GpuCapability, GroupErrorCode, GroupErrorKind, GroupErrorOptions, GroupHealth, HardwareCapabilities, IdentityErrorCode, IssueTokenOptions, LogLevel, LogRecord, Logger, LoggerOptions, MemberInfo, MeshDaemon, MeshDaemonErrorCode, MeshDaemonErrorOptions, MeshErrorCode, MeshErrorOptions, MeshNodeEvents, MeshNodeOptions, MigrationErrorCode, MigrationErrorKind, MigrationErrorOptions, MigrationEvent, MigrationInfo, MigrationOptions, MigrationOutcome, MigrationPhase, MigrationProgress, MigrationRequest, MigrationRole, Millis, ModelCapability, NamedVersion, NotConnectedErrorCode, Outputs, PeerEvent, PeerInfo, PeerState, PublishFailure, PublishOptions, PublishReport, ReplicaGroupConfig, RequestContext, ResourceLimits, RevokeTokensOptions, ScopeFilter, SoftwareCapabilities, StandbyGroupConfig, StandbyRole, StopReason, Strategy, SubnetOptions, SubscribeOptions, Subscription, TokenErrorCode, TokenErrorKind, TokenErrorOptions, TokenLike, TokenScope, ToolCapability, UnsubscribeOptions, WaitOptions };
