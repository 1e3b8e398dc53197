// Subscriptions that are given up before their publisher has answered: whoever asked hears that, and they are out.

import { ChannelError, Identity, type MeshDaemon } from 'mesh-daemon';
import { RELIABLE, take } from './helpers/channels';
import { closeAll, failure, node, type Node } from './helpers/nodes';
import { closeWires, Wire } from './helpers/proxy';

afterEach(async () => {
  await closeAll();
  closeWires();
});

const GROUP = { queueGroup: 'g' } as const;
const UNSUBSCRIBED = {
  name: 'ChannelError',
  code: 'ERR_CHANNEL_UNSUBSCRIBED',
  message: "channel 'news' was left before its publisher had answered",
};
const idle: MeshDaemon = { process: () => undefined };

/** A node, the publisher of a channel, and the wire between them. */
async function wired(): Promise<[Node, Node, Wire]> {
  const [here, there] = [await node(), await node()];
  const wire = await Wire.to(there.mesh.localAddr());
  await here.mesh.connect(wire.address);
  there.mesh.registerChannel({ name: 'news' });
  return [here, there, wire];
}

/** A daemon that leaves the queue group that it is in and comes to it again, while its publisher answers nothing. */
async function comingAgain() {
  const [{ rt }, there, wire] = await wired();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), idle);
  await rt.subscribeChannel(originHash, there.id, 'news', GROUP);
  wire.hold();
  const left = rt.unsubscribeChannel(originHash, there.id, 'news', GROUP);
  const came = failure(rt.subscribeChannel(originHash, there.id, 'news', GROUP));
  return { rt, originHash, there, wire, left, came };
}

function expectUnsubscribed(error: unknown): void {
  expect(error).toBeInstanceOf(ChannelError);
  expect(error).toMatchObject(UNSUBSCRIBED);
}

/** Until the publisher has nobody in its channel: it hears of that in its own time. */
async function emptied({ mesh }: Node): Promise<void> {
  while ((await mesh.publish('news', Buffer.from('a'))).attempted > 0);
}

test.each([{}, GROUP])('a node that unsubscribes before the answer: %j', async (options) => {
  const [{ mesh }, there, wire] = await wired();
  wire.hold();
  const reader = mesh.messages(there.id, 'news', options);
  const asked = [mesh.subscribeChannel(there.id, 'news', options), reader.ready].map(failure);
  const left = mesh.unsubscribeChannel(there.id, 'news');
  for (const error of await Promise.all(asked)) expectUnsubscribed(error);
  expect(await take(reader, 1)).toEqual([]);
  wire.release();
  await left;
  await emptied(there);
});

test('a reader that is stopped before the answer', async () => {
  const [{ mesh }, there, wire] = await wired();
  wire.hold();
  const reader = mesh.messages(there.id, 'news');
  const ready = failure(reader.ready);
  const stopped = reader.stop();
  expectUnsubscribed(await ready);
  expect(await take(reader, 1)).toEqual([]);
  wire.release();
  await stopped;
  await emptied(there);
});

test('a daemon leaves a channel with the queue group that it is coming again to', async () => {
  const { rt, originHash, there, wire, left, came } = await comingAgain();
  const out = rt.unsubscribeChannel(originHash, there.id, 'news');
  await left;
  expectUnsubscribed(await came);
  expect(rt.subscriptions(originHash)).toEqual([]);
  wire.release();
  await out;
  expect(rt.subscriptions(originHash)).toEqual([]);
  expect((await there.mesh.publish('news', Buffer.from('a'), RELIABLE)).attempted).toBe(0);
});

test('a daemon that ends while it is coming again to a queue group is out of it', async () => {
  const { rt, originHash, there, wire, left, came } = await comingAgain();
  await rt.stop(originHash);
  await left;
  expectUnsubscribed(await came);
  wire.release();
  await emptied(there);
});
