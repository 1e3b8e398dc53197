// Processes that are killed and start again under the same identity: whoever meets the new life knows that the former one is
// over, and waits for it no longer.

import { Identity, type MigrationEvent } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, failure, node, type Node } from './helpers/nodes';
import { ALERT, kill, killAll, other, type Other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');
const counted = (count: number): Buffer[] => [Buffer.from(`${String(count)}:x`)];
const PEER_LOST = { code: 'ERR_DAEMON_PEER_LOST' };

/** The failures that a node is told of, in their order. */
function failures({ rt }: Node): { next: () => Promise<MigrationEvent> } {
  const told: MigrationEvent[] = [];
  const waiting: ((event: MigrationEvent) => void)[] = [];
  rt.on('migration', (event) => {
    if (event.type !== 'failed') return;
    const reader = waiting.shift();
    if (reader === undefined) told.push(event);
    else reader(event);
  });
  return {
    next: () => {
      const event = told.shift();
      return event === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(event);
    },
  };
}

test('a target that is lost behind the hand-over and starts again lets the source go on, and nobody else does', async () => {
  const here = await node({}, { mesh: ALERT });
  const there = await other([], { stays: true });
  await here.mesh.connect(there.addr);
  const { originHash: origin } = await here.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await here.rt.call(origin, payload);
  const failed = failures(here);
  const { reached } = await there.hold('ActivateTarget');
  const move = await here.rt.migrate(origin, there.id);
  await reached;
  await kill(there);
  expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  expect(await failed.next()).toMatchObject({ role: 'orchestrator', error: { outcome: 'unknown' } });
  expect(await failure(here.rt.call(origin, payload))).toMatchObject(PEER_LOST);

  // A stranger proves nothing.
  const stranger = await other([], { stays: true });
  await here.mesh.connect(stranger.addr);
  await here.rt.call(stranger.origin, payload);
  expect(await failure(here.rt.call(origin, payload))).toMatchObject(PEER_LOST);
  expect(here.rt.migrations()).toMatchObject([{ originHash: origin, role: 'source', phase: 'cutover' }]);

  const next = await there.again([here.mesh.localAddr()]);
  expect(next.id).toBe(there.id);
  expect(await failed.next()).toMatchObject({ role: 'source', originHash: origin, error: { outcome: 'source' } });
  expect(await here.rt.call(origin, payload)).toEqual(counted(2));
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([1, []]);
  // With its key, and to that very node.
  await (await here.rt.migrate(origin, next.id)).wait();
  expect(String(await here.rt.call(origin, payload))).toBe(`3:x:${String(next.child.pid)}`);
});

test('a copy in doubt is dropped when its source starts again, and the daemon can be spawned anew', async () => {
  const here = await node({ acceptMigrations: true }, { mesh: ALERT });
  here.rt.registerFactory('counter', () => new Counter());
  const there = await other([here.mesh.localAddr()], { stays: true });
  const identity = Identity.generate();
  const origin = identity.originHash;
  await there.spawn(identity);
  await here.rt.call(origin, payload);
  const failed = failures(here);
  const { reached } = gate(here.rt, 'ActivateTarget');
  await there.migrate(origin, there.id, here.id);
  await reached;
  await kill(there);
  expect(await failed.next()).toMatchObject({ role: 'target', originHash: origin, error: { outcome: 'unknown' } });
  expect(here.rt.migrations()).toMatchObject([{ originHash: origin, role: 'target' }]);

  await there.again([here.mesh.localAddr()]);
  expect(await failed.next()).toMatchObject({
    role: 'target',
    originHash: origin,
    error: { kind: 'peer-lost', outcome: 'lost' },
  });
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([0, []]);
  expect(await failure(here.rt.recover(origin))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  await here.rt.spawn('counter', identity);
  expect(await here.rt.call(origin, payload)).toEqual(counted(1));
});

test('a source that starts again before the hand-over has lost the daemon, and the driver says so', async () => {
  // It would wait for the source for ten minutes.
  const here = await node({ acceptMigrations: true }, { mesh: { sessionTimeoutMs: 600_000 } });
  here.rt.registerFactory('counter', () => new Counter());
  const there = await other([here.mesh.localAddr()], { stays: true });
  await here.rt.call(there.origin, payload);
  const { reached } = gate(here.rt, 'Reserve');
  const move = await here.rt.startMigration(there.origin, there.id, here.id);
  const ended = failure(move.wait());
  await reached;
  await kill(there);
  await there.again([here.mesh.localAddr()]);
  expect(await ended).toMatchObject({ kind: 'peer-lost', outcome: 'lost', nodeId: there.id });
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([0, []]);
});

test('a member that is killed joins again under its identity: it is called, and may have its daemon back at once', async () => {
  const seed = await other([], { stays: true });
  const join = (): Promise<Other> => other([seed.addr], { joins: true });
  const [host, witness] = [await join(), await join()];
  const here = await node({}, { mesh: { ...ALERT, seeds: [seed.addr] } });
  await Promise.all([host, witness].map(({ id }) => here.mesh.accept(id)));
  const identity = Identity.generate();
  const origin = identity.originHash;
  await host.spawn(identity);
  expect(String(await here.rt.call(origin, payload))).toBe(`1:x:${String(host.child.pid)}`);

  await kill(host);
  const next = await host.again([seed.addr]);
  expect(next.id).toBe(host.id);
  // What it hosts now is found by those who never were told its address.
  expect(String(await here.rt.call(next.origin, payload))).toBe(`1:x:${String(next.child.pid)}`);
  expect(await here.rt.locate(next.origin)).toBe(host.id);
  expect(await witness.call(next.origin)).toBe(`2:x:${String(next.child.pid)}`);
  expect(await next.call(witness.origin)).toBe(`1:x:${String(witness.child.pid)}`);
  // The former life's daemon is gone, so it begins again.
  await next.spawn(identity);
  expect(String(await here.rt.call(origin, payload))).toBe(`1:x:${String(next.child.pid)}`);
  expect(await witness.call(origin)).toBe(`2:x:${String(next.child.pid)}`);
  const states = here.mesh.peers().filter(({ nodeId, state }) => nodeId === host.id && state === 'connected');
  expect(states).toHaveLength(1);
});
