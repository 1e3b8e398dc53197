// A pipeline of two daemons in several processes, moved under load: every message runs once, in order.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Identity, type MeshDaemon } from 'mesh-daemon';
import { closeAll, node, PSK } from './helpers/nodes';

jest.setTimeout(120_000);

const ROOT = join(__dirname, '..');
const children = new Set<ChildProcessWithoutNullStreams>();

afterEach(async () => {
  for (const child of children) {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
  children.clear();
  await closeAll();
});

/** Passes on what it is sent, with the count of what it has seen. */
class Stage implements MeshDaemon {
  seen = 0;

  process({ payload }: { payload: Buffer }): Buffer {
    this.seen += 1;
    return Buffer.from(`${String(this.seen)}:${payload.toString()}`);
  }

  snapshot(): Buffer {
    return Buffer.from(String(this.seen));
  }

  restore(state: Buffer): void {
    this.seen = Number(state.toString());
  }
}

/** Keeps what it is sent. */
class Tally implements MeshDaemon {
  seen: string[] = [];

  process({ payload, channel }: { payload: Buffer; channel: string | null }): Buffer | undefined {
    if (channel === null) return Buffer.from(JSON.stringify(this.seen));
    this.seen.push(payload.toString());
    return undefined;
  }

  snapshot(): Buffer {
    return Buffer.from(JSON.stringify(this.seen));
  }

  restore(state: Buffer): void {
    this.seen = JSON.parse(state.toString()) as string[];
  }
}

// It ends with its parent.
const script = `
  const { DaemonRuntime, MeshNode } = require('mesh-daemon');
  ${Stage.toString()}
  ${Tally.toString()}
  (async () => {
    const [psk, ...peers] = process.argv.slice(1);
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
    const rt = DaemonRuntime.create(mesh, { acceptMigrations: true, orchestrators: 'any' });
    rt.registerFactory('stage', () => new Stage());
    rt.registerFactory('tally', () => new Tally());
    rt.start();
    await mesh.start();
    mesh.registerChannel({ name: 'between' });
    for (const peer of peers) await mesh.connect(peer);
    process.stdin.resume().on('end', () => process.exit());
    console.log([mesh.localAddr(), mesh.nodeId()].join(' '));
  })();`;

async function other(peers: readonly string[]): Promise<{ addr: string; id: bigint }> {
  const child = spawn(process.execPath, ['-e', script, PSK, ...peers], { cwd: ROOT });
  children.add(child);
  child.stderr.pipe(process.stderr);
  const line = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  const [addr = '', id = '0'] = String(line.value).split(' ');
  return { addr, id: BigInt(id) };
}

test('a two-daemon pipeline that is moved under load: counts are exact', async () => {
  const here = await node({ acceptMigrations: true, orchestrators: 'any' });
  const one = await other([here.mesh.localAddr()]);
  const two = await other([here.mesh.localAddr(), one.addr]);
  const nodes = [here.id, one.id, two.id];
  for (const id of nodes.slice(1)) await here.mesh.accept(id);
  here.rt.registerFactory('stage', () => new Stage());
  here.rt.registerFactory('tally', () => new Tally());
  here.mesh.registerChannel({ name: 'in' });
  here.mesh.registerChannel({ name: 'between' });
  const stage = await here.rt.spawn('stage', Identity.generate(), { outputChannel: 'between' });
  const tally = await here.rt.spawn('tally', Identity.generate());
  await here.rt.subscribeChannel(stage.originHash, here.id, 'in');
  // Wherever the stage lives, its outputs are published there.
  for (const id of nodes) await here.rt.subscribeChannel(tally.originHash, id, 'between');

  const count = 2_000;
  const publishing = (async () => {
    const reports: Promise<unknown>[] = [];
    for (let number = 0; number < count; number += 1) {
      reports.push(here.mesh.publish('in', Buffer.from(String(number)), { reliability: 'reliable' }));
      if (number % 20 === 19) await Promise.all(reports.splice(0, 10));
    }
    await Promise.all(reports);
  })();
  const published = { over: false };
  void publishing.then(() => (published.over = true));
  let moves = 0;
  for (let turn = 0; !published.over || turn < 6; turn += 1) {
    const daemon = turn % 2 === 0 ? stage : tally;
    const target = nodes[(turn + 1) % nodes.length] ?? here.id;
    await (await here.rt.migrate(daemon.originHash, target)).wait();
    moves += 1;
  }
  await publishing;
  expect(moves).toBeGreaterThanOrEqual(6);
  let seen: string[] = [];
  while (seen.length < count) {
    const [all] = await here.rt.call(tally.originHash, Buffer.from(''));
    seen = JSON.parse(String(all)) as string[];
  }
  expect(seen).toEqual(Array.from({ length: count }, (_, number) => `${String(number + 1)}:${String(number)}`));
});
