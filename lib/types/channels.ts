import type { CapabilityFilter } from './capabilities';
import type { TokenLike } from './identity';
import type { WaitOptions } from './values';

/**
 * Who may see a channel, by the subnet of the subscriber's node: `subnet-local` the same, `parent-visible` the same or one
 * that contains it, `exported` nobody until an export exists, `global` everybody. Nodes without a subnet match each other. The
 * subscriber says where it is: this filters, and only tokens keep members of the mesh out.
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
  /** Every message is acknowledged and repeated, whatever `publish` asks for. */
  reliable?: boolean;
  /** Subscribers must present a token; without `tokenRoots`, one that descends from this node. */
  requireToken?: boolean;
  /** Entity ids that tokens must descend from, ed25519 public keys; alone turns the token gate on. Not empty. */
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
export interface PublishOptions extends WaitOptions {
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
export interface SubscribeOptions extends WaitOptions {
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
export interface UnsubscribeOptions extends WaitOptions {
  /** The queue group to leave. Without it the channel is left with all its groups. */
  queueGroup?: string;
}

/**
 * Whom a message reached, in nodes and queue groups: acknowledged when reliable, else accepted by the peer's session. A group
 * counts once, whatever its size.
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
export interface ChannelMessage {
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
export interface Subscription extends AsyncIterable<ChannelMessage>, AsyncDisposable {
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
