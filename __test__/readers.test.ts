// Readers of channels: what waits for them, how their loops begin and end, and channels that are taken away.

import { ChannelError, Identity } from 'mesh-daemon';
import type { ChannelMessage, DaemonSubscriptionEvent, MeshDaemon, MeshNode, Subscription } from 'mesh-daemon';
import { RELIABLE, publisherAndSubscriber, star } from './helpers/channels';
import { any, bare, closeAll, failure, pair as runtimes, thrown } from './helpers/nodes';

jest.setTimeout(120_000);
afterEach(closeAll);

/** More than a reader keeps, less than a publisher holds for one subscriber. */
const MANY = 4000;

function publishMany(publisher: MeshNode, channel: string): Promise<number>[] {
  return Array.from({ length: MANY }, async (_, i) => {
    const report = await publisher.publish(channel, Buffer.from(String(i)), RELIABLE);
    return report.delivered;
  });
}

/** Keeps the event loop busy until a reader has lost something, or had the time to. */
function block(readers: readonly Subscription[]): void {
  const end = performance.now() + 400;
  while (performance.now() < end && readers.every((reader) => reader.dropped === 0n));
}

/** What a loop reads until the subscription ends. */
async function readAll(subscription: Subscription): Promise<string[]> {
  const got: string[] = [];
  for await (const message of subscription) got.push(message.payload.toString());
  return got;
}

const upTo = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));

test('while somebody reads, reliable messages are not lost however long the event loop is busy', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const reader = subscriber.messages(publisher.nodeId(), 'a');
  await reader.ready;
  const got = readAll(reader);
  const sent = publishMany(publisher, 'a');
  block([reader]);
  expect(reader.dropped).toBe(0n);
  expect(await Promise.all(sent)).toEqual(sent.map(() => 1));
  await subscriber.unsubscribeChannel(publisher.nodeId(), 'a');
  expect(await got).toEqual(upTo(MANY));
  expect(reader.dropped).toBe(0n);
});

test('the same in a queue group', async () => {
  const [publisher, one, two] = (await star(3)) as [MeshNode, MeshNode, MeshNode];
  publisher.registerChannel({ name: 'a', reliable: true });
  const members = [one, two];
  const readers = members.map((mesh) => mesh.messages(publisher.nodeId(), 'a', { queueGroup: 'g' }));
  await Promise.all(readers.map((reader) => reader.ready));
  const got = readers.map(readAll);
  const sent = publishMany(publisher, 'a');
  block(readers);
  expect(await Promise.all(sent)).toEqual(sent.map(() => 1));
  for (const mesh of members) await mesh.unsubscribeChannel(publisher.nodeId(), 'a');
  const shares = await Promise.all(got);
  expect(shares.flat().sort((a, b) => Number(a) - Number(b))).toEqual(upTo(MANY));
});

test('a subscription that nobody reads, or nobody any more, acknowledges and drops', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const reader = subscriber.messages(publisher.nodeId(), 'a');
  await reader.ready;
  expect(await Promise.all(publishMany(publisher, 'a'))).toEqual(upTo(MANY).map(() => 1));
  expect(reader.dropped).toBe(BigInt(MANY - 1024));
  const iterator = reader[Symbol.asyncIterator]();
  const { value } = (await iterator.next()) as IteratorYieldResult<ChannelMessage>;
  expect(value.payload.toString()).toBe(String(MANY - 1024));
  await iterator.return?.();
  expect(await Promise.all(publishMany(publisher, 'a'))).toEqual(upTo(MANY).map(() => 1));
});

test('an iterator holds publishers up from its first next on, not before', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const reader = subscriber.messages(publisher.nodeId(), 'a');
  await reader.ready;
  const iterator = reader[Symbol.asyncIterator]();
  expect(await Promise.all(publishMany(publisher, 'a'))).toEqual(upTo(MANY).map(() => 1));
  expect(reader.dropped).toBe(BigInt(MANY - 1024));
  const texts = [(await iterator.next()) as IteratorYieldResult<ChannelMessage>];
  const sent = publishMany(publisher, 'a');
  for (let at = 1; at < 1024 + MANY; at += 1)
    texts.push((await iterator.next()) as IteratorYieldResult<ChannelMessage>);
  expect(await Promise.all(sent)).toEqual(sent.map(() => 1));
  expect(texts.map(({ value }) => value.payload.toString())).toEqual([...upTo(MANY).slice(MANY - 1024), ...upTo(MANY)]);
  expect(reader.dropped).toBe(BigInt(MANY - 1024));
});

describe('a subscription that is stopped', () => {
  const groups = [undefined, 'g'];

  test.each(groups)('counts what was here and nobody read (group %s)', async (queueGroup) => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const [id, options] = [publisher.nodeId(), queueGroup === undefined ? {} : { queueGroup }];
    const publishTen = (): Promise<unknown> =>
      Promise.all(Array.from({ length: 10 }, () => publisher.publish('a', Buffer.from('x'), RELIABLE)));

    const unread = subscriber.messages(id, 'a', options);
    await unread.ready;
    await publishTen();
    await unread.stop();
    expect(unread.dropped).toBe(10n);

    const left = subscriber.messages(id, 'a', options);
    await left.ready;
    await publishTen();
    await left[Symbol.asyncIterator]().next();
    await left.stop();
    expect(left.dropped).toBe(9n);

    const ended = subscriber.messages(id, 'a', options);
    await ended.ready;
    await publishTen();
    await ended[Symbol.asyncIterator]().next();
    await subscriber.unsubscribeChannel(id, 'a');
    await ended.stop();
    expect(ended.dropped).toBe(9n);
  });

  test.each(groups)('while it is full has counted all that was delivered (group %s)', async (queueGroup) => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const reader = subscriber.messages(publisher.nodeId(), 'a', queueGroup === undefined ? {} : { queueGroup });
    await reader.ready;
    const first = reader[Symbol.asyncIterator]().next();
    const sent = publishMany(publisher, 'a');
    await Promise.all([first, sent[1023]]);
    await reader.stop();
    const delivered = (await Promise.all(sent)).filter((count) => count === 1).length;
    expect(delivered).toBeGreaterThanOrEqual(1024);
    expect(delivered).toBeLessThan(MANY);
    expect(reader.dropped).toBeGreaterThanOrEqual(BigInt(delivered - 1));
    expect(reader.dropped).toBeLessThan(BigInt(MANY));
  });

  test.each(groups)('and made again before the answer holds nobody up (group %s)', async (queueGroup) => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    const [id, options] = [publisher.nodeId(), queueGroup === undefined ? {} : { queueGroup }];
    const full = subscriber.messages(id, 'a', options);
    await full.ready;
    const first = full[Symbol.asyncIterator]().next();
    const sent = publishMany(publisher, 'a');
    await Promise.all([first, sent[1023]]);
    const stopped = full.stop();
    const again = subscriber.messages(id, 'a', options);
    await Promise.all([stopped, again.ready]);
    await Promise.all(sent);
    // Nobody reads it: whatever comes is taken.
    expect(await Promise.all(publishMany(publisher, 'a'))).toEqual(upTo(MANY).map(() => 1));
    expect(again.dropped).toBeGreaterThanOrEqual(BigInt(MANY - 1024));
  });
});

test('an iterator that was left takes no message with it', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const reader = subscriber.messages(publisher.nodeId(), 'a');
  await reader.ready;
  const iterator = reader[Symbol.asyncIterator]();
  const waiting = [iterator.next(), iterator.next()];
  expect(await iterator.return?.()).toEqual({ value: undefined, done: true });
  const done = { value: undefined, done: true };
  expect(await Promise.all(waiting)).toEqual([done, done]);
  await publisher.publish('a', Buffer.from('first'), RELIABLE);
  expect(await iterator.next()).toEqual(done);
  const next = (await reader[Symbol.asyncIterator]().next()) as IteratorYieldResult<ChannelMessage>;
  expect(next.value.payload.toString()).toBe('first');
});

test('a failure is thrown to every loop, also to one that begins later', async () => {
  const mesh = await bare();
  const reader = mesh.messages(mesh.nodeId(), 'none');
  const early = [failure(readAll(reader)), failure(readAll(reader))];
  for (const error of await Promise.all(early)) expect(error.code).toBe('ERR_CHANNEL_UNKNOWN');
  const iterator = reader[Symbol.asyncIterator]();
  expect(await failure(iterator.next())).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
  expect(await iterator.next()).toEqual({ value: undefined, done: true });
  expect(await failure(readAll(reader))).toBeInstanceOf(ChannelError);
});

test('an aborted signal ends loops; ready rejects with its reason', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const control = new AbortController();
  const reader = subscriber.messages(publisher.nodeId(), 'a', { signal: control.signal });
  await reader.ready;
  const loop = readAll(reader);
  control.abort(new Error('enough'));
  expect(await loop).toEqual([]);
  const late = subscriber.messages(publisher.nodeId(), 'a', { signal: control.signal });
  expect(await failure(late.ready)).toMatchObject({ message: 'enough' });
  expect(await readAll(late)).toEqual([]);
});

test('one signal for many operations has one listener, and none when they are over', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const control = new AbortController();
  const { signal } = control;
  const added = jest.spyOn(signal, 'addEventListener');
  const removed = jest.spyOn(signal, 'removeEventListener');
  const subscribing = Array.from({ length: 20 }, () =>
    subscriber.subscribeChannel(publisher.nodeId(), 'a', { signal }),
  );
  expect(added).toHaveBeenCalledTimes(1);
  await Promise.all(subscribing);
  expect(removed).toHaveBeenCalledTimes(1);
  const pending = [1, 2, 3].map(() => failure(subscriber.accept(1n, any({ signal }))));
  control.abort(new Error('enough'));
  for (const error of await Promise.all(pending)) expect(error.message).toBe('enough');
  expect(added).toHaveBeenCalledTimes(2);
});

test('a report names the code of each failure: what finds no room, and whom it does not reach any more', async () => {
  const [publisher, subscriber] = await publisherAndSubscriber();
  publisher.registerChannel({ name: 'a' });
  const reader = subscriber.messages(publisher.nodeId(), 'a');
  await reader.ready;
  // It begins to read, and never goes on.
  const first = reader[Symbol.asyncIterator]().next();
  const sent = Array.from({ length: 6000 }, () => publisher.publish('a', Buffer.from('x'), RELIABLE));
  // The last of them found no room.
  const last = await sent.at(-1);
  expect(last?.errors).toMatchObject([{ nodeId: subscriber.nodeId(), code: 'ERR_BACKPRESSURE' }]);
  await Promise.all([first, reader.stop()]);
  const reports = await Promise.all(sent);
  const codes = reports.map(({ delivered, errors }) => (delivered === 1 ? 'delivered' : errors[0]?.code));
  expect(new Set(codes)).toEqual(new Set(['delivered', 'ERR_CHANNEL_PEER_LOST', 'ERR_BACKPRESSURE']));
  expect(codes.filter((code) => code === 'delivered').length).toBeGreaterThanOrEqual(1024);
});

describe('a channel that is taken away', () => {
  test('ends for nodes and daemons, and is unknown from then on', async () => {
    const [here, there] = await runtimes();
    there.mesh.registerChannel({ name: 'a' });
    const reader = here.mesh.messages(there.id, 'a');
    await reader.ready;
    const daemon: MeshDaemon = { process: () => null };
    const { originHash } = await here.rt.spawnWithDaemon(Identity.generate(), daemon);
    await here.rt.subscribeChannel(originHash, there.id, 'a');
    await there.mesh.publish('a', Buffer.from('x'), RELIABLE);
    const ended = new Promise<DaemonSubscriptionEvent>((resolve) => here.rt.on('subscription', resolve));
    expect(there.mesh.unregisterChannel('b')).toBe(false);
    expect(there.mesh.unregisterChannel('a')).toBe(true);
    expect(there.mesh.unregisterChannel('a')).toBe(false);
    expect(await ended).toMatchObject({ type: 'ended', channel: 'a', error: { code: 'ERR_CHANNEL_UNKNOWN' } });
    const got: string[] = [];
    const loop = async (): Promise<void> => {
      for await (const message of reader) got.push(message.payload.toString());
    };
    expect(await failure(loop())).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
    expect(got).toEqual(['x']);
    expect(here.rt.subscriptions(originHash)).toEqual([]);
    expect(await failure(there.mesh.publish('a', Buffer.from('x')))).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
    expect(await failure(here.mesh.subscribeChannel(there.id, 'a'))).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
    await there.mesh.shutdown();
    expect(thrown(() => there.mesh.unregisterChannel('a'))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  });

  test('its numbers go on when it is registered again', async () => {
    const [publisher, subscriber] = await publisherAndSubscriber();
    publisher.registerChannel({ name: 'a' });
    for (let i = 0; i < 3; i += 1) await publisher.publish('a', Buffer.from('x'));
    publisher.unregisterChannel('a');
    publisher.registerChannel({ name: 'a' });
    const reader = subscriber.messages(publisher.nodeId(), 'a');
    await reader.ready;
    await publisher.publish('a', Buffer.from('x'), RELIABLE);
    const next = (await reader[Symbol.asyncIterator]().next()) as IteratorYieldResult<ChannelMessage>;
    expect(next.value.sequence).toBe(4n);
  });
});

test('an empty list of roots is refused: it would leave the channel open', async () => {
  const mesh = await bare();
  const error = thrown(() => {
    mesh.registerChannel({ name: 'a', tokenRoots: [] });
  });
  expect(error).toMatchObject({ code: 'ERR_CHANNEL_INVALID_ARGUMENT' });
  expect(error.message).toMatch(/^config\.tokenRoots must not be empty/);
  expect(await failure(mesh.publish('a', Buffer.alloc(0)))).toMatchObject({ code: 'ERR_CHANNEL_UNKNOWN' });
});
