// What channels do at their limits: whose message goes first when many wait, and more subscribers than a node has peers.

import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { MeshNode } from 'mesh-daemon';
import { Identity } from 'mesh-daemon';
import { take } from './helpers/channels';
import { bare, closeAll, Counter, failure, node } from './helpers/nodes';

/** A way to a node that can be cut and mended. */
class Way {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #open = true;

  private constructor(to: string) {
    const { hostname, port } = new URL(`tcp://${to}`);
    this.#server = createServer((near) => {
      if (!this.#open) {
        near.destroy();
        return;
      }
      const far = connect(Number(port), hostname);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.pipe(other);
        one.on('error', () => undefined);
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
  }

  static async to(mesh: MeshNode): Promise<Way> {
    const way = new Way(mesh.localAddr());
    await new Promise<void>((resolve) => way.#server.listen(0, '127.0.0.1', resolve));
    return way;
  }

  get addr(): string {
    return `127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  cut(): void {
    this.#open = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#open = true;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

const ways: Way[] = [];

afterEach(async () => {
  await closeAll();
  for (const way of ways.splice(0)) way.close();
});

/** Resolves at the next event of this kind about that peer. */
function peer(mesh: MeshNode, type: string, nodeId: bigint): Promise<void> {
  return new Promise((resolve) => {
    mesh.on('peer', (event) => {
      if (event.type === type && event.nodeId === nodeId) resolve();
    });
  });
}

test('hazard 45: of what waits for a subscriber the highest priority goes first, and it can be changed', async () => {
  const [publisher, subscriber] = [await bare(), await bare()];
  const way = await Way.to(publisher);
  ways.push(way);
  await subscriber.connect(way.addr);
  const id = publisher.nodeId();
  // What is not named has the lowest; the names are such that their order says nothing.
  publisher.registerChannel({ name: 'b', reliable: true });
  publisher.registerChannel({ name: 'a', reliable: true, priority: 200 });
  publisher.registerChannel({ name: 'c', reliable: true, priority: 1 });
  const names = ['a', 'b', 'c'];
  const readers = names.map((name) => subscriber.messages(id, name));
  await Promise.all(readers.map((reader) => reader.ready));

  // Several frames of each, all of which wait when the session comes back.
  const round = async (): Promise<Map<string, readonly [first: bigint, last: bigint]>> => {
    const away = peer(publisher, 'suspected', subscriber.nodeId());
    way.cut();
    await away;
    const payload = Buffer.alloc(16 * 1024);
    const published = ['b', 'c', 'a'].flatMap((name) =>
      Array.from({ length: 40 }, () => publisher.publish(name, payload)),
    );
    way.mend();
    const arrived = await Promise.all(readers.map((reader) => take(reader, 40)));
    for (const report of await Promise.all(published)) expect(report).toMatchObject({ attempted: 1, delivered: 1 });
    return new Map(
      names.map((name, at) => {
        const times = (arrived[at] ?? []).map(({ receivedAt }) => receivedAt);
        return [name, [times[0] ?? 0n, times.at(-1) ?? 0n]];
      }),
    );
  };
  const order = (times: Awaited<ReturnType<typeof round>>, expected: readonly string[]): void => {
    for (const [at, name] of expected.slice(1).entries()) {
      const before = times.get(expected[at] ?? '');
      // The frame in which one ends and the other begins is one instant.
      expect(before?.[1]).toBeLessThanOrEqual(times.get(name)?.[0] ?? 0n);
    }
  };
  order(await round(), ['a', 'c', 'b']);
  publisher.registerChannel({ name: 'b', reliable: true, priority: 255 });
  publisher.registerChannel({ name: 'a', reliable: true });
  order(await round(), ['b', 'c', 'a']);
});

test('a channel has as many subscribing nodes as the publisher has peers; one more is refused and told why', async () => {
  const publisher = await bare({ maxPeers: 2 });
  publisher.registerChannel({ name: 'news', reliable: true });
  const id = publisher.nodeId();
  const [one, two] = [await bare(), await bare()];
  for (const mesh of [one, two]) {
    await mesh.connect(publisher.localAddr());
    await mesh.subscribeChannel(id, 'news');
  }
  const third = await node();
  expect(await failure(third.mesh.connect(publisher.localAddr()))).toMatchObject({
    name: 'MeshError',
    code: 'ERR_MESH_HANDSHAKE_FAILED',
    message: expect.stringContaining('as many peers as it may have') as string,
  });
  expect(await failure(third.mesh.subscribeChannel(id, 'news'))).toMatchObject({
    name: 'NotConnectedError',
    code: 'ERR_NOT_CONNECTED',
  });
  const reader = third.mesh.messages(id, 'news');
  expect(await failure(reader.ready)).toMatchObject({ code: 'ERR_NOT_CONNECTED' });
  expect(await failure(take(reader, 1))).toMatchObject({ code: 'ERR_NOT_CONNECTED' });
  const { originHash } = await third.rt.spawnWithDaemon(Identity.generate(), new Counter());
  expect(await failure(third.rt.subscribeChannel(originHash, id, 'news'))).toMatchObject({ code: 'ERR_NOT_CONNECTED' });

  // Nobody who is in pays for that, and a place that comes free can be had.
  await expect(publisher.publish('news', Buffer.from('1'))).resolves.toMatchObject({ attempted: 2, delivered: 2 });
  const left = peer(publisher, 'lost', one.nodeId());
  await one.shutdown();
  await left;
  await third.mesh.connect(publisher.localAddr());
  const later = third.mesh.messages(id, 'news');
  await later.ready;
  await expect(publisher.publish('news', Buffer.from('2'))).resolves.toMatchObject({ attempted: 2, delivered: 2 });
  expect((await take(later, 1)).map(({ payload }) => payload.toString())).toEqual(['2']);
});

test('one that the publisher has no place for gets a channel through a daemon that passes it on', async () => {
  const publisher = await bare({ maxPeers: 1 });
  publisher.registerChannel({ name: 'news', reliable: true });
  const [middle, far] = [await node(), await bare()];
  await middle.mesh.connect(publisher.localAddr());
  await far.connect(middle.mesh.localAddr());
  expect((await failure(far.connect(publisher.localAddr()))).code).toBe('ERR_MESH_HANDSHAKE_FAILED');
  middle.mesh.registerChannel({ name: 'news', reliable: true });
  const passesOn = { process: ({ payload }: { payload: Buffer }): Buffer[] => [payload] };
  const { originHash } = await middle.rt.spawnWithDaemon(Identity.generate(), passesOn, { outputChannel: 'news' });
  await middle.rt.subscribeChannel(originHash, publisher.nodeId(), 'news');
  const reader = far.messages(middle.id, 'news');
  await reader.ready;
  const sent = Array.from({ length: 100 }, (_, number) => String(number));
  for (const text of sent) void publisher.publish('news', Buffer.from(text));
  expect((await take(reader, 100)).map(({ payload }) => payload.toString())).toEqual(sent);
});
