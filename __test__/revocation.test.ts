// Revocations and clocks through the public API: hazard 43, requirement 117.

import { inspect } from 'node:util';
import { ChannelAuthError, delegateToken, Identity, IdentityError, MeshError, Revocation } from 'mesh-daemon';
import { Token, TokenChain, TokenError } from 'mesh-daemon';
import type { MeshNode, MeshNodeOptions, Subscription } from 'mesh-daemon';
import { any, bare, closeAll, failure, thrown } from './helpers/nodes';

afterEach(closeAll);

const root = Identity.fromSeed(Buffer.alloc(32, 1));
const broker = Identity.fromSeed(Buffer.alloc(32, 2));

function issue(subject: Uint8Array, generation?: number): Token {
  const grant = { subject, scope: ['subscribe'] as const, channel: 'gated', ttlSeconds: 600 };
  return root.issueToken(generation === undefined ? grant : { ...grant, generation });
}

/** What the root lets the broker pass on, passed on. */
function passedOn(subject: Uint8Array, generation: number): TokenChain {
  const scope = ['subscribe', 'delegate'] as const;
  const grant = { subject: broker.entityId, scope, channel: 'gated', ttlSeconds: 600, delegationDepth: 1, generation };
  const parent = root.issueToken(grant);
  return TokenChain.of(parent, delegateToken(broker, parent, subject, ['subscribe']));
}

async function publisher(options: Partial<MeshNodeOptions> = {}): Promise<MeshNode> {
  const mesh = await bare(options);
  mesh.registerChannel({ name: 'gated', tokenRoots: [root.entityId] });
  return mesh;
}

async function connect(a: MeshNode, b: MeshNode): Promise<void> {
  await a.connect(b.localAddr());
  await b.accept(a.nodeId());
}

/** How a subscription ends, whatever comes before. */
async function end(subscription: Subscription): Promise<unknown> {
  const messages = subscription[Symbol.asyncIterator]();
  try {
    while ((await messages.next()).done !== true);
    return undefined;
  } catch (error) {
    return error;
  }
}

function expectRevoked(error: unknown): void {
  expect(error).toBeInstanceOf(ChannelAuthError);
  expect(error).toMatchObject({ code: 'ERR_CHANNEL_UNAUTHORIZED', kind: 'revoked' });
}

/** What is no revocation, and what each is refused as. */
function noRevocations(): [kind: string, wrong: Uint8Array][] {
  const forged = broker.revokeTokens({ below: 1 }).toBuffer();
  root.entityId.copy(forged);
  return [
    ['invalid_signature', forged],
    ['invalid_format', Buffer.alloc(3)],
    ['invalid_format', any('x')],
  ];
}

describe('a revocation', () => {
  test('says whose tokens it takes back, and is 100 bytes of which whoever gets them gets a copy', () => {
    const revocation = root.revokeTokens({ below: 7 });
    expect(revocation.issuer).toEqual(root.entityId);
    expect(revocation.below).toBe(7);
    expect(revocation.bytes).toHaveLength(100);
    expect(revocation.verify()).toBe(true);
    revocation.bytes.fill(0);
    revocation.toBuffer().fill(0);
    revocation.issuer.fill(0);
    const again = Revocation.parse(new Uint8Array(revocation.toBuffer()));
    expect(again.bytes).toEqual(revocation.bytes);
    expect(again.verify()).toBe(true);
    expect(inspect(again)).toContain(root.entityId.toString('hex'));
    // It names no time: the same again.
    expect(root.revokeTokens({ below: 7 }).bytes).toEqual(revocation.bytes);
  });

  test('parse checks the format only; a changed one does not verify', () => {
    for (const at of [0, 31, 32, 35, 36, 99]) {
      const bytes = root.revokeTokens({ below: 7 }).toBuffer();
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      expect(Revocation.parse(bytes).verify()).toBe(false);
    }
    for (const length of [0, 99, 101, 169]) {
      const error = thrown(() => Revocation.parse(Buffer.alloc(length)));
      expect(error).toBeInstanceOf(TokenError);
      expect(error).toMatchObject({ kind: 'invalid_format' });
    }
    expect(thrown(() => Revocation.parse(any('x')))).toBeInstanceOf(TokenError);
    expect(thrown(() => Reflect.construct(Revocation, []))).toBeInstanceOf(TokenError);
  });

  test.each([
    ['options must be an object', undefined],
    ['options.below must be a number, got undefined', {}],
    ['options.below must be at least 1', { below: 0 }],
    ['options.below must be at most 4294967295', { below: 2 ** 32 }],
    ['options.below must be an integer', { below: 1.5 }],
    ["unknown option 'generation' in options; there are below", { below: 1, generation: 1 }],
  ])('%s', (message, options) => {
    const error = thrown(() => root.revokeTokens(any(options)));
    expect(error).toBeInstanceOf(IdentityError);
    expect(error.message).toBe(message);
  });

  test('only who has the secret makes one', () => {
    const error = thrown(() => Identity.publicOnly(root.entityId).revokeTokens({ below: 1 }));
    expect(error).toBeInstanceOf(TokenError);
    expect(error).toMatchObject({ kind: 'read_only' });
  });
});

describe('the store of an identity', () => {
  test('hazard 43: gives out and passes on nothing that its issuer took back', () => {
    const keeper = Identity.generate();
    const [old, good] = [issue(keeper.entityId, 2), issue(keeper.entityId, 3)];
    keeper.installToken(old);
    keeper.installRevocation(root.revokeTokens({ below: 2 }));
    expect(keeper.lookupToken(keeper.entityId, 'gated')?.bytes).toEqual(old.bytes);
    keeper.installRevocation(root.revokeTokens({ below: 3 }).bytes);
    keeper.installRevocation(root.revokeTokens({ below: 1 }));
    expect(keeper.tokenCacheLen).toBe(0);
    expect(keeper.lookupToken(keeper.entityId, 'gated')).toBeNull();
    expect(
      thrown(() => {
        keeper.installToken(old);
      }),
    ).toMatchObject({ kind: 'revoked', code: 'ERR_TOKEN_REVOKED' });
    keeper.installToken(good);
    expect(keeper.lookupToken(keeper.entityId, 'gated')?.generation).toBe(3);

    const told = Identity.fromSeed(broker.toBytes());
    const chain = passedOn(told.entityId, 5);
    const [parent] = chain.tokens as [Token];
    expect(delegateToken(told, parent, keeper.entityId, ['subscribe']).generation).toBe(5);
    told.installRevocation(root.revokeTokens({ below: 6 }));
    expect(thrown(() => delegateToken(told, parent, keeper.entityId, ['subscribe']))).toMatchObject({
      kind: 'revoked',
    });
  });

  test('takes only what the issuer signed', () => {
    const keeper = Identity.generate();
    for (const [kind, wrong] of noRevocations()) {
      const error = thrown(() => {
        keeper.installRevocation(wrong);
      });
      expect(error).toBeInstanceOf(TokenError);
      expect(error).toMatchObject({ kind });
    }
  });
});

describe('a mesh', () => {
  test('hazard 43: what is revoked on any node ends at the publisher, and does not begin again', async () => {
    const [at, subscriber, third] = [await publisher(), await bare(), await bare()];
    await connect(subscriber, at);
    await connect(third, at);
    const token = issue(subscriber.entityId());
    expect(token.generation).toBe(0);
    const reader = subscriber.messages(at.nodeId(), 'gated', { token });
    await reader.ready;
    const revocation = root.revokeTokens({ below: 1 });
    await third.revoke(revocation);
    expectRevoked(await end(reader));
    expectRevoked(await failure(subscriber.subscribeChannel(at.nodeId(), 'gated', { token })));
    const error = await failure(subscriber.subscribeChannel(at.nodeId(), 'gated'));
    expect(error).toMatchObject({ kind: 'not_authorized' });
    expect(await at.publish('gated', Buffer.from('secret'))).toMatchObject({ attempted: 0 });
    await subscriber.subscribeChannel(at.nodeId(), 'gated', { token: issue(subscriber.entityId(), 1) });
    for (const mesh of [at, third]) expect(mesh.revocations().map((one) => one.bytes)).toEqual([revocation.bytes]);
    await third.revoke(revocation.bytes);
    await third.revoke(root.revokeTokens({ below: 1 }));
    expect(await at.publish('gated', Buffer.from('news'))).toMatchObject({ attempted: 1 });
  });

  test('hazard 43: a holder takes back what it passed on, and nothing else', async () => {
    const [at, one, two] = [await publisher(), await bare(), await bare()];
    await connect(one, at);
    await connect(two, at);
    const passed = one.messages(at.nodeId(), 'gated', { token: passedOn(one.entityId(), 3) });
    await two.subscribeChannel(at.nodeId(), 'gated', { token: issue(two.entityId(), 3) });
    await passed.ready;
    await at.revoke(broker.revokeTokens({ below: 4 }));
    expectRevoked(await end(passed));
    expect(await at.publish('gated', Buffer.from('news'))).toMatchObject({ attempted: 1 });
  });

  test('a publisher that starts later is told by whoever is there, also when who entered it is gone', async () => {
    const [first, witness] = [await bare(), await bare()];
    await connect(first, witness);
    await first.revoke(root.revokeTokens({ below: 1 }));
    await first.shutdown();
    expect(first.revocations()).toEqual([]);
    const [at, subscriber] = [await publisher(), await bare()];
    await connect(subscriber, at);
    await connect(at, witness);
    // Whichever comes first: it is refused, or put out.
    const token = issue(subscriber.entityId());
    expectRevoked(await end(subscriber.messages(at.nodeId(), 'gated', { token })));
    expectRevoked(await failure(subscriber.subscribeChannel(at.nodeId(), 'gated', { token })));
  });

  test('a publisher that restarts and is told at its start lets nobody in who was put out', async () => {
    const seed = Buffer.alloc(32, 9);
    const former = await publisher({ identitySeed: seed });
    await former.revoke(root.revokeTokens({ below: 1 }));
    const saved = former.revocations().map((one) => one.toBuffer());
    expect(saved).toHaveLength(1);
    await former.shutdown();
    const at = await bare({ identitySeed: seed });
    for (const one of saved) await at.revoke(one);
    at.registerChannel({ name: 'gated', tokenRoots: [root.entityId] });
    const subscriber = await bare();
    await connect(subscriber, at);
    const token = issue(subscriber.entityId());
    expectRevoked(await failure(subscriber.subscribeChannel(at.nodeId(), 'gated', { token })));
  });

  test('what is no revocation rejects', async () => {
    const mesh = await bare();
    const ofAToken: [kind: string, wrong: Uint8Array] = ['invalid_format', any(issue(mesh.entityId()))];
    for (const [kind, wrong] of [...noRevocations(), ofAToken]) {
      const error = await failure(mesh.revoke(wrong));
      expect(error).toBeInstanceOf(TokenError);
      expect(error).toMatchObject({ kind });
    }
    expect(mesh.revocations()).toEqual([]);
    const controller = new AbortController();
    controller.abort('enough');
    await expect(mesh.revoke(root.revokeTokens({ below: 1 }), { signal: controller.signal })).rejects.toBe('enough');
    await mesh.shutdown();
    expect((await failure(mesh.revoke(root.revokeTokens({ below: 1 })))).code).toBe('ERR_MESH_SHUT_DOWN');
  });
});

describe('clocks', () => {
  /** A token of the root whose window begins and ends so many seconds from now. */
  function within(subject: Uint8Array, from: number, until: number): Token {
    const bytes = issue(subject).toBuffer();
    const now = Math.floor(Date.now() / 1000);
    bytes.writeBigUInt64LE(BigInt(now + from), 80);
    bytes.writeBigUInt64LE(BigInt(now + until), 88);
    root.sign(bytes.subarray(0, 105)).copy(bytes, 105);
    return Token.parse(bytes);
  }

  test.each([
    [undefined, 4, 600, 'in'],
    [undefined, 3600, 7200, 'not_yet_valid'],
    [0, 3600, 7200, 'not_yet_valid'],
    [300_000, 200, 600, 'in'],
    [300_000, 3600, 7200, 'not_yet_valid'],
    [300_000, -600, -1, 'expired'],
    [300_000, -600, 60, 'in'],
  ])(
    'requirement 117: tokenClockSkewMs %p, a token from %p to %p s: %s',
    async (tokenClockSkewMs, from, until, what) => {
      const at = await publisher(tokenClockSkewMs === undefined ? {} : { tokenClockSkewMs });
      const subscriber = await bare();
      await connect(subscriber, at);
      const token = within(subscriber.entityId(), from, until);
      expect(token.verify()).toBe(true);
      const outcome = await subscriber.subscribeChannel(at.nodeId(), 'gated', { token }).then(
        () => 'in',
        (error: unknown) => (error as ChannelAuthError).kind,
      );
      // Publishing looks at the tokens again.
      const { attempted } = await at.publish('gated', Buffer.from('news'));
      expect([outcome, attempted]).toEqual([what, what === 'in' ? 1 : 0]);
    },
  );

  test.each([
    ['options.tokenClockSkewMs must be at most 300000', 300_001],
    ['options.tokenClockSkewMs must be non-negative', -1],
    ['options.tokenClockSkewMs must be a number or a bigint, got a string', '5'],
    ['options.tokenClockSkewMs must be an integer', 0.5],
  ])('%s', async (message, tokenClockSkewMs) => {
    const error = await failure(bare({ tokenClockSkewMs: any(tokenClockSkewMs) }));
    expect(error).toBeInstanceOf(MeshError);
    expect(error.message).toBe(message);
  });
});
