// A target that is lost behind the hand-over: the doubt, the word that ends it, and the copy that lives after all.

import {
  DaemonError,
  Identity,
  MigrationError,
  type CausalEvent,
  type DaemonRuntimeOptions,
  type MigrationEvent,
} from 'mesh-daemon';
import { gate } from './helpers/gates';
import { any, closeAll, Counter, deferred, failure, node, type Node } from './helpers/nodes';
import { ALERT, kill, killAll, other, type Other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');
const counted = (count: number): Buffer[] => [Buffer.from(`${String(count)}:x`)];

/** Counts, and takes its time over its second event. */
class Slow extends Counter {
  readonly begun = deferred();
  readonly finish = deferred();

  override process(event: CausalEvent): Buffer {
    const output = super.process(event);
    if (this.seen !== 2) return output;
    this.begun.resolve();
    return any(this.finish.promise.then(() => output));
  }
}

interface Doubt extends Node {
  readonly there: Other;
  readonly origin: bigint;
  /** What became of calls that were handed over, or came behind the hand-over. */
  readonly handed: readonly Promise<unknown>[];
  /** What the move failed with. */
  readonly ended: Promise<unknown>;
}

/** A move to another process, up to `point` behind the hand-over; two events have run, and three go along. */
async function handedOver(
  point: (here: Node, there: Other) => Promise<{ reached: Promise<void> }>,
  options: DaemonRuntimeOptions = {},
): Promise<Doubt> {
  const here = await node(options, { mesh: ALERT });
  const there = await other([], { stays: true });
  await here.mesh.connect(there.addr);
  const daemon = new Slow();
  const { originHash: origin } = await here.rt.spawnWithDaemon(Identity.generate(), daemon, { kind: 'counter' });
  await here.rt.call(origin, payload);
  const running = here.rt.call(origin, payload);
  await daemon.begun.promise;
  const handed = Array.from({ length: 3 }, () => here.rt.call(origin, payload).catch((error: unknown) => error));
  const freeze = gate(here.rt, 'TakeSnapshot');
  const move = await here.rt.migrate(origin, there.id);
  const ended = move.wait().catch((error: unknown) => error);
  await freeze.reached;
  const { reached } = await point(here, there);
  freeze.open();
  daemon.finish.resolve();
  expect(await running).toEqual(counted(2));
  await reached;
  return { ...here, there, origin, handed, ended };
}

/** The target dies before it has gone live. */
async function targetDied(options: DaemonRuntimeOptions = {}): Promise<Doubt> {
  const moved = await handedOver((_, there) => there.hold('ActivateTarget'), options);
  await kill(moved.there);
  expect(await moved.ended).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  return moved;
}

const PEER_LOST = { code: 'ERR_DAEMON_PEER_LOST' };

test('rt.recover checks its argument, and says when there is nothing to recover', async () => {
  const { rt, mesh } = await node();
  for (const wrong of [undefined, null, 1, '1', -1n, 2n ** 64n]) {
    const error = await failure(rt.recover(any(wrong)));
    expect(error).toBeInstanceOf(DaemonError);
    expect(error.code).toBe('ERR_DAEMON_INVALID_ARGUMENT');
    expect(error.message).toMatch(/^originHash must be /);
  }
  expect(await failure(rt.recover(1n))).toMatchObject({
    code: 'ERR_DAEMON_NOT_FOUND',
    message: 'no move left a copy of daemon 1 here; one that died with its host lives on in snapshots only',
  });
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), new Counter());
  await expect(rt.recover(originHash)).resolves.toBeUndefined();
  await mesh.shutdown();
  expect(await failure(rt.recover(originHash))).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
});

test('rt.recover is refused before the runtime is ready, and while the target is in reach', async () => {
  const idle = await node({}, { start: false });
  expect(await failure(idle.rt.recover(1n))).toMatchObject({ code: 'ERR_DAEMON_NOT_READY' });
  const held = { open: (): void => undefined };
  const { rt, origin, there, handed, ended } = await handedOver((here) => {
    const ack = gate(here.rt, 'ActivateAck');
    held.open = ack.open;
    return Promise.resolve(ack);
  });
  const error = await failure(rt.recover(origin));
  expect(error).toBeInstanceOf(MigrationError);
  expect(error).toMatchObject({ kind: 'wrong-phase', outcome: 'unknown' });
  held.open();
  expect(await ended).toBeUndefined();
  const outputs = [3, 4, 5].map((count) => [Buffer.from(`${String(count)}:x:${String(there.child.pid)}`)]);
  expect(await Promise.all(handed)).toEqual(outputs);
});

test('the target is killed behind the hand-over: the move is in doubt, and calls say that the peer is lost', async () => {
  const { rt, origin, handed } = await targetDied();
  for (const error of await Promise.all(handed)) expect(error).toMatchObject({ ...PEER_LOST, executed: 'unknown' });
  expect(rt.migrations()).toMatchObject([{ originHash: origin, role: 'source', phase: 'cutover' }]);
  const late = [
    rt.call(origin, payload),
    rt.send(origin, payload),
    rt.deliver(origin, { originHash: 1n, sequence: 1n, payload }),
  ];
  for (const call of late.map(failure)) expect(await call).toMatchObject({ ...PEER_LOST, executed: 'no' });
});

test.each([true, false])(
  'in doubt, calls of a third node end, whether it knew the target (%s) or not; recovered, they are answered',
  async (knew) => {
    const third = await node({}, { mesh: ALERT });
    const { rt, mesh, origin, there } = await handedOver(async (here, there) => {
      await third.mesh.connect(here.mesh.localAddr());
      if (knew) await third.mesh.connect(there.addr);
      return there.hold('ActivateTarget');
    });
    await kill(there);
    await Promise.all([lost(mesh, there), lost(third.mesh, there)]);
    const deliver = third.rt.deliver(origin, { originHash: 1n, sequence: 1n, payload });
    const ends = [third.rt.call(origin, payload), third.rt.send(origin, payload), deliver];
    for (const end of ends.map(failure)) {
      // Whoever only asked is told that no living node knows of it.
      expect(['ERR_DAEMON_PEER_LOST', 'ERR_DAEMON_NOT_FOUND']).toContain((await end).code);
    }
    await rt.recover(origin);
    expect(await third.rt.call(origin, payload)).toEqual(counted(3));
  },
);

test('rt.recover brings a daemon back whole; what was handed over does not run', async () => {
  const { rt, id, origin, handed } = await targetDied();
  await Promise.all(handed);
  await rt.recover(origin);
  expect(rt.daemonCount()).toBe(1);
  expect(rt.migrations()).toEqual([]);
  expect(await rt.locate(origin)).toBe(id);
  expect(await rt.call(origin, payload)).toEqual(counted(3));
  await expect(rt.recover(origin)).resolves.toBeUndefined();
  expect(await rt.call(origin, payload)).toEqual(counted(4));
});

test('a daemon that was recovered moves on, with its key', async () => {
  const { rt, mesh, origin } = await targetDied();
  await rt.recover(origin);
  const next = await other();
  await mesh.connect(next.addr);
  await (await rt.migrate(origin, next.id)).wait();
  expect(String(await rt.call(origin, payload))).toBe(`3:x:${String(next.child.pid)}`);
});

test('recoverLost: the source takes the daemon over by itself', async () => {
  const recovered = deferred();
  const { rt, origin, handed } = await handedOver(
    (here, there) => {
      here.rt.on('migration', (event: MigrationEvent) => {
        if (event.type === 'failed' && event.role === 'source' && event.error.outcome === 'source') recovered.resolve();
      });
      return there.hold('ActivateTarget');
    },
    { recoverLost: true, silenceMs: 1_000 },
  ).then(async (moved) => {
    await kill(moved.there);
    return moved;
  });
  await recovered.promise;
  for (const error of await Promise.all(handed)) expect(error).toMatchObject({ ...PEER_LOST, executed: 'unknown' });
  expect(rt.daemonCount()).toBe(1);
  expect(await rt.call(origin, payload)).toEqual(counted(3));
});

test('hazard 69: a target that was only cut off and returns is fenced, and what it says is refused', async () => {
  const held = { open: (): void => undefined };
  const { rt, mesh, id, origin, there, handed, ended } = await handedOver((here) => {
    const ack = gate(here.rt, 'ActivateAck');
    held.open = ack.open;
    return Promise.resolve(ack);
  });
  await Promise.all(handed);
  there.child.kill('SIGSTOP');
  expect(await ended).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  await lost(mesh, there);
  await rt.recover(origin);
  // The word that it had gone live comes late: it is of a life that has ended.
  held.open();
  expect(await rt.call(origin, payload)).toEqual(counted(3));
  there.child.kill('SIGCONT');
  // Three events ran there. It does not know better yet.
  expect(await there.call(origin)).toBe(`6:x:${String(there.child.pid)}`);
  await mesh.connect(there.addr);
  expect([await there.said(), await there.said()].sort()).toEqual(['event fenced', 'onStop fenced']);
  expect(await there.call(origin)).toBe('4:x');
  expect(await rt.locate(origin)).toBe(id);
  expect(await rt.call(origin, payload)).toEqual(counted(5));
  expect(rt.daemonCount()).toBe(1);
});

test('hazard 69: copies on both sides of a partition, on nodes that only connected, are one when it heals', async () => {
  const { rt, mesh, id } = await node({ acceptMigrations: true, orchestrators: 'any' }, { mesh: ALERT });
  rt.registerFactory('counter', () => new Counter());
  const [there, beside] = await Promise.all([other([], { stays: true }), other([], { stays: true })]);
  await mesh.connect(there.addr);
  await mesh.connect(beside.addr);
  there.child.kill('SIGSTOP');
  await lost(mesh, there);
  const identity = Identity.generate();
  const origin = identity.originHash;
  await beside.spawn(identity);
  // It moves, so it is the later one of the two.
  await (await rt.migrate(origin, id)).wait();
  there.child.kill('SIGCONT');
  await there.spawn(identity);
  const pid = String(there.child.pid);
  expect(await there.call(origin)).toBe(`1:x:${pid}`);
  expect(await rt.call(origin, payload)).toEqual(counted(1));
  await mesh.connect(there.addr);
  expect([await there.said(), await there.said()].sort()).toEqual(['event fenced', 'onStop fenced']);
  expect(await there.call(origin)).toBe('2:x');
  expect(await beside.call(origin)).toBe('3:x');
  expect(await rt.call(origin, payload)).toEqual(counted(4));
  expect(rt.daemonCount()).toBe(1);
});

function lost(mesh: Node['mesh'], { id }: Other): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (mesh.peers().some((peer) => peer.nodeId === id && peer.state !== 'lost')) return;
      mesh.off('peer', look);
      resolve();
    };
    mesh.on('peer', look);
    look();
  });
}
