// A node and the life of its process: kept alive until shutdown, goodbyes on exit, workers that are terminated.

import { execFile, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import { any, thrown } from './helpers/nodes';

const ROOT = join(__dirname, '..');
const PSK = '11'.repeat(32);

/** Starts a script with `MeshNode` and `psk` at hand; `next()` gives its lines of output. */
function program(script: string): {
  child: ChildProcessWithoutNullStreams;
  next: () => Promise<string>;
  exit: Promise<number>;
} {
  const prelude = `const { MeshNode } = require('mesh-daemon'); const psk = '${PSK}';`;
  const main = `(async () => { ${script} })().catch((e) => { console.log('error', e); process.exitCode = 9; });`;
  const child = spawn(process.execPath, ['-e', prelude + main], { cwd: ROOT });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  child.stderr.pipe(process.stderr);
  return {
    child,
    next: async () => ((await lines.next()) as IteratorResult<string, string>).value,
    exit: once(child, 'exit').then(([code]) => code as number),
  };
}

test('a node that ends, or has ended, gets no runtime', async () => {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
  const runtime = DaemonRuntime.create(mesh);
  const ending = mesh.shutdown();
  const create = (): unknown => DaemonRuntime.create(mesh);
  expect(thrown(create)).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  // What is wrong with the call is told before.
  expect(thrown(() => DaemonRuntime.create(mesh, any({ silenceMs: 1 })))).toMatchObject({
    code: 'ERR_DAEMON_INVALID_ARGUMENT',
  });
  await ending;
  expect(thrown(create)).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  expect(runtime.isReady()).toBe(false);
});

describe('the process', () => {
  test('ends by itself after shutdown (hazard 18)', async () => {
    const { exit } = program(`
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
      mesh.on('peer', () => {});
      await mesh.start();
      await mesh.shutdown();`);
    await expect(exit).resolves.toBe(0);
  });

  test('ends by itself after unref, although somebody waits in accept', async () => {
    const { exit } = program(`
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
      await mesh.start();
      mesh.accept(1n).catch(() => {});
      mesh.unref();`);
    await expect(exit).resolves.toBe(0);
  });

  test('is kept alive by a node, until another node has reached it', async () => {
    const { next, exit, child } = program(`
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
      mesh.on('peer', async (e) => { if (e.type === 'connected') { console.log('met'); await mesh.shutdown(); } });
      console.log(mesh.localAddr());`);
    const addr = await next();
    // No timer, no pending promise: only the node keeps it alive while this process sets up its own.
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
    expect(child.exitCode).toBeNull();
    await mesh.connect(addr);
    await expect(next()).resolves.toBe('met');
    await expect(exit).resolves.toBe(0);
    await mesh.shutdown();
  });

  test('a pending connect keeps an unref-ed process alive until it settles', async () => {
    const { next, exit } = program(`
      const { createServer } = require('node:net');
      const server = createServer((socket) => socket.resume().on('error', () => {}));
      server.listen(0, '127.0.0.1', async () => {
        server.unref();
        const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
        mesh.unref();
        const outcome = mesh.connect('127.0.0.1:' + server.address().port).then(() => 'session', (e) => e.code);
        console.log(await outcome);
      });`);
    await expect(next()).resolves.toBe('ERR_MESH_HANDSHAKE_FAILED');
    await expect(exit).resolves.toBe(0);
  });

  test('process.exit says goodbye', async () => {
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
    const lost = new Promise<bigint>((resolve) => {
      mesh.on('peer', ({ type, nodeId }) => {
        if (type === 'suspected') throw new Error('a goodbye says that the peer is lost, not suspected');
        if (type === 'lost') resolve(nodeId);
      });
    });
    const { next, exit } = program(`
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
      console.log(await mesh.connect('${mesh.localAddr()}') === ${mesh.nodeId().toString()}n, mesh.nodeId());
      process.exit(3);`);
    const line = await next();
    await expect(exit).resolves.toBe(3);
    expect(line).toBe(`true ${(await lost).toString()}n`);
    await mesh.shutdown();
  });

  test("one 'exit' listener for all nodes, gone with the last", async () => {
    const before = process.listenerCount('exit');
    const nodes = await Promise.all([1, 2].map(() => MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK })));
    expect(process.listenerCount('exit')).toBe(before + 1);
    await nodes[0]?.shutdown();
    expect(process.listenerCount('exit')).toBe(before + 1);
    await nodes[1]?.shutdown();
    expect(process.listenerCount('exit')).toBe(before);
  });
});

test("Jest's open-handle detector is silent (hazard 18)", async () => {
  const jestProgram = join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js');
  const files = ['mesh', 'logger', 'identity'].map((name) => join(__dirname, `${name}.test.ts`));
  const { stderr } = await promisify(execFile)(
    process.execPath,
    [jestProgram, '--detectOpenHandles', '--runTestsByPath', ...files],
    { cwd: ROOT },
  );
  expect(stderr).toContain('Test Suites: 3 passed');
  expect(stderr).not.toContain('open handle');
}, 120_000);

test('a worker that is terminated takes its nodes with it, 25 times; the main thread is unaffected (hazard 17)', async () => {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
  const script = `
    const { parentPort } = require('node:worker_threads');
    const { MeshNode, Identity } = require('mesh-daemon');
    (async () => {
      const node = () => MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '${PSK}' });
      const [a, b] = await Promise.all([node(), node()]);
      await Promise.all([a.start(), b.start()]);
      await a.connect('${mesh.localAddr()}');
      await a.connect(b.localAddr());
      b.accept(1n);
      a.connect('127.0.0.1:1').catch(() => {});
      parentPort.postMessage([a.nodeId(), b.localAddr()]);
      for (;;) { Identity.generate().sign(Buffer.from('busy')); await a.connect(b.localAddr()); }
    })();`;
  for (let round = 0; round < 25; round += 1) {
    const lost = new Promise<bigint>((resolve) => {
      mesh.on('peer', function listener({ type, nodeId }) {
        if (type !== 'lost') return;
        mesh.off('peer', listener);
        resolve(nodeId);
      });
    });
    const worker = new Worker(script, { eval: true });
    const [[nodeId, other]] = (await once(worker, 'message')) as [[bigint, string]];
    await worker.terminate();
    expect(await lost).toBe(nodeId);
    // The port of the worker's other node is free.
    await expect(mesh.connect(other)).rejects.toMatchObject({ code: 'ERR_MESH_UNREACHABLE' });
  }
  const peer = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
  await expect(peer.connect(mesh.localAddr())).resolves.toBe(mesh.nodeId());
  await Promise.all([peer.shutdown(), mesh.shutdown()]);
}, 120_000);
