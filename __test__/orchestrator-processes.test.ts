// Source, target and orchestrator in processes of their own, and the death of each.

import { Identity, type MigrationEvent } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, failure, node, type Node } from './helpers/nodes';
import { ALERT, kill, killAll, other, type Other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');
const from = (count: number, { child }: Other): Buffer[] => [Buffer.from(`${String(count)}:x:${String(child.pid)}`)];

/** This process drives; the daemon moves from one of two others to the other one. */
async function driving(): Promise<{ here: Node; source: Other; target: Other }> {
  const here = await node({}, { mesh: ALERT });
  const source = await other([here.mesh.localAddr()], { stays: true });
  const target = await other([here.mesh.localAddr(), source.addr], { stays: true });
  return { here, source, target };
}

/** The daemon lives here; another process drives it to a third one. */
async function driven(): Promise<{
  here: Node;
  origin: bigint;
  target: Other;
  driver: Other;
  ended: Promise<MigrationEvent>;
}> {
  const here = await node({ orchestrators: 'any' }, { mesh: ALERT });
  const { originHash } = await here.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await here.rt.call(originHash, payload);
  const target = await other([here.mesh.localAddr()], { stays: true });
  const driver = await other([here.mesh.localAddr(), target.addr], { stays: true });
  const ended = new Promise<MigrationEvent>((resolve) => {
    here.rt.on('migration', (event) => {
      if (event.type === 'failed' || event.phase === 'complete') resolve(event);
    });
  });
  return { here, origin: originHash, target, driver, ended };
}

test('a third process moves a daemon between two others', async () => {
  const { here, source, target } = await driving();
  expect(await here.rt.call(source.origin, payload)).toEqual(from(1, source));
  await (await here.rt.startMigration(source.origin, source.id, target.id)).wait();
  expect(await here.rt.call(source.origin, payload)).toEqual(from(2, target));
  await (await here.rt.migrate(source.origin, source.id)).wait();
  expect(await here.rt.call(source.origin, payload)).toEqual(from(3, source));
});

test.each(['Described', 'Prepared', 'RestoreComplete', 'ReplayComplete'])(
  'the target is killed with %s on its way to a third process: the daemon goes on at its source',
  async (message) => {
    const { here, source, target } = await driving();
    await here.rt.call(source.origin, payload);
    // Whatever is held back before it, this one alone lets the driver give the word for the cutover.
    gate(here.rt, 'ReplayComplete');
    const held = gate(here.rt, message);
    const move = await here.rt.startMigration(source.origin, source.id, target.id);
    await held.reached;
    await kill(target);
    expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'source', nodeId: target.id });
    expect(await here.rt.call(source.origin, payload)).toEqual(from(2, source));
  },
);

test('the source is killed before the hand-over: its daemon is gone with it, and the handle ends', async () => {
  const { here, source, target } = await driving();
  const held = gate(here.rt, 'ReplayComplete');
  const move = await here.rt.startMigration(source.origin, source.id, target.id);
  await held.reached;
  await kill(source);
  expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  expect(here.rt.migrations()).toEqual([]);
});

test('the source is killed behind the hand-over: the target says that it runs the daemon', async () => {
  const { here, source, target } = await driving();
  await here.rt.call(source.origin, payload);
  const held = gate(here.rt, 'CleanupComplete');
  const move = await here.rt.startMigration(source.origin, source.id, target.id);
  await held.reached;
  await kill(source);
  expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'target' });
  expect(await here.rt.call(source.origin, payload)).toEqual(from(2, target));
});

test.each(['TakeSnapshot', 'Reserved', 'RestoreComplete'])(
  'the orchestrator is killed with %s on its way to the source: the daemon goes on there',
  async (message) => {
    const { here, origin, target, driver, ended } = await driven();
    const held = gate(here.rt, message);
    await driver.migrate(origin, here.id, target.id);
    await held.reached;
    await kill(driver);
    if (message === 'TakeSnapshot') {
      // What a dead orchestrator said last still begins a move; its loss ends it.
      held.open();
    }
    expect(await ended).toMatchObject({ type: 'failed', role: 'source', error: { outcome: 'source' } });
    expect(await here.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
    expect(here.rt.migrations()).toEqual([]);
  },
);

test('the orchestrator is killed behind the word for the cutover: source and target finish alone', async () => {
  const { here, origin, target, driver, ended } = await driven();
  const held = gate(here.rt, 'CutoverNotify');
  await driver.migrate(origin, here.id, target.id);
  await held.reached;
  held.open();
  await kill(driver);
  expect(await ended).toMatchObject({ type: 'phase', role: 'source', phase: 'complete' });
  expect(await here.rt.call(origin, payload)).toEqual(from(2, target));
});
