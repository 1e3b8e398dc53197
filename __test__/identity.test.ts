// Identities: derivations against vectors of other implementations, strict verification, secrets that never show.

import { inspect } from 'node:util';
import { Identity, IdentityError, channelHash } from 'mesh-daemon';

const SEED = Buffer.from(Array.from({ length: 32 }, (_, i) => i));

describe('Identity', () => {
  test('key, origin hash and node id are derived from the seed', () => {
    const identity = Identity.fromSeed(SEED);
    // ed25519 by RFC 8032; the hashes by Python's hashlib.blake2s.
    expect(identity.entityId.toString('hex')).toBe('03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8');
    expect(identity.originHash).toBe(0x782a_3238_8019_76bfn);
    expect(identity.nodeId).toBe(0xbd82_6a5d_0a63_94f5n);
    expect(identity.isReadOnly).toBe(false);
    expect(identity.toBytes()).toEqual(SEED);
    expect(Identity.fromBytes(new Uint8Array(SEED)).entityId).toEqual(identity.entityId);
  });

  test('generate makes a new one each time', () => {
    expect(Identity.generate().entityId).not.toEqual(Identity.generate().entityId);
  });

  test('signatures verify, for this key and this message only', () => {
    const identity = Identity.generate();
    const message = Buffer.from('message');
    const signature = identity.sign(message);
    expect(signature).toHaveLength(64);
    expect(Identity.verify(identity.entityId, message, signature)).toBe(true);
    expect(Identity.verify(identity.entityId, Buffer.from('other'), signature)).toBe(false);
    expect(Identity.verify(Identity.generate().entityId, message, signature)).toBe(false);
    expect(Identity.verify(identity.entityId, Buffer.alloc(0), identity.sign(new Uint8Array(0)))).toBe(true);
  });

  test('verification is strict: a small-order key signs nothing', () => {
    const neutral = Buffer.alloc(32);
    neutral[0] = 1;
    const forged = Buffer.alloc(64);
    forged[0] = 1;
    expect(Identity.verify(neutral, Buffer.from('any'), forged)).toBe(false);
  });

  test('a public identity has the addresses but neither signs nor shows a seed', () => {
    const full = Identity.generate();
    const identity = Identity.publicOnly(full.entityId);
    expect(identity.isReadOnly).toBe(true);
    expect(identity.originHash).toBe(full.originHash);
    expect(identity.nodeId).toBe(full.nodeId);
    const readOnly = expect.objectContaining({ code: 'ERR_IDENTITY_READ_ONLY' }) as Error;
    expect(() => identity.sign(Buffer.alloc(1))).toThrow(readOnly);
    expect(() => identity.toBytes()).toThrow(IdentityError);
  });

  test.each([
    ['no canonical number', Buffer.alloc(32, 0xff)],
    ['no point of the curve', Buffer.alloc(32, 2)],
    ['a point that everybody can sign for', Buffer.concat([Buffer.of(1), Buffer.alloc(31)])],
    ['zeros', Buffer.alloc(32)],
  ])('%s is nobody’s public key', (_, entityId) => {
    expect(() => Identity.publicOnly(entityId)).toThrow(
      new IdentityError('entityId must be an ed25519 public key', { code: 'ERR_IDENTITY_INVALID_ARGUMENT' }),
    );
  });

  test('neither console.log nor JSON shows the secret', () => {
    const identity = Identity.fromSeed(SEED);
    const holder = { identity, list: [identity] };
    const shown = [
      inspect(identity),
      inspect(holder, { showHidden: true, depth: 10, getters: true, showProxy: true }),
      JSON.stringify(holder),
      Object.prototype.toString.call(identity),
    ].join('\n');
    expect(shown).toContain(identity.entityId.toString('hex'));
    expect(shown).not.toContain('0001020304');
    expect(shown).not.toMatch(/00 01 02 03/);
    expect(shown).not.toMatch(/0,\s*1,\s*2,\s*3/);
    expect(Reflect.ownKeys(identity)).toEqual([]);
  });

  test('entityId is a copy: changing it changes nothing', () => {
    const identity = Identity.fromSeed(SEED);
    identity.entityId.fill(0);
    expect(identity.entityId.toString('hex')).toMatch(/^03a107bf/);
  });

  test('the seed is copied: changing it afterwards changes nothing (hazard 19)', () => {
    const seed = Buffer.from(SEED);
    const identity = Identity.fromSeed(seed);
    seed.fill(9);
    expect(identity.toBytes()).toEqual(SEED);
  });

  test('the constructor is private', () => {
    const Anything = Identity as unknown as new (...args: unknown[]) => unknown;
    expect(() => new Anything()).toThrow(IdentityError);
  });

  test('a thousand identities can be collected', () => {
    for (let i = 0; i < 1000; i += 1) Identity.fromSeed(SEED).sign(SEED);
    expect(Identity.fromSeed(SEED).nodeId).toBe(0xbd82_6a5d_0a63_94f5n);
  });
});

describe('channelHash', () => {
  test('is xxh3-64 of the canonical name', () => {
    // By Python's xxhash.
    expect(channelHash('telemetry/rack-1')).toBe(0xf51a_6716_fe78_7b6cn);
  });

  test.each(['a', 'a/b/c', 'v1.2', '.hidden', '...', 'x'.repeat(255)])('%s is a name', (name) => {
    expect(typeof channelHash(name)).toBe('bigint');
  });

  test.each(['', '/', '/a', 'a/', 'a//b', '.', '..', 'a/./b', 'a/..', 'A', 'a b', 'ä', 'a\0', 'x'.repeat(256)])(
    '%j is none',
    (name) => {
      expect(() => channelHash(name)).toThrow(IdentityError);
    },
  );
});
