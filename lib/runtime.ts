/** The daemon runtime of a mesh node. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import type { DaemonHandle } from './daemon';
import { publishMigration } from './diagnostics';
import { subscribeDaemon, subscriptionEvent, subscriptionsOf, unsubscribeDaemon } from './daemon-channels';
import { Dispatcher } from './dispatcher';
import { CAUSAL, OUTPUTS } from './dispatcher-tickets';
import { drain, readDrainOptions } from './drain';
import { Emitter } from './emitter';
import { DaemonError, MigrationError } from './errors/index';
import { signingHandle, type Identity } from './identity';
import { checkMeshLive, endsWith, explained, maxPayload, meshHandle, type MeshNode } from './mesh';
import { handleOf, Move, type MigrationHandle } from './migration';
import { Moves, recover } from './moves';
import { operation, rejected } from './operations';
import { readHostConfig, readMigrationOptions, readRuntimeOptions } from './runtime-options';
import type { DaemonNotice, GateNotice, MigrationNotice, SettleWork } from './runtime-work';
import { spawn, spawnInstance, type Nursery } from './spawning';
import type { CausalEvent, DaemonFactory, DeliveredEvent, MeshDaemon } from './types/daemon';
import type { SubscribeOptions, UnsubscribeOptions } from './types/channels';
import type { DrainOptions, DrainReport, MigrationInfo, MigrationOptions, MigrationPhase } from './types/migration';
import type {
  CallOptions,
  DaemonHostConfig,
  DaemonInstanceConfig,
  DaemonRuntimeEvents,
  DaemonRuntimeOptions,
  DaemonSubscription,
} from './types/runtime';
// The two of every event by themselves: what an index passes on is read through a getter.
import { bytes, bytesArray } from './validate/bytes';
import { daemonArea } from './validate/area';
import { abortable, callable, millis, name, options as readOptions, signal as readSignal } from './validate/index';
import { u64 } from './validate/numbers';

const CALL_TIMEOUT_MS = 60_000;

/** Only this module can make a runtime. */
const internal = Symbol('internal');

let dispatcherOf: (runtime: DaemonRuntime) => Dispatcher;
let watchGates: (runtime: DaemonRuntime, listener: (message: string) => void) => void;

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
export class DaemonRuntime extends Emitter<DaemonRuntimeEvents> implements AsyncDisposable {
  readonly #mesh: MeshNode;
  readonly #dispatcher: Dispatcher;
  readonly #moves: Moves;
  readonly #unlink: () => void;
  #gates: ((message: string) => void) | undefined;
  #shutdown: Promise<void> | undefined;

  static {
    dispatcherOf = (runtime) => runtime.#dispatcher;
    watchGates = (runtime, listener) => {
      runtime.#gates = listener;
    };
  }

  private constructor(key: typeof internal, mesh: MeshNode, given: DaemonRuntimeOptions | undefined) {
    if (key !== internal) throw daemonArea('use DaemonRuntime.create()');
    super(daemonArea, { migration: true, daemon: true, subscription: true });
    const meshId = meshHandle(daemonArea, 'mesh', mesh);
    const { config, admit, admitOrchestrator } = readRuntimeOptions(given, maxPayload(mesh));
    checkMeshLive(mesh);
    this.#mesh = mesh;
    this.#moves = new Moves((failure, nodes) => explained(mesh, failure, nodes));
    this.#dispatcher = new Dispatcher(
      (wake, { inbox, outbox }, { buffer }) => native.runtimeCreate(meshId, config, wake, inbox, outbox, buffer),
      config.maxPayloadBytes,
      {
        admit,
        admitOrchestrator,
        daemon: (notice) => {
          this.#tellDaemon(notice);
        },
        subscription: (notice) => {
          Emitter.emit<DaemonRuntimeEvents, 'subscription'>(this, 'subscription', subscriptionEvent(notice));
        },
        migration: (notice) => {
          this.#tellMigration(notice);
        },
        move: (notice) => {
          this.#moves.take(notice);
        },
        explain: (failure) => explained(mesh, failure),
        gate: (notice: GateNotice) => {
          this.#gates?.(notice.message);
        },
      },
    );
    this.#unlink = endsWith(mesh, () => this.shutdown());
  }

  /**
   * The runtime of a mesh, which may have one at a time (`ERR_DAEMON_RUNTIME_EXISTS`), and none once it was shut down
   * (`ERR_MESH_SHUT_DOWN`).
   */
  static create(mesh: MeshNode, options?: DaemonRuntimeOptions): DaemonRuntime {
    return new DaemonRuntime(internal, mesh, options);
  }

  /** The mesh node below. */
  get mesh(): MeshNode {
    return this.#mesh;
  }

  /** Registers a kind. The factory is called once per spawn and once per arrival, never now. */
  registerFactory(kind: string, factory: DaemonFactory): void {
    const checked = name(daemonArea, 'kind', kind);
    callable(daemonArea, 'factory', factory);
    const dispatcher = this.#live();
    native.runtimeRegisterFactory(dispatcher.id, checked);
    dispatcher.life.factories.set(checked, factory);
  }

  /** Makes the runtime ready. Idempotent. */
  start(): void {
    const dispatcher = this.#live();
    native.runtimeStart(dispatcher.id);
    dispatcher.schedule();
  }

  /** Whether daemons may be spawned. */
  isReady(): boolean {
    return this.#shutdown === undefined && native.runtimeIsReady(this.#dispatcher.id);
  }

  /** How many daemons live here. */
  daemonCount(): number {
    return this.#shutdown === undefined ? native.runtimeDaemonCount(this.#dispatcher.id) : 0;
  }

  /** Ends the runtime: daemons stop, what waits rejects with `ERR_DAEMON_SHUTTING_DOWN`. Idempotent. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#close();
    return this.#shutdown;
  }

  /** The same as `shutdown()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  /**
   * Spawns a daemon of a registered kind. It is looked up first, in the mesh that this node joined and at all its peers, and
   * refused with `ERR_DAEMON_ALREADY_REGISTERED` when it lives or is being spawned elsewhere. A node that has yet to join
   * (`seeds`, or a `join` under way) does so first; when it finds nobody for some seconds, the spawn goes on. One that only
   * `connect`ed does not know of what other members of its peers' mesh host. Where nobody could know of another copy, as
   * behind a partition, both succeed, and one is ended when their nodes meet (`onStop('fenced')`).
   */
  async spawn(kind: string, identity: Identity, config?: DaemonHostConfig): Promise<DaemonHandle> {
    const checked = name(daemonArea, 'kind', kind);
    const key = signingHandle(daemonArea, 'identity', identity);
    return await spawn(this.#nursery, { kind: checked, identity, key, config: readHostConfig(config) });
  }

  /** Spawns a daemon with a ready instance. `factory`, when given, serves for others of its kind that arrive. */
  async spawnWithDaemon(
    identity: Identity,
    daemon: MeshDaemon,
    config?: DaemonInstanceConfig,
    factory?: DaemonFactory,
  ): Promise<DaemonHandle> {
    const key = signingHandle(daemonArea, 'identity', identity);
    return await spawnInstance(this.#nursery, { identity, key }, daemon, config, factory);
  }

  /** Spawns a daemon of a registered kind with the state of a snapshot of the same identity. */
  async spawnFromSnapshot(
    kind: string,
    identity: Identity,
    snapshot: Uint8Array,
    config?: DaemonHostConfig,
  ): Promise<DaemonHandle> {
    const checked = name(daemonArea, 'kind', kind);
    const key = signingHandle(daemonArea, 'identity', identity);
    const state = bytes(daemonArea, 'snapshot', snapshot);
    const host = readHostConfig(config);
    return await spawn(this.#nursery, { kind: checked, identity, key, snapshot: state, config: host });
  }

  /** The same with a ready instance. */
  async spawnFromSnapshotWithDaemon(
    identity: Identity,
    snapshot: Uint8Array,
    daemon: MeshDaemon,
    config?: DaemonInstanceConfig,
    factory?: DaemonFactory,
  ): Promise<DaemonHandle> {
    const key = signingHandle(daemonArea, 'identity', identity);
    const state = bytes(daemonArea, 'snapshot', snapshot);
    return await spawnInstance(this.#nursery, { identity, key, snapshot: state }, daemon, config, factory);
  }

  /** Stops a daemon of this runtime behind the events that it accepted. */
  async stop(originHash: bigint): Promise<void> {
    const origin = u64(daemonArea, 'originHash', originHash);
    if (this.#shutdown !== undefined) return;
    await this.#start(origin, (ticket) => {
      native.runtimeStop(this.#dispatcher.id, ticket, origin);
    });
  }

  /** An encoded snapshot of a daemon of this runtime; `null` of a stateless one. */
  async snapshot(originHash: bigint): Promise<Buffer | null> {
    const origin = u64(daemonArea, 'originHash', originHash);
    return await this.#start(
      origin,
      (ticket) => {
        native.runtimeSnapshot(this.#dispatcher.id, ticket, origin);
      },
      (work) => work.snapshot ?? null,
    );
  }

  /**
   * Delivers an event to a daemon on any node; resolves with its outputs. Emitter and number are the caller's. Towards another node
   * it waits while the daemon has no room, as all that this one has for it, up to 65 536 events and 64 MiB: beyond that `deliver`,
   * `call` and `send` reject at once with {@link BackpressureError}, and the event does not run.
   */
  deliver(originHash: bigint, event: DeliveredEvent): Promise<Buffer[]> {
    try {
      return this.#deliver(originHash, event, OUTPUTS) as Promise<Buffer[]>;
    } catch (error) {
      return rejected(error);
    }
  }

  /** The same, with the same limit; resolves with the outputs and their links. */
  deliverCausal(originHash: bigint, event: DeliveredEvent): Promise<CausalEvent[]> {
    try {
      return this.#deliver(originHash, event, CAUSAL) as Promise<CausalEvent[]>;
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * Delivers many events of this node to one daemon, in order. Rejects with the first failure; the others run too. Without
   * payloads there is nothing to fail: it resolves with `[]`, whether there is such a daemon or not. What the mailbox has
   * no room for follows as it drains; then events delivered later may run before the end of the batch. For another node it
   * keeps within what may wait (see {@link DaemonRuntime.deliver}), unless other events take that up.
   */
  async deliverMany(originHash: bigint, payloads: readonly Uint8Array[]): Promise<Buffer[][]> {
    const origin = u64(daemonArea, 'originHash', originHash);
    const checked = bytesArray(daemonArea, 'payloads', payloads);
    const dispatcher = this.#live();
    this.#ready();
    return await dispatcher.deliverMany(origin, checked);
  }

  /** Calls a daemon on any node; resolves with its outputs. What may wait is limited, see {@link DaemonRuntime.deliver}. */
  call(originHash: bigint, payload: Uint8Array, options?: CallOptions): Promise<Buffer[]> {
    try {
      const origin = u64(daemonArea, 'originHash', originHash);
      const checked = bytes(daemonArea, 'payload', payload);
      if (options === undefined) return this.#live().call(0n, origin, checked, CALL_TIMEOUT_MS);
      const read = readOptions(daemonArea, 'options', options, { timeoutMs: true, signal: true });
      const timeoutMs =
        read.timeoutMs === undefined ? CALL_TIMEOUT_MS : millis(daemonArea, 'options.timeoutMs', read.timeoutMs);
      const signal = readSignal(daemonArea, 'options.signal', read.signal);
      const dispatcher = this.#live();
      let stop: (() => void) | undefined;
      return abortable(
        signal,
        () =>
          dispatcher.call(0n, origin, checked, timeoutMs, (cancel) => {
            stop = cancel;
          }),
        () => stop?.(),
      );
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * Sends to a daemon on any node; resolves when its host has the event in the mailbox. It waits for that for 60 s; then it
   * rejects with `ERR_DAEMON_MAILBOX_FULL` when the host had no room for it, and with `ERR_DAEMON_PEER_LOST` while none answers.
   * What may wait is limited, see {@link DaemonRuntime.deliver}.
   */
  send(originHash: bigint, payload: Uint8Array): Promise<void> {
    try {
      const origin = u64(daemonArea, 'originHash', originHash);
      const checked = bytes(daemonArea, 'payload', payload);
      return this.#live().send(0n, origin, checked);
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * The node id of a daemon's host; `null` when those that were asked know of none: in the mesh that this node joined the members
   * that keep the address, and every peer that is no member of it, for what that peer itself hosts: a node that only
   * `connect`ed does not find what other members of its peers' mesh host. `null` is also the answer when nobody tells for two
   * seconds, as when this node has yet to join (`call` goes on asking), and for what lives on a node before its `mesh.start()`.
   */
  async locate(originHash: bigint): Promise<bigint | null> {
    const origin = u64(daemonArea, 'originHash', originHash);
    return await this.#start(
      origin,
      (ticket) => {
        native.runtimeLocate(this.#dispatcher.id, ticket, origin);
      },
      (work) => work.node ?? null,
    );
  }

  /**
   * Has a daemon of this runtime receive a channel, or share it in a queue group, as events with `event.channel` set, until it ends,
   * wherever it moves. Resolves when the publisher has agreed. Rejects with {@link NotConnectedError} without a session, also before
   * this node has joined; overtaken by a move with `ERR_DAEMON_NOT_FOUND`, by unsubscribing or a stop with `ERR_CHANNEL_UNSUBSCRIBED`.
   */
  subscribeChannel(origin: bigint, publisher: bigint, channel: string, options?: SubscribeOptions): Promise<void> {
    return subscribeDaemon(this.#live, origin, publisher, channel, options);
  }

  /**
   * Ends that for the channel with all its queue groups, or with `queueGroup` for that one; resolves when the publisher knows,
   * also when it was not subscribed. A daemon that is handed over meanwhile goes on receiving (`ERR_DAEMON_NOT_FOUND`).
   */
  unsubscribeChannel(origin: bigint, publisher: bigint, channel: string, options?: UnsubscribeOptions): Promise<void> {
    return unsubscribeDaemon(this.#live, origin, publisher, channel, options);
  }

  /** What a daemon of this runtime receives, as far as the publishers have agreed. */
  subscriptions(originHash: bigint): DaemonSubscription[] {
    return subscriptionsOf(this.#live, originHash);
  }

  /**
   * Announces a daemon that will arrive with its key. It lives by `config` here, whatever it had elsewhere, but for its
   * `outputChannel`, which travels.
   */
  expectMigration(kind: string, originHash: bigint, config?: DaemonHostConfig): void {
    const checked = name(daemonArea, 'kind', kind);
    const origin = u64(daemonArea, 'originHash', originHash);
    const host = readHostConfig(config);
    native.runtimeExpectMigration(this.#live().id, checked, origin, host);
  }

  /** Announces a daemon that will arrive and whose key is here. */
  registerMigrationTargetIdentity(kind: string, identity: Identity, config?: DaemonHostConfig): void {
    const checked = name(daemonArea, 'kind', kind);
    const key = signingHandle(daemonArea, 'identity', identity);
    const host = readHostConfig(config);
    native.runtimeExpectIdentity(this.#live().id, checked, key, host);
  }

  /** Lets only one node bring an announced daemon. `false` without an announcement, or when another node is bound. */
  bindExpectedOrchestrator(originHash: bigint, nodeId: bigint): boolean {
    const origin = u64(daemonArea, 'originHash', originHash);
    const node = u64(daemonArea, 'nodeId', nodeId);
    return native.runtimeBindOrchestrator(this.#live().id, origin, node);
  }

  /**
   * Starts to move a daemon. Rejects for what this node knows; what peers answer arrives through
   * {@link MigrationHandle.wait}.
   */
  async startMigration(
    originHash: bigint,
    sourceNode: bigint,
    targetNode: bigint,
    opts: MigrationOptions = {},
  ): Promise<MigrationHandle> {
    return await this.startMigrationWith(originHash, sourceNode, targetNode, opts);
  }

  /** The same with options, which have to be there. */
  async startMigrationWith(
    originHash: bigint,
    sourceNode: bigint,
    targetNode: bigint,
    opts: MigrationOptions,
  ): Promise<MigrationHandle> {
    const origin = u64(daemonArea, 'originHash', originHash);
    const source = u64(daemonArea, 'sourceNode', sourceNode);
    const target = u64(daemonArea, 'targetNode', targetNode);
    return await this.#migrate(origin, source, target, readMigrationOptions(opts));
  }

  /** Starts to move a daemon from wherever it lives now. */
  async migrate(originHash: bigint, targetNode: bigint, opts: MigrationOptions = {}): Promise<MigrationHandle> {
    const origin = u64(daemonArea, 'originHash', originHash);
    const target = u64(daemonArea, 'targetNode', targetNode);
    return await this.#migrate(origin, undefined, target, readMigrationOptions(opts));
  }

  /** The phase of a move that this node has a part in; `null` without one. */
  migrationPhase(originHash: bigint): MigrationPhase | null {
    const origin = u64(daemonArea, 'originHash', originHash);
    if (this.#shutdown !== undefined) return null;
    return native.runtimeMigrationPhase(this.#dispatcher.id, origin);
  }

  /** All parts that this node has in moves. */
  migrations(): MigrationInfo[] {
    return this.#shutdown === undefined ? native.runtimeMigrations(this.#dispatcher.id) : [];
  }

  /**
   * Your word that the other host of a move in doubt (`outcome: 'unknown'`) is gone: the copy of this node, which is the
   * source or the target of that move, goes live. What was handed over does not run here; a copy that lives after all is
   * ended once it can be told (`onStop('fenced')`). Other nodes are asked first, for two seconds at most: a daemon that had
   * been moved on before stays where it lives, and the copy of this node is let go. Resolves when either is done. Rejects
   * with `ERR_DAEMON_NOT_FOUND` when nothing is here, with `wrong-phase` while the other host is in reach. Of a daemon that
   * lives here it does nothing.
   */
  async recover(originHash: bigint): Promise<void> {
    const origin = u64(daemonArea, 'originHash', originHash);
    await this.#start(origin, (ticket) => {
      recover(this.#dispatcher.id, ticket, origin);
    });
  }

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
  async drain(options?: DrainOptions): Promise<DrainReport[]> {
    const limits = readDrainOptions(options);
    return await drain(this.#live(), limits);
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const shown = { nodeId: this.#mesh.nodeId(), ready: this.isReady(), daemons: this.daemonCount() };
    return `DaemonRuntime ${inspect(shown, { ...inspectOptions, depth })}`;
  }

  #deliver(originHash: bigint, event: DeliveredEvent, shape: typeof OUTPUTS | typeof CAUSAL): Promise<unknown> {
    const refuse = daemonArea;
    const origin = u64(refuse, 'originHash', originHash);
    if (typeof event !== 'object' || (event as unknown) === null) throw refuse('event must be an object');
    const emitter = u64(refuse, 'event.originHash', event.originHash);
    const sequence = u64(refuse, 'event.sequence', event.sequence);
    const payload = bytes(refuse, 'event.payload', event.payload);
    return this.#live().deliver(origin, emitter, sequence, payload, shape);
  }

  #start<T = undefined>(
    origin: bigint,
    begin: (ticket: number) => void,
    read: (work: SettleWork) => T = () => undefined as T,
  ): Promise<T> {
    return this.#live().start(origin, begin, read);
  }

  async #migrate(
    origin: bigint,
    source: bigint | undefined,
    target: bigint,
    { transportIdentity, retryNotReadyMs }: ReturnType<typeof readMigrationOptions>,
  ): Promise<MigrationHandle> {
    const dispatcher = this.#dispatcher;
    this.#liveForMigration();
    return await this.#start(
      origin,
      (ticket) => {
        native.runtimeStartMigration(dispatcher.id, ticket, origin, source, target, transportIdentity, retryNotReadyMs);
      },
      ({ migration = 0n, originHash = 0n, sourceNode = 0n, targetNode = 0n }) => {
        const move = new Move(migration, originHash, sourceNode, targetNode, (timeoutMs) => {
          if (dispatcher.closed) return;
          native.runtimeAbortMigration(dispatcher.id, migration, timeoutMs);
          dispatcher.schedule();
        });
        this.#moves.began(move);
        return handleOf(move);
      },
    );
  }

  #tellDaemon({ event, originHash, kind }: DaemonNotice): void {
    Emitter.emit<DaemonRuntimeEvents, 'daemon'>(this, 'daemon', { type: event, originHash, kind });
  }

  #tellMigration(notice: MigrationNotice): void {
    const event = this.#moves.event(notice);
    Emitter.emit<DaemonRuntimeEvents, 'migration'>(this, 'migration', event);
    publishMigration(() => this.#mesh.nodeId(), event);
  }

  async #close(): Promise<void> {
    const dispatcher = this.#dispatcher;
    try {
      const over = operation<undefined>((op) => {
        native.runtimeShutdown(op, dispatcher.id);
      });
      dispatcher.drain(true);
      await over;
      dispatcher.drain(true);
    } finally {
      dispatcher.close();
      native.runtimeForget(dispatcher.id);
      this.#unlink();
      this.#moves.end();
    }
  }

  /** The dispatcher, unless the runtime is shutting down. Also for those who ask for it later. */
  readonly #live = (): Dispatcher => {
    if (this.#shutdown !== undefined) {
      throw new DaemonError('the runtime is shutting down', { code: 'ERR_DAEMON_SHUTTING_DOWN' });
    }
    return this.#dispatcher;
  };
  readonly #nursery: Nursery = { runtime: this, live: this.#live };

  #ready(): void {
    if (!native.runtimeIsReady(this.#dispatcher.id)) {
      throw new DaemonError('the runtime is not ready: runtime.start() was not called', {
        code: 'ERR_DAEMON_NOT_READY',
      });
    }
  }

  #liveForMigration(): void {
    this.#live();
    if (!native.runtimeIsReady(this.#dispatcher.id)) {
      throw new MigrationError('the runtime is not ready: runtime.start() was not called', {
        kind: 'not-ready',
        outcome: 'source',
      });
    }
  }
}

/** For tests of this package: the number of a runtime's native part, and news of gates. */
export function testHooks(runtime: DaemonRuntime, onGate?: (message: string) => void): number {
  if (onGate !== undefined) watchGates(runtime, onGate);
  return dispatcherOf(runtime).id;
}
