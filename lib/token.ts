/** Tokens: signed rights on channels. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import { channelName, queueGroup } from './channel-name';
import { readEntityId } from './entity-id';
import { TokenError } from './errors/index';
import type { TokenFacts } from './native';
import type { IssueTokenOptions, TokenScope } from './types/identity';
import { readWireForm } from './wire-form';
import { choice, identityArea, integer, list, options, tokenArea, type Refuse } from './validate/index';

/** The bit of each scope, in the order they are listed. */
const SCOPE_BITS: Readonly<Record<TokenScope, number>> = {
  publish: 1,
  subscribe: 2,
  admin: 4,
  delegate: 8,
  wildcard: 16,
};
const SCOPES = Object.keys(SCOPE_BITS) as TokenScope[];
const MAX_CHAIN = 8;
const MAX_DEPTH = 255;
/** 365 days. */
const MAX_TTL_SECONDS = 31_536_000;
/** The last moment that a `Date` can name. */
const LAST_DATE = 8_640_000_000_000_000;

/** Only this module can make a token of facts. */
const internal = Symbol('internal');

let bytesOf: (token: Token) => Buffer;
let chainBytesOf: (chain: TokenChain) => Buffer;

/**
 * A right on a channel, signed by its issuer. 169 bytes.
 *
 * @public
 */
export class Token {
  readonly #facts: TokenFacts;

  static {
    bytesOf = (token) => token.#facts.bytes;
  }

  private constructor(key: typeof internal, facts: TokenFacts) {
    if (key !== internal) throw tokenArea('use Token.parse() or identity.issueToken()');
    this.#facts = facts;
  }

  /** Reads the bytes of a token. Only the format is checked: see {@link Token.verify}. */
  static parse(wire: Uint8Array): Token {
    return new Token(internal, factsOfOne('wire', wire));
  }

  /** @internal */
  static of(key: symbol, facts: unknown): Token {
    return new Token(key as typeof internal, facts as TokenFacts);
  }

  /** Its wire form; a copy. */
  get bytes(): Buffer {
    return Buffer.from(this.#facts.bytes);
  }

  /** 32-byte public key of who signed it; a copy. */
  get issuer(): Buffer {
    return Buffer.from(this.#facts.issuer);
  }

  /** 32-byte public key of who may present it; a copy. */
  get subject(): Buffer {
    return Buffer.from(this.#facts.subject);
  }

  /** What it permits. */
  get scope(): ReadonlySet<TokenScope> {
    return new Set(SCOPES.filter((scope) => (this.#facts.scope & SCOPE_BITS[scope]) !== 0));
  }

  /** On which channel, or in which queue group of one, see {@link channelHash}. */
  get channelHash(): bigint {
    return this.#facts.channelHash;
  }

  /** From when it is valid. */
  get notBefore(): Date {
    return dateOf(this.#facts.notBefore);
  }

  /** Until before when it is valid. */
  get notAfter(): Date {
    return dateOf(this.#facts.notAfter);
  }

  /** The generation that its issuer gave it: a {@link Revocation} outdates those below one. */
  get generation(): number {
    return this.#facts.generation;
  }

  /** How often it may be passed on. */
  get delegationDepth(): number {
    return this.#facts.delegationDepth;
  }

  /** Tells it from tokens that are otherwise equal. */
  get nonce(): bigint {
    return this.#facts.nonce;
  }

  /** Whether the issuer signed it. Time is not looked at. Never throws. */
  verify(): boolean {
    return native.tokenVerify(this.#facts.bytes);
  }

  /** Whether its time is over. */
  isExpired(): boolean {
    return Date.now() >= this.notAfter.getTime();
  }

  /** Its wire form; a copy. */
  toBuffer(): Buffer {
    return this.bytes;
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const { scope, channelHash, notBefore, notAfter, generation, delegationDepth } = this;
    const shown = {
      issuer: this.#facts.issuer.toString('hex'),
      subject: this.#facts.subject.toString('hex'),
      scope: [...scope],
      channelHash,
      notBefore,
      notAfter,
      generation,
      delegationDepth,
    };
    return `Token ${inspect(shown, { ...inspectOptions, depth })}`;
  }
}

/**
 * Tokens from the one of a channel's root to the one of its presenter: 1 to 8. Whether they fit together shows where the
 * chain is presented.
 *
 * @public
 */
export class TokenChain {
  readonly #tokens: readonly Token[];
  readonly #leaf: Token;

  static {
    chainBytesOf = (chain) => Buffer.concat(chain.#tokens.map(bytesOf));
  }

  private constructor(key: typeof internal, tokens: readonly Token[]) {
    if (key !== internal) throw tokenArea('use TokenChain.of() or TokenChain.parse()');
    this.#tokens = Object.freeze([...tokens]);
    const leaf = tokens.at(-1);
    if (leaf === undefined) throw tokenArea(`a chain has 1 to ${String(MAX_CHAIN)} tokens, got 0`);
    this.#leaf = leaf;
  }

  /** Joins tokens, the root's first. */
  static of(...tokens: Token[]): TokenChain {
    if (tokens.length > MAX_CHAIN) {
      throw tokenArea(`a chain has 1 to ${String(MAX_CHAIN)} tokens, got ${String(tokens.length)}`);
    }
    tokens.forEach((token, index) => bytesOfToken(`tokens[${String(index)}]`, token));
    return new TokenChain(internal, tokens);
  }

  /** Reads the bytes of a chain, or of a single token. Only the format is checked. */
  static parse(wire: Uint8Array): TokenChain {
    const facts = readWireForm('wire', wire, native.tokenChainFacts);
    return new TokenChain(
      internal,
      facts.map((one) => Token.of(internal, one)),
    );
  }

  /** The tokens, the root's first. */
  get tokens(): readonly Token[] {
    return this.#tokens;
  }

  /** The presenter's token. */
  get leaf(): Token {
    return this.#leaf;
  }

  /** Its wire form. */
  toBuffer(): Buffer {
    return chainBytesOf(this);
  }
}

/** The token of bytes that the native part made. */
export function tokenFromBytes(wire: Buffer): Token {
  return Token.parse(wire);
}

/** The bytes of one token. */
export function readToken(path: string, value: unknown): Uint8Array {
  return isBytes(value) ? factsOfOne(path, value).bytes : bytesOfToken(path, value);
}

/** The bytes of a token or of a chain. */
export function readTokenLike(path: string, value: unknown): Uint8Array {
  if (isBytes(value)) {
    readWireForm(path, value, native.tokenChainFacts);
    return value;
  }
  try {
    return chainBytesOf(value as TokenChain);
  } catch {
    return bytesOfToken(path, value, 'a Token, a TokenChain or a Uint8Array');
  }
}

/** The bits of a list of scopes. */
export function readScope(refuse: Refuse, path: string, value: unknown): number {
  const scopes = list(refuse, path, value, (r, p, one) => choice(r, p, one, SCOPES));
  if (scopes.length === 0) throw refuse(`${path} must not be empty`);
  return scopes.reduce((bits, scope) => bits | SCOPE_BITS[scope], 0);
}

/** Checks what a token is to say. */
export function readIssueOptions(given: IssueTokenOptions | undefined): {
  subject: Uint8Array;
  scope: number;
  channel: string;
  group: string | undefined;
  ttlSeconds: bigint;
  delegationDepth: number;
  generation: number;
} {
  if (given === undefined) throw identityArea('options must be an object');
  const read = options(identityArea, 'options', given, {
    subject: true,
    scope: true,
    channel: true,
    queueGroup: true,
    ttlSeconds: true,
    delegationDepth: true,
    generation: true,
  });
  const subject = readEntityId(identityArea, 'options.subject', read.subject);
  const scope = readScope(identityArea, 'options.scope', read.scope);
  const channel = channelName(identityArea, 'options.channel', read.channel);
  const group = queueGroup(identityArea, 'options.queueGroup', channel, read.queueGroup);
  if (group !== undefined && (scope & SCOPE_BITS.wildcard) !== 0) {
    throw identityArea("options.queueGroup: a token with the scope 'wildcard' is for channels only");
  }
  const ttlSeconds = readTtl('options.ttlSeconds', read.ttlSeconds);
  const { delegationDepth = 0, generation = 0 } = read;
  const depth = integer(identityArea, 'options.delegationDepth', delegationDepth, { max: MAX_DEPTH });
  const checked = integer(identityArea, 'options.generation', generation);
  return { subject, scope, channel, group, ttlSeconds, delegationDepth: depth, generation: checked };
}

/** A time that a token may have. One that none may have is a kind of error by itself. */
function readTtl(path: string, value: unknown): bigint {
  const ttl = integer(identityArea, path, value, { max: Number.MAX_SAFE_INTEGER });
  if (ttl === 0) throw new TokenError(`${path} must be at least 1`, { kind: 'zero_ttl' });
  if (ttl > MAX_TTL_SECONDS) {
    throw new TokenError(`${path} must be at most ${String(MAX_TTL_SECONDS)}`, { kind: 'ttl_too_long' });
  }
  return BigInt(ttl);
}

/** What the bytes of one token say. */
function factsOfOne(path: string, value: unknown): TokenFacts {
  const [facts, second] = readWireForm(path, value, native.tokenChainFacts);
  if (facts === undefined || second !== undefined) throw tokenArea(`${path} must be one token, got a chain`);
  return facts;
}

function bytesOfToken(path: string, value: unknown, expected = 'a Token or a Uint8Array'): Buffer {
  try {
    return bytesOf(value as Token);
  } catch {
    throw tokenArea(`${path} must be ${expected}`);
  }
}

function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value);
}

function dateOf(seconds: bigint): Date {
  return new Date(Math.min(Number(seconds) * 1000, LAST_DATE));
}
