// Daemons that receive channels and publish their outputs; hazards 41 to 43 and 45, requirements 53 to 56.

import { ChannelAuthError, ChannelError, DaemonError, Identity, setLogger } from 'mesh-daemon';
import type {
  CausalEvent,
  DaemonContext,
  DaemonSubscriptionEvent,
  LogRecord,
  MeshDaemon,
  PublishReport,
} from 'mesh-daemon';
import { RELIABLE } from './helpers/channels';
import { Keeper, seen, told } from './helpers/keeper';
import { any, bare, closeAll, deferred, failure, node, pair, thrown, type Node } from './helpers/nodes';

jest.setTimeout(120_000);
afterEach(closeAll);

/** What the keepers of a test ran. */
const events: CausalEvent[] = [];

beforeEach(() => {
  events.length = 0;
});

class Watched extends Keeper {
  override process(event: CausalEvent): Buffer | undefined {
    const answer = super.process(event);
    if (answer === undefined) events.push(event);
    return answer;
  }
}

async function keeper({ rt }: Node, identity = Identity.generate()): Promise<bigint> {
  rt.registerFactory('keeper', () => new Watched());
  return (await rt.spawn('keeper', identity)).originHash;
}

test('requirement_53_messages are events of the daemon, with the channel and the publisher', async () => {
  const [here, there] = await pair();
  there.mesh.registerChannel({ name: 'news' });
  const origin = await keeper(here);
  await here.rt.subscribeChannel(origin, there.id, 'news');
  expect(here.rt.subscriptions(origin)).toEqual([{ publisher: there.id, channel: 'news' }]);
  const reports: PublishReport[] = [];
  for (const text of ['a', 'b']) reports.push(await there.mesh.publish('news', Buffer.from(text), RELIABLE));
  await there.mesh.publish('news', Buffer.from('c'));
  expect(await seen(here.rt, origin, 3)).toEqual(['a', 'b', 'c']);
  expect(reports).toEqual([1, 1].map(() => ({ attempted: 1, delivered: 1, errors: [] })));
  const publisher = Identity.publicOnly(there.mesh.entityId()).originHash;
  for (const [at, event] of events.entries()) {
    expect(event.channel).toBe('news');
    expect(event.originHash).toBe(publisher);
    expect(event.sequence).toBe(BigInt(at) + 1n);
  }
  await here.rt.send(origin, Buffer.from('d'));
  await seen(here.rt, origin, 4);
  expect(events[3]?.channel).toBeNull();

  await here.rt.unsubscribeChannel(origin, there.id, 'news');
  expect(here.rt.subscriptions(origin)).toEqual([]);
  const report = await there.mesh.publish('news', Buffer.from('e'), RELIABLE);
  expect(report.attempted).toBe(0);
});

test('hazard_41_what a publisher refuses is not in the ledger, nor is what it cannot be asked for', async () => {
  const [here, there] = await pair();
  there.mesh.registerChannel({ name: 'closed', requireToken: true });
  const origin = await keeper(here);
  const unknown = await failure(here.rt.subscribeChannel(origin, there.id, 'none'));
  expect(unknown).toBeInstanceOf(ChannelError);
  expect(unknown.code).toBe('ERR_CHANNEL_UNKNOWN');
  expect(await failure(here.rt.subscribeChannel(origin, there.id, 'closed'))).toBeInstanceOf(ChannelAuthError);
  expect(await failure(here.rt.subscribeChannel(origin, 1n, 'closed'))).toMatchObject({ code: 'ERR_NOT_CONNECTED' });
  expect(here.rt.subscriptions(origin)).toEqual([]);
  await here.rt.unsubscribeChannel(origin, there.id, 'closed');
});

test('arguments are checked before any state', async () => {
  const { rt } = await node();
  expect(await failure(rt.subscribeChannel(any(1), 1n, 'a'))).toBeInstanceOf(DaemonError);
  expect(await failure(rt.subscribeChannel(1n, any('x'), 'a'))).toBeInstanceOf(ChannelError);
  expect(await failure(rt.subscribeChannel(1n, 1n, 'NO'))).toBeInstanceOf(ChannelError);
  expect(await failure(rt.subscribeChannel(1n, 1n, 'a', any({ tokens: 1 })))).toBeInstanceOf(ChannelError);
  expect(await failure(rt.unsubscribeChannel(1n, 1n, any(3)))).toBeInstanceOf(ChannelError);
  expect(await failure(rt.subscribeChannel(1n, 1n, 'a'))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  expect(thrown(() => rt.subscriptions(1n))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  const bad = failure(rt.spawnWithDaemon(Identity.generate(), new Watched(), { outputChannel: 'NOT CANONICAL' }));
  expect(await bad).toBeInstanceOf(ChannelError);
  expect((await bad).message).toMatch(/^config\.outputChannel: invalid channel name/);
  expect(rt.daemonCount()).toBe(0);
});

test('hazard_42_one daemon leaving or stopping does not end the subscription of the other', async () => {
  const [here, there] = await pair();
  there.mesh.registerChannel({ name: 'news' });
  const origins = [await keeper(here), (await here.rt.spawn('keeper', Identity.generate())).originHash];
  const [one = 0n, two = 0n] = origins;
  for (const origin of origins) await here.rt.subscribeChannel(origin, there.id, 'news');
  await there.mesh.publish('news', Buffer.from('a'), RELIABLE);
  await here.rt.unsubscribeChannel(one, there.id, 'news');
  await there.mesh.publish('news', Buffer.from('b'), RELIABLE);
  await here.rt.subscribeChannel(one, there.id, 'news');
  await there.mesh.publish('news', Buffer.from('c'), RELIABLE);
  await here.rt.stop(one);
  const report = await there.mesh.publish('news', Buffer.from('d'), RELIABLE);
  expect(report.delivered).toBe(1);
  expect(await told(here.rt, two)).toEqual(['a', 'b', 'c', 'd']);
  await here.rt.stop(two);
  // The publisher hears of it in its own time.
  while ((await there.mesh.publish('news', Buffer.from('e'), RELIABLE)).attempted > 0);
});

test('what a daemon asks of channels once its node shuts down is rejected, and nothing hangs', async () => {
  const [here, there] = await pair();
  there.mesh.registerChannel({ name: 'news' });
  const origin = await keeper(here);
  await here.rt.subscribeChannel(origin, there.id, 'news');
  const shutdown = here.mesh.shutdown();
  const ask = (): Promise<unknown>[] => [
    here.rt.subscribeChannel(origin, there.id, 'news', { queueGroup: 'g' }),
    here.rt.unsubscribeChannel(origin, there.id, 'news'),
    here.rt.spawn('keeper', Identity.generate(), { outputChannel: 'out' }),
  ];
  const during = ask().map(failure);
  await shutdown;
  for (const error of await Promise.all([...during, ...ask().map(failure)])) {
    expect(error).toMatchObject({ name: 'DaemonError', code: 'ERR_DAEMON_SHUTTING_DOWN' });
  }
});

test('a full mailbox holds back reliable messages, and drops others and counts them', async () => {
  const [here, there] = await pair();
  there.mesh.registerChannel({ name: 'news' });
  const gate = deferred();
  const got: string[] = [];
  const slow: MeshDaemon = {
    async process(event) {
      await gate.promise;
      got.push(event.payload.toString());
    },
  };
  const handle = await here.rt.spawnWithDaemon(Identity.generate(), slow, { mailboxCapacity: 4 });
  await here.rt.subscribeChannel(handle.originHash, there.id, 'news');
  const sent = Array.from({ length: 50 }, (_, i) => String(i));
  const first = await there.mesh.publish('news', Buffer.from('first'), RELIABLE);
  expect(first.delivered).toBe(1);
  const reports = sent.map((text) => there.mesh.publish('news', Buffer.from(text), RELIABLE));
  let over = 0;
  for (const report of reports) void report.then(() => (over += 1));
  await reports[2];
  expect(over).toBeLessThan(20);
  // What needs no acknowledgement finds no room behind these.
  for (let i = 0; i < 1000; i += 1) await there.mesh.publish('news', Buffer.from('lossy'));
  gate.resolve();
  for (const report of await Promise.all(reports)) expect(report.delivered).toBe(1);
  await there.mesh.publish('news', Buffer.from('last'), RELIABLE);
  while (!got.includes('last')) await new Promise((done) => setImmediate(done));
  expect(got.filter((text) => text !== 'lossy')).toEqual(['first', ...sent, 'last']);
  const dropped = handle.stats().messagesDropped;
  expect(dropped).toBeGreaterThan(0n);
  expect(BigInt(got.filter((text) => text === 'lossy').length) + dropped).toBe(1000n);
});

test('the log names the channel and the daemon of an output that cannot be published', async () => {
  const { mesh, rt } = await node();
  const handle = await rt.spawnWithDaemon(Identity.generate(), { process: (e) => e.payload }, { outputChannel: 'out' });
  const warned = new Promise<LogRecord>((resolve) => {
    setLogger((record) => {
      if (record.message.includes('not published')) resolve(record);
    });
  });
  try {
    expect(mesh.unregisterChannel('out')).toBe(true);
    await handle.call(Buffer.from('x'));
    const { message, level } = await warned;
    expect(level).toBe('warn');
    expect(message).toBe(`an output of daemon ${String(handle.originHash)} was not published on 'out'`);
  } finally {
    setLogger(null);
  }
});

test('context.publish publishes on the hosting node, and outputs go to the output channel with their links', async () => {
  const [here, there] = await pair();
  const producer: MeshDaemon = {
    async process(event: CausalEvent, context: DaemonContext) {
      if (event.payload.toString() === 'say') {
        const report = await context.publish('said', Buffer.from('hello'), RELIABLE);
        return Buffer.from(JSON.stringify(report));
      }
      return [Buffer.from(`${event.payload.toString()}1`), Buffer.from(`${event.payload.toString()}2`)];
    },
  };
  here.mesh.registerChannel({ name: 'said' });
  const handle = await here.rt.spawnWithDaemon(Identity.generate(), producer, { outputChannel: 'out' });
  const origin = await keeper(there);
  await there.rt.subscribeChannel(origin, here.id, 'out');
  await there.rt.subscribeChannel(origin, here.id, 'said');
  const links = await here.rt.deliverCausal(handle.originHash, {
    originHash: 7n,
    sequence: 1n,
    payload: Buffer.from('a'),
  });
  expect(await seen(there.rt, origin, 2)).toEqual(['a1', 'a2']);
  for (const [at, event] of events.entries()) {
    const { originHash, sequence, parentHash, horizon } = links[at] ?? {};
    expect(event).toMatchObject({ originHash, sequence, parentHash, horizon, channel: 'out' });
  }
  const [report] = await here.rt.call(handle.originHash, Buffer.from('say'));
  expect(JSON.parse(String(report))).toEqual({ attempted: 1, delivered: 1, errors: [] });
  const all = await seen(there.rt, origin, 4);
  expect(all).toContain('hello');
  expect(events.find((event) => event.channel === 'said')?.originHash).toBe(handle.originHash);
});

test('hazard_43_requirement_54_55_subscriptions move with the daemon and its tokens', async () => {
  const [source, target] = await pair({ acceptMigrations: true });
  const publisher = await bare();
  for (const { mesh } of [source, target]) {
    await mesh.connect(publisher.localAddr());
    await publisher.accept(mesh.nodeId());
  }
  const owner = Identity.generate();
  publisher.registerChannel({ name: 'open' });
  publisher.registerChannel({ name: 'gated', tokenRoots: [owner.entityId] });
  publisher.registerChannel({ name: 'brief', tokenRoots: [owner.entityId] });
  const identity = Identity.generate();
  const origin = await keeper(source, identity);
  target.rt.registerFactory('keeper', () => new Watched());
  const token = (channel: string, ttlSeconds: number) =>
    owner.issueToken({ subject: identity.entityId, scope: ['subscribe'], channel, ttlSeconds });
  const from = publisher.nodeId();
  await source.rt.subscribeChannel(origin, from, 'open');
  await source.rt.subscribeChannel(origin, from, 'gated', { token: token('gated', 60) });
  const sent: string[] = [];
  const say = async (channel: string): Promise<void> => {
    const text = `${channel}${String(sent.length)}`;
    sent.push(text);
    expect(await publisher.publish(channel, Buffer.from(text), RELIABLE)).toMatchObject({ delivered: 1, errors: [] });
  };
  for (const channel of ['open', 'gated', 'open']) await say(channel);
  await (await source.rt.migrate(origin, target.id)).wait();
  expect(target.rt.subscriptions(origin)).toEqual(
    expect.arrayContaining([
      { publisher: from, channel: 'open' },
      { publisher: from, channel: 'gated' },
    ]),
  );
  for (const channel of ['gated', 'open', 'gated']) await say(channel);
  expect(await told(target.rt, origin)).toEqual(sent);
  // And back, where others may have been before.
  await (await target.rt.migrate(origin, source.id)).wait();
  for (const channel of ['gated', 'open']) await say(channel);
  expect(await told(source.rt, origin)).toEqual(sent);

  // A token that has ended does not survive; the others do.
  const brief = token('brief', 1);
  await source.rt.subscribeChannel(origin, from, 'brief', { token: brief });
  const ended: DaemonSubscriptionEvent[] = [];
  for (const { rt } of [source, target]) rt.on('subscription', (event) => ended.push(event));
  while (!brief.isExpired()) await new Promise((done) => setImmediate(done));
  await (await source.rt.migrate(origin, target.id)).wait();
  while (ended.length === 0) await new Promise((done) => setImmediate(done));
  expect(ended[0]).toMatchObject({ type: 'ended', originHash: origin, publisher: from, channel: 'brief' });
  await say('open');
  expect(await told(target.rt, origin)).toEqual(sent);
});

test('messages that wait in the mailbox move as messages of their channel', async () => {
  const [source, target] = await pair();
  source.mesh.registerChannel({ name: 'news' });
  const identity = Identity.generate();
  const origin = await keeper(source, identity);
  target.rt.registerFactory('keeper', () => new Watched());
  await source.rt.subscribeChannel(origin, source.id, 'news');
  const sent = Array.from({ length: 300 }, (_, i) => String(i));
  const reports = sent.map((text) => source.mesh.publish('news', Buffer.from(text), RELIABLE));
  const move = await source.rt.migrate(origin, target.id);
  await move.wait();
  await Promise.all(reports);
  expect(await seen(target.rt, origin, 300)).toEqual(sent);
  expect(events.every((event) => event.channel === 'news')).toBe(true);
});

test('outputs of a daemon that moved are published by its new host, on a channel with the same gate', async () => {
  const [source, target] = await pair();
  const owner = Identity.generate();
  source.mesh.registerChannel({ name: 'out', tokenRoots: [owner.entityId] });
  const echo: MeshDaemon = { process: (event) => event.payload };
  for (const { rt } of [source, target]) rt.registerFactory('echo', () => echo);
  const handle = await source.rt.spawn('echo', Identity.generate(), { outputChannel: 'out' });
  await (await source.rt.migrate(handle.originHash, target.id)).wait();
  const receiver = Identity.generate();
  const origin = await keeper(source, receiver);
  const refused = failure(source.rt.subscribeChannel(origin, target.id, 'out'));
  expect(await refused).toBeInstanceOf(ChannelAuthError);
  const token = owner.issueToken({ subject: receiver.entityId, scope: ['subscribe'], channel: 'out', ttlSeconds: 60 });
  await source.rt.subscribeChannel(origin, target.id, 'out', { token });
  await source.rt.call(handle.originHash, Buffer.from('x'));
  expect(await seen(source.rt, origin, 1)).toEqual(['x']);
});
