import type { CapabilityFilter } from './capabilities';

/**
 * Who may see a channel, by the subnet of the subscriber.
 *
 * @public
 */
export type ChannelVisibility = 'subnet-local' | 'parent-visible' | 'exported' | 'global';

/**
 * A channel of this node.
 *
 * @public
 */
export interface ChannelConfig {
  /** 1 to 255 of `a-z 0-9 - _ . /`. */
  name: string;
  visibility?: ChannelVisibility;
  /** Messages are acknowledged and repeated. */
  reliable?: boolean;
  /** Subscribers must present a token. */
  requireToken?: boolean;
  /** Entity ids that tokens must descend from; alone turns the token gate on. */
  tokenRoots?: readonly Uint8Array[];
  priority?: number;
  /** Most messages per second. */
  maxRatePps?: number;
  /** What a publisher must offer. */
  publishCaps?: CapabilityFilter;
  /** What a subscriber must offer. */
  subscribeCaps?: CapabilityFilter;
}

/**
 * How a message is published.
 *
 * @public
 */
export interface PublishOptions {
  /** Default `fire_and_forget`. */
  reliability?: 'reliable' | 'fire_and_forget';
  /** Default `best_effort`. */
  onFailure?: 'best_effort' | 'fail_fast' | 'collect';
  /** Most subscribers that are sent to at once. Default 32. */
  maxInflight?: number;
}

/**
 * Whom a message reached: acknowledged by the peer when reliable, else accepted by its session.
 *
 * @public
 */
export interface PublishReport {
  readonly attempted: number;
  readonly delivered: number;
  readonly errors: readonly PublishFailure[];
}

/**
 * Why a message did not reach one subscriber.
 *
 * @public
 */
export interface PublishFailure {
  readonly nodeId: bigint;
  readonly message: string;
}

/**
 * A message of a subscribed channel.
 *
 * @public
 */
export interface ChannelMessage {
  readonly publisher: bigint;
  readonly channel: string;
  readonly sequence: bigint;
  readonly payload: Buffer;
  /** Unix time of arrival in nanoseconds. */
  readonly receivedAt: bigint;
}

/**
 * Messages of one channel. One that nobody reads acknowledges and drops.
 *
 * @public
 */
export interface Subscription extends AsyncIterable<ChannelMessage>, AsyncDisposable {
  /** Resolves when the publisher accepted the subscription. */
  readonly ready: Promise<void>;
  /** Messages that nobody read in time. */
  readonly dropped: bigint;
  /** Ends the subscription. */
  stop(): Promise<void>;
}
