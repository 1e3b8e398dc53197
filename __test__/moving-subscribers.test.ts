// Daemons that receive channels while something happens to them: they move, lose their token or their host, or the wire to
// the publisher breaks (hazards 41 to 43).

import { ChannelAuthError, Identity } from 'mesh-daemon';
import type { CausalEvent, DaemonSubscriptionEvent, MeshNodeOptions } from 'mesh-daemon';
import { RELIABLE } from './helpers/channels';
import { gate } from './helpers/gates';
import { Keeper, told } from './helpers/keeper';
import { bare, closeAll, Counter, deferred, failure, node, pair, type Node } from './helpers/nodes';
import { ALERT, kill, killAll, other } from './helpers/processes';
import { closeWires, Wire } from './helpers/proxy';

afterEach(async () => {
  closeWires();
  killAll();
  await closeAll();
});

/** What becomes of subscriptions on a node. */
function news({ rt }: Node): { all: DaemonSubscriptionEvent[]; first: Promise<DaemonSubscriptionEvent> } {
  const all: DaemonSubscriptionEvent[] = [];
  const first = new Promise<DaemonSubscriptionEvent>((resolve) => {
    rt.on('subscription', (event) => {
      all.push(event);
      resolve(event);
    });
  });
  return { all, first };
}

/** Two hosts of keepers, each with a session with a publisher and with the other. */
async function hosts(): Promise<{
  source: Node;
  target: Node;
  publisher: Awaited<ReturnType<typeof bare>>;
  from: bigint;
}> {
  const [source, target] = await pair({ acceptMigrations: true });
  const publisher = await bare();
  for (const { mesh, rt } of [source, target]) {
    await mesh.connect(publisher.localAddr());
    await publisher.accept(mesh.nodeId());
    rt.registerFactory('keeper', () => new Keeper());
  }
  return { source, target, publisher, from: publisher.nodeId() };
}

test('hazard 42: a daemon that moves disturbs no other of the same channel, neither where it was nor where it goes', async () => {
  const { source, target, publisher, from } = await hosts();
  publisher.registerChannel({ name: 'news' });
  const [mover, stays, there] = await Promise.all(
    [source, source, target].map(async ({ rt }) => {
      const { originHash } = await rt.spawn('keeper', Identity.generate());
      await rt.subscribeChannel(originHash, from, 'news');
      return originHash;
    }),
  );
  const sent: string[] = [];
  const reports: Promise<{ errors: readonly unknown[] }>[] = [];
  const say = (): void => {
    const text = String(sent.length);
    sent.push(text);
    reports.push(publisher.publish('news', Buffer.from(text), RELIABLE));
  };
  for (let n = 0; n < 10; n += 1) say();
  // There and back; each time with messages before the snapshot, behind it, and behind the hand-over.
  for (const [host, next] of [
    [source, target],
    [target, source],
  ] as const) {
    const [restored, cutover] = ['RestoreComplete', 'CutoverNotify'].map((message) => gate(host.rt, message));
    const activate = gate(next.rt, 'ActivateTarget');
    const move = await host.rt.migrate(mover!, next.id);
    for (const held of [restored, cutover, activate]) {
      await held?.reached;
      const before = sent.length;
      for (let n = 0; n < 10; n += 1) say();
      // Those that stay have them while the move stands still.
      while ((await told(source.rt, stays!)).length < before + 10);
      while ((await told(target.rt, there!)).length < before + 10);
      held?.open();
    }
    await move.wait();
    for (let n = 0; n < 10; n += 1) say();
  }
  for (const report of await Promise.all(reports)) expect(report.errors).toEqual([]);
  for (const origin of [mover, stays, there]) expect(await told(source.rt, origin!)).toEqual(sent);
  expect([source.rt.subscriptions(mover!), source.rt.subscriptions(stays!), target.rt.subscriptions(there!)]).toEqual(
    [1, 2, 3].map(() => [{ publisher: from, channel: 'news' }]),
  );
});

test('hazard 43: a token that is revoked while its daemon moves does not survive, and the other subscription does', async () => {
  const { source, target, publisher, from } = await hosts();
  const owner = Identity.generate();
  publisher.registerChannel({ name: 'open' });
  publisher.registerChannel({ name: 'gated', tokenRoots: [owner.entityId] });
  const identity = Identity.generate();
  const origin = identity.originHash;
  await source.rt.spawn('keeper', identity);
  const grant = { subject: identity.entityId, scope: ['subscribe'] as const, channel: 'gated', ttlSeconds: 600 };
  const token = owner.issueToken(grant);
  await source.rt.subscribeChannel(origin, from, 'open');
  await source.rt.subscribeChannel(origin, from, 'gated', { token });
  await publisher.publish('gated', Buffer.from('in'), RELIABLE);
  const { all, first } = news(target);
  const held = gate(target.rt, 'ActivateTarget');
  const move = await source.rt.migrate(origin, target.id);
  await held.reached;
  await publisher.revoke(owner.revokeTokens({ below: 1 }));
  held.open();
  await move.wait();
  const ended = await first;
  expect(ended).toMatchObject({ type: 'ended', originHash: origin, publisher: from, channel: 'gated' });
  expect((ended as { error?: unknown }).error).toBeInstanceOf(ChannelAuthError);
  expect(ended).toMatchObject({ error: { kind: 'revoked' } });
  expect(target.rt.subscriptions(origin)).toEqual([{ publisher: from, channel: 'open' }]);
  const again = target.rt.subscribeChannel(origin, from, 'gated', { token });
  expect(await failure(again)).toMatchObject({ kind: 'revoked' });
  expect((await publisher.publish('gated', Buffer.from('out'), RELIABLE)).attempted).toBe(0);
  expect((await publisher.publish('open', Buffer.from('on'), RELIABLE)).delivered).toBe(1);
  expect(await told(target.rt, origin)).toEqual(['in', 'on']);
  expect(all).toHaveLength(1);
  // A later generation lets it in.
  await target.rt.subscribeChannel(origin, from, 'gated', { token: owner.issueToken({ ...grant, generation: 1 }) });
  expect((await publisher.publish('gated', Buffer.from('back'), RELIABLE)).delivered).toBe(1);
});

test.each(['leaves the channel', 'is stopped'])(
  'of a daemon that %s before the publisher lets it go on from its new host nobody is told that a subscription ended',
  async (what) => {
    const [source, target, publisher] = [await node(), await node({ acceptMigrations: true }), await bare()];
    const from = publisher.nodeId();
    publisher.registerChannel({ name: 'news' });
    const wire = await Wire.to(publisher.localAddr());
    await source.mesh.connect(target.mesh.localAddr());
    await source.mesh.connect(publisher.localAddr());
    await target.mesh.connect(wire.address);
    for (const { rt } of [source, target]) rt.registerFactory('keeper', () => new Keeper());
    const { originHash } = await source.rt.spawn('keeper', Identity.generate());
    await source.rt.subscribeChannel(originHash, from, 'news');
    const { all } = news(target);
    wire.hold();
    await (await source.rt.migrate(originHash, target.id)).wait();
    expect(target.rt.subscriptions(originHash)).toEqual([{ publisher: from, channel: 'news' }]);
    const left =
      what === 'is stopped' ? target.rt.stop(originHash) : target.rt.unsubscribeChannel(originHash, from, 'news');
    wire.release();
    await left;
    // The publisher hears of it in its own time.
    while ((await publisher.publish('news', Buffer.from('a'))).attempted > 0);
    expect(all).toEqual([]);
  },
);

test('a daemon whose former host was lost goes on with what the publisher still has, and is told how much is gone', async () => {
  const KEPT = 4096;
  const publisher = await bare(ALERT);
  publisher.registerChannel({ name: 'news' });
  const here = await node({ acceptMigrations: true }, { mesh: ALERT });
  const from = publisher.nodeId();
  await here.mesh.connect(publisher.localAddr());
  const numbers: bigint[] = [];
  class Listener extends Counter {
    override process(event: CausalEvent): Buffer {
      if (event.channel !== null) numbers.push(event.sequence);
      return super.process(event);
    }
  }
  here.rt.registerFactory('counter', () => new Listener());
  const there = await other([here.mesh.localAddr(), publisher.localAddr()], { stays: true });
  const { origin } = there;
  await there.subscribe(origin, from, 'news');
  for (let n = 0; n < 3; n += 1) await publisher.publish('news', Buffer.from('x'), RELIABLE);
  const { all, first } = news(here);
  const { reached } = gate(here.rt, 'ActivateTarget');
  await there.migrate(origin, there.id, here.id);
  await reached;
  const gone = [publisher, here.mesh].map(
    (mesh) =>
      new Promise<void>((resolve) => {
        mesh.on('peer', ({ type, nodeId }) => {
          if (type === 'lost' && nodeId === there.id) resolve();
        });
      }),
  );
  await kill(there);
  await Promise.all(gone);
  const MORE = 100;
  for (let n = 0; n < KEPT + MORE; n += 1) await publisher.publish('news', Buffer.from('x'), RELIABLE);
  await here.rt.recover(origin);
  expect(await first).toEqual({
    type: 'gap',
    originHash: origin,
    publisher: from,
    channel: 'news',
    missed: BigInt(MORE),
  });
  await publisher.publish('news', Buffer.from('x'), RELIABLE);
  const expected = Array.from({ length: KEPT + 1 }, (_, at) => BigInt(3 + MORE + at + 1));
  while (numbers.length < expected.length) await new Promise((done) => setImmediate(done));
  expect(numbers).toEqual(expected);
  expect(all).toHaveLength(1);
});

describe('hazard 41: the wire to the publisher breaks', () => {
  async function wired(options: Partial<MeshNodeOptions> = { sessionTimeoutMs: 600_000 }): Promise<{
    here: Node;
    publisher: Awaited<ReturnType<typeof bare>>;
    wire: Wire;
    origin: bigint;
  }> {
    const [here, publisher] = await Promise.all([node({}, { mesh: options }), bare(options)]);
    for (const name of ['kept', 'left', 'wanted']) publisher.registerChannel({ name });
    const wire = await Wire.to(publisher.localAddr());
    await here.mesh.connect(wire.address);
    await publisher.accept(here.id);
    here.rt.registerFactory('keeper', () => new Keeper());
    const { originHash: origin } = await here.rt.spawn('keeper', Identity.generate());
    for (const name of ['kept', 'left']) await here.rt.subscribeChannel(origin, publisher.nodeId(), name);
    return { here, publisher, wire, origin };
  }

  function becomes({ mesh }: Node, wanted: string): Promise<void> {
    const changed = deferred();
    mesh.on('peer', ({ type }) => {
      if (type === wanted) changed.resolve();
    });
    return changed.promise;
  }

  test('while it is broken the ledger stays as it is; mended, it is as was asked for, and no message is lost', async () => {
    const { here, publisher, wire, origin } = await wired();
    const from = publisher.nodeId();
    const of = (channel: string): object => ({ publisher: from, channel });
    const suspected = becomes(here, 'suspected');
    wire.cut();
    await suspected;
    let answers = 0;
    const asked = [
      here.rt.subscribeChannel(origin, from, 'wanted'),
      here.rt.unsubscribeChannel(origin, from, 'left'),
    ].map((answer) => answer.then(() => (answers += 1)));
    const abandon = new AbortController();
    const abandoned = here.rt.subscribeChannel(origin, from, 'wanted', { signal: abandon.signal });
    abandon.abort(new Error('enough'));
    expect(await failure(abandoned)).toMatchObject({ message: 'enough' });
    const said = publisher.publish('kept', Buffer.from('a'), RELIABLE);
    for (let n = 0; n < 50; n += 1) await told(here.rt, origin);
    expect(answers).toBe(0);
    // It receives nothing any more of what it asked to leave, and nothing yet of what it asked for.
    expect(here.rt.subscriptions(origin)).toEqual([of('kept')]);
    wire.mend();
    await Promise.all(asked);
    expect(here.rt.subscriptions(origin)).toEqual([of('kept'), of('wanted')]);
    expect(await said).toMatchObject({ delivered: 1, errors: [] });
    expect((await publisher.publish('left', Buffer.from('b'), RELIABLE)).attempted).toBe(0);
    expect((await publisher.publish('wanted', Buffer.from('c'), RELIABLE)).delivered).toBe(1);
    expect(await told(here.rt, origin)).toEqual(['a', 'c']);
  });

  test('when the publisher is given up, what was subscribed ends, and what was asked for meanwhile fails', async () => {
    const { here, publisher, wire, origin } = await wired(ALERT);
    const from = publisher.nodeId();
    const suspected = becomes(here, 'suspected');
    wire.cut();
    await suspected;
    const wanted = failure(here.rt.subscribeChannel(origin, from, 'wanted'));
    const left = here.rt.unsubscribeChannel(origin, from, 'left');
    const { all, first } = news(here);
    expect(await wanted).toMatchObject({ code: 'ERR_CHANNEL_PEER_LOST' });
    // Whoever wanted to leave has left.
    await left;
    await first;
    expect(all).toMatchObject([{ type: 'ended', originHash: origin, publisher: from, channel: 'kept' }]);
    expect(here.rt.subscriptions(origin)).toEqual([]);
    wire.mend();
    await here.mesh.connect(wire.address);
    await here.rt.subscribeChannel(origin, from, 'wanted');
    expect((await publisher.publish('wanted', Buffer.from('a'), RELIABLE)).delivered).toBe(1);
    expect((await publisher.publish('kept', Buffer.from('b'), RELIABLE)).attempted).toBe(0);
    expect(await told(here.rt, origin)).toEqual(['a']);
  });
});
