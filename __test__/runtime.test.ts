// The life of a runtime and its registries (hazards 1 to 13 as far as JavaScript sees them).

import { DaemonError, DaemonRuntime, Identity, IdentityError } from 'mesh-daemon';
import type { DaemonLifeEvent } from 'mesh-daemon';
import { any, bare, closeAll, Counter, deferred, failure, node, pair, thrown } from './helpers/nodes';

afterEach(closeAll);

const event = { originHash: 1n, sequence: 1n, payload: Buffer.from('x') };

test('hazard 1: spawn before start is not ready, after shutdown is shutting down; registering after ready works (requirements 7, 9 and 11)', async () => {
  const { rt } = await node({}, { start: false });
  rt.registerFactory('early', () => new Counter());
  expect(rt.isReady()).toBe(false);
  expect(await failure(rt.spawn('early', Identity.generate()))).toMatchObject({ code: 'ERR_DAEMON_NOT_READY' });
  expect(await failure(rt.deliver(1n, event))).toMatchObject({ code: 'ERR_DAEMON_NOT_READY' });
  expect(await failure(rt.call(1n, event.payload))).toMatchObject({ code: 'ERR_DAEMON_NOT_READY' });
  rt.start();
  rt.registerFactory('late', () => new Counter());
  await rt.spawn('late', Identity.generate());
  await rt.shutdown();
  expect(rt.isReady()).toBe(false);
  for (const attempt of [rt.spawn('late', Identity.generate()), rt.deliver(1n, event), rt.call(1n, event.payload)]) {
    expect(await failure(attempt)).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  }
  expect(
    thrown(() => {
      rt.registerFactory('k', () => new Counter());
    }),
  ).toMatchObject({
    code: 'ERR_DAEMON_SHUTTING_DOWN',
  });
  expect(
    thrown(() => {
      rt.start();
    }),
  ).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
});

test('hazard 2: start twice is fine (requirement 8)', async () => {
  const { rt } = await node();
  rt.start();
  expect(rt.isReady()).toBe(true);
});

test('hazards 3 and 13: shutdown is idempotent, works before start, and frees the mesh for another runtime', async () => {
  const mesh = await bare();
  const first = DaemonRuntime.create(mesh);
  expect(thrown(() => DaemonRuntime.create(mesh))).toMatchObject({ code: 'ERR_DAEMON_RUNTIME_EXISTS' });
  await Promise.all([first.shutdown(), first.shutdown()]);
  const second = DaemonRuntime.create(mesh);
  second.start();
  await second.spawnWithDaemon(Identity.generate(), new Counter());
  await second[Symbol.asyncDispose]();
  expect(second.daemonCount()).toBe(0);
});

test('hazard 4: spawn racing shutdown leaves nothing registered', async () => {
  for (let round = 0; round < 20; round += 1) {
    const { rt } = await node();
    rt.registerFactory('slow', async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return new Counter();
    });
    const spawns = Array.from({ length: 4 }, () => rt.spawn('slow', Identity.generate()));
    if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
    const closing = rt.shutdown();
    const results = await Promise.allSettled(spawns);
    const codes = results.map((one) => (one.status === 'rejected' ? (one.reason as DaemonError).code : 'spawned'));
    expect(['ERR_DAEMON_SHUTTING_DOWN', 'spawned']).toEqual(expect.arrayContaining(codes));
    await closing;
    expect(rt.daemonCount()).toBe(0);
  }
});

test('hazard 5: of many registrations of one kind exactly one wins, and the error names the kind (requirement 10)', async () => {
  const { rt } = await node();
  const errors: Error[] = [];
  for (let index = 0; index < 32; index += 1) {
    try {
      rt.registerFactory('counter', () => new Counter());
    } catch (error) {
      errors.push(error as Error);
    }
  }
  expect(errors).toHaveLength(31);
  expect(errors[0]).toMatchObject({
    code: 'ERR_DAEMON_FACTORY_ALREADY_REGISTERED',
    message: expect.stringMatching(/'counter'.*already registered/) as unknown,
  });
});

test('hazard 6: a spawn with an identity in use leaves the incumbent working and migratable (requirements 17 and 18)', async () => {
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  const handle = await a.rt.spawn('counter', identity);
  await handle.call(event.payload);
  const snapshot = (await handle.snapshot())!;
  const attempts = [
    a.rt.spawn('counter', identity),
    a.rt.spawnFromSnapshot('counter', identity, snapshot),
    a.rt.spawnWithDaemon(identity, new Counter()),
  ];
  for (const attempt of attempts) {
    const error = await failure(attempt);
    expect(error).toMatchObject({ code: 'ERR_DAEMON_ALREADY_REGISTERED' });
    expect(error.message).toContain('already registered');
  }
  expect(
    thrown(() => {
      a.rt.expectMigration('counter', identity.originHash);
    }),
  ).toMatchObject({
    code: 'ERR_DAEMON_ALREADY_REGISTERED',
  });
  expect(
    thrown(() => {
      a.rt.registerMigrationTargetIdentity('counter', identity);
    }),
  ).toMatchObject({
    code: 'ERR_DAEMON_ALREADY_REGISTERED',
  });
  expect(await handle.call(event.payload)).toEqual([Buffer.from('2:x')]);
  await (await a.rt.migrate(identity.originHash, b.id)).wait();
  expect(await handle.call(event.payload)).toEqual([Buffer.from('3:x')]);
});

test('hazard 8: binding the expected orchestrator again is fine for the same node only', async () => {
  const { rt } = await node();
  rt.registerFactory('counter', () => new Counter());
  expect(
    thrown(() => {
      rt.expectMigration('none', 5n);
    }),
  ).toMatchObject({ code: 'ERR_DAEMON_FACTORY_NOT_FOUND' });
  expect(rt.bindExpectedOrchestrator(5n, 1n)).toBe(false);
  rt.expectMigration('counter', 5n);
  expect(
    thrown(() => {
      rt.expectMigration('counter', 5n);
    }),
  ).toMatchObject({ code: 'ERR_DAEMON_ALREADY_REGISTERED' });
  expect([1n, 1n, 2n].map((id) => rt.bindExpectedOrchestrator(5n, id))).toEqual([true, true, false]);
});

test('hazard 9: a factory runs once per spawn, never at registration; what it throws is the cause (requirements 16 and 21)', async () => {
  const { rt } = await node();
  let made = 0;
  rt.registerFactory('counter', ({ originHash, kind }) => {
    made += 1;
    expect([typeof originHash, kind]).toEqual(['bigint', 'counter']);
    return new Counter();
  });
  expect(made).toBe(0);
  await rt.spawn('counter', Identity.generate());
  expect(made).toBe(1);
  const boom = new Error('no');
  rt.registerFactory('broken', () => Promise.reject(boom));
  rt.registerFactory('garbage', () => any(7));
  const error = await failure(rt.spawn('broken', Identity.generate()));
  expect(error).toMatchObject({ code: 'ERR_DAEMON_FACTORY_FAILED' });
  expect(error.cause).toBe(boom);
  expect(await failure(rt.spawn('garbage', Identity.generate()))).toMatchObject({ code: 'ERR_DAEMON_FACTORY_FAILED' });
  const missing = await failure(rt.spawn('none', Identity.generate()));
  expect(missing).toMatchObject({ code: 'ERR_DAEMON_FACTORY_NOT_FOUND' });
  expect(missing.message).toContain("no factory registered for kind 'none'");
  expect(rt.daemonCount()).toBe(1);
});

test('an async factory is awaited before spawn resolves, and instances are their own (requirement 129)', async () => {
  const { rt } = await node();
  let ready = 0;
  rt.registerFactory('counter', async () => {
    await new Promise((resolve) => setImmediate(resolve));
    ready += 1;
    return new Counter();
  });
  const [one, two] = await Promise.all([1, 2].map(() => rt.spawn('counter', Identity.generate())));
  expect(ready).toBe(2);
  expect(await one?.call(event.payload)).toEqual([Buffer.from('1:x')]);
  expect(await two?.call(event.payload)).toEqual([Buffer.from('1:x')]);
});

test('hazard 10: a snapshot of another identity is refused with the typed error, a broken one too (requirement 23)', async () => {
  const { rt } = await node();
  rt.registerFactory('counter', () => new Counter());
  const handle = await rt.spawn('counter', Identity.generate());
  const snapshot = (await handle.snapshot())!;
  expect(await failure(rt.spawnFromSnapshot('counter', Identity.generate(), snapshot))).toMatchObject({
    code: 'ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH',
  });
  expect(await failure(rt.spawnFromSnapshot('counter', Identity.generate(), Buffer.alloc(40)))).toMatchObject({
    code: 'ERR_DAEMON_SNAPSHOT_INVALID',
  });
});

test('hazard 10: identities whose origins collide on the low 32 bits are told apart (requirement 24)', async () => {
  const { rt } = await node();
  rt.registerFactory('counter', () => new Counter());
  // Found by brute force over seeds that begin with a number.
  const [one, other] = [13_515, 23_655].map((number) => {
    const seed = Buffer.alloc(32);
    seed.writeUInt32LE(number);
    return Identity.fromSeed(seed);
  }) as [Identity, Identity];
  expect(BigInt.asUintN(32, one.originHash)).toBe(BigInt.asUintN(32, other.originHash));
  expect(one.originHash).not.toBe(other.originHash);
  const first = await rt.spawn('counter', one);
  await first.call(event.payload);
  const snapshot = (await first.snapshot())!;
  const mismatch = { code: 'ERR_DAEMON_SNAPSHOT_IDENTITY_MISMATCH' };
  expect(await failure(rt.spawnFromSnapshot('counter', other, snapshot))).toMatchObject(mismatch);
  expect(await failure(rt.spawnFromSnapshotWithDaemon(other, snapshot, new Counter()))).toMatchObject(mismatch);
  const second = await rt.spawn('counter', other);
  expect(await second.call(event.payload)).toEqual([Buffer.from('1:x')]);
  expect(await first.call(event.payload)).toEqual([Buffer.from('2:x')]);
  await second.stop();
  expect(await first.call(event.payload)).toEqual([Buffer.from('3:x')]);
});

test('requirement 25: an echo gives one identical output, counts 1 and 1, and is stateless', async () => {
  const { rt } = await node();
  const handle = await rt.spawnWithDaemon(Identity.generate(), { process: ({ payload }) => payload });
  expect(await rt.deliver(handle.originHash, event)).toEqual([event.payload]);
  expect(handle.stats()).toEqual({
    eventsProcessed: 1n,
    eventsEmitted: 1n,
    errors: 0n,
    snapshotsTaken: 0n,
    mailboxLength: 0,
    mailboxBytes: 0,
    messagesDropped: 0n,
  });
  expect(await handle.snapshot()).toBeNull();
  expect(handle.lastSnapshot()).toBeNull();
});

test('a handle of a runtime that was shut down never speaks for the next runtime of its mesh', async () => {
  const { mesh, rt } = await node();
  const old = await rt.spawnWithDaemon(Identity.generate(), new Counter());
  await rt.shutdown();
  const next = DaemonRuntime.create(mesh);
  next.start();
  const handle = await next.spawnWithDaemon(Identity.generate(), new Counter());
  await handle.call(event.payload);
  const over = { code: 'ERR_DAEMON_SHUTTING_DOWN' };
  expect(thrown(() => old.stats())).toMatchObject(over);
  expect(thrown(() => old.lastSnapshot())).toMatchObject(over);
  for (const use of [old.snapshot(), old.call(event.payload), old.send(event.payload), old.stop()]) {
    expect(await failure(use)).toMatchObject(over);
  }
  expect(handle.stats().eventsProcessed).toBe(1n);
});

test('hazard 11: stop of an unknown daemon is an error when ready and harmless after shutdown (requirement 20)', async () => {
  const { rt } = await node();
  expect(await failure(rt.stop(3n))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  const handle = await rt.spawnWithDaemon(Identity.generate(), new Counter());
  await handle.stop();
  expect(await failure(rt.deliver(handle.originHash, event))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  expect(thrown(() => handle.stats())).toBeInstanceOf(DaemonError);
  await Promise.all([1, 2].map(() => rt.spawnWithDaemon(Identity.generate(), new Counter())));
  expect(rt.daemonCount()).toBe(2);
  await rt.shutdown();
  expect(rt.daemonCount()).toBe(0);
  await rt.stop(3n);
});

test('hazard 13: shutdown while a callback runs and others wait rejects what waits', async () => {
  const { rt } = await node();
  let reason: string | undefined;
  const handle = await rt.spawnWithDaemon(Identity.generate(), {
    process: () => new Promise(() => undefined),
    onStop: (why) => {
      reason = why;
    },
  });
  const waiting = [handle.call(event.payload), rt.deliver(handle.originHash, event), handle.snapshot(), handle.stop()];
  const results = Promise.allSettled(waiting);
  await rt.shutdown();
  const [first, second, third] = await results;
  for (const result of [first, second, third]) {
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_DAEMON_SHUTTING_DOWN' } });
  }
  expect(reason).toBe('shutdown');
});

test('the mesh takes its runtime with it', async () => {
  const { mesh, rt } = await node();
  const handle = await rt.spawnWithDaemon(Identity.generate(), { process: () => new Promise(() => undefined) });
  const call = failure(handle.call(event.payload));
  await mesh.shutdown();
  expect(await call).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  expect(rt.isReady()).toBe(false);
});

test('daemon events tell who came and went, with the kind', async () => {
  const { rt } = await node();
  const events: DaemonLifeEvent[] = [];
  rt.on('daemon', (e) => events.push(e));
  const handle = await rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await handle.stop();
  const { originHash } = handle;
  expect(events).toEqual([
    { type: 'spawned', originHash, kind: 'counter' },
    { type: 'stopped', originHash, kind: 'counter' },
  ]);
});

test('snapshot, stop, respawn continues (requirement 22); a stateless daemon has none', async () => {
  const { rt } = await node();
  rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  const handle = await rt.spawn('counter', identity);
  for (let index = 0; index < 5; index += 1) await handle.call(event.payload);
  const links = await rt.deliverCausal(identity.originHash, event);
  const snapshot = (await handle.snapshot())!;
  await handle.stop();
  const again = await rt.spawnFromSnapshot('counter', identity, snapshot);
  const [next] = await rt.deliverCausal(identity.originHash, event);
  expect(next?.payload.toString()).toBe('7:x');
  expect(next?.sequence).toBe((links[0]?.sequence ?? 0n) + 1n);
  expect(next?.originHash).toBe(identity.originHash);
  expect(again.stats().eventsProcessed).toBe(7n);
  const stateless = await rt.spawnWithDaemon(Identity.generate(), { process: () => null, snapshot: () => null });
  expect(await stateless.snapshot()).toBeNull();
  expect(await rt.deliver(stateless.originHash, event)).toEqual([]);
});

test('autoSnapshotInterval takes a snapshot every n events, newest only', async () => {
  const { rt } = await node();
  const identity = Identity.generate();
  const handle = await rt.spawnWithDaemon(identity, new Counter(), { autoSnapshotInterval: 3n });
  expect(handle.lastSnapshot()).toBeNull();
  for (let index = 0; index < 7; index += 1) await handle.call(event.payload);
  const snapshot = handle.lastSnapshot()!;
  await handle.stop();
  const gone = { code: 'ERR_DAEMON_NOT_FOUND' };
  expect(thrown(() => handle.stats())).toMatchObject(gone);
  expect(thrown(() => handle.lastSnapshot())).toMatchObject(gone);
  const again = new Counter();
  await rt.spawnFromSnapshotWithDaemon(identity, snapshot, again);
  expect(again.seen).toBe(6);
});

test("a snapshot whose caller was told that it took too long is nobody's", async () => {
  const { rt } = await node();
  const late = deferred();
  const snapshot = () => late.promise.then(() => Buffer.from('late'));
  const daemon = { process: () => null, snapshot, restore: () => undefined };
  const handle = await rt.spawnWithDaemon(Identity.generate(), daemon, { callbackTimeoutMs: 50 });
  expect(await failure(handle.snapshot())).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
  late.resolve();
  // Runs behind the snapshot.
  expect(await handle.call(event.payload)).toEqual([]);
  expect(handle.lastSnapshot()).toBeNull();
  expect(handle.stats().snapshotsTaken).toBe(0n);
});

test('deliverMany keeps order over several batches, sync and async, here and elsewhere', async () => {
  const [a, b] = await pair();
  const payloads = Array.from({ length: 1_000 }, (_, index) => Buffer.from(String(index)));
  const expected = payloads.map((payload, index) => [Buffer.from(`${String(index + 1)}:${payload.toString()}`)]);
  for (const { rt } of [a, b]) {
    const sync = await rt.spawnWithDaemon(Identity.generate(), new Counter());
    expect(await a.rt.deliverMany(sync.originHash, payloads)).toEqual(expected);
    const counter = new Counter();
    const slow = await rt.spawnWithDaemon(Identity.generate(), {
      process: async (e) => Promise.resolve(counter.process(e)),
    });
    expect(await a.rt.deliverMany(slow.originHash, payloads)).toEqual(expected);
  }
  const alternating = new Counter();
  const mixed = await a.rt.spawnWithDaemon(Identity.generate(), {
    process: (e) => (alternating.seen % 3 === 2 ? Promise.resolve(alternating.process(e)) : alternating.process(e)),
  });
  expect(await a.rt.deliverMany(mixed.originHash, payloads)).toEqual(expected);
});

test('hazard 56: an endless await loop on one daemon leaves timers, other daemons and a move their turn', async () => {
  const [a, b] = await pair();
  b.rt.registerFactory('counter', () => new Counter());
  const busy = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  const other = await a.rt.spawnWithDaemon(Identity.generate(), new Counter());
  const load = { stop: false };
  let count = 0;
  const loop = (async () => {
    while (!load.stop) {
      await a.rt.deliver(busy.originHash, event);
      count += 1;
    }
  })();
  // Timers have their turn: these fire although the loop never leaves the microtask queue by itself.
  while (count < 1000) await new Promise((resolve) => setTimeout(resolve, 0));
  expect(await b.rt.call(other.originHash, Buffer.from('o'))).toEqual([Buffer.from('1:o')]);
  await (await a.rt.migrate(busy.originHash, b.id)).wait();
  load.stop = true;
  await loop;
  expect((await busy.call(Buffer.from('last'))).toString()).toBe(`${String(count + 1)}:last`);
});

describe('hazard 19: wrong arguments', () => {
  test('reject or throw with the path, and nothing is wrapped around', async () => {
    const { rt } = await node();
    const id = Identity.generate();
    const code = 'ERR_DAEMON_INVALID_ARGUMENT';
    const rejections: [Promise<unknown>, RegExp][] = [
      [rt.spawn(any(3), id), /^kind must be a string/],
      [rt.spawn('k', any({})), /^identity must be an Identity/],
      [rt.spawn('k', id, { autoSnapshotInterval: -1n }), /^config.autoSnapshotInterval must be non-negative/],
      [rt.spawn('k', id, { autoSnapshotInterval: 2n ** 64n }), /^config.autoSnapshotInterval must be within u64 range/],
      [
        rt.spawn('k', id, { autoSnapshotInterval: any(5) }),
        /^config.autoSnapshotInterval must be a bigint, got a number$/,
      ],
      [rt.spawn('k', id, { callbackTimeoutMs: NaN }), /^config.callbackTimeoutMs must be finite/],
      [rt.spawn('k', id, { callbackTimeoutMs: 0 }), /^config.callbackTimeoutMs must be at least 1$/],
      [rt.spawn('k', id, any({ nope: 1 })), /^unknown option 'nope'/],
      [rt.spawnWithDaemon(id, any({})), /^daemon must be an object with a process method/],
      [
        rt.spawnWithDaemon(id, any({ process() {}, snapshot: 5 })),
        /^daemon must be an object whose snapshot is a method/,
      ],
      [rt.deliver(any(1), event), /^originHash must be a bigint/],
      [rt.deliver(-1n, event), /^originHash must be non-negative/],
      [rt.deliver(2n ** 64n, event), /^originHash must be within u64 range/],
      [rt.deliver(1n, any(null)), /^event must be an object/],
      [rt.deliver(1n, { ...event, sequence: -1n }), /^event.sequence must be non-negative/],
      [rt.deliver(1n, { ...event, payload: any('x') }), /^event.payload must be a Uint8Array/],
      [rt.call(1n, new Uint8Array(new SharedArrayBuffer(4))), /^payload must not be backed by a SharedArrayBuffer/],
      [rt.call(1n, event.payload, { timeoutMs: -1 }), /^options.timeoutMs must be non-negative/],
      [rt.deliverMany(1n, any([1])), /^payloads\[0\] must be a Uint8Array/],
      [rt.migrate(any(1), 2n), /^originHash must be a bigint/],
      [rt.startMigration(1n, 2n, 3n, { retryNotReadyMs: -1 }), /^opts.retryNotReadyMs must be non-negative/],
    ];
    for (const [promise, message] of rejections) {
      const error = await failure(promise);
      expect(error).toBeInstanceOf(DaemonError);
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) as unknown });
    }
    const mesh = rt.mesh;
    expect(thrown(() => rt.on('daemon', any(undefined)))).toMatchObject({
      code,
      message: 'listener must be a function, got undefined',
    });
    expect(thrown(() => rt.once(any('daemons'), () => undefined))).toMatchObject({
      code,
      message: "name must be one of 'migration', 'daemon', 'subscription'",
    });
    expect(thrown(() => mesh.off(any('x'), () => undefined))).toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
    expect(thrown(() => DaemonRuntime.create(any({})))).toMatchObject({
      code,
      message: 'mesh must be a MeshNode, got an object',
    });
    expect(thrown(() => DaemonRuntime.create(mesh, any({ x: 1 })))).toMatchObject({
      message: expect.stringMatching(/^unknown option 'x' in options; there are acceptMigrations, /) as unknown,
    });
    expect(thrown(() => DaemonRuntime.create(mesh, { orchestrators: any('all') }))).toMatchObject({ code });
    for (const [options, least] of [
      [{ freezeTimeoutMs: 0 }, 1],
      [{ silenceMs: 0 }, 50],
      [{ silenceMs: 1n }, 50],
      [{ handoverHoldMs: 0 }, 1],
    ] as const) {
      const message = `options.${Object.keys(options).join()} must be at least ${String(least)}`;
      expect(thrown(() => DaemonRuntime.create(mesh, options))).toMatchObject({ code, message });
    }
    expect(thrown(() => Identity.fromSeed(Buffer.alloc(16)))).toBeInstanceOf(IdentityError);
  });

  test('a payload changed right after the call, and a detached one: a copy, an error', async () => {
    const { rt } = await node();
    const gate = deferred();
    const seen: string[] = [];
    const handle = await rt.spawnWithDaemon(Identity.generate(), {
      async process(e) {
        await gate.promise;
        seen.push(e.payload.toString());
        return e.payload;
      },
    });
    const payload = Buffer.from('original');
    const first = rt.call(handle.originHash, payload);
    const second = rt.call(handle.originHash, payload);
    payload.fill('!');
    gate.resolve();
    expect(await Promise.all([first, second])).toEqual([[Buffer.from('original')], [Buffer.from('original')]]);
    expect(seen).toEqual(['original', 'original']);
    const gone = new Uint8Array(8);
    structuredClone(gone, { transfer: [gone.buffer] });
    expect(await failure(rt.call(handle.originHash, gone))).toMatchObject({ message: 'payload must not be detached' });
  });

  test('a payload beyond the limit is refused with its own code, an output too', async () => {
    const { rt } = await node({}, { mesh: { maxPayloadBytes: 1_000 } });
    const handle = await rt.spawnWithDaemon(Identity.generate(), { process: () => Buffer.alloc(1_001) });
    const code = 'ERR_DAEMON_PAYLOAD_TOO_LARGE';
    expect(await failure(handle.call(Buffer.alloc(1_001)))).toMatchObject({ code });
    expect(await failure(handle.call(Buffer.alloc(1)))).toMatchObject({ code });
    const slow = await rt.spawnWithDaemon(Identity.generate(), {
      process: async () => Promise.resolve(Buffer.alloc(1_001)),
    });
    expect(await failure(slow.call(Buffer.alloc(1)))).toMatchObject({ code });
  });

  test('a payload that the host of a daemon does not take is refused at once, whatever else happens', async () => {
    const modest = await node({}, { mesh: { maxPayloadBytes: 1_000 } });
    const { rt, mesh } = await node();
    await mesh.connect(modest.mesh.localAddr());
    const { originHash } = await modest.rt.spawnWithDaemon(Identity.generate(), new Counter());
    for (let round = 1; round <= 20; round += 1) {
      const [answer] = await rt.call(originHash, Buffer.from('x'));
      expect(String(answer)).toBe(`${String(round)}:x`);
      const refused = await failure(rt.call(originHash, Buffer.alloc(1_001)));
      expect(refused).toMatchObject({ code: 'ERR_DAEMON_PAYLOAD_TOO_LARGE' });
    }
  });
});
