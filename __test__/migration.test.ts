// Moves through the public API (hazards 21 to 40 as far as JavaScript sees them).

import { inspect } from 'node:util';
import { DaemonError, Identity, MigrationError } from 'mesh-daemon';
import type { CausalEvent, MigrationEvent, MigrationHandle, MigrationPhase, MigrationProgress } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { any, bare, closeAll, Counter, deferred, failure, node, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');
const PHASES: MigrationPhase[] = ['snapshot', 'transfer', 'restore', 'replay', 'cutover', 'complete'];

async function read<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of iterable) all.push(one);
  return all;
}

async function counterOn({ rt }: Node): Promise<{ counter: Counter; origin: bigint }> {
  const counter = new Counter();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), counter, { kind: 'counter' });
  return { counter, origin: originHash };
}

async function movable(): Promise<{ a: Node; b: Node; origin: bigint }> {
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const { origin } = await counterOn(a);
  await a.rt.call(origin, payload);
  return { a, b, origin };
}

/** The daemon lives on the source and can still move. */
async function unharmed(a: Node, b: Node, origin: bigint, seen: number): Promise<void> {
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from(`${String(seen)}:x`)]);
  await (await a.rt.migrate(origin, b.id)).wait();
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from(`${String(seen + 1)}:x`)]);
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([0, 1]);
}

test('requirements 35 and 46: a daemon moves with its state, calls follow it, each phase comes once and in order (requirement 133)', async () => {
  const { a, b, origin } = await movable();
  const events: MigrationEvent[] = [];
  a.rt.on('migration', (event) => events.push(event));
  const move = await a.rt.migrate(origin, b.id);
  expect([move.originHash, move.sourceNode, move.targetNode]).toEqual([origin, a.id, b.id]);
  expect('then' in move).toBe(false);
  const [phases] = await Promise.all([read(move.phases()), move.wait()]);
  expect(phases).toEqual(PHASES);
  expect(move.phase()).toBeNull();
  expect(inspect(move)).toMatch(/^MigrationHandle \{[^]*phase: null/);
  await move.wait();
  expect(await read(move.phases())).toEqual([]);
  expect(await read(move.progress())).toEqual([]);
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([0, 1]);
  expect(a.rt.migrations()).toEqual([]);
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  expect(await b.rt.call(origin, payload)).toEqual([Buffer.from('3:x')]);
  expect(events.some(({ role }) => role === 'source')).toBe(true);
});

test('progress rises more than twice while 64 MiB move, and the state arrives whole', async () => {
  const [a, b] = await pair();
  const size = 64 * 1024 * 1024;
  let arrived: Buffer | undefined;
  b.rt.registerFactory('big', () => ({
    process: () => payload,
    restore: (state) => {
      arrived = state;
    },
  }));
  const state = Buffer.alloc(size, 'abcdefg');
  const daemon = { process: () => payload, snapshot: () => state };
  const handle = await a.rt.spawnWithDaemon(Identity.generate(), daemon, { kind: 'big' });
  const move = await a.rt.migrate(handle.originHash, b.id);
  const [progress] = await Promise.all([read(move.progress()), move.wait()]);
  const sent = progress.map((one: MigrationProgress) => one.bytesSent);
  expect(new Set(sent).size).toBeGreaterThan(3);
  expect(sent).toEqual([...sent].sort((x, y) => (x < y ? -1 : 1)));
  expect(progress.at(-1)?.bytesTotal).toBeGreaterThanOrEqual(BigInt(size));
  expect(arrived?.equals(state)).toBe(true);
});

test('hazard 21: events of several senders that come during the move all run, each in order', async () => {
  const [a, b] = await pair();
  const seen: string[] = [];
  const make = () => ({
    process(event: CausalEvent) {
      seen.push(`${String(event.originHash)}:${event.payload.toString()}`);
    },
    snapshot: () => Buffer.alloc(200_000),
    restore: () => undefined,
  });
  b.rt.registerFactory('log', make);
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), make(), { kind: 'log' });
  const move = await a.rt.migrate(originHash, b.id);
  const sends: Promise<unknown>[] = [];
  let over = false;
  const sending = [a, b].map(async ({ rt }) => {
    for (let index = 0; index < 300 || !over; index += 1) {
      sends.push(rt.send(originHash, Buffer.from(String(index))));
      if (index % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  });
  await move.wait();
  over = true;
  await Promise.all(sending);
  await Promise.all(sends);
  await a.rt.call(originHash, Buffer.from('end'));
  await b.rt.call(originHash, Buffer.from('end'));
  for (const sender of [a, b]) {
    const prefix = `${String(Identity.publicOnly(sender.mesh.entityId()).originHash)}:`;
    const mine = seen.filter((one) => one.startsWith(prefix)).map((one) => one.slice(prefix.length));
    expect(mine).toEqual([...Array.from({ length: mine.length - 1 }, (_, index) => String(index)), 'end']);
  }
  expect(seen).toHaveLength(sends.length + 2);
});

test('hazard 38: to itself is a completed handle; A to B and back a hundred times under load is exact', async () => {
  const { a, b, origin } = await movable();
  const still = await a.rt.migrate(origin, a.id);
  await still.wait();
  expect(await failure(a.rt.migrate(77n, a.id))).toMatchObject({ kind: 'daemon-not-found' });
  let calls = 1;
  const state = { stop: false };
  const load = (async () => {
    while (!state.stop) {
      calls += 1;
      expect(await b.rt.call(origin, payload)).toEqual([Buffer.from(`${String(calls)}:x`)]);
    }
  })();
  let [from, to] = [a, b];
  for (let round = 0; round < 100; round += 1) {
    if (from === b) await expectFrom(from, to, origin);
    else await (await from.rt.migrate(origin, to.id)).wait();
    [from, to] = [to, from];
  }
  state.stop = true;
  await load;
  const [last] = await a.rt.deliverCausal(origin, { originHash: 1n, sequence: 1n, payload });
  expect(last?.sequence).toBe(BigInt(calls + 1));
}, 60_000);

// The first node of a pair does not accept strangers, so the way back is announced.
async function expectFrom(from: Node, to: Node, origin: bigint): Promise<void> {
  to.rt.expectMigration('counter', origin);
  await (await from.rt.migrate(origin, to.id)).wait();
}

describe('what is refused, and how (hazards 26, 27, 30, 38, 39)', () => {
  test('before start: not-ready; unknown daemon; unknown target at once (requirements 34, 36 and 131)', async () => {
    const early = await node({}, { start: false });
    expect(await failure(early.rt.migrate(1n, 2n))).toMatchObject({ kind: 'not-ready' });
    const { a, b, origin } = await movable();
    const unknown = await failure(a.rt.migrate(123n, b.id));
    expect(unknown).toBeInstanceOf(MigrationError);
    expect(unknown).toBeInstanceOf(DaemonError);
    expect(unknown).toMatchObject({ kind: 'daemon-not-found', code: 'ERR_MIGRATION_DAEMON_NOT_FOUND' });
    expect(await failure(a.rt.startMigration(origin, a.id, 42n))).toMatchObject({
      kind: 'target-unavailable',
      code: 'ERR_MIGRATION_TARGET_UNAVAILABLE',
      nodeId: 42n,
      outcome: 'source',
    });
    await unharmed(a, b, origin, 2);
  });

  test('a node without a runtime: compute-not-supported (requirement 43)', async () => {
    const { a, origin } = await movable();
    const plain = await bare();
    await a.mesh.connect(plain.localAddr());
    const move = await a.rt.migrate(origin, plain.nodeId());
    expect(await failure(move.wait())).toMatchObject({ kind: 'compute-not-supported', outcome: 'source' });
    expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  });

  test('neither announced nor accepted, or without a factory: factory-not-found (requirements 38, 131 and 133)', async () => {
    const [a, b] = await pair({}, { acceptMigrations: false });
    const { origin } = await counterOn(a);
    const first = await a.rt.migrate(origin, b.id);
    const [phases, refused] = await Promise.all([read(first.phases()), failure(first.wait())]);
    expect(refused).toMatchObject({ kind: 'factory-not-found', outcome: 'source' });
    expect(phases).toEqual([]);
    expect(await read(first.phases())).toEqual([]);
    b.rt.registerFactory('counter', () => new Counter());
    const second = await a.rt.migrate(origin, b.id);
    expect(await failure(second.wait())).toMatchObject({ kind: 'factory-not-found' });
    b.rt.expectMigration('counter', origin);
    await (await a.rt.migrate(origin, b.id)).wait();
    expect(b.rt.daemonCount()).toBe(1);
  });

  test('an instance without a kind cannot move', async () => {
    const [a, b] = await pair();
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), { process: () => payload });
    expect(await failure(a.rt.migrate(originHash, b.id))).toMatchObject({ kind: 'factory-not-found' });
  });

  test('a target that is not ready is asked until it is; with retries off or used up it is an error (requirements 39, 40, 44)', async () => {
    const a = await node();
    const b = await node({ acceptMigrations: true }, { start: false });
    await a.mesh.connect(b.mesh.localAddr());
    b.rt.registerFactory('counter', () => new Counter());
    const { origin } = await counterOn(a);
    const once = await a.rt.migrate(origin, b.id, { retryNotReadyMs: 0 });
    expect(await failure(once.wait())).toMatchObject({ kind: 'not-ready', outcome: 'source' });
    const short = await a.rt.migrate(origin, b.id, { retryNotReadyMs: 50n });
    const error = await failure(short.wait());
    expect(error).toMatchObject({ kind: 'not-ready-timeout', outcome: 'source' });
    expect(error.attempts).toBeGreaterThanOrEqual(1);
    const patient = await a.rt.migrate(origin, b.id);
    expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('1:x')]);
    b.rt.start();
    await patient.wait();
    expect(b.rt.daemonCount()).toBe(1);
  });

  test('restore or the factory throws there: state-failed with the text; a good one succeeds after (requirement 131)', async () => {
    const [a, b] = await pair();
    let broken: 'factory' | 'restore' | null = 'restore';
    b.rt.registerFactory('counter', () => {
      if (broken === 'factory') throw new Error('no counter today');
      const counter = new Counter();
      if (broken === 'restore') counter.restore = () => Promise.reject(new Error('cannot read this')) as never;
      return counter;
    });
    const { origin } = await counterOn(a);
    const first = await a.rt.migrate(origin, b.id);
    expect(await failure(first.wait())).toMatchObject({
      kind: 'state-failed',
      outcome: 'source',
      detail: expect.stringContaining('cannot read this') as unknown,
    });
    broken = 'factory';
    const second = await a.rt.migrate(origin, b.id);
    expect(await failure(second.wait())).toMatchObject({
      kind: 'state-failed',
      detail: expect.stringContaining('no counter today') as unknown,
    });
    broken = null;
    await unharmed(a, b, origin, 1);
  });

  test('hazards 31 and 70: snapshot throws, returns garbage, or its Buffer is taken away: state-failed, the daemon runs on', async () => {
    const [a, b] = await pair();
    const big = Buffer.from(new ArrayBuffer(8 * 1024 * 1024));
    const snapshots: (() => unknown)[] = [
      () => {
        throw new Error('no state');
      },
      () => 'text',
      () => {
        setImmediate(() => structuredClone(big.buffer, { transfer: [big.buffer] }));
        return big;
      },
    ];
    b.rt.registerFactory('odd', () => new Counter());
    for (const snapshot of snapshots) {
      const { originHash } = await a.rt.spawnWithDaemon(
        Identity.generate(),
        { process: () => payload, snapshot: () => any(snapshot()) },
        { kind: 'odd' },
      );
      const move = await a.rt.migrate(originHash, b.id);
      expect(await failure(move.wait())).toMatchObject({ kind: 'state-failed', outcome: 'source' });
      expect(await a.rt.call(originHash, payload)).toEqual([payload]);
      expect(await failure(a.rt.snapshot(originHash))).toMatchObject({ code: 'ERR_DAEMON_SNAPSHOT_FAILED' });
    }
  });

  test('a state beyond the budget: snapshot-too-large with the numbers', async () => {
    const [a, b] = await pair({}, { arrivalBudgetBytes: 1_000_000 });
    b.rt.registerFactory('big', () => new Counter());
    const daemon = { process: () => payload, snapshot: () => Buffer.alloc(2_000_000) };
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), daemon, { kind: 'big' });
    const error = await failure((await a.rt.migrate(originHash, b.id)).wait());
    expect(error).toMatchObject({ kind: 'snapshot-too-large', max: 1_000_000n, outcome: 'source' });
    expect(error.size).toBeGreaterThan(2_000_000n);
    expect(await a.rt.call(originHash, payload)).toEqual([payload]);
  });

  test('the policy is asked, and says no, yes, later, or throws', async () => {
    const asked: unknown[] = [];
    let answer: () => boolean | Promise<boolean> = () => false;
    const [a, b] = await pair(
      {},
      {
        acceptMigrations: (request) => {
          asked.push(request);
          return answer();
        },
      },
    );
    b.rt.registerFactory('counter', () => new Counter());
    const { origin } = await counterOn(a);
    const refuse = async (): Promise<void> => {
      const move = await a.rt.migrate(origin, b.id);
      expect(await failure(move.wait())).toMatchObject({ kind: 'factory-not-found' });
    };
    await refuse();
    answer = () => {
      throw new Error('policy');
    };
    await refuse();
    answer = () => Promise.reject(new Error('policy'));
    await refuse();
    answer = () => Promise.resolve(true);
    await (await a.rt.migrate(origin, b.id)).wait();
    expect(asked).toHaveLength(4);
    expect(asked[0]).toMatchObject({ originHash: origin, kind: 'counter', sourceNode: a.id, orchestrator: a.id });
  });

  test('a policy that refuses large states refuses one whose size was not known when it was first asked', async () => {
    const sizes: bigint[] = [];
    const [a, b] = await pair(
      {},
      {
        acceptMigrations: ({ stateBytes }) => {
          sizes.push(stateBytes);
          return stateBytes <= 1_000_000n;
        },
      },
    );
    b.rt.registerFactory('counter', () => new Counter());
    const daemon = { process: () => payload, snapshot: () => Buffer.alloc(2_000_000) };
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), daemon, { kind: 'counter' });
    const error = await failure((await a.rt.migrate(originHash, b.id)).wait());
    expect(error).toMatchObject({ kind: 'factory-not-found', outcome: 'source' });
    expect(sizes).toEqual([0n, expect.any(BigInt)]);
    expect(sizes[1]).toBeGreaterThan(2_000_000n);
    expect(await a.rt.call(originHash, payload)).toEqual([payload]);
  });

  test('two at once: one wins, the other is already-migrating', async () => {
    const { a, b, origin } = await movable();
    const results = await Promise.allSettled([a.rt.migrate(origin, b.id), a.rt.migrate(origin, b.id)]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const refused = results.find((one) => one.status === 'rejected');
    expect(refused?.reason).toMatchObject({ kind: 'already-migrating' });
    const won = results.find((one): one is PromiseFulfilledResult<MigrationHandle> => one.status === 'fulfilled');
    await won?.value.wait();
  });
});

describe('held at a message by a gate (hazards 24, 25, 28, 29)', () => {
  // Message, on whose node it is held, and whether the daemon is still the source's to keep then.
  const before: [string, 'a' | 'b'][] = [
    ['Prepare', 'b'],
    ['Prepared', 'a'],
    ['TakeSnapshot', 'a'],
    ['Reserve', 'b'],
    ['Reserved', 'a'],
    ['SnapshotReady', 'b'],
    ['RestoreComplete', 'a'],
    ['ReplayComplete', 'a'],
    ['CutoverNotify', 'a'],
  ];

  // Sessions and a node's own queue keep their order, and a gate does not: a cancel would overtake these two.
  const inOrder = before.filter(([message]) => message !== 'Prepare' && message !== 'TakeSnapshot');

  test.each(inOrder)(
    'cancel at %s: the daemon stays, the iterators end, and it can move after',
    async (message, where) => {
      const { a, b, origin } = await movable();
      const held = gate(where === 'a' ? a.rt : b.rt, message);
      const move = await a.rt.migrate(origin, b.id);
      const phases = read(move.phases());
      await held.reached;
      await move.cancel();
      expect(await failure(move.wait())).toMatchObject({ kind: 'cancelled', outcome: 'source' });
      expect(PHASES.join()).toContain((await phases).join());
      expect(move.phase()).toBeNull();
      held.open();
      await unharmed(a, b, origin, 2);
    },
  );

  test.each(inOrder)('timeout at %s: given up everywhere', async (message, where) => {
    const { a, b, origin } = await movable();
    const held = gate(where === 'a' ? a.rt : b.rt, message);
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    expect(await failure(move.waitWithTimeout(10n))).toMatchObject({ kind: 'timeout', outcome: 'source' });
    held.open();
    await unharmed(a, b, origin, 2);
  });

  const driven = before.filter(([message]) => message !== 'TakeSnapshot');

  test.each(driven)('target lost at %s: the source goes on', async (message, where) => {
    const { a, b, origin } = await movable();
    const held = gate(where === 'a' ? a.rt : b.rt, message);
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    await b.mesh.shutdown();
    const error = await failure(move.wait());
    expect(error).toMatchObject({ outcome: 'source' });
    expect(['peer-lost', 'cancelled', 'compute-not-supported']).toContain(error.kind);
    expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  });

  test('cancel behind the hand-over is wrong-phase, and so is cancel of what is over', async () => {
    const { a, b, origin } = await movable();
    const held = gate(b.rt, 'ActivateTarget');
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    const cancel = failure(move.cancel());
    held.open();
    expect(await cancel).toMatchObject({ kind: 'wrong-phase' });
    await move.wait();
    expect(await failure(move.cancel())).toMatchObject({ kind: 'wrong-phase', outcome: 'target' });
    expect(b.rt.daemonCount()).toBe(1);
  });

  test('a wait can be aborted by a signal, and the move goes on', async () => {
    const { a, b, origin } = await movable();
    const held = gate(b.rt, 'Reserve');
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    const reason = new Error('enough');
    expect(await failure(move.wait({ signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(a.rt.migrations()).toContainEqual(
      expect.objectContaining({ originHash: origin, role: 'orchestrator', sourceNode: a.id, targetNode: b.id }),
    );
    expect(a.rt.migrationPhase(origin)).not.toBeNull();
    held.open();
    await move.wait();
    expect(a.rt.migrationPhase(origin)).toBeNull();
  });

  test('a late phases() begins at the present phase', async () => {
    const { a, b, origin } = await movable();
    const held = gate(b.rt, 'ActivateTarget');
    const move = await a.rt.migrate(origin, b.id);
    for await (const phase of move.phases()) if (phase === 'cutover') break;
    const late = read(move.phases());
    held.open();
    await move.wait();
    expect(await late).toEqual(['cutover', 'complete']);
  });

  test('shutdown of the source runtime in the middle ends the move for its waiters', async () => {
    const { a, b, origin } = await movable();
    const held = gate(b.rt, 'Reserve');
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    const waiting = failure(move.wait());
    const told: MigrationEvent[] = [];
    a.rt.on('migration', (event) => told.push(event));
    await a.rt.shutdown();
    const error = await waiting;
    expect(error).toBeInstanceOf(MigrationError);
    expect(error).toMatchObject({ kind: 'cancelled', outcome: 'lost' });
    expect(told).toContainEqual(
      expect.objectContaining({
        type: 'failed',
        role: 'source',
        error: expect.objectContaining({ outcome: 'lost' }) as unknown,
      }),
    );
  });

  test('shutdown of the source runtime behind the decision cannot say where the daemon is', async () => {
    const { a, b, origin } = await movable();
    const held = gate(a.rt, 'ActivateAck');
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    const waiting = failure(move.wait());
    await a.rt.shutdown();
    expect(await waiting).toMatchObject({ kind: 'cancelled', outcome: 'unknown' });
    expect(await b.rt.call(origin, payload)).toHaveLength(1);
  });

  test('whoever listens on the target hears that a move was called off', async () => {
    const { a, b, origin } = await movable();
    const told: MigrationEvent[] = [];
    const over = new Promise<MigrationEvent>((resolve) => {
      b.rt.on('migration', (event) => {
        told.push(event);
        if (event.type === 'failed') resolve(event);
      });
    });
    const held = gate(a.rt, 'Reserved');
    const move = await a.rt.migrate(origin, b.id);
    await held.reached;
    await move.cancel();
    expect(await over).toMatchObject({
      role: 'target',
      originHash: origin,
      phase: 'transfer',
      error: expect.objectContaining({ kind: 'cancelled', outcome: 'source' }) as unknown,
    });
    expect(told.map(({ type }) => type)).toEqual(['phase', 'phase', 'failed']);
  });
});

test('hazard 57: a process that never settles, or waits for its own move, undoes the freeze', async () => {
  const [a, b] = await pair({ freezeTimeoutMs: 50 });
  b.rt.registerFactory('counter', () => new Counter());
  const release = deferred();
  const stuck = await a.rt.spawnWithDaemon(
    Identity.generate(),
    { process: () => release.promise },
    { kind: 'counter' },
  );
  const call = stuck.call(payload);
  const move = await a.rt.migrate(stuck.originHash, b.id);
  expect(await failure(move.wait())).toMatchObject({ kind: 'timeout', outcome: 'source' });
  release.resolve();
  await call;

  const identity = Identity.generate();
  const self = await a.rt.spawnWithDaemon(
    identity,
    {
      async process() {
        const own = await a.rt.migrate(identity.originHash, b.id);
        return Buffer.from(String((await failure(own.wait())).kind));
      },
    },
    { kind: 'counter' },
  );
  expect(await self.call(payload)).toEqual([Buffer.from('timeout')]);
});

test('requirement 37: without transport of the key, the target must have it', async () => {
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  await a.rt.spawn('counter', identity);
  b.rt.registerMigrationTargetIdentity('counter', identity);
  await (await a.rt.startMigrationWith(identity.originHash, a.id, b.id, { transportIdentity: false })).wait();
  expect(await a.rt.call(identity.originHash, payload)).toEqual([Buffer.from('1:x')]);
});
