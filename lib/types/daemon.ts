import type { CapabilityFilter, CapabilitySet } from './capabilities';
import type { PublishOptions, PublishReport } from './channels';

/**
 * What `process` gives back: nothing, one payload, or several. Each payload becomes one link of the daemon's chain.
 *
 * @public
 */
// eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- a `process` without `return` is one
export type Outputs = void | null | Uint8Array | readonly Uint8Array[];

/**
 * Why a daemon stopped: `stop()`, it lives on another node now, a copy with a newer epoch took over, or its runtime
 * was shut down.
 *
 * @public
 */
export type StopReason = 'stopped' | 'migrated' | 'fenced' | 'shutdown';

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
export interface MeshDaemon {
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
export type DaemonFactory = (context: DaemonFactoryContext) => MeshDaemon | Promise<MeshDaemon>;

/**
 * Whom a factory makes an instance for.
 *
 * @public
 */
export interface DaemonFactoryContext {
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
export interface CausalEvent {
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
export interface DeliveredEvent {
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
export interface DaemonContext {
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
