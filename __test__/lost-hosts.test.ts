// Processes that are killed: their callers follow the daemon, and a copy that they left in doubt is told of.

import { DaemonError, Identity, setLogger, type LogRecord, type MigrationEvent } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, deferred, failure, node, type Node } from './helpers/nodes';
import { ALERT, kill, killAll, other, type Other } from './helpers/processes';

afterEach(async () => {
  setLogger(null);
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');
const counted = (count: number): Buffer[] => [Buffer.from(`${String(count)}:x`)];

async function connected(...nodes: Node[]): Promise<void> {
  for (const [at, one] of nodes.entries()) {
    for (const later of nodes.slice(at + 1)) {
      await one.mesh.connect(later.mesh.localAddr());
      await later.mesh.accept(one.id);
    }
  }
}

/** Another process that has a session with each of these. */
async function otherOf(...nodes: Node[]): Promise<Other> {
  const there = await other(
    nodes.map(({ mesh }) => mesh.localAddr()),
    { stays: true },
  );
  await Promise.all(nodes.map(({ mesh }) => mesh.accept(there.id)));
  return there;
}

test('callers of a daemon whose host is killed reach it where it is spawned anew, long before the loss is declared', async () => {
  const patient = { mesh: { sessionTimeoutMs: 600_000 } };
  const here = await node({}, patient);
  const heir = await node({}, patient);
  await connected(here, heir);
  const there = await otherOf(here, heir);
  const identity = Identity.generate();
  const { originHash } = identity;
  await there.spawn(identity);
  await here.rt.call(originHash, payload);
  await kill(there);
  await heir.rt.spawnWithDaemon(identity, new Counter(), { kind: 'counter' });
  expect(await here.rt.call(originHash, payload)).toEqual(counted(1));
  expect(await here.rt.locate(originHash)).toBe(heir.id);
  expect(await here.rt.call(originHash, payload)).toEqual(counted(2));
  expect(here.mesh.peers().find(({ nodeId }) => nodeId === there.id)?.state).toBe('suspected');
});

test('hazard 60: a source that is killed at the hand-over leaves a copy in doubt: everybody is told, and recover ends it', async () => {
  const here = await node({ acceptMigrations: true }, { mesh: ALERT });
  const third = await node({}, { mesh: ALERT });
  here.rt.registerFactory('counter', () => new Counter());
  await connected(here, third);
  const there = await otherOf(here, third);
  const { origin } = there;
  await third.rt.call(origin, payload);
  const records: LogRecord[] = [];
  setLogger((record) => records.push(record), { level: 'warn' });
  const doubted = new Promise<MigrationEvent>((resolve) => {
    here.rt.on('migration', (event) => {
      if (event.type === 'failed') resolve(event);
    });
  });
  const gone = deferred();
  third.mesh.on('peer', ({ type, nodeId }) => {
    if (type === 'lost' && nodeId === there.id) gone.resolve();
  });
  // The copy is whole, and the source's decision all that is missing.
  const { reached } = gate(here.rt, 'ActivateTarget');
  await there.migrate(origin, there.id, here.id);
  await reached;
  await kill(there);
  const doubt = { role: 'target', originHash: origin, phase: 'cutover', error: { outcome: 'unknown' } };
  expect(await doubted).toMatchObject(doubt);
  await gone.promise;
  for (const { rt } of [here, third]) {
    expect(await rt.locate(origin)).toBeNull();
    expect(await failure(rt.call(origin, payload))).toMatchObject({ code: 'ERR_DAEMON_PEER_LOST', executed: 'no' });
  }
  expect(records.some(({ message }) => message.includes('lost at the hand-over'))).toBe(true);
  expect(await failure(third.rt.recover(origin))).toBeInstanceOf(DaemonError);
  await here.rt.recover(origin);
  expect(await third.rt.call(origin, payload)).toEqual(counted(2));
  expect(await here.rt.call(origin, payload)).toEqual(counted(3));
  expect(await third.rt.locate(origin)).toBe(here.id);
});

test('of a source that is killed before the hand-over nothing is kept, and the phase tells that', async () => {
  const here = await node({ acceptMigrations: true }, { mesh: ALERT });
  here.rt.registerFactory('counter', () => new Counter());
  const there = await otherOf(here);
  const { origin } = there;
  await here.rt.call(origin, payload);
  const failed = new Promise<MigrationEvent>((resolve) => {
    here.rt.on('migration', (event) => {
      if (event.type === 'failed') resolve(event);
    });
  });
  const { reached } = gate(here.rt, 'SnapshotReady');
  await there.migrate(origin, there.id, here.id);
  await reached;
  await kill(there);
  expect(await failed).toMatchObject({ role: 'target', phase: 'transfer', error: { outcome: 'unknown' } });
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([0, []]);
  expect(await failure(here.rt.recover(origin))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
});

test('a copy in doubt is dropped after handoverHoldMs, which a second event tells, and the daemon may begin again', async () => {
  const here = await node({ acceptMigrations: true, handoverHoldMs: 3_000 }, { mesh: ALERT });
  here.rt.registerFactory('counter', () => new Counter());
  const there = await otherOf(here);
  const identity = Identity.generate();
  const origin = identity.originHash;
  await there.spawn(identity);
  await here.rt.call(origin, payload);
  const failed: MigrationEvent[] = [];
  const [doubted, dropped] = [deferred(), deferred()];
  here.rt.on('migration', (event) => {
    if (event.type === 'failed') (failed.push(event) === 1 ? doubted : dropped).resolve();
  });
  const { reached } = gate(here.rt, 'ActivateTarget');
  await there.migrate(origin, there.id, here.id);
  await reached;
  await kill(there);
  await doubted.promise;
  expect(here.rt.migrations()).toMatchObject([{ originHash: origin, role: 'target' }]);
  await dropped.promise;
  const part = { role: 'target', originHash: origin, sourceNode: there.id, targetNode: here.id };
  expect(failed).toMatchObject([
    { ...part, error: { kind: 'peer-lost', outcome: 'unknown' } },
    { ...part, error: { kind: 'timeout', outcome: 'unknown' } },
  ]);
  // Nothing of it is left.
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([0, []]);
  expect(await failure(here.rt.recover(origin))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  await here.rt.spawn('counter', identity);
  expect(await here.rt.call(origin, payload)).toEqual(counted(1));
});
