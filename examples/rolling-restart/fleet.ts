// The processes that are restarted, as the first process sees them.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** Where a node is found. */
export interface Contact {
  addr: string;
  publicKey: string;
}

/** What a service says of itself, as one line of JSON (64-bit numbers as strings). */
export interface Card extends Contact {
  nodeId: string;
  tallies: string[];
}

/** A running service. */
export interface Service {
  readonly card: Card;
  /** Has it connect to another one. */
  meet(contact: Contact): Promise<void>;
  /** Sends SIGTERM and resolves with the exit status when it has ended. */
  terminate(): Promise<number | null>;
}

/** Starts services and ends them. */
export class Fleet {
  readonly #children = new Set<ChildProcess>();

  constructor(
    readonly program: string,
    readonly psk: string,
  ) {}

  /** Starts a service with so many tallies. */
  async start(tallies: number): Promise<Service> {
    const child = spawn(process.execPath, [this.program, '--service', String(tallies)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#children.add(child);
    const gone = once(child, 'exit') as Promise<[number | null]>;
    void gone.then(() => this.#children.delete(child));
    // A service that has just ended reads nothing; its exit says so.
    child.stdin.on('error', () => undefined);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async (): Promise<unknown> => {
      const line = await lines.next();
      if (line.done === true) throw new Error('a service ended before it answered');
      return JSON.parse(line.value);
    };
    child.stdin.write(`${this.psk}\n`);
    return {
      card: (await answer()) as Card,
      meet: async ({ addr, publicKey }) => {
        child.stdin.write(`${JSON.stringify({ addr, publicKey } satisfies Contact)}\n`);
        await answer();
      },
      terminate: async () => {
        child.kill('SIGTERM');
        return (await gone)[0];
      },
    };
  }

  /** Closes the inputs of those that still run, which ends them. */
  async stop(): Promise<void> {
    await Promise.all(
      [...this.#children].map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, 'exit');
        child.stdin?.end();
        const impatient = setTimeout(() => child.kill('SIGKILL'), 5000);
        await gone;
        clearTimeout(impatient);
      }),
    );
  }
}
