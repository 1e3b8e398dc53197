// Nodes in processes of their own, and their end.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Identity, MeshNodeOptions } from 'mesh-daemon';
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
  /** Has it spawn a counter of that identity, or a follower: that one takes an event whenever a counter there has taken one. */
  spawn(identity: Identity, kind?: 'counter' | 'follower'): Promise<void>;
  /** Has it start to move a daemon; resolves when that is under way. */
  migrate(origin: bigint, source: bigint, target: bigint): Promise<void>;
  /** Has it hold messages of this name from now on; `reached` resolves when there is one. */
  hold(message: string): Promise<{ reached: Promise<void> }>;
  /** Has a daemon of it receive a channel. */
  subscribe(origin: bigint, publisher: bigint, channel: string): Promise<void>;
  /** Has it call a daemon; the answer, or the code of what it failed with. */
  call(origin: bigint): Promise<string>;
  /** What it says next without being asked: that a daemon was fenced, by which way. */
  said(): Promise<string>;
  /** Another process under the same identity, connected to these addresses, or joining through them: its next life. */
  again(peers: string[]): Promise<Other>;
}

// It ends when any of its peers does, so nothing outlives a test.
const script = `
  const { createInterface } = require('node:readline');
  const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
  let next = () => undefined;
  class Counter {
    seen = 0;
    process(event) { this.seen += 1; next(); return Buffer.from(this.seen + ':' + event.payload + ':' + process.pid); }
    snapshot() { return Buffer.from(String(this.seen)); }
    restore(state) { this.seen = Number(state); }
    onStop(reason) { if (reason === 'fenced') console.log('onStop ' + reason); }
  }
  class Follower {
    seen = 0;
    async process() { await new Promise((resolve) => { next = resolve; }); return Buffer.from(String(this.seen++)); }
  }
  (async () => {
    const [psk, role, seed, ...peers] = process.argv.slice(1);
    const seeds = role === 'joins' ? peers.splice(0) : [];
    const identitySeed = Buffer.from(seed, 'hex');
    const options = { identitySeed, heartbeatIntervalMs: 100, sessionTimeoutMs: 1000, reconnect: false };
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk, seeds, ...options });
    const rt = DaemonRuntime.create(mesh, { acceptMigrations: true, orchestrators: 'any' });
    rt.registerFactory('counter', () => new Counter());
    rt.registerFactory('follower', () => new Follower());
    rt.on('daemon', (e) => { if (e.type === 'fenced') console.log('event ' + e.type); });
    rt.start();
    await mesh.start();
    const { originHash } = await rt.spawn('counter', Identity.generate());
    for (const peer of peers) await mesh.connect(peer);
    if (role === 'ends') mesh.on('peer', (e) => { if (e.type === 'lost') mesh.shutdown(); });
    process.stdin.on('end', () => mesh.shutdown());
    const capacity = { follower: { mailboxCapacity: 8 } };
    const commands = {
      async spawn(seed, kind) {
        await rt.spawn(kind, Identity.fromSeed(Buffer.from(seed, 'hex')), capacity[kind]);
        return 'spawned';
      },
      async migrate(...numbers) {
        await rt.startMigration(...numbers.map(BigInt));
        return 'migrating';
      },
      hold(message) {
        const id = require('./dist/runtime').testHooks(rt, (name) => { if (name === message) console.log('reached'); });
        require('./dist/binding').native.testCloseGate(id, message);
        return 'holding';
      },
      async subscribe(origin, publisher, channel) {
        await rt.subscribeChannel(BigInt(origin), BigInt(publisher), channel);
        return 'subscribed';
      },
      call: (origin) => rt.call(BigInt(origin), Buffer.from('x')).then(String, (error) => error.code),
    };
    createInterface({ input: process.stdin }).on('line', async (line) => {
      const [command, ...given] = line.split(' ');
      console.log(await commands[command](...given));
    });
    process.stdin.unref();
    console.log([mesh.localAddr(), mesh.nodeId(), originHash].join(' '));
  })();`;

/**
 * Another process with a ready node that accepts counters and any orchestrator, connected to these addresses, or joining
 * through them.
 */
export async function other(peers: string[] = [], { stays = false, joins = false } = {}): Promise<Other> {
  return start(joins ? 'joins' : stays ? 'stays' : 'ends', randomBytes(32).toString('hex'), peers);
}

async function start(role: 'joins' | 'stays' | 'ends', seed: string, peers: string[]): Promise<Other> {
  const args = ['-e', script, PSK, role, seed, ...peers];
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
  const ask = (...words: unknown[]): Promise<string> => {
    child.stdin.write(`${words.join(' ')}\n`);
    return line();
  };
  return {
    child,
    addr,
    id: BigInt(id),
    origin: BigInt(origin),
    spawn: async (identity, kind = 'counter') => {
      await ask('spawn', identity.toBytes().toString('hex'), kind);
    },
    migrate: async (...numbers) => {
      await ask('migrate', ...numbers);
    },
    hold: async (message) => {
      await ask('hold', message);
      return { reached: line().then(() => undefined) };
    },
    subscribe: async (...subscription) => {
      await ask('subscribe', ...subscription);
    },
    call: (called) => ask('call', called),
    said: line,
    again: (known) => start(role, seed, known),
  };
}

/** Kills a process and resolves when it is gone. */
export async function kill({ child }: Other): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
