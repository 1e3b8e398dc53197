/** Identities: ed25519 key pairs and the addresses derived from them. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import { channelName, hashOf, queueGroup } from './channel-name';
import { ENTITY_ID, readEntityId } from './entity-id';
import type { IdentityHandle, TokenCacheHandle } from './handles';
import type { IdentityFacts } from './native';
import { readRevocation, readRevokeOptions, Revocation } from './revocation';
import { readIssueOptions, readToken, type Token, tokenFromBytes } from './token';
import type { IssueTokenOptions, RevokeTokensOptions } from './types/identity';
import { bytes, identityArea, kindOf, type Refuse } from './validate/index';

const SEED = { length: 32 };
const SIGNATURE = { length: 64 };

/** Only this module can make an identity from a handle. */
const fromHandle = Symbol('fromHandle');

let handleOf: (identity: Identity) => IdentityHandle;
let cacheOf: (identity: Identity) => TokenCacheHandle;

/**
 * Who a daemon or a node is: an ed25519 key pair, or only its public half.
 *
 * The secret stays in native memory, which is wiped when the identity is collected; it shows neither in `console.log` nor
 * in JSON. Only `toBytes()` gives it out.
 *
 * @public
 */
export class Identity {
  readonly #handle: IdentityHandle;
  readonly #facts: IdentityFacts;
  #tokens: TokenCacheHandle | undefined;

  static {
    handleOf = (identity) => identity.#handle;
    cacheOf = (identity) => identity.#cache();
  }

  private constructor(key: typeof fromHandle, handle: IdentityHandle) {
    if (key !== fromHandle) throw identityArea('use Identity.generate(), Identity.fromSeed() or Identity.publicOnly()');
    this.#handle = handle;
    this.#facts = native.identityFacts(handle);
  }

  /** A new identity. */
  static generate(): Identity {
    return new Identity(fromHandle, native.identityGenerate());
  }

  /** The identity of a 32-byte secret seed. */
  static fromSeed(seed: Uint8Array): Identity {
    return new Identity(fromHandle, native.identityFromSeed(bytes(identityArea, 'seed', seed, SEED)));
  }

  /** The same as {@link Identity.fromSeed}. */
  static fromBytes(seed: Uint8Array): Identity {
    return Identity.fromSeed(seed);
  }

  /** An identity that can be named but cannot sign. Throws {@link IdentityError} for bytes that are nobody's public key. */
  static publicOnly(entityId: Uint8Array): Identity {
    return new Identity(fromHandle, native.identityPublicOnly(readEntityId(identityArea, 'entityId', entityId)));
  }

  /** Whether `signature` is one of `entityId` over `message`. Strict: no small-order keys, no malleable signatures. */
  static verify(entityId: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    return native.verifySignature(
      bytes(identityArea, 'entityId', entityId, ENTITY_ID),
      bytes(identityArea, 'message', message),
      bytes(identityArea, 'signature', signature, SIGNATURE),
    );
  }

  /** The 32-byte public key; a copy. */
  get entityId(): Buffer {
    return Buffer.from(this.#facts.entityId);
  }

  /** Its address as a daemon. */
  get originHash(): bigint {
    return this.#facts.originHash;
  }

  /** Its address as a node. */
  get nodeId(): bigint {
    return this.#facts.nodeId;
  }

  /** Whether the secret is missing. */
  get isReadOnly(): boolean {
    return this.#facts.isReadOnly;
  }

  /** The 32-byte secret seed. Throws {@link IdentityError} `ERR_IDENTITY_READ_ONLY` when it is not here. */
  toBytes(): Buffer {
    return native.identitySeed(this.#handle);
  }

  /**
   * A 64-byte signature of the bytes as they are: whoever can choose them wholly gets a token, a claim or a subscription in this
   * name. Put a prefix of your own before what others choose. Throws {@link IdentityError} `ERR_IDENTITY_READ_ONLY` when the
   * secret is not here.
   */
  sign(message: Uint8Array): Buffer {
    return native.identitySign(this.#handle, bytes(identityArea, 'message', message));
  }

  /**
   * A token signed by this identity: the right of `subject` to do something on a channel, or with `queueGroup` to be a member
   * of that queue group of it. Throws {@link TokenError} of kind
   * `read_only` when the secret is not here, `zero_ttl` or `ttl_too_long` for a time that no token may have.
   */
  issueToken(o: IssueTokenOptions): Token {
    const { subject, scope, channel, group, ttlSeconds, delegationDepth, generation } = readIssueOptions(o);
    return tokenFromBytes(
      native.tokenIssue(this.#handle, subject, scope, channel, group, ttlSeconds, delegationDepth, generation),
    );
  }

  /**
   * Takes back the tokens that this identity issued or passed on with a generation below `below`. That is only a statement: it
   * is in force where it is entered, see {@link MeshNode.revoke} and {@link Identity.installRevocation}, and can be made
   * ahead. Throws {@link TokenError} of kind `read_only` when the secret is not here.
   */
  revokeTokens(o: RevokeTokensOptions): Revocation {
    return Revocation.parse(native.revocationIssue(this.#handle, readRevokeOptions(o)));
  }

  /**
   * Keeps a token that this identity was given. The store is bounded: what ends first goes first. Throws
   * {@link TokenError} for one that is not valid now.
   */
  installToken(token: Token | Uint8Array): void {
    native.tokenCacheInstall(this.#cache(), readToken('token', token));
  }

  /**
   * The longest valid token of `subject` for this channel, or for this queue group of it, among those that were installed.
   * Verified again.
   */
  lookupToken(subject: Uint8Array, channel: string, group?: string): Token | null {
    const holder = bytes(identityArea, 'subject', subject, ENTITY_ID);
    const name = channelName(identityArea, 'channel', channel);
    const found = native.tokenCacheLookup(this.#cache(), holder, name, queueGroup(identityArea, 'group', name, group));
    return found === null ? null : tokenFromBytes(found);
  }

  /**
   * Tells this identity what an issuer has revoked: such tokens go from its store, do not come in again, and are not passed on
   * by it. Nothing else happens: see {@link MeshNode.revoke} for what channels let in. Throws {@link TokenError} for what the
   * issuer did not sign, and {@link BackpressureError} beyond 65 536 issuers.
   */
  installRevocation(revocation: Revocation | Uint8Array): void {
    native.tokenCacheRevoke(this.#cache(), readRevocation('revocation', revocation));
  }

  /** How many tokens were installed and are kept. */
  get tokenCacheLen(): number {
    return this.#tokens === undefined ? 0 : native.tokenCacheLen(this.#tokens);
  }

  /** Nothing secret. */
  toJSON(): { entityId: string; originHash: string; nodeId: string; isReadOnly: boolean } {
    return {
      entityId: this.#facts.entityId.toString('hex'),
      originHash: this.originHash.toString(),
      nodeId: this.nodeId.toString(),
      isReadOnly: this.isReadOnly,
    };
  }

  /** Nothing secret. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const { originHash, nodeId, isReadOnly } = this;
    const shown = { entityId: this.#facts.entityId.toString('hex'), originHash, nodeId, isReadOnly };
    return `Identity ${inspect(shown, { ...inspectOptions, depth })}`;
  }

  #cache(): TokenCacheHandle {
    this.#tokens ??= native.tokenCacheCreate();
    return this.#tokens;
  }
}

/** The native key pair of an identity. Throws what `refuse` makes when it is none. */
export function identityHandle(refuse: Refuse, path: string, value: unknown): IdentityHandle {
  try {
    return handleOf(value as Identity);
  } catch {
    throw refuse(`${path} must be an Identity, got ${kindOf(value)}`);
  }
}

/** The same of one that has its secret here. */
export function signingHandle(refuse: Refuse, path: string, value: unknown): IdentityHandle {
  const handle = identityHandle(refuse, path, value);
  if ((value as Identity).isReadOnly) throw refuse(`${path} must be able to sign, got a public one`);
  return handle;
}

/** The store of an identity's tokens. */
export function tokenCache(identity: Identity): TokenCacheHandle {
  return cacheOf(identity);
}

/**
 * The 64-bit name of a channel: xxh3-64 of its canonical name, which is 1 to 255 of `a-z 0-9 - _ . /`, without a leading,
 * trailing or double `/` and without a segment `.` or `..`. Throws {@link IdentityError} for any other name. That of a queue
 * group is xxh3-64 of `<channel>#<group>`; `#` occurs in no name, so it is the hash of no channel's name.
 *
 * @public
 */
export function channelHash(name: string, group?: string): bigint {
  const channel = channelName(identityArea, 'name', name);
  return hashOf(identityArea, 'group', channel, queueGroup(identityArea, 'group', channel, group));
}
