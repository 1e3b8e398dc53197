// onStop: for which objects it runs, and what becomes of its failures.

import { DaemonRuntime, Identity, setLogger, type LogRecord } from 'mesh-daemon';
import type { CausalEvent, MeshDaemon } from 'mesh-daemon';
import { closeAll, deferred, failure, node, pair } from './helpers/nodes';

afterEach(async () => {
  setLogger(null);
  await closeAll();
});

const payload = Buffer.from('x');

test('a failure of onStop is logged at warn with the origin, and stop resolves', async () => {
  const { rt } = await node();
  const lines: LogRecord[] = [];
  let arrived = deferred();
  setLogger(
    (line) => {
      if (line.message !== 'onStop failed') return;
      lines.push(line);
      arrived.resolve();
    },
    { level: 'warn' },
  );
  for (const [text, onStop] of [
    [
      'thrown',
      () => {
        throw new TypeError('thrown');
      },
    ],
    ['rejected', () => Promise.reject(new TypeError('rejected'))],
  ] as [string, () => never][]) {
    arrived = deferred();
    const handle = await rt.spawnWithDaemon(Identity.generate(), { process: () => payload, onStop });
    await handle.stop();
    await arrived.promise;
    expect(lines.pop()).toMatchObject({
      level: 'warn',
      target: 'mesh_daemon::daemon',
      fields: {
        origin: String(handle.originHash),
        reason: 'stopped',
        error: `TypeError: ${text}`,
      },
    });
  }
  expect(rt.daemonCount()).toBe(0);
});

/** A daemon that notes what becomes of it. */
function noting(told: string[], restore: () => void | Promise<void>): MeshDaemon {
  return {
    process: () => payload,
    snapshot: () => payload,
    restore,
    onStop: (reason) => {
      told.push(reason);
    },
  };
}

test('onStop does not run for an object whose state could not be restored, spawned or arrived', async () => {
  const told: string[] = [];
  const fail = (): never => {
    throw new Error('cannot read this');
  };
  const [a, b] = await pair();
  const identity = Identity.generate();
  const good = await a.rt.spawnWithDaemon(
    identity,
    noting(told, () => undefined),
    { kind: 'noting' },
  );
  const snapshot = (await good.snapshot())!;
  b.rt.registerFactory('noting', () => noting(told, fail));
  const move = await a.rt.migrate(identity.originHash, b.id);
  expect(await failure(move.wait())).toMatchObject({ kind: 'state-failed' });
  expect(told).toEqual([]);
  await good.stop();
  expect(told).toEqual(['stopped']);
  for (const restore of [fail, () => Promise.reject(new Error('cannot read this'))]) {
    expect(await failure(a.rt.spawnFromSnapshotWithDaemon(identity, snapshot, noting(told, restore)))).toMatchObject({
      code: 'ERR_DAEMON_RESTORE_FAILED',
    });
  }
  await a.rt.spawnFromSnapshotWithDaemon(
    identity,
    snapshot,
    noting(told, () => Promise.resolve()),
  );
  expect(told).toEqual(['stopped']);
  await a.mesh.shutdown();
  await b.mesh.shutdown();
  expect(told).toEqual(['stopped', 'shutdown']);
});

test('a caller on another node hears that the daemon was stopped, one on its host that the runtime is', async () => {
  const [a, b] = await pair();
  const began = deferred();
  const handle = await b.rt.spawnWithDaemon(Identity.generate(), {
    process() {
      began.resolve();
      return new Promise(() => undefined);
    },
  });
  const { originHash } = handle;
  const there = failure(a.rt.call(originHash, payload));
  await began.promise;
  const here = failure(b.rt.call(originHash, payload));
  const behind = failure(a.rt.call(originHash, payload));
  while (handle.stats().mailboxLength < 2) await new Promise(setImmediate);
  await b.rt.shutdown();
  const code = 'ERR_DAEMON_SHUTTING_DOWN';
  const [no, unknown] = ['the event did not run', 'the event may have run'];
  expect(await here).toMatchObject({ code, executed: 'no', message: `the runtime is shutting down; ${no}` });
  const stopped = `daemon ${String(originHash)} was stopped`;
  expect(await there).toMatchObject({ code, executed: 'unknown', message: `${stopped}; ${unknown}` });
  expect(await behind).toMatchObject({ code, executed: 'no', message: `${stopped}; ${no}` });
});

test('whoever is told that an event did not run is told the truth, while the runtime of its host ends and another one begins', async () => {
  const [a, b] = await pair();
  const ran = new Set<string>();
  const counting = {
    process(event: CausalEvent) {
      ran.add(event.payload.toString());
      return payload;
    },
  };
  const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), counting);
  const told = new Map<string, Promise<unknown>>();
  const emit = () => {
    for (let i = 0; i < 20; i++) {
      const name = String(told.size);
      const event = Buffer.from(name);
      const sent = i % 2 === 0 ? a.rt.call(originHash, event) : a.rt.send(originHash, event);
      told.set(
        name,
        sent.then(
          () => null,
          (error: unknown) => error,
        ),
      );
    }
  };
  const emitWhile = async (under: Promise<void>) => {
    const state = { over: false };
    const done = under.finally(() => {
      state.over = true;
    });
    do {
      emit();
      await new Promise(setImmediate);
    } while (!state.over);
    await done;
  };
  await emitWhile(a.rt.call(originHash, payload).then(() => undefined));
  await emitWhile(b.rt.shutdown());
  const next = DaemonRuntime.create(b.mesh);
  next.start();
  const { originHash: other } = await next.spawnWithDaemon(Identity.generate(), counting);
  await emitWhile(a.rt.call(other, payload).then(() => undefined));
  let refused = 0;
  const lies: string[] = [];
  for (const [name, outcome] of told) {
    const error = (await outcome) as { code: string; executed?: string } | null;
    if (error === null && !ran.has(name)) lies.push(`${name} was accepted`);
    if (error === null || error.executed === 'unknown') continue;
    refused += 1;
    if (ran.has(name)) lies.push(`${name}: ${error.code}`);
  }
  expect(lies).toEqual([]);
  expect(refused).toBeGreaterThan(0);
});

test('an event whose handler shuts its own runtime down may have run, whether it returns or waits', async () => {
  for (const answer of [payload, Promise.resolve(payload)]) {
    const { rt } = await node();
    const { originHash } = await rt.spawnWithDaemon(Identity.generate(), {
      process() {
        void rt.shutdown();
        return answer;
      },
    });
    expect(await failure(rt.call(originHash, payload))).toMatchObject({
      code: 'ERR_DAEMON_SHUTTING_DOWN',
      executed: 'unknown',
      message: 'the runtime is shutting down; the event may have run',
    });
  }
});

test('onStop tells why: moved away, and stopped there', async () => {
  const told: string[] = [];
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('noting', () => noting(told, () => undefined));
  const { originHash } = await a.rt.spawn('noting', Identity.generate());
  await (await a.rt.migrate(originHash, b.id)).wait();
  expect(told).toEqual(['migrated']);
  await b.rt.stop(originHash);
  expect(told).toEqual(['migrated', 'stopped']);
});

/** Registers a kind that is `made` only when a test says so, and notes what becomes of it. */
function registerLate(rt: DaemonRuntime) {
  const [begun, made, gone] = [deferred(), deferred(), deferred()];
  const told: string[] = [];
  rt.registerFactory('late', async () => {
    begun.resolve();
    await made.promise;
    return {
      process: () => payload,
      onStop: (reason) => {
        told.push(reason);
        gone.resolve();
      },
    };
  });
  return { begun, made, gone, told };
}

test('hazard 9: what a factory makes for a spawn that timed out meanwhile is let go', async () => {
  const { rt } = await node();
  const { begun, made, gone, told } = registerLate(rt);
  const identity = Identity.generate();
  const spawning = failure(rt.spawn('late', identity, { callbackTimeoutMs: 1000 }));
  await begun.promise;
  expect(await spawning).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
  expect(rt.daemonCount()).toBe(0);
  const next = await rt.spawnWithDaemon(identity, { process: () => Buffer.from('next') });
  made.resolve();
  await gone.promise;
  expect(told).toEqual(['stopped']);
  expect(await next.call(payload)).toEqual([Buffer.from('next')]);
});

test.each(['runtime', 'mesh', 'at once'])(
  'what a factory makes for a spawn while its runtime ended meanwhile is told so: %s',
  async (by) => {
    const { mesh, rt } = await node();
    const { begun, made, gone, told } = registerLate(rt);
    const spawning = failure(rt.spawn('late', Identity.generate()));
    await begun.promise;
    const ending = (by === 'mesh' ? mesh : rt).shutdown();
    // Also while it ends.
    if (by !== 'at once') await ending;
    else made.resolve();
    expect(await spawning).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
    made.resolve();
    await gone.promise;
    expect(told).toEqual(['shutdown']);
  },
);

test("what a factory throws or returns amiss when its runtime has ended is nobody's", async () => {
  const { rt } = await node();
  const begun = deferred();
  const made = deferred();
  const results = [
    (): unknown => 5,
    (): never => {
      throw new Error('late');
    },
    (): unknown => ({
      get process(): never {
        throw new Error('a getter');
      },
    }),
  ];
  rt.registerFactory('late', async () => {
    const result = results.pop()!;
    if (results.length === 0) begun.resolve();
    await made.promise;
    return result() as MeshDaemon;
  });
  const spawning = [1, 2, 3].map(() => failure(rt.spawn('late', Identity.generate())));
  await begun.promise;
  await rt.shutdown();
  for (const error of await Promise.all(spawning)) expect(error).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  made.resolve();
  await new Promise(setImmediate);
});
