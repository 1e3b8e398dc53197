// Nodes in processes of their own, and their end.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { MeshNodeOptions } from 'mesh-daemon';
import { PSK } from './nodes';

const ROOT = join(__dirname, '..', '..');
const children = new Set<ChildProcessWithoutNullStreams>();

/** Notices within a second that another process died. */
export const ALERT: Partial<MeshNodeOptions> = {
  heartbeatIntervalMs: 100,
  sessionTimeoutMs: 1_000,
  reconnect: false,
};

/** Kills what was started here and still runs. */
export function killAll(): void {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
}

export interface Other {
  readonly child: ChildProcessWithoutNullStreams;
  readonly addr: string;
  readonly id: bigint;
  /** A counter that lives there from the start. */
  readonly origin: bigint;
  /** Has it start to move a daemon; resolves when that is under way. */
  migrate(origin: bigint, source: bigint, target: bigint): Promise<void>;
}

// It ends when any of its peers does, so nothing outlives a test.
const script = `
  const { createInterface } = require('node:readline');
  const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
  class Counter {
    seen = 0;
    process(event) { this.seen += 1; return Buffer.from(this.seen + ':' + event.payload + ':' + process.pid); }
    snapshot() { return Buffer.from(String(this.seen)); }
    restore(state) { this.seen = Number(state); }
  }
  (async () => {
    const [psk, stays, ...peers] = process.argv.slice(1);
    const options = { heartbeatIntervalMs: 100, sessionTimeoutMs: 1000, reconnect: false };
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk, ...options });
    const rt = DaemonRuntime.create(mesh, { acceptMigrations: true, orchestrators: 'any' });
    rt.registerFactory('counter', () => new Counter());
    rt.start();
    await mesh.start();
    const { originHash } = await rt.spawn('counter', Identity.generate());
    for (const peer of peers) await mesh.connect(peer);
    if (stays !== 'stays') mesh.on('peer', (e) => { if (e.type === 'lost') mesh.shutdown(); });
    process.stdin.on('end', () => mesh.shutdown());
    createInterface({ input: process.stdin }).on('line', async (line) => {
      const [origin, source, target] = line.split(' ').map(BigInt);
      await rt.startMigration(origin, source, target);
      console.log('migrating');
    });
    process.stdin.unref();
    console.log([mesh.localAddr(), mesh.nodeId(), originHash].join(' '));
  })();`;

/** Another process with a ready node that accepts counters and any orchestrator, connected to these addresses. */
export async function other(peers: string[] = [], { stays = false } = {}): Promise<Other> {
  const args = ['-e', script, PSK, stays ? 'stays' : 'ends', ...peers];
  const child = spawn(process.execPath, args, { cwd: ROOT });
  children.add(child);
  child.stderr.pipe(process.stderr);
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const next = await lines.next();
    if (next.done === true) throw new Error('the process ended');
    return next.value;
  };
  const [addr = '', id = '0', origin = '0'] = (await line()).split(' ');
  return {
    child,
    addr,
    id: BigInt(id),
    origin: BigInt(origin),
    migrate: async (...numbers) => {
      child.stdin.write(`${numbers.join(' ')}\n`);
      await line();
    },
  };
}

/** Kills a process and resolves when it is gone. */
export async function kill({ child }: Other): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
