// Channels through the public API: two and three nodes; hazards 41, 43 to 46, requirements 117 to 126.

import {
  ChannelAuthError,
  ChannelError,
  delegateToken,
  Identity,
  MeshError,
  NotConnectedError,
  TokenChain,
  TokenError,
} from 'mesh-daemon';
import type { ChannelConfig, ChannelMessage, MeshNode, Subscription, TokenLike } from 'mesh-daemon';
import { publisherAndSubscriber, star, take } from './helpers/channels';
import { any, bare, closeAll, failure, thrown } from './helpers/nodes';

afterEach(closeAll);

function texts(messages: readonly ChannelMessage[]): string[] {
  return messages.map((message) => message.payload.toString());
}

describe('publish and subscribe', () => {
  test('each of several readers that are refused at once ends', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    const readers = [0, 1, 2].map(() => subscriber.messages(publisher.nodeId(), 'none'));
    await Promise.allSettled(readers.map((reader) => reader.ready));
    for (const reader of readers) {
      expect(await failure(reader.ready)).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
      expect(await failure(take(reader, 1))).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
    }
  });

  test('every subscriber gets every message once, in order', async () => {
    const [publisher, one, two] = (await star(3)) as [MeshNode, MeshNode, MeshNode];
    publisher.registerChannel({ name: 'news/today' });
    const readers = [one, two, publisher].map((mesh) => mesh.messages(publisher.nodeId(), 'news/today'));
    await Promise.all(readers.map((reader) => reader.ready));
    const sent = Array.from({ length: 200 }, (_, i) => `message ${String(i)}`);
    const reports = await Promise.all(
      sent.map((text) => publisher.publish('news/today', Buffer.from(text), { reliability: 'reliable' })),
    );
    for (const report of reports) expect(report).toEqual({ attempted: 3, delivered: 3, errors: [] });
    for (const reader of readers) {
      const got = await take(reader, 200);
      expect(texts(got)).toEqual(sent);
      expect(got.map((message) => message.sequence)).toEqual(sent.map((_, i) => BigInt(i + 1)));
      expect(got[0]).toMatchObject({ publisher: publisher.nodeId(), channel: 'news/today' });
      expect(got[0]?.receivedAt).toBeGreaterThan(1_600_000_000_000_000_000n);
      expect(reader.dropped).toBe(0n);
    }
  });

  test('fire and forget is the default; nobody to send to is fine', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    expect(await publisher.publish('a', Buffer.from('x'))).toEqual({ attempted: 0, delivered: 0, errors: [] });
    await subscriber.subscribeChannel(publisher.nodeId(), 'a');
    expect(await publisher.publish('a', Buffer.from('x'))).toEqual({ attempted: 1, delivered: 1, errors: [] });
  });

  test('hazard 44: payloads of any size up to maxPayloadBytes arrive whole, a larger one is refused', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber({ maxPayloadBytes: 8 * 1024 * 1024 });
    publisher.registerChannel({ name: 'a' });
    const reader = subscriber.messages(publisher.nodeId(), 'a');
    await reader.ready;
    const sizes = [0, 1, 24 * 1024, 24 * 1024 + 1, 65_535, 65_536, 1_000_000, 8 * 1024 * 1024];
    const payloads = sizes.map((size, i) => Buffer.alloc(size, i + 1));
    for (const payload of payloads) {
      const report = publisher.publish('a', payload, { reliability: 'reliable' });
      // Copied on the way in.
      const copy = Buffer.from(payload);
      payload.fill(0);
      expect(await report).toMatchObject({ delivered: 1, errors: [] });
      copy.copy(payload);
    }
    const got = await take(reader, sizes.length);
    got.forEach((message, i) => {
      expect(message.payload.equals(payloads[i] as Buffer)).toBe(true);
    });
    const error = await failure(publisher.publish('a', Buffer.alloc(8 * 1024 * 1024 + 1)));
    expect(error).toBeInstanceOf(ChannelError);
    expect(error.code).toBe('ERR_CHANNEL_PAYLOAD_TOO_LARGE');
  });

  test('hazard 44: one that only the subscriber finds too large is in the report', async () => {
    const publisher = await bare();
    const subscriber = await bare({ maxPayloadBytes: 1000 });
    await subscriber.connect(publisher.localAddr());
    publisher.registerChannel({ name: 'a' });
    await subscriber.subscribeChannel(publisher.nodeId(), 'a');
    const report = await publisher.publish('a', Buffer.alloc(1001), { reliability: 'reliable', onFailure: 'collect' });
    expect(report).toMatchObject({ attempted: 1, delivered: 0 });
    expect(report.errors).toEqual([
      {
        nodeId: subscriber.nodeId(),
        message: expect.stringContaining('1000') as string,
        code: 'ERR_CHANNEL_PAYLOAD_TOO_LARGE',
      },
    ]);
    const error = await failure(publisher.publish('a', Buffer.alloc(1001), { onFailure: 'fail_fast' }));
    expect(error.code).toBe('ERR_CHANNEL_PAYLOAD_TOO_LARGE');
  });

  test('hazard 41: unsubscribing ends readers and the roster; not to be in it is fine', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    const node = publisher.nodeId();
    publisher.registerChannel({ name: 'a' });
    const reader = subscriber.messages(node, 'a');
    await reader.ready;
    await publisher.publish('a', Buffer.from('before'), { reliability: 'reliable' });
    await subscriber.unsubscribeChannel(node, 'a');
    expect(await publisher.publish('a', Buffer.from('after'))).toMatchObject({ attempted: 0 });
    const got: ChannelMessage[] = [];
    for await (const message of reader) got.push(message);
    expect(texts(got)).toEqual(['before']);
    await subscriber.unsubscribeChannel(node, 'a');
    await subscriber.unsubscribeChannel(node, 'never');
  });

  test('a subscription that nobody reads acknowledges; it keeps a bounded number and drops the oldest', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const reader = subscriber.messages(publisher.nodeId(), 'a');
    await reader.ready;
    const payloads = Array.from({ length: 1100 }, (_, i) => Buffer.from(String(i)));
    const reports = await Promise.all(payloads.map((p) => publisher.publish('a', p, { reliability: 'reliable' })));
    expect(reports.every((report) => report.delivered === 1)).toBe(true);
    expect(reader.dropped).toBe(76n);
    const [first] = await take(reader, 1);
    expect(first?.payload.toString()).toBe('76');
  });

  test('stop ends one reader; the node leaves with the last', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const one = subscriber.messages(publisher.nodeId(), 'a');
    const two = subscriber.messages(publisher.nodeId(), 'a');
    await Promise.all([one.ready, two.ready]);
    const waiting = one[Symbol.asyncIterator]().next();
    await one.stop();
    await one.stop();
    expect(await waiting).toEqual({ value: undefined, done: true });
    expect(await publisher.publish('a', Buffer.from('x'))).toMatchObject({ attempted: 1 });
    expect(texts(await take(two, 1))).toEqual(['x']);
    await two[Symbol.asyncDispose]();
    expect(await publisher.publish('a', Buffer.from('x'))).toMatchObject({ attempted: 0 });
  });
});

describe('what cannot be', () => {
  test('an unknown channel', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    const error = await failure(subscriber.subscribeChannel(publisher.nodeId(), 'nothing'));
    expect(error).toBeInstanceOf(ChannelError);
    expect(error.code).toBe('ERR_CHANNEL_UNKNOWN');
    expect((await failure(publisher.publish('nothing', Buffer.alloc(1)))).code).toBe('ERR_CHANNEL_UNKNOWN');
    const reader = subscriber.messages(publisher.nodeId(), 'nothing');
    expect((await failure(reader.ready)).code).toBe('ERR_CHANNEL_UNKNOWN');
    // Whoever reads later hears of it too.
    for (let loop = 0; loop < 2; loop += 1) {
      expect((await failure(take(reader, 1))).code).toBe('ERR_CHANNEL_UNKNOWN');
    }
  });

  test('a publisher without a session', async () => {
    const mesh = await bare();
    const error = await failure(mesh.subscribeChannel(7n, 'a'));
    expect(error).toBeInstanceOf(NotConnectedError);
    expect(error.code).toBe('ERR_NOT_CONNECTED');
    expect(await failure(take(mesh.messages(7n, 'a'), 1))).toBeInstanceOf(NotConnectedError);
  });

  test('after shutdown', async () => {
    const mesh = await bare();
    mesh.registerChannel({ name: 'a' });
    const reader = mesh.messages(mesh.nodeId(), 'a');
    await reader.ready;
    const waiting = take(reader, 1);
    await mesh.shutdown();
    expect(await waiting).toEqual([]);
    await reader.stop();
    expect(reader.dropped).toBe(0n);
    expect(
      thrown(() => {
        mesh.registerChannel({ name: 'a' });
      }),
    ).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
    expect(thrown(() => mesh.messages(1n, 'a'))).toBeInstanceOf(MeshError);
    expect(await failure(mesh.publish('a', Buffer.alloc(1)))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
    expect(await failure(mesh.subscribeChannel(1n, 'a'))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
    expect(await failure(mesh.unsubscribeChannel(1n, 'a'))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  });

  test('a subscription can be stopped while its node is shut down, and afterwards', async () => {
    const mesh = await bare();
    mesh.registerChannel({ name: 'a' });
    const readers = Array.from({ length: 3 }, () => mesh.messages(mesh.nodeId(), 'a'));
    await Promise.all(readers.map((reader) => reader.ready));
    const down = mesh.shutdown();
    await expect(readers[0]?.stop()).resolves.toBeUndefined();
    await down;
    await expect(readers[1]?.stop()).resolves.toBeUndefined();
    await expect(readers[2]?.[Symbol.asyncDispose]()).resolves.toBeUndefined();
  });

  test.each<[string, object]>([
    ['config.name must be a string', { name: 7 }],
    ["config.name: invalid channel name: a '/' leads, trails or is doubled", { name: 'a//b' }],
    ["config.visibility must be one of 'subnet-local', 'parent-visible', 'exported', 'global'", { visibility: 'all' }],
    ['config.reliable must be a boolean', { reliable: 1 }],
    ['config.requireToken must be a boolean', { requireToken: 'yes' }],
    ['config.tokenRoots must be an array', { tokenRoots: 'x' }],
    ['config.tokenRoots[0] must be 32 bytes, got 3', { tokenRoots: [Buffer.alloc(3)] }],
    ['config.priority must be at most 255', { priority: 256 }],
    ['config.maxRatePps must be at least 1', { maxRatePps: 0 }],
    ['config.publishCaps.requireTags must be an array', { publishCaps: { requireTags: 'gpu' } }],
    ['config.subscribeCaps.requireGpu must be a boolean', { subscribeCaps: { requireGpu: 1 } }],
    ["config.visibility must be one of 'subnet-local'", { visibility: null }],
    ['config.reliable must be a boolean, got null', { reliable: null }],
    ['config.requireToken must be a boolean, got null', { requireToken: null }],
    ['config.priority must be a number, got null', { priority: null }],
    ["unknown option 'prio'", { prio: 1 }],
  ])('%s', async (message, wrong) => {
    const mesh = await bare();
    const error = thrown(() => {
      mesh.registerChannel(any({ name: 'a', ...wrong }));
    });
    expect(error).toBeInstanceOf(ChannelError);
    expect(error.code).toBe('ERR_CHANNEL_INVALID_ARGUMENT');
    expect(error.message).toContain(message);
    mesh.registerChannel({ name: 'a', publishCaps: {}, subscribeCaps: { requireTags: [] } });
  });

  test.each(['reliability', 'onFailure', 'maxInflight'])('null is no default of options.%s', async (option) => {
    const mesh = await bare();
    const error = await failure(mesh.publish('a', Buffer.alloc(1), any({ [option]: null })));
    expect(error).toMatchObject({ name: 'ChannelError', code: 'ERR_CHANNEL_INVALID_ARGUMENT' });
    expect(error.message).toMatch(new RegExp(`^options\\.${option} must be `));
  });

  test('wrong arguments reject, and messages() throws', async () => {
    const mesh = await bare();
    for (const promise of [
      mesh.publish('A', Buffer.alloc(1)),
      mesh.publish('a', any('text')),
      mesh.publish('a', Buffer.alloc(1), any({ reliability: 'maybe' })),
      mesh.publish('a', Buffer.alloc(1), { maxInflight: 0 }),
      mesh.subscribeChannel(any(1), 'a'),
      mesh.subscribeChannel(1n, any(null)),
      mesh.unsubscribeChannel(-1n, 'a'),
    ]) {
      expect(await failure(promise)).toMatchObject({ code: 'ERR_CHANNEL_INVALID_ARGUMENT' });
    }
    expect(await failure(mesh.subscribeChannel(1n, 'a', { token: Buffer.alloc(1) }))).toBeInstanceOf(TokenError);
    expect(thrown(() => mesh.messages(1n, ''))).toBeInstanceOf(ChannelError);
    expect(thrown(() => mesh.messages(1n, 'a', { token: any(3) }))).toBeInstanceOf(TokenError);
  });
});

describe('the gate', () => {
  const root = Identity.fromSeed(Buffer.alloc(32, 1));
  const broker = Identity.fromSeed(Buffer.alloc(32, 2));
  const stranger = Identity.fromSeed(Buffer.alloc(32, 3));

  async function gated(config: Partial<ChannelConfig> = {}): Promise<[MeshNode, MeshNode]> {
    const nodes = await publisherAndSubscriber();
    nodes[0].registerChannel({ name: 'gated', tokenRoots: [root.entityId], ...config });
    return nodes;
  }

  test('of two tokens that are presented at once each has its own answer', async () => {
    const [publisher, subscriber] = await gated();
    const grant = { subject: subscriber.entityId(), scope: ['subscribe'] as const, channel: 'gated', ttlSeconds: 60 };
    const [good, bad] = [root.issueToken(grant), stranger.issueToken(grant)];
    for (const order of [
      [good, bad],
      [bad, good],
    ]) {
      const readers = order.map((token) => subscriber.messages(publisher.nodeId(), 'gated', { token }));
      const [welcome, refused] = [readers[order.indexOf(good)], readers[order.indexOf(bad)]] as [
        Subscription,
        Subscription,
      ];
      expect(await failure(refused.ready)).toBeInstanceOf(ChannelAuthError);
      await welcome.ready;
      await publisher.publish('gated', Buffer.from('x'));
      expect(texts(await take(welcome, 1))).toEqual(['x']);
      await welcome.stop();
    }
  });

  test('tokenRoots alone turn it on; the whole matrix through the front door', async () => {
    const [publisher, subscriber] = await gated();
    const me = subscriber.entityId();
    const grant = { subject: me, scope: ['subscribe'] as const, channel: 'gated', ttlSeconds: 60 };
    const passable = root.issueToken({
      ...grant,
      subject: broker.entityId,
      scope: ['subscribe', 'delegate'],
      delegationDepth: 1,
    });
    const passed = delegateToken(broker, passable, me, ['subscribe']);
    const forged = root.issueToken(grant).toBuffer();
    forged.writeUInt8(forged.readUInt8(64) | 16, 64);
    const cases: [string, TokenLike | undefined, boolean][] = [
      ['no token', undefined, false],
      ["a root's token", root.issueToken(grant), true],
      ['its bytes', root.issueToken(grant).toBuffer(), true],
      ["a stranger's token", stranger.issueToken(grant), false],
      ["another's token", root.issueToken({ ...grant, subject: broker.entityId }), false],
      ['another scope', root.issueToken({ ...grant, scope: ['publish', 'admin'] }), false],
      ['another channel', root.issueToken({ ...grant, channel: 'other' }), false],
      [
        'another channel with the wildcard',
        root.issueToken({ ...grant, channel: 'other', scope: ['subscribe', 'wildcard'] }),
        true,
      ],
      ['the wildcard alone', root.issueToken({ ...grant, scope: ['wildcard'] }), false],
      ['a changed token', forged, false],
      ['a chain', TokenChain.of(passable, passed), true],
      ['only its end', passed, false],
      ['only its beginning', passable, false],
      ['the wrong way round', TokenChain.of(passed, passable), false],
    ];
    const outcomes: unknown[] = [];
    for (const [what, token] of cases) {
      const asked = subscriber.subscribeChannel(publisher.nodeId(), 'gated', token === undefined ? {} : { token });
      const error = await asked.then(
        () => undefined,
        (caught: unknown) => caught,
      );
      const { attempted } = await publisher.publish('gated', Buffer.from('secret'));
      outcomes.push([what, error instanceof ChannelAuthError ? error.code : error, attempted]);
      await subscriber.unsubscribeChannel(publisher.nodeId(), 'gated');
    }
    expect(outcomes).toEqual(
      cases.map(([what, , allowed]) => [what, allowed ? undefined : 'ERR_CHANNEL_UNAUTHORIZED', allowed ? 1 : 0]),
    );
  });

  test('requireToken alone: tokens come from the publisher', async () => {
    const seed = Buffer.alloc(32, 5);
    const publisher = await bare({ identitySeed: seed });
    const subscriber = await bare();
    await subscriber.connect(publisher.localAddr());
    publisher.registerChannel({ name: 'gated', requireToken: true });
    const grant = {
      subject: subscriber.entityId(),
      scope: ['subscribe'] as const,
      channel: 'gated',
      ttlSeconds: 60,
    };
    const own = Identity.fromSeed(seed).issueToken(grant);
    expect(await failure(subscriber.subscribeChannel(publisher.nodeId(), 'gated'))).toBeInstanceOf(ChannelAuthError);
    const token = root.issueToken(grant);
    expect(await failure(subscriber.subscribeChannel(publisher.nodeId(), 'gated', { token }))).toBeInstanceOf(
      ChannelAuthError,
    );
    await subscriber.subscribeChannel(publisher.nodeId(), 'gated', { token: own });
  });

  test('requirements 117 and 119: a subscription ends with its token, and its reader hears why', async () => {
    const [publisher, subscriber] = await gated();
    const token = root.issueToken({
      subject: subscriber.entityId(),
      scope: ['subscribe'],
      channel: 'gated',
      ttlSeconds: 3,
    });
    const reader = subscriber.messages(publisher.nodeId(), 'gated', { token });
    await reader.ready;
    const error = await failure(take(reader, 1));
    expect(error).toBeInstanceOf(ChannelAuthError);
    expect(error.message).toContain('expired');
    expect(token.isExpired()).toBe(true);
    expect(await publisher.publish('gated', Buffer.from('secret'))).toMatchObject({ attempted: 0 });
  });

  test('a reader whose token is refused ends while another one of its node reads on', async () => {
    const [publisher, subscriber] = await gated();
    const grant = {
      subject: subscriber.entityId(),
      scope: ['subscribe'],
      channel: 'gated',
      ttlSeconds: 60,
    } as const;
    const reader = subscriber.messages(publisher.nodeId(), 'gated', { token: root.issueToken(grant) });
    await reader.ready;
    const refused = subscriber.messages(publisher.nodeId(), 'gated', { token: Identity.generate().issueToken(grant) });
    expect(await failure(refused.ready)).toBeInstanceOf(ChannelAuthError);
    expect(await failure(take(refused, 1))).toBeInstanceOf(ChannelAuthError);
    expect(await publisher.publish('gated', Buffer.from('x'))).toMatchObject({ attempted: 1, delivered: 1 });
    expect(await take(reader, 1)).toHaveLength(1);
    await reader.stop();
    expect(await publisher.publish('gated', Buffer.from('x'))).toMatchObject({ attempted: 0 });
  });

  test('requirement 121: repeated failures are throttled, and not even a good token is looked at then', async () => {
    const [publisher, subscriber] = await gated();
    const codes: unknown[] = [];
    for (let i = 0; i < 9; i += 1) {
      codes.push((await failure(subscriber.subscribeChannel(publisher.nodeId(), 'gated'))).code);
    }
    expect(codes.slice(0, 8)).toEqual(Array.from({ length: 8 }, () => 'ERR_CHANNEL_UNAUTHORIZED'));
    expect(codes[8]).toBe('ERR_CHANNEL_THROTTLED');
    const token = root.issueToken({
      subject: subscriber.entityId(),
      scope: ['subscribe'],
      channel: 'gated',
      ttlSeconds: 60,
    });
    expect((await failure(subscriber.subscribeChannel(publisher.nodeId(), 'gated', { token }))).code).toBe(
      'ERR_CHANNEL_THROTTLED',
    );
  });

  test('hazard 45: visibility by subnet', async () => {
    const publisher = await bare({ subnet: { levels: [1, 2] } });
    const places = { same: [1, 2], above: [1], beside: [1, 3], nowhere: undefined };
    for (const name of ['subnet-local', 'parent-visible', 'exported', 'global'] as const) {
      publisher.registerChannel({ name, visibility: name });
    }
    const seen: Record<string, string[]> = {};
    for (const [place, levels] of Object.entries(places)) {
      const mesh = await bare(levels === undefined ? {} : { subnet: { levels } });
      await mesh.connect(publisher.localAddr());
      seen[place] = [];
      for (const name of ['subnet-local', 'parent-visible', 'exported', 'global']) {
        const asked = mesh.subscribeChannel(publisher.nodeId(), name);
        const error = await asked.then(
          () => undefined,
          (caught: unknown) => caught,
        );
        seen[place].push(
          error === undefined ? name : (error as ChannelAuthError).code.replace('ERR_CHANNEL_UNAUTHORIZED', ''),
        );
      }
    }
    expect(seen).toEqual({
      same: ['subnet-local', 'parent-visible', '', 'global'],
      above: ['', 'parent-visible', '', 'global'],
      beside: ['', '', '', 'global'],
      nowhere: ['', '', '', 'global'],
    });
  });

  test('hazard 45: the rate', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a', maxRatePps: 1 });
    await subscriber.subscribeChannel(publisher.nodeId(), 'a');
    await publisher.publish('a', Buffer.from('1'));
    const codes = await Promise.all(
      Array.from({ length: 20 }, () =>
        publisher.publish('a', Buffer.from('x')).then(
          () => 'sent',
          (error: unknown) => (error as ChannelError).code,
        ),
      ),
    );
    expect(codes).toContain('ERR_CHANNEL_RATE_LIMITED');
    // How many pass depends on how long this took, but no machine takes a second per message.
    expect(codes.filter((code) => code === 'sent').length).toBeLessThan(20);
  });
});

describe('the end of a peer', () => {
  test('hazard 46: a lost subscriber leaves the roster', async () => {
    const [publisher, one, two] = (await star(3)) as [MeshNode, MeshNode, MeshNode];
    publisher.registerChannel({ name: 'a' });
    for (const mesh of [one, two]) await mesh.subscribeChannel(publisher.nodeId(), 'a');
    expect(await publisher.publish('a', Buffer.from('x'))).toMatchObject({ attempted: 2 });
    const lost = new Promise<void>((resolve) => {
      publisher.on('peer', ({ type }) => {
        if (type === 'lost') resolve();
      });
    });
    await one.shutdown();
    await lost;
    expect(await publisher.publish('a', Buffer.from('x'), { reliability: 'reliable' })).toEqual({
      attempted: 1,
      delivered: 1,
      errors: [],
    });
  });

  test('hazard 46: a lost publisher ends the subscription; it can be made again with the next life', async () => {
    const seed = Buffer.alloc(32, 9);
    const subscriber = await bare();
    for (const life of ['first', 'second']) {
      const publisher = await bare({ identitySeed: seed });
      await subscriber.connect(publisher.localAddr());
      publisher.registerChannel({ name: 'a' });
      const reader = subscriber.messages(publisher.nodeId(), 'a');
      await reader.ready;
      await publisher.publish('a', Buffer.from(life), { reliability: 'reliable' });
      await publisher.shutdown();
      const [message] = await take(reader, 1);
      expect(message?.payload.toString()).toBe(life);
      expect(message?.sequence).toBe(1n);
      const error = await failure(take(reader, 1));
      expect(error).toBeInstanceOf(ChannelError);
      expect(error.code).toBe('ERR_CHANNEL_PEER_LOST');
    }
  });

  test('aborting stops the waiting', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const reason = new Error('enough');
    const options = { signal: AbortSignal.abort(reason) };
    expect(await failure(subscriber.subscribeChannel(publisher.nodeId(), 'a', options))).toBe(reason);
    expect(await failure(publisher.publish('a', Buffer.alloc(1), options))).toBe(reason);
    const controller = new AbortController();
    const reader = subscriber.messages(publisher.nodeId(), 'a', { signal: controller.signal });
    await reader.ready;
    const waiting = take(reader, 1);
    controller.abort(reason);
    expect(await waiting).toEqual([]);
  });
});
