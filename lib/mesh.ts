/** Mesh nodes: encrypted, authenticated sessions with other nodes. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import { announceCapabilities, findBestNode, findBestNodeScoped, findNodes, findNodesScoped } from './capabilities';
import { openSubscription, publish, registerChannel, subscribe, unregisterChannel, unsubscribe } from './channels';
import { Emitter } from './emitter';
import { MeshError } from './errors/index';
import type { ErrorRecord } from './errors/from-native';
import { hold, listen, release, unlisten } from './handles-in-use';
import { readMeshOptions, readAddress, readKey } from './mesh-options';
import type { MeshFacts } from './native';
import { onNotice } from './notices';
import { operation, settled } from './operations';
import { readRevocation, Revocation } from './revocation';
import type { CapabilityFilter, CapabilityRequirement, CapabilitySet, ScopeFilter } from './types/capabilities';
import type {
  ChannelConfig,
  PublishOptions,
  PublishReport,
  SubscribeOptions,
  Subscription,
  UnsubscribeOptions,
} from './types/channels';
import type { MeshNodeEvents, MeshNodeOptions, PeerInfo } from './types/mesh';
import type { WaitOptions } from './types/values';
import { kindOf, meshArea, options as readOptions, signal as readSignal, u64, type Refuse } from './validate/index';

/** How long `process.exit()` waits for goodbyes to leave. */
const GOODBYE_MS = 100;

/** Only this module can make a node. */
const internal = Symbol('internal');

/** Nodes of this environment that were not shut down. */
const live = new Map<number, MeshNode>();
let lastId = 0;

let idOf: (mesh: MeshNode) => number;
let endersOf: (mesh: MeshNode) => Set<() => Promise<void>>;
let maxPayloadOf: (mesh: MeshNode) => number;
let startedOf: (mesh: MeshNode) => boolean;
let checkLive: (mesh: MeshNode) => void;

onNotice('peer', ({ mesh, type, nodeId }) => {
  const node = live.get(mesh);
  if (node !== undefined) Emitter.emit<MeshNodeEvents, 'peer'>(node, 'peer', { type, nodeId });
});

function sayGoodbye(): void {
  native.meshGoodbye(GOODBYE_MS);
}

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
export class MeshNode extends Emitter<MeshNodeEvents> implements AsyncDisposable {
  readonly #id: number;
  readonly #facts: MeshFacts;
  readonly #maxPayload: number;
  /** What lives on this node and ends with it. */
  readonly #enders = new Set<() => Promise<void>>();
  #holds = false;
  #started = false;
  #shutdown: Promise<void> | undefined;

  static {
    idOf = (mesh) => mesh.#id;
    endersOf = (mesh) => mesh.#enders;
    maxPayloadOf = (mesh) => mesh.#maxPayload;
    startedOf = (mesh) => mesh.#started;
    checkLive = (mesh) => {
      mesh.#checkLive();
    };
  }

  private constructor(key: typeof internal, id: number, maxPayload: number) {
    if (key !== internal) throw meshArea('use MeshNode.create()');
    super(meshArea, { peer: true });
    this.#id = id;
    this.#maxPayload = maxPayload;
    this.#facts = native.meshFacts(id);
    if (live.size === 0) process.on('exit', sayGoodbye);
    live.set(id, this);
    listen();
    this.ref();
  }

  /** A node that listens and accepts sessions. Rejects with a {@link MeshError} that names the address. */
  static async create(options: MeshNodeOptions): Promise<MeshNode> {
    const config = readMeshOptions(options);
    const id = (lastId += 1);
    await operation<undefined>((op) => {
      native.meshCreate(op, id, config);
    });
    return new MeshNode(internal, id, config.maxPayloadBytes);
  }

  /** `host:port` that it really listens on; after shutdown, that it listened on. */
  localAddr(): string {
    return this.#facts.localAddr;
  }

  /** Its address as a node. */
  nodeId(): bigint {
    return this.#facts.nodeId;
  }

  /** Its 32-byte public key; a copy. */
  entityId(): Buffer {
    return Buffer.from(this.#facts.entityId);
  }

  /** Its Noise static key, in hex: what others may pin. */
  publicKey(): string {
    return this.#facts.publicKey;
  }

  /**
   * Opens a session; resolves with the peer's node id. Gives the one that exists when there is one. A given key or id is a
   * pin: another node at that address rejects with `ERR_MESH_PIN_MISMATCH`. This joins nothing: of what lives on members of
   * that node's mesh, this one finds only what its own peers host, and spawns what others have. See {@link MeshNode.join}.
   */
  async connect(addr: string, publicKey?: string, nodeId?: bigint, options?: WaitOptions): Promise<bigint> {
    const address = readAddress('addr', addr);
    const key = publicKey === undefined ? undefined : readKey('publicKey', publicKey);
    const id = nodeId === undefined ? undefined : u64(meshArea, 'nodeId', nodeId);
    const signal = readWait(options);
    this.#checkLive();
    return await operation<bigint>(
      (op) => {
        native.meshConnect(op, this.#id, address, key, id);
      },
      { signal },
    );
  }

  /**
   * Joins the mesh that the node at `addr` belongs to, as with `seeds`, but once: resolves when there is a session with it,
   * and rejects as {@link MeshNode.connect} does. The other members are learnt of when this node and that one have started.
   * What members say of each other are hints: who answers at an address proves to be the one that was meant.
   */
  async join(addr: string, options?: WaitOptions): Promise<void> {
    const address = readAddress('addr', addr);
    const signal = readWait(options);
    this.#checkLive();
    await operation<undefined>(
      (op) => {
        native.meshJoin(op, this.#id, address);
      },
      { signal },
    );
  }

  /** Resolves with the peer's address once it has a session, at once if it has one. Keeps no process alive. */
  async accept(nodeId: bigint, options?: WaitOptions): Promise<string> {
    const id = u64(meshArea, 'nodeId', nodeId);
    if (id === this.nodeId()) throw meshArea('nodeId must be of another node, got the id of this one');
    const signal = readWait(options);
    this.#checkLive();
    return await operation<string>(
      (op) => {
        native.meshAccept(op, this.#id, id);
      },
      { signal, keepsAlive: false },
    );
  }

  /**
   * Starts heartbeats and the traffic of the layers above: between two nodes it flows once both were started. Idempotent;
   * sessions may come before or after.
   */
  start(): Promise<void> {
    return settled(() => {
      this.#checkLive();
      native.meshStart(this.#id);
      this.#started = true;
    });
  }

  /** All peers that are not forgotten; none after shutdown. */
  peers(): PeerInfo[] {
    if (this.#shutdown !== undefined) return [];
    return native
      .meshPeers(this.#id)
      .map(({ sinceMs, started: _, ...peer }) => ({ ...peer, since: new Date(sinceMs) }));
  }

  /** How many peers are not lost. */
  peerCount(): number {
    return this.#shutdown === undefined ? native.meshPeerCount(this.#id) : 0;
  }

  /**
   * Makes a channel of this node, or gives the one of this name another configuration: whom that does not let in is out.
   * Throws {@link ChannelError} for an invalid one.
   */
  registerChannel(config: ChannelConfig): void {
    registerChannel(this.#id, config, () => {
      this.#checkLive();
    });
  }

  /**
   * Takes a channel of this node away: all its subscriptions end, with `ERR_CHANNEL_UNKNOWN`. `false` when this node has no
   * channel of this name. Messages that were not acknowledged yet count as failed. One that is registered under the same
   * name later is another channel; its numbers go on.
   */
  unregisterChannel(name: string): boolean {
    return unregisterChannel(this.#id, name, () => {
      this.#checkLive();
    });
  }

  /**
   * Subscribes this node to a channel of a publisher with which it has a session, or makes it a member of a queue group. While
   * this node has yet to join (`seeds`, or a `join` under way), the session is waited for.
   * Resolves when the publisher has agreed; rejects with {@link ChannelAuthError}, {@link ChannelError} or
   * {@link NotConnectedError}; with `ERR_CHANNEL_UNSUBSCRIBED` when this node unsubscribes before the answer. Waits for the
   * `start()` of both, however long that takes. Messages are read with {@link MeshNode.messages}; those that nobody reads are
   * acknowledged and dropped.
   */
  async subscribeChannel(publisher: bigint, channel: string, options?: SubscribeOptions): Promise<void> {
    await subscribe(this.#id, publisher, channel, options, () => {
      this.#checkLive();
    });
  }

  /**
   * Leaves a channel with all its queue groups, or with `queueGroup` only that one; resolves when the publisher knows. Whoever
   * reads it comes to an end. Not to be in it is fine.
   */
  async unsubscribeChannel(publisher: bigint, channel: string, options?: UnsubscribeOptions): Promise<void> {
    await unsubscribe(this.#id, publisher, channel, options, () => {
      this.#checkLive();
    });
  }

  /**
   * Publishes on a channel of this node, to every node that has subscribers. Rejects when nothing was sent: with
   * {@link ChannelError} for an unknown channel, a payload that is too large, or too many a second; with {@link BackpressureError}
   * when 16 384 reliable messages or 256 MiB of them are on their way from this node.
   */
  async publish(channel: string, payload: Uint8Array, options?: PublishOptions): Promise<PublishReport> {
    return await publish(this.#id, channel, payload, options, () => {
      this.#checkLive();
    });
  }

  /**
   * Subscribes and receives. Each subscription gets every message; the node leaves with the last of them. Of a queue group the
   * node is one member, and each message is for one of its subscriptions. While this node has yet to join, the session with the
   * publisher is waited for.
   */
  messages(publisher: bigint, channel: string, options?: SubscribeOptions): Subscription {
    return openSubscription(this.#id, publisher, channel, options, () => {
      this.#checkLive();
    });
  }

  /**
   * Enters what an issuer has revoked. Whoever is in with such a token is out, at the channels of this node and of every node
   * that hears of it: it is passed on to all peers and by them to theirs, and to whoever comes later, as long as a node that
   * holds it is there. Resolves when it was handed to every peer with which this node has a session; twice is once, and an older
   * one changes nothing. Any node of the mesh will do. Rejects with {@link TokenError}: `invalid_format`, or
   * `invalid_signature` for what the issuer did not sign; and with {@link BackpressureError} when this node holds as many as it may.
   */
  async revoke(revocation: Revocation | Uint8Array, options?: WaitOptions): Promise<void> {
    const statement = readRevocation('revocation', revocation);
    const signal = readWait(options);
    this.#checkLive();
    await operation<undefined>(
      (op) => {
        native.channelRevoke(op, this.#id, statement);
      },
      { signal },
    );
  }

  /**
   * The revocations that this node holds, one of each issuer: the highest. They are gone when its process is: keep them where
   * you keep seeds, and a node that starts when no other is there can be told with {@link MeshNode.revoke}.
   */
  revocations(): Revocation[] {
    if (this.#shutdown !== undefined) return [];
    return native.channelRevocations(this.#id).map((bytes) => Revocation.parse(bytes));
  }

  /**
   * Says what this node can do, from now on and in place of what it said before: signed, to every peer and to those that come,
   * as long as it lives. Resolves when it counts on this node and is on its way to the peers; what this node asks of a peer
   * later comes behind it. At first a node announces nothing but where it is (`subnet`).
   */
  announceCapabilities(caps: CapabilitySet): Promise<void> {
    return settled(() => {
      announceCapabilities(this.#id, caps, () => {
        this.#checkLive();
      });
    });
  }

  /**
   * The nodes that have announced what `filter` asks for, sorted by id: this one if it has, and peers with a session between
   * started nodes. An empty filter finds all of them.
   */
  findNodes(filter: CapabilityFilter): bigint[] {
    return findNodes(this.#id, filter, () => {
      this.#checkLive();
    });
  }

  /** The best of them, by the preferences of `requirement`; of equals the one with the lowest id. `null` when there is none. */
  findBestNode(requirement: CapabilityRequirement): bigint | null {
    return findBestNode(this.#id, requirement, () => {
      this.#checkLive();
    });
  }

  /** {@link MeshNode.findNodes} in a part of the mesh. */
  findNodesScoped(filter: CapabilityFilter, scope: ScopeFilter): bigint[] {
    return findNodesScoped(this.#id, filter, scope, () => {
      this.#checkLive();
    });
  }

  /** {@link MeshNode.findBestNode} in a part of the mesh. */
  findBestNodeScoped(requirement: CapabilityRequirement, scope: ScopeFilter): bigint | null {
    return findBestNodeScoped(this.#id, requirement, scope, () => {
      this.#checkLive();
    });
  }

  /** Keeps the process alive again, after {@link MeshNode.unref}. */
  ref(): this {
    if (!this.#holds && this.#shutdown === undefined) {
      this.#holds = true;
      hold();
    }
    return this;
  }

  /** Lets the process end although this node lives. */
  unref(): this {
    if (this.#holds) {
      this.#holds = false;
      release();
    }
    return this;
  }

  /** Says goodbye to the peers and closes everything; what waits rejects with `ERR_MESH_SHUT_DOWN`. Idempotent. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#close();
    return this.#shutdown;
  }

  /** The same as `shutdown()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const shown = { nodeId: this.nodeId(), localAddr: this.localAddr(), peers: this.peerCount() };
    return `MeshNode ${inspect(shown, { ...inspectOptions, depth })}`;
  }

  async #close(): Promise<void> {
    await Promise.all(Array.from(this.#enders, (end) => end()));
    this.unref();
    try {
      await operation<undefined>((op) => {
        native.meshShutdown(op, this.#id);
      });
    } finally {
      live.delete(this.#id);
      unlisten();
      if (live.size === 0) process.off('exit', sayGoodbye);
    }
  }

  #checkLive(): void {
    if (this.#shutdown !== undefined) {
      throw new MeshError('the mesh node was shut down', { code: 'ERR_MESH_SHUT_DOWN' });
    }
  }
}

/** The number of a node's native part. Throws what `refuse` makes when it is no node. */
export function meshHandle(refuse: Refuse, path: string, value: unknown): number {
  try {
    return idOf(value as MeshNode);
  } catch {
    throw refuse(`${path} must be a MeshNode, got ${kindOf(value)}`);
  }
}

/** Has something end before its node does; gives the way to take that back. */
export function endsWith(mesh: MeshNode, end: () => Promise<void>): () => void {
  const enders = endersOf(mesh);
  enders.add(end);
  return () => enders.delete(end);
}

/** Throws when a node ends or has ended: what is made on it from then on would not end with it. */
export function checkMeshLive(mesh: MeshNode): void {
  checkLive(mesh);
}

/** The largest payload of a node. */
export function maxPayload(mesh: MeshNode): number {
  return maxPayloadOf(mesh);
}

/** Failures that are no wonder while a node was not started. */
const NOT_ANSWERED: readonly string[] = [
  'ERR_DAEMON_CALL_TIMEOUT',
  'ERR_MIGRATION_TIMEOUT',
  'ERR_MIGRATION_NO_TARGET_AVAILABLE',
];

/** A failure with what may have caused it: that this node is alone, or was not started, or one of its peers or of those. */
export function explained(mesh: MeshNode, failure: ErrorRecord, among?: readonly bigint[]): ErrorRecord {
  let cause: string | undefined;
  if (NOT_ANSWERED.includes(failure.code)) cause = whatIsNotStarted(mesh, among);
  else if (failure.code === 'ERR_DAEMON_NOT_FOUND' && mesh.peerCount() === 0)
    cause = 'this node has no session with any other';
  return cause === undefined ? failure : { ...failure, message: `${failure.message}; ${cause}` };
}

/** What keeps traffic from flowing although there are sessions; nothing when all is well. */
function whatIsNotStarted(mesh: MeshNode, among: readonly bigint[] | undefined): string | undefined {
  if (!startedOf(mesh)) return 'mesh.start() was not called on this node';
  // Of a node that was shut down nothing can be asked.
  if (mesh.peerCount() === 0) return undefined;
  const silent = native
    .meshPeers(idOf(mesh))
    .filter(({ nodeId, state, started }) => state === 'connected' && !started && (among?.includes(nodeId) ?? true));
  if (silent.length === 0) return undefined;
  const [first] = silent.map(({ nodeId }) => String(nodeId));
  const more = silent.length > 1 ? ` and ${String(silent.length - 1)} more` : '';
  return `mesh.start() was not called on node ${String(first)}${more}`;
}

function readWait(options: WaitOptions | undefined): AbortSignal | undefined {
  return readSignal(meshArea, 'options.signal', readOptions(meshArea, 'options', options, { signal: true }).signal);
}
