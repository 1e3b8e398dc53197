// A move between processes of their own, and the death of either side.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Identity } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, failure, node, PSK, type Node } from './helpers/nodes';

const children = new Set<ChildProcessWithoutNullStreams>();

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  await closeAll();
});

const ROOT = join(__dirname, '..');
const payload = Buffer.from('x');

/** Another process with a ready node that accepts counters, and has one if given a seed; ends when its only peer does. */
async function other(seed = 0): Promise<{ child: ChildProcessWithoutNullStreams; addr: string; id: bigint }> {
  const script = `
    const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
    class Counter {
      seen = 0;
      process(event) { this.seen += 1; return Buffer.from(this.seen + ':' + event.payload + ':' + process.pid); }
      snapshot() { return Buffer.from(String(this.seen)); }
      restore(state) { this.seen = Number(state); }
    }
    (async () => {
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '${PSK}' });
      const rt = DaemonRuntime.create(mesh, { acceptMigrations: true });
      rt.registerFactory('counter', () => new Counter());
      rt.start();
      await mesh.start();
      mesh.on('peer', (e) => { if (e.type === 'lost') mesh.shutdown(); });
      const { seed } = process.env;
      if (seed) await rt.spawnWithDaemon(Identity.fromSeed(Buffer.alloc(32, Number(seed))), new Counter());
      rt.on('daemon', (e) => console.log(e.type));
      console.log(mesh.localAddr() + ' ' + mesh.nodeId());
    })();`;
  const env = { ...process.env, seed: seed === 0 ? '' : String(seed) };
  const child = spawn(process.execPath, ['-e', script], { cwd: ROOT, env });
  children.add(child);
  child.stderr.pipe(process.stderr);
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const [addr = '', id = '0'] = line.split(' ');
  return { child, addr, id: BigInt(id) };
}

test('the first call of a session finds what lives in the other process, ten times at once', async () => {
  const here = await node();
  const seeds = Array.from({ length: 10 }, (_, index) => index + 1);
  const answers = await Promise.all(
    seeds.map(async (seed) => {
      const { originHash } = Identity.fromSeed(Buffer.alloc(32, seed));
      const { addr, id, child } = await other(seed);
      await here.mesh.connect(addr);
      const [answer] = await here.rt.call(originHash, payload);
      expect(answer?.toString()).toBe(`1:x:${String(child.pid)}`);
      return [await here.rt.locate(originHash), id];
    }),
  );
  for (const [found, id] of answers) expect(found).toBe(id);
});

async function source(): Promise<Node & { origin: bigint }> {
  const here = await node({}, { mesh: { heartbeatIntervalMs: 100, sessionTimeoutMs: 1_000, reconnect: false } });
  const { originHash } = await here.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  await here.rt.call(originHash, payload);
  return { ...here, origin: originHash };
}

test('a daemon moves to another process and answers from there; that process ends by itself', async () => {
  const here = await source();
  const there = await other();
  await here.mesh.connect(there.addr);
  await (await here.rt.migrate(here.origin, there.id)).wait();
  expect(here.rt.daemonCount()).toBe(0);
  expect(await here.rt.call(here.origin, payload)).toEqual([Buffer.from(`2:x:${String(there.child.pid)}`)]);
  expect(await here.rt.locate(here.origin)).toBe(there.id);
  const exit = once(there.child, 'exit');
  await here.mesh.shutdown();
  expect(await exit).toEqual([0, null]);
});

test.each(['Prepared', 'Reserved', 'RestoreComplete', 'ReplayComplete', 'CutoverNotify'])(
  'hazard 24: the target is killed with %s on its way: the daemon goes on here',
  async (message) => {
    const here = await source();
    const there = await other();
    await here.mesh.connect(there.addr);
    const held = gate(here.rt, message);
    const move = await here.rt.migrate(here.origin, there.id);
    await held.reached;
    there.child.kill('SIGKILL');
    expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'source' });
    expect(await here.rt.call(here.origin, payload)).toEqual([Buffer.from('2:x')]);
  },
);

test('the target is killed behind the hand-over: the outcome is in doubt, and calls say so', async () => {
  const here = await source();
  const there = await other();
  await here.mesh.connect(there.addr);
  const held = gate(here.rt, 'ActivateAck');
  const move = await here.rt.migrate(here.origin, there.id);
  await held.reached;
  there.child.kill('SIGKILL');
  expect(await failure(move.wait())).toMatchObject({ kind: 'peer-lost', outcome: 'unknown' });
  expect(here.rt.daemonCount()).toBeLessThanOrEqual(1);
});
