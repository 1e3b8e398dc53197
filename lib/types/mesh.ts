/**
 * How a mesh node is set up.
 *
 * @public
 */
export interface MeshNodeOptions {
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
export interface SubnetOptions {
  levels: readonly number[];
}

/**
 * `suspected`: silent for half of the session timeout, or the connection broke; `lost`: given up.
 *
 * @public
 */
export type PeerState = 'connected' | 'suspected' | 'lost';

/**
 * Another node, as this node sees it.
 *
 * @public
 */
export interface PeerInfo {
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
export interface PeerEvent {
  readonly type: PeerState;
  readonly nodeId: bigint;
}

/**
 * What a mesh node emits.
 *
 * @public
 */
export interface MeshNodeEvents {
  peer: PeerEvent;
}
