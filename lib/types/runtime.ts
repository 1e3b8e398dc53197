import type { MeshDaemonError } from '../errors/classes';
import type { MigrationEvent, MigrationRequest } from './migration';
import type { Millis, WaitOptions } from './values';

/**
 * How a runtime treats daemons that want to come or go.
 *
 * @public
 */
export interface DaemonRuntimeOptions {
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
export interface DaemonHostConfig {
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
export interface DaemonInstanceConfig extends DaemonHostConfig {
  /** The kind; default `daemon.name`. With neither, the daemon cannot move. */
  kind?: string;
}

/**
 * Counters of one daemon. They move with it.
 *
 * @public
 */
export interface DaemonStats {
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
export interface CallOptions extends WaitOptions {
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
export interface DaemonSubscription {
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
export type DaemonSubscriptionEvent = DaemonSubscription & { readonly originHash: bigint } & (
    | {
        readonly type: 'ended';
        /** A {@link ChannelError}, or `ERR_BACKPRESSURE`, or `ERR_IDENTITY_READ_ONLY` of a daemon that moved without its key. */
        readonly error: MeshDaemonError;
      }
    | {
        readonly type: 'gap';
        /** So many messages are gone at most; those that need no acknowledgement count too. */
        readonly missed: bigint;
      }
  );

/**
 * Something happened to a daemon of this runtime.
 *
 * @public
 */
export interface DaemonLifeEvent {
  readonly type: 'spawned' | 'stopped' | 'migrated-in' | 'migrated-out' | 'fenced';
  readonly originHash: bigint;
  readonly kind: string;
}

/**
 * What a runtime emits.
 *
 * @public
 */
export interface DaemonRuntimeEvents {
  /** A move that this node takes part in reached a phase, or failed. */
  migration: MigrationEvent;
  /** A daemon came or went. */
  daemon: DaemonLifeEvent;
  /** What a daemon receives from a channel ended, or has a gap. */
  subscription: DaemonSubscriptionEvent;
}
