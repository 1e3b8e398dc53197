// Tokens: issuing, reading, passing on, the store; requirements 117 and 118.

import { inspect } from 'node:util';
import { channelHash, delegateToken, Identity, IdentityError, Token, TokenChain, TokenError } from 'mesh-daemon';
import type { TokenScope } from 'mesh-daemon';
import { any, thrown } from './helpers/nodes';

const YEAR = 365 * 24 * 60 * 60;
const CHANNEL = 'telemetry/rack-1';

const issuer = Identity.fromSeed(Buffer.alloc(32, 1));
const holder = Identity.fromSeed(Buffer.alloc(32, 2));
const third = Identity.fromSeed(Buffer.alloc(32, 3));

function issue(
  scope: TokenScope[] = ['subscribe'],
  more: { ttlSeconds?: number; delegationDepth?: number; generation?: number } = {},
): Token {
  return issuer.issueToken({ subject: holder.entityId, scope, channel: CHANNEL, ttlSeconds: 60, ...more });
}

/** A good token with one byte changed: its signature does not fit any more. */
function changed(token: Token, at: number, value: number): Buffer {
  const bytes = token.toBuffer();
  bytes[at] = value;
  return bytes;
}

/** The token that its issuer would have signed so many seconds earlier (or later, if negative). */
function issuedEarlier(token: Token, seconds: number): Buffer {
  const bytes = token.toBuffer();
  for (const at of [80, 88]) bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) - BigInt(seconds), at);
  issuer.sign(bytes.subarray(0, 105)).copy(bytes, 105);
  return bytes;
}

describe('a token', () => {
  test('says what it was issued with', () => {
    const before = Math.floor(Date.now() / 1000);
    const token = issue(['subscribe', 'delegate'], { delegationDepth: 3 });
    const after = Math.ceil(Date.now() / 1000);
    expect(token.issuer).toEqual(issuer.entityId);
    expect(token.subject).toEqual(holder.entityId);
    expect([...token.scope].sort()).toEqual(['delegate', 'subscribe']);
    expect(token.channelHash).toBe(channelHash(CHANNEL));
    expect(token.delegationDepth).toBe(3);
    const from = token.notBefore.getTime() / 1000;
    expect(from).toBeGreaterThanOrEqual(before);
    expect(from).toBeLessThanOrEqual(after);
    expect(token.notAfter.getTime() - token.notBefore.getTime()).toBe(60_000);
    expect(token.verify()).toBe(true);
    expect(token.isExpired()).toBe(false);
    expect(token.nonce).not.toBe(issue().nonce);
    expect(inspect(token)).toContain(issuer.entityId.toString('hex'));
  });

  test('has the generation that it was issued in, 0 unless told otherwise, as has what is made of it', () => {
    expect(issue().generation).toBe(0);
    for (const generation of [0, 1, 2 ** 32 - 1]) {
      const token = issue(['subscribe', 'delegate'], { generation, delegationDepth: 1 });
      expect(token.generation).toBe(generation);
      expect(Token.parse(token.bytes).generation).toBe(generation);
      expect(delegateToken(holder, token, third.entityId, ['subscribe']).generation).toBe(generation);
      expect(inspect(token)).toContain(`generation: ${String(generation)}`);
    }
  });

  test('is 169 bytes, of which whoever gets them gets a copy', () => {
    const token = issue();
    expect(token.bytes).toHaveLength(169);
    token.bytes.fill(0);
    token.toBuffer().fill(0);
    token.issuer.fill(0);
    const again = Token.parse(new Uint8Array(token.toBuffer()));
    expect(again.bytes).toEqual(token.bytes);
    expect(again.issuer).toEqual(issuer.entityId);
    expect(again.nonce).toBe(token.nonce);
    expect(again.verify()).toBe(true);
  });

  test('parse checks the format only; a changed token does not verify, and that does not throw', () => {
    for (const at of [0, 40, 64, 70, 77, 85, 90, 96, 100, 105, 168]) {
      const token = issue();
      const forged = Token.parse(changed(token, at, token.bytes.readUInt8(at) ^ 1));
      expect(forged.verify()).toBe(false);
    }
    for (const length of [0, 1, 168, 170, 338]) {
      const error = thrown(() => Token.parse(Buffer.alloc(length)));
      expect(error).toBeInstanceOf(TokenError);
      expect(error).toMatchObject({ code: 'ERR_TOKEN_INVALID_FORMAT', kind: 'invalid_format' });
    }
    expect(thrown(() => Token.parse(any('x')))).toBeInstanceOf(TokenError);
    // The latest time that a token can name is beyond that of a Date.
    const far = issue().toBuffer().fill(0xff, 80, 96);
    expect(Token.parse(far).notAfter.getTime()).toBe(8.64e15);
  });

  test('requirement 117: no time to live, and too much of it, are refused', () => {
    expect(thrown(() => issue(['publish'], { ttlSeconds: 0 }))).toMatchObject({ kind: 'zero_ttl' });
    expect(thrown(() => issue(['publish'], { ttlSeconds: YEAR + 1 }))).toMatchObject({ kind: 'ttl_too_long' });
    expect(thrown(() => issue(['publish'], { ttlSeconds: 0 })).message).toBe('options.ttlSeconds must be at least 1');
    const long = 'options.ttlSeconds must be at most 31536000';
    for (const ttlSeconds of [YEAR + 1, 1e9, Number.MAX_SAFE_INTEGER]) {
      expect(thrown(() => issue(['publish'], { ttlSeconds })).message).toBe(long);
    }
    expect(issue(['publish'], { ttlSeconds: YEAR }).verify()).toBe(true);
    expect(issue(['publish'], { ttlSeconds: 1 }).isExpired()).toBe(false);
  });

  test('a read-only identity issues none', () => {
    const reader = Identity.publicOnly(issuer.entityId);
    const options = { subject: holder.entityId, scope: ['publish'] as const, channel: CHANNEL, ttlSeconds: 1 };
    const error = thrown(() => reader.issueToken(options));
    expect(error).toBeInstanceOf(TokenError);
    expect(error).toMatchObject({ kind: 'read_only', code: 'ERR_TOKEN_READ_ONLY' });
  });

  test.each([
    ['options.subject must be a Uint8Array, got a string; Buffer.from(text) makes one', { subject: 'x' }],
    ['options.subject must be 32 bytes, got 16', { subject: Buffer.alloc(16) }],
    ['options.subject must be an ed25519 public key', { subject: Buffer.alloc(32) }],
    ["options.scope[0] must be one of 'publish', 'subscribe', 'admin', 'delegate', 'wildcard'", { scope: ['read'] }],
    ['options.scope must be an array, got a string', { scope: 'publish' }],
    ['options.scope must not be empty', { scope: [] }],
    ['options.channel must be a string, got a number', { channel: 7 }],
    ["options.channel: invalid channel name: a '/' leads, trails or is doubled", { channel: '/a' }],
    ['options.ttlSeconds must be non-negative', { ttlSeconds: -1 }],
    ['options.ttlSeconds must be an integer', { ttlSeconds: 1.5 }],
    ['options.ttlSeconds must be finite', { ttlSeconds: Infinity }],
    ['options.delegationDepth must be at most 255', { delegationDepth: 256 }],
    ['options.generation must be at most 4294967295', { generation: 2 ** 32 }],
    ['options.generation must be non-negative', { generation: -1 }],
    ['options.generation must be a number, got a bigint', { generation: 1n }],
    [
      "unknown option 'ttl' in options; there are subject, scope, channel, queueGroup, ttlSeconds, delegationDepth, generation",
      { ttl: 5 },
    ],
  ])('%s', (message, wrong) => {
    const good = { subject: holder.entityId, scope: ['publish'], channel: CHANNEL, ttlSeconds: 60 };
    const error = thrown(() => issuer.issueToken(any({ ...good, ...wrong })));
    expect(error).toBeInstanceOf(IdentityError);
    expect(error.message).toBe(message);
  });
});

describe('passing a token on', () => {
  const parent = (): Token => issue(['subscribe', 'publish', 'delegate'], { delegationDepth: 1 });

  test('gives at most what the parent has', () => {
    const from = parent();
    const child = delegateToken(holder, from, third.entityId, ['subscribe', 'admin', 'delegate']);
    expect([...child.scope].sort()).toEqual(['delegate', 'subscribe']);
    expect(child.issuer).toEqual(holder.entityId);
    expect(child.subject).toEqual(third.entityId);
    expect(child.notAfter).toEqual(from.notAfter);
    expect(child.channelHash).toBe(from.channelHash);
    expect(child.delegationDepth).toBe(0);
    expect(child.verify()).toBe(true);
  });

  test('no scope at all is refused', () => {
    const error = thrown(() => delegateToken(holder, parent(), third.entityId, []));
    expect(error).toMatchObject({ code: 'ERR_IDENTITY_INVALID_ARGUMENT', message: 'scope must not be empty' });
  });

  test.each([
    ['invalid_signature', () => delegateToken(third, changed(parent(), 64, 31), third.entityId, ['subscribe'])],
    ['expired', () => delegateToken(third, issuedEarlier(parent(), YEAR), third.entityId, ['subscribe'])],
    ['not_yet_valid', () => delegateToken(third, issuedEarlier(parent(), -YEAR), third.entityId, ['subscribe'])],
    ['not_authorized', () => delegateToken(third, parent(), third.entityId, ['subscribe'])],
    ['delegation_not_allowed', () => delegateToken(holder, issue(), third.entityId, ['subscribe'])],
    ['delegation_exhausted', () => delegateToken(holder, issue(['delegate']), third.entityId, ['subscribe'])],
    ['read_only', () => delegateToken(Identity.publicOnly(holder.entityId), parent(), third.entityId, ['subscribe'])],
    ['invalid_format', () => delegateToken(holder, Buffer.alloc(1), third.entityId, ['subscribe'])],
    ['invalid_format', () => delegateToken(holder, any(null), third.entityId, ['subscribe'])],
  ])('checks in order: %s', (kind, delegate) => {
    const error = thrown(delegate);
    expect(error).toBeInstanceOf(TokenError);
    expect(error).toMatchObject({ kind });
  });

  test('of a chain the leaf is passed on, and the chain grows', () => {
    const first = issue(['subscribe', 'delegate'], { delegationDepth: 2 });
    const second = delegateToken(holder, TokenChain.of(first), third.entityId, ['subscribe', 'delegate']);
    const last = Identity.generate();
    const chain = TokenChain.of(first, second);
    const leaf = delegateToken(third, chain.toBuffer(), last.entityId, ['subscribe']);
    const whole = TokenChain.of(...chain.tokens, leaf);
    expect(whole.leaf).toBe(leaf);
    const read = TokenChain.parse(whole.toBuffer());
    expect(read.tokens.map((token) => token.bytes)).toEqual([first, second, leaf].map((token) => token.bytes));
    expect(read.leaf.subject).toEqual(last.entityId);
  });

  test('a chain has 1 to 8 whole tokens', () => {
    const token = issue();
    expect(thrown(() => TokenChain.of())).toMatchObject({ kind: 'invalid_format' });
    expect(TokenChain.of(...Array.from({ length: 8 }, () => token)).tokens).toHaveLength(8);
    expect(thrown(() => TokenChain.of(...Array.from({ length: 9 }, () => token)))).toMatchObject({
      kind: 'invalid_format',
    });
    expect(thrown(() => TokenChain.of(any(token.bytes)))).toMatchObject({ kind: 'invalid_format' });
    for (const length of [0, 1, 168, 170, 169 * 9]) {
      expect(thrown(() => TokenChain.parse(Buffer.alloc(length)))).toMatchObject({ kind: 'invalid_format' });
    }
    expect(TokenChain.parse(token.bytes).leaf.bytes).toEqual(token.bytes);
  });
});

describe('the tokens of an identity', () => {
  test('are found by subject and channel, requirement 118: on another channel only with the wildcard', () => {
    const keeper = Identity.generate();
    expect(keeper.tokenCacheLen).toBe(0);
    expect(keeper.lookupToken(holder.entityId, CHANNEL)).toBeNull();
    const one = issue();
    keeper.installToken(one);
    keeper.installToken(one.bytes);
    expect(keeper.tokenCacheLen).toBe(1);
    expect(keeper.lookupToken(holder.entityId, CHANNEL)?.bytes).toEqual(one.bytes);
    expect(keeper.lookupToken(holder.entityId, 'other')).toBeNull();
    expect(keeper.lookupToken(third.entityId, CHANNEL)).toBeNull();
    const any = issue(['subscribe', 'wildcard']);
    keeper.installToken(any);
    expect(keeper.tokenCacheLen).toBe(2);
    expect(keeper.lookupToken(holder.entityId, 'other')?.bytes).toEqual(any.bytes);
    expect(issuer.tokenCacheLen).toBe(0);
  });

  test('what is not valid is not installed', () => {
    const keeper = Identity.generate();
    expect(
      thrown(() => {
        keeper.installToken(changed(issue(), 64, 31));
      }),
    ).toMatchObject({ kind: 'invalid_signature' });
    for (const [kind, seconds] of [
      ['expired', YEAR],
      ['not_yet_valid', -YEAR],
    ] as const) {
      const untimely = issuedEarlier(issue(), seconds);
      expect(Token.parse(untimely).verify()).toBe(true);
      expect(Token.parse(untimely).isExpired()).toBe(kind === 'expired');
      const error = thrown(() => {
        keeper.installToken(untimely);
      });
      expect(error).toBeInstanceOf(TokenError);
      expect(error).toMatchObject({ kind, code: `ERR_TOKEN_${kind.toUpperCase()}` });
    }
    expect(
      thrown(() => {
        keeper.installToken(Buffer.alloc(169));
      }),
    ).toMatchObject({ kind: 'invalid_signature' });
    expect(
      thrown(() => {
        keeper.installToken(Buffer.alloc(5));
      }),
    ).toMatchObject({ kind: 'invalid_format' });
    expect(
      thrown(() => {
        keeper.installToken(any(5));
      }),
    ).toMatchObject({ kind: 'invalid_format' });
    expect(keeper.tokenCacheLen).toBe(0);
    const error = thrown(() => keeper.lookupToken(Buffer.alloc(3), CHANNEL));
    expect(error).toBeInstanceOf(IdentityError);
    expect(error.message).toBe('subject must be 32 bytes, got 3');
    expect(thrown(() => keeper.lookupToken(holder.entityId, 'A'))).toBeInstanceOf(IdentityError);
  });
});
