// Moves through the public API.

import { Identity } from 'mesh-daemon';
import type { MigrationPhase } from 'mesh-daemon';
import { closeAll, Counter, pair } from './helpers/nodes';

afterEach(closeAll);

test('a daemon moves with its state, and calls follow it', async () => {
  const [a, b] = await pair();
  b.rt.registerFactory('counter', () => new Counter());
  const handle = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await handle.call(Buffer.from('a'));
  const move = await a.rt.migrate(handle.originHash, b.id);
  const phases: MigrationPhase[] = [];
  const reading = (async () => {
    for await (const phase of move.phases()) phases.push(phase);
  })();
  await move.wait();
  await reading;
  expect(phases).toEqual(['snapshot', 'transfer', 'restore', 'replay', 'cutover', 'complete']);
  expect(move.phase()).toBeNull();
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([0, 1]);
  expect(await handle.call(Buffer.from('b'))).toEqual([Buffer.from('2:b')]);
  expect(await b.rt.call(handle.originHash, Buffer.from('c'))).toEqual([Buffer.from('3:c')]);
});
