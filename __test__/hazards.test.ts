// Where JavaScript and the engine meet (hazards 12 and 14 to 20).

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Identity } from 'mesh-daemon';
import type { DaemonContext, MeshDaemon } from 'mesh-daemon';
import { any, closeAll, Counter, deferred, failure, node, pair } from './helpers/nodes';

afterEach(closeAll);

const ROOT = join(__dirname, '..');
const payload = Buffer.from('x');

/** Runs a script in a process of its own; resolves with its output when it ended well. */
async function script(body: string, ...flags: string[]): Promise<string> {
  const prelude = `const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
    const psk = '${'11'.repeat(32)}'; const make = () => MeshNode.create({ bindAddr: '127.0.0.1:0', psk });`;
  const main = `(async () => { ${body} })().catch((e) => { console.log('error', e); process.exitCode = 9; });`;
  const child = spawn(process.execPath, [...flags, '-e', prelude + main], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (code !== 0) throw new Error(`ended with ${String(code ?? signal)}: ${out}`);
  return out.trim();
}

describe('hazard 14: what process gives back', () => {
  const garbage: [string, unknown][] = [
    ['a string', 'text'],
    ['a number', 7],
    ['an array of garbage', [Buffer.alloc(1), 'x']],
    ['an object', { a: 1 }],
    ['shared memory', new Uint8Array(new SharedArrayBuffer(2))],
  ];
  const flavours: [string, (value: unknown) => MeshDaemon['process']][] = [
    ['sync', (value) => () => any(value)],
    ['async', (value) => async () => Promise.resolve(any(value))],
  ];
  for (const [flavour, make] of flavours) {
    test.each(garbage)(`${flavour}: %s is a typed error, and the daemon lives on`, async (_, value) => {
      const [a, b] = await pair();
      let bad = true;
      const daemon = {
        process: (...args: Parameters<MeshDaemon['process']>) => (bad ? make(value)(...args) : payload),
      };
      const handle = await b.rt.spawnWithDaemon(Identity.generate(), daemon);
      for (const { rt } of [a, b]) {
        expect(await failure(rt.call(handle.originHash, payload))).toMatchObject({ code: 'ERR_DAEMON_INVALID_OUTPUT' });
      }
      bad = false;
      expect(await handle.call(payload)).toEqual([payload]);
      expect(handle.stats()).toMatchObject({ errors: 2n, eventsProcessed: 1n });
    });
  }

  test('throwing and rejecting, with anything, fails that event alone', async () => {
    const { rt } = await node();
    const hostile = Object.defineProperty({}, 'message', {
      get() {
        throw new Error('getter');
      },
    });
    for (const thrown of [new TypeError('t'), 'text', undefined, null, 5n, hostile, Symbol('s')]) {
      for (const make of [
        () => {
          // eslint-disable-next-line @typescript-eslint/only-throw-error -- users may throw anything
          throw thrown;
        },
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as above
        () => Promise.reject(thrown),
      ]) {
        const handle = await rt.spawnWithDaemon(Identity.generate(), { process: make });
        const error = await failure(handle.call(payload));
        expect(error).toMatchObject({ code: 'ERR_DAEMON_PROCESS_FAILED' });
        expect(error.cause).toBe(thrown);
        expect(handle.stats().errors).toBe(1n);
        await handle.stop();
      }
    }
  });

  test('nothing, null and an empty array are no outputs; several are several', async () => {
    const { rt } = await node();
    for (const [value, count] of [
      [undefined, 0],
      [null, 0],
      [[], 0],
      [[payload, payload, payload], 3],
    ] as const) {
      const handle = await rt.spawnWithDaemon(Identity.generate(), { process: () => value });
      expect(await handle.call(payload)).toHaveLength(count);
    }
  });

  test('outputs are copies: the daemon may use its buffer again', async () => {
    const [a, b] = await pair();
    const out = Buffer.alloc(4);
    let count = 0;
    const handle = await b.rt.spawnWithDaemon(Identity.generate(), {
      process() {
        out.writeUInt32LE((count += 1));
        return out;
      },
    });
    for (const { rt } of [a, b]) {
      const first = count;
      const results = await Promise.all(Array.from({ length: 50 }, () => rt.call(handle.originHash, payload)));
      expect(results.map(([one]) => one?.readUInt32LE())).toEqual(Array.from({ length: 50 }, (_, i) => first + i + 1));
    }
  });
});

describe('hazard 15: daemons that call each other', () => {
  test('a daemon that waits for itself times out with a typed error, and nothing else stalls', async () => {
    const { rt } = await node();
    const other = await rt.spawnWithDaemon(Identity.generate(), new Counter());
    const identity = Identity.generate();
    const self = await rt.spawnWithDaemon(
      identity,
      { process: (_, context: DaemonContext) => context.call(identity.originHash, payload) },
      { callbackTimeoutMs: 50 },
    );
    const stuck = failure(self.call(payload));
    expect(await other.call(payload)).toEqual([Buffer.from('1:x')]);
    expect(await stuck).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
  });

  test('a cycle of two that wait for each other times out too; a deep chain of calls works', async () => {
    const { rt } = await node();
    const [one, two] = [Identity.generate(), Identity.generate()];
    const spawn = (identity: Identity, next: Identity) =>
      rt.spawnWithDaemon(
        identity,
        { process: (_, context: DaemonContext) => context.call(next.originHash, payload) },
        { callbackTimeoutMs: 50 },
      );
    const [first] = await Promise.all([spawn(one, two), spawn(two, one)]);
    expect((await failure(first.call(payload))).code).toMatch(/ERR_DAEMON_(CALLBACK_TIMEOUT|PROCESS_FAILED)/);

    const chain = Array.from({ length: 40 }, () => Identity.generate());
    for (const [index, identity] of chain.entries()) {
      const next = chain[index + 1];
      await rt.spawnWithDaemon(identity, {
        process: (event, context) =>
          next === undefined ? event.payload : context.call(next.originHash, event.payload),
      });
    }
    expect(await rt.call(chain[0]?.originHash ?? 0n, payload)).toEqual([payload]);
  });

  test('a self-send works, and the emitter is the daemon', async () => {
    const { rt } = await node();
    const identity = Identity.generate();
    const emitters: bigint[] = [];
    const second = deferred();
    const handle = await rt.spawnWithDaemon(identity, {
      async process(event, context) {
        emitters.push(event.originHash);
        if (emitters.length === 1) await context.send(identity.originHash, payload);
        else second.resolve();
      },
    });
    await handle.call(payload);
    await second.promise;
    expect(emitters[1]).toBe(identity.originHash);
  });
});

describe('hazard 16: code that does not settle', () => {
  test('waiting callers get a timeout, the signal is aborted, other daemons are unaffected, stop does not wait', async () => {
    const { rt } = await node();
    let context: DaemonContext | undefined;
    const stuck = await rt.spawnWithDaemon(
      Identity.generate(),
      {
        process(_, given) {
          context ??= given;
          return new Promise(() => undefined);
        },
      },
      { callbackTimeoutMs: 50 },
    );
    const other = await rt.spawnWithDaemon(Identity.generate(), new Counter());
    const waiting = [failure(stuck.call(payload)), failure(stuck.call(payload))];
    const aborted = once((context as unknown as DaemonContext).signal, 'abort');
    expect(await other.call(payload)).toEqual([Buffer.from('1:x')]);
    for (const error of await Promise.all(waiting)) {
      expect(error).toMatchObject({
        code: 'ERR_DAEMON_CALLBACK_TIMEOUT',
        message: 'daemon did not respond within 50 ms',
      });
    }
    await aborted;
    expect(await failure(context!.call(1n, payload))).toMatchObject({
      code: 'ERR_DAEMON_SHUTTING_DOWN',
    });
    await stuck.stop();
    expect(rt.daemonCount()).toBe(1);
  });

  test('a promise that settles after its timeout lets later events run, never two at once', async () => {
    const { rt } = await node();
    const late = deferred();
    let running = 0;
    let most = 0;
    let calls = 0;
    const handle = await rt.spawnWithDaemon(
      Identity.generate(),
      {
        async process() {
          running += 1;
          most = Math.max(most, running);
          if ((calls += 1) === 1) await late.promise;
          running -= 1;
          return payload;
        },
      },
      // What comes later has as long, so it is long enough for a machine that is busy.
      { callbackTimeoutMs: 1000 },
    );
    expect(await failure(handle.call(payload))).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
    late.resolve();
    expect(await handle.call(payload)).toEqual([payload]);
    expect(most).toBe(1);
  });

  test('requirement 130: a blocked event loop of the host is a timeout error for a caller on another node', async () => {
    const { mesh, rt } = await node();
    const out = script(
      `const mesh = await make(); const rt = DaemonRuntime.create(mesh); rt.start(); await mesh.start();
       const h = await rt.spawnWithDaemon(Identity.fromSeed(Buffer.alloc(32, 9)), {
         process() { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000); return Buffer.from('late'); } },
         { callbackTimeoutMs: 300 });
       await mesh.connect('${mesh.localAddr()}'); mesh.on('peer', (e) => { if (e.type === 'lost') mesh.shutdown(); });`,
    );
    const met = deferred();
    mesh.on('peer', ({ type }) => {
      if (type === 'connected') met.resolve();
    });
    await met.promise;
    const { originHash } = Identity.fromSeed(Buffer.alloc(32, 9));
    expect(await failure(rt.call(originHash, payload))).toMatchObject({ code: 'ERR_DAEMON_CALLBACK_TIMEOUT' });
    await mesh.shutdown();
    await out;
  });
});

test('call takes a timeout and a signal; an aborted call rejects with the reason', async () => {
  const { rt } = await node();
  const handle = await rt.spawnWithDaemon(Identity.generate(), { process: () => new Promise(() => undefined) });
  expect(await failure(handle.call(payload, { timeoutMs: 30 }))).toMatchObject({ code: 'ERR_DAEMON_CALL_TIMEOUT' });
  const reason = new Error('enough');
  const controller = new AbortController();
  const call = failure(handle.call(payload, { signal: controller.signal }));
  controller.abort(reason);
  expect(await call).toBe(reason);
  expect(await failure(handle.call(payload, { signal: AbortSignal.abort(reason) }))).toBe(reason);
});

test('hazard 17: workers that are terminated in the middle of callbacks leave the main thread unharmed', async () => {
  const out = await script(`
    const { Worker } = require('node:worker_threads');
    const main = await make(); const rt = DaemonRuntime.create(main); rt.start(); await main.start();
    const code = \`
      const { parentPort } = require('node:worker_threads');
      const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
      (async () => {
        const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '\${psk}' });
        const rt = DaemonRuntime.create(mesh); rt.start(); await mesh.start();
        await mesh.connect('\${main.localAddr()}');
        const stuck = await rt.spawnWithDaemon(Identity.generate(), { process: () => new Promise(() => {}) });
        const busy = await rt.spawnWithDaemon(Identity.generate(), { process: async (e) => e.payload });
        stuck.call(Buffer.alloc(8)).catch(() => {});
        parentPort.postMessage(0);
        for (;;) await Promise.all(Array.from({ length: 64 }, () => busy.call(Buffer.alloc(8))));
      })();\`;
    for (let round = 0; round < 25; round += 1) {
      const worker = new Worker(code, { eval: true });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await worker.terminate();
    }
    const h = await rt.spawnWithDaemon(Identity.generate(), { process: (e) => e.payload });
    console.log((await h.call(Buffer.from('fine'))).toString());
    await main.shutdown();`);
  expect(out).toBe('fine');
});

test('hazard 18: the process ends by itself after shutdown, with daemons that never settled', async () => {
  const out = await script(`
    const mesh = await make(); const rt = DaemonRuntime.create(mesh); rt.start(); rt.on('daemon', () => {});
    const h = await rt.spawnWithDaemon(Identity.generate(), { process: () => new Promise(() => {}) });
    h.call(Buffer.alloc(1)).catch((e) => console.log(e.code));
    await mesh.shutdown();`);
  expect(out).toBe('ERR_DAEMON_SHUTTING_DOWN');
});

test('a pending call keeps an unref-ed process alive until it settles', async () => {
  const out = await script(`
    const mesh = await make(); mesh.unref(); const rt = DaemonRuntime.create(mesh); rt.start();
    const h = await rt.spawnWithDaemon(Identity.generate(), { process: () => new Promise(() => {}) }, { callbackTimeoutMs: 100 });
    await h.call(Buffer.alloc(1)).catch((e) => console.log(e.code));`);
  expect(out).toBe('ERR_DAEMON_CALLBACK_TIMEOUT');
});

test('waits for a move that were given up keep no process alive', async () => {
  const out = await script(`
    const { native } = require('./dist/binding');
    const { testHooks } = require('./dist/runtime');
    const [a, b] = [await make(), await make()];
    const [here, there] = [DaemonRuntime.create(a), DaemonRuntime.create(b, { acceptMigrations: true })];
    await Promise.all([a.start(), b.start(), a.connect(b.localAddr())]);
    for (const rt of [here, there]) { rt.registerFactory('k', () => ({ process: () => {} })); rt.start(); }
    const h = await here.spawn('k', Identity.generate());
    native.testCloseGate(testHooks(there), 'Prepare');
    const move = await here.migrate(h.originHash, b.nodeId());
    for (let i = 0; i < 3; i += 1) await move.wait({ signal: AbortSignal.timeout(5) }).catch((e) => console.log(e.name));
    setTimeout(() => { console.log('still alive'); process.exit(); }, 5000).unref();
    a.unref(); b.unref();`);
  expect(out.split('\n')).toEqual(['TimeoutError', 'TimeoutError', 'TimeoutError']);
});

test('subscribing and leaving that were given up keep no process alive', async () => {
  const out = await script(`
    const [a, b] = [await make(), await make()];
    const rt = DaemonRuntime.create(a);
    rt.start();
    // The other was not started, so it answers nothing.
    await Promise.all([a.start(), a.connect(b.localAddr())]);
    const h = await rt.spawnWithDaemon(Identity.generate(), { process: () => {} });
    for (const method of ['subscribeChannel', 'unsubscribeChannel']) {
      const limit = { signal: AbortSignal.timeout(5) };
      await rt[method](h.originHash, b.nodeId(), 'room', limit).catch((e) => console.log(e.name));
    }
    setTimeout(() => { console.log('still alive'); process.exit(); }, 5000).unref();
    a.unref(); b.unref();`);
  expect(out.split('\n')).toEqual(['TimeoutError', 'TimeoutError']);
});

describe('hazards 12 and 20, requirement 134: what is left of stopped daemons', () => {
  // Counted are objects, native and JavaScript ones: memory of a process says little about them.
  const prelude = `
    const { native } = require('./dist/binding');
    const { testHooks } = require('./dist/runtime');
    const mesh = await make();
    const wait = () => new Promise((resolve) => setImmediate(resolve));
    const collected = { daemons: 0, states: 0 };
    const registry = new FinalizationRegistry((kind) => { collected[kind] += 1; });
    const settle = async () => { for (let i = 0; i < 20; i += 1) { global.gc(); await wait(); } };
    const make1 = () => {
      const state = new Uint8Array(100);
      const daemon = { process: (e) => e.payload, snapshot: () => state, restore() {} };
      registry.register(daemon, 'daemons'); registry.register(state, 'states');
      return daemon;
    };`;

  test('10 000 spawns and stops leave no object, native or of JavaScript; a live daemon is never collected', async () => {
    const out = await script(
      `${prelude}
      const rt = DaemonRuntime.create(mesh); rt.start();
      rt.registerFactory('made', make1);
      const other = await make();
      const peer = DaemonRuntime.create(other); peer.start();
      await Promise.all([mesh.start(), other.start()]);
      await mesh.connect(other.localAddr());
      const live = await (function () {
        const daemon = { n: 0, process() { this.n += 1; return Buffer.from(String(this.n)); } };
        registry.register(daemon, 'daemons');
        return rt.spawnWithDaemon(Identity.generate(), daemon);
      })();
      const cycle = async (i) => {
        const identity = Identity.generate();
        const h = await (i % 2 === 0 ? rt.spawn('made', identity) : rt.spawnWithDaemon(identity, make1()));
        if (i % 10 === 0) await h.call(Buffer.alloc(64));
        if (i % 50 === 0) {
          await peer.call(h.originHash, Buffer.alloc(64));
          await h.snapshot();
          await rt.locate(h.originHash);
        }
        await h.stop();
      };
      for (let i = 0; i < 10000; i += 100) await Promise.all(Array.from({ length: 100 }, (_, j) => cycle(i + j)));
      await settle();
      const census = [rt, peer].map((one) => native.testCensus(testHooks(one)));
      console.log(JSON.stringify({ collected, census, live: (await live.call(Buffer.alloc(1))).toString(), count: rt.daemonCount() }));
      await Promise.all([mesh.shutdown(), other.shutdown()]);`,
      '--expose-gc',
    );
    const none = { streamsIn: 0, streamsOut: 0, migrations: 0, arrivingBytes: 0, peakStateBytes: 0 };
    expect(JSON.parse(out)).toEqual({
      collected: { daemons: 10_000, states: 10_000 },
      census: [
        { daemons: 1, ...none },
        { daemons: 0, ...none },
      ],
      live: '1',
      count: 1,
    });
  }, 120_000);

  test('subscriptions that end by themselves and that nobody reads leave nothing', async () => {
    const out = await script(
      `${prelude}
      const { meshHandle } = require('./dist/mesh');
      collected.subscriptions = 0;
      const node = await make();
      await Promise.all([mesh.start(), node.start()]);
      await node.connect(mesh.localAddr());
      mesh.registerChannel({ name: 'a' });
      const open = async (publisher, name) => {
        const subscription = node.messages(publisher, name);
        registry.register(subscription, 'subscriptions');
        await subscription.ready.catch(() => {});
      };
      const readers = () => native.testReaders(meshHandle(undefined, '', node));
      for (let i = 0; i < 100; i += 1) await open(mesh.nodeId(), i % 2 === 0 ? 'a' : 'nothing');
      await mesh.publish('a', Buffer.from('unread'), { reliability: 'reliable' });
      const before = readers();
      const lost = new Promise((resolve) => node.on('peer', (e) => { if (e.type === 'lost') resolve(); }));
      await mesh.shutdown();
      await lost;
      await settle();
      const counts = [{ before, after: readers(), collected: collected.subscriptions }];
      node.registerChannel({ name: 'own' });
      for (let i = 0; i < 100; i += 1) await open(node.nodeId(), 'own');
      await node.shutdown();
      await settle();
      counts.push({ after: readers(), collected: collected.subscriptions });
      console.log(JSON.stringify(counts));`,
      '--expose-gc',
    );
    expect(JSON.parse(out)).toEqual([
      { before: 50, after: 0, collected: 100 },
      { after: 0, collected: 200 },
    ]);
  });

  test('a runtime that was shut down holds none of its daemons, whatever they were doing', async () => {
    const out = await script(
      `${prelude}
      const round = async () => {
        const rt = DaemonRuntime.create(mesh); rt.start();
        rt.registerFactory('made', make1);
        rt.on('daemon', () => {});
        const handles = await Promise.all(Array.from({ length: 10 }, () => rt.spawn('made', Identity.generate())));
        const snapshot = await handles[0].snapshot();
        const pending = [...handles.map((h) => h.call(Buffer.alloc(8))), handles[1].snapshot(), handles[2].stop(),
          rt.spawnFromSnapshotWithDaemon(Identity.generate(), snapshot, make1())];
        const settled = Promise.allSettled(pending);
        await rt.shutdown();
        await settled;
      };
      for (let index = 0; index < 20; index += 1) await round();
      await settle();
      console.log(JSON.stringify(collected));
      await mesh.shutdown();`,
      '--expose-gc',
    );
    expect(JSON.parse(out)).toEqual({ daemons: 220, states: 220 });
  }, 60_000);
});
