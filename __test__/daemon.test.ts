// Daemons through the public API: spawning, delivering, calling, on one node and between two.

import { DaemonError, DaemonHandle, Identity, type CausalEvent } from 'mesh-daemon';
import { closeAll, Counter, failure, node, pair } from './helpers/nodes';

afterEach(closeAll);

test('spawn, deliver, call, send, stats, snapshot, stop', async () => {
  const { rt } = await node();
  const daemon = new Counter();
  const identity = Identity.generate();
  const handle = await rt.spawnWithDaemon(identity, daemon, { kind: 'counter' });
  expect(handle).toBeInstanceOf(DaemonHandle);
  expect(handle.originHash).toBe(identity.originHash);
  expect(rt.daemonCount()).toBe(1);
  const event = { originHash: 9n, sequence: 1n, payload: Buffer.from('a') };
  expect(await rt.deliver(identity.originHash, event)).toEqual([Buffer.from('1:a')]);
  expect(await handle.call(Buffer.from('b'))).toEqual([Buffer.from('2:b')]);
  await handle.send(Buffer.from('c'));
  expect(await rt.call(identity.originHash, Buffer.from('d'))).toEqual([Buffer.from('4:d')]);
  expect(handle.stats()).toMatchObject({ eventsProcessed: 4n, eventsEmitted: 4n, errors: 0n, mailboxLength: 0 });
  const snapshot = await handle.snapshot();
  await handle.stop();
  expect(rt.daemonCount()).toBe(0);
  const again = new Counter();
  await rt.spawnFromSnapshotWithDaemon(identity, snapshot!, again);
  expect(again.seen).toBe(4);
});

test('a call reaches a daemon on another node, both ways of async and sync', async () => {
  const [a, b] = await pair();
  const sync = await b.rt.spawnWithDaemon(Identity.generate(), new Counter());
  const slow = await b.rt.spawnWithDaemon(Identity.generate(), {
    process: async ({ payload }) => {
      await new Promise((resolve) => setImmediate(resolve));
      return [payload, payload];
    },
  });
  expect(await a.rt.call(sync.originHash, Buffer.from('x'))).toEqual([Buffer.from('1:x')]);
  expect(await a.rt.call(slow.originHash, Buffer.from('y'))).toEqual([Buffer.from('y'), Buffer.from('y')]);
  await a.rt.send(sync.originHash, Buffer.from('z'));
  const [second] = await a.rt.call(sync.originHash, Buffer.alloc(10_000, 1));
  expect(second?.length).toBe(10_002);
  expect(await a.rt.locate(sync.originHash)).toBe(b.id);
});

test('an error of a daemon on another node keeps its name, message and stack', async () => {
  const [a, b] = await pair();
  const boom = new RangeError('boom');
  const handle = await b.rt.spawnWithDaemon(Identity.generate(), {
    process() {
      throw boom;
    },
  });
  const error = await failure(a.rt.call(handle.originHash, Buffer.alloc(1)));
  expect(error).toBeInstanceOf(DaemonError);
  expect(error).toMatchObject({ code: 'ERR_DAEMON_PROCESS_FAILED' });
  expect(error.cause).toMatchObject({ name: 'RangeError', message: 'boom', stack: boom.stack });
  const local = await failure(b.rt.call(handle.originHash, Buffer.alloc(1)));
  expect(local.cause).toBe(boom);
});

test('an empty view into a larger buffer is zero bytes, as payload, output and state (hazard 19)', async () => {
  const [a, b] = await pair();
  const empty = Buffer.from('abc').subarray(3);
  const restored: Buffer[] = [];
  const echo = {
    name: 'echo',
    process: async ({ payload }: CausalEvent) => {
      await Promise.resolve();
      return [payload, payload.subarray(0, 0)];
    },
    snapshot: () => empty,
    restore: (state: Buffer) => {
      restored.push(state);
    },
  };
  const identity = Identity.generate();
  const handle = await a.rt.spawnWithDaemon(identity, echo);
  expect(await handle.call(empty)).toEqual([Buffer.alloc(0), Buffer.alloc(0)]);
  // Events of one turn share a buffer.
  const answers = await Promise.all([b.rt.call(handle.originHash, Buffer.from('x')), handle.call(Buffer.alloc(0))]);
  expect(answers).toEqual([
    [Buffer.from('x'), Buffer.alloc(0)],
    [Buffer.alloc(0), Buffer.alloc(0)],
  ]);
  const snapshot = await handle.snapshot();
  await handle.stop();
  await a.rt.spawnFromSnapshotWithDaemon(identity, snapshot!, echo);
  expect(restored).toEqual([Buffer.alloc(0)]);
});
