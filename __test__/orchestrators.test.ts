// Moves that another node drives, through the public API, and who may drive them.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  Identity,
  MigrationError,
  setLogger,
  type DaemonRuntimeOptions,
  type LogRecord,
  type MigrationEvent,
  type MigrationPhase,
} from 'mesh-daemon';
import { gate } from './helpers/gates';
import { any, bare, closeAll, Counter, deferred, failure, node, type Node } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');
const PHASES: MigrationPhase[] = ['snapshot', 'transfer', 'restore', 'replay', 'cutover', 'complete'];

/** Three nodes that are connected to one another; a counter lives on the first one, the second one accepts it. */
async function three(
  source: DaemonRuntimeOptions = {},
  target: DaemonRuntimeOptions = { acceptMigrations: true },
): Promise<{ a: Node; b: Node; c: Node; origin: bigint }> {
  const [a, b, c] = await Promise.all([node(source), node(target), node()]);
  for (const [one, other] of [
    [a, b],
    [a, c],
    [b, c],
  ] as const) {
    await one.mesh.connect(other.mesh.localAddr());
    await other.mesh.accept(one.id);
  }
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const { originHash } = await a.rt.spawn('counter', Identity.generate());
  await a.rt.call(originHash, payload);
  return { a, b, c, origin: originHash };
}

test('a third node drives: phases on its handle, parts and events of all three roles', async () => {
  const { a, b, c, origin } = await three({ orchestrators: 'any' });
  const events: [string, MigrationEvent][] = [];
  const told = deferred();
  for (const [name, { rt }] of Object.entries({ a, b, c })) {
    rt.on('migration', (event) => {
      if (events.push([name, event]) === 3 * PHASES.length) told.resolve();
    });
  }
  const arrivals: string[] = [];
  b.rt.on('daemon', ({ type }) => arrivals.push(type));
  const held = gate(c.rt, 'ReplayComplete');
  const move = await c.rt.startMigration(origin, a.id, b.id);
  expect([move.originHash, move.sourceNode, move.targetNode]).toEqual([origin, a.id, b.id]);
  const phases = (async () => {
    const all: MigrationPhase[] = [];
    for await (const phase of move.phases()) all.push(phase);
    return all;
  })();
  await held.reached;
  const part = { originHash: origin, sourceNode: a.id, targetNode: b.id, attempt: 1, phase: 'replay' };
  expect(a.rt.migrations()).toEqual([{ ...part, role: 'source' }]);
  expect(b.rt.migrations()).toEqual([{ ...part, role: 'target' }]);
  expect(c.rt.migrations()).toEqual([{ ...part, role: 'orchestrator' }]);
  expect([a, b, c].map(({ rt }) => rt.migrationPhase(origin))).toEqual(['replay', 'replay', 'replay']);
  held.open();
  await move.wait();
  expect(await phases).toEqual(PHASES);
  expect(await c.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  expect([a, b, c].map(({ rt }) => rt.daemonCount())).toEqual([0, 1, 0]);
  expect([a, b, c].flatMap(({ rt }) => rt.migrations())).toEqual([]);
  await told.promise;
  expect(arrivals).toEqual(['migrated-in']);
  for (const [name, role] of [
    ['a', 'source'],
    ['b', 'target'],
    ['c', 'orchestrator'],
  ]) {
    const own = events.filter(([of]) => of === name).map(([, event]) => event);
    expect(own.map((event) => [event.type, event.role, event.phase])).toEqual(
      PHASES.map((phase) => ['phase', role, phase]),
    );
  }
});

test('migrate finds the daemon and moves it from wherever it is; the target may pull it', async () => {
  const { a, b, c, origin } = await three(
    { orchestrators: 'any', acceptMigrations: true },
    {
      orchestrators: 'any',
      acceptMigrations: true,
    },
  );
  const there = await c.rt.migrate(origin, b.id);
  expect(there.sourceNode).toBe(a.id);
  await there.wait();
  const back = await a.rt.migrate(origin, a.id);
  expect(back.sourceNode).toBe(b.id);
  await back.wait();
  expect(await c.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  expect(a.rt.daemonCount()).toBe(1);
  // To where it lives already: complete, without a freeze.
  await (await c.rt.migrate(origin, a.id)).wait();
  expect(await failure(c.rt.migrate(7n, a.id))).toMatchObject({ kind: 'daemon-not-found', originHash: 7n });
  expect(await failure(c.rt.startMigration(origin, 42n, a.id))).toMatchObject({ kind: 'daemon-not-found' });
  expect(await failure(c.rt.startMigration(origin, a.id, 42n))).toMatchObject({ kind: 'target-unavailable' });
  const gone = await c.rt.startMigration(origin, b.id, a.id);
  expect(await failure(gone.wait())).toMatchObject({ kind: 'daemon-not-found', outcome: 'unknown' });
});

test('hazard 33: by default only the source itself may move its daemons', async () => {
  const { a, b, c, origin } = await three();
  for (const driver of [c, b]) {
    const refused = await driver.rt.startMigration(origin, a.id, b.id);
    expect(await failure(refused.wait())).toMatchObject({
      code: 'ERR_MIGRATION_NOT_AUTHORIZED',
      kind: 'not-authorized',
      outcome: 'source',
    });
  }
  await (await a.rt.migrate(origin, b.id)).wait();
});

test('orchestrators: a list, and a predicate that is asked with the node id', async () => {
  const asked: bigint[] = [];
  const { a, b, c, origin } = await three({
    orchestrators: (nodeId) => {
      asked.push(nodeId);
      return nodeId !== b.id;
    },
  });
  expect(await failure((await b.rt.startMigration(origin, a.id, b.id)).wait())).toMatchObject({
    kind: 'not-authorized',
  });
  expect(asked).toEqual([b.id]);
  await (await c.rt.startMigration(origin, a.id, b.id)).wait();
  expect(new Set(asked)).toEqual(new Set([b.id, c.id]));
  await closeAll();

  const listed = await three({ orchestrators: [] });
  expect(await failure((await listed.c.rt.migrate(listed.origin, listed.b.id)).wait())).toMatchObject({
    kind: 'not-authorized',
  });
  const throws = await three({
    orchestrators: () => {
      throw new Error('no');
    },
  });
  expect(await failure((await throws.c.rt.migrate(throws.origin, throws.b.id)).wait())).toMatchObject({
    kind: 'not-authorized',
  });
  await expect(node({ orchestrators: any(['x']) })).rejects.toMatchObject({
    message: expect.stringMatching(/^options\.orchestrators\[0\] must be a bigint/) as unknown,
  });
});

test('acceptMigrations is told who drives; a bound orchestrator alone brings the daemon (hazard 8, requirement 74)', async () => {
  const requests: bigint[] = [];
  const open = await three(
    { orchestrators: 'any' },
    {
      acceptMigrations: (request) => {
        requests.push(request.orchestrator);
        return Promise.resolve(request.sourceNode !== request.orchestrator);
      },
    },
  );
  await (await open.c.rt.startMigration(open.origin, open.a.id, open.b.id)).wait();
  expect(requests).toEqual([open.c.id]);
  await closeAll();

  const { a, b, c, origin } = await three({ orchestrators: 'any' }, {});
  expect(b.rt.bindExpectedOrchestrator(origin, c.id)).toBe(false);
  b.rt.expectMigration('counter', origin);
  expect(b.rt.bindExpectedOrchestrator(origin, c.id)).toBe(true);
  expect(b.rt.bindExpectedOrchestrator(origin, a.id)).toBe(false);
  for (const driver of [a, b]) {
    const refused = await driver.rt.startMigration(origin, a.id, b.id);
    expect(await failure(refused.wait())).toMatchObject({ kind: 'wrong-peer', outcome: 'source' });
  }
  await (await c.rt.startMigration(origin, a.id, b.id)).wait();
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
});

test('requirement 49: a third node brings a daemon without its key to a target that has it', async () => {
  const [a, b, c] = await Promise.all([node({ orchestrators: 'any' }), node(), node()]);
  await c.mesh.connect(a.mesh.localAddr());
  await c.mesh.connect(b.mesh.localAddr());
  await a.mesh.connect(b.mesh.localAddr());
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  await a.rt.spawn('counter', identity);
  b.rt.registerMigrationTargetIdentity('counter', identity);
  const { originHash } = identity;
  await (await c.rt.startMigrationWith(originHash, a.id, b.id, { transportIdentity: false })).wait();
  expect(await c.rt.call(originHash, payload)).toEqual([Buffer.from('1:x')]);
});

test('a third node cancels, and its driving ends with the source resumed', async () => {
  const { a, b, c, origin } = await three({ orchestrators: 'any' });
  const held = gate(b.rt, 'Reserve');
  const move = await c.rt.startMigration(origin, a.id, b.id);
  await held.reached;
  await move.cancel();
  expect(await failure(move.wait())).toMatchObject({ kind: 'cancelled', outcome: 'source' });
  held.open();
  expect(await c.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  expect([a, b].flatMap(({ rt }) => rt.migrations())).toEqual([]);
  await (await c.rt.startMigration(origin, a.id, b.id)).wait();
});

test('a cancel that the loss of the source overtakes tells of that, and of no hand-over', async () => {
  const { a, b, c, origin } = await three({ orchestrators: 'any' });
  const held = gate(b.rt, 'Reserve');
  const cancelled = gate(a.rt, 'Cancel');
  const move = await c.rt.startMigration(origin, a.id, b.id);
  const waiting = failure(move.wait());
  // Before the source has begun nothing is to be undone there.
  await held.reached;
  const cancelling = failure(move.cancel());
  await cancelled.reached;
  await a.mesh.shutdown();
  const error = await cancelling;
  expect(error).toBeInstanceOf(MigrationError);
  const { kind, outcome, message } = await waiting;
  expect(error).toMatchObject({ kind, outcome, message });
  expect([kind, outcome]).not.toEqual(['wrong-phase', 'target']);
  expect(['unknown', 'lost']).toContain(outcome);
});

// Its own handlers cannot be missing here: what can be is the runtime, and that is told to whoever asks, their log, and those
// who listen to their runtime.
test('requirement 66: a source without a runtime says that it knows no daemon, and the driver is told aloud', async () => {
  const [target, driver, mesh] = await Promise.all([node({ acceptMigrations: true }), node(), bare()]);
  await driver.mesh.connect(target.mesh.localAddr());
  await driver.mesh.connect(mesh.localAddr());
  const heard: MigrationEvent[] = [];
  driver.rt.on('migration', (event) => heard.push(event));
  const told = new Promise<LogRecord>((resolve) => {
    const logger = (record: LogRecord): void => {
      if (record.message === 'migration failed') resolve(record);
    };
    setLogger(logger, { level: 'debug' });
  });
  try {
    const move = await driver.rt.startMigration(5n, mesh.nodeId(), target.id);
    const error = await failure(move.wait());
    expect(error).toMatchObject({
      kind: 'daemon-not-found',
      code: 'ERR_MIGRATION_DAEMON_NOT_FOUND',
      originHash: 5n,
      outcome: 'unknown',
    });
    const part = { originHash: 5n, role: 'orchestrator', sourceNode: mesh.nodeId(), targetNode: target.id };
    expect(heard).toMatchObject([{ ...part, type: 'failed', error: { kind: 'daemon-not-found' } }]);
    expect((await told).fields).toMatchObject({ source: String(mesh.nodeId()), failure: error.message });
  } finally {
    setLogger(null);
  }
});

test('moves are published on the diagnostics channel while somebody listens', async () => {
  const { a, b, c, origin } = await three({ orchestrators: 'any', acceptMigrations: true });
  const heard: unknown[] = [];
  const all = deferred();
  const listen = (message: unknown): void => {
    if (heard.push(message) === 3 * PHASES.length) all.resolve();
  };
  const name = 'mesh-daemon:migration';
  subscribe(name, listen);
  await (await c.rt.startMigration(origin, a.id, b.id)).wait();
  await all.promise;
  unsubscribe(name, listen);
  const part = { type: 'phase', originHash: origin, sourceNode: a.id, targetNode: b.id, attempt: 1, phase: 'cutover' };
  expect(heard).toContainEqual({ ...part, nodeId: a.id, role: 'source' });
  expect(heard).toContainEqual({ ...part, nodeId: b.id, role: 'target' });
  expect(heard).toContainEqual({ ...part, nodeId: c.id, role: 'orchestrator' });
  await (await b.rt.migrate(origin, a.id)).wait();
  expect(heard).toHaveLength(3 * PHASES.length);
});

describe('drain', () => {
  test('moves all daemons to nodes that host their kind, and refuses spawns meanwhile', async () => {
    const { a, b, c, origin } = await three();
    const more = await Promise.all([1, 2, 3].map(() => a.rt.spawn('counter', Identity.generate())));
    const origins = [origin, ...more.map(({ originHash }) => originHash)];
    const held = gate(b.rt, 'Reserve');
    const drained = a.rt.drain({ timeoutMs: 60_000 });
    await held.reached;
    expect(await failure(a.rt.spawn('counter', Identity.generate()))).toMatchObject({
      code: 'ERR_DAEMON_SHUTTING_DOWN',
    });
    held.open();
    const reports = await drained;
    const sorted = (all: readonly bigint[]): bigint[] => [...all].sort((x, y) => (x < y ? -1 : 1));
    expect(sorted(reports.map(({ originHash }) => originHash))).toEqual(sorted(origins));
    for (const report of reports) expect(report).toMatchObject({ outcome: 'target', targetNode: b.id });
    expect([a, b, c].map(({ rt }) => rt.daemonCount())).toEqual([0, 4, 0]);
    expect(await c.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
    await a.rt.spawn('counter', Identity.generate());
    // Nobody is open to what lives here now, as the first node accepts nothing.
    const error = expect.objectContaining({ kind: 'factory-not-found', outcome: 'source' }) as MigrationError;
    expect(await b.rt.drain()).toEqual(
      reports.map(({ originHash }) => ({ originHash, outcome: 'source' as const, error })).sort(byOrigin),
    );
    expect(await c.rt.drain()).toEqual([]);
  });

  test('a daemon that cannot move stays; limits are checked; before start and after shutdown it rejects', async () => {
    const { rt } = await node();
    const { originHash } = await rt.spawnWithDaemon(Identity.generate(), { process: () => payload });
    expect(await rt.drain()).toMatchObject([{ originHash, outcome: 'source', error: { kind: 'factory-not-found' } }]);
    expect(await failure(rt.drain({ timeoutMs: -1 }))).toMatchObject({
      code: 'ERR_DAEMON_INVALID_ARGUMENT',
      message: expect.stringMatching(/^options\.timeoutMs must be non-negative/) as unknown,
    });
    expect(await failure((await node({}, { start: false })).rt.drain())).toMatchObject({
      code: 'ERR_DAEMON_NOT_READY',
    });
    await rt.shutdown();
    expect(await failure(rt.drain())).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  });

  test('time limit and signal give up what is under way', async () => {
    const { a, b, origin } = await three();
    gate(b.rt, 'Reserve');
    expect(await a.rt.drain({ timeoutMs: 200 })).toMatchObject([
      { originHash: origin, outcome: 'source', error: { kind: 'timeout' } },
    ]);
    const stop = new AbortController();
    const reason = new Error('enough');
    const drained = a.rt.drain({ signal: stop.signal });
    stop.abort(reason);
    expect(await failure(drained)).toBe(reason);
    expect(await failure(a.rt.drain({ signal: stop.signal }))).toBe(reason);
    expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  });
});

function byOrigin(one: { originHash: bigint }, other: { originHash: bigint }): number {
  return one.originHash < other.originHash ? -1 : 1;
}
