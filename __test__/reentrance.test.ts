// Code of the user's that is reached while the package is at work: it may call back into it, and it may throw.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Identity } from 'mesh-daemon';
import { closeAll, deferred, failure, node, pair, PSK } from './helpers/nodes';

afterEach(closeAll);

/** What a script prints that runs in a process of its own, where an uncaught exception is no failure of Jest's. */
async function printed(script: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { cwd: join(__dirname, '..') });
  return stdout;
}

test('hazard 14: reading a thrown error may run code that delivers; outcomes of its batch stay what they are', async () => {
  const [a, b] = await pair();
  const first = deferred();
  const other = await a.rt.spawnWithDaemon(Identity.generate(), { process: ({ payload }) => [payload, payload] });
  const event = { originHash: 1n, sequence: 1n, payload: Buffer.from('not theirs') };
  const read: Promise<unknown>[] = [];
  const hostile = (): Error =>
    Object.defineProperty(new Error(), 'message', {
      get() {
        // With their links, so that the outputs cross at once.
        read.push(a.rt.deliverCausal(other.originHash, event), a.rt.deliver(other.originHash, event));
        return 'read';
      },
    });
  const handle = await a.rt.spawnWithDaemon(Identity.generate(), {
    process: async ({ payload }) => {
      const text = payload.toString();
      if (text === 'wait') await first.promise;
      if (text === 'bad') throw hostile();
      return payload;
    },
  });
  const waiting = b.rt.call(handle.originHash, Buffer.from('wait'));
  const calls = ['one', 'bad', 'two', 'bad', 'three'].map((text) => b.rt.call(handle.originHash, Buffer.from(text)));
  const settled = Promise.allSettled(calls);
  // It is in the mailbox, and so are those before it.
  await b.rt.send(handle.originHash, Buffer.from('last'));
  first.resolve();
  expect(await waiting).toEqual([Buffer.from('wait')]);
  const bad = { status: 'rejected', reason: { code: 'ERR_DAEMON_PROCESS_FAILED', cause: { message: 'read' } } };
  const good = (text: string): object => ({ status: 'fulfilled', value: [Buffer.from(text)] });
  expect(await settled).toMatchObject([good('one'), bad, good('two'), bad, good('three')]);
  expect(read.length).toBeGreaterThan(0);
  await Promise.all(read);
  expect(handle.stats()).toMatchObject({ eventsProcessed: 5n, errors: 2n });
});

test('hazard 14: a promise whose then throws fails that event alone, on its caller’s stack and in a batch', async () => {
  const { rt } = await node();
  const evil = (): Promise<Buffer> =>
    Object.assign(Promise.resolve(Buffer.alloc(0)), {
      then: () => {
        throw new Error('no promise');
      },
    });
  const handle = await rt.spawnWithDaemon(Identity.generate(), {
    process: ({ payload }) => (payload.length === 0 ? evil() : payload),
  });
  const calls = [Buffer.alloc(0), Buffer.alloc(0), Buffer.from('x')].map((payload) => handle.call(payload));
  const code = 'ERR_DAEMON_PROCESS_FAILED';
  const settled = await Promise.allSettled(calls);
  const failed = { status: 'rejected', reason: { code, cause: { message: 'no promise' } } };
  expect(settled).toMatchObject([failed, failed, { status: 'fulfilled', value: [Buffer.from('x')] }]);
  expect(await failure(handle.call(Buffer.alloc(0)))).toMatchObject({ code });
  expect(handle.stats()).toMatchObject({ errors: 3n, eventsProcessed: 1n });
});

test('what throws in a turn is an uncaught exception, and the rest of the turn goes on', async () => {
  const script = `
    const { nextTurn } = require('./dist/dispatcher-turn.js');
    process.on('uncaughtException', ({ message }) => console.log(message));
    nextTurn(() => { throw new Error('one'); });
    nextTurn(() => console.log('two'));`;
  expect((await printed(script)).split('\n').sort()).toEqual(['', 'one', 'two']);
});

test('a listener that throws is an uncaught exception; other listeners hear it, and events go on', async () => {
  const script = `
    const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
    process.on('uncaughtException', ({ message }) => console.log(message));
    (async () => {
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '${PSK}' });
      const rt = DaemonRuntime.create(mesh);
      rt.start();
      rt.on('daemon', () => { throw new Error('bad listener'); });
      rt.on('daemon', ({ type }) => console.log(type));
      const handle = await rt.spawnWithDaemon(Identity.generate(), { process: ({ payload }) => payload });
      console.log(String(await handle.call(Buffer.from('answered'))));
      await mesh.shutdown();
    })();`;
  const lines = (await printed(script)).split('\n');
  expect(lines.sort()).toEqual(['', 'answered', 'bad listener', 'bad listener', 'spawned', 'stopped']);
});
