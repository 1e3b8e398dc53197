// Queue groups through the public API: one member of a group gets each message; requirement 122.

import {
  ChannelAuthError,
  ChannelError,
  channelHash,
  delegateToken,
  Identity,
  IdentityError,
  TokenChain,
} from 'mesh-daemon';
import type { ChannelMessage, MeshDaemon, MeshNode, Subscription } from 'mesh-daemon';
import { RELIABLE, star } from './helpers/channels';
import { Keeper, told } from './helpers/keeper';
import { any, bare, closeAll, deferred, failure, node, pair, thrown } from './helpers/nodes';

jest.setTimeout(120_000);
afterEach(closeAll);

const WORKERS = { queueGroup: 'workers' } as const;

function publishAll(publisher: MeshNode, channel: string, count: number): Promise<unknown[]> {
  const payloads = Array.from({ length: count }, (_, i) => Buffer.from(String(i)));
  return Promise.all(payloads.map((payload) => publisher.publish(channel, payload, RELIABLE)));
}

async function rest(subscription: Subscription): Promise<string[]> {
  const got: ChannelMessage[] = [];
  for await (const message of subscription) got.push(message);
  return got.map((message) => message.payload.toString());
}

const upTo = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));
const sorted = (texts: readonly string[]): string[] => [...texts].sort((a, b) => Number(a) - Number(b));

test('each message goes to one member of the group, in turn, and to all who are in none', async () => {
  const [publisher, one, two, outside] = (await star(4)) as [MeshNode, MeshNode, MeshNode, MeshNode];
  publisher.registerChannel({ name: 'jobs' });
  const members = [one, two, publisher].map((mesh) => mesh.messages(publisher.nodeId(), 'jobs', WORKERS));
  const everything = outside.messages(publisher.nodeId(), 'jobs');
  await Promise.all([...members, everything].map((subscription) => subscription.ready));
  const reports = await publishAll(publisher, 'jobs', 30);
  // One node outside of the group, and the group.
  for (const report of reports) expect(report).toEqual({ attempted: 2, delivered: 2, errors: [] });
  for (const mesh of [one, two, publisher, outside]) await mesh.unsubscribeChannel(publisher.nodeId(), 'jobs');
  const shares = await Promise.all(members.map(rest));
  expect(shares.map((share) => share.length)).toEqual([10, 10, 10]);
  expect(sorted(shares.flat())).toEqual(upTo(30));
  expect(await rest(everything)).toEqual(upTo(30));
});

test('leaving a group leaves the channel alone; leaving the channel leaves its groups', async () => {
  const [publisher, mesh] = (await star(2)) as [MeshNode, MeshNode];
  const at = publisher.nodeId();
  publisher.registerChannel({ name: 'jobs' });
  const attempted = async (): Promise<number> => (await publisher.publish('jobs', Buffer.alloc(1))).attempted;
  await mesh.subscribeChannel(at, 'jobs');
  await mesh.subscribeChannel(at, 'jobs', WORKERS);
  await mesh.subscribeChannel(at, 'jobs', { queueGroup: 'audit' });
  expect(await attempted()).toBe(3);
  await mesh.unsubscribeChannel(at, 'jobs', WORKERS);
  expect(await attempted()).toBe(2);
  await mesh.unsubscribeChannel(at, 'jobs');
  expect(await attempted()).toBe(0);
  await mesh.unsubscribeChannel(at, 'jobs', WORKERS);
});

test('readers of one group on one node share its messages; what one leaves unread is for the others', async () => {
  const [publisher, mesh] = (await star(2)) as [MeshNode, MeshNode];
  publisher.registerChannel({ name: 'jobs' });
  const [one, two] = [1, 2].map(() => mesh.messages(publisher.nodeId(), 'jobs', WORKERS)) as [
    Subscription,
    Subscription,
  ];
  await Promise.all([one.ready, two.ready]);
  await publishAll(publisher, 'jobs', 10);
  const first = await one[Symbol.asyncIterator]().next();
  expect(first.done).toBe(false);
  await two.stop();
  await mesh.unsubscribeChannel(publisher.nodeId(), 'jobs', WORKERS);
  const got = [(first.value as ChannelMessage).payload.toString(), ...(await rest(one))];
  expect(sorted(got)).toEqual(upTo(10));
});

test('what falls to a member that is lost goes to another one', async () => {
  const { mesh: publisher, id } = await node();
  const lost = await node();
  const lives = await bare();
  for (const mesh of [lost.mesh, lives]) {
    await mesh.connect(publisher.localAddr());
    await publisher.accept(mesh.nodeId());
  }
  publisher.registerChannel({ name: 'jobs' });
  const began = deferred();
  const never = new Promise<undefined>(() => undefined);
  const busy: MeshDaemon = {
    process() {
      began.resolve();
      return never;
    },
  };
  // It takes one message to run, and one into its mailbox.
  const { originHash } = await lost.rt.spawnWithDaemon(Identity.generate(), busy, { mailboxCapacity: 1 });
  await lost.rt.subscribeChannel(originHash, id, 'jobs', WORKERS);
  const reader = lives.messages(id, 'jobs', WORKERS);
  await reader.ready;
  const published = publishAll(publisher, 'jobs', 20);
  await began.promise;
  await lost.mesh.shutdown();
  for (const report of await published) expect(report).toEqual({ attempted: 1, delivered: 1, errors: [] });
  await lives.unsubscribeChannel(id, 'jobs');
  const got = await rest(reader);
  expect(new Set(got).size).toBe(got.length);
  expect(got.length).toBeGreaterThanOrEqual(18);
});

test('a daemon that moves stays a member: nothing is lost, nothing runs twice', async () => {
  const [here, there] = await pair();
  const publisher = await node();
  for (const { mesh } of [here, there]) {
    await mesh.connect(publisher.mesh.localAddr());
    await publisher.mesh.accept(mesh.nodeId());
  }
  publisher.mesh.registerChannel({ name: 'jobs' });
  for (const { rt } of [here, there]) rt.registerFactory('keeper', () => new Keeper());
  const mover = Identity.generate();
  const stays = Identity.generate();
  const { originHash: moving } = await here.rt.spawn('keeper', mover);
  const { originHash: staying } = await there.rt.spawn('keeper', stays);
  await here.rt.subscribeChannel(moving, publisher.id, 'jobs', WORKERS);
  await there.rt.subscribeChannel(staying, publisher.id, 'jobs', WORKERS);
  expect(here.rt.subscriptions(moving)).toEqual([{ publisher: publisher.id, channel: 'jobs', queueGroup: 'workers' }]);
  there.rt.expectMigration('keeper', moving);
  const published: Promise<unknown>[] = [];
  const move = here.rt.startMigration(moving, here.id, there.id).then((handle) => handle.wait());
  const moved = { yet: false };
  void move.then(() => (moved.yet = true));
  let count = 0;
  // At least some before, while and after it moves.
  for (let after = 0; after < 20; after += moved.yet ? 1 : 0) {
    published.push(publisher.mesh.publish('jobs', Buffer.from(String(count)), RELIABLE));
    count += 1;
    await new Promise((done) => setImmediate(done));
  }
  await move;
  const reports = (await Promise.all(published)) as { attempted: number; delivered: number }[];
  for (const report of reports) expect(report).toEqual({ attempted: 1, delivered: 1, errors: [] });
  const got = [await told(there.rt, moving), await told(there.rt, staying)];
  expect(sorted(got.flat())).toEqual(upTo(count));
  expect(got.every((share) => share.length > 0)).toBe(true);
  expect(there.rt.subscriptions(moving)).toEqual([{ publisher: publisher.id, channel: 'jobs', queueGroup: 'workers' }]);
  await there.rt.unsubscribeChannel(moving, publisher.id, 'jobs', WORKERS);
  expect(there.rt.subscriptions(moving)).toEqual([]);
});

describe('requirement 122', () => {
  const root = Identity.fromSeed(Buffer.alloc(32, 1));

  test('queue-group join needs its own grant', async () => {
    const [publisher, mesh] = (await star(2)) as [MeshNode, MeshNode];
    publisher.registerChannel({ name: 'jobs', tokenRoots: [root.entityId] });
    const of = { subject: mesh.entityId(), scope: ['subscribe'] as const, channel: 'jobs', ttlSeconds: 60 };
    const channel = root.issueToken({ ...of, scope: [...of.scope] });
    const group = root.issueToken({ ...of, scope: [...of.scope], queueGroup: 'workers' });
    const other = root.issueToken({ ...of, scope: [...of.scope], queueGroup: 'audit' });
    const wildcard = root.issueToken({ ...of, scope: ['subscribe', 'wildcard'] });
    expect(group.channelHash).toBe(channelHash('jobs', 'workers'));
    expect(group.channelHash).not.toBe(channel.channelHash);
    for (const token of [undefined, channel, other, wildcard]) {
      const options = token === undefined ? WORKERS : { ...WORKERS, token };
      const error = await failure(mesh.subscribeChannel(publisher.nodeId(), 'jobs', options));
      expect(error).toBeInstanceOf(ChannelAuthError);
    }
    const plain = await failure(mesh.subscribeChannel(publisher.nodeId(), 'jobs', { token: group }));
    expect(plain).toBeInstanceOf(ChannelAuthError);
    await mesh.subscribeChannel(publisher.nodeId(), 'jobs', { ...WORKERS, token: group });
    expect(await publisher.publish('jobs', Buffer.alloc(1))).toMatchObject({ attempted: 1, delivered: 1 });
  });

  test('the grant is delegated like any other', async () => {
    const [publisher, mesh] = (await star(2)) as [MeshNode, MeshNode];
    publisher.registerChannel({ name: 'jobs', tokenRoots: [root.entityId] });
    const broker = Identity.generate();
    const parent = root.issueToken({
      subject: broker.entityId,
      scope: ['subscribe', 'delegate'],
      channel: 'jobs',
      ...WORKERS,
      ttlSeconds: 60,
      delegationDepth: 1,
    });
    const token = TokenChain.of(parent, delegateToken(broker, parent, mesh.entityId(), ['subscribe']));
    expect(await failure(mesh.subscribeChannel(publisher.nodeId(), 'jobs', { token }))).toBeInstanceOf(
      ChannelAuthError,
    );
    await mesh.subscribeChannel(publisher.nodeId(), 'jobs', { ...WORKERS, token });
    broker.installToken(parent);
    expect(broker.lookupToken(broker.entityId, 'jobs')).toBeNull();
    expect(broker.lookupToken(broker.entityId, 'jobs', 'workers')?.nonce).toBe(parent.nonce);
  });

  test('deny holds for unpinned peers, and for pinned ones', async () => {
    const publisher = await bare();
    publisher.registerChannel({ name: 'jobs', requireToken: true });
    for (const pinned of [false, true]) {
      const mesh = await bare();
      // Who dials may pin whom it expects; that gives no right to anything.
      await (pinned
        ? mesh.connect(publisher.localAddr(), publisher.publicKey(), publisher.nodeId())
        : mesh.connect(publisher.localAddr()));
      await publisher.accept(mesh.nodeId());
      const error = await failure(mesh.subscribeChannel(publisher.nodeId(), 'jobs', WORKERS));
      expect(error).toBeInstanceOf(ChannelAuthError);
      expect(error.code).toBe('ERR_CHANNEL_UNAUTHORIZED');
      expect(await publisher.publish('jobs', Buffer.alloc(1))).toMatchObject({ attempted: 0 });
    }
  });
});

test('wrong names of groups', async () => {
  const mesh = await bare();
  for (const queueGroup of ['', 'A', 'a#b', 'a//b', 7]) {
    const options: { queueGroup: string } = any({ queueGroup });
    for (const promise of [mesh.subscribeChannel(1n, 'jobs', options), mesh.unsubscribeChannel(1n, 'jobs', options)]) {
      expect(await failure(promise)).toMatchObject({ code: 'ERR_CHANNEL_INVALID_ARGUMENT' });
    }
    expect(thrown(() => mesh.messages(1n, 'jobs', options))).toBeInstanceOf(ChannelError);
  }
  const root = Identity.generate();
  const of = { subject: root.entityId, channel: 'jobs', ttlSeconds: 1 };
  expect(thrown(() => root.issueToken({ ...of, scope: ['subscribe'], queueGroup: '#' }))).toBeInstanceOf(IdentityError);
  const error = thrown(() => root.issueToken({ ...of, scope: ['subscribe', 'wildcard'], queueGroup: 'workers' }));
  expect(error).toMatchObject({ code: 'ERR_IDENTITY_INVALID_ARGUMENT' });
  expect(error.message).toContain("options.queueGroup: a token with the scope 'wildcard' is for channels only");
});
