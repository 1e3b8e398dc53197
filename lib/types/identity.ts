import type { Token, TokenChain } from '../token';

/**
 * What a token permits. `wildcard` extends it to any channel, `delegate` lets its holder pass it on. Channels ask for `subscribe`
 * only: `publish` and `admin` open nothing here, and are for what an application checks itself.
 *
 * @public
 */
export type TokenScope = 'publish' | 'subscribe' | 'admin' | 'delegate' | 'wildcard';

/**
 * What a token is to say.
 *
 * @public
 */
export interface IssueTokenOptions {
  /** Entity id of who may present it: an ed25519 public key, 32 bytes. */
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
export interface RevokeTokensOptions {
  /** The lowest generation that stays good: at least 1. */
  below: number;
}

/**
 * Wherever a token is asked for: one, a chain from a root's to the presenter's, or the bytes of either.
 *
 * @public
 */
export type TokenLike = Token | TokenChain | Uint8Array;
