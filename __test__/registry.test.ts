// Handles and user code towards the registry of a runtime.

import { Identity } from 'mesh-daemon';
import type { DaemonHandle, DaemonLifeEvent, MeshDaemon } from 'mesh-daemon';
import { closeAll, Counter, failure, node, thrown } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');

test('requirement 101: a handle of a stopped daemon is stale though its address lives again, and life events come in pairs', async () => {
  const { rt } = await node();
  const told: DaemonLifeEvent[] = [];
  rt.on('daemon', (event) => told.push(event));
  const identity = Identity.generate();
  const { originHash } = identity;
  // Its promise never settles, and is not waited for.
  const stuck = await rt.spawnWithDaemon(
    identity,
    { process: () => new Promise(() => undefined) },
    { kind: 'k', callbackTimeoutMs: 50 },
  );
  expect(await failure(stuck.call(payload))).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
  await stuck.stop();
  const stale: DaemonHandle[] = [stuck];
  for (let round = 1; round <= 3; round += 1) {
    const next = await rt.spawnWithDaemon(identity, new Counter(), { kind: 'k' });
    for (const old of stale) {
      for (const look of [() => old.stats(), () => old.lastSnapshot()]) {
        expect(thrown(look)).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
      }
      for (const use of [old.snapshot(), old.stop()]) {
        expect(await failure(use)).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
      }
    }
    expect(await next.call(payload)).toEqual([Buffer.from('1:x')]);
    await next.stop();
    stale.push(next);
  }
  const pair = [
    { type: 'spawned', originHash, kind: 'k' },
    { type: 'stopped', originHash, kind: 'k' },
  ];
  expect(told).toEqual([...pair, ...pair, ...pair, ...pair]);
});

test('requirement 102: code of daemons may touch the registry, and never blocks other daemons', async () => {
  const { rt } = await node();
  const other = await rt.spawnWithDaemon(Identity.generate(), new Counter());
  let touched = 0;
  const touch = async (): Promise<void> => {
    touched += 1;
    const kind = `kind ${String(touched)}`;
    rt.registerFactory(kind, () => new Counter());
    const made = await rt.spawn(kind, Identity.generate());
    expect(made.stats().mailboxLength).toBe(0);
    expect(rt.daemonCount()).toBeGreaterThanOrEqual(2);
    expect(await made.snapshot()).toBeInstanceOf(Buffer);
    await made.stop();
    // One that runs nothing of this answers meanwhile.
    expect(await other.call(payload)).toHaveLength(1);
  };
  class Meddling implements MeshDaemon {
    async process(): Promise<Buffer> {
      await touch();
      return payload;
    }
    async snapshot(): Promise<Buffer> {
      await touch();
      return payload;
    }
    async restore(): Promise<void> {
      await touch();
    }
  }
  rt.registerFactory('meddling', async () => {
    await touch();
    return new Meddling();
  });
  const identity = Identity.generate();
  const handle = await rt.spawn('meddling', identity);
  expect(await Promise.all([handle.call(payload), handle.call(payload)])).toEqual([[payload], [payload]]);
  const snapshot = (await handle.snapshot())!;
  // On the caller's own stack too, where nothing can be awaited.
  const inside = await rt.spawnWithDaemon(Identity.generate(), {
    process() {
      rt.registerFactory('inside', () => new Counter());
      return Buffer.from(String(rt.daemonCount() + Number(inside.stats().errors)));
    },
  });
  expect(await inside.call(payload)).toEqual([Buffer.from('3')]);
  await handle.stop();
  await rt.spawnFromSnapshot('meddling', identity, snapshot);
  expect(touched).toBe(6);
  expect(rt.daemonCount()).toBe(3);
});
