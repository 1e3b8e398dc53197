// The two child processes, as the first process sees them.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** What a host says of itself, as one line of JSON (64-bit numbers as strings). */
export interface HostCard {
  addr: string;
  publicKey: string;
  nodeId: string;
  counter?: string;
}

/** What a host is told first: the mesh, and which node moves its daemons. */
export interface Hello {
  psk: string;
  lead: string;
}

/** What a host is told of the other one. */
export type Sibling = Pick<HostCard, 'addr' | 'publicKey'>;

/** A child process that hosts daemons. */
export interface Host {
  readonly name: string;
  readonly card: HostCard;
  readonly nodeId: bigint;
}

/** Starts both hosts and makes them known to each other. What they are runs until `stop`. */
export class Hosts {
  readonly #children: ChildProcess[] = [];
  #stopping = false;

  /** Rejects when a host ends although nobody stopped it. */
  readonly failed: Promise<never>;
  #fail!: (error: Error) => void;

  constructor() {
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    // It is waited for in races only.
    this.failed.catch(() => undefined);
  }

  async start(program: string, hello: Hello): Promise<[first: Host, second: Host]> {
    const first = this.#spawn('A', program, ['--host', 'with-counter'], hello);
    const second = this.#spawn('B', program, ['--host'], hello);
    const [a, b] = await Promise.race([Promise.all([first.card(), second.card()]), this.failed]);
    first.tell({ addr: b.addr, publicKey: b.publicKey } satisfies Sibling);
    second.tell({ addr: a.addr, publicKey: a.publicKey } satisfies Sibling);
    await Promise.race([Promise.all([first.ready(), second.ready()]), this.failed]);
    return [host('A', a), host('B', b)];
  }

  /** Closes the hosts' inputs, which ends them, and waits until they are gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, 'exit');
        child.stdin?.end();
        const impatient = setTimeout(() => child.kill('SIGKILL'), 5000);
        await gone;
        clearTimeout(impatient);
      }),
    );
  }

  #spawn(name: string, program: string, args: string[], hello: Hello) {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#children.push(child);
    child.on('exit', (code, signal) => {
      if (!this.#stopping) this.#fail(new Error(`host ${name} ended: ${signal ?? `exit status ${code ?? '?'}`}`));
    });
    // A host that has just died reads nothing; its exit says so.
    child.stdin.on('error', () => undefined);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async (): Promise<unknown> => {
      const line = await lines.next();
      if (line.done === true) throw new Error(`host ${name} ended before it was ready`);
      return JSON.parse(line.value);
    };
    child.stdin.write(`${JSON.stringify(hello)}\n`);
    return {
      card: async () => (await answer()) as HostCard,
      ready: answer,
      tell: (sibling: Sibling) => child.stdin.write(`${JSON.stringify(sibling)}\n`),
    };
  }
}

function host(name: string, card: HostCard): Host {
  return { name, card, nodeId: BigInt(card.nodeId) };
}
