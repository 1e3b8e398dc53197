// A move between processes of their own, and the death of either side.

import { once } from 'node:events';
import { Identity } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, failure, node, type Node } from './helpers/nodes';
import { ALERT, killAll, other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');

test('the first call of a session finds what lives in the other process, ten times at once', async () => {
  const here = await node();
  const answers = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const { addr, id, origin, child } = await other();
      await here.mesh.connect(addr);
      const [answer] = await here.rt.call(origin, payload);
      expect(answer?.toString()).toBe(`1:x:${String(child.pid)}`);
      return [await here.rt.locate(origin), id];
    }),
  );
  for (const [found, id] of answers) expect(found).toBe(id);
});

async function source(): Promise<Node & { origin: bigint }> {
  const here = await node({}, { mesh: ALERT });
  const { originHash } = await here.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await here.rt.call(originHash, payload);
  return { ...here, origin: originHash };
}

test('a daemon moves to another process and answers from there; that process ends by itself', async () => {
  const here = await source();
  const there = await other();
  await here.mesh.connect(there.addr);
  await (await here.rt.migrate(here.origin, there.id)).wait();
  expect(here.rt.daemonCount()).toBe(0);
  expect(await here.rt.call(here.origin, payload)).toEqual([Buffer.from(`2:x:${String(there.child.pid)}`)]);
  expect(await here.rt.locate(here.origin)).toBe(there.id);
  const exit = once(there.child, 'exit');
  await here.mesh.shutdown();
  expect(await exit).toEqual([0, null]);
});

test.each(['Prepared', 'Reserved', 'RestoreComplete', 'ReplayComplete', 'CutoverNotify'])(
  'hazard 24: the target is killed with %s on its way: the daemon goes on here',
  async (message) => {
    const here = await source();
    const there = await other();
    await here.mesh.connect(there.addr);
    const held = gate(here.rt, message);
    const move = await here.rt.migrate(here.origin, there.id);
    await held.reached;
    there.child.kill('SIGKILL');
    expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'source' });
    expect(await here.rt.call(here.origin, payload)).toEqual([Buffer.from('2:x')]);
  },
);

test('the target is killed behind the hand-over: the outcome is in doubt, and calls say so', async () => {
  const here = await source();
  const there = await other();
  await here.mesh.connect(there.addr);
  const held = gate(here.rt, 'ActivateAck');
  const move = await here.rt.migrate(here.origin, there.id);
  await held.reached;
  there.child.kill('SIGKILL');
  expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  expect(here.rt.daemonCount()).toBeLessThanOrEqual(1);
});
