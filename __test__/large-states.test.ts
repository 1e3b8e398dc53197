// A large state that moves from one process to another is there once on either side; and many moves at once all end.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Identity } from 'mesh-daemon';
import { closeAll, Counter, node, PSK } from './helpers/nodes';
import { killAll, other } from './helpers/processes';

jest.setTimeout(120_000);
afterEach(async () => {
  killAll();
  await closeAll();
});

const MiB = 1024 * 1024;
const SIZE = 256 * MiB;
/** What may be read ahead, or wait in queues. */
const AHEAD = 16 * MiB;

// The source moves its daemon and says what it took, the target says so when its input ends. Counted are bytes of states
// that the native part held or had reserved at most, and bytes of buffers that live in JavaScript.
const script = `
  const { createHash } = require('node:crypto');
  const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
  const [psk, size, addr, target] = process.argv.slice(1);
  const hash = (state) => createHash('sha256').update(state).digest('hex');
  (async () => {
    let arrived;
    const make = (state) => ({
      process: () => undefined,
      snapshot: () => state,
      restore(given) { look(); arrived = given; },
    });
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
    const rt = DaemonRuntime.create(mesh, { acceptMigrations: true });
    rt.registerFactory('large', () => make());
    await mesh.start();
    rt.start();
    const state = addr && Buffer.alloc(Number(size));
    for (let at = 0; at < (state ? state.length : 0); at += 1024) state.writeUInt32LE(at, at);
    const buffers = () => { const { arrayBuffers, external } = process.memoryUsage(); return Math.max(arrayBuffers, external); };
    const before = buffers();
    let most = before;
    const look = () => { most = Math.max(most, buffers()); };
    const timer = setInterval(look, 1);
    const report = (given) => {
      clearInterval(timer);
      const id = require('./dist/runtime').testHooks(rt);
      const { peakStateBytes, arrivingBytes, daemons } = require('./dist/binding').native.testCensus(id);
      console.log(JSON.stringify({
        length: given.length, digest: hash(given), buffers: most - before, peakStateBytes, arrivingBytes, daemons,
      }));
    };
    if (addr) {
      await mesh.connect(addr);
      const { originHash } = await rt.spawnWithDaemon(Identity.generate(), make(state), { kind: 'large' });
      await (await rt.migrate(originHash, BigInt(target))).wait();
      report(state);
      await mesh.shutdown();
    } else {
      process.stdin.resume().on('end', () => { report(arrived); void mesh.shutdown(); });
      console.log(mesh.localAddr() + ' ' + mesh.nodeId());
    }
  })();`;

interface Report {
  readonly length: number;
  readonly digest: string;
  /** Of JavaScript, beyond what was there before the move. */
  readonly buffers: number;
  readonly peakStateBytes: number;
  readonly arrivingBytes: number;
  readonly daemons: number;
}

test('a state of 256 MiB moves between processes without a second whole copy on either side', async () => {
  const cwd = join(__dirname, '..');
  const child = spawn(process.execPath, ['-e', script, PSK, String(SIZE)], { cwd, stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  const args = ['-e', script, PSK, String(SIZE), ...(await next()).split(' ')];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd });
  child.stdin.end();
  const [source, target] = [JSON.parse(stdout) as Report, JSON.parse(await next()) as Report];
  expect(await exit).toEqual([0, null]);
  expect([target.length, target.digest]).toEqual([SIZE, source.digest]);
  expect([source.daemons, target.daemons]).toEqual([0, 1]);
  // The source read its daemon's own Buffer, slice by slice.
  expect(source.buffers).toBeLessThan(AHEAD);
  expect(source.peakStateBytes).toBeGreaterThan(0);
  expect(source.peakStateBytes).toBeLessThan(AHEAD);
  // The target had room for it once, and gave the daemon that very memory.
  expect(target.peakStateBytes).toBeGreaterThanOrEqual(SIZE);
  expect(target.peakStateBytes).toBeLessThan(SIZE + AHEAD);
  expect(target.arrivingBytes).toBe(0);
  expect(target.buffers).toBeLessThan(SIZE + AHEAD);
});

test('hundreds of moves at once, both ways between two processes, all end, and every daemon is there once', async () => {
  const COUNT = 200;
  const here = await node({ acceptMigrations: true });
  here.rt.registerFactory('counter', () => new Counter());
  const there = await other([here.mesh.localAddr()], { stays: true });
  await here.rt.call(there.origin, Buffer.from('x'));
  const identities = Array.from({ length: COUNT }, () => Identity.generate());
  const leaving = await Promise.all(identities.map(async (one) => (await here.rt.spawn('counter', one)).originHash));
  const coming: bigint[] = [];
  for (let n = 0; n < COUNT; n += 1) {
    const identity = Identity.generate();
    await there.spawn(identity);
    coming.push(identity.originHash);
  }
  const answers = async (origins: readonly bigint[]): Promise<string[]> =>
    (await Promise.all(origins.map((origin) => here.rt.call(origin, Buffer.from('x'))))).map(String);
  await answers([...leaving, ...coming]);

  const moves = await Promise.all([
    ...leaving.map((origin) => here.rt.startMigration(origin, here.id, there.id)),
    ...coming.map((origin) => here.rt.startMigration(origin, there.id, here.id)),
  ]);
  const ends = await Promise.allSettled(moves.map((move) => move.wait()));
  expect(ends.filter(({ status }) => status === 'rejected')).toEqual([]);
  expect(ends).toHaveLength(2 * COUNT);
  expect([here.rt.daemonCount(), here.rt.migrations()]).toEqual([COUNT, []]);
  expect(await answers(leaving)).toEqual(leaving.map(() => `2:x:${String(there.child.pid)}`));
  expect(await answers(coming)).toEqual(coming.map(() => '2:x'));
});
